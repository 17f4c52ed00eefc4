"""Masks drawn on whole images with the library's own samplers: dense, slow, obvious."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.detection.roi_heads import paste_masks_in_image


def sampled(probs: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """(N, M, M) into (N, 4) to (N, H, W) values: each pixel centre looked up in its box, zero outside the samples."""
    height, width = size
    centres = torch.arange(height, dtype=torch.float64) + 0.5, torch.arange(width, dtype=torch.float64) + 0.5
    y, x = torch.meshgrid(*centres, indexing="ij")
    out = torch.zeros(len(boxes), height, width)
    for i, (x0, y0, x1, y1) in enumerate(boxes.double()):
        grid = torch.stack([(x - x0) / (x1 - x0) * 2 - 1, (y - y0) / (y1 - y0) * 2 - 1], -1)
        out[i] = F.grid_sample(probs[i].double()[None, None], grid[None], align_corners=False)[0, 0]
    return out


def integer(probs: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """The same as torchvision pastes it."""
    return paste_masks_in_image(probs[:, None], boxes, size)[:, 0]
