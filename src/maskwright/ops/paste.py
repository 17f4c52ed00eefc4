"""The R-CNNs' mask probabilities resampled into their boxes on the image, as crops: memory follows the objects.

Letters: N instances, M mask side, H W image, h w crop of an instance.
Bilinear interpolation is separable, so a crop is by_y (h, M) @ probabilities (M, M) @ by_x (M, w).
"""

import math
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from maskwright.types import BoolArray, Masks, Size

Rule = Literal["sampled", "integer"]
Span = tuple[int, int]


def paste(probs: Tensor, boxes: Tensor, size: Size, *, rule: Rule, threshold: float) -> Masks:
    """Masks of probabilities (N, M, M) pasted into boxes (N, 4) of an image of `size`: set where >= threshold.

    rule: "sampled" interpolates at pixel centres in the unrounded box, zero beyond the outermost samples (detectron2);
    "integer" pads by one zero cell, enlarges the box with it and truncates the box to whole pixels (torchvision).
    """
    probs, boxes = probs.detach().float().cpu(), boxes.detach().float().cpu()
    place = _sampled if rule == "sampled" else _integer
    corners, crops = np.zeros((len(boxes), 2), np.int64), []
    for i, (prob, box) in enumerate(zip(probs, boxes, strict=True)):
        top, left, crop = place(prob, box, size, threshold)
        corners[i] = top, left
        crops.append(crop)
    return Masks(size, corners, tuple(crops))


def _sampled(prob: Tensor, box: Tensor, size: Size, threshold: float) -> tuple[int, int, BoolArray]:
    x0, y0, x1, y1 = box.tolist()
    rows = _inside(math.floor(y0) - 1, math.ceil(y1) + 1, size[0])
    columns = _inside(math.floor(x0) - 1, math.ceil(x1) + 1, size[1])
    by_y = _weights(_centres(rows, y0, y1, prob.shape[0]), prob.shape[0], border="zero")
    by_x = _weights(_centres(columns, x0, x1, prob.shape[1]), prob.shape[1], border="zero")
    return rows[0], columns[0], _trimmed(by_y @ prob @ by_x.T, threshold)


def _centres(span: Span, low: float, high: float, side: int) -> Tensor:
    """(h,) position of each pixel centre of `span`, in mask cells; the centre of the first cell is 0."""
    centre = torch.arange(span[0], span[1], dtype=torch.float32) + 0.5
    return (centre - low) / (high - low) * side - 0.5


def _integer(prob: Tensor, box: Tensor, size: Size, threshold: float) -> tuple[int, int, BoolArray]:
    side = prob.shape[0] + 2
    padded = torch.nn.functional.pad(prob, (1, 1, 1, 1))
    centre, half = (box[:2] + box[2:]) * 0.5, (box[2:] - box[:2]) * 0.5 * (side / prob.shape[0])
    (x0, y0), (x1, y1) = (centre - half).long().tolist(), (centre + half).long().tolist()
    rows, columns = _inside(y0, y1 + 1, size[0]), _inside(x0, x1 + 1, size[1])
    by_y = _weights(_resized(rows, y0, max(y1 - y0 + 1, 1), side), side, border="repeat")
    by_x = _weights(_resized(columns, x0, max(x1 - x0 + 1, 1), side), side, border="repeat")
    return rows[0], columns[0], _trimmed(by_y @ padded @ by_x.T, threshold)


def _resized(span: Span, low: int, length: int, side: int) -> Tensor:
    """(h,) position, in mask cells, of each pixel of `span`: `side` cells stretched over `length` pixels from `low`."""
    centre = torch.arange(span[0], span[1], dtype=torch.float32) - low + 0.5
    return (centre * (side / length) - 0.5).clamp_(min=0)


def _inside(low: int, high: int, limit: int) -> Span:
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


def _trimmed(values: Tensor, threshold: float) -> BoolArray:
    crop: BoolArray = (values >= threshold).numpy()
    return crop
