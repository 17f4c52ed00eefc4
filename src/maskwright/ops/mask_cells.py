"""Ground-truth masks sampled at single cells of a coarse map that spans the whole input.

A cell belongs to a mask where the mask, resized bilinearly to the map (`align_corners=False`, not antialiased), is
> 0.5, as in YOLACT. Only requested cells are computed: work and memory follow cells and crops, not the image.

Letters: N objects of all images, T requested cells, h w map (`shape`), H W input (`span`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from maskwright.ops.prototypes import reach
from maskwright.types import Masks, Size


@dataclass(frozen=True, eq=False)
class Rectangles:
    """Half-open rectangles of map cells, one per object: the first row and column, and the ends, (N, 2) int64 each."""

    first: Tensor
    end: Tensor

    @classmethod
    def around(cls, boxes: Tensor, shape: Size, span: Size, margin: float = 1.0) -> "Rectangles":
        """The rectangles of `ops.prototypes.window` for boxes (N, 4) in pixels of the input."""
        limit = torch.tensor(shape, device=boxes.device)
        low, high = reach(boxes, shape, span, margin)
        return cls(*(torch.minimum(edge.flip(1).clamp(min=0).ceil().long(), limit) for edge in (low, high)))

    def __getitem__(self, rows: Tensor) -> "Rectangles":
        return Rectangles(self.first[rows], self.end[rows])

    @property
    def areas(self) -> Tensor:
        """(N,) numbers of cells."""
        return (self.end - self.first).clamp(min=0).prod(dim=1)

    def __or__(self, other: "Rectangles") -> "Rectangles":
        """The smallest rectangles that contain both; empty ones are ignored."""
        mine, theirs = (self.areas > 0)[:, None], (other.areas > 0)[:, None]
        first, end = torch.minimum(self.first, other.first), torch.maximum(self.end, other.end)
        return Rectangles(
            torch.where(mine & theirs, first, torch.where(theirs, other.first, self.first)),
            torch.where(mine & theirs, end, torch.where(theirs, other.end, self.end)),
        )

    def cells(self) -> tuple[Tensor, Tensor, Tensor]:
        """Object, row and column of every cell, (T,) each: object by object, row by row."""
        areas, (top, left) = self.areas, self.first.unbind(1)
        which = torch.repeat_interleave(areas)
        inside = torch.arange(len(which), device=areas.device) - (areas.cumsum(0) - areas)[which]
        width = (self.end[:, 1] - left)[which]
        down = torch.div(inside, width, rounding_mode="floor")
        return which, top[which] + down, left[which] + inside - down * width

    def hold(self, which: Tensor, row: Tensor, column: Tensor) -> Tensor:
        """(T,) bool: cells that lie inside the rectangle of their object."""
        (top, left), (bottom, right) = self.first.unbind(1), self.end.unbind(1)
        return (row >= top[which]) & (row < bottom[which]) & (column >= left[which]) & (column < right[which])


class MaskCells:
    """The mask crops of several images, in input pixels, in one flat buffer, each with a border of zeros around it."""

    def __init__(self, masks: Sequence[Masks], device: torch.device) -> None:
        crops = [crop for one in masks for crop in one.bitmaps]
        corners = np.concatenate([np.zeros((0, 2), np.int64), *(one.corners for one in masks)])
        sides = np.array([crop.shape for crop in crops], np.int64).reshape(-1, 2)
        ends = np.cumsum((sides + 2).prod(axis=1))
        pixels = np.zeros(int(ends[-1]) if len(ends) else 0, np.uint8)
        for crop, (h, w), end in zip(crops, sides.tolist(), ends.tolist(), strict=True):
            pixels[end - (h + 2) * (w + 2) : end].reshape(h + 2, w + 2)[1:-1, 1:-1] = crop
        self.pixels = torch.from_numpy(pixels).to(device)
        starts = ends - (sides + 2).prod(axis=1)
        self.starts, self.corners, self.sides = (torch.from_numpy(a).to(device) for a in (starts, corners, sides))

    def __len__(self) -> int:
        return len(self.starts)

    def extents(self, shape: Size, span: Size) -> Rectangles:
        """The cells that may belong to each mask: those whose centre lies in its crop."""
        limit = torch.tensor(shape, device=self.corners.device)
        scale = limit.double() / limit.new_tensor(span)
        low, high = self.corners.double() * scale - 0.5, (self.corners + self.sides).double() * scale - 0.5
        first = torch.ceil(low - 1e-3).long().clamp(min=0)
        return Rectangles(first, torch.minimum(torch.floor(high + 1e-3).long() + 1, limit))

    def at(self, which: Tensor, row: Tensor, column: Tensor, shape: Size, span: Size) -> Tensor:
        """(T,) bool: whether cell (row, column) belongs to the mask of object `which`."""
        (near_y, far_y), share_y = self._taps(which, row, 0, shape, span)
        (near_x, far_x), share_x = self._taps(which, column, 1, shape, span)
        stride, start = self.sides[which, 1] + 2, self.starts[which]
        upper, lower = near_y * stride + start, far_y * stride + start
        above = self._pixel(upper + near_x) * (1 - share_x) + self._pixel(upper + far_x) * share_x
        below = self._pixel(lower + near_x) * (1 - share_x) + self._pixel(lower + far_x) * share_x
        return above * (1 - share_y) + below * share_y > 0.5

    def _taps(self, which: Tensor, cell: Tensor, axis: int, shape: Size, span: Size) -> tuple[list[Tensor], Tensor]:
        """The two pixels around each cell's centre along an axis, in the bordered crop, and the second one's weight."""
        middle = torch.arange(shape[axis], dtype=torch.float32, device=cell.device) + 0.5
        position = (middle * np.float32(span[axis] / shape[axis]).item() - 0.5).clamp(min=0)
        near = position.long().clamp(max=span[axis] - 1)
        far = (near + 1).clamp(max=span[axis] - 1)
        first, last = self.corners[which, axis] - 1, self.sides[which, axis] + 1
        return [torch.minimum((tap[cell] - first).clamp(min=0), last) for tap in (near, far)], (position - near)[cell]

    def _pixel(self, index: Tensor) -> Tensor:
        return self.pixels[index].float()
