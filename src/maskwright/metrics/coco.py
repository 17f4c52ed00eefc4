"""COCO's average precision and recall of boxes and masks, equal to the COCO API's numbers.

Letters: T IoU thresholds (10: 0.50 to 0.95), R recall levels (101), Q classes. -1 stands where there is nothing to
measure, as in the COCO API.

The matching itself is hotcoco's; the tests hold it to pycocotools within 1e-9. One deliberate difference: an
annotation whose id is 0 counts like any other (pycocotools takes its match for no match).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from maskwright.data.dataset import Annotation, Dataset, ImageRecord
from maskwright.data.formats.coco import ResultRow
from maskwright.errors import DataError
from maskwright.metrics.coco_result import AREAS, LIMIT, Array, ClassScore, CocoResult, CocoScores
from maskwright.metrics.metric import GroundTruth, MetricOptions
from maskwright.ops import masks as mask_ops
from maskwright.types import Instances, IntArray


@dataclass(frozen=True, slots=True)
class _Found:
    """The detections of one image as they are kept until the end: no pixels. rles: one per row, or None where some
    have no mask. scores: those of the masks."""

    boxes_xywh: Array
    box_scores: Array
    scores: Array
    labels: IntArray
    rles: list[dict[str, Any]] | None


class CocoMetric:
    """Collects detections image by image and measures them against a data set.

    metric = CocoMetric(dataset)
    metric.update(found, GroundTruth(dataset, 0))      # once for each image, also where nothing was found
    print(metric.result().table())
    """

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self._images = {record.id: record for record in dataset.images}
        self._found: dict[int, _Found] = {}

    @classmethod
    def make(cls, dataset: Dataset, options: MetricOptions) -> "CocoMetric":
        """As the table of metrics makes it; AP counts all detections, so that no option concerns it."""
        return cls(dataset)

    def update(self, found: Instances, truth: GroundTruth) -> None:
        """Add the detections of an image. Raises DataError where they cannot belong to it or came before."""
        image = self._expected(truth.record.id)
        if found.size != image.size:
            raise DataError(
                f"CocoMetric: the result for {image.file_name} is of an image {found.size} (H, W), the data set "
                f"says {image.size}. Results are measured in the original image's frame."
            )
        if found.classes.names != self.dataset.classes.names:
            raise DataError(
                f"CocoMetric: the result has the classes {list(found.classes)}, the data set has "
                f"{list(self.dataset.classes)}. Translate the labels first; `evaluation` does."
            )
        if not np.isfinite(found.scores).all() or not np.isfinite(found.boxes).all():
            raise DataError(f"CocoMetric: the result for {image.file_name} has scores or boxes that are not finite.")
        boxes = found.boxes.astype(np.float64)
        boxes[:, 2:] -= boxes[:, :2]
        rles = [] if not len(found) else None if found.crops is None else mask_ops.encode(found.crops)
        own, scores = found.scores if found.box_scores is None else found.box_scores, found.scores
        self._found[image.id] = _Found(boxes, own.astype(float), scores.astype(float), found.labels.copy(), rles)

    def update_rows(self, image_id: int, rows: Sequence[ResultRow]) -> None:
        """Add the rows of a result file for one image with all their digits; a missing box is its mask's."""
        self._expected(image_id)
        rles = [r.rle for r in rows if r.rle is not None]
        boxes = np.zeros((len(rows), 4))
        for box, row in zip(boxes, rows, strict=True):
            if row.box_xywh is not None:
                box[:] = row.box_xywh
            elif row.rle is not None:
                box[:] = mask_ops.decode([row.rle]).boxes()[0]
                box[2:] -= box[:2]
        scores = np.array([r.score for r in rows], np.float64)
        labels = np.array([r.label for r in rows], np.int64)
        self._found[image_id] = _Found(boxes, scores, scores, labels, rles if len(rles) == len(rows) else None)

    def _expected(self, image_id: int) -> ImageRecord:
        image = self._images.get(image_id)
        if image is None:
            raise DataError(f"CocoMetric: no image of the data set has the id {image_id}.")
        if image_id in self._found:
            raise DataError(f"CocoMetric: image {image.file_name} (id {image_id}) was given twice.")
        return image

    def result(self) -> CocoResult:
        """Measure the images given so far; a note says so where that is not all of them."""
        # Numbered by rank, because the COCO API goes through images in the order of their ids, and equal scores
        # keep that order; any integer may be an id that way.
        number = {image_id: rank for rank, image_id in enumerate(sorted(self._found), start=1)}
        why = self._why_no_masks()
        boxes = self._measure("bbox", number)
        masks = None if why else self._measure("segm", number)
        count, every = len(number), len(self._images)
        notes = [f"Measured on {count} of {every} images."] if count < every else []
        return CocoResult(boxes, masks, count, (*notes, *why, *self._notes(boxes, masks)))

    # ---- measuring ------------------------------------------------------------------------------------------------

    def _measure(self, kind: Literal["bbox", "segm"], number: Mapping[int, int]) -> CocoScores:
        import hotcoco

        truth = hotcoco.COCO()
        truth.dataset = self._truth(kind, number)
        rows = self._box_rows(number) if kind == "bbox" else self._mask_rows(number)
        run = hotcoco.COCOeval(truth, truth.load_res(rows), kind)
        run.evaluate()
        run.accumulate()
        run.summary_lines()  # fills run.stats, prints nothing
        curves: Any = run.eval
        precision, recall, scores = (np.asarray(curves[k], np.float64) for k in ("precision", "recall", "scores"))
        precision, recall, scores = precision[:, :, :, 0, -1], recall[:, :, 0, -1], scores[:, :, :, 0, -1]
        per_class = self._per_class(precision, recall)
        return CocoScores(kind, np.array(run.stats, np.float64), per_class, precision, recall, scores)

    def _truth(self, kind: str, number: Mapping[int, int]) -> dict[str, Any]:
        rows: list[dict[str, Any]] = []
        for image_id, rank in number.items():
            for a in self.dataset.annotations[image_id]:
                x1, y1, x2, y2 = a.box
                row: dict[str, Any] = {
                    "id": len(rows) + 1,
                    "image_id": rank,
                    "category_id": a.label + 1,
                    "area": a.area,
                }
                row |= {"bbox": [x1, y1, x2 - x1, y2 - y1], "iscrowd": int(a.crowd)}
                if kind == "segm":
                    rle = a.segmentation if isinstance(a.segmentation, dict) else None
                    row["segmentation"] = rle or [np.asarray(p).tolist() for p in a.segmentation or ()]
                rows.append(row)
        return {
            "images": [_image_row(self._images[i], rank) for i, rank in number.items()],
            "annotations": rows,
            "categories": [{"id": k + 1, "name": n} for k, n in enumerate(self.dataset.classes.names)],
        }

    def _box_rows(self, number: Mapping[int, int]) -> Any:
        """(N, 7): image, x, y, width, height, score, class."""
        rows: list[Array] = []
        for image_id, rank in number.items():
            found = self._found[image_id]
            ranks = np.full(len(found.labels), rank)
            rows.append(np.column_stack([ranks, found.boxes_xywh, found.box_scores, found.labels + 1]))
        table = np.concatenate(rows) if rows else np.zeros((0, 7))
        return table if len(table) else []

    def _mask_rows(self, number: Mapping[int, int]) -> list[dict[str, Any]]:
        """Results without a box, so that their area, which sorts false ones into the ranges, is the mask's."""
        return [
            {"image_id": rank, "category_id": label + 1, "score": score, "segmentation": rle}
            for image_id, rank in number.items()
            for score, label, rle in _lines(self._found[image_id])
        ]

    def _per_class(self, precision: Array, recall: Array) -> tuple[ClassScore, ...]:
        count = len(self.dataset.classes)
        given = [f.labels for f in self._found.values()]
        found = np.bincount(np.concatenate(given), minlength=count) if given else np.zeros(count, int)
        objects = self._objects()
        return tuple(
            ClassScore(
                name=name,
                objects=int(objects[k]),
                found=int(found[k]),
                ap=_mean(precision[:, :, k]),
                ap50=_mean(precision[0, :, k]),
                ap75=_mean(precision[5, :, k]),
                ar=_mean(recall[:, k]),
            )
            for k, name in enumerate(self.dataset.classes.names)
        )

    def _annotated(self) -> Iterator[Annotation]:
        """The annotations of the measured images."""
        return (a for image_id in self._found for a in self.dataset.annotations[image_id])

    def _objects(self) -> IntArray:
        """(Q,) annotated objects on the measured images, crowds not counted."""
        labels = [a.label for a in self._annotated() if not a.crowd]
        return np.bincount(np.array(labels, np.int64), minlength=len(self.dataset.classes))

    # ---- notes ------------------------------------------------------------------------------------------------------

    def _why_no_masks(self) -> list[str]:
        bare = sum(a.segmentation is None for a in self._annotated())
        if bare:
            return [f"Masks were not measured: {bare} annotations have only a box."]
        without = sum(f.rles is None for f in self._found.values())
        if without:
            return [f"Masks were not measured: the results of {without} images have only boxes."]
        return []

    def _notes(self, boxes: CocoScores, masks: CocoScores | None) -> list[str]:
        notes = []
        absent = [row for row in boxes.per_class if not row.objects]
        if len(absent) == len(boxes.per_class):
            notes.append("The images have no annotated objects, so there is nothing to measure (-1).")
        elif absent:
            names = ", ".join(row.name for row in absent[:10]) + (", ..." if len(absent) > 10 else "")
            stray = sum(row.found for row in absent)
            tail = f"; {stray} detections of them do not count" if stray else ""
            notes.append(f"No ground truth of {len(absent)} classes ({names}): left out of the means (-1){tail}.")
        for scores in (boxes, masks):
            if scores is not None and boxes["AP"] >= 0:
                empty = [long for short, long in AREAS.items() if scores[f"AP{short}"] < 0]
                if empty:
                    notes.append(f"{scores.kind}: no {' or '.join(empty)} objects are annotated (-1).")
        crowded = sum(self._most_of_a_class(i) > LIMIT for i in self._found)
        if crowded:
            notes.append(
                f"{crowded} images have more than {LIMIT} objects of one class; COCO's rule counts the best "
                f"{LIMIT} detections per image and class, so AP and AR cannot reach 1 there."
            )
        return notes

    def _most_of_a_class(self, image_id: int) -> int:
        labels = [a.label for a in self.dataset.annotations[image_id] if not a.crowd]
        return int(np.bincount(labels).max()) if labels else 0


def _image_row(image: ImageRecord, rank: int) -> dict[str, Any]:
    return {"id": rank, "height": image.size[0], "width": image.size[1], "file_name": image.file_name}


def _lines(found: _Found) -> list[tuple[float, int, dict[str, Any]]]:
    return list(zip(found.scores.tolist(), found.labels.tolist(), found.rles or [], strict=True))


def _mean(values: Array) -> float:
    """The mean of what was measured, -1 where nothing was."""
    values = values[values > -1]
    return float(values.mean()) if len(values) else -1.0
