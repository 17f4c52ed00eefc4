"""Slow, obvious twin of the search of `ops.block_motion`: block by block, displacement by displacement."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def searched(now: Array, before: Array, start: Array, reach: int, cell: int, prefer: float) -> Array:
    """The least cost (h, w) of any whole displacement within `reach` of the start (h, w, 2), x before y."""
    height, width = now.shape
    h, w = -(-height // cell), -(-width // cell)
    out = np.full((h, w), np.inf)
    for dy in range(-reach, reach + 1):
        for dx in range(-reach, reach + 1):
            own = np.zeros((h, w))
            for i in range(h):
                for j in range(w):
                    total = 0.0
                    for y in range(i * cell, i * cell + cell):
                        for x in range(j * cell, j * cell + cell):
                            row, column = min(y, height - 1), min(x, width - 1)
                            cy, cx = row // cell, column // cell
                            there = row + int(start[cy, cx, 1]) + dy, column + int(start[cy, cx, 0]) + dx
                            at = np.clip(there[0], 0, height - 1), np.clip(there[1], 0, width - 1)
                            total += abs(now[row, column] - before[at])
                    own[i, j] = total / cell**2
            for i in range(h):
                for j in range(w):
                    around = own[max(0, i - 1) : i + 2, max(0, j - 1) : j + 2]
                    out[i, j] = min(out[i, j], around.mean() + prefer * np.hypot(dx, dy))
    return out
