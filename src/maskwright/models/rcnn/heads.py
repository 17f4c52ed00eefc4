"""The heads of the R-CNN family. Each reads regions of interest and has `terms` for training and `detect`.

Letters: B batch, P proposals, R RoIs of all images, K rows kept, F foreground RoIs, Q classes, M mask side.
Class rows are the Q foreground classes, then background.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from maskwright.errors import DataError
from maskwright.models.base import Detections
from maskwright.models.rcnn.config import RoIConfig
from maskwright.models.rcnn.layers import MaskHead
from maskwright.models.rcnn.proposer import Proposals, split_crowd
from maskwright.models.rcnn.reader import RoIReader
from maskwright.ops import boxes as box_ops
from maskwright.ops import losses, mask_targets, matching
from maskwright.ops.losses import Term
from maskwright.ops.nms import CANDIDATES, nms_by_class
from maskwright.ops.rows import padded, rows_to_refine, spread
from maskwright.types import BoxMasks, Limits, Masks, Size, Target

BOX_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
"""Of the offsets of boxes from proposals (Fast R-CNN), when they are learnt and when they are decoded."""


LEAST_SCORE = 1e-6
"""Of a detection whose box is given: a score of 0 marks a dead row."""


@dataclass(eq=False)
class Sampled:
    """RoIs of one image for the loss, foreground first.

    boxes (R, 4); labels (R,), Q for background; truth (F, 4) and objects (F,): box and row in the target of each
    foreground RoI.
    """

    boxes: Tensor
    labels: Tensor
    truth: Tensor
    objects: Tensor

    @property
    def foreground(self) -> Tensor:
        """Boxes (F, 4) of the foreground RoIs."""
        return self.boxes[: len(self.truth)]

    @classmethod
    def nothing(cls, device: torch.device) -> "Sampled":
        """No RoI."""
        boxes, rows = torch.zeros(0, 4, device=device), torch.zeros(0, dtype=torch.int64, device=device)
        return cls(boxes, rows, boxes, rows)


def sample(
    proposals: Proposals,
    targets: Sequence[Target],
    draws: Sequence[torch.Generator | None],
    config: RoIConfig,
    num_classes: int,
) -> list[Sampled]:
    """The RoIs of each image that the heads learn from; for an empty batch, one image without RoIs."""
    images = enumerate(zip(targets, draws, strict=True))
    sampled = [_sample(proposals.of(i), target, draw, config, num_classes) for i, (target, draw) in images]
    return sampled or [Sampled.nothing(proposals.boxes.device)]


@torch.no_grad()
def _sample(
    proposals: Tensor, target: Target, generator: torch.Generator | None, config: RoIConfig, num_classes: int
) -> Sampled:
    """Of one image: proposals (P, 4) and ground truth, matched and drawn."""
    truth, crowds = split_crowd(target)
    objects = torch.arange(len(target), device=proposals.device)
    if target.crowd is not None:
        objects = objects[~target.crowd]
    boxes = torch.cat([proposals, truth.to(proposals.dtype)])
    matches, best = matching.match(truth, boxes, low=config.iou, high=config.iou, keep_best=False)
    matches = matching.ignore_crowds(matches, boxes, crowds)
    positive, negative = matching.sample(matches, config.samples, config.foreground, generator)
    chosen = torch.cat([positive, negative])
    labels = torch.full((len(chosen),), num_classes, device=chosen.device)
    labels[: len(positive)] = target.labels[objects[best[positive]]]
    return Sampled(boxes[chosen], labels, truth[best[positive]], objects[best[positive]])


@dataclass(frozen=True, eq=False)
class BoxBranch:
    """Class and box of every RoI (Fast R-CNN). head: pooled features to a vector; predictor: to logits and offsets."""

    reader: RoIReader
    head: nn.Module
    predictor: nn.Module
    config: RoIConfig
    num_classes: int

    def classify(self, features: Sequence[Tensor], boxes: Tensor, batch_index: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes (R, 4) and the image of each to class logits (R, Q+1) and offsets (R, Q, 4)."""
        step = self.reader.rows_at_once(len(boxes))
        parts = [
            self.predictor(self.head(self.reader(features, b, i)))
            for b, i in zip(boxes.split(step), batch_index.split(step), strict=True)
        ]
        return torch.cat([logits for logits, _ in parts]), torch.cat([deltas for _, deltas in parts])

    def terms(self, features: Sequence[Tensor], sampled: Sequence[Sampled]) -> dict[str, Term]:
        """`class`: cross-entropy over all RoIs. `box`: smooth L1 of the true class's row, over all RoIs."""
        logits, deltas = self.classify(features, *together([s.boxes for s in sampled]))
        labels = torch.cat([s.labels for s in sampled])
        foreground = torch.nonzero(labels < self.num_classes).flatten()
        regions, truth = (torch.cat(part) for part in zip(*((s.foreground, s.truth) for s in sampled), strict=True))
        wanted = box_ops.encode(truth, regions, BOX_WEIGHTS)
        box_sum = losses.smooth_l1_sum(deltas[foreground, labels[foreground]], wanted, self.config.beta)
        class_sum = losses.class_cross_entropy_sum(logits, labels)
        return {"class": Term(class_sum, len(labels)), "box": Term(box_sum, len(labels))}

    def scored(self, features: Sequence[Tensor], proposals: Proposals) -> tuple[Tensor, Tensor]:
        """Class probabilities (B, P, Q+1), background last, and offsets (B, P, Q, 4); zero for dead proposals."""
        batch, count = proposals.alive.shape
        rows = rows_to_refine(proposals.alive)
        logits, deltas = self.classify(features, proposals.boxes.flatten(0, 1)[rows], rows // max(1, count))
        scores = logits.float().softmax(dim=1) * proposals.alive.flatten()[rows, None]
        wide_scores, wide_deltas = (spread(value, rows, batch * count) for value in (scores, deltas))
        return wide_scores.unflatten(0, (batch, count)), wide_deltas.unflatten(0, (batch, count))

    def detect(
        self, scores: Tensor, deltas: Tensor, proposals: Proposals, sizes: Sequence[Size], limits: Limits
    ) -> Detections:
        """The best rows of each image, decoded and suppressed, by class or across, from what `scored` returned."""
        found = [self._select(*image, limits) for image in zip(scores, deltas, proposals.boxes, sizes, strict=True)]
        return Detections.of(found, limits.keep, proposals.boxes)

    def named(self, scores: Tensor, proposals: Proposals, labels: Sequence[Tensor], limits: Limits) -> Detections:
        """Each proposal as a detection, in their order, from what `scored` returned: of the class that `labels` has
        for it, or where that is -1 of the likeliest. The score is the probability of the class."""
        found = []
        for own, boxes, alive, given in zip(scores, proposals.boxes, proposals.alive, labels, strict=True):
            rows = torch.nonzero(alive).flatten()
            objects, wanted = own[rows, :-1], given.to(rows)
            label = torch.where(wanted < 0, objects.argmax(1), wanted)
            value = torch.take_along_dim(objects, label[:, None], 1)[:, 0].clamp_min(LEAST_SCORE)
            found.append(tuple(padded(column, limits.keep) for column in (boxes[rows], value, label, rows)))
        return Detections.of(found, limits.keep, proposals.boxes)

    def _select(self, scores: Tensor, deltas: Tensor, boxes: Tensor, size: Size, limits: Limits) -> tuple[Tensor, ...]:
        """Of one image: scores (P, Q+1), deltas (P, Q, 4), boxes (P, 4) to the columns of `Detections`."""
        scores = scores[:, :-1]
        candidates = rows_to_refine(scores > limits.score, CANDIDATES, scores)
        row, label = candidates // scores.shape[1], candidates % scores.shape[1]
        value = scores[row, label]
        found = box_ops.clip(box_ops.decode(deltas[row, label], boxes[row], BOX_WEIGHTS), size)
        good = torch.isfinite(found).all(1) & (value > limits.score)
        if self.config.min_side:
            good &= box_ops.sides_at_least(found, self.config.min_side)
        columns = (torch.where(good[:, None], found, 0.0), torch.where(good, value, 0.0), label, row)
        groups = torch.zeros_like(label) if limits.nms == "cross" else label
        chosen, alive = nms_by_class(*columns[:2], groups, self.config.nms, limits.keep)
        if not len(row):
            return tuple(padded(column, limits.keep) for column in columns)
        return tuple(torch.where(alive if c.ndim == 1 else alive[:, None], c[chosen], 0) for c in columns)


@dataclass(frozen=True, eq=False)
class MaskBranch:
    """One binary mask for each class (Mask R-CNN); the predicted class chooses. Only that one is computed."""

    reader: RoIReader
    head: MaskHead
    config: RoIConfig

    def terms(
        self, features: Sequence[Tensor], sampled: Sequence[Sampled], targets: Sequence[Target]
    ) -> dict[str, Term]:
        """`mask`: binary cross-entropy of the true class's map over the foreground RoIs."""
        boxes = [s.foreground for s in sampled]
        objects, corners = torch.cat([s.objects for s in sampled]).cpu(), torch.cat(boxes).cpu()  # masks lie there
        labels = torch.cat([s.labels[: len(s.truth)] for s in sampled])
        logits = self.head(self.reader(features, *together(boxes)), labels)
        counts = [len(b) for b in boxes]
        targets = targets or [Target(boxes[0], labels)]  # of a batch without images, as `sample` has one without RoIs
        wanted = [
            self.target_of(target, o, b, logits.shape[-1])
            for target, o, b in zip(targets, objects.split(counts), corners.split(counts), strict=True)
        ]
        truth = torch.cat(wanted).to(logits.device)
        return {"mask": Term(losses.mask_bce_sum(logits, truth), logits.numel())}

    def target_of(self, target: Target, objects: Tensor, boxes: Tensor, side: int) -> Tensor:
        """(R, M, M) of one image: object `objects[r]` inside `boxes[r]`."""
        if target.masks is None and len(objects):
            raise DataError("The targets have boxes but no masks; a model with masks needs both to learn from.")
        if not isinstance(target.masks, Masks):
            return mask_targets.from_polygons(target.masks or [], objects, boxes, side)
        out = mask_targets.from_bitmaps(target.masks, objects, boxes, side, aligned=self.config.aligned)
        return (out >= 0.5).float() if self.config.binary_targets else out

    def detect(self, features: Sequence[Tensor], found: Detections) -> BoxMasks:
        """The masks of detections, probabilities inside their boxes."""
        batch, keep = found.scores.shape
        rows = rows_to_refine(found.alive)
        seen = self.reader(features, found.boxes.flatten(0, 1)[rows], rows // keep)
        probs = (
            self.head(seen, found.labels.flatten()[rows]).float().sigmoid() * found.alive.flatten()[rows, None, None]
        )
        return BoxMasks(spread(probs, rows, batch * keep).unflatten(0, (batch, keep)))


def together(boxes: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Boxes of several images one after the other, (R, 4), and the image of each, (R,)."""
    counts = [len(b) for b in boxes]
    device = boxes[0].device
    index = torch.arange(len(boxes), device=device)
    repeats = torch.tensor(counts, device=device)
    return torch.cat(list(boxes)), torch.repeat_interleave(index, repeats, output_size=sum(counts))
