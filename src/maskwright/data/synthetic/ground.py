"""The background of a scene: regions of stuff (sky, water, grass, ...), each with its own colour and texture.

Letters: H W the ground's size in pixels, S kinds of stuff.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maskwright.data.synthetic.kinds import numbered
from maskwright.ops.polygons import PolygonPart, from_polygons
from maskwright.types import FloatArray, Size

_NAMES = ("soil", "sky", "water", "grass", "sand", "gravel")
_COLOURS = ((122, 104, 84), (158, 184, 214), (74, 112, 146), (98, 130, 72), (196, 176, 136), (128, 126, 124))
# Strength of each texture in grey levels: broad and middle blotches, grain, ripples.
_TEXTURES = ((9, 9, 7, 0), (12, 2, 1, 0), (5, 3, 2, 9), (8, 6, 12, 0), (5, 2, 8, 4), (5, 12, 16, 0))


@dataclass(frozen=True, eq=False)
class Ground:
    """The stuff of each pixel (H, W) int32 in 0..S-1, and its image (H, W, 3) float32 in 0..255."""

    stuff: NDArray[np.int32]
    image: FloatArray


def stuff_names(stuff: int) -> tuple[str, ...]:
    """soil, sky, water, ..., then "soil 2", ..."""
    return tuple(numbered(_NAMES, stuff))


def lay(rng: np.random.Generator, size: Size, stuff: int, grain: int) -> Ground:
    """A ground of `size`: soil, a sky above a wavy horizon, and patches of the other kinds of stuff.

    grain: the short edge of the view in pixels; blotches and patches follow it. Where the ground is small, kinds of
    stuff may be missing from it.
    """
    regions = _regions(rng, size, stuff, grain)
    return Ground(regions, _texture(rng, regions, stuff, grain))


def blotches(rng: np.random.Generator, size: Size, cell: float) -> FloatArray:
    """(H, W) smooth noise of about unit variance: random values `cell` pixels apart, joined by cubics."""
    rows, columns = (max(2, int(n / cell) + 2) for n in size)
    coarse = Image.fromarray(rng.standard_normal((rows, columns), np.float32))
    window = (0.5, 0.5, 0.5 + min(size[1] / cell, columns - 1), 0.5 + min(size[0] / cell, rows - 1))
    return np.asarray(coarse.resize((size[1], size[0]), Image.Resampling.BICUBIC, window), np.float32)


def _regions(rng: np.random.Generator, size: Size, stuff: int, grain: int) -> NDArray[np.int32]:
    height, width = size
    regions = np.zeros(size, np.int32)
    if stuff > 1:
        wave = blotches(rng, (1, width), max(grain / 3, 2))[0] * grain * rng.uniform(0.01, 0.07)
        slope = rng.uniform(-0.1, 0.1) * (np.arange(width) - width / 2)
        horizon = height / 2 - grain * rng.uniform(0.05, 0.3) + wave + slope
        regions[np.arange(height)[:, None] + 0.5 < horizon] = 1
    for label in range(2, stuff):
        for _ in range(int(rng.integers(1, 4))):
            middle = rng.uniform((0, 0.35 * height), (width, height))
            radius = grain * rng.uniform(0.12, 0.42)
            patch = from_polygons([[PolygonPart(_patch(rng, middle, radius))]], size)
            regions[patch.windows[0]][patch.bitmaps[0]] = label
    return regions


def _patch(rng: np.random.Generator, middle: NDArray[np.float64], radius: float) -> NDArray[np.float64]:
    """A wobbly disk, wider than high."""
    angles = np.arange(48) * (2 * np.pi / 48)
    waves = sum(rng.uniform(0, 0.3) / k * np.sin(k * angles + rng.uniform(0, 6.28)) for k in (2, 3, 5, 8))
    shape = np.stack([np.cos(angles), np.sin(angles) * rng.uniform(0.45, 0.8)], axis=1)
    return np.asarray(middle + radius * (1 + waves)[:, None] * shape)


def _texture(rng: np.random.Generator, regions: NDArray[np.int32], stuff: int, grain: int) -> FloatArray:
    height, width = regions.shape
    kinds = np.arange(stuff) % len(_NAMES)
    colours = np.array(_COLOURS)[kinds] * rng.uniform(0.75, 1.15, (stuff, 1)) + rng.uniform(-22, 22, (stuff, 3))
    strength = (np.array(_TEXTURES)[kinds] * rng.uniform(0.6, 1.3, (stuff, 4))).astype(np.float32)
    size = (height, width)
    broad = blotches(rng, size, max(grain / 4, 4))
    layers = [broad, blotches(rng, size, max(grain / 18, 3)), blotches(rng, size, 2.2)]
    rows = np.arange(height, dtype=np.float32)[:, None] * np.float32(2 * np.pi / max(grain / 30, 4))
    layers.append(np.sin(rows + 2 * broad))
    shade = np.zeros(size, np.float32)
    for k, layer in enumerate(layers):
        shade += layer * strength[:, k].take(regions)
    image = colours.astype(np.float32).take(regions, axis=0)
    image += shade[:, :, None]
    return np.asarray(image)
