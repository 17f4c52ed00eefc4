"""A family outside the package, in one module: boxes with landmarks and the class of every pixel, also of videos.

It is no good detector; it shows what a family must have to be used by every verb. Every cell of one map is a candidate.

Letters: B batch, N cells, K rows kept, Q classes, P landmarks, M side of a landmark's map, C channels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskwright.models.base import Config, Draws, VideoModel
from maskwright.models.family import Family
from maskwright.ops import boxes as box_ops
from maskwright.ops.anchors import cell_anchors, level_priors
from maskwright.ops.losses import Term
from maskwright.ops.rows import padded
from maskwright.types import (
    HeatMaps,
    Inputs,
    InputSpec,
    Limits,
    OutputSpec,
    Part,
    RawDetections,
    Semantic,
    Size,
    Target,
)

SIDE = 7
"""M."""


@dataclass(frozen=True)
class DummyConfig(Config):
    """Rebuilds a `Dummy`. side: of the anchor of each cell; landmarks: P; score, keep: which rows are reported."""

    nms_kinds = ("none",)

    num_classes: int = 2
    backbone: str = "none"
    strides: tuple[int, ...] = (8,)
    channels: int = 8
    spec: InputSpec = field(default_factory=lambda: InputSpec(size=64, max_size=128, multiple=8))
    output: OutputSpec = field(default_factory=lambda: OutputSpec(max_instances=10))
    side: float = 16.0
    landmarks: int = 2
    score: float = 0.05
    keep: int = 10

    @property
    def parts(self) -> tuple[type[Part], ...]:
        return (HeatMaps, Semantic)

    def limits_for(self, nms: str | None = None) -> Limits:
        return Limits(self.score, self.keep, self.checked_nms(nms or "none"))

    def lowest_score(self, limits: Limits) -> float:
        return limits.score

    @property
    def anchor_sides(self) -> tuple[float, ...]:
        return (self.side,)

    def with_anchor_sides(self, sides: tuple[float, ...]) -> Self:
        return replace(self, side=sides[0])

    def with_limits(self, score: float | None = None, keep: int | None = None) -> Self:
        return replace(self, score=min(self.score, score or self.score), keep=max(self.keep, keep or self.keep))


@dataclass(frozen=True, eq=False)
class DummyTrace:
    """features (B, C, h, w); raw: what was made of them."""

    features: Tensor
    raw: RawDetections


@dataclass(frozen=True, eq=False)
class DummyState:
    """What is carried from frame to frame: the features (B, C, h, w)."""

    features: Tensor


class Dummy(VideoModel[DummyConfig, DummyState]):
    """One convolution, and a head for each answer."""

    def __init__(self, config: DummyConfig) -> None:
        super().__init__(config)
        c, stride = config, config.strides[0]
        self.body = nn.Sequential(nn.Conv2d(3, c.channels, stride, stride), nn.ReLU())
        self.logits = nn.Conv2d(c.channels, c.num_classes, 1)
        self.deltas = nn.Conv2d(c.channels, 4, 1)
        self.points = nn.Linear(c.channels, c.landmarks * SIDE * SIDE)
        self.semantic = nn.Conv2d(c.channels, c.num_classes, 1)

    # ---- the two verbs, and those of videos -------------------------------------------------------------------

    def trace(self, inputs: Inputs, limits: Limits) -> DummyTrace:
        features = self.body(inputs.images)
        return DummyTrace(features, self.found(features, inputs.padded, limits))

    def terms(self, inputs: Inputs, targets: Sequence[Target], generator: Draws = None) -> dict[str, Term]:
        features = self.body(inputs.images)
        logits, boxes = self.candidates(features, inputs.padded)
        centres = (self.anchors(features, inputs.padded)[:, :2] + self.anchors(features, inputs.padded)[:, 2:]) / 2
        maps = self.points(features.permute(0, 2, 3, 1).flatten(1, 2))
        wide = self.semantic(features)
        sums = [value.float().sum() * 0 for value in (logits, boxes, maps, wide)]
        answers = 0
        for i, target in enumerate(targets):
            rows = torch.arange(len(target)) if target.crowd is None else torch.nonzero(~target.crowd).flatten()
            truth, labels = target.boxes[rows], target.labels[rows]
            inside = ((centres[:, None] >= truth[:, :2]) & (centres[:, None] < truth[:, 2:])).all(dim=2)  # (N, G)
            cell, which = inside.nonzero(as_tuple=True)
            wanted = torch.zeros_like(logits[i])
            wanted[cell, labels[which]] = 1
            sums[0] = sums[0] + F.binary_cross_entropy_with_logits(logits[i], wanted, reduction="sum")
            sums[1] = sums[1] + F.smooth_l1_loss(boxes[i, cell], truth[which], reduction="sum")
            sums[2] = sums[2] + F.softplus(maps[i, cell]).sum()
            sums[3] = sums[3] + F.softplus(wide[i]).sum()
            answers += len(cell)
        counts = (logits.shape[1] * len(targets), answers, answers, len(targets))
        names = ("class", "box", "keypoint", "semantic")
        return {name: Term(value, count) for name, value, count in zip(names, sums, counts, strict=True)}

    def start(self, inputs: Inputs, limits: Limits | None = None) -> tuple[RawDetections, DummyState]:
        trace = self.trace(inputs, limits or self.config.limits_for())
        return trace.raw, DummyState(trace.features)

    def step(self, inputs: Inputs, state: DummyState, limits: Limits | None = None) -> tuple[RawDetections, DummyState]:
        """The features are the mean of the frame's own and what is carried."""
        features = (self.body(inputs.images) + state.features) / 2
        return self.found(features, inputs.padded, limits or self.config.limits_for()), DummyState(features)

    # ---- the stages -------------------------------------------------------------------------------------------

    def anchors(self, features: Tensor, size: Size) -> Tensor:
        """(N, 4)."""
        cell = cell_anchors([self.config.side], [1.0]).to(features.device)
        return level_priors(cell, (features.shape[2], features.shape[3]), size)

    def candidates(self, features: Tensor, size: Size) -> tuple[Tensor, Tensor]:
        """(B, N, Q) logits and (B, N, 4) boxes of all cells."""
        logits, deltas = (m.flatten(2).transpose(1, 2).float() for m in (self.logits(features), self.deltas(features)))
        anchors = self.anchors(features, size).expand(len(deltas), -1, -1)
        return logits, box_ops.decode(deltas.flatten(0, 1), anchors.flatten(0, 1)).view_as(deltas)

    def found(self, features: Tensor, size: Size, limits: Limits) -> RawDetections:
        """The best cells of each image, and the maps of their landmarks."""
        logits, boxes = self.candidates(features, size)
        scores, labels = logits.sigmoid().max(dim=2)  # (B, N)
        good = torch.isfinite(boxes).all(dim=2) & (scores > limits.score)
        best, row = torch.where(good, scores, 0.0).sort(dim=1, descending=True, stable=True)
        best, row = (padded(v.T, limits.keep).T for v in (best, row))  # (B, K)
        alive = best > 0
        cells = torch.take_along_dim(features.flatten(2).transpose(1, 2), row[..., None], 1)  # (B, K, C)
        maps = self.points(cells).float().unflatten(2, (self.config.landmarks, SIDE, SIDE))
        return RawDetections(
            torch.where(alive[..., None], torch.take_along_dim(boxes, row[..., None], 1), 0.0),
            best,
            torch.where(alive, torch.take_along_dim(labels, row, 1), 0),
            (
                HeatMaps(torch.where(alive[..., None, None, None], maps, 0.0), alive * self.config.landmarks),
                Semantic(self.semantic(features).float(), size),
            ),
        )


FAMILY = Family(model=Dummy, config=DummyConfig, tiny=lambda: {"dummy": DummyConfig()})
