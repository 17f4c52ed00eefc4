"""Slow, obvious twins of ops/masks.py and ops/polygons.py: dense images, one pixel or one ray at a time."""

import numpy as np
from numpy.typing import NDArray


def run_lengths(mask: NDArray[np.bool_]) -> list[int]:
    """Uncompressed COCO run lengths of a dense mask: column by column, background first."""
    counts, value = [0], False
    for pixel in mask.T.ravel():
        if bool(pixel) != value:
            counts.append(0)
            value = not value
        counts[-1] += 1
    return counts


def inside(ring: NDArray[np.float64], x: float, y: float) -> bool:
    """Even-odd rule: how many edges does a ray to the left cross?"""
    odd = False
    for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
        if (y0 <= y) != (y1 <= y) and x0 + (y - y0) * (x1 - x0) / (y1 - y0) <= x:
            odd = not odd
    return odd


def fill(parts: list[tuple[NDArray[np.float64], tuple[NDArray[np.float64], ...]]], size: tuple[int, int]):
    """Dense mask of parts with holes, pixel centre by pixel centre."""
    out = np.zeros(size, np.bool_)
    for i in range(size[0]):
        for j in range(size[1]):
            x, y = j + 0.5, i + 0.5
            out[i, j] = any(inside(o, x, y) and not any(inside(h, x, y) for h in holes) for o, holes in parts)
    return out
