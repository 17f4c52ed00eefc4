"""The worst and the best images of an evaluation, with right, false and missed objects in colour, and their counts.

Letters: N annotated objects, M detections, Q classes. A match needs equal classes and an IoU of 0.5.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from maskwright import draw, media
from maskwright.data.dataset import Dataset
from maskwright.metrics.disjoint import disjoint, half_inside
from maskwright.metrics.metric import GroundTruth
from maskwright.metrics.nuclei import KEEP
from maskwright.ops import boxes as box_ops
from maskwright.report.page import Example
from maskwright.types import BoolArray, ImageArray, Instances, IntArray

Array = NDArray[np.float64]

RIGHT, FALSE, MISSED = 9, 13, 2
"""Indices of `draw.colour_of`: blue, red, yellow."""

COLORS = tuple(
    ("#{:02x}{:02x}{:02x}".format(*draw.colour_of(index)), meaning)
    for index, meaning in ((RIGHT, "right"), (FALSE, "false"), (MISSED, "missed"))
)
"""What the colours of the overlays mean."""

ENCODINGS = ((420_000, 85), (250_000, 78), (120_000, 70), (50_000, 60), (15_000, 50))
"""(pixels, JPEG quality) of one side of an example; the first with which all of them fit is taken."""

LONGEST = 2000
"""No side of an example is longer, in pixels."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is right in one image. found (M,), truth (N,): has a match. ignored: (M,) lies in a crowd region.

    quality: panoptic quality, the summed IoU of the matches / (TP + FP / 2 + FN / 2); 1 without annotations and
    detections.
    """

    found: BoolArray
    truth: BoolArray
    ignored: BoolArray
    quality: float

    @property
    def right(self) -> int:
        """True positives."""
        return int(self.truth.sum())

    @property
    def false(self) -> int:
        """False positives."""
        return int((~self.found & ~self.ignored).sum())

    @property
    def missed(self) -> int:
        """False negatives."""
        return int((~self.truth).sum())


def judge(found: Instances, truth: Instances, crowd: Instances) -> Verdict:
    """Match objects: by masks made disjoint where both sides have them, else by boxes."""
    right, seen, ignored = (np.zeros(len(rows), np.bool_) for rows in (found, truth, found))
    by_mask = all(rows.crops is not None for rows in (found, truth, crowd) if len(rows))
    pairs = _mask_pairs(found, truth) if by_mask else _box_pairs(found, truth)
    right[[f for _, f, _ in pairs]] = True
    seen[[t for t, _, _ in pairs]] = True
    if by_mask and found.crops is not None and crowd.crops is not None:
        for k in np.flatnonzero(~right).tolist() if len(crowd) else ():
            ignored[k] = half_inside(found.crops[k], crowd.crops[np.flatnonzero(crowd.labels == found.labels[k])])
    elif len(crowd):
        boxes = _boxes(found)
        inside = box_ops.intersection(boxes, _boxes(crowd)) / box_ops.area(boxes).clamp(min=1e-12)[:, None]
        near = (inside.numpy() >= 0.5) & (found.labels[:, None] == crowd.labels)
        ignored = ~right & near.any(axis=1)
    wrong = int((~right & ~ignored).sum() + (~seen).sum())
    total = len(pairs) + wrong / 2
    return Verdict(right, seen, ignored, sum(iou for *_, iou in pairs) / total if total else 1.0)


def _mask_pairs(found: Instances, truth: Instances) -> list[tuple[int, int, float]]:
    if found.crops is None or truth.crops is None:
        return []
    shares = disjoint(found.crops, found.scores, truth.crops, KEEP)
    pairs = shares.pairs(truth.labels, found.labels[shares.rows])
    return list(zip(pairs.truth.tolist(), shares.rows[pairs.found].tolist(), pairs.iou.tolist(), strict=True))


def _box_pairs(found: Instances, truth: Instances) -> list[tuple[int, int, float]]:
    """Best score first, each detection takes the unmatched box of its class with the highest IoU."""
    overlap = box_ops.iou(_boxes(truth), _boxes(found)).numpy()
    table = overlap * (truth.labels[:, None] == found.labels)  # (N, M)
    pairs = []
    for f in np.argsort(-found.scores, kind="stable").tolist() if len(truth) else ():
        t = int(table[:, f].argmax())
        if table[t, f] >= 0.5:
            pairs.append((t, f, float(table[t, f])))
            table[t] = 0
    return pairs


def _boxes(rows: Instances) -> Tensor:
    return torch.from_numpy(rows.boxes.astype(np.float64))


@dataclass(frozen=True, slots=True)
class _Judged:
    position: int
    found: Instances
    verdict: Verdict


class Gallery:
    """Judges each image of an evaluation, and keeps a few.

    score_threshold: detections below it are not shown and do not count. worst, best: images kept at most; with fewer
    images than that in all, the better half is shown among the best.
    counts: (Q, 3) right, false and missed objects of each class so far.
    """

    def __init__(self, dataset: Dataset, score_threshold: float, *, worst: int = 6, best: int = 4) -> None:
        self.dataset, self.score_threshold = dataset, score_threshold
        self.counts = np.zeros((len(dataset.classes), 3), np.int64)
        self._kept = {"worst": worst, "best": best}
        self._seen = 0
        self._worst: list[_Judged] = []
        self._best: list[_Judged] = []

    def add(self, i: int, found: Instances) -> None:
        """Judge what was found in image `i`."""
        shown = found[found.scores >= self.score_threshold]
        truth = GroundTruth(self.dataset, i)
        verdict = judge(shown, truth.objects, truth.crowd)
        for column, labels in enumerate(
            (
                truth.objects.labels[verdict.truth],
                shown.labels[~verdict.found & ~verdict.ignored],
                truth.objects.labels[~verdict.truth],
            )
        ):
            self.counts[:, column] += np.bincount(labels, minlength=len(self.counts))
        judged, (worst, best) = _Judged(i, shown, verdict), self._kept.values()
        self._seen += 1
        self._worst = sorted([*self._worst, judged], key=_badness)[:worst]
        self._best = sorted([*self._best, judged], key=_goodness)[: worst + best]

    def examples(self, most_bytes: int = 2_400_000) -> tuple[list[Example], list[Example]]:
        """The worst and the best images, none twice, JPEGs of at most `most_bytes` together. Reads them again."""
        few = min(self._kept["best"], self._seen // 2)
        worst = self._worst[: self._seen - few]
        shown = {judged.position for judged in worst}
        best = [judged for judged in self._best if judged.position not in shown][:few]
        chosen = [*worst, *best]
        drawn = [self._drawn(judged) for judged in chosen]
        for pixels, quality in ENCODINGS:
            jpegs = [[_jpeg(side, pixels, quality) for side in sides] for sides in drawn]
            if sum(len(jpeg) for sides in jpegs for jpeg in sides) <= most_bytes:
                break
        examples = [
            Example(self.dataset.images[judged.position].file_name, _caption(judged.verdict), *sides)
            for judged, sides in zip(chosen, jpegs if chosen else [], strict=True)
        ]
        return examples[: len(worst)], examples[len(worst) :]

    def _drawn(self, judged: _Judged) -> tuple[Image.Image, Image.Image]:
        image, truth = self.dataset.image(judged.position), GroundTruth(self.dataset, judged.position).objects
        found = judged.found[~judged.verdict.ignored]
        right = judged.verdict.found[~judged.verdict.ignored]
        return (
            _overlay(image, found, np.where(right, RIGHT, FALSE), scores=True),
            _overlay(image, truth, np.where(judged.verdict.truth, RIGHT, MISSED), scores=False),
        )


def _badness(judged: _Judged) -> tuple[float, int, int]:
    return judged.verdict.quality, -judged.verdict.false - judged.verdict.missed, judged.position


def _goodness(judged: _Judged) -> tuple[float, int, int]:
    return -judged.verdict.quality, -judged.verdict.right, judged.position


def _caption(verdict: Verdict) -> str:
    return f"{verdict.right} right, {verdict.false} false, {verdict.missed} missed, quality {verdict.quality:.2f}"


def _overlay(image: ImageArray, rows: Instances, colors: IntArray, *, scores: bool) -> Image.Image:
    """The objects in these colours; where the data set has several classes, what is not right has its class on it."""
    named = (colors != RIGHT) & (len(rows.classes) > 1)
    drawn = draw.overlay(
        image, rows, texts=named.tolist(), scores=scores, opacity=0.3, colour=colors.tolist(), legend=False
    )
    return Image.fromarray(drawn)


def _jpeg(image: Image.Image, pixels: int, quality: int) -> bytes:
    """The image as JPEG, made smaller where it has more than `pixels` or a very long side."""
    width, height = image.size
    scale = min(1.0, math.sqrt(pixels / (width * height)), LONGEST / max(width, height))
    if scale < 1:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        image = image.resize(size, Image.Resampling.LANCZOS)
    return media.encoded(image, "JPEG", quality=quality, optimize=True)
