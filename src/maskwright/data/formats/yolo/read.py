"""YOLO label files as Ultralytics has them: data.yaml, images, and a text file of normalised outlines for each.

Objects may overlap and keep their pixels; none lies on top. Darknet's obj.data with lists of images is read too.

Letters: H W image, n points of an outline, P landmarks, Q classes. A line is one object: its class (0..Q-1) and then
    x0 y0 x1 y1 ...             an outline, divided by W and H
    cx cy w h                   a box
    cx cy w h, P times x y (v)  a box and landmarks, where data.yaml has kpt_shape
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from maskwright.data.dataset import Dataset, ImageRecord
from maskwright.data.formats.shared.fields import Box, Faults, Record, noted, read_text, short
from maskwright.data.formats.shared.image_files import image_files, relative_names, size_of
from maskwright.data.formats.shared.losses import sentence
from maskwright.data.formats.shared.outlines import FileObject, collect
from maskwright.data.formats.yolo.description import Description, describe, find_description, spellings
from maskwright.errors import DataError
from maskwright.types import Classes, Size

_SLACK = 0.01  # how far normalised coordinates may leave 0..1, as in Ultralytics
_DECIMALS = 3  # of a pixel, to which outlines are rounded: undoes the rounding of the writer's division


def recognise(place: Path) -> bool:
    """A data.yaml (or obj.data) with names, its folder, or a folder of images and label files with classes.txt."""
    return find_description(place) is not None


def load(place: Path, images: Path | None = None, faults: Faults = None) -> Dataset:
    """Read a data set from its data.yaml, the folder of it, or a folder with classes.txt.

    images: what `path` in data.yaml names, the folder that train, val and test are relative to.
    The label file of an image is in the twin folder (the last `images` in its path becomes `labels`), else beside the
    image; without one it has no objects. "split" in `ImageRecord.extra` is the part an image is in.
    Raises DataError, naming file and line, for any fault. faults: gets those of label files and their lines, which are
    then left out; an image that cannot be read has the size 0 x 0.
    """
    source = find_description(place)
    if source is None:
        raise DataError(f"{place}: expected a data.yaml with 'names', its folder, or a folder with classes.txt.")
    about = describe(source, images)
    found, notes = _images(about, faults)
    if not found:
        raise DataError(f"{source}: no image was found in {', '.join(str(e) for e in about.entries())}.")
    labels = [_label_file(path) for path, _ in found]
    if not any(path.is_file() for path in labels):
        raise DataError(
            f"{source}: none of the {len(found)} images has a label file; that of {found[0][0]} would be {labels[0]}."
        )
    reader = _Reader(about, faults)
    names = relative_names([path for path, _ in found], about.base)

    def stated(k: int) -> tuple[ImageRecord, list[FileObject]] | None:
        path, part = found[k]
        size = size_of(path, source, faults)
        record = ImageRecord(k + 1, names[k], size, {"split": part} if part else {})
        with noted(faults):
            return record, reader.read(labels[k], size) if labels[k].is_file() and all(size) else []
        return None  # an image whose labels are not known is no background

    records, rows = collect(filter(None, map(stated, range(len(found)))), faults)
    classes = Classes(about.names, range(len(about.names)), about.landmarks)
    notes = (*about.notes, *notes, *_orphans(labels))
    return Dataset(classes, records, rows, about.base, source, notes)


# ---- the images and their label files -----------------------------------------------------------------------------


def _images(about: Description, faults: Faults) -> tuple[list[tuple[Path, str]], tuple[str, ...]]:
    """(image, part) in the order of the parts, each image once, and notes."""
    found: dict[str, tuple[Path, str]] = {}
    twice = []
    for part, entries in about.parts.items():
        for path in (p for entry in entries for p in _listed(about, entry, faults)):
            own = os.path.abspath(path)
            if own in found and found[own][1] != part:
                twice.append(path.name)
            found.setdefault(own, (path, part))
    return list(found.values()), sentence(
        len(twice), "image{s} named by several parts of the file; each belongs to the first of them", twice
    )


def _listed(about: Description, entry: Path, faults: Faults) -> Iterator[Path]:
    """The images of a folder and those below it, or of a list of files."""
    if entry.is_dir():
        yield from image_files(entry, deep=True)
        return
    if entry.suffix.lower() != ".txt":
        yield entry
        return
    for line, text in enumerate(read_text(entry).splitlines(), start=1):
        name = text.strip()
        if name:
            candidates = (folder / word for word in spellings(name) for folder in (Path(), entry.parent, about.base))
            path = next((p for p in candidates if p.is_file()), None)
            with noted(faults):
                if path is None:
                    raise Record(entry, f"line {line}").fault(
                        f"there is no image '{name}'; looked for it in {entry.parent} and {about.base}. Add the file "
                        f"or remove the line."
                    )
                yield path


def _label_file(image: Path) -> Path:
    parts = list(image.parts)
    beside = image.with_suffix(".txt")
    if "images" not in parts[:-1]:
        return beside
    last = len(parts) - 2 - parts[-2::-1].index("images")
    twin = Path(*parts[:last], "labels", *parts[last + 1 :]).with_suffix(".txt")
    return twin if twin.is_file() or not beside.is_file() else beside


def _orphans(labels: Sequence[Path]) -> tuple[str, ...]:
    known = {os.path.abspath(p) for p in labels}
    folders = sorted({p.parent for p in labels if "labels" in p.parts})
    files = [p for folder in folders for p in sorted(folder.glob("*.txt")) if p.name != "classes.txt"]
    spare = [p.name for p in files if os.path.abspath(p) not in known]
    return sentence(len(spare), "label file{s} without an image not used", spare)


# ---- the lines of a label file --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Reader:
    """Turns label files into objects."""

    about: Description
    faults: Faults

    def read(self, source: Path, size: Size) -> list[FileObject]:
        scale, objects = np.array([size[1], size[0]], np.float64), list[FileObject]()
        for line, text in enumerate(read_text(source).splitlines(), start=1):
            with noted(self.faults):
                if text.strip():
                    objects.append(self._object(Record(source, f"line {line}"), text.split(), scale))
        return objects

    def _object(self, at: Record, words: list[str], scale: NDArray[np.float64]) -> FileObject:
        try:
            values = np.array(words, np.float64)
        except ValueError:
            raise at.fault(f"expected numbers with spaces between them, got {short(' '.join(words))}.") from None
        where = f"{at.source}: {at.name}"
        label = self._label(at, values[0])
        rest = values[1:]
        if not np.isfinite(rest).all():
            raise at.fault(f"coordinates must be finite, got {short(' '.join(words))}.")
        marks = self.about.landmarks
        pose = None if marks is None else 4 + len(marks[label]) * (2 + self.about.visibility)
        if len(rest) in (4, pose):
            points = self._points(at, rest[4:], scale) if len(rest) == pose else None
            return FileObject(where, label, None, self._box(at, rest[:4], scale), keypoints=points)
        if len(rest) < 6 or len(rest) % 2:
            or_pose = "" if pose is None else f", or {pose}"
            raise at.fault(
                f"after the class come 4 numbers (a box){or_pose} or an even number, at least 6 (an outline); got "
                f"{len(rest)}. Is it cut off, or a result file with scores?"
            )
        self._inside(at, rest)
        outline = np.round(rest.reshape(-1, 2) * scale, _DECIMALS)
        return FileObject(where, label, (outline.reshape(-1),))

    def _label(self, at: Record, value: float) -> int:
        if not (0 <= value < len(self.about.names) and float(value).is_integer()):
            raise at.fault(
                f"the class must be a whole number in 0..{len(self.about.names) - 1} (see names), got {value:g}."
            )
        return int(value)

    def _inside(self, at: Record, values: NDArray[np.float64]) -> None:
        if len(values) and (values.min() < -_SLACK or values.max() > 1 + _SLACK):
            raise at.fault(
                f"coordinates are divided by the image's width and height and so lie in 0..1, got "
                f"{values.min():g} to {values.max():g}. Are they pixels?"
            )

    def _box(self, at: Record, values: NDArray[np.float64], scale: NDArray[np.float64]) -> Box:
        self._inside(at, values)
        if values[2:].min() < 0:
            raise at.fault(f"width and height of a box are not negative, got {short(values[2:].tolist())}.")
        centre, half = values[:2] * scale, values[2:] * scale / 2
        low, high = (centre - half).tolist(), (centre + half).tolist()
        return low[0], low[1], high[0], high[1]

    def _points(self, at: Record, values: NDArray[np.float64], scale: NDArray[np.float64]) -> NDArray[np.float64]:
        """(P, 3); a landmark at 0 0 or left of or above the image is not annotated."""
        points = values.reshape(-1, 2 + self.about.visibility)
        away = (points[:, :2] < 0).any(axis=1) | (points[:, :2] == 0).all(axis=1)
        seen = points[:, 2] if self.about.visibility else np.where(away, 0.0, 2.0)
        if not np.isin(seen, (0, 1, 2)).all():
            raise at.fault(f"the visibility of a landmark is 0, 1 or 2, got {short(seen.tolist())}.")
        self._inside(at, points[seen > 0, :2].reshape(-1))
        return np.column_stack([points[:, :2] * scale, seen])
