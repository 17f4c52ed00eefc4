"""data.yaml of a YOLO data set (classes, folders, landmarks), and its predecessors classes.txt and obj.data."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskwright.data.formats.shared.fields import Record, read_names, short, whole
from maskwright.data.formats.shared.image_files import require_folder
from maskwright.data.formats.shared.yaml_tree import read_yaml
from maskwright.errors import DataError
from maskwright.types import Landmarks

MOST_LANDMARKS = 10_000
"""Of an object: a file of a few letters must not ask for more memory than there is."""

_PARTS = ("train", "val", "test")
STAND_IN = "stand_in"
"""Our own field: the parts without images of their own, which name those of another part (train and val must exist)."""
_FILES = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml", "obj.data")


@dataclass(frozen=True)
class Description:
    """What the file says. base: the folder its entries are relative to. parts: folders, images or lists by part.

    landmarks: by label, or None where the data set has none; visibility: whether each has a third number.
    """

    source: Path
    base: Path
    names: tuple[str, ...]
    parts: Mapping[str, tuple[Path, ...]]
    landmarks: tuple[Landmarks, ...] | None = None
    visibility: bool = False
    notes: tuple[str, ...] = ()

    def entries(self) -> list[Path]:
        """All folders and lists."""
        return [entry for entries in self.parts.values() for entry in entries]


def find_description(place: Path) -> Path | None:
    """The data.yaml, obj.data or classes.txt of a place; None where it is no YOLO data set."""
    if place.is_file():
        return place if place.suffix.lower() in (".yaml", ".yml", ".data") and _has_names(place) else None
    for name in _FILES:
        if (place / name).is_file() and _has_names(place / name):
            return place / name
    try:
        others = [p for p in sorted(place.iterdir()) if p.suffix.lower() in (".yaml", ".yml") and _has_names(p)]
    except OSError:
        return None
    if len(others) == 1:
        return others[0]
    labelled = (place / "images").is_dir() and (place / "labels").is_dir()
    return place / "classes.txt" if labelled and (place / "classes.txt").is_file() else None


def _has_names(path: Path) -> bool:
    try:
        return any(line.startswith(b"names") for line in path.read_bytes()[:1_000_000].splitlines())
    except OSError:
        return False


def describe(source: Path, images: Path | None) -> Description:
    """Read the file. images: the folder its entries are relative to, instead of the one it names."""
    require_folder(images, source)
    if source.suffix.lower() == ".txt":
        names = tuple(read_names(source))
        base = images or source.parent
        if not names:
            raise DataError(f"{source}: names no class; it needs one name on each line.")
        return Description(source, base, names, {"": (base / "images" if images is None else base,)})
    at = Record(source, "top level")
    table = _parse_darknet(source) if source.suffix.lower() == ".data" else _parse(source)
    names = _names(at, table)
    base, notes = (images, ()) if images is not None else _base(source, table)
    parts, more = _parts(at, table, base)
    landmarks, visibility = _landmarks(at, table, names)
    return Description(source, base, names, parts, landmarks, visibility, (*notes, *more))


def _parts(at: Record, table: Mapping[str, Any], base: Path) -> tuple[dict[str, tuple[Path, ...]], tuple[str, ...]]:
    """The existing folders, images or lists by part, and notes on the others."""
    parts: dict[str, tuple[Path, ...]] = {}
    notes: tuple[str, ...] = ()
    for part in _PARTS:
        found = tuple(_resolve(base, entry) for entry in _words(at, part, table.get(part)))
        lost = [path for path in found if not path.exists()]
        twin = next((name for name, entries in parts.items() if entries == found), None)
        if lost and part == "test":
            notes += (f"The test images are not there ({lost[0]}) and were left out.",)
        elif lost:
            raise at.fault(
                f"'{part}' names {lost[0]}, which does not exist. Correct '{part}' or 'path', or give the folder they "
                f"are relative to."
            )
        elif twin is not None:
            here, other = (part, twin) if found[0].name == part else (twin, part)  # images/val is val
            del parts[twin]
            parts[here] = found
            if other not in (table.get(STAND_IN) or ()):
                notes += (f"'{other}' names the same images as '{here}' and was left out.",)
        elif found:
            parts[part] = found
    if not parts:
        raise at.fault("it names no images. Add 'train' and 'val', the folders of the images.")
    return parts, notes


def _parse(source: Path) -> dict[str, Any]:
    table = read_yaml(source)
    if not isinstance(table, dict):
        raise DataError(f"{source}: expected 'names', 'train' and 'val', got {short(table)}.")
    return table


def _parse_darknet(source: Path) -> dict[str, Any]:
    """The same table from Darknet's `key = value` lines: lists of images, and a file of names (CVAT's YOLO 1.1)."""
    rows = [row.partition("=") for row in read_names(source) if not row.startswith("#")]
    table: dict[str, Any] = {key.strip(): value.strip() for key, _, value in rows}
    file = _resolve(source.parent, table.get("names") or "")
    if not file.is_file():
        raise DataError(f"{source}: 'names' must be the file of the class names, got {short(table.get('names'))}.")
    own = {"train": table.get("train"), "val": table.get("valid"), "test": table.get("test")}
    return {**own, "names": read_names(file), "nc": table.get("classes")}


def _names(at: Record, table: Mapping[str, Any]) -> tuple[str, ...]:
    given = table.get("names")
    if isinstance(given, dict):
        if sorted(given) != sorted(map(str, range(len(given)))):
            raise at.fault(f"'names' must number the classes 0 to {len(given) - 1}, got {short(list(given))}.")
        given = [given[str(k)] for k in range(len(given))]
    if not isinstance(given, list) or not given or not all(isinstance(n, str) and n for n in given):
        raise at.fault(f"'names' must be the class names, a list or numbered from 0, got {short(given)}.")
    stated = table.get("nc")
    if stated is not None and stated != str(len(given)):
        key = "classes" if at.source.suffix.lower() == ".data" else "nc"
        raise at.fault(f"'{key}' says {short(stated)} classes, but 'names' has {len(given)}. Correct one of them.")
    return tuple(given)


def _base(source: Path, table: Mapping[str, Any]) -> tuple[Path, tuple[str, ...]]:
    stated = table.get("path")
    if not stated:
        return source.parent, ()
    base = Path(os.path.expanduser(str(stated)))
    for word in (base, Path(str(base).replace("\\", "/"))):
        for folder in (source.parent / word, word):  # an absolute path stays what it is
            if folder.is_dir():
                return folder, ()
    note = f"'path' names {base}, which does not exist; the folder of {source.name} is used instead."
    return source.parent, (note,)


def _resolve(base: Path, entry: str) -> Path:
    r"""Where an entry lies, written with / or with the \ of Windows.

    "../train/images" beside data.yaml, as Roboflow writes it, means "train/images", and Darknet's "data/train.txt"
    "train.txt".
    """
    places = [base / word for word in spellings(entry)]
    return next((path for path in places if path.exists()), places[0])


def spellings(entry: str) -> tuple[str, ...]:
    """A path as it is written, and as other systems and the folders of other tools would have it."""
    plain = entry.replace("\\", "/")
    return tuple(dict.fromkeys((entry, plain, plain.removeprefix("../"), plain.removeprefix("data/"))))


def _words(at: Record, part: str, entries: Any) -> Sequence[str]:
    if entries is None or entries in ("", "null", "~"):
        return ()
    words = [entries] if isinstance(entries, str) else entries
    if not isinstance(words, list) or not all(isinstance(w, str) and w for w in words):
        raise at.fault(f"'{part}' must be a folder, a list file, or a list of them, got {short(entries)}.")
    return words


def _landmarks(at: Record, table: Mapping[str, Any], names: Sequence[str]) -> tuple[tuple[Landmarks, ...] | None, bool]:
    shape = table.get("kpt_shape")
    if shape is None:
        return None, False
    count = whole(shape[0]) if isinstance(shape, list) and len(shape) == 2 else None
    if count is None or not 0 <= count <= MOST_LANDMARKS or shape[1] not in ("2", "3"):
        wanted = f"[number of landmarks, 0 to {MOST_LANDMARKS}; 2 or 3]"
        raise at.fault(f"'kpt_shape' must be {wanted}, got {short(shape)}.")
    flip, called = table.get("flip_idx"), table.get("kpt_names")
    mirrored = None
    if flip:
        if not isinstance(flip, list) or sorted(map(str, flip)) != sorted(map(str, range(count))):
            raise at.fault(f"'flip_idx' must name each of the landmarks 0 to {count - 1} once, got {short(flip)}.")
        mirrored = tuple(map(int, flip))
    numbered = Landmarks(tuple(map(str, range(count))), mirrored=mirrored or tuple(range(count)))
    marks = []
    for label in range(len(names)):
        own = called.get(str(label)) if isinstance(called, dict) else called
        if own is not None and (not isinstance(own, list) or len(own) != count):
            raise at.fault(f"'kpt_names' must have {count} names for each class, got {short(own)}.")
        marks.append(Landmarks(tuple(map(str, own)), mirrored=mirrored) if own else numbered)
    return tuple(marks), shape[1] == "3"
