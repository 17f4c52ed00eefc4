"""COCO result lists: detections by image, with the numbers of the file.

Letters: H W image. In the files boxes are x, y, width, height; in memory xyxy.
"""

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np

from maskwright.data.dataset import RLE, Dataset, ImageRecord
from maskwright.data.formats.coco.ids import NAME
from maskwright.data.formats.coco.rows import drawn, known
from maskwright.data.formats.shared.fields import Box, Record, Row, box_from_xywh, read_json, short, whole
from maskwright.errors import DataError
from maskwright.ops import masks as mask_ops
from maskwright.types import Classes, Instances


@dataclass(frozen=True, slots=True)
class ResultRow:
    """One row of a result file. label: 0..Q-1. box_xywh: as the file has it, or None. rle: compressed, or None.

    keypoints: (x, y, score) of each landmark of the class, or None. A row with nothing else has the box around them, as
    the COCO API gives it one.
    """

    label: int
    score: float
    box_xywh: Box | None
    rle: RLE | None
    keypoints: tuple[tuple[float, float, float], ...] | None = None


def read_results(path: str | os.PathLike[str], dataset: Dataset) -> dict[int, tuple[ResultRow, ...]]:
    """The rows of a COCO result list by image id, in the file's order; every image of `dataset` has an entry.

    Numbers keep all their digits: an overlap may lie exactly on a threshold. An image_id may also be the name of the
    image's file, with or without its folders and suffix, where one image alone is called so. Raises DataError, naming
    the row, for an image or category that the data set does not have, a missing or impossible field, a row that repeats
    another, and a `file_name` (which COCO's results need not have) that is not that of the image with this id.
    """
    source = Path(path)
    return results_of(source, read_json(source), dataset)


def results_of(source: Path, rows: Any, dataset: Dataset) -> dict[int, tuple[ResultRow, ...]]:
    """The same for the parsed content of a file, whose rows are taken out of the list one by one."""
    if not isinstance(rows, list):
        hint = " This looks like an annotation file, not results." if isinstance(rows, dict) else ""
        raise DataError(f"{source}: expected a JSON list of results, got {type(rows).__name__}.{hint}")
    images: dict[object, ImageRecord] = {**_by_name(dataset), **{r.id: r for r in dataset.images}}
    images |= {r.extra[NAME]: r for r in dataset.images if isinstance(r.extra.get(NAME), str)}
    labels = ResultLabels(dataset)
    by_image: dict[int, list[ResultRow]] = {r.id: [] for r in dataset.images}
    first: dict[object, int] = {}
    for position, row in enumerate(rows):
        at = Record(source, f"result {position}")
        image_id, result = _read_result(at, row, images, labels, dataset)
        outline = None if result.rle is None else result.rle["counts"]
        what = (result.label, result.score, result.box_xywh, outline, result.keypoints)
        same = first.setdefault((image_id, *what), position)
        if same != position:
            raise at.fault(f"repeats result {same}: same image, class, score and outline. Remove one of them.")
        by_image[image_id].append(result)
        rows[position] = None
    return {i: tuple(found) for i, found in by_image.items()}


def _by_name(dataset: Dataset) -> dict[object, ImageRecord]:
    """The images by the names of their files, which other tools write as ids; without names that two may have, and
    without numbers, which are ids."""
    found: dict[str, list[ImageRecord]] = defaultdict(list)
    for record in dataset.images:
        path = PureWindowsPath(record.file_name)
        for name in {record.file_name, path.name, path.stem, path.with_suffix("").as_posix()}:
            found[name].append(record)
    return {name: records[0] for name, records in found.items() if len(records) == 1 and whole(name) is None}


# ---- the rows of a result list --------------------------------------------------------------------------------------


class ResultLabels:
    """The labels 0..Q-1 of the categories of results: by the id, or by the name."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        names = dataset.classes.names
        self._of: dict[object, int] = {n: k for k, n in enumerate(names) if names.count(n) == 1}
        self._of |= {c: k for k, c in enumerate(dataset.classes.ids)}
        self._of |= {extra[NAME]: k for k, extra in enumerate(dataset.class_extra) if isinstance(extra.get(NAME), str)}

    def read(self, at: Record, row: Row) -> int:
        """The label of a row. Raises DataError for a category that the data set does not have."""
        kind = row.get("category_id")
        named = isinstance(kind, str) and whole(kind) is None
        label = self._of.get(kind if named else at.whole(row, "category_id"))
        if label is None:
            names = known(self._dataset.classes)
            raise at.fault(f"category_id {short(kind)} is not a class of {self._dataset.source} ({names}).")
        return label


def read_score(at: Record, row: Row) -> float:
    """The score of a row. Raises DataError for one that is not in 0..1."""
    score = at.number(row, "score")
    if not 0 <= score <= 1:
        raise at.fault(
            f"'score' must lie in 0..1, got {score}. Divide percentages by 100; apply the sigmoid to logits."
        )
    return score


def read_outline(at: Record, value: Any, image: ImageRecord) -> RLE | None:
    """An outline of any form as compressed run lengths; None where there is none."""
    outline = at.segmentation(value, image.size)
    if outline is None or (isinstance(outline, dict) and isinstance(outline["counts"], str)):
        return outline
    return mask_ops.encode(drawn(at, outline, image))[0]


def _read_result(
    at: Record, row: Any, images: Mapping[object, ImageRecord], labels: ResultLabels, dataset: Dataset
) -> tuple[int, ResultRow]:
    row = at.table(row)
    name = row.get("image_id")
    image = images.get(name if isinstance(name, str) and whole(name) is None else at.whole(row, "image_id"))
    if image is None:
        raise at.fault(f"image_id {short(name)} is not an image of {dataset.source}. Do the two files belong together?")
    _check_name(at, row.get("file_name"), image, dataset)
    label = labels.read(at, row)
    box = at.box_xywh(row["bbox"]) if row.get("bbox") is not None else None
    outline = read_outline(at, row.get("segmentation"), image)
    points = _landmarks(at, row.get("keypoints"), label, dataset)
    if box is None and outline is None:
        if points is None:
            raise at.fault("has no 'bbox', 'segmentation' or 'keypoints'. A result needs at least one of them.")
        low, high = np.min(points, axis=0).tolist(), np.max(points, axis=0).tolist()
        box = (low[0], low[1], high[0] - low[0], high[1] - low[1])
    return image.id, ResultRow(label, read_score(at, row), box, outline, points)


def _landmarks(at: Record, value: Any, label: int, dataset: Dataset) -> tuple[tuple[float, float, float], ...] | None:
    """The landmarks of a row; None where it has none, or its class has none in the data set."""
    marks = dataset.classes.landmarks[label]
    if value is None or marks is None:
        return None
    name = dataset.classes[label]
    numbers = at.numbers(value, 3 * len(marks), f"'keypoints' (x, y, score of the {len(marks)} landmarks of '{name}')")
    return tuple(zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True))


def _check_name(at: Record, name: object, image: ImageRecord, dataset: Dataset) -> None:
    """Raises where the file name shows that the ids, which another program gave, belong to other images."""
    known = PureWindowsPath(image.file_name).name  # splits at / and \\
    if isinstance(name, str) and (own := PureWindowsPath(name).name) != known:
        raise at.fault(
            f"image_id {image.id} is {known} in {dataset.source}, but the result is of {own}: the ids were given in "
            "another order. Write the results again with the ids of the annotation file."
        )


def instances_of(rows: Sequence[ResultRow], image: ImageRecord, classes: Classes) -> Instances:
    """The rows of one image as instances, whose numbers are float32; a row without bbox has the box of its mask.

    Raises DataError where only some rows have masks.
    """
    lengths = [r.rle for r in rows if r.rle is not None]
    if len(lengths) not in (0, len(rows)):
        raise DataError(
            f"{len(lengths)} of {len(rows)} results of {image.file_name} (image id {image.id}) have masks. "
            "Give all of them one, or none."
        )
    try:
        masks = mask_ops.decode(lengths) if lengths else None
    except DataError as error:
        raise DataError(f"The results of {image.file_name} (image id {image.id}): {error}") from error
    marked = [r.keypoints for r in rows if r.keypoints is not None]
    points = np.zeros((len(rows), max(map(len, marked), default=0), 3), np.float32)
    for point, row in zip(points, rows, strict=True):
        point[: len(row.keypoints or ())] = row.keypoints or 0
    boxes = np.zeros((len(rows), 4)) if masks is None else masks.boxes().astype(np.float64)
    for box, row in zip(boxes, rows, strict=True):
        if row.box_xywh is not None:
            box[:] = box_from_xywh(row.box_xywh)
    return Instances(
        boxes=boxes.astype(np.float32),
        scores=np.array([r.score for r in rows], np.float32),
        labels=np.array([r.label for r in rows], np.int64),
        classes=classes,
        size=image.size,
        crops=masks,
        keypoints=points if marked else None,
    )
