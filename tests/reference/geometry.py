"""The slow twin of `Geometry.image`: always float64 sampling, with no shortcut for maps that copy or resize."""

import numpy as np
import torch
import torch.nn.functional as F

from maskwright.geometry import Geometry


def moved(image: np.ndarray, geometry: Geometry, fill: tuple[int, int, int] = (0, 0, 0)) -> np.ndarray:
    """(H, W, 3) uint8 in the new frame: bilinear, antialiased where it shrinks."""
    pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float()  # (1, 3, H, W)
    colour = torch.tensor(fill, dtype=torch.float32).view(1, 3, 1, 1)
    shrink = [min(1.0, float(s)) for s in np.linalg.norm(geometry.matrix[:2, :2], axis=0)]  # along source x, y
    small = (max(1, round(geometry.source[0] * shrink[1])), max(1, round(geometry.source[1] * shrink[0])))
    if small != geometry.source:
        pixels = F.interpolate(pixels, small, mode="bilinear", antialias=True, align_corners=False)
    rest = Geometry.resize(geometry.source, small).matrix @ np.linalg.inv(geometry.matrix)
    moved = _sample(pixels - colour, rest, geometry.size) + colour
    return moved[0].permute(1, 2, 0).round_().clamp_(0, 255).to(torch.uint8).numpy()


def _sample(pixels: torch.Tensor, back: np.ndarray, size: tuple[int, int]) -> torch.Tensor:
    """Bilinear samples of `pixels` (1, C, h, w) at `back @ centre` of each new pixel; zeros outside."""
    h, w = pixels.shape[-2:]
    x = torch.arange(size[1], dtype=torch.float64)[None, :] + 0.5
    y = torch.arange(size[0], dtype=torch.float64)[:, None] + 0.5
    from_x = back[0, 0] * x + back[0, 1] * y + back[0, 2]
    from_y = back[1, 0] * x + back[1, 1] * y + back[1, 2]
    inside = (from_x > -1e-9) & (from_x < w + 1e-9) & (from_y > -1e-9) & (from_y < h + 1e-9)
    grid = torch.stack([from_x * 2 / w - 1, from_y * 2 / h - 1], dim=-1)[None].to(pixels.dtype)
    moved: torch.Tensor = F.grid_sample(pixels, grid, mode="bilinear", padding_mode="border", align_corners=False)
    moved *= inside
    return moved
