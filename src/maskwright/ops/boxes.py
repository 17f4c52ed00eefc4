"""Boxes: area, intersection, IoU, clipping, and the encoding of a box as offsets from an anchor.

Letters: B images, N, M boxes. Every box is xyxy in continuous pixels.
Half precision is computed in float32, whole numbers in float64: a product of two sides would overflow or lose digits.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

MAX_LOG_SCALE = math.log(1000.0 / 16)
"""Upper limit of the decoded log size ratios, so that an extreme offset cannot overflow.

As in detectron2 and torchvision. The original YOLACT has no limit: a box 62 times its prior spans the image anyway.
"""

Weights = tuple[float, float, float, float]


def _wide(boxes: Tensor) -> Tensor:
    if not boxes.is_floating_point():
        return boxes.double()
    return boxes.to(torch.promote_types(boxes.dtype, torch.float32))


def area(boxes: Tensor) -> Tensor:
    """(N, 4) to (N,): width times height."""
    boxes = _wide(boxes)
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def intersection(a: Tensor, b: Tensor) -> Tensor:
    """(N, 4), (M, 4) to (N, M): area of the intersection."""
    a, b = _wide(a), _wide(b)
    low = torch.maximum(a[:, None, :2], b[None, :, :2])
    high = torch.minimum(a[:, None, 2:], b[None, :, 2:])
    return (high - low).clamp_(min=0).prod(dim=2)


def iou(a: Tensor, b: Tensor) -> Tensor:
    """(N, 4), (M, 4) to (N, M): intersection over union; 0 where both boxes are empty."""
    common = intersection(a, b)
    union = area(a)[:, None] + area(b)[None, :] - common
    return torch.where(common > 0, common / union, common.new_zeros(()))


def matched_iou(a: Tensor, b: Tensor) -> Tensor:
    """(N, 4), (N, 4) to (N,): IoU of each row of `a` with the same row of `b`; 0 where both boxes are empty."""
    a, b = _wide(a), _wide(b)
    common = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp_(min=0).prod(dim=1)
    return torch.where(common > 0, common / (area(a) + area(b) - common), common.new_zeros(()))


def clip(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """(..., 4) clipped to an image of size (H, W)."""
    height, width = size
    x = boxes[..., 0::2].clamp(0, width)
    y = boxes[..., 1::2].clamp(0, height)
    return torch.stack([x[..., 0], y[..., 0], x[..., 1], y[..., 1]], dim=-1)


def clip_each(boxes: Tensor, sizes: Sequence[tuple[int, int]]) -> Tensor:
    """(B, N, 4), the boxes of each image clipped to its own size (H, W)."""
    return torch.stack([clip(own, size) for own, size in zip(boxes, sizes, strict=True)]) if len(boxes) else boxes


def sides_at_least(boxes: Tensor, side: float) -> Tensor:
    """(..., 4) to (...) bool: both sides >= `side`; `side` 0 means both sides > 0."""
    width, height = boxes[..., 2] - boxes[..., 0], boxes[..., 3] - boxes[..., 1]
    return (width >= side) & (height >= side) if side > 0 else (width > 0) & (height > 0)


def _centre_form(boxes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    boxes = _wide(boxes)
    width, height = boxes[..., 2] - boxes[..., 0], boxes[..., 3] - boxes[..., 1]
    return boxes[..., 0] + 0.5 * width, boxes[..., 1] + 0.5 * height, width, height


def encode(boxes: Tensor, anchors: Tensor, weights: Weights = (1.0, 1.0, 1.0, 1.0)) -> Tensor:
    """(..., 4) boxes as offsets dx, dy, dw, dh from (..., 4) anchors, times `weights` (R-CNN, appendix C)."""
    x, y, w, h = _centre_form(boxes)
    ax, ay, aw, ah = _centre_form(anchors)
    deltas = [(x - ax) / aw, (y - ay) / ah, torch.log(w / aw), torch.log(h / ah)]
    return torch.stack([weight * d for weight, d in zip(weights, deltas, strict=True)], dim=-1)


def decode(deltas: Tensor, anchors: Tensor, weights: Weights = (1.0, 1.0, 1.0, 1.0)) -> Tensor:
    """The inverse of `encode`; dw and dh are clamped to `MAX_LOG_SCALE`."""
    deltas = _wide(deltas)
    ax, ay, aw, ah = _centre_form(anchors.to(deltas.dtype))
    dx, dy, dw, dh = (deltas[..., i] / weight for i, weight in enumerate(weights))
    x, y = dx * aw + ax, dy * ah + ay
    w, h = dw.clamp(max=MAX_LOG_SCALE).exp() * aw, dh.clamp(max=MAX_LOG_SCALE).exp() * ah
    return torch.stack([x - 0.5 * w, y - 0.5 * h, x + 0.5 * w, y + 0.5 * h], dim=-1)
