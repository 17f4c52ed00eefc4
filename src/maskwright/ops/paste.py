"""The R-CNNs' mask probabilities resampled into their boxes on the image, as crops: memory follows the objects.

Letters: N instances, M mask side, H W image, h w crop of an instance.
Bilinear interpolation is separable, so a crop is by_y (h, M) @ probabilities (M, M) @ by_x (M, w).
"""

import math
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from maskwright.errors import ConfigError
from maskwright.types import Masks, Size

PasteRule = Literal["sampled", "integer"]


def paste(probs: Tensor, boxes: Tensor, size: Size, *, rule: PasteRule, threshold: float) -> Masks:
    """Masks of probabilities (N, M, M) pasted into boxes (N, 4) of an image of `size`: set where >= threshold.

    rule: "sampled" interpolates at pixel centres in the unrounded box, zero beyond the outermost samples (detectron2);
    "integer" pads by one zero cell, enlarges the box with it and truncates the box to whole pixels (torchvision).
    Raises ConfigError for a box that is not finite.
    """
    probs, boxes = probs.detach().float().cpu(), boxes.detach().float().cpu()
    if not boxes.isfinite().all():
        row = int((~boxes.isfinite()).any(1).nonzero()[0])
        raise ConfigError(f"paste: boxes must be finite; row {row} is {boxes[row].tolist()}.")
    axis = _sampled if rule == "sampled" else _integer
    if rule == "integer":
        centre, half = (boxes[:, :2] + boxes[:, 2:]) * 0.5, (boxes[:, 2:] - boxes[:, :2]) * 0.5
        half *= (probs.shape[1] + 2) / probs.shape[1]
        boxes, probs = torch.cat([centre - half, centre + half], 1).long(), F.pad(probs, (1, 1, 1, 1))
    corners, crops = np.zeros((len(boxes), 2), np.int64), []
    for i, (prob, (x0, y0, x1, y1)) in enumerate(zip(probs, boxes.tolist(), strict=True)):
        corners[i, 0], by_y = axis(y0, y1, size[0], len(prob))
        corners[i, 1], by_x = axis(x0, x1, size[1], len(prob))
        crops.append((by_y @ prob @ by_x.T >= threshold).numpy())
    return Masks(size, corners, tuple(crops))


def _sampled(low: float, high: float, limit: int, side: int) -> tuple[int, Tensor]:
    """First pixel and weights (h, M) along an axis: mask cells cover the box from `low` to `high`, zero beyond."""
    first, end = _inside(math.floor(low) - 1, math.ceil(high) + 1, limit)
    centre = torch.arange(first, end, dtype=torch.float32) + 0.5
    return first, _weights((centre - low) / (high - low) * side - 0.5, side, border="zero")


def _integer(low: int, high: int, limit: int, side: int) -> tuple[int, Tensor]:
    """First pixel and weights (h, M) along an axis: mask cells cover the pixels `low` to `high`, both included."""
    first, end = _inside(low, high + 1, limit)
    centre = torch.arange(first, end, dtype=torch.float32) - low + 0.5
    return first, _weights((centre * (side / max(high - low + 1, 1)) - 0.5).clamp_(min=0), side, border="repeat")


def _inside(low: int, high: int, limit: int) -> tuple[int, int]:
    low, high = max(0, min(low, limit)), max(0, min(high, limit))
    return low, max(low, high)


def _weights(position: Tensor, side: int, *, border: Literal["zero", "repeat"]) -> Tensor:
    """(h, M) bilinear weight of every cell for every position; beyond the border zero, or the border cell repeated."""
    cell = position.floor()
    far = position - cell
    out = torch.zeros((len(position), side))
    for tap, share in ((cell, 1 - far), (cell + 1, far)):
        index = tap.long()
        valid = (index >= 0) & (index < side) if border == "zero" else torch.ones_like(index, dtype=torch.bool)
        out.scatter_add_(1, index.clamp(0, side - 1)[:, None], torch.where(valid, share, 0.0)[:, None])
    return out
