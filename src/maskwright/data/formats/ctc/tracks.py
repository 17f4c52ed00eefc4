"""The label images of a video and the table of its tracks: what ground truth and results have in common.

A line of the table is "L B E P": the track's label in the images, the first and last frame that show it (from 0), and
the track from which it came by a division, or as which it was seen before a gap; 0: none.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from maskwright import media
from maskwright.data.formats.shared.fields import Faults, Record, noted
from maskwright.data.formats.shared.outlines import label_masks
from maskwright.errors import DataError, ImageError
from maskwright.types import IntArray, Masks


@dataclass(frozen=True, slots=True)
class TrackSpan:
    """A line of the table. begin, end: its first and last frame. parent: a label, 0 for none."""

    begin: int
    end: int
    parent: int


def numbered(folder: Path, stem: str) -> dict[int, Path]:
    """The files stem000.tif, stem001.tif ... by their number. Raises DataError where two have one number."""
    form = re.compile(re.escape(stem) + r"(\d{1,9})\.tiff?", re.IGNORECASE)
    found: dict[int, Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        match = form.fullmatch(path.name)
        if match and path.is_file():
            number = int(match[1])
            if number in found:
                raise DataError(f"{folder}: {found[number].name} and {path.name} are one frame. Remove one of them.")
            found[number] = path
    return dict(sorted(found.items()))


def read_table(path: Path, faults: Faults = None) -> dict[int, TrackSpan]:
    """The tracks by label. Raises DataError, naming the line, for what is no table of tracks.

    faults: gets those of lines, which are then left out, and of parents.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: the table of tracks cannot be read ({error}).") from error
    spans: dict[int, TrackSpan] = {}
    for number, line in enumerate(lines, 1):
        words, at = line.split(), Record(path, f"line {number}")
        with noted(faults):
            if words and (len(words) != 4 or not all(re.fullmatch(r"\d{1,9}", word) for word in words)):
                raise at.fault(f"expected four whole numbers 'label begin end parent', got {line.strip()[:60]!r}.")
            if words:
                _add_line(at, spans, *map(int, words))
    for label, span in spans.items():
        mother = spans.get(span.parent)
        with noted(faults):
            if span.parent and (mother is None or mother.end >= span.begin):
                what = "has no line" if mother is None else f"ends in frame {mother.end}"
                raise Record(path, f"track {label}").fault(
                    f"it begins in frame {span.begin}, but its parent {span.parent} {what}."
                )
    return spans


def _add_line(at: Record, spans: dict[int, TrackSpan], label: int, begin: int, end: int, parent: int) -> None:
    if label < 1:
        raise at.fault("0 is background.")
    if label in spans:
        raise at.fault(f"label {label} occurs twice.")
    if end < begin:
        raise at.fault("it ends before it begins.")
    spans[label] = TrackSpan(begin, end, parent)


def values_of(path: Path) -> NDArray[np.int64]:
    """(H, W) the labels of an image. Raises DataError for what is no label image; volumes are named."""
    try:
        with media.opened(path) as file:
            if file.pages != 1:
                raise DataError(f"{path}: has {file.pages} planes; volumes (3D) are not supported, only images (2D).")
        values = media.read_values(path)
    except ImageError as error:
        raise DataError(str(error)) from error
    if values.min() < 0:
        raise DataError(f"{path}: labels are 0 (background) or positive, found {values.min()}.")
    return values


def frames_of(
    files: Mapping[int, Path], spans: Mapping[int, TrackSpan], table: Path, faults: Faults = None
) -> Iterator[tuple[int, IntArray, Masks]]:
    """Each frame's number, labels and masks.

    Raises DataError where images and table disagree: a label without a line, outside its frames, or missing at their
    ends. faults: gets those of images and of labels, which are then left out.
    """
    shown: dict[int, tuple[int, int]] = {}
    for number, path in files.items():
        with noted(faults):
            labels, masks = label_masks(values_of(path))
            kept = []
            for k, label in enumerate(labels.tolist()):
                with noted(faults):
                    span = spans.get(label)
                    if span is None or not span.begin <= number <= span.end:
                        said = "has no line" if span is None else f"says frames {span.begin} to {span.end}"
                        raise Record(path, f"track {label}").fault(f"it is shown, and {said} in {table}.")
                    kept.append(k)
                shown[label] = shown.get(label, (number, number))[0], number
            yield number, labels[kept], masks[kept]
    for label, span in spans.items():
        with noted(faults):
            if shown.get(label) != (span.begin, span.end):
                first, last = shown.get(label, (0, 0))
                found = f"images show it from {first} to {last}" if label in shown else "no image shows it"
                raise Record(table, f"track {label}").fault(f"it has frames {span.begin} to {span.end}, but {found}.")
