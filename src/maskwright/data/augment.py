"""Random variations of a training picture; outlines follow because every movement is one `Geometry`.

`choose` draws everything that is random and returns a `Choice`; `apply` is deterministic. The picture is resampled at
most once: turns, flips and whole-pixel crops copy pixels, anything else is one bilinear pass from the original picture.

Letters: N objects, H W picture, h w result. Boxes are xyxy in continuous pixels.
"""

import math
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from maskwright.errors import ConfigError, DataError
from maskwright.geometry import Geometry
from maskwright.types import BoolArray, FloatArray, IntArray, Masks, Size

Picture = NDArray[np.uint8]
RGB = tuple[int, int, int]
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""Weights of red, green and blue in the grey value (ITU-R BT.601)."""


@dataclass(frozen=True, eq=False)
class Objects:
    """The N objects of one picture: boxes (N, 4), labels (N,), masks or None, crowd (N,) bool.

    keypoints: (N, P, 3) x, y, visibility (0 not annotated, 1 hidden, 2 seen), or None.
    """

    boxes: FloatArray
    labels: IntArray
    masks: Masks | None
    crowd: BoolArray
    keypoints: FloatArray | None = None

    def __post_init__(self) -> None:
        for name in ("labels", "masks", "crowd", "keypoints"):
            value = getattr(self, name)
            if value is not None and len(value) != len(self.boxes):
                raise DataError(f"Objects: {len(self.boxes)} boxes but {len(value)} {name}.")

    def __len__(self) -> int:
        return len(self.boxes)


@dataclass(frozen=True, eq=False)
class Sample:
    """A picture (H, W, 3) uint8 RGB and its objects."""

    image: Picture
    objects: Objects

    def __post_init__(self) -> None:
        masks = self.objects.masks
        if masks is not None and masks.size != self.image.shape[:2]:
            raise DataError(f"Sample: masks are for {masks.size}, the picture is {self.image.shape[:2]}.")


@dataclass(frozen=True)
class Augment:
    """What may happen to a training picture. The default only mirrors left-right.

    flip_horizontal, flip_vertical: probabilities. rot90: probability of a turn by 90, 180 or 270 degrees.
    rotate: largest turn by another angle, degrees. scale: smallest and largest factor, drawn evenly in its logarithm.
    crop: (h, w) of a random window of the scaled picture, no larger than the picture; None keeps all of it.
    brightness, contrast, saturation: 0.2 draws a factor from 0.8 to 1.2. hue: largest shift, in turns (0 to 0.5).
    grey, invert: probabilities of losing the colour, and of a negative (bright field against fluorescence).
    blur: largest sigma in pixels. noise: largest standard deviation in grey levels; half of the pictures get either.
    min_share: an object of which the picture keeps less than this share of its area is cut.
    cut: what becomes of it: "drop" makes the rest background, "ignore" marks it as crowd.
    """

    flip_horizontal: float = 0.5
    flip_vertical: float = 0.0
    rot90: float = 0.0
    rotate: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    crop: Size | None = None
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    grey: float = 0.0
    invert: float = 0.0
    blur: float = 0.0
    noise: float = 0.0
    min_share: float = 0.1
    cut: Literal["drop", "ignore"] = "drop"

    def __post_init__(self) -> None:
        limits = {"rotate": 180.0, "hue": 0.5, "blur": 100.0, "noise": 255.0}
        for name, value in vars(self).items():
            if isinstance(value, (int, float)) and not 0 <= value <= limits.get(name, 1.0):
                raise ConfigError(f"Augment: {name} is between 0 and {limits.get(name, 1.0):g}, got {value}.")
        low, high = self.scale
        if not 0 < low <= high <= 100:
            raise ConfigError(f"Augment: scale is (smallest, largest) with 0 < smallest <= largest, got {self.scale}.")
        if self.crop is not None and min(self.crop) < 1:
            raise ConfigError(f"Augment: crop is (height, width) in pixels, both at least 1, got {self.crop}.")
        if self.cut not in ("drop", "ignore"):
            raise ConfigError(f"Augment: cut is 'drop' or 'ignore', got {self.cut!r}.")


@dataclass(frozen=True)
class Colour:
    """A drawn change of colour. The factors are 1 where nothing changes; noise is drawn anew from `noise_seed`."""

    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0
    hue: float = 0.0
    invert: bool = False
    blur: float = 0.0
    noise: float = 0.0
    noise_seed: int = 0

    def apply(self, image: Picture) -> Picture:
        """(H, W, 3) uint8 to the same: blur, then one colour matrix, then noise; rounded and clipped once."""
        if self.blur > 0:
            image = np.array(Image.fromarray(image).filter(ImageFilter.GaussianBlur(self.blur)))
        matrix, shift = self._matrix(image)
        if self.noise == 0 and np.array_equal(matrix, np.eye(3)) and not shift.any():
            return image
        pixels = image.reshape(-1, 3).astype(np.float32) @ matrix.T.astype(np.float32) + shift.astype(np.float32)
        if self.noise > 0:
            drawn = np.random.default_rng(self.noise_seed).standard_normal(pixels.shape, np.float32)
            pixels += np.float32(self.noise) * drawn
        return np.rint(np.clip(pixels, 0, 255)).astype(np.uint8).reshape(image.shape)

    def _matrix(self, image: Picture) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """All changes as (3, 3) matrix and (3,) shift; contrast turns about the picture's mean grey value."""
        luma = np.tile(LUMA.astype(np.float64), (3, 1))
        matrix = self.brightness * (self.saturation * np.eye(3) + (1 - self.saturation) * luma)
        if self.hue:
            matrix = _hue_matrix(self.hue) @ matrix
        shift = np.zeros(3)
        if self.contrast != 1:
            columns = image.mean(axis=0, dtype=np.float32)  # rows first: a tenth of the time of all at once
            mean = self.brightness * float(columns.mean(axis=0, dtype=np.float64) @ LUMA)
            matrix, shift = self.contrast * matrix, shift + (1 - self.contrast) * mean
        return (-matrix, 255 - shift) if self.invert else (matrix, shift)


def _hue_matrix(turns: float) -> NDArray[np.float64]:
    """Turn the colour plane of YIQ, which leaves grey values as they are."""
    to_yiq = np.array([[0.299, 0.587, 0.114], [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]])
    cos, sin = math.cos(2 * math.pi * turns), math.sin(2 * math.pi * turns)
    turn = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    matrix: NDArray[np.float64] = np.linalg.inv(to_yiq) @ turn @ to_yiq
    return matrix


@dataclass(frozen=True, eq=False)
class Choice:
    """Everything drawn for one picture: where its pixels go, how its colour changes, which objects are cut."""

    geometry: Geometry
    colour: Colour = field(default_factory=Colour)
    min_share: float = 0.0
    cut: Literal["drop", "ignore"] = "drop"


def choose(config: Augment, rng: np.random.Generator, size: Size, scaled: Size | None = None) -> Choice:
    """Draw a variation of a picture of `size` that is first stretched to `scaled` (None: kept); both (H, W).

    Every number is drawn whatever the config, so that switching one kind on does not change the others.
    """
    flips, turn, quarter = rng.random(2), rng.random(), int(rng.integers(1, 4))
    angle, stretch, place = rng.uniform(-1, 1), rng.random(), rng.random(2)
    low, high = (math.log(s) for s in config.scale)
    factor = math.exp(low + stretch * (high - low))
    h, w = (max(1, round(side * factor)) for side in scaled or size)
    geometry = Geometry.resize(size, (h, w)).then(
        Geometry.flip((h, w), horizontal=flips[0] < config.flip_horizontal, vertical=flips[1] < config.flip_vertical)
    )
    if turn < config.rot90:
        geometry = geometry.then(_quarter_turns((h, w), quarter))
    if config.rotate:
        geometry = geometry.then(Geometry.affine(geometry.size, degrees=angle * config.rotate))
    if config.crop is not None:
        room = [max(0, have - want) for have, want in zip(geometry.size, config.crop, strict=True)]
        top, left = (int(p * (r + 1)) for p, r in zip(place, room, strict=True))
        window = (min(geometry.size[0], config.crop[0]), min(geometry.size[1], config.crop[1]))
        geometry = geometry.then(Geometry.crop(geometry.size, top, left, window))
    return Choice(geometry, _choose_colour(config, rng), config.min_share, config.cut)


def _choose_colour(config: Augment, rng: np.random.Generator) -> Colour:
    factors, hue, chance = rng.uniform(-1, 1, 3).tolist(), rng.uniform(-1, 1), rng.random(6).tolist()
    return Colour(
        brightness=1 + factors[0] * config.brightness,
        contrast=1 + factors[1] * config.contrast,
        saturation=0.0 if chance[0] < config.grey else 1 + factors[2] * config.saturation,
        hue=hue * config.hue,
        invert=chance[1] < config.invert,
        blur=config.blur * chance[2] if chance[3] < 0.5 else 0.0,
        noise=config.noise * chance[4] if chance[5] < 0.5 else 0.0,
        noise_seed=int(rng.integers(2**63)),
    )


def _quarter_turns(size: Size, count: int) -> Geometry:
    """`count` turns by 90 degrees, clockwise on screen: (x, y) -> (H - y, x)."""
    geometry = Geometry.identity(size)
    for _ in range(count):
        height, width = geometry.size
        matrix = np.array([[0.0, -1, height], [1, 0, 0], [0, 0, 1]])
        geometry = geometry.then(Geometry(matrix, (height, width), (width, height)))
    return geometry


def apply(sample: Sample, choice: Choice, *, fill: RGB = (0, 0, 0), antialias: bool = True) -> Sample:
    """The sample after the choice. Deterministic.

    fill: colour outside the picture. antialias: average where the picture shrinks. The objects: see `move_objects`.
    """
    image = choice.colour.apply(warp(sample.image, choice.geometry, fill=fill, antialias=antialias))
    return Sample(image, move_objects(sample.objects, choice))


def move_objects(objects: Objects, choice: Choice) -> Objects:
    """The objects where the choice puts them.

    Boxes become the tight boxes of the moved masks where there are masks, else the moved boxes clipped to the picture.
    Objects that vanish are left out, objects cut below `min_share` are dropped or marked as crowd; crowd regions stay
    while a pixel of them is left. No box has a side below one pixel.
    """
    boxes, masks, share = _move(objects, choice.geometry)
    cut = (share < choice.min_share) & ~objects.crowd
    keep = np.flatnonzero((share > 0) & ~cut) if choice.cut == "drop" else np.flatnonzero(share > 0)
    return Objects(
        boxes=boxes[keep],
        labels=objects.labels[keep],
        masks=None if masks is None else masks[keep],
        crowd=(objects.crowd | cut)[keep],
    )


def _move(objects: Objects, geometry: Geometry) -> tuple[FloatArray, Masks | None, FloatArray]:
    """Boxes, masks and the share (N,) of each object's area that is still in the picture (0: nothing usable)."""
    if objects.masks is not None:
        masks = geometry.masks(objects.masks)
        before = objects.masks.areas() * abs(np.linalg.det(geometry.matrix[:2, :2]))
        return masks.boxes(), masks, (masks.areas() / np.maximum(before, 1e-9)).astype(np.float32)
    moved = geometry.boxes(objects.boxes)
    height, width = geometry.size
    boxes = np.clip(moved, 0, np.array([width, height, width, height], np.float32))
    sides, whole = boxes[:, 2:] - boxes[:, :2], moved[:, 2:] - moved[:, :2]
    share = sides.prod(axis=1) / np.maximum(whole.prod(axis=1), 1e-9)
    return boxes, None, np.where(sides.min(axis=1, initial=np.inf) >= 1, share, 0).astype(np.float32)


def warp(image: Picture, geometry: Geometry, *, fill: RGB = (0, 0, 0), antialias: bool = True) -> Picture:
    """(H, W, 3) uint8 moved as `Geometry.image` does, faster: equal where pixels are copied, else within rounding.

    antialias False samples the picture as it is even where it shrinks.
    """
    if image.shape[:2] != geometry.source:
        raise ConfigError(f"warp: the picture is {image.shape[:2]}, the map starts at {geometry.source}.")
    image, matrix = _turn_upright(image, geometry.matrix)
    if _near(matrix[:2, :2], np.eye(2)) and _near(matrix[:2, 2], np.rint(matrix[:2, 2])):
        return _window(image, -round(matrix[1, 2]), -round(matrix[0, 2]), geometry.size, fill)
    h, w = geometry.size
    back = np.linalg.inv(matrix).astype(np.float64)
    x0, y0 = back[:2, 2]
    x1, y1 = back[:2] @ (w, h, 1)
    inside = min(x0, y0) >= -1e-6 and x1 <= image.shape[1] + 1e-6 and y1 <= image.shape[0] + 1e-6
    scale = np.linalg.norm(matrix[:2, :2], axis=0)  # of a step along source x, y
    straight = _near(matrix[:2, :2], np.diag(np.diag(matrix[:2, :2])))
    if straight and inside and (antialias or scale.min() >= 1):
        window = (max(0.0, x0), max(0.0, y0), min(float(image.shape[1]), x1), min(float(image.shape[0]), y1))
        return np.array(Image.fromarray(image).resize((w, h), Image.Resampling.BILINEAR, box=window))
    if antialias and scale.min() < 1:
        small = [max(1, round(side * min(1.0, s))) for side, s in zip(image.shape[1::-1], scale, strict=True)]
        back = np.diag([small[0] / image.shape[1], small[1] / image.shape[0], 1.0]) @ back
        image = np.array(Image.fromarray(image).resize((small[0], small[1]), Image.Resampling.BILINEAR))
    return _sample(image, back, (h, w), fill)


def _sample(image: Picture, back: NDArray[np.float64], size: Size, fill: RGB) -> Picture:
    """Bilinear samples of the picture at `back @ centre` of each new pixel; Pillow's own would round down."""
    height, width = image.shape[:2]
    x = torch.arange(size[1], dtype=torch.float32)[None] + 0.5
    y = torch.arange(size[0], dtype=torch.float32)[:, None] + 0.5
    from_x = (back[0, 0] * x + back[0, 1] * y + back[0, 2]) * (2 / width) - 1  # (h, w)
    from_y = (back[1, 0] * x + back[1, 1] * y + back[1, 2]) * (2 / height) - 1
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float()  # (1, 3, H, W)
    grid = torch.stack([from_x, from_y], dim=-1)[None]
    moved = F.grid_sample(pixels, grid, mode="bilinear", padding_mode="border", align_corners=False)[0]
    outside = (from_x.abs() > 1) | (from_y.abs() > 1)
    moved = torch.where(outside, torch.tensor(fill, dtype=torch.float32).view(3, 1, 1), moved)
    return moved.permute(1, 2, 0).round_().to(torch.uint8).contiguous().numpy()


def _near(a: NDArray[np.float64], b: NDArray[np.float64]) -> bool:
    return bool(np.abs(a - b).max() < 1e-9)


def _turn_upright(image: Picture, matrix: NDArray[np.float64]) -> tuple[Picture, NDArray[np.float64]]:
    """Take exchanged axes and mirrorings out of an axis-parallel map by views of the picture; others stay."""
    if _near(np.diag(matrix[:2, :2]), np.zeros(2)):
        image, matrix = image.transpose(1, 0, 2), matrix @ np.array([[0.0, 1, 0], [1, 0, 0], [0, 0, 1]])
    if _near(np.fliplr(matrix[:2, :2]).diagonal(), np.zeros(2)):
        height, width = image.shape[:2]
        if matrix[0, 0] < 0:
            image, matrix = image[:, ::-1], matrix @ np.array([[-1.0, 0, width], [0, 1, 0], [0, 0, 1]])
        if matrix[1, 1] < 0:
            image, matrix = image[::-1], matrix @ np.array([[1.0, 0, 0], [0, -1, height], [0, 0, 1]])
    return np.ascontiguousarray(image), matrix


def _window(image: Picture, top: int, left: int, size: Size, fill: RGB) -> Picture:
    """The window of `size` at (top, left), which may reach outside; always a new array."""
    height, width = image.shape[:2]
    y0, x0, y1, x1 = max(top, 0), max(left, 0), min(top + size[0], height), min(left + size[1], width)
    if (y1 - y0, x1 - x0) == size:
        return image[y0:y1, x0:x1].copy()
    out = np.empty((*size, 3), np.uint8)
    out[:] = fill
    if y0 < y1 and x0 < x1:
        out[y0 - top : y1 - top, x0 - left : x1 - left] = image[y0:y1, x0:x1]
    return out


def augment(sample: Sample, config: Augment, rng: np.random.Generator, *, fill: RGB = (0, 0, 0)) -> Sample:
    """`choose` and `apply` in one step, at the picture's own scale."""
    return apply(sample, choose(config, rng, (sample.image.shape[0], sample.image.shape[1])), fill=fill)
