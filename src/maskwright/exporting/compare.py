"""How the detections of an exported file differ from those of the network that it was made of.

Both see the same images. Each detection of the one is paired with the nearest of the same class of the other. A
detection without counterpart counts as missing or extra, unless its score is so near to the lowest score that is
compared, or to that of the last row, that either side may have it.

Letters: N detections of the network, M of the file.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

from maskwright import media
from maskwright.data.synthetic import Look, compose
from maskwright.ops import boxes as box_ops
from maskwright.ops.masks import intersections
from maskwright.predictor.options import FindOptions, intensity_of
from maskwright.predictor.predictor import Predictor
from maskwright.results.prediction import Prediction
from maskwright.types import FloatArray, ImageArray, IntArray, Limits, Masks

SCORE = 0.05
"""The lowest score of detections that are compared; that of the model where it is higher."""

PIXELS = 2
"""Pixels of a mask that may differ without lowering its IoU: one is a fiftieth of a small mask."""

LIKE = 0.5
"""The lowest IoU of the boxes of a pair."""


@dataclass(frozen=True)
class Limit:
    """How much may differ. apart: missing and extra detections, as a share of all (one is always allowed: of two boxes
    whose overlap is at the threshold of suppression either may stay). box: pixels of the input. score. mask: lowest
    IoU. landmark, semantic: the share of landmarks and of pixels that are elsewhere, or another class."""

    apart: float = 0.005
    box: float = 0.05
    score: float = 1e-3
    mask: float = 0.99
    landmark: float = 0.01
    semantic: float = 1e-3


@dataclass(frozen=True)
class Difference:
    """What differs. images: how many were compared. detections: of the network. missing, extra: without counterpart.
    box, score: the largest differences of pairs, in pixels of the input. mask, mask_mean: lowest and mean IoU.
    landmark: share that moved by more than `Limit.box`. semantic: share of pixels of another class. None: it has no
    such."""

    images: int
    detections: int
    missing: int
    extra: int
    box: float
    score: float
    mask: float | None = None
    mask_mean: float | None = None
    landmark: float | None = None
    semantic: float | None = None

    def beyond(self, limit: Limit) -> list[str]:
        """What is above the limits, in words; empty where nothing is."""
        apart, out = self.missing + self.extra, []
        if apart > 1 + limit.apart * self.detections:
            out.append(f"{self.missing} of {self.detections} detections are missing and {self.extra} are extra")
        if self.box > limit.box:
            out.append(f"a box differs by {self.box:.3g} pixels of the input (limit {limit.box:g})")
        if self.score > limit.score:
            out.append(f"a score differs by {self.score:.2g} (limit {limit.score:g})")
        if self.mask is not None and self.mask < limit.mask:
            out.append(f"the IoU of a mask with its counterpart is {self.mask:.4f} (at least {limit.mask:g})")
        if self.landmark is not None and self.landmark > limit.landmark:
            out.append(f"{self.landmark:.1%} of the landmarks are elsewhere (limit {limit.landmark:.1%})")
        if self.semantic is not None and self.semantic > limit.semantic:
            out.append(f"{self.semantic:.2%} of the pixels are of another class (limit {limit.semantic:.2%})")
        return out

    def facts(self) -> dict[str, Any]:
        """Plain values."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def __str__(self) -> str:
        parts = [f"boxes within {self.box:.2g} px of the input, scores within {self.score:.2g}"]
        if self.mask is not None:
            parts.append(f"mask IoU {self.mask_mean:.4f} on average, at least {self.mask:.4f}")
        if self.landmark is not None:
            parts.append(f"{self.landmark:.1%} of landmarks elsewhere")
        if self.semantic is not None:
            parts.append(f"{self.semantic:.3%} of pixels of another class")
        counts = f"{self.detections} detections on {self.images} images: {self.missing} missing, {self.extra} extra"
        return f"{counts}; {', '.join(parts)}"


def own_images() -> list[ImageArray]:
    """Images to compare on where a user has none: scenes of several shapes, many objects, and one of noise alone."""
    plain = Look(stuff=2)
    many = [compose(1, (300, 420), 60, 5, plain).image, compose(2, (520, 390), 12).image]
    nothing = np.random.default_rng(0).normal(90, 2, (200, 280, 3)).clip(0, 255).astype(np.uint8)
    return [*many, compose(3, (160, 240), 1, 1, plain).image, nothing]


def compare(network: Predictor, file: Predictor, images: Sequence[Any]) -> Difference:
    """What differs on images, which `Predictor.predict` would take; each is computed as a whole."""
    lowest = max(SCORE, network.lowest_score)
    limits = file.detector.limits
    pairs = []
    for image in images:
        ours, theirs = (_found(predictor, image, lowest, limits) for predictor in (network, file))
        pairs.append(_of_image(ours, theirs, lowest))
    masks = [value for row in pairs for value in row.masks]
    points, maps = (
        [v for row in pairs for v in row.landmarks],
        [row.semantic for row in pairs if row.semantic is not None],
    )
    return Difference(
        images=len(images),
        detections=sum(row.detections for row in pairs),
        missing=sum(row.missing for row in pairs),
        extra=sum(row.extra for row in pairs),
        box=max((row.box for row in pairs), default=0.0),
        score=max((row.score for row in pairs), default=0.0),
        mask=min(masks, default=1.0) if network.draws_masks else None,
        mask_mean=float(np.mean(masks)) if masks else (1.0 if network.draws_masks else None),
        landmark=float(np.mean(points)) if points else None,
        semantic=float(np.mean(maps)) if maps else None,
    )


@dataclass(frozen=True)
class _Row:
    """One image, see `Difference`. masks: IoU of each pair. landmarks: of each, 1 where it is elsewhere."""

    detections: int
    missing: int
    extra: int
    box: float
    score: float
    masks: list[float]
    landmarks: list[float]
    semantic: float | None


def _found(predictor: Predictor, image: Any, lowest: float, limits: Limits) -> tuple[Prediction, float]:
    """Its detections in one pass, boxes not cut to whole pixels, and the factor from the image to the input."""
    plan = predictor.plan(FindOptions(score_threshold=lowest, tiles="off"))
    output = replace(plan.output, whole_boxes=False, max_instances=limits.keep)
    plan = replace(plan, limits=limits, output=output)
    pixels = media.as_image(image, intensity=intensity_of(predictor))
    prepared, geometry = predictor.prepare(pixels)
    raw = predictor.run(predictor.batch([prepared]), plan)
    factor = float(max(abs(geometry.matrix[0, 0]), abs(geometry.matrix[1, 1])))
    return predictor.finish(raw, 0, geometry, plan), factor


def _of_image(one: tuple[Prediction, float], other: tuple[Prediction, float], lowest: float) -> _Row:
    (a, factor), (b, _) = one, other
    first, second = _pairs(a, b)
    near = 2 * Limit().score
    missing = int((_sure(a, lowest, near) & ~np.isin(np.arange(len(a)), first)).sum())
    extra = int((_sure(b, lowest, near) & ~np.isin(np.arange(len(b)), second)).sum())
    moved = np.abs(a.boxes[first] - b.boxes[second]).max(initial=0.0) * factor
    score = np.abs(a.scores[first] - b.scores[second]).max(initial=0.0)
    masks = [] if a.crops is None or b.crops is None else _mask_ious(a.crops[first], b.crops[second])
    points: list[float] = []
    if a.keypoints is not None and b.keypoints is not None:
        apart = np.abs(a.keypoints[first] - b.keypoints[second])[..., :2].max(axis=2, initial=0.0) * factor
        points = (apart > Limit().box).astype(float).ravel().tolist()
    maps = None if a.semantic is None or b.semantic is None else float((a.semantic != b.semantic).mean())
    return _Row(len(a), missing, extra, float(moved), float(score), masks, points, maps)


def _sure(found: Prediction, lowest: float, near: float) -> np.ndarray[Any, Any]:
    """(N,) bool: which scores are not near to the cut."""
    scores = found.scores if found.box_scores is None else found.box_scores
    cut = max(lowest, float(scores.min())) if found.limits else lowest
    return np.asarray(scores > cut + near)


def _pairs(a: Prediction, b: Prediction) -> tuple[IntArray, IntArray]:
    """Rows of both that belong together, the most alike first, each row once."""
    overlap: FloatArray = box_ops.iou(torch.from_numpy(a.boxes), torch.from_numpy(b.boxes)).numpy()
    overlap = np.where(a.labels[:, None] == b.labels, overlap - np.abs(a.scores[:, None] - b.scores) * 0.1, -1.0)
    first, second = list[int](), list[int]()
    for place in np.argsort(-overlap, axis=None, kind="stable"):
        i, j = divmod(int(place), max(1, len(b)))
        if overlap[i, j] < LIKE:
            break
        if i not in first and j not in second:
            first.append(i)
            second.append(j)
    return np.array(first, np.int64), np.array(second, np.int64)


def _mask_ious(a: Masks, b: Masks) -> list[float]:
    """Of each pair; `PIXELS` are forgiven."""
    common = [int(intersections(a[[i]], b[[i]])[0, 0]) for i in range(len(a))]
    union = a.areas() + b.areas() - np.array(common, np.int64)
    return [min(1.0, (c + PIXELS) / max(1, int(u))) if u else 1.0 for c, u in zip(common, union, strict=True)]
