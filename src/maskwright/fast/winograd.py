"""3x3 convolution with a quarter of the multiplications: Winograd's F(4x4, 3x3) (Lavin and Gray 2015).

The image is cut into 6x6 windows that overlap by two. In a transformed domain the convolution of a window is 36
independent products of channel vectors with channel matrices; transformed back they are a 4x4 tile of the result.
Direct convolution multiplies 4 x 4 x 9 = 144 times for each pair of channels and tile, this 36 times. In float32 the
result is about four times as far from the exact one as that of direct convolution; the transform is too coarse for
16-bit types.

Letters: B batch, C input and O output channels, H W map, y x tiles of a map, T tiles worked on together.
"""

import functools
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from maskwright.fast.packed import GroupedProduct
from maskwright.ops import memory

TILES = 336
"""Tiles that are computed together, about: fewer would read the kernel more often, more would not fit the cache."""

BLOCK = 16
"""Output channels of a product are rounded up to whole vectors."""

POINTS = (0.0, 5 / 8, -5 / 8, 3 / 2, -3 / 2)
"""Where the polynomials behind the transform are evaluated, beside infinity. Any five do; with these the result is
more than twice as near as with the usual 0, 1, -1, 2, -2."""


@dataclass(frozen=True)
class Strip:
    """Tile rows `top` ... `top + rows` of the images `first` ... `last` of map number `of`."""

    of: int
    first: int
    last: int
    top: int
    rows: int
    tiles: int


class Winograd:
    """Same-size 3x3 convolution with bias on float32 CPU maps in channels_last memory.

    slope: negative results are multiplied by it: 0 is ReLU, 1 the identity.

    Not a module: its kernel is made from a convolution's weight, four times as large, and lies in the order that the
    processor's products want, which can be neither copied nor saved.
    """

    def __init__(self, weight: Tensor, bias: Tensor, *, slope: float = 1.0) -> None:
        self.slope, self.channels = slope, weight.shape[0]
        outputs = -(-self.channels // BLOCK) * BLOCK
        forth, kernel, back = (torch.from_numpy(np.kron(m, m)) for m in transforms())  # (36, 36), (36, 9), (16, 36)
        ones = torch.linalg.lstsq(back, torch.ones(16, 1, dtype=back.dtype), driver="gelsd").solution  # of the tile
        everywhere = torch.zeros((36, outputs))
        everywhere[:, : self.channels] = (ones * bias.detach().double()).float()
        self.product = GroupedProduct(functools.partial(_matrices, kernel, weight.detach(), outputs), everywhere)
        self.forth, self.back = forth.float(), back.float()

    def __call__(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, O, H, W)."""
        return self.each([x])[0]

    def each(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """The same for several maps, of any sizes; small ones share products, which is faster than one by one."""
        inputs = [m.permute(0, 2, 3, 1) for m in maps]  # (B, H, W, C)
        outputs = [memory.empty((*m.shape[:3], self.channels), m.dtype) for m in inputs]
        for strips in together(strip for i, m in enumerate(inputs) for strip in cut(i, *m.shape[:3])):
            windows = inputs[0].new_empty((sum(s.tiles for s in strips), 36, inputs[0].shape[3]))
            parts = [s.tiles for s in strips]
            for strip, part in zip(strips, windows.split(parts), strict=True):
                gather(inputs[strip.of], strip, part)
            for strip, part in zip(strips, self.products(windows).split(parts), strict=True):
                self._scatter(part, strip, outputs[strip.of])
        return [m.permute(0, 3, 1, 2) for m in outputs]

    def products(self, windows: Tensor) -> Tensor:
        """Windows (T, 36, C) to result tiles (T, 16, O rounded up)."""
        count = len(windows)
        forth = torch.bmm(self.forth.expand(count, 36, 36), windows)  # (T, 36, C)
        return torch.bmm(self.back.expand(count, 16, 36), self.product(forth))

    def _scatter(self, tiles: Tensor, strip: Strip, out: Tensor) -> None:
        """Tiles (T, 16, O rounded up) to their cells of `out` (B, H, W, O); those over its edge are cut."""
        target = out[strip.first : strip.last, 4 * strip.top : 4 * (strip.top + strip.rows)]
        b, height, width = target.shape[:3]
        tiles = tiles.view(b, strip.rows, -1, 4, 4, tiles.shape[2])[..., : self.channels]  # (b, y, x, 4, 4, O)
        for y, down in _whole_and_rest(height):
            for x, across in _whole_and_rest(width):
                place = target[
                    :, 4 * y.start : 4 * y.start + len(y) * down, 4 * x.start : 4 * x.start + len(x) * across
                ]
                place = place.unflatten(1, (len(y), down)).unflatten(3, (len(x), across)).transpose(2, 3)
                part = tiles[:, y.start : y.stop, x.start : x.stop, :down, :across]
                if self.slope == 0:
                    torch.clamp_min(part, 0, out=place)
                else:
                    place.copy_(part if self.slope == 1 else F.leaky_relu(part, self.slope))


def _matrices(kernel: Tensor, weight: Tensor, outputs: int) -> Tensor:
    """kernel (36, 9), (O, C, 3, 3) to the 36 matrices (36, O rounded up, C); computed in float64."""
    count, inputs = weight.shape[:2]
    padded = torch.zeros((36, outputs, inputs))
    for rows in torch.arange(count).split(BLOCK):  # some at a time: in float64 all would be large
        values = kernel @ weight[rows].double().flatten(2).permute(2, 0, 1).flatten(1)  # (36, rows * C)
        padded[:, rows] = values.view(36, len(rows), inputs).float()
    return padded


def transforms() -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Along one axis: of an input window (6, 6), of the kernel (6, 3), and back to a tile (4, 6).

    The sliding product of six values with three is the transposed product of two polynomials (Toom and Cook): both
    are evaluated at the points, multiplied there, and brought back by Lagrange's interpolation.
    """
    points = np.array(POINTS)
    others = [np.delete(points, i) for i in range(len(points))]
    apart = np.array([np.prod(p - rest) for p, rest in zip(points, others, strict=True)])
    forth, kernel, back = np.zeros((6, 6)), np.zeros((6, 3)), np.zeros((4, 6))
    for i, rest in enumerate(others):
        forth[i, :5] = np.poly(rest)[::-1]
    forth[5] = np.poly(points)[::-1]
    kernel[:5] = np.vander(points, 3, increasing=True) / apart[:, None]
    back[:, :5] = np.vander(points, 4, increasing=True).T
    kernel[5, 2] = back[3, 5] = 1  # at infinity: the leading coefficients
    return forth, kernel, back


def cut(of: int, count: int, height: int, width: int) -> Iterator[Strip]:
    """Strips of a map, (B, H, W), of about `TILES` tiles at most: several small images, or rows of a large one."""
    y, x = -(-height // 4), -(-width // 4)
    if y * x <= TILES:
        images = max(1, TILES // max(y * x, 1))
        for first in range(0, count, images):
            last = min(first + images, count)
            yield Strip(of, first, last, 0, y, (last - first) * y * x)
        return
    rows = -(-y // -(-y * x // TILES))
    for first, top in itertools.product(range(count), range(0, y, rows)):
        high = min(rows, y - top)
        yield Strip(of, first, first + 1, top, high, high * x)


def together(strips: Iterator[Strip]) -> Iterator[list[Strip]]:
    """Neighbours joined as long as they have no more than `TILES` tiles."""
    joined: list[Strip] = []
    for strip in strips:
        if joined and sum(s.tiles for s in joined) + strip.tiles > TILES:
            yield joined
            joined = []
        joined.append(strip)
    if joined:
        yield joined


def gather(maps: Tensor, strip: Strip, windows: Tensor) -> None:
    """The 6x6 windows of a strip of `maps` (B, H, W, C), zero outside it, into `windows` (T, 36, C)."""
    maps = maps[strip.first : strip.last]
    b, height, width, channels = maps.shape
    x, top = -(-width // 4), 4 * strip.top
    padded = maps.new_zeros((b, 4 * strip.rows + 2, 4 * x + 2, channels))
    above, below = max(top - 1, 0), min(top + 4 * strip.rows + 1, height)
    padded[:, above - top + 1 : below - top + 1, 1 : width + 1] = maps[:, above:below]
    s = padded.stride()
    shape, steps = (b, strip.rows, x, 6, 6, channels), (s[0], 4 * s[1], 4 * s[2], s[1], s[2], 1)
    windows.view(shape).copy_(padded.as_strided(shape, steps))


def _whole_and_rest(cells: int) -> list[tuple[range, int]]:
    """Tile numbers along an axis and how many cells of each count: whole tiles, then the cut one if there is one."""
    whole, rest = divmod(cells, 4)
    parts = [(range(whole), 4), (range(whole, whole + 1), rest)]
    return [(tiles, kept) for tiles, kept in parts if len(tiles) and kept]
