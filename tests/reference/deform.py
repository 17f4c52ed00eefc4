"""Deformable convolution, second version, one sample at a time.

Letters: C channels, O output channels, H W map, k kernel side.
"""

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def sample(plane: Array, y: float, x: float) -> float:
    """Bilinear, with zeros around the map."""
    height, width = plane.shape
    top, left = math.floor(y), math.floor(x)
    total = 0.0
    for row, column in ((top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)):
        if 0 <= row < height and 0 <= column < width:
            total += (1 - abs(y - row)) * (1 - abs(x - column)) * plane[row, column]
    return total


def deformed(x: Array, sampling: Array, weight: Array, bias: Array, stride: int) -> Array:
    """(C, H, W) and (3 k k, h, w) to (O, h, w), padding k // 2; (dy, dx) of each tap, then the taps' logits."""
    k = weight.shape[2]
    out = np.zeros((len(weight), *sampling.shape[1:]))
    for i, j in np.ndindex(*sampling.shape[1:]):
        for tap in range(k * k):
            dy, dx = sampling[2 * tap : 2 * tap + 2, i, j]
            factor = 1 / (1 + math.exp(-sampling[2 * k * k + tap, i, j]))
            y, x_ = i * stride - k // 2 + tap // k + dy, j * stride - k // 2 + tap % k + dx
            values = np.array([sample(plane, y, x_) for plane in x])
            out[:, i, j] += weight[:, :, tap // k, tap % k] @ values * factor
    return out + bias[:, None, None]
