"""COCO's average precision and recall of boxes and masks, equal to the COCO API's numbers.

Letters: T IoU thresholds (10: 0.50 to 0.95), R recall levels (101), Q classes. -1 stands where there is nothing to
measure, as in the COCO API.

The matching itself is hotcoco's; the tests hold it to pycocotools within 1e-9. One deliberate difference: an
annotation whose id is 0 counts like any other (pycocotools takes its match for no match).
"""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np

from maskwright.codec import check_number
from maskwright.data.dataset import Annotation, Dataset, ImageRecord
from maskwright.data.formats.coco import ResultRow
from maskwright.data.stats import room
from maskwright.errors import ConfigError, DataError
from maskwright.metrics.coco_result import AREAS, LIMIT, Array, ClassScore, CocoResult, CocoScores
from maskwright.metrics.metric import GroundTruth, check_classes, mean
from maskwright.ops import masks as mask_ops
from maskwright.types import Instances, IntArray
from maskwright.wording import counted


class CocoMetric:
    """Collects detections image by image and measures them against a data set.

    metric = CocoMetric(dataset)
    metric.update(found, GroundTruth(dataset, 0))      # once for each image, also where nothing was found
    print(metric.result().table())
    """

    def __init__(self, dataset: Dataset, max_detections: int | None = None) -> None:
        """max_detections: of an image and class that count; None: COCO's 100, or more where an image needs them."""
        if max_detections is not None:
            check_number("max_detections", int, max_detections)
            if max_detections < 1:
                raise ConfigError(f"max_detections is at least 1, got {max_detections}.", options=("max_detections",))
        self.dataset, self.max_detections = dataset, max_detections
        self._images = {record.id: record for record in dataset.images}
        # The COCO API goes through images in the order of their ids, and equal scores keep that order. The images have
        # their rank as id there, so that any integer may be an id here.
        self._rank = {image_id: rank for rank, image_id in enumerate(sorted(self._images), start=1)}
        self._labels: dict[int, IntArray] = {}  # of the detections, by image id
        self._boxes: list[Array] = []  # (N, 7) for each image: image, x, y, width, height, score, class
        self._masks: list[dict[str, Any]] = []
        self._without_masks = 0

    def update(self, found: Instances, truth: GroundTruth) -> None:
        """Add the detections of an image. Raises DataError where they cannot belong to it or came before."""
        image = self._expected(truth.record.id)
        if found.size != image.size:
            raise DataError(
                f"CocoMetric: the result for {image.file_name} is of an image {found.size} (H, W), the data set "
                f"says {image.size}. Results are measured in the original image's frame."
            )
        check_classes(self, f"the result of {image.file_name}", found.classes, self.dataset.classes)
        if not np.isfinite(found.scores).all() or not np.isfinite(found.boxes).all():
            raise DataError(f"CocoMetric: the result for {image.file_name} has scores or boxes that are not finite.")
        boxes = found.boxes.astype(np.float64)
        boxes[:, 2:] -= boxes[:, :2]
        rles = [] if not len(found) else None if found.crops is None else mask_ops.encode(found.crops)
        own, scores = found.scores if found.box_scores is None else found.box_scores, found.scores
        self._add(image.id, boxes, own.astype(float), scores.astype(float), found.labels.copy(), rles)

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
        self._add(image_id, boxes, scores, scores, labels, rles if len(rles) == len(rows) else None)

    def _add(
        self,
        image_id: int,
        boxes_xywh: Array,
        box_scores: Array,
        scores: Array,
        labels: IntArray,
        rles: list[dict[str, Any]] | None,
    ) -> None:
        """Keep the detections of an image; rles: one per row, or None where some have no mask."""
        rank, self._labels[image_id] = self._rank[image_id], labels
        ranks = np.full(len(labels), rank)
        self._boxes.append(np.column_stack([ranks, boxes_xywh, box_scores, labels + 1]))
        if rles is None:
            self._without_masks += 1
            return
        # Without a box, so that the area, which sorts false positives into the ranges of sizes, is the mask's.
        self._masks += [
            {"image_id": rank, "category_id": label + 1, "score": score, "segmentation": rle}
            for score, label, rle in zip(scores.tolist(), labels.tolist(), rles, strict=True)
        ]

    def _expected(self, image_id: int) -> ImageRecord:
        image = self._images.get(image_id)
        if image is None:
            raise DataError(f"CocoMetric: no image of the data set has the id {image_id}.")
        if image_id in self._labels:
            raise DataError(f"CocoMetric: image {image.file_name} (id {image_id}) was given twice.")
        return image

    def result(self) -> CocoResult:
        """Measure the images given so far; a note says so where that is not all of them."""
        truth, why, limit = self._truth(), self._why_no_masks(), self._limit()
        table = np.concatenate(self._boxes) if self._boxes else np.zeros((0, 7))
        boxes = self._measure("bbox", truth, table if len(table) else [], limit)
        masks = None if why else self._measure("segm", truth, self._masks, limit)
        count, every = len(self._labels), len(self._images)
        notes = [f"Measured on {count} of {every} images."] if count < every else []
        return CocoResult(boxes, masks, count, (*notes, *why, *self._notes(boxes, masks)))

    # ---- measuring ------------------------------------------------------------------------------------------------

    def _limit(self) -> int:
        """Detections of an image and class that count."""
        if self.max_detections is not None:
            return self.max_detections
        most = max(map(self._most_of_a_class, self._labels), default=0)
        return room(most) if most > LIMIT else LIMIT

    def _measure(self, kind: Literal["bbox", "segm"], truth: dict[str, Any], rows: Any, limit: int) -> CocoScores:
        import hotcoco

        known = hotcoco.COCO()
        known.dataset = truth
        run = hotcoco.COCOeval(known, known.load_res(rows), kind)
        limits = sorted({1, 10, LIMIT, limit})
        run.params.max_dets = limits
        run.evaluate()
        run.accumulate()
        curves: Any = run.eval
        precision, recall, scores = (np.asarray(curves[k], np.float64) for k in ("precision", "recall", "scores"))
        own, at_100 = (_stats(precision, recall, [limits.index(n) for n in (1, 10, LIMIT, m)]) for m in (limit, LIMIT))
        at = limits.index(limit)
        precision, recall, scores = precision[:, :, :, 0, at], recall[:, :, 0, at], scores[:, :, :, 0, at]
        per_class = self._per_class(precision, recall)
        return CocoScores(kind, own, per_class, precision, recall, scores, limit, None if limit == LIMIT else at_100)

    def _truth(self) -> dict[str, Any]:
        """The measured images and their annotations as the COCO API has them."""
        rows: list[dict[str, Any]] = []
        for image_id in self._labels:
            for a in self.dataset.annotations[image_id]:
                x1, y1, x2, y2 = a.box
                row: dict[str, Any] = {"id": len(rows) + 1, "image_id": self._rank[image_id], "area": a.area}
                row |= {"category_id": a.label + 1, "bbox": [x1, y1, x2 - x1, y2 - y1], "iscrowd": int(a.crowd)}
                if isinstance(a.segmentation, dict):
                    row["segmentation"] = a.segmentation
                elif a.segmentation is not None:
                    row["segmentation"] = [np.asarray(polygon).tolist() for polygon in a.segmentation]
                rows.append(row)
        images = ((self._rank[i], self._images[i]) for i in self._labels)
        return {
            "images": [
                {"id": rank, "height": image.size[0], "width": image.size[1], "file_name": image.file_name}
                for rank, image in images
            ],
            "annotations": rows,
            "categories": [{"id": k + 1, "name": n} for k, n in enumerate(self.dataset.classes.names)],
        }

    def _per_class(self, precision: Array, recall: Array) -> tuple[ClassScore, ...]:
        count = len(self.dataset.classes)
        found = np.bincount(np.concatenate([np.zeros(0, np.int64), *self._labels.values()]), minlength=count)
        annotated = [a.label for a in self._annotated() if not a.crowd]
        objects = np.bincount(np.array(annotated, np.int64), minlength=count)
        return tuple(
            ClassScore(
                name=name,
                objects=int(objects[k]),
                found=int(found[k]),
                ap=mean(precision[:, :, k]),
                ap50=mean(precision[0, :, k]),
                ap75=mean(precision[5, :, k]),
                ar=mean(recall[:, k]),
            )
            for k, name in enumerate(self.dataset.classes.names)
        )

    def _annotated(self) -> Iterator[Annotation]:
        """The annotations of the measured images."""
        return (a for image_id in self._labels for a in self.dataset.annotations[image_id])

    # ---- notes ------------------------------------------------------------------------------------------------------

    def _why_no_masks(self) -> list[str]:
        bare = sum(a.segmentation is None for a in self._annotated())
        if bare:
            return [f"Masks were not measured: {counted(bare, 'annotation')} with only a box."]
        if self._without_masks:
            return [f"Masks were not measured: the results of {counted(self._without_masks, 'image')} have only boxes."]
        return []

    def _notes(self, boxes: CocoScores, masks: CocoScores | None) -> list[str]:
        notes = []
        absent = [row for row in boxes.per_class if not row.objects]
        if len(absent) == len(boxes.per_class):
            notes.append("The images have no annotated objects, so there is nothing to measure (-1).")
        elif absent:
            names = ", ".join(row.name for row in absent[:10]) + (", ..." if len(absent) > 10 else "")
            stray = sum(row.found for row in absent)
            tail = f"; {counted(stray, 'detection')} of them left out" if stray else ""
            classes = counted(len(absent), "class", "es")
            notes.append(f"No ground truth of {classes} ({names}): left out of the means (-1){tail}.")
        for scores in (boxes, masks):
            if scores is not None and boxes["AP"] >= 0:
                empty = [long for short, long in AREAS.items() if scores[f"AP{short}"] < 0]
                if empty:
                    notes.append(f"{scores.kind}: no {' or '.join(empty)} objects are annotated (-1).")
        limit, counts = boxes.limit, [self._most_of_a_class(i) for i in self._labels]
        most = max(counts, default=0)
        if crowded := sum(count > LIMIT for count in counts):
            what = f"the best {limit} detections of an image and class count (max_detections)"
            own = "" if limit == LIMIT else f", by COCO's rule {LIMIT}, whose AP stands beside it"
            lost = "; AP and AR cannot reach 1 there" if most > limit else ""
            have = f"{counted(crowded, 'image')} with more than {LIMIT} objects of one class, up to {most}"
            notes.append(f"{have}: {what}{own}{lost}.")
        return notes

    def _most_of_a_class(self, image_id: int) -> int:
        labels = [a.label for a in self.dataset.annotations[image_id] if not a.crowd]
        return int(np.bincount(labels).max()) if labels else 0


def _stats(precision: Array, recall: Array, limits: Sequence[int]) -> Array:
    """(12,) in the order of `STATS`, AP and AR of sizes at the last of the limits; AR1, AR10, AR100 at the others.

    precision (T, R, Q, 4, limits), recall (T, Q, 4, limits): by all sizes, small, medium and large objects.
    """
    *few, last = limits
    of_all = precision[:, :, :, 0, last]
    ap = [of_all, of_all[0], of_all[5], *(precision[:, :, :, size, last] for size in (1, 2, 3))]
    ar = [*(recall[:, :, 0, k] for k in few), *(recall[:, :, size, last] for size in (1, 2, 3))]
    return np.array([mean(values) for values in (*ap, *ar)], np.float64)
