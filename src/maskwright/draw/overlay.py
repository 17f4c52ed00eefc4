"""The overlay: an image with its instances drawn on it.

Letters: N instances, H W image. Time and memory follow the masks' crops, plus one copy of the image.
"""

import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from maskwright.draw import texts as words
from maskwright.draw.colours import ColourBy, shades
from maskwright.draw.cutouts import matching
from maskwright.draw.shapes import landmarks, paint, rectangle
from maskwright.errors import ConfigError, suggest
from maskwright.geometry import Geometry
from maskwright.types import Instances, Size

LINE, DOT, LETTER = 2.0, 2.3, 14.0
"""Width of lines, radius of dots and height of letters, in pixels, in an image with a short edge of 512 pixels."""

NAME = 0.75
"""Height of the letters of a landmark's name, as a share of that of other texts."""

Found = TypeVar("Found", bound=Instances)


def scaled(pixels: float, short: int) -> int:
    """What is `pixels` wide at a short edge of 512, in an image whose short edge is `short`; at least 1.

    It changes less than the image: small letters stay legible, and objects of large images are mostly a small part.
    """
    ratio = short / 512
    return max(1, round(pixels * (math.sqrt(ratio) if ratio < 1 else math.pow(ratio, 0.75))))


def overlay(
    image: Any,
    instances: Instances,
    *,
    labels: bool = True,
    scores: bool = True,
    texts: Sequence[bool] | None = None,
    boxes: bool = False,
    opacity: float = 0.45,
    outline: int | None = None,
    colour: ColourBy | Sequence[int] | None = None,
    legend: bool | None = None,
    names: bool | None = None,
) -> NDArray[np.uint8]:
    """The image with its instances: translucent masks, opaque outlines, landmarks, class names and scores.

    image: anything that `media.as_image` accepts, of the instances' size. labels, scores: write the class name, the
    score; of objects that are followed also the number. texts: for which instances; None: all. boxes: draw boxes too
    (always done without masks). opacity: of the fill, 0 to 1. outline: width in pixels, inside the mask; None: depends
    on the image's size; 0: none. colour: "class", "instance", "score" or "track", or for each instance its index in
    `colour_of`; None: tracks where there are some, else instances. legend: classes with their numbers of instances, and
    what the colours mean; None: where texts were wanted and some did not fit. Landmarks with a score above 0 are
    drawn, joined as the instances' classes say. names: write their names where there are few objects, at those where
    all fit without touching each other; None: as `labels`.
    Small objects are drawn over large ones. A text touches its object. It is omitted on objects that are smaller than
    the text, where it would overlap another text or hide an object, and among many objects where it does not fit into
    its own; where most are omitted among many, all are. A legend is omitted where it would take too much of the image.
    Returns a new uint8 array (H, W, 3). Raises ImageError for an image of another size, ConfigError for values out of
    range.
    """
    if not 0 <= opacity <= 1:
        raise ConfigError(f"overlay: opacity lies in 0..1, got {opacity}.")
    tones = shades(instances, colour)
    source_image = matching(image, instances).copy()
    short = min(source_image.shape[:2])
    width = scaled(LINE, short) if outline is None else int(outline)
    if instances.crops is not None:
        for i in np.argsort(-instances.crops.areas(), kind="stable"):
            paint(source_image, instances.crops, int(i), tones[i], opacity, width)
    with_boxes = boxes or instances.crops is None
    wanted = words.wanted(instances, labels, scores, texts)
    if len(instances) == 0 or not (with_boxes or wanted or legend or instances.keypoints is not None):
        return source_image
    canvas = Image.fromarray(source_image)
    pen = ImageDraw.Draw(canvas)
    if with_boxes:
        for box, shade in zip(instances.boxes, tones, strict=True):
            rectangle(pen, box, shade, max(width, 1))
    if instances.keypoints is not None:
        for points, label, shade in zip(instances.keypoints, instances.labels, tones, strict=True):
            landmarks(pen, points, instances.classes.landmarks[int(label)], shade, max(2, scaled(DOT, short)))
    size = max(words.LEGIBLE, scaled(LETTER, short))
    placed = words.placed(pen, instances, wanted, size, by_box=with_boxes)
    for text in placed:
        words.write(pen, text, tones[text.row], size)
    small = max(words.LEGIBLE, round(NAME * size))
    for text in words.landmark_names(pen, instances, small, placed) if (labels if names is None else names) else ():
        words.write(pen, text, tones[text.row], small)
    if legend or (legend is None and len(placed) < len(wanted)):
        words.legend(canvas, instances, colour if isinstance(colour, str) else "", size)
    return np.array(canvas)


def reduced(instances: Found, factor: int, size: Size) -> Found:
    """The instances on a copy of their image of `size` (H, W), of which one pixel stands for `factor` x `factor`."""
    geometry = Geometry(np.diag([1 / factor, 1 / factor, 1.0]), instances.size, size)
    marks = instances.keypoints
    if marks is not None:
        marks = np.concatenate([geometry.points(marks[:, :, :2]), marks[:, :, 2:]], axis=2).astype(np.float32)
    crops = None if instances.crops is None else geometry.masks(instances.crops)
    return replace(instances, boxes=geometry.boxes(instances.boxes), crops=crops, keypoints=marks, size=size)


OPTIONS = tuple(inspect.signature(overlay).parameters)[2:]
"""Names of what can be chosen of an overlay."""


def checked(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """The options. Raises ConfigError, naming near misses, for one that `overlay` does not have."""
    for name in options:
        if name not in OPTIONS:
            raise ConfigError(f"An overlay has no option '{name}'.{suggest(name, OPTIONS)}")
    return options
