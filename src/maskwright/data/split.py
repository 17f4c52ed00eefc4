"""Which images belong on one side of a split: frames of a clip, images that are alike, and the rest by their names."""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from maskwright.data.dataset import ImageRecord

_CLIP_FIELDS = ("video_id", "clip_id", "sequence_id")
"""Fields of image records that name a clip."""

_NUMBERED = re.compile(r"(.*?)[^0-9a-z]*[0-9]+", re.IGNORECASE)
_OF_A_CLIP = re.compile(r"(?<![a-z])(frame|frm|video|vid|clip|seq|sequence|movie|mvi|film)s?(?![a-z])", re.IGNORECASE)


def clip_of(record: "ImageRecord") -> str | None:
    """A name of the clip that an image is a frame of; None for a still.

    The record says it, or a numbered file name: `street_frame_0012.png`, `clip3_12.png`, `video 3/00012.jpg`. Other
    numbered names may be those of stills.
    """
    if record.frame is not None:
        return f"clip {record.frame.clip.id}"
    for name in _CLIP_FIELDS:
        if record.extra.get(name) is not None:
            return f"{name} {record.extra[name]}"
    path = PurePosixPath(record.file_name)
    numbered = _NUMBERED.fullmatch(path.stem)
    if numbered is None or not _OF_A_CLIP.search(numbered[1] or path.parent.name):
        return None
    return f"frames of {path.parent / numbered[1]}"


def _about(sizes: Mapping[str, int], wanted: float) -> list[str]:
    """The first of some groups that hold about `wanted` images together; the smallest one where all hold far more."""
    total, keys = 0, list[str]()
    for key, size in sizes.items():
        if total < wanted and total + size <= 1.5 * wanted:
            total, keys = total + size, [*keys, key]
    return keys or [min(sizes, key=sizes.__getitem__)]


def _place(file_name: str, salt: str) -> float:
    """A number in [0, 1) that depends on the two strings alone."""
    digest = hashlib.sha256(f"{salt}{file_name}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def together(keys: Sequence[str], alike: Iterable[Sequence[int]] = ()) -> dict[str, list[int]]:
    """The positions of images by group: those with one key, and those that share a group of positions in `alike`.

    keys: of each image. A group has the first of its keys, in the order of the alphabet.
    """
    first = {key: key for key in keys}  # the key of each key's group

    def root(key: str) -> str:
        while first[key] != key:
            first[key] = key = first[first[key]]  # halves the way for the next time
        return key

    for group in alike:
        roots = sorted({root(keys[i]) for i in group})
        first.update(dict.fromkeys(roots, roots[0]))
    out: dict[str, list[int]] = {}
    for i, key in enumerate(keys):
        out.setdefault(root(key), []).append(i)
    return out


def held_out(groups: Mapping[str, Sequence[int]], fraction: float, salt: str) -> set[int]:
    """The positions of about `fraction` of the images, whole groups, chosen by a hash of their keys; see `split`."""
    count = sum(len(group) for group in groups.values())
    places = {key: _place(key, salt) for key in groups}
    by_place = sorted(groups, key=places.__getitem__)
    keys = [key for key in by_place if places[key] < fraction]
    if len(groups) >= 2 and 0 < fraction < 1:
        keys = keys or by_place[:1]
        keys = keys if len(keys) < len(groups) else by_place[:-1]
        share = sum(len(groups[key]) for key in keys) / count
        if len(groups) < count and not fraction / 2 <= share <= 2 * fraction:
            keys = _about({key: len(groups[key]) for key in by_place}, fraction * count)
    return {i for key in keys for i in groups[key]}
