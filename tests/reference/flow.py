"""The slow, obvious twin of `maskwright.ops.flow`."""

import math

from torch import Tensor


def warp(features: Tensor, flow: Tensor) -> Tensor:
    """Cell by cell: the four neighbours of the place that the flow points to, weighted; outside there are zeros."""
    out = features.new_zeros(features.shape)
    batch, _, h, w = features.shape
    for b in range(batch):
        for y in range(h):
            for x in range(w):
                px, py = x + float(flow[b, 0, y, x]), y + float(flow[b, 1, y, x])
                left, top = math.floor(px), math.floor(py)
                for j, i in ((top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)):
                    if 0 <= j < h and 0 <= i < w:
                        out[b, :, y, x] += (1 - abs(px - i)) * (1 - abs(py - j)) * features[b, :, j, i]
    return out
