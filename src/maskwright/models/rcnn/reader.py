"""Features of regions of interest: RoIAlign on the pyramid, or RoIAlign and the last ResNet stage (C4).

Letters: L levels, R RoIs, C channels, S pooled side.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from maskwright.ops.roi_align import roi_align

C4_ROWS = 250
"""RoIs at once in the C4 head, 0.8 MB each before it, 2.4 MB inside, float32. Training keeps all of them anyway."""


@dataclass(frozen=True)
class Pooler:
    """RoIAlign over a pyramid: each RoI is read from the level that fits its size (FPN paper, eq. 1).

    scales: feature / input size of each level. aligned, sampling_ratio: see `ops.roi_align`.
    outer_epsilon: where the published code adds its guard against rounding: to log2 (torchvision) or inside it.
    """

    scales: tuple[float, ...]
    side: int
    sampling_ratio: int
    aligned: bool
    outer_epsilon: bool = False

    def levels(self, boxes: Tensor) -> Tensor:
        """(R,) index of the level of each box (R, 4): an area of 224 x 224 belongs to stride 16."""
        finest = -math.log2(self.scales[0])
        size = torch.sqrt((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))
        if self.outer_epsilon:
            level = torch.floor(4 + torch.log2(size / 224) + 1e-6)
        else:
            level = torch.floor(4 + torch.log2(size / 224 + 1e-8))
        return (level.clamp(finest, finest + len(self.scales) - 1) - finest).to(torch.int64)

    def __call__(self, features: Sequence[Tensor], boxes: Tensor, batch_index: Tensor) -> Tensor:
        """Boxes (R, 4) in input pixels, batch_index (R,), to (R, C, S, S)."""
        levels = self.levels(boxes) if len(self.scales) > 1 else None
        return roi_align(
            features[: len(self.scales)],
            boxes,
            batch_index,
            levels,
            self.scales,
            self.side,
            sampling_ratio=self.sampling_ratio,
            aligned=self.aligned,
        )


@dataclass(frozen=True, eq=False)
class RoIReader:
    """RoIAlign, then the layers that all heads share.

    stage: those layers: the last ResNet stage, or an identity. most: RoIs that are processed together in prediction;
    None: all.
    """

    pooler: Pooler
    stage: nn.Module
    most: int | None = None

    def __call__(self, features: Sequence[Tensor], boxes: Tensor, batch_index: Tensor) -> Tensor:
        """Boxes (R, 4) in input pixels, batch_index (R,), to the input of the heads, (R, C, S, S)."""
        out: Tensor = self.stage(self.pooler(features, boxes, batch_index))
        return out

    def rows_at_once(self, rows: int) -> int:
        """How many of `rows` RoIs are processed together."""
        return max(1, rows) if self.most is None or torch.is_grad_enabled() else self.most
