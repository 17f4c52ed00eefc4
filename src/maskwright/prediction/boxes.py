"""Boxes of an annotation file or a result file, for the images of a run."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from maskwright.data import formats
from maskwright.data.agreement import require_size
from maskwright.data.dataset import Dataset
from maskwright.data.formats import coco
from maskwright.errors import DataError
from maskwright.prediction.ids import image_ids
from maskwright.predictor.given import GivenBoxes
from maskwright.types import Classes, Size
from maskwright.wording import counted

ImagePlace = Path | str


@dataclass(frozen=True, eq=False)
class RunBoxes:
    """The boxes of each image of a run. sizes: (H, W) of the images as the file states them. notes: what a reader of
    the results should know, one sentence each."""

    source: str
    boxes: Mapping[ImagePlace, GivenBoxes]
    sizes: Mapping[ImagePlace, Size]
    notes: tuple[str, ...]

    def of(self, source: ImagePlace, size: Size) -> GivenBoxes:
        """Those of one image. DataError where the file states another size, or a box lies outside."""
        require_size(Path(source), self.sizes[source], size, self.source)
        return self.boxes[source].within(size)


def run_boxes(
    path: str | os.PathLike[str], images: Sequence[ImagePlace], classes: Classes, known: Dataset | None = None
) -> RunBoxes:
    """The boxes that a file has for the images; a box has its own class where `classes` has one of that name.

    path: annotations of any format, or COCO results; these need `known`, the annotations whose image ids they have.
    Crowd regions are left out, which a note counts. Raises DataError for a file that cannot be read or lacks an image.
    """
    results = _is_results(path)
    if results and known is None:
        raise DataError(
            f"{path} is a list of COCO results, which numbers its images: the annotation file with these numbers is "
            "needed too.",
            options=("ids",),
        )
    dataset = known if results and known is not None else formats.load(path)
    labels = dataset.classes.match(classes)
    rows = coco.read_results(path, dataset) if results else None
    by_id, crowds, named = {record.id: record for record in dataset.images}, 0, 0
    boxes, sizes = {}, {}
    for source, image_id in zip(images, image_ids(images, dataset, "boxes"), strict=True):
        if rows is None:
            every = dataset.annotations[image_id]
            own = [(a.label, a.box) for a in every if not a.crowd]
            crowds += len(every) - len(own)
        else:
            own = [(row.label, _corners(row, path, source)) for row in rows[image_id]]
        names = labels[np.array([label for label, _ in own], np.int64)]
        named += int((names >= 0).sum())
        try:
            boxes[source] = GivenBoxes.of([box for _, box in own], names)
        except DataError as error:
            raise DataError(f"{path}: {source}: {error}") from error
        sizes[source] = by_id[image_id].size
    count = sum(len(own.boxes) for own in boxes.values())
    notes = [f"{counted(crowds, 'crowd region')} of {path} were left out: a box of theirs has no single object."]
    unnamed = count - named
    chosen = f"The model chose the class of {counted(unnamed, 'box', 'es')}: it has no class of the name in {path}."
    return RunBoxes(os.fspath(path), boxes, sizes, (*(notes if crowds else ()), *([chosen] if unnamed else ())))


def _is_results(path: str | os.PathLike[str]) -> bool:
    """Whether the file is a JSON list."""
    if not os.path.isfile(path) or Path(path).suffix.lower() != ".json":
        return False
    with open(path, "rb") as file:
        return file.read(4096).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[")


def _corners(
    row: coco.ResultRow, path: str | os.PathLike[str], source: ImagePlace
) -> tuple[float, float, float, float]:
    if row.box_xywh is None:
        raise DataError(f"{path}: {source}: a result has no bbox.")
    x, y, width, height = row.box_xywh
    return x, y, x + width, y + height
