"""Carrying a feature map along a motion field (Zhu et al. 2017, "Deep feature flow").

Letters: B batch, C channels, h w cells of a map.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def warp(features: Tensor, flow: Tensor) -> Tensor:
    """Every cell takes what lies `flow` away from it: out(y, x) = features(y + flow_y, x + flow_x), (B, C, h, w).

    features (B, C, h, w); flow (B, 2, h, w) in cells, x before y. Bilinear between the centres of cells; beyond the
    outermost centres the map goes on as zeros, so that the last half cell fades.
    """
    h, w = features.shape[-2:]
    rows, columns = (torch.arange(n, dtype=flow.dtype, device=flow.device) for n in (h, w))
    x = flow[:, 0] + columns  # (B, h, w)
    y = flow[:, 1] + rows[:, None]
    grid = torch.stack([(2 * x + 1) / w - 1, (2 * y + 1) / h - 1], dim=3)
    return F.grid_sample(features, grid.to(features.dtype), mode="bilinear", padding_mode="zeros", align_corners=False)
