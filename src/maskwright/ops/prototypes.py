"""Masks as linear combinations of prototypes (YOLACT, section 3.3).

Letters: N instances, D prototypes, h w prototype map, H W input that the map spans.
"""

import torch
from torch import Tensor

from maskwright.types import Size


def logits(prototypes: Tensor, coefficients: Tensor) -> Tensor:
    """(h, w, D), (N, D) to (N, h, w): the signed sums, before the sigmoid."""
    h, w, count = prototypes.shape
    return (coefficients @ prototypes.reshape(-1, count).T).view(len(coefficients), h, w)


def window(boxes: Tensor, shape: Size, span: Size, margin: float = 1.0) -> Tensor:
    """(N, h, w) bool: the cells of a map that each box (N, 4), in an input of size `span`, and a margin cover.

    A cell counts where its whole number j lies in [x1 - margin, x2 + margin), x1 and x2 in cells, not rounded; as the
    published code has it.
    """
    cells = boxes * boxes.new_tensor([shape[1] / span[1], shape[0] / span[0]] * 2)
    low = torch.minimum(cells[:, :2], cells[:, 2:]) - margin
    high = torch.maximum(cells[:, :2], cells[:, 2:]) + margin
    x = torch.arange(shape[1], device=boxes.device)
    y = torch.arange(shape[0], device=boxes.device)
    columns = (x >= low[:, :1].clamp(min=0)) & (x < high[:, :1].clamp(max=shape[1]))
    rows = (y >= low[:, 1:].clamp(min=0)) & (y < high[:, 1:].clamp(max=shape[0]))
    return rows[:, :, None] & columns[:, None, :]


def soft_masks(prototypes: Tensor, coefficients: Tensor, boxes: Tensor, span: Size, margin: float = 1.0) -> Tensor:
    """(N, h, w) probabilities at the prototypes' resolution, 0 outside the box and its margin; see `window`."""
    inside = window(boxes, (prototypes.shape[0], prototypes.shape[1]), span, margin)
    return logits(prototypes, coefficients).sigmoid() * inside
