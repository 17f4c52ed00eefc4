"""What a format cannot hold: refused before anything is written, or left out and counted in a sentence."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskwright.data.dataset import Annotation, Dataset
from maskwright.errors import DataError, shortened
from maskwright.types import IntArray


@dataclass(frozen=True)
class Kept:
    """The fields without a place of their own that a format holds.

    images, objects: their names; None: all. classes, file: whether those of classes, and the file's sections, are held.
    """

    images: Collection[str] | None = ()
    objects: Collection[str] | None = ()
    classes: bool = False
    file: bool = False


_EMPTY: tuple[object, ...] = (None, "", [], {})
NOTHING = Kept()
_MOST_NAMED = 5  # examples that a sentence names


def check_names(dataset: Dataset, place: Path, forbidden: str = "", reserved: Sequence[str] = ()) -> None:
    """Raises DataError for class names that a format with one name a line cannot hold.

    Names must differ and have no line end and no space around them, no character of `forbidden`, and none may be one
    of `reserved`.
    """
    names = dataset.classes.names
    twice = sorted(n for n, count in Counter(names).items() if count > 1)
    if twice:
        raise DataError(
            f"{place}: {dataset.source} has several classes called '{twice[0]}', and this format knows classes by "
            f"name. Rename them, or write COCO, which keeps them apart by their ids."
        )
    for n in names:
        if not n or n != n.strip() or len(n.splitlines()) != 1 or set(n) & set(forbidden) or n in reserved:
            raise DataError(f"{place}: this format cannot hold the class name {n!r}. Rename the class.")


def lost_fields(
    dataset: Dataset,
    crowds: str = "left out",
    boxes: str = "left out",
    *,
    landmarks: bool = True,
    frames: bool = True,
) -> tuple[str, ...]:
    """The sentences about crowds, boxes without outline, landmarks, track ids and frames, with their images.

    crowds, boxes: what becomes of them, empty where they are kept. landmarks, frames: whether they are lost.
    """
    tests: list[tuple[object, str, Callable[[Annotation], bool]]] = [
        (crowds, f"crowd region{{s}} {crowds}", lambda a: a.crowd),
        (boxes, f"object{{s}} with a box only {boxes}", lambda a: a.segmentation is None and not a.crowd),
        (landmarks, "object{s} without the landmarks they had", lambda a: a.has_landmarks),
        (True, "object{s} without the track id they had", lambda a: a.track_id is not None),
    ]
    notes: tuple[str, ...] = ()
    for lost, what, test in tests:
        names = [r.file_name for r in dataset.images for a in dataset.annotations[r.id] if lost and test(a)]
        notes += sentence(len(names), what, names)
    return notes + (lost_frames(dataset) if frames else ())


def lost_frames(dataset: Dataset) -> tuple[str, ...]:
    """The sentence about frames of clips, for formats that have no field for them."""
    frames = sum(r.frame is not None for r in dataset.images)
    return sentence(frames, "image{s} without the clip and the place in it that they had")


def lost_extra(dataset: Dataset, kept: Kept) -> tuple[str, ...]:
    """The sentences about fields that are not held, with their names: a licence, a date, attributes of objects."""
    rows: list[tuple[str, Iterable[Mapping[str, Any]], Collection[str] | None]] = [
        ("image{s}", (record.extra for record in dataset.images), kept.images),
        ("object{s}", (a.extra for own in dataset.annotations.values() for a in own), kept.objects),
        ("class{es}", dataset.class_extra, None if kept.classes else ()),
    ]
    notes: tuple[str, ...] = ()
    for what, extras, names in rows:
        if names is not None:
            found = [[k for k, v in extra.items() if v not in _EMPTY and k not in names] for extra in extras]
            fields = [k for own in found for k in own]
            notes += sentence(sum(map(bool, found)), f"{what} without fields that this format does not have", fields)
    sections = [] if kept.file else [name for name, content in dataset.extra.items() if content not in _EMPTY]
    return notes + sentence(len(sections), "section{s} of the file left out", sections)


HIDDEN = "object{s} without the pixels that another object lies over"
GONE = "object{s} hidden wholly by others, or without a pixel, left out"
"""What becomes of objects where a pixel has one object: the smaller one lies on top."""


Lost = dict[str, list[str]]
"""What a layout cannot hold: the images' names, once for each object, by the sentence that counts them."""


def add_covered(lost: Lost, name: str, seen: IntArray, areas: IntArray) -> None:
    """Count the objects of an image of which a layout with one object a pixel shows a part only, or nothing.

    seen, areas: (N,) the pixels that each has there, and its own.
    """
    for what, those in ((HIDDEN, (seen > 0) & (seen < areas)), (GONE, seen == 0)):
        lost.setdefault(what, []).extend([name] * int(those.sum()))


def sentences(lost: Mapping[str, int | Sequence[str]]) -> tuple[str, ...]:
    """A sentence for each kind of loss that occurred, from a count or from examples of all; see `sentence`."""
    rows = ((what, (found, ()) if isinstance(found, int) else (len(found), found)) for what, found in lost.items())
    return tuple(text for what, (count, examples) in rows for text in sentence(count, what, examples))


def sentence(count: int, what: str, examples: Sequence[str] = ()) -> tuple[str, ...]:
    """`("3 crowd regions ... (a.png, b.png).",)`, or nothing where the count is 0. what: with {s}, {es} for plurals."""
    if count == 0:
        return ()
    shown = list(dict.fromkeys(examples))
    more = ", ..." if len(shown) > _MOST_NAMED else ""
    where = f" ({', '.join(shown[:_MOST_NAMED])}{more})" if shown else ""
    s, es = ("", "") if count == 1 else ("s", "es")
    words = what.replace("{s}", s).replace("{es}", es)  # not `format`: names of a file may hold braces
    return (shortened(f"{count} {words}{where}."),)
