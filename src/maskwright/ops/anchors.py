"""Anchors and priors: the reference boxes to which detectors regress offsets.

Letters: A anchors per cell, h w feature map. Rows of a level are ordered (y, x, anchor). Boxes are xyxy, float32, in
pixels of the input.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from maskwright.types import Size


def cell_anchors(sizes: Sequence[float], ratios: Sequence[float], *, rounded: bool = False) -> Tensor:
    """(A, 4) boxes centred on the origin: every size with every height / width ratio, sizes outermost.

    sizes: square root of the area, in pixels. rounded: to whole pixels, halves to even, as torchvision does;
    detectron2 keeps fractions.
    """
    size = torch.tensor(sizes, dtype=torch.float32)[:, None]
    root = torch.sqrt(torch.tensor(ratios, dtype=torch.float32))[None]
    width, height = (size / root).flatten(), (size * root).flatten()
    anchors = torch.stack([-width, -height, width, height], dim=1) / 2
    return anchors.round() if rounded else anchors


def grid_anchors(cell: Tensor, feature_size: tuple[int, int], stride: tuple[float, float]) -> Tensor:
    """(h * w * A, 4): the cell anchors (A, 4) shifted to (column * stride_x, row * stride_y) of every cell.

    feature_size: (h, w). stride: (stride_y, stride_x) in pixels.
    """
    y, x = (torch.arange(n, dtype=torch.float32, device=cell.device) for n in feature_size)
    return _shifted(cell, y * stride[0], x * stride[1])


def level_priors(cell: Tensor, feature_size: Size, span: Size) -> Tensor:
    """(h * w * A, 4): the cell anchors (A, 4) centred on every cell of a map that spans an input of size `span`.

    Unlike in `grid_anchors`, the cells divide the input evenly, whatever the strides are (YOLACT). Computed in float64.
    """
    y, x = (
        (torch.arange(n, dtype=torch.float64, device=cell.device) + 0.5) / n * side
        for n, side in zip(feature_size, span, strict=True)
    )
    return _shifted(cell.double(), y, x).float()


def _shifted(cell: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """(h * w * A, 4): boxes (A, 4) moved to every pair of y (h,) and x (w,)."""
    y, x = torch.meshgrid(y, x, indexing="ij")
    return (torch.stack([x, y, x, y], dim=-1).view(-1, 1, 4) + cell).reshape(-1, 4)
