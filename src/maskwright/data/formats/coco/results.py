"""COCO result lists: detections by image, with the numbers of the file.

Letters: H W image. In the files boxes are x, y, width, height; in memory xyxy.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from maskwright.data.dataset import RLE, Dataset, ImageRecord
from maskwright.data.formats.coco.rows import drawn, known
from maskwright.data.formats.shared.fields import Box, Record, Row, box_to_xywh, read_json, write_sections
from maskwright.errors import DataError
from maskwright.ops import masks as mask_ops
from maskwright.types import Classes, Instances


@dataclass(frozen=True, slots=True)
class ResultRow:
    """One row of a result file. label: 0..Q-1. box_xywh: as the file has it, or None. rle: compressed, or None."""

    label: int
    score: float
    box_xywh: Box | None
    rle: RLE | None


def save_results(path: str | os.PathLike[str], results: Iterable[tuple[int, Instances]]) -> None:
    """Write (image id, instances) pairs as a COCO result list: bbox, score, category id, and RLE where masks exist.

    Numbers are written in full, so that `load_results` gives the same float32 values back.
    """
    rows = (row for image_id, found in results for row in _result_rows(image_id, found))
    write_sections(Path(path), {"": rows})


def load_results(path: str | os.PathLike[str], dataset: Dataset) -> dict[int, Instances]:
    """Read a COCO result list for `dataset`: instances by image id, every image present, file order kept.

    A row without bbox takes its box from its mask. Raises DataError for unknown images and categories, and where
    only some rows of one image have masks. Instances hold float32; to measure the file, use `read_results`, which
    keeps its digits: an overlap may lie exactly on a threshold.
    """
    found = read_results(path, dataset)
    return {r.id: _to_instances(Path(path), r, found[r.id], dataset.classes) for r in dataset.images}


def read_results(path: str | os.PathLike[str], dataset: Dataset) -> dict[int, tuple[ResultRow, ...]]:
    """The rows of a COCO result list by image id, checked, numbers untouched; every image present, maybe empty."""
    source = Path(path)
    rows = read_json(source)
    if not isinstance(rows, list):
        hint = " This looks like an annotation file: read it with load." if isinstance(rows, dict) else ""
        raise DataError(f"{source}: expected a JSON list of results, got {type(rows).__name__}.{hint}")
    images = {r.id: r for r in dataset.images}
    label_of = {c: k for k, c in enumerate(dataset.classes.ids)}
    by_image: dict[int, list[ResultRow]] = {i: [] for i in images}
    for position, row in enumerate(rows):
        image_id, result = _read_result(Record(source, f"result {position}"), row, images, label_of, dataset)
        by_image[image_id].append(result)
        rows[position] = None
    return {i: tuple(found) for i, found in by_image.items()}


# ---- the rows of a result list --------------------------------------------------------------------------------------


def _read_result(
    at: Record, row: Any, images: Mapping[int, ImageRecord], label_of: Mapping[int, int], dataset: Dataset
) -> tuple[int, ResultRow]:
    row = at.table(row)
    image = images.get(at.whole(row, "image_id"))
    if image is None:
        raise at.fault(
            f"image_id {row['image_id']} is not an image of {dataset.source}. Do the two files belong together?"
        )
    label = label_of.get(at.whole(row, "category_id"))
    if label is None:
        raise at.fault(
            f"category_id {row['category_id']} is not a class of {dataset.source} ({known(dataset.classes)})."
        )
    box = at.box_xywh(row["bbox"]) if row.get("bbox") is not None else None
    outline = at.segmentation(row.get("segmentation"), image.size)
    if outline is not None and not (isinstance(outline, dict) and isinstance(outline["counts"], str)):
        outline = mask_ops.encode(drawn(at, outline, image))[0]
    if box is None and outline is None:
        raise at.fault("has neither 'bbox' nor 'segmentation'. A result needs at least one of them.")
    score = at.number(row, "score")
    if not 0 <= score <= 1:
        raise at.fault(
            f"'score' must lie in 0..1, got {score}. Divide percentages by 100; apply the sigmoid to logits."
        )
    return image.id, ResultRow(label, score, box, outline)


def _to_instances(source: Path, image: ImageRecord, rows: Sequence[ResultRow], classes: Classes) -> Instances:
    lengths = [r.rle for r in rows if r.rle is not None]
    if len(lengths) not in (0, len(rows)):
        raise DataError(
            f"{source}: {len(lengths)} of {len(rows)} results of {image.file_name} (image id {image.id}) have masks. "
            f"Give all of them one, or none."
        )
    try:
        masks = mask_ops.decode(lengths) if lengths else None
    except DataError as error:
        raise DataError(f"{source}: {image.file_name} (image id {image.id}): {error}") from error
    boxes = np.zeros((len(rows), 4)) if masks is None else masks.boxes().astype(np.float64)
    for box, row in zip(boxes, rows, strict=True):
        if row.box_xywh is not None:
            x, y, width, height = row.box_xywh
            box[:] = x, y, x + width, y + height
    return Instances(
        boxes=boxes.astype(np.float32),
        scores=np.array([r.score for r in rows], np.float32),
        labels=np.array([r.label for r in rows], np.int64),
        classes=classes,
        size=image.size,
        crops=masks,
    )


def _result_rows(image_id: int, found: Instances) -> list[Row]:
    lengths = [None] * len(found) if found.crops is None else mask_ops.encode(found.crops)
    rows = []
    for box, score, label, rle in zip(
        found.boxes.astype(np.float64).tolist(), found.scores.tolist(), found.labels.tolist(), lengths, strict=True
    ):
        row: Row = {"image_id": int(image_id), "category_id": found.classes.ids[label], "bbox": box_to_xywh(box)}
        rows.append(row | {"score": score} | ({} if rle is None else {"segmentation": rle}))
    return rows
