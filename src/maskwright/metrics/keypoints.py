"""How well landmarks are found: COCO's AP by object keypoint similarity (OKS), and PCK and the error in pixels.

Letters: N objects, M detections, P landmarks of a class, T OKS thresholds (10: 0.50 to 0.95), R recall levels (101).
-1 stands where there is nothing to measure.

OKS of an object and a detection is the mean over the annotated landmarks of exp(-d² / (2 s² (2 sigma)²)): d the
distance in pixels, s² the object's area, sigma how far annotators of this landmark differ. The matching is hotcoco's;
the tests hold it to pycocotools within 1e-9. PCK is the share of all annotated landmarks that lie within a share of the
longer side of the object's box; it and the error take one decision for each object: detections from a score on count.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from maskwright.data.dataset import Annotation, Dataset
from maskwright.data.formats.coco import ResultRow
from maskwright.data.stats import room
from maskwright.errors import ConfigError, DataError
from maskwright.metrics.keypoints_result import SHARES, KeypointResult, LandmarkScore, OksScores
from maskwright.metrics.metric import GroundTruth, MetricOptions
from maskwright.ops import boxes as box_ops
from maskwright.types import Instances, Landmarks
from maskwright.wording import counted

Array = NDArray[np.float64]

SIGMA = 0.05
"""Of landmarks for which no other is given or known."""

LIMIT = 20
"""Detections of an image and class that count at most by COCO's rule for landmarks."""

MATCHED = 0.5
"""IoU of the boxes from which a detection is taken for an object's, for PCK and the error."""

_PERSON = {
    "nose": 0.026,
    "eye": 0.025,
    "ear": 0.035,
    "shoulder": 0.079,
    "elbow": 0.072,
    "wrist": 0.062,
    "hip": 0.107,
    "knee": 0.087,
    "ankle": 0.089,
}
"""COCO's, measured on annotations of people that were made twice (https://cocodataset.org/#keypoints-eval)."""


def sigmas_of(landmarks: Landmarks, given: float | Mapping[str, float] | None) -> tuple[tuple[float, ...], str]:
    """The sigma of each landmark, and in words where they come from.

    given: one for all, or by name (those not named have `SIGMA`). None: COCO's where the landmarks are those of COCO's
    people, else `SIGMA`.
    """
    if isinstance(given, Mapping):
        return tuple(float(given.get(name, SIGMA)) for name in landmarks.names), "given"
    if given is not None:
        return (float(given),) * len(landmarks), "given"
    parts = [name.lower().replace("_", " ").split()[-1:] for name in landmarks.names]
    if len(landmarks) == 17 and all(part and part[0] in _PERSON for part in parts):
        return tuple(_PERSON[part[0]] for part in parts), "COCO's of people"
    return (SIGMA,) * len(landmarks), f"{SIGMA:g} for each landmark, as none were given"


@dataclass
class _Errors:
    """Of the objects of a class: distances (N, P) in pixels, NaN not annotated, inf not found; sides (N,) of boxes."""

    distances: list[Array]
    sides: list[float]


class KeypointMetric:
    """Collects detections image by image and measures their landmarks against a data set.

    metric = KeypointMetric(dataset, MetricOptions(score=0.5))
    metric.update(found, GroundTruth(dataset, 0))
    print(metric.result().table())
    """

    def __init__(self, dataset: Dataset, options: MetricOptions | None = None) -> None:
        """Raises DataError where no class has landmarks, ConfigError for sigmas of unknown landmarks."""
        self.dataset, self.options = dataset, options or MetricOptions()
        self._marks = {k: marks for k, marks in enumerate(dataset.classes.landmarks) if marks is not None}
        if not self._marks:
            raise DataError(f"{dataset.source}: no class has landmarks, and the keypoints metric measures them.")
        self._check_sigmas()
        self._rank = {image_id: rank for rank, image_id in enumerate(sorted(r.id for r in dataset.images), start=1)}
        self._rows: dict[int, list[dict[str, Any]]] = {k: [] for k in self._marks}
        self._errors = {k: _Errors([], []) for k in self._marks}
        self._measured: list[int] = []

    def _check_sigmas(self) -> None:
        given = self.options.sigmas
        values = list(given.values()) if isinstance(given, Mapping) else [] if given is None else [given]
        if any(not 0 < v <= 1 for v in values):
            raise ConfigError(f"Sigmas lie above 0 and up to 1, got {given}.", options=("sigmas",))
        names = {name for marks in self._marks.values() for name in marks.names}
        if isinstance(given, Mapping) and (unknown := sorted(set(given) - names)):
            raise ConfigError(
                f"{self.dataset.source} has no landmark '{unknown[0]}'; it has {', '.join(sorted(names))}.",
                options=("sigmas",),
            )

    def update(self, found: Instances, truth: GroundTruth) -> None:
        """Add an image. Raises DataError for detections without landmarks."""
        if found.keypoints is None and len(found):
            raise DataError(
                f"The result for {truth.record.file_name} has no landmarks, which the keypoints metric measures. Use a "
                "model with landmarks."
            )
        points = np.zeros((0, 0, 3)) if found.keypoints is None else found.keypoints.astype(np.float64)
        self._add(truth, found.boxes.astype(np.float64), points, found.scores.astype(np.float64), found.labels)

    def update_rows(self, truth: GroundTruth, rows: Sequence[ResultRow]) -> None:
        """Add the rows of a result file for one image with all their digits; those without landmarks do not count."""
        rows = [row for row in rows if row.keypoints is not None]
        most = max((len(row.keypoints or ()) for row in rows), default=0)
        points, boxes = np.zeros((len(rows), most, 3)), np.zeros((len(rows), 4))
        for i, row in enumerate(rows):
            points[i, : len(row.keypoints or ())] = row.keypoints
            x, y, w, h = row.box_xywh or (0.0, 0.0, 0.0, 0.0)
            boxes[i] = x, y, x + w, y + h
        labels = np.array([row.label for row in rows], np.int64)
        self._add(truth, boxes, points, np.array([row.score for row in rows]), labels)

    def _add(self, truth: GroundTruth, boxes: Array, points: Array, scores: Array, labels: NDArray[np.int64]) -> None:
        rank = self._rank[truth.record.id]
        self._measured.append(truth.record.id)
        for label, marks in self._marks.items():
            own = np.flatnonzero(labels == label)
            for i in own.tolist():  # with the box: its area sorts false positives into the ranges of sizes
                (x1, y1, x2, y2), flat = boxes[i].tolist(), points[i, : len(marks)].reshape(-1).tolist()
                row = {"image_id": rank, "category_id": 1, "score": float(scores[i]), "keypoints": flat}
                self._rows[label].append(row | {"bbox": [x1, y1, x2 - x1, y2 - y1]})
            objects = [a for a in truth.annotations if a.label == label and not a.crowd and a.has_landmarks]
            own = own[scores[own] >= self.options.score]
            self._compare(self._errors[label], objects, boxes[own], points[own, : len(marks), :2])

    @staticmethod
    def _compare(errors: _Errors, objects: Sequence[Annotation], boxes: Array, points: Array) -> None:
        """Note the errors of these objects; boxes (M, 4), points (M, P, 2) of the detections of their class."""
        true = np.array([a.box for a in objects], np.float64).reshape(-1, 4)
        iou = box_ops.iou(torch.from_numpy(true), torch.from_numpy(boxes)).numpy()
        pairs = {int(i): int(j) for i, j in zip(*linear_sum_assignment(iou, maximize=True), strict=True)}
        for i, a in enumerate(objects):
            assert a.keypoints is not None
            distance = np.full(len(a.keypoints), np.inf)
            if i in pairs and iou[i, pairs[i]] >= MATCHED:
                distance = np.hypot(*(points[pairs[i]] - a.keypoints[:, :2]).T)
            errors.distances.append(np.where(a.keypoints[:, 2] > 0, distance, np.nan))
            errors.sides.append(max(true[i, 2] - true[i, 0], true[i, 3] - true[i, 1]))

    def result(self) -> KeypointResult:
        """Measure the images given so far."""
        scores, landmarks, notes, sources = [], [], list[str](), dict[str, list[str]]()
        for label, marks in self._marks.items():
            sigmas, where = sigmas_of(marks, self.options.sigmas)
            name = self.dataset.classes[label]
            sources.setdefault(where, []).append(name)
            scores.append(self._oks(label, sigmas))
            landmarks += self._pck(name, marks, self._errors[label])
        notes += [f"OKS of {', '.join(names[:10])}: sigmas are {where}." for where, names in sources.items()]
        without = sum(len(a.keypoints) != len(self._marks[a.label]) for a in self._objects() if a.keypoints is not None)
        if without:
            notes.append(f"{counted(without, 'object')} with another number of landmarks than its class.")
        if limit := max((row.limit for row in scores if row.limit > LIMIT), default=0):
            notes.append(f"An image has more than COCO's {LIMIT} objects of a class: up to {limit} detections count.")
        if not any(row.objects for row in scores):
            notes.append("No object has annotated landmarks, so there is nothing to measure (-1).")
        return KeypointResult(tuple(scores), tuple(landmarks), self.options.score, tuple(notes))

    def _objects(self) -> list[Annotation]:
        """The annotations of the measured images, crowds included, of classes with landmarks."""
        return [a for i in self._measured for a in self.dataset.annotations[i] if a.label in self._marks]

    def _oks(self, label: int, sigmas: Sequence[float]) -> OksScores:
        """COCO's ten numbers of one class."""
        import hotcoco

        own = [a for a in self._objects() if a.label == label]
        counts = np.bincount([self._rank[a.image_id] for a in own if not a.crowd] or [0])
        limit = room(int(counts.max())) if counts.max() > LIMIT else LIMIT
        sizes = {record.id: record.size for record in self.dataset.images}
        known = hotcoco.COCO()
        known.dataset = {
            "images": [{"id": self._rank[i], "height": sizes[i][0], "width": sizes[i][1]} for i in self._measured],
            "annotations": [self._truth(n, a, len(sigmas)) for n, a in enumerate(own, start=1)],
            "categories": [{"id": 1, "name": "1", "keypoints": [str(k) for k in range(len(sigmas))]}],
        }
        run = hotcoco.COCOeval(known, known.load_res(self._rows[label]), "keypoints")
        run.params.kpt_oks_sigmas = list(sigmas)
        run.params.max_dets = [limit]
        run.evaluate()
        run.accumulate()
        curves: Any = run.eval
        precision, recall = (np.asarray(curves[k], np.float64) for k in ("precision", "recall"))
        precision, recall = precision[:, :, 0, :, 0], recall[:, 0, :, 0]  # areas: all, medium, large
        objects = sum(a.has_landmarks and not a.crowd for a in own)
        return OksScores(self.dataset.classes[label], objects, len(self._rows[label]), limit, precision, recall)

    def _truth(self, number: int, a: Annotation, count: int) -> dict[str, Any]:
        """An annotation as the COCO API has it."""
        points = np.zeros((count, 3))
        if a.keypoints is not None:
            points[: len(a.keypoints)] = a.keypoints[:count]
        x1, y1, x2, y2 = a.box
        row: dict[str, Any] = {"id": number, "image_id": self._rank[a.image_id], "category_id": 1, "area": a.area}
        row |= {"bbox": [x1, y1, x2 - x1, y2 - y1], "iscrowd": int(a.crowd), "keypoints": points.reshape(-1).tolist()}
        return row | {"num_keypoints": int((points[:, 2] > 0).sum())}

    @staticmethod
    def _pck(name: str, marks: Landmarks, errors: _Errors) -> list[LandmarkScore]:
        """A row for each landmark of a class."""
        distances = np.array(errors.distances, np.float64).reshape(-1, len(marks))
        sides = np.array(errors.sides, np.float64)[:, None]
        rows = []
        for k, point in enumerate(marks.names):
            known = ~np.isnan(distances[:, k])
            own, side = distances[known, k], sides[known, 0]
            near = own[np.isfinite(own)]
            pck = tuple(float((own <= share * side).mean()) if len(own) else -1.0 for share in SHARES)
            rows.append(LandmarkScore(name, point, len(own), len(near), pck, tuple(near.tolist())))
        return rows
