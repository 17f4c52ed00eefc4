"""Images of simple shapes with exact visible masks: for tests, figures and first training runs.

Letters: N objects, H W image, h w the window one object is drawn in. A pixel belongs to a shape where its centre,
at half-integers, lies inside; where shapes overlap, the one drawn later hides the others.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from maskwright import media
from maskwright.data.dataset import Dataset, ImageRecord
from maskwright.data.formats import coco
from maskwright.data.synthetic.fixtures import annotations
from maskwright.data.synthetic.kinds import numbered
from maskwright.data.synthetic.scenes import check, instances, owned, visible
from maskwright.types import BoolArray, Classes, FloatArray, Instances, IntArray, Size

Array = NDArray[np.float64]
Grid = tuple[Array, Array]
"""Pixel centres relative to a shape's centre, in units of its radius: x (h, w) and y (h, w)."""

_TRIES = 20
_VISIBLE = 0.25  # the share of an object that stays visible when others are drawn over it


def scene(
    seed: int, size: Size = (240, 320), objects: int = 8, classes: int = 3
) -> tuple[NDArray[np.uint8], Instances]:
    """An image (H, W, 3) uint8 RGB and its objects, scores 1, farthest object first.

    Shape and hue follow the class: ellipses, star polygons, rings (with holes; what lies behind shows through), then
    the same shapes in other hues. Every returned object has visible pixels; where the image has no place for `objects`
    of them, there are fewer. The same arguments give the same scene.
    """
    check(size, objects, classes)
    rng = np.random.default_rng(seed)
    image = _texture(rng, size, rng.uniform(60, 150, 3), contrast=30.0)
    owner = np.full(size, -1, np.int32)  # (H, W) which object is seen at each pixel
    full = seen = np.zeros(0, np.int64)  # pixels of each object, and those of them that nothing hides
    labels: list[int] = []
    for _ in range(objects):
        label = int(rng.integers(classes))
        placed = _place(rng, label, objects, owner, full, seen)
        if placed is None:
            continue
        top, left, shape = placed
        window = np.s_[top : top + shape.shape[0], left : left + shape.shape[1]]
        seen = np.append(seen - owned(owner[window][shape], len(full)), shape.sum())
        owner[window][shape] = len(full)
        image[window][shape] = _texture(rng, shape.shape, _colour(rng, label), contrast=45.0)[shape]
        full = np.append(full, shape.sum())
        labels.append(label)
    image += 4 * rng.standard_normal(image.shape, np.float32)
    masks = visible(owner, range(len(full)))
    return np.clip(np.rint(image), 0, 255).astype(np.uint8), instances(masks, labels, class_names(classes))


def class_names(classes: int) -> Classes:
    """ellipse, star, ring, ellipse 2, star 2, ..."""
    return Classes(numbered(list(_SHAPES), classes))


def coco_fixture(
    folder: str | os.PathLike[str],
    seed: int,
    *,
    images: int = 6,
    size: Size = (96, 128),
    objects: int = 5,
    classes: int = 3,
) -> Path:
    """Write a small COCO data set: `images/*.png` and `annotations.json`, whose path is returned.

    Every second image has polygons where an object has no hole, the rest run lengths. From two images on, the
    first also has a crowd region and the last is empty. Sizes differ by a few pixels. Ids are sparse.
    """
    folder, records, by_image = Path(folder), [], {}
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for k in range(images):
        own = size[0] + 3 * (k % 3), size[1] + 5 * (k % 2)
        count = 0 if k == images - 1 and images > 1 else objects
        image, found = scene(seed * 1000 + k, own, count, classes)
        record = ImageRecord(10 * k + 3, f"{k:04d}.png", own)
        media.write_image(folder / "images" / record.file_name, image)
        rows = annotations(found, record, polygons=k % 2 == 1)
        rows = tuple(replace(a, id=1000 * record.id + 7 * j + 1) for j, a in enumerate(rows))
        crowded = k == 0 and len(rows) > 1
        by_image[record.id] = (*rows[:-1], replace(rows[-1], crowd=True)) if crowded else rows
        records.append(record)
    path = folder / "annotations.json"
    coco.save(path, Dataset(class_names(classes), tuple(records), by_image, folder / "images", path))
    return path


# ---- shapes ---------------------------------------------------------------------------------------------------------


def _ellipse(rng: np.random.Generator) -> Callable[[Grid], BoolArray]:
    flat, turn = rng.uniform(0.45, 1.0), rng.uniform(0, np.pi)

    def inside(grid: Grid) -> BoolArray:
        x, y = grid
        along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
        return np.asarray(along**2 + (across / flat) ** 2 <= 1.0)

    return inside


def _star(rng: np.random.Generator) -> Callable[[Grid], BoolArray]:
    """A polygon around its centre: corners at sorted angles, radii between 0.45 and 1."""
    corners = int(rng.integers(5, 10))
    angles = 2 * np.pi * (np.arange(corners) + rng.uniform(-0.3, 0.3, corners)) / corners
    radii = rng.uniform(0.45, 1.0, corners)
    points = np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)

    def inside(grid: Grid) -> BoolArray:
        x, y = grid
        crossed = np.zeros(x.shape, np.bool_)  # even-odd rule
        for (x1, y1), (x2, y2) in zip(points, np.roll(points, -1, axis=0), strict=True):
            if y1 != y2:
                crossed ^= ((y1 <= y) != (y2 <= y)) & (x < x1 + (y - y1) * (x2 - x1) / (y2 - y1))
        return crossed

    return inside


def _ring(rng: np.random.Generator) -> Callable[[Grid], BoolArray]:
    outer, inner = _ellipse(rng), rng.uniform(0.4, 0.65)

    def inside(grid: Grid) -> BoolArray:
        x, y = grid
        return outer(grid) & ~outer((x / inner, y / inner))

    return inside


_SHAPES = {"ellipse": _ellipse, "star": _star, "ring": _ring}


def _place(
    rng: np.random.Generator, label: int, objects: int, owner: NDArray[np.int32], full: IntArray, seen: IntArray
) -> tuple[int, int, BoolArray] | None:
    """(top, left, bool window) of a new object that leaves enough of the others visible; None if none was found."""
    size = owner.shape
    for _ in range(_TRIES):
        radius = max(0.75, rng.uniform(0.12, 0.3) * min(size) / max(1.0, (objects / 8) ** 0.5))
        y, x = rng.uniform(0, size[0]), rng.uniform(0, size[1])
        top, left = max(0, int(y - radius)), max(0, int(x - radius))
        bottom, right = min(size[0], int(y + radius) + 1), min(size[1], int(x + radius) + 1)
        rows, columns = np.arange(top, bottom) + 0.5, np.arange(left, right) + 0.5
        grid = np.meshgrid((columns - x) / radius, (rows - y) / radius)
        shape = list(_SHAPES.values())[label % 3](rng)((grid[0], grid[1]))
        left_over = seen - owned(owner[top:bottom, left:right][shape], len(full))
        if shape.any() and (left_over >= np.maximum(1, _VISIBLE * full)).all():
            return top, left, shape
    return None


# ---- colours --------------------------------------------------------------------------------------------------------


def _texture(rng: np.random.Generator, size: tuple[int, ...], colour: Array, contrast: float) -> FloatArray:
    """(H, W, 3) float32: a colour with soft blotches (a coarse random grid, interpolated) and stripes."""
    height, width = size[0], size[1]
    coarse = rng.normal(0, contrast / 2, (height // 24 + 2, width // 24 + 2))
    rows, columns = np.linspace(0, len(coarse) - 1.001, height), np.linspace(0, coarse.shape[1] - 1.001, width)
    r, c = rows.astype(int), columns.astype(int)
    fr, fc = (rows - r)[:, None], columns - c
    upper = coarse[r][:, c] * (1 - fc) + coarse[r][:, c + 1] * fc
    lower = coarse[r + 1][:, c] * (1 - fc) + coarse[r + 1][:, c + 1] * fc
    angle, period = rng.uniform(0, np.pi), rng.uniform(5, 15)
    across = np.arange(height, dtype=np.float32)[:, None] * np.sin(angle)
    phase = (across + np.arange(width, dtype=np.float32) * np.cos(angle)) / period
    shade = upper * (1 - fr) + lower * fr + contrast / 3 * np.sin(2 * np.pi * phase)
    return np.asarray(colour + shade[:, :, None], np.float32)


def _colour(rng: np.random.Generator, label: int) -> Array:
    """A bright colour whose hue follows the class, the golden angle apart."""
    hue = (label * 0.618 + rng.uniform(-0.05, 0.05)) % 1.0
    wheel = np.abs((hue * 6 + np.array([0.0, 4.0, 2.0])) % 6 - 3) - 1
    return np.asarray(rng.uniform(170, 230) * (0.35 + 0.65 * np.clip(wheel, 0, 1)))
