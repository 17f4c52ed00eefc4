"""Soft maps enlarged bilinearly and cut at a level, tile by tile of the image: only mixed tiles are work.

Letters: N maps, r c rows and columns of a map (its samples are called cells), T tiles, a b height and width of a tile
in pixels, k l most rows and columns of cells that the pixels of a tile look at.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskwright.types import BoolArray, FloatArray, IntArray, Size

TILE: Size = (32, 64)
"""Rows and columns of pixels at most: larger tiles are seldom all one value, and smaller ones are many."""

SHORT, LOOKS = 8, 8
"""A side has fewer pixels, but not fewer than SHORT, where more would look at more cells than LOOKS."""

CACHED = 256
"""Tiles that are worked out together: larger numbers leave the processor's cache, smaller ones are more calls."""


@dataclass(frozen=True, eq=False)
class Axis:
    """One axis of an image over the cells of a map; the centre of cell j lies at j + 0.5 cells.

    centre: each pixel's centre in cells. before: the cell whose middle lies before it, or the map's first. first: for
    each cell from the one before the map on, the first pixel whose `before` is not less; at the end the number of
    pixels. Of the tiles: `side` pixels each; start: the first cell that each looks at; weights: (tiles, side, k), how
    much each pixel takes of each cell from there on, 0 for pixels behind the last.
    """

    centre: NDArray[np.float64]
    before: IntArray
    first: IntArray
    side: int
    start: IntArray
    weights: FloatArray

    @classmethod
    def of(cls, pixels: int, count: int, factor: float, shift: float, side: int) -> "Axis":
        """Of an image whose pixel p lies at (p + 0.5) * factor + shift in a map of `count` cells; at most `side`."""
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
        """The most cells that the pixels of a tile look at."""
        return int(self.weights.shape[2])

    def tiles(self, begin: IntArray, end: IntArray) -> IntArray:
        """How many tiles have a pixel of the spans from `begin` to `end`, the latter not included."""
        return np.asarray(-(-end // self.side) - begin // self.side)


@dataclass(frozen=True, eq=False)
class Place:
    """Where each of N maps may be above the level on the image: spans of rows and columns (N, 2) of its pixels."""

    rows: IntArray
    columns: IntArray

    def tiles(self, down: Axis, across: Axis) -> "Tiles":
        """Those that have a pixel of it."""
        top, left = self.rows[:, 0] // down.side, self.columns[:, 0] // across.side
        m, n = down.tiles(*self.rows.T), across.tiles(*self.columns.T)
        first = np.cumsum(m * n) - m * n
        which = np.repeat(np.arange(len(m)), m * n)
        i, j = np.divmod(np.arange(len(which)) - first[which], n[which])
        return Tiles(top, left, m, n, first, which, top[which] + i, left[which] + j)


@dataclass(frozen=True, eq=False)
class Tiles:
    """The tiles of N places, those of one after those of the other, row after row.

    top, left: first tile row and column of each place; m, n: their numbers; first: which tile is its first. which, y,
    x: (T,) the map, tile row and tile column of each tile.
    """

    top: IntArray
    left: IntArray
    m: IntArray
    n: IntArray
    first: IntArray
    which: IntArray
    y: IntArray
    x: IntArray


def cut(maps: Tensor, corners: IntArray, place: Place, down: Axis, across: Axis, level: float) -> Iterator[BoolArray]:
    """Of each map, the pixels of its `place` whose value is above `level`.

    maps (N, r, c): windows of maps that are 0 elsewhere; corners (N, 2): their first rows and columns.
    """
    tiles = place.tiles(down, across)
    first = np.stack([down.start[tiles.y], across.start[tiles.x]], 1) - corners[tiles.which]
    patches = _patches(maps, tiles.which, first, (down.looks, across.looks))
    bits = np.zeros((len(tiles.y), down.side, across.side), np.bool_)
    if len(bits):
        lowest, highest = patches.amin((1, 2)).numpy(), patches.amax((1, 2)).numpy()
        full = lowest > level
        bits[full] = True
        mixed = np.flatnonzero((highest > level) & ~full)
        mixed = mixed[np.argsort(tiles.x[mixed], kind="stable")]
        # Small products on one thread: waking others for each takes longer, and NumPy's are the faster ones.
        halves = np.empty((CACHED, down.looks, across.side), np.float32)
        values = np.empty((CACHED, down.side, across.side), np.float32)
        for some, x in _runs(mixed, tiles.x[mixed]):
            half = np.matmul(patches.numpy()[some], across.weights[x].T, out=halves[: len(some)])
            bits[some] = np.matmul(down.weights[tiles.y[some]], half, out=values[: len(some)]) > level
    yield from _crops(bits, tiles, place)


def _crops(bits: BoolArray, tiles: Tiles, place: Place) -> Iterator[BoolArray]:
    """The pixels of each place, of the bits (T, a, b) of all tiles."""
    _, a, b = bits.shape
    corners, sizes = np.stack([tiles.first, tiles.top * a, tiles.left * b], 1), np.stack([tiles.m, tiles.n], 1)
    for (t, y, x), (m, n), (top, bottom), (left, right) in zip(
        corners.tolist(), sizes.tolist(), place.rows.tolist(), place.columns.tolist(), strict=True
    ):
        whole = bits[t : t + m * n].reshape(m, n, a, b).swapaxes(1, 2).reshape(m * a, n * b)
        yield whole[top - y : bottom - y, left - x : right - x].copy()


def _runs(tiles: IntArray, x: IntArray) -> Iterator[tuple[IntArray, int]]:
    """Of tiles in the order of their columns x, at most `CACHED` of one column, and the column."""
    ends = np.flatnonzero(np.diff(x, append=-1)) + 1
    first = 0
    for end in ends.tolist():
        for begin in range(first, end, CACHED):
            yield tiles[begin : min(begin + CACHED, end)], int(x[begin])
        first = end


def _patches(maps: Tensor, which: IntArray, first: IntArray, shape: Size) -> Tensor:
    """(T, k, l) of maps (N, r, c), from rows and columns `first` (T, 2) on; 0 outside of them."""
    padded = torch.nn.functional.pad(maps, (1, 1, 1, 1))
    _, height, width = padded.shape
    rows = np.clip(first[:, :1] + np.arange(shape[0]) + 1, 0, height - 1) + which[:, None] * height
    columns = np.clip(first[:, 1:] + np.arange(shape[1]) + 1, 0, width - 1)
    return padded.view(-1).take(torch.from_numpy(rows * width)[:, :, None] + torch.from_numpy(columns)[:, None, :])
