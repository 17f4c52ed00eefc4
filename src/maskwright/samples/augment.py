"""Random augmentation of a training image; outlines follow because every movement is one `Geometry`.

`choose` draws everything that is random and returns a `Choice`; `apply` is deterministic. The image is resampled at
most once: turns, flips and whole-pixel crops copy pixels, anything else is one bilinear pass from the original image.
`samples.mix` has what needs several images (copy-paste, mosaic).

Letters: N objects, H W image, h w result. Boxes are xyxy in continuous pixels.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from maskwright.codec import Section, ranged
from maskwright.errors import ConfigError
from maskwright.geometry import Geometry
from maskwright.samples.colour import ColourJitter
from maskwright.samples.sample import Objects, Sample, move_labels, move_points
from maskwright.types import RGB, FloatArray, Masks, Size


@dataclass(frozen=True)
class Augment(Section):
    """What may happen to a training image. The default only mirrors left-right.

    flip_horizontal, flip_vertical: probabilities. rot90: probability of a turn by 90, 180 or 270 degrees.
    rotate: largest turn by another angle, degrees. scale: smallest and largest factor, drawn evenly in its logarithm.
    crop: (h, w) of a random window of the scaled image, no larger than the image; None keeps all of it.
    brightness, contrast, saturation: 0.2 draws a factor from 0.8 to 1.2. hue: largest shift, in turns (0 to 0.5).
    grey, invert: probabilities of losing the colour, and of a negative (bright field against fluorescence).
    blur: largest sigma in pixels. noise: largest standard deviation in grey levels; each affects half of the images.
    min_share: an object of which the image keeps less than this share of its area is cut.
    cut: what happens to it: "drop" makes the rest background, "ignore" marks it as crowd.
    gain: largest factor of the exposure, at least 1; 10 draws from 1/10 to 10, evenly in its logarithm, limited to
    what 8 bits can show (see `ColourJitter`). gamma: largest exponent of the values, at least 1, drawn in the same way.
    jpeg: largest loss of JPEG quality; 60 draws a quality from 40 to 100 for half of the images.
    focus: probability that the window of `crop` contains a randomly chosen object, as far as it fits.
    copy_paste: probability that objects of another image are pasted onto this one; needs masks.
    mosaic: probability that the image becomes one of four, each seen through a window, around a random point; the
    result has the size of `crop`, or without one the size of this image's input.
    """

    flip_horizontal: float = ranged(0.5, low=0, high=1)
    flip_vertical: float = ranged(0.0, low=0, high=1)
    rot90: float = ranged(0.0, low=0, high=1)
    rotate: float = ranged(0.0, low=0, high=180)
    scale: tuple[float, float] = (1.0, 1.0)
    crop: Size | None = None
    brightness: float = ranged(0.0, low=0, high=1)
    contrast: float = ranged(0.0, low=0, high=1)
    saturation: float = ranged(0.0, low=0, high=1)
    hue: float = ranged(0.0, low=0, high=0.5)
    grey: float = ranged(0.0, low=0, high=1)
    invert: float = ranged(0.0, low=0, high=1)
    blur: float = ranged(0.0, low=0, high=100)
    noise: float = ranged(0.0, low=0, high=255)
    min_share: float = ranged(0.1, low=0, high=1)
    cut: Literal["drop", "ignore"] = "drop"
    gain: float = ranged(1.0, low=1, high=100)
    gamma: float = ranged(1.0, low=1, high=10)
    jpeg: float = ranged(0.0, low=0, high=99)
    focus: float = ranged(0.0, low=0, high=1)
    copy_paste: float = ranged(0.0, low=0, high=1)
    mosaic: float = ranged(0.0, low=0, high=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        smallest, largest = self.scale
        if not 0 < smallest <= largest <= 100:
            raise ConfigError(f"Augment: scale is (smallest, largest) with 0 < smallest <= largest, got {self.scale}.")
        if self.crop is not None and min(self.crop) < 1:
            raise ConfigError(f"Augment: crop is (height, width) in pixels, both at least 1, got {self.crop}.")
        if self.focus > 0 and self.crop is None:
            raise ConfigError(
                f"Augment: focus = {self.focus:g} says where the window of crop lies, but crop is not set."
            )

    def unmirrored(self) -> "Augment":
        """The same without anything that makes a left hand a right one."""
        return replace(self, flip_horizontal=0.0, flip_vertical=0.0)


STRONG = Augment(
    rotate=15, scale=(0.6, 1.6), brightness=0.3, contrast=0.3, saturation=0.4, hue=0.05, blur=1.5, noise=8, gain=2,
    gamma=1.5, jpeg=50, copy_paste=0.5, mosaic=0.3,
)  # fmt: skip
"""Strong augmentation that keeps images upright, for few images and long runs."""


@dataclass(frozen=True, eq=False)
class Choice:
    """The random choices for one image: where its pixels go, how its colour changes, which objects are cut."""

    geometry: Geometry
    colour: ColourJitter = field(default_factory=ColourJitter)
    min_share: float = 0.0
    cut: Literal["drop", "ignore"] = "drop"


def choose(
    config: Augment,
    rng: np.random.Generator,
    size: Size,
    scaled: Size | None = None,
    objects: Objects | None = None,
) -> Choice:
    """Draw the augmentation of an image of `size` that is first stretched to `scaled` (None: kept); both (H, W).

    objects: those of the image, which `focus` needs. Every number is drawn whatever the config says, so that one kind
    does not change the others; the numbers of new kinds come last.
    """
    flips, turn, quarter = rng.random(2), rng.random(), int(rng.integers(1, 4))
    angle, stretch, place = rng.uniform(-1, 1), rng.random(), rng.random(2)
    colour, chance, which = _choose_colour(config, rng), rng.random(), rng.random()
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
        boxes = objects.boxes[~objects.crowd] if objects is not None and chance < config.focus else ()
        shown = geometry.boxes(boxes[int(which * len(boxes))])[0] if len(boxes) else None
        geometry = geometry.then(_window(geometry.size, config.crop, place, shown))
    return Choice(geometry, colour, config.min_share, config.cut)


def _window(size: Size, wanted: Size, place: NDArray[np.float64], shown: FloatArray | None) -> Geometry:
    """A window no larger than `wanted` or the image; `place` (2,) in [0, 1) gives its position.

    shown: a box (4,) that contains the window or is contained in it, as far as the image's border allows.
    """
    window, corner = (min(size[0], wanted[0]), min(size[1], wanted[1])), []
    for axis in (0, 1):
        first, last = 0, size[axis] - window[axis]
        if shown is not None:
            ends = sorted((math.ceil(shown[3 - axis]) - window[axis], math.floor(shown[1 - axis])))
            first, last = (min(max(end, 0), last) for end in ends)
        corner.append(first + int(place[axis] * (last - first + 1)))
    return Geometry.crop(size, corner[0], corner[1], window)


def _choose_colour(config: Augment, rng: np.random.Generator) -> ColourJitter:
    factors, hue, chance = rng.uniform(-1, 1, 3).tolist(), rng.uniform(-1, 1), rng.random(6).tolist()
    noise_seed, powers, jpeg = int(rng.integers(2**63)), rng.uniform(-1, 1, 2).tolist(), rng.random(2).tolist()
    return ColourJitter(
        brightness=1 + factors[0] * config.brightness,
        contrast=1 + factors[1] * config.contrast,
        saturation=0.0 if chance[0] < config.grey else 1 + factors[2] * config.saturation,
        hue=hue * config.hue,
        invert=chance[1] < config.invert,
        blur=config.blur * chance[2] if chance[3] < 0.5 else 0.0,
        noise=config.noise * chance[4] if chance[5] < 0.5 else 0.0,
        noise_seed=noise_seed,
        gain=config.gain ** powers[0],
        gamma=config.gamma ** powers[1],
        jpeg=100 - round(config.jpeg * jpeg[0]) if jpeg[1] < 0.5 else 100,
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
    """The sample, augmented as chosen. Deterministic.

    fill: colour outside the image. antialias: average where the image shrinks. The objects: see `move_objects`. The
    semantic map moves with the image; outside it is -1.
    """
    return apply_alike([sample], choice, fill=fill, antialias=antialias)[0]


def apply_alike(
    samples: Sequence[Sample], choice: Choice, *, fill: RGB = (0, 0, 0), antialias: bool = True
) -> list[Sample]:
    """Frames of a clip, all augmented as chosen for the first one: `apply` with the same movement and colours."""
    moved = [choice.geometry.image(one.image, fill, antialias=antialias) for one in samples]
    images = choice.colour.apply_alike(moved, samples[0].image)
    return [
        replace(
            one,
            image=image,
            objects=move_objects(one.objects, choice),
            semantic=one.semantic_moved(choice.geometry),
            proposals=one.proposals_moved(choice.geometry),
        )
        for image, one in zip(images, samples, strict=True)
    ]


def move_objects(objects: Objects, choice: Choice) -> Objects:
    """The objects, moved as chosen, with their landmarks (see `move_points`) and classes (see `move_labels`).

    Boxes become the tight boxes of the moved masks where there are masks, else the moved boxes clipped to the image.
    Objects that vanish are left out, objects cut below `min_share` are dropped or marked as crowd; crowd regions stay
    while a pixel of them is left. No box has a side below one pixel.
    """
    boxes, masks, share = _move(objects, choice.geometry)
    points = move_points(objects, choice.geometry)
    labels = move_labels(objects, choice.geometry)
    moved = Objects(boxes, labels, masks, objects.crowd, points, objects.landmarks, objects.mirrored)
    return cut_objects(moved, share, choice.min_share, choice.cut)


def cut_objects(objects: Objects, share: FloatArray, min_share: float, cut: Literal["drop", "ignore"]) -> Objects:
    """The objects without those of which nothing is left; `cut` says what happens to those under `min_share`.

    share: (N,) of each object's area that can still be seen.
    """
    low = (share < min_share) & ~objects.crowd
    keep = (share > 0) & ~low if cut == "drop" else share > 0
    return replace(objects, crowd=objects.crowd | low)[keep]


def _move(objects: Objects, geometry: Geometry) -> tuple[FloatArray, Masks | None, FloatArray]:
    """Boxes, masks and the share (N,) of each object's area that is still in the image (0: nothing usable)."""
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


def augment(sample: Sample, config: Augment, rng: np.random.Generator, *, fill: RGB = (0, 0, 0)) -> Sample:
    """`choose` and `apply` in one step, at the image's own scale; nothing of another image."""
    return apply(sample, choose(config, rng, sample.size, objects=sample.objects), fill=fill)
