"""How a region of interest is read, as numbers to look at: the bins of RoIAlign and RoIPool, or the crop of R-CNN.

Letters: S pooled side, h w cells of a feature map. Cell j covers [j, j+1); input pixels divided by the stride are such
cells.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from maskwright.models.rcnn.reader import CropWarp, Pooler
from maskwright.types import FloatArray, ImageArray, InputSpec

Positions = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Pooling:
    """Where RoIAlign reads a box, and what RoIPool takes.

    kind: which of them the model has, "align" or "pool". level, levels: which map, of how many. stride: input pixels of
    a cell. side: S. box: (4,) in cells. x, y: (S, n) positions of the samples in cells; every bin averages the n_y x
    n_x points its row and column cross. whole: (4,) the box in whole cells, as RoIPool rounds it. columns, rows: (S, 2)
    first cell and end of each of RoIPool's bins. energy: (h, w) length of the map's vectors.
    """

    kind: str
    level: int
    levels: int
    stride: float
    side: int
    box: Positions
    x: Positions
    y: Positions
    whole: Positions
    columns: Positions
    rows: Positions
    energy: FloatArray

    @property
    def points(self) -> Positions:
        """(S * n_y * S * n_x, 2) x and y of every sample."""
        x, y = np.meshgrid(self.x.ravel(), self.y.ravel())
        return np.stack([x.ravel(), y.ravel()], axis=1)

    @property
    def shift(self) -> float:
        """How far rounding to whole cells moves a side of the box at most, in input pixels."""
        return float(np.abs(self.whole - self.box).max() * self.stride)


def pooling(pooler: Pooler, features: list[Tensor], box: Tensor) -> Pooling:
    """What a pooler does with one box (4,) in input pixels of the first image."""
    level = int(pooler.levels(box[None].float().cpu())[0]) if len(pooler.scales) > 1 else 0
    scale, half = pooler.scales[level], 0.5 if pooler.aligned else 0.0
    cells = (box.double().cpu() * scale).numpy() - half  # the frame of RoIAlign: a cell's centre is a whole number
    start, length = cells[:2], cells[2:] - cells[:2]
    if not pooler.aligned:
        length = np.maximum(length, 1.0)
    x, y = (_samples(start[k], length[k], pooler.side, pooler.sampling_ratio) + 0.5 for k in (0, 1))
    first, last = _rounded(box.double().cpu().numpy() * scale).reshape(2, 2)
    feature = features[level][0].float()
    edges = [_bins(first[k], last[k], pooler.side, feature.shape[2 - k]) for k in (0, 1)]
    return Pooling(
        kind=pooler.pooling,
        level=level,
        levels=len(pooler.scales),
        stride=1 / scale,
        side=pooler.side,
        box=np.concatenate([start, start + length]) + 0.5,
        x=x,
        y=y,
        whole=np.concatenate([first, np.maximum(last, first) + 1]),
        columns=edges[0],
        rows=edges[1],
        energy=feature.norm(dim=0).cpu().numpy(),
    )


def _samples(start: float, length: float, side: int, ratio: int) -> Positions:
    """(S, n) positions along an axis, as `ops.roi_align` has them."""
    step = length / side
    count = ratio or max(1, math.ceil(step))
    return np.asarray(start + step * (np.arange(side)[:, None] + (np.arange(count) + 0.5) / count))


def _rounded(cells: Positions) -> Positions:
    """To whole numbers, halves away from zero, as RoIPool does."""
    return np.asarray(np.sign(cells) * np.floor(np.abs(cells) + 0.5))


def _bins(first: float, last: float, side: int, cells: int) -> Positions:
    """(S, 2) of RoIPool along an axis: the cells of each bin; neighbouring bins may share one."""
    step = max(last - first + 1, 1) / side
    k = np.arange(side)
    edges = np.stack([np.floor(k * step), np.ceil((k + 1) * step)], axis=1) + first
    return np.asarray(edges.clip(0, cells))


@dataclass(frozen=True, eq=False)
class Cropped:
    """What R-CNN's network sees of a box: pixels (S, S, 3). box: (4,) of the crop with its context, in input pixels."""

    box: Positions
    pixels: ImageArray


def cropped(warp: CropWarp, images: list[Tensor], box: Tensor, spec: InputSpec) -> Cropped:
    """The crop of one box (4,) in input pixels of the first image."""
    values = warp(images, box[None], box.new_zeros(1).long())[0].float().permute(1, 2, 0).cpu().numpy()
    colours = values * np.array(spec.std) + np.array(spec.mean)
    pixels = np.rint(colours.clip(0, 255)).astype(np.uint8)
    seen = warp.grown(box[None])[0].double().cpu().numpy()
    return Cropped(seen, pixels if spec.channels == "RGB" else pixels[:, :, ::-1])


def read(reader: Pooler | CropWarp, features: list[Tensor], box: Tensor, spec: InputSpec) -> Pooling | Cropped:
    """How a reader reads one box (4,) in input pixels of the first image."""
    return cropped(reader, features, box, spec) if isinstance(reader, CropWarp) else pooling(reader, features, box)
