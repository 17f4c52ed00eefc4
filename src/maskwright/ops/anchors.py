"""Anchors: the boxes from which a region proposal network measures its offsets.

Letters: A anchors of a cell, h w feature map. Rows of a level are ordered (y, x, anchor).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from maskwright.types import Size


def cell_anchors(sizes: Sequence[float], ratios: Sequence[float], *, rounded: bool = False) -> Tensor:
    """(A, 4) boxes centred on 0: each size with each height/width ratio, sizes outermost.

    rounded: to whole pixels, halves to the even neighbour, as torchvision has it; detectron2 keeps fractions.
    """
    size = torch.tensor(sizes, dtype=torch.float32)[:, None]
    root = torch.sqrt(torch.tensor(ratios, dtype=torch.float32))[None]
    width, height = (size / root).flatten(), (size * root).flatten()
    anchors = torch.stack([-width, -height, width, height], dim=1) / 2
    return anchors.round() if rounded else anchors


def grid_anchors(cell: Tensor, feature_size: tuple[int, int], stride: tuple[float, float]) -> Tensor:
    """(h * w * A, 4): the cell anchors at (x * stride_x, y * stride_y) of every cell; stride is (y, x)."""
    h, w = feature_size
    y = torch.arange(h, dtype=torch.float32, device=cell.device) * stride[0]
    x = torch.arange(w, dtype=torch.float32, device=cell.device) * stride[1]
    y, x = torch.meshgrid(y, x, indexing="ij")
    shifts = torch.stack([x, y, x, y], dim=-1).view(-1, 1, 4)
    return (shifts + cell).reshape(-1, 4)


def level_priors(cell: Tensor, feature_size: Size, span: Size) -> Tensor:
    """(h * w * A, 4): the cell anchors around the middle of every cell of a map that spans an input of size `span`.

    Unlike `grid_anchors` the cells divide the input evenly, whatever the strides say. Worked out in float64.
    """
    (h, w), (height, width) = feature_size, span
    y = (torch.arange(h, dtype=torch.float64, device=cell.device) + 0.5) / h * height
    x = (torch.arange(w, dtype=torch.float64, device=cell.device) + 0.5) / w * width
    y, x = torch.meshgrid(y, x, indexing="ij")
    shifts = torch.stack([x, y, x, y], dim=-1).view(-1, 1, 4)
    return (shifts + cell.double()).reshape(-1, 4).float()
