"""Instances of a key frame on a later frame: each is moved by the motion of its own surface.

What moves an instance is an affine map. Its start is fitted to the flow of the cells that came from inside the
instance; then the instance itself is aligned, with the band around it, where its outline shows best.

Letters: N instances, n points of an instance.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskwright.geometry import Geometry
from maskwright.ops.align import align, nearest_start
from maskwright.results.prediction import Prediction
from maskwright.types import BoolArray, DoubleArray, FloatArray, Instances, Masks
from maskwright.video.motion import Field

SPREAD = 1.5
"""Pixels by which the flow of a cell may be off: one that is off by as much counts a quarter."""

STIFF = 0.15
"""Standard deviation of the linear part of a map that is expected beforehand."""

ROUNDS = 4
"""Of fitting, each with the weights that the one before gives."""

POINTS = 32
"""Of each instance along each axis."""

DOUBT = 20.0
"""Grey levels by which an instance differs from its key frame where its score is halved."""

BAND = 2.0
"""Pixels of the small image around an instance that are aligned with it, unless they belong to another."""


@dataclass(frozen=True, eq=False)
class Carried:
    """The instances on a frame that is not a key frame. maps: (N, 3, 3) of the key frame's instances. rest: (N,) grey
    levels by which each differs from the key frame. shifts: (K, 2) pixels that those found here have moved."""

    found: Prediction
    maps: DoubleArray
    rest: FloatArray
    shifts: FloatArray


@dataclass(frozen=True, eq=False)
class KeyFrame:
    """A key frame: what was found in it, and its small image (h, w)."""

    found: Prediction
    small: Tensor

    @property
    def scale(self) -> float:
        """Pixels of the frame along a pixel of the small image."""
        return float(-(-self.found.size[1] // self.small.shape[1]))

    @cached_property
    def points(self) -> tuple[Tensor, Tensor]:
        """Of each instance points (N, n, 2) of the small image, and whether each belongs to it (N, n) as 0 or 1."""
        found, scale = self.found, self.scale
        boxes = found.boxes.astype(np.float64) / scale
        boxes[:, :2] -= BAND
        boxes[:, 2:] += BAND
        steps = (np.arange(POINTS) + 0.5) / POINTS
        x = boxes[:, 0, None] + steps * (boxes[:, 2] - boxes[:, 0])[:, None]  # (N, POINTS)
        y = boxes[:, 1, None] + steps * (boxes[:, 3] - boxes[:, 1])[:, None]
        grid = np.stack(np.broadcast_arrays(x[:, None, :], y[:, :, None]), axis=3).reshape(len(x), -1, 2)
        covered = np.zeros(found.size, np.uint8)
        for window, bitmap in zip(
            *((found.crops.windows, found.crops.bitmaps) if found.crops else ((), ())), strict=True
        ):
            covered[window] |= bitmap
        weights = [self._belongs(i, points * scale, covered) for i, points in enumerate(grid)]
        return torch.from_numpy(grid).float(), torch.from_numpy(np.stack(weights)).float()

    def _belongs(self, i: int, points: DoubleArray, covered: NDArray[np.uint8]) -> BoolArray:
        """Which points of the frame (n, 2) are of instance i or of the free band around it."""
        own = inside(self.found, i, points)
        if self.found.crops is None:
            return np.ones_like(own)
        band, reach = own.copy(), BAND * self.scale
        for dx, dy in ((-1, 0), (1, 0), (0, -1), (0, 1)):
            band |= inside(self.found, i, points + np.array([dx, dy]) * reach)
        height, width = self.found.size
        column, row = np.floor(points).astype(np.int64).T
        free = (column >= 0) & (row >= 0) & (column < width) & (row < height)
        free[free] = covered[row[free], column[free]] == 0
        out: BoolArray = own | (band & free)
        return out


def carry(key: KeyFrame, now: Tensor, field: Field, last: DoubleArray | None = None) -> Carried:
    """The instances of the key frame on the field's frame; those that have left the image are gone.

    now: (h, w) the frame's small image. last: maps of the frame before. Labels and ids stay; scores fall by what
    differs from the key frame, since something else may be there by now.
    """
    found = key.found
    if not len(found):
        return Carried(found, np.zeros((0, 3, 3)), np.zeros(0, np.float32), np.zeros((0, 2), np.float32))
    sources = (field.places + field.flow).reshape(-1, 2).astype(np.float64)
    steps = -field.flow.reshape(-1, 2).astype(np.float64)
    sure = ~field.unexplained.reshape(-1)
    starts = [np.stack([_start(found, i, sources, steps, sure) for i in range(len(found))])]
    starts += [] if last is None else [last]
    maps, rest = _aligned(key, now, np.stack(starts))
    there, sure = _placed(found, maps), 1 / (1 + np.square(rest / DOUBT))
    there.scores = (there.scores * sure).astype(np.float32)
    if there.box_scores is not None:
        there.box_scores = (there.box_scores * sure).astype(np.float32)
    left = _visible(there)
    return Carried(there[left], maps, rest, shifts(found, maps)[left])


def _aligned(key: KeyFrame, now: Tensor, starts: DoubleArray) -> tuple[DoubleArray, FloatArray]:
    """Maps of the frame (N, 3, 3) near the best of the starts (S, N, 3, 3), and what is left of each (N,)."""
    points, weights = key.points
    begin = starts[:, :, :2].copy()
    begin[..., 2] /= key.scale
    few = torch.arange(POINTS**2).view(POINTS, POINTS)[::2, ::2].flatten()
    start = nearest_start(key.small, now, points[:, few], weights[:, few], torch.from_numpy(begin).float())
    maps, rest = align(key.small, now, points, weights, start)
    out = np.tile(np.eye(3), (len(maps), 1, 1))
    out[:, :2] = maps.numpy()
    out[:, :2, 2] *= key.scale
    return out, rest.numpy()


def moved(found: Prediction, maps: DoubleArray) -> Prediction:
    """Instances, each moved by its map (N, 3, 3); those that have left the image are gone."""
    there = _placed(found, maps)
    return there[_visible(there)]


def shifts(found: Instances, maps: DoubleArray) -> FloatArray:
    """(N, 2): how far maps (N, 3, 3) move the middles of the instances' boxes, in pixels."""
    middles = found.boxes.astype(np.float64).reshape(-1, 2, 2).mean(axis=1)
    there = (maps[:, :2, :2] @ middles[..., None])[..., 0] + maps[:, :2, 2]
    out: FloatArray = (there - middles).astype(np.float32)
    return out


def _placed(found: Prediction, maps: DoubleArray) -> Prediction:
    """All instances, each moved by its map."""
    if not len(found):
        return found
    size = found.size
    boxes = np.stack([_box(m, b) for m, b in zip(maps, found.boxes, strict=True)])
    out = replace(found, boxes=boxes, semantic=None)
    if found.crops is not None:
        crops = [Geometry(m, size, size).masks(found.crops[i]) for i, m in enumerate(maps)]
        out.crops = Masks(size, np.concatenate([c.corners for c in crops]), tuple(c.bitmaps[0] for c in crops))
    if found.keypoints is not None:
        out.keypoints = found.keypoints.copy()
        for points, m in zip(out.keypoints, maps, strict=True):
            points[:, :2] = Geometry(m, size, size).points(points[:, :2])
    return out


def _visible(found: Prediction) -> BoolArray:
    """(N,) whether something is left inside the image; boxes are cut at its border."""
    height, width = found.size
    found.boxes = np.clip(found.boxes, 0, np.array([width, height, width, height], np.float32))
    left = (found.boxes[:, 2:] > found.boxes[:, :2]).all(axis=1)
    if found.crops is not None:
        left = left & np.array([bool(bitmap.any()) for bitmap in found.crops.bitmaps])
    return np.asarray(left)


def _start(found: Prediction, i: int, sources: DoubleArray, steps: DoubleArray, sure: BoolArray) -> DoubleArray:
    """(3, 3): where the points of instance i went by the flow of the cells that came from it, or of the nearest."""
    within = inside(found, i, sources)
    if (within & sure).any():
        within &= sure
    box = found.boxes[i].astype(np.float64)
    middle = (box[:2] + box[2:]) / 2
    if not within.any():
        within[np.square(sources - middle).sum(axis=1).argmin()] = True
    return fitted(sources[within], steps[within], middle)


def inside(found: Prediction, i: int, points: DoubleArray) -> BoolArray:
    """Which points (n, 2) of the frame lie in the mask of instance i, or in its box."""
    if found.crops is None:
        return np.asarray(((points >= found.boxes[i, :2]) & (points < found.boxes[i, 2:])).all(axis=1))
    bitmap, (top, left) = found.crops.bitmaps[i], found.crops.corners[i]
    column, row = np.floor(points[:, 0]).astype(np.int64) - left, np.floor(points[:, 1]).astype(np.int64) - top
    out: BoolArray = (row >= 0) & (column >= 0) & (row < bitmap.shape[0]) & (column < bitmap.shape[1])
    out[out] = bitmap[row[out], column[out]]
    return out


def fitted(sources: DoubleArray, steps: DoubleArray, middle: DoubleArray) -> DoubleArray:
    """The affine map (3, 3) under which points (n, 2) best take their steps; rigid where few points say otherwise.

    Points that disagree with the rest, as those of something in front do, count little.
    """
    design = np.column_stack([np.ones(len(sources)), sources - middle])  # (n, 3)
    prior = np.diag([0.0, 1 / STIFF**2, 1 / STIFF**2])
    values = np.vstack([np.median(steps, axis=0), np.zeros((2, 2))])  # the shift of the middle, and the linear part
    for _ in range(ROUNDS):
        rest = np.square(steps - design @ values).sum(axis=1)
        weighted = design / np.square(1 + rest / SPREAD**2)[:, None]
        values = np.linalg.solve(weighted.T @ design + prior, weighted.T @ steps)
    matrix = np.eye(3)
    matrix[:2, :2] += values[1:].T
    matrix[:2, 2] = values[0] - values[1:].T @ middle
    return matrix


def _box(matrix: DoubleArray, box: FloatArray) -> FloatArray:
    """A box whose middle is moved, and whose sides grow as the axes do; turns do not widen it."""
    corners = box.astype(np.float64).reshape(2, 2)
    middle, half = corners.mean(axis=0), (corners[1] - corners[0]) / 2
    there = matrix[:2, :2] @ middle + matrix[:2, 2]
    half = half * np.abs(np.diag(matrix)[:2])
    return np.concatenate([there - half, there + half]).astype(np.float32)
