"""The files that hold what is found in all images of a run: tables, COCO results, annotations for CVAT.

Letters: N instances, P landmarks.
"""

import csv
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from maskwright.data.dataset import Annotation, Dataset, ImageRecord
from maskwright.data.formats import cvat
from maskwright.ops import masks as mask_ops
from maskwright.results.labelme import named_points
from maskwright.results.prediction import Prediction, areas, decimal, text_file
from maskwright.types import Classes
from maskwright.wording import cell, one_line

if TYPE_CHECKING:
    from maskwright.results.outputs import LoadedImage

    Writer = Callable[[Prediction, LoadedImage, Path], None]


COLUMNS = ("image", "instance", "class", "score", "area", "x0", "y0", "x1", "y1")
MEASURES = ("perimeter", "centroid_x", "centroid_y")


@contextmanager
def csv_table(path: Path) -> "Iterator[Writer]":
    """One row for each instance, in pixels; `instance` counts from 0 in each image, as in its other files.

    Without masks the area is the box's, and perimeter and centroid are empty. Landmarks are in another table. Texts
    that a spreadsheet would take for formulas have an apostrophe in front, see `cell`. If the run is interrupted, the
    rows of the images done so far stay in `path`.part.
    """
    with text_file(path, keep_part=True) as file:
        rows = csv.writer(file)
        rows.writerow((*COLUMNS, *MEASURES))

        def save(prediction: Prediction, image: "LoadedImage", path: Path) -> None:
            rows.writerows(_measurements(prediction, image.item.shown))
            file.flush()

        yield save


def _measurements(prediction: Prediction, shown: str) -> Iterator[tuple[Any, ...]]:
    masks = prediction.crops
    measured = None if masks is None else mask_ops.measure(masks)
    for i, area in enumerate(areas(prediction)):
        name = prediction.classes[int(prediction.labels[i])]
        box = [decimal(v) for v in prediction.boxes[i]]
        rest = ["" if measured is None else number(measured[key][i]) for key in MEASURES]
        yield (cell(shown), i, cell(name), decimal(prediction.scores[i]), number(area), *box, *rest)


def number(value: float) -> float | int | str:
    """Whole numbers without a point, others with three decimals, NaN (of an empty mask) as an empty text."""
    value = float(value)
    if not np.isfinite(value):
        return ""
    return int(value) if value.is_integer() else round(value, 3)


@contextmanager
def coco_results(path: Path) -> "Iterator[Writer]":
    """A JSON array of COCO results, each with the image's `image_id` and `file_name`.

    If the run is interrupted, the rows of the images done so far stay, one per line, in `path`.part.
    """
    with text_file(path, keep_part=True) as file:
        file.write("[")
        first = True

        def save(prediction: Prediction, image: "LoadedImage", path: Path) -> None:
            nonlocal first
            for row in prediction.to_coco(image.item.image_id):
                row["file_name"] = image.item.shown
                file.write(("\n" if first else ",\n") + json.dumps(row, ensure_ascii=False))
                first = False
            file.flush()

        yield save
        file.write("\n]\n")


LANDMARK_COLUMNS = ("image", "instance", "class", "landmark", "x", "y", "score")


@contextmanager
def landmark_table(path: Path) -> "Iterator[Writer]":
    """One row for each landmark that was found, in pixels; `instance` is that of the other files.

    If the run is interrupted, the rows of the images done so far stay in `path`.part.
    """
    with text_file(path, keep_part=True) as file:
        rows = csv.writer(file)
        rows.writerow(LANDMARK_COLUMNS)

        def save(prediction: Prediction, image: "LoadedImage", path: Path) -> None:
            for i in range(len(prediction)):
                first = (cell(image.item.shown), i, cell(prediction.classes[int(prediction.labels[i])]))
                rows.writerows(
                    (*first, cell(name), *map(decimal, point)) for name, point in named_points(prediction, i)
                )
            file.flush()

        yield save


@contextmanager
def cvat_annotations(path: Path) -> "Iterator[Writer]":
    """CVAT XML 1.1 "for images": masks, or boxes where there are none, and skeletons; written at the end of the run.

    An image has the name of its file, which CVAT looks for, or, where another has it, its path. Instances without a
    pixel are left out. If the run is interrupted, `annotations.part.xml` has the images done so far.
    """
    images: list[ImageRecord] = []
    rows: dict[int, tuple[Annotation, ...]] = {}
    known: list[Classes] = []
    part = path.with_suffix(f".part{path.suffix}")

    def save(prediction: Prediction, image: "LoadedImage", _: Path) -> None:
        number = len(images) + 1
        name = os.path.basename(image.item.shown)
        taken = any(record.file_name == name for record in images)
        images.append(ImageRecord(number, image.item.shown if taken else name, prediction.size))
        rows[number] = annotations(prediction, number, sum(map(len, rows.values())) + 1)
        if not known:
            own = prediction.classes
            known.append(Classes([one_line(text) for text in own.names], own.ids, landmarks=own.landmarks))
            write(part)  # what the format cannot hold is an error at once

    def write(place: Path) -> None:
        place.unlink(missing_ok=True)
        cvat.save(place, Dataset(known[0], tuple(images), rows, None, place), copy=False)

    try:
        yield save
    except BaseException:
        if known:
            write(part)
        raise
    if known:
        write(path)
        part.unlink()


def annotations(found: Prediction, image_id: int, first: int) -> tuple[Annotation, ...]:
    """The instances as annotations with ids from `first` on; an attribute has the score."""
    rles = [None] * len(found) if found.crops is None else mask_ops.encode(found.crops)
    out = []
    for i, (rle, area) in enumerate(zip(rles, areas(found), strict=True)):
        x0, y0, x1, y1 = found.boxes[i].astype(np.float64).tolist()
        marks = None if found.keypoints is None else found.keypoints[i].astype(np.float64)
        label = int(found.labels[i])
        own = found.classes.landmarks[label]
        if marks is not None:
            marks = None if own is None else np.column_stack([marks[:, :2], 2.0 * (marks[:, 2] > 0)])[: len(own)]
        score = {"attributes": {"score": f"{found.scores[i]:.3f}"}}
        row = Annotation(first + i, image_id, label, (x0, y0, x1, y1), rle, float(area), keypoints=marks, extra=score)
        out.append(row)
    return tuple(out)
