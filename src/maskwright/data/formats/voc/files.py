"""The files of a VOC folder: images, lists, and the names of the classes."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from maskwright.data.formats.shared.fields import read_names
from maskwright.data.formats.shared.losses import sentence

CHALLENGE = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
"""The classes of the challenge, in the order of their indices."""

_FLAG = re.compile(r"\s+(-1|0|1)$")  # whether an image has the class, in the lists of one class


@dataclass(frozen=True)
class VocClasses:
    """The classes, and how their pixels look. colours: packed RGB to class index, or None for VOC's own."""

    names: tuple[str, ...]
    source: Path | None
    colours: Mapping[int, int] | None = None


def image_folder(base: Path) -> Path:
    """Where the images lie: JPEGImages, images, or the folder itself."""
    return next((base / name for name in ("JPEGImages", "images") if (base / name).is_dir()), base)


def stems(folder: Path, suffixes: Sequence[str]) -> dict[str, str]:
    """Names without suffix, relative to the folder with /, to the files' names; sorted."""
    files = (p for p in folder.rglob("*") if p.suffix.lower() in suffixes and not p.name.startswith("."))
    names = sorted(p.relative_to(folder).as_posix() for p in files)
    return {name.rpartition(".")[0]: name for name in names}


def list_of(path: Path) -> list[str]:
    """The names in a list, each once."""
    flagged = path.parent.name == "Main"
    return list(dict.fromkeys(_FLAG.sub("", name) if flagged else name for name in read_names(path)))


def splits_of(base: Path, kind: str) -> tuple[dict[str, str], set[str]]:
    """Name to list of ImageSets/kind, and the names in several lists.

    trainval, the union of two others, and lists of one class are no parts.
    """
    out: dict[str, str] = {}
    twice: set[str] = set()
    for path in sorted((base / "ImageSets" / kind).glob("*.txt")):
        rows = read_names(path)
        of_class = kind == "Main" and any(map(_FLAG.search, rows))
        names = dict.fromkeys(() if of_class or path.stem == "trainval" else rows)
        twice |= out.keys() & names
        out.update({name: path.stem for name in names if name not in out})
    return out, twice


def several(names: Sequence[str], kind: str) -> tuple[str, ...]:
    """The note about images in several lists."""
    return sentence(
        len(names), f"image{{s}} named by several lists of ImageSets/{kind}; each belongs to the first of them", names
    )
