"""The slow, obvious twin of drawing an outline: every pixel centre is asked whether it lies inside."""

import numpy as np


def pixels_inside(rings, size):
    """(H, W) bool: pixel centres inside an odd number of the rings' turns (even-odd rule), one pixel at a time."""
    out = np.zeros(size, bool)
    for i in range(size[0]):
        for j in range(size[1]):
            out[i, j] = inside(rings, j + 0.5, i + 0.5)
    return out


def inside(rings, x, y):
    """Whether a point lies inside an odd number of turns."""
    crossings = 0
    for ring in rings:
        for (x1, y1), (x2, y2) in zip(ring, [*ring[1:], ring[0]], strict=True):
            if (y1 <= y) != (y2 <= y) and x1 + (y - y1) / (y2 - y1) * (x2 - x1) <= x:
                crossings += 1
    return crossings % 2 == 1
