"""Masks as linear combinations of prototypes (YOLACT, section 3.3).

Letters: N instances, D prototypes, h w prototype map (its samples are called cells), H W input that the map spans,
or image.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskwright.errors import ConfigError
from maskwright.geometry import Geometry
from maskwright.ops.enlarge import TILE, Axis, cut
from maskwright.types import BoolArray, IntArray, Masks, Size

Upsample = Literal["masks", "logits"]

CELLS, TILES = 1 << 20, 1 << 12
"""Largest number of window cells and of tiles computed together, which limits memory; a single mask may exceed it."""

WHOLE, GATHERED = 16, 1 << 16
"""Windows larger than 1 / WHOLE of the map are cut from sums over the whole map; for smaller ones the prototypes of
GATHERED cells at a time are gathered and summed."""


def logits(prototypes: Tensor, coefficients: Tensor) -> Tensor:
    """(h, w, D), (N, D) to (N, h, w): the linear combinations, before the sigmoid."""
    h, w, count = prototypes.shape
    return (coefficients @ prototypes.reshape(-1, count).T).view(len(coefficients), h, w)


def window(boxes: Tensor, shape: Size, span: Size, margin: float = 1.0) -> Tensor:
    """(N, h, w) bool: the cells of a map of `shape` (h, w) inside each box, plus a margin in cells.

    boxes: (N, 4) in pixels of the input of size `span`. A cell is inside if its index j lies in
    [x1 - margin, x2 + margin) with x1 and x2 in cells, not rounded, as in the published code.
    """
    low, high = reach(boxes, shape, span, margin)
    x = torch.arange(shape[1], device=boxes.device)
    y = torch.arange(shape[0], device=boxes.device)
    columns = (x >= low[:, :1].clamp(min=0)) & (x < high[:, :1].clamp(max=shape[1]))
    rows = (y >= low[:, 1:].clamp(min=0)) & (y < high[:, 1:].clamp(max=shape[0]))
    return rows[:, :, None] & columns[:, None, :]


def reach(boxes: Tensor, shape: Size, span: Size, margin: float) -> tuple[Tensor, Tensor]:
    """(N, 2) smallest and (N, 2) largest x, y of the boxes plus margin, in cells."""
    cells = boxes * boxes.new_tensor([shape[1] / span[1], shape[0] / span[0]] * 2)
    return torch.minimum(cells[:, :2], cells[:, 2:]) - margin, torch.maximum(cells[:, :2], cells[:, 2:]) + margin


def soft_masks(prototypes: Tensor, coefficients: Tensor, boxes: Tensor, span: Size, margin: float = 1.0) -> Tensor:
    """(N, h, w) probabilities at the prototypes' resolution, 0 outside the box plus margin; arguments as in `draw`."""
    inside = window(boxes, (prototypes.shape[0], prototypes.shape[1]), span, margin)
    return logits(prototypes, coefficients).sigmoid() * inside


# ---- on the image -------------------------------------------------------------------------------------------------


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
    """The masks of N instances on the image, computed only inside their boxes: work and memory follow the objects.

    prototypes: (h, w, D), spanning the input of size `span`. coefficients: (N, D). boxes: (N, 4) in pixels of that
    input, not clipped. geometry: image -> input. margin: cells around the box in which a mask may lie.
    upsample: "masks" crops the probabilities at the map's resolution and upsamples the result (YOLACT; a mask may reach
    one cell beyond box and margin); "logits" upsamples the sums and crops at the image's resolution. Both bilinear,
    with the map's border repeated. A pixel is set where its probability is > `threshold`.
    Raises ConfigError for a geometry that rotates or mirrors.
    """
    shape = (prototypes.shape[0], prototypes.shape[1])
    low, high = (v.double().cpu().numpy() for v in reach(boxes.detach().float(), shape, span, margin))
    across, down = _axes(geometry, shape, span)
    columns, rows = _windows(across, low[:, 0], high[:, 0], upsample), _windows(down, low[:, 1], high[:, 1], upsample)
    maps, sums = prototypes.detach().float().cpu(), coefficients.detach().float().cpu()
    level = threshold if upsample == "masks" else math.log(threshold / (1 - threshold))
    corners, crops = np.zeros((len(sums), 2), np.int64), [np.zeros((0, 0), np.bool_)] * len(sums)
    for some in _alike(rows, columns, down, across):
        r, c = rows.of(some), columns.of(some)
        values = _sums(maps, sums[torch.from_numpy(some)], r, c)
        if upsample == "masks":
            values.sigmoid_()
        outside = torch.from_numpy(~(r.inside[:, :, None] & c.inside[:, None, :]))
        values.masked_fill_(outside, 0.0 if upsample == "masks" else level)  # neither is above the level
        above: BoolArray = values.numpy() > level
        pixel_rows, pixel_columns = r.narrowed(down, above, 2), c.narrowed(across, above, 1)
        corners[some] = np.stack([pixel_rows[:, 0], pixel_columns[:, 0]], 1)
        drawn = cut(values, np.stack([r.first, c.first], 1), pixel_rows, pixel_columns, down, across, level)
        for k, crop in zip(some.tolist(), drawn, strict=True):
            crops[k] = crop
    return Masks(geometry.source, corners, tuple(crops))


def _alike(rows: "_Windows", columns: "_Windows", down: Axis, across: Axis) -> Iterator[IntArray]:
    """Yield groups of instances with windows of similar size, limited by CELLS and TILES, to be drawn together."""
    height, width = rows.last - rows.first, columns.last - columns.first
    cells, tiles = height * width, down.tiles(rows.begin, rows.end) * across.tiles(columns.begin, columns.end)
    order = np.lexsort((width, height))
    first, most, total = 0, 0, 0
    for k, j in enumerate(order.tolist()):
        most, total = max(most, int(cells[j])), total + int(tiles[j])
        if k > first and (most * (k - first) > CELLS or total > TILES):
            yield order[first:k]
            first, most, total = k, int(cells[j]), int(tiles[j])
    if len(order):
        yield order[first:]


def _sums(prototypes: Tensor, coefficients: Tensor, rows: "_Windows", columns: "_Windows") -> Tensor:
    """(N, r, c) linear combinations of (h, w, D) prototypes in N windows, padded to the largest window.

    Large windows are cut from sums over the whole map; for small ones only the prototypes inside are summed.
    """
    h, w, count = prototypes.shape
    if rows.largest * columns.largest * WHOLE < h * w:
        y = np.minimum(rows.first[:, None] + np.arange(rows.largest), h - 1)
        x = np.minimum(columns.first[:, None] + np.arange(columns.largest), w - 1)
        places = torch.from_numpy(y * w)[:, :, None] + torch.from_numpy(x)[:, None, :]
        flat, step = prototypes.reshape(-1, count), max(1, GATHERED // max(1, rows.largest * columns.largest))
        pairs = zip(places.flatten(1).split(step), coefficients[:, :, None].split(step), strict=True)
        parts = [flat.index_select(0, at.flatten()).view(*at.shape, count) @ weights for at, weights in pairs]
        return torch.cat(parts).view(places.shape)
    out = np.zeros((len(coefficients), rows.largest, columns.largest), np.float32)
    sides = (rows.first, rows.last, columns.first, columns.last)
    for window, whole, (y1, y2, x1, x2) in zip(
        out, logits(prototypes, coefficients).numpy(), np.stack(sides, 1).tolist(), strict=True
    ):
        window[: y2 - y1, : x2 - x1] = whole[y1:y2, x1:x2]
    return torch.from_numpy(out)


@dataclass(frozen=True, eq=False)
class _Windows:
    """Half-open spans along an axis in which N masks may lie, each (N,): begin, end in pixels; first, last in cells."""

    begin: IntArray
    end: IntArray
    first: IntArray
    last: IntArray

    def of(self, some: IntArray) -> "_Windows":
        return _Windows(self.begin[some], self.end[some], self.first[some], self.last[some])

    @property
    def largest(self) -> int:
        """Number of cells of the longest span."""
        return int((self.last - self.first).max(initial=0))

    @property
    def inside(self) -> BoolArray:
        """(N, largest) bool: which of the cells from `first` on belong to the window."""
        return np.asarray(np.arange(self.largest) < (self.last - self.first)[:, None])

    def narrowed(self, axis: Axis, above: BoolArray, other: int) -> IntArray:
        """(N, 2) the pixel spans that read at least one cell that is `above` (N, r, c) the threshold.

        other: the dimension of `above` that belongs to the other axis.
        """
        lines = np.asarray(above.any(axis=other), np.bool_)
        if not lines.size:
            return np.zeros((len(lines), 2), np.int64)
        low, high = self.first + lines.argmax(1), self.first + lines.shape[1] - lines[:, ::-1].argmax(1)
        high = np.minimum(high, self.last)  # matters only where no cell is above
        begin, end = np.maximum(self.begin, axis.first[low]), np.minimum(self.end, axis.first[high + 1])
        return np.where(lines.any(axis=1, keepdims=True), np.stack([begin, end], 1), 0)


def _windows(axis: Axis, low: NDArray[np.float64], high: NDArray[np.float64], upsample: Upsample) -> _Windows:
    """The windows of instances whose box plus margin spans [low, high), both (N,), in cells."""
    count = len(axis.first) - 2
    if upsample == "masks":
        first = np.clip(np.ceil(low), 0, count).astype(np.int64)
        last = np.maximum(np.clip(np.ceil(high), 0, count).astype(np.int64), first)
        begin = axis.first[first]
        end = np.where(first < last, axis.first[last + 1], begin)
    else:
        begin, end = np.searchsorted(axis.centre, low), np.searchsorted(axis.centre, high)
        first = axis.before[np.minimum(begin, len(axis.before) - 1)]
        last = np.minimum(axis.before[end - 1] + 2, count)
    empty = end <= begin
    return _Windows(*(np.where(empty, 0, v) for v in (begin, end, first, last)))


def _axes(geometry: Geometry, shape: Size, span: Size) -> tuple[Axis, Axis]:
    """The axes of x and y."""
    m = geometry.matrix
    if m[0, 1] or m[1, 0] or m[0, 0] <= 0 or m[1, 1] <= 0:
        raise ConfigError(
            "Prototype masks need a geometry that only scales and shifts; this one rotates, shears or mirrors."
        )
    height, width = geometry.source
    x, y = shape[1] / span[1], shape[0] / span[0]
    return (
        Axis.of(width, shape[1], float(m[0, 0]) * x, float(m[0, 2]) * x, TILE[1]),
        Axis.of(height, shape[0], float(m[1, 1]) * y, float(m[1, 2]) * y, TILE[0]),
    )
