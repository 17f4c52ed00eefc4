"""Masks as linear combinations of prototypes (YOLACT, section 3.3).

Letters: N instances, D prototypes, h w prototype map (its samples are called cells), H W input that the map spans,
or picture.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskwright.errors import ConfigError
from maskwright.geometry import Geometry
from maskwright.types import BoolArray, FloatArray, IntArray, Masks, Size

Upsample = Literal["masks", "logits"]
Span = tuple[int, int]

BLOCK = 1 << 17
"""Pixels of a mask that are worked out together: they stay in the processor's cache, however large the object."""

TABLE = 1 << 22
"""Weights that are kept for all masks of a picture; where there would be more each mask makes its own."""


def logits(prototypes: Tensor, coefficients: Tensor) -> Tensor:
    """(h, w, D), (N, D) to (N, h, w): the signed sums, before the sigmoid."""
    h, w, count = prototypes.shape
    return (coefficients @ prototypes.reshape(-1, count).T).view(len(coefficients), h, w)


def window(boxes: Tensor, shape: Size, span: Size, margin: float = 1.0) -> Tensor:
    """(N, h, w) bool: the cells of a map that each box (N, 4), in an input of size `span`, and a margin cover.

    A cell counts where its whole number j lies in [x1 - margin, x2 + margin), x1 and x2 in cells, not rounded; as the
    published code has it.
    """
    low, high = _reach(boxes, shape, span, margin)
    x = torch.arange(shape[1], device=boxes.device)
    y = torch.arange(shape[0], device=boxes.device)
    columns = (x >= low[:, :1].clamp(min=0)) & (x < high[:, :1].clamp(max=shape[1]))
    rows = (y >= low[:, 1:].clamp(min=0)) & (y < high[:, 1:].clamp(max=shape[0]))
    return rows[:, :, None] & columns[:, None, :]


def _reach(boxes: Tensor, shape: Size, span: Size, margin: float) -> tuple[Tensor, Tensor]:
    """(N, 2) lowest and (N, 2) highest x, y of boxes and margin, in cells."""
    cells = boxes * boxes.new_tensor([shape[1] / span[1], shape[0] / span[0]] * 2)
    return torch.minimum(cells[:, :2], cells[:, 2:]) - margin, torch.maximum(cells[:, :2], cells[:, 2:]) + margin


def soft_masks(prototypes: Tensor, coefficients: Tensor, boxes: Tensor, span: Size, margin: float = 1.0) -> Tensor:
    """(N, h, w) probabilities at the prototypes' resolution, 0 outside the box and its margin; see `window`."""
    inside = window(boxes, (prototypes.shape[0], prototypes.shape[1]), span, margin)
    return logits(prototypes, coefficients).sigmoid() * inside


# ---- on the picture -------------------------------------------------------------------------------------------------


def draw(
    prototypes: Tensor,
    coefficients: Tensor,
    boxes: Tensor,
    span: Size,
    geometry: Geometry,
    *,
    margin: float = 1.0,
    upsample: Upsample = "masks",
    threshold: float = 0.5,
) -> Masks:
    """The masks of N instances on a picture, worked out where they can be: work and memory follow the objects.

    prototypes (h, w, D) that span an input of size `span`, coefficients (N, D), boxes (N, 4) in that input, not
    clipped. geometry: the map picture -> input. margin: cells around the box in which a mask may be.
    upsample: "masks" crops the probabilities at the map's resolution and enlarges the result (YOLACT; a mask may reach
    one cell beyond box and margin); "logits" enlarges the sums and crops at the picture's resolution. Both bilinear,
    beyond the map its border. A pixel is set where its probability is above `threshold`.
    Raises ConfigError where the geometry turns or mirrors.
    """
    shape = (prototypes.shape[0], prototypes.shape[1])
    low, high = (v.double().cpu().numpy() for v in _reach(boxes.detach().float(), shape, span, margin))
    across, down = _axes(geometry, shape, span)
    columns, rows = across.windows(low[:, 0], high[:, 0], upsample), down.windows(low[:, 1], high[:, 1], upsample)
    maps, sums = (np.ascontiguousarray(v.detach().float().cpu().numpy()) for v in (prototypes, coefficients))
    level = threshold if upsample == "masks" else math.log(threshold / (1 - threshold))
    corners, crops, room = np.zeros((len(sums), 2), np.int64), [], torch.empty(max(BLOCK, geometry.source[1]))
    for corner, row, column, weights in zip(corners, rows, columns, sums, strict=True):
        values = np.matmul(maps[slice(*row.cells), slice(*column.cells)], weights)
        if upsample == "masks":
            values = torch.from_numpy(values).sigmoid_().numpy()
        above = values > level
        r, c = down.narrowed(row, above.any(axis=1)), across.narrowed(column, above.any(axis=0))
        corner[:] = r.pixels[0], c.pixels[0]
        part = torch.from_numpy(values)[r.within(row), c.within(column)]
        crops.append(_enlarged(part, down.weights(r), across.weights(c), level, room))
    return Masks(geometry.source, corners, tuple(crops))


@dataclass(frozen=True, slots=True)
class _Window:
    """Where a mask may be along one axis: the first pixel and the one after the last, and the same of cells."""

    pixels: Span
    cells: Span

    def within(self, other: "_Window") -> slice:
        """Its cells, counted from the first of `other`."""
        return slice(self.cells[0] - other.cells[0], self.cells[1] - other.cells[0])


@dataclass(frozen=True, eq=False)
class _Axis:
    """One axis of the picture.

    centre: each pixel's centre in cells. before: the cell whose middle lies before it; share: how far it is from there
    to the next one's. first: for each cell from the one before the map on, the first pixel whose `before` is not less;
    at the end the number of pixels. table: `weights` of the whole axis, where that is small.
    """

    centre: NDArray[np.float64]
    before: IntArray
    share: FloatArray
    first: IntArray
    table: Tensor | None

    @classmethod
    def of(cls, pixels: int, count: int, factor: float, shift: float) -> "_Axis":
        centre = np.asarray((np.arange(pixels) + 0.5) * factor + shift, np.float64)
        position = np.clip(centre - 0.5, 0, count - 1)
        before = position.astype(np.int64)
        share, first = (position - before).astype(np.float32), np.searchsorted(before, np.arange(-1, count + 1))
        table = _weights(before, share, 0, count) if pixels * count <= TABLE else None
        return cls(centre, before, share, first, table)

    def windows(self, low: NDArray[np.float64], high: NDArray[np.float64], upsample: Upsample) -> list[_Window]:
        """Of each instance, whose box and margin reach from `low` (N,) to `high` (N,), in cells."""
        count = len(self.first) - 2
        if upsample == "masks":
            first = np.clip(np.ceil(low), 0, count).astype(np.int64)
            last = np.maximum(np.clip(np.ceil(high), 0, count).astype(np.int64), first)
            begin = self.first[first]
            end = np.where(first < last, self.first[last + 1], begin)
        else:
            begin, end = np.searchsorted(self.centre, low), np.searchsorted(self.centre, high)
            first = self.before[np.minimum(begin, len(self.before) - 1)]
            last = np.minimum(self.before[end - 1] + 2, count)
        empty = end <= begin
        numbers = (np.where(empty, 0, v).tolist() for v in (begin, end, first, last))
        return [_Window((a, b), (c, d)) for a, b, c, d in zip(*numbers, strict=True)]

    def narrowed(self, window: _Window, above: BoolArray) -> _Window:
        """The part of it in which a pixel may be set: one that looks at a cell whose value is `above` the level."""
        (begin, end), (first, last) = window.pixels, window.cells
        if not above.any():
            return _Window((0, 0), (first, first))
        low, high = first + int(above.argmax()), last - int(above[::-1].argmax())
        begin, end = max(begin, int(self.first[low])), min(end, int(self.first[high + 1]))
        return _Window((begin, end), (max(first, low - 1), min(last, high + 1)))

    def weights(self, window: _Window) -> Tensor:
        """(pixels, cells) of the window: the bilinear weight of each cell for each pixel; none of cells outside it."""
        pixels, cells = slice(*window.pixels), slice(*window.cells)
        if self.table is not None:
            return self.table[pixels, cells]
        return _weights(self.before[pixels], self.share[pixels], cells.start, cells.stop)


def _weights(before: IntArray, share: FloatArray, first: int, last: int) -> Tensor:
    """(pixels, last - first) weights of the cells `first` to `last`, one not included, for pixels that look at them."""
    row, place = np.arange(len(before)), before - (first - 1)
    out = np.zeros((len(before), last - first + 2), np.float32)  # with one cell on either side
    out[row, place] = 1 - share
    out[row, place + 1] = share
    return torch.from_numpy(out)[:, 1:-1]


def _axes(geometry: Geometry, shape: Size, span: Size) -> tuple[_Axis, _Axis]:
    """Of x and of y."""
    m = geometry.matrix
    if m[0, 1] or m[1, 0] or m[0, 0] <= 0 or m[1, 1] <= 0:
        raise ConfigError(
            "Prototype masks are drawn through a geometry that scales and shifts; this one turns or mirrors."
        )
    height, width = geometry.source
    x, y = shape[1] / span[1], shape[0] / span[0]
    return (
        _Axis.of(width, shape[1], float(m[0, 0]) * x, float(m[0, 2]) * x),
        _Axis.of(height, shape[0], float(m[1, 1]) * y, float(m[1, 2]) * y),
    )


def _enlarged(values: Tensor, by_y: Tensor, by_x: Tensor, level: float, room: Tensor) -> BoolArray:
    """by_y (m, r) @ values (r, c) @ by_x.T (c, n) > level, some rows at a time, in the `room` for at least one.

    Some neighbouring pixels look at few cells, and only these are multiplied. Torch does it, because NumPy has threads
    of its own, which wait for those of torch.
    """
    half, width, looks = values @ by_x.T, len(by_x), by_y.numpy() != 0
    out = np.empty((len(by_y), width), np.bool_)
    step = len(room) // max(1, width)
    for top in range(0, len(by_y), step):
        last = min(top + step, len(by_y)) - 1
        cells = slice(int(looks[top].argmax()), looks.shape[1] - int(looks[last, ::-1].argmax()))
        some = by_y[top : last + 1, cells]
        product = torch.mm(some, half[cells], out=room[: len(some) * width].view(len(some), width))
        np.greater(product.numpy(), level, out=out[top : top + step])
    return out
