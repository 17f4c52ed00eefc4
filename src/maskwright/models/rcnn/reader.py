"""Features of regions of interest: RoIAlign or RoIPool on the pyramid or before the last ResNet stage (C4), or a whole
network on the crop of each (R-CNN).

Letters: L levels, R RoIs, C channels, S pooled side.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from maskwright.ops.roi_align import roi_align
from maskwright.ops.roi_pool import roi_pool
from maskwright.ops.rows import exporting

C4_ROWS = 250
"""RoIs at once in the C4 head, 0.8 MB each before it, 2.4 MB inside, float32. Training keeps all of them anyway."""

CROP_ROWS = 64
"""RoIs at once in R-CNN's network, for the same reason: each is an image of its own."""


@dataclass(frozen=True)
class Pooler:
    """RoIAlign over a pyramid, or RoIPool: each RoI is read from the level that fits its size (FPN paper, eq. 1).

    scales: feature / input size of each level. aligned, sampling_ratio: see `ops.roi_align`. pooling: "align", "pool".
    outer_epsilon: where the published code adds its guard against rounding: to log2 (torchvision) or inside it.
    """

    scales: tuple[float, ...]
    side: int
    sampling_ratio: int
    aligned: bool
    outer_epsilon: bool = False
    pooling: str = "align"

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
        rois = features[: len(self.scales)], boxes, batch_index, levels, self.scales, self.side
        if self.pooling == "pool":
            return roi_pool(*rois)
        return roi_align(*rois, sampling_ratio=self.sampling_ratio, aligned=self.aligned)


@dataclass(frozen=True)
class CropWarp:
    """R-CNN's reader (Girshick et al. 2013, appendix A): the image around each RoI, warped to a square of one side.

    context: pixels of the result on each side that show what is around the box. What lies outside the image has the
    mean colour, 0 once it is normalised. Pixels are interpolated and averaged as RoIAlign does.
    """

    side: int
    context: int

    def grown(self, boxes: Tensor) -> Tensor:
        """The boxes (R, 4) with their context."""
        corner, far = boxes[:, :2], boxes[:, 2:]
        more = (far - corner) * (self.context / (self.side - 2 * self.context))
        return torch.cat([corner - more, far + more], 1)

    def __call__(self, features: Sequence[Tensor], boxes: Tensor, batch_index: Tensor) -> Tensor:
        """Boxes (R, 4) in pixels of the images, the only map (B, 3, H, W), batch_index (R,), to (R, 3, S, S)."""
        return roi_align(features, self.grown(boxes), batch_index, None, (1.0,), self.side, sampling_ratio=0)


@dataclass(frozen=True, eq=False)
class RoIReader:
    """Pooling, then the layers that all heads share.

    stage: those layers: an identity, the last ResNet stage (C4), or the whole backbone (R-CNN). most: RoIs that are
    processed together in prediction; None: all.
    """

    pooler: Pooler | CropWarp
    stage: Callable[[Tensor], Tensor]
    most: int | None = None

    def __call__(self, features: Sequence[Tensor], boxes: Tensor, batch_index: Tensor) -> Tensor:
        """Boxes (R, 4) in input pixels, batch_index (R,), to the input of the heads, (R, C, S, S)."""
        out: Tensor = self.stage(self.pooler(features, boxes, batch_index))
        return out

    def rows_at_once(self, rows: int) -> int:
        """How many of `rows` RoIs are processed together."""
        every = self.most is None or torch.is_grad_enabled() or exporting()
        return max(1, rows) if every or self.most is None else self.most
