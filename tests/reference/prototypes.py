"""Prototype masks on whole images with the library's own samplers: dense, slow, obvious.

Letters: N instances, D prototypes, h w prototype map, H W image.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from maskwright.geometry import Geometry


def cropped(prototypes: Tensor, coefficients: Tensor, boxes: Tensor, span: tuple[int, int], margin: float) -> Tensor:
    """(N, h, w) double probabilities, cell by cell, zero outside box and margin."""
    h, w, _ = prototypes.shape
    out = torch.zeros(len(boxes), h, w, dtype=torch.float64)
    for n, (x1, y1, x2, y2) in enumerate(boxes.double().tolist()):
        left, right = sorted([x1 / span[1] * w, x2 / span[1] * w])
        top, bottom = sorted([y1 / span[0] * h, y2 / span[0] * h])
        for i in range(h):
            for j in range(w):
                if left - margin <= j < right + margin and top - margin <= i < bottom + margin:
                    out[n, i, j] = torch.sigmoid((prototypes[i, j].double() * coefficients[n].double()).sum())
    return out


def enlarged(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """(N, h, w) to (N, H, W), where the map spans just the image."""
    return F.interpolate(maps[None], size, mode="bilinear", align_corners=False)[0]


def on_image(maps: Tensor, span: tuple[int, int], geometry: Geometry) -> Tensor:
    """(N, h, w) that spans an input to (N, H, W): every pixel's centre, moved to the input, looked up in the map."""
    centres = _centres(geometry)  # (H, W, 2)
    grid = centres / torch.tensor([span[1], span[0]]) * 2 - 1
    return F.grid_sample(maps[None], grid[None], mode="bilinear", padding_mode="border", align_corners=False)[0]


def inside(boxes: Tensor, shape: tuple[int, int], span: tuple[int, int], geometry: Geometry, margin: float) -> Tensor:
    """(N, H, W) bool: the pixels whose centre, moved to the input, lies in box and margin (in cells)."""
    x, y = _centres(geometry).unbind(-1)
    mx, my = margin * span[1] / shape[1], margin * span[0] / shape[0]
    rows = []
    for x1, y1, x2, y2 in boxes.double().tolist():
        wide = (x >= min(x1, x2) - mx) & (x < max(x1, x2) + mx)
        rows.append(wide & (y >= min(y1, y2) - my) & (y < max(y1, y2) + my))
    return torch.stack(rows) if rows else torch.zeros(0, *geometry.source, dtype=torch.bool)


def _centres(geometry: Geometry) -> Tensor:
    height, width = geometry.source
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    return torch.from_numpy(geometry.points(torch.stack([x, y], -1).numpy()))
