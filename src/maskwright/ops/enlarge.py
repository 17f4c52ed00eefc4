"""Maps upsampled bilinearly and thresholded tile by tile: only tiles on an object's border are interpolated.

A tile whose cells all lie above the threshold, or all below, is known without interpolation.

Letters: N maps, r c rows and columns of a map (its samples are called cells), T tiles, a b height and width of a tile
in pixels, k l largest number of rows and columns of cells that the pixels of a tile read.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskwright.types import BoolArray, FloatArray, IntArray, Size

TILE: Size = (32, 64)
"""Largest rows and columns of pixels: larger tiles are rarely uniform, smaller ones cost more overhead."""

SHORT, LOOKS = 8, 8
"""A tile is shortened, down to SHORT pixels, so that its pixels read at most about LOOKS cells."""

CACHED = 256
"""Tiles computed in one product: more would not fit the processor's cache, fewer would mean more calls."""


@dataclass(frozen=True, eq=False)
class Axis:
    """One axis of an image and its bilinear weights on the cells of a map; the centre of cell j lies at j + 0.5 cells.

    centre: (pixels,) each pixel's centre, in cells. before: (pixels,) the cell at or before that centre, clamped to
    the map. first: (cells + 2,) for each cell from -1 on, the first pixel whose `before` is not less; the last value
    is the number of pixels. side: pixels per tile. start: (tiles,) the first cell that a tile reads. weights:
    (tiles, side, k) of each pixel on the cells from `start` on, 0 for pixels beyond the image.
    """

    centre: NDArray[np.float64]
    before: IntArray
    first: IntArray
    side: int
    start: IntArray
    weights: FloatArray

    @classmethod
    def of(cls, pixels: int, count: int, factor: float, shift: float, side: int) -> "Axis":
        """The axis whose pixel p has its centre at (p + 0.5) * factor + shift of a map of `count` cells.

        side: largest number of pixels per tile.
        """
        centre = np.asarray((np.arange(pixels) + 0.5) * factor + shift, np.float64)
        side = min(side, max(SHORT, int(LOOKS / factor)))
        position = np.clip(centre - 0.5, 0, count - 1)
        before = position.astype(np.int64)
        first = np.searchsorted(before, np.arange(-1, count + 1))
        start = before[::side]
        row, tile = np.arange(pixels), np.arange(pixels) // side
        place = before - start[tile]
        weights = np.zeros((len(start) * side, int(place.max(initial=0)) + 2), np.float32)
        weights[row, place + 1] = position - before
        weights[row, place] = 1 - weights[row, place + 1]
        return cls(centre, before, first, side, start, weights.reshape(len(start), side, -1))

    @property
    def looks(self) -> int:
        """The largest number of cells that the pixels of a tile read, k or l."""
        return int(self.weights.shape[2])

    def tiles(self, begin: IntArray, end: IntArray) -> IntArray:
        """The number of tiles that the pixel spans [begin, end) touch."""
        return np.asarray(-(-end // self.side) - begin // self.side)


def cut(
    maps: Tensor, corners: IntArray, rows: IntArray, columns: IntArray, down: Axis, across: Axis, level: float
) -> Iterator[BoolArray]:
    """Yield for each map the bool pixels in a window of the image: True where the interpolated value is above `level`.

    maps: (N, r, c) windows of larger maps that are 0 elsewhere. corners: (N, 2) first row and column of each of those.
    rows, columns: (N, 2) half-open pixel spans of the windows of the image.
    """
    grids, which, y, x = _tiles(rows, columns, down, across)
    first = np.stack([down.start[y], across.start[x]], 1) - corners[which]
    patches = _patches(maps, which, first, (down.looks, across.looks))
    bits = np.zeros((len(y), down.side, across.side), np.bool_)
    if len(bits):
        lowest, highest = patches.amin((1, 2)).numpy(), patches.amax((1, 2)).numpy()
        full = lowest > level
        bits[full] = True
        mixed = np.flatnonzero((highest > level) & ~full)
        mixed = mixed[np.argsort(x[mixed], kind="stable")]
        # NumPy, because small products on one thread are faster than waking torch's threads for each.
        halves = np.empty((CACHED, down.looks, across.side), np.float32)
        values = np.empty((CACHED, down.side, across.side), np.float32)
        for some, column in _runs(mixed, x[mixed]):
            half = np.matmul(patches.numpy()[some], across.weights[column].T, out=halves[: len(some)])
            bits[some] = np.matmul(down.weights[y[some]], half, out=values[: len(some)]) > level
    yield from _windows(bits, grids, rows, columns)


def _tiles(
    rows: IntArray, columns: IntArray, down: Axis, across: Axis
) -> tuple[IntArray, IntArray, IntArray, IntArray]:
    """The tiles that N windows touch, window by window and row by row.

    Returns the grid of each window, (N, 5): index of its first tile, first tile row and column, numbers of tile rows
    and columns; and of each tile, (T,) each, its window, tile row and tile column.
    """
    top, left = rows[:, 0] // down.side, columns[:, 0] // across.side
    m, n = down.tiles(*rows.T), across.tiles(*columns.T)
    first = np.cumsum(m * n) - m * n
    which = np.repeat(np.arange(len(m)), m * n)
    i, j = np.divmod(np.arange(len(which)) - first[which], n[which])
    return np.stack([first, top, left, m, n], 1), which, top[which] + i, left[which] + j


def _windows(bits: BoolArray, grids: IntArray, rows: IntArray, columns: IntArray) -> Iterator[BoolArray]:
    """Yield the pixels of each window, joined from the bits (T, a, b) of all tiles."""
    _, a, b = bits.shape
    for (t, y, x, m, n), (top, bottom), (left, right) in zip(
        grids.tolist(), rows.tolist(), columns.tolist(), strict=True
    ):
        whole = bits[t : t + m * n].reshape(m, n, a, b).swapaxes(1, 2).reshape(m * a, n * b)
        yield whole[top - y * a : bottom - y * a, left - x * b : right - x * b].copy()


def _runs(tiles: IntArray, x: IntArray) -> Iterator[tuple[IntArray, int]]:
    """Yield batches of at most `CACHED` tiles of one tile column, and that column; `tiles` are sorted by column x."""
    ends = np.flatnonzero(np.diff(x, append=-1)) + 1
    first = 0
    for end in ends.tolist():
        for begin in range(first, end, CACHED):
            yield tiles[begin : min(begin + CACHED, end)], int(x[begin])
        first = end


def _patches(maps: Tensor, which: IntArray, first: IntArray, shape: Size) -> Tensor:
    """(T, k, l) patches of maps (N, r, c) from row and column `first` (T, 2) on; 0 outside the maps."""
    padded = torch.nn.functional.pad(maps, (1, 1, 1, 1))
    _, height, width = padded.shape
    rows = np.clip(first[:, :1] + np.arange(shape[0]) + 1, 0, height - 1) + which[:, None] * height
    columns = np.clip(first[:, 1:] + np.arange(shape[1]) + 1, 0, width - 1)
    return padded.view(-1).take(torch.from_numpy(rows * width)[:, :, None] + torch.from_numpy(columns)[:, None, :])
