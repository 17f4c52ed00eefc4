"""Drawing of instances: overlays, cut-outs and label maps.

Letters: N instances, P landmarks, H W image, h w crop. Time and memory follow the masks' crops, plus one copy of the
image.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from maskwright.errors import ConfigError, DataError, ImageError
from maskwright.media import as_image
from maskwright.types import BoolArray, Instances, Landmarks, Masks
from maskwright.wording import one_line

Color = tuple[int, int, int]
Rectangle = tuple[float, float, float, float]

FEW = 12
"""Up to this many texts, each is written unless its object is tiny; with more, only where it fits into its object."""

LEGIBLE = 8
"""Height of the smallest text, in pixels."""

SMALL, HIDDEN = 300, 0.25
"""In images with a short edge below SMALL pixels, texts may cover at most the share HIDDEN of any object."""


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
    colors: Literal["instance", "class"] | Sequence[int] = "instance",
) -> NDArray[np.uint8]:
    """The image with its instances: translucent masks, opaque outlines, landmarks, class names and scores.

    image: anything that `media.as_image` accepts, of the instances' size. labels, scores: write the class name, the
    score. texts: for which instances; None: all. boxes: draw boxes too (always done without masks). opacity: of the
    fill, 0 to 1. outline: width in pixels, inside the mask; None: depends on the image's size; 0: none. colors: one per
    instance, one per class, or for each instance its index in `color`. Landmarks with a score above 0 are drawn, joined
    as the instances' classes say.
    Small objects are drawn over large ones. Texts are omitted on objects that are smaller than the text, where they
    would overlap another text, among many objects where they do not fit into theirs, and in small images where they
    would hide an object.
    Returns a new uint8 array (H, W, 3). Raises ImageError for an image of another size, ConfigError for values out of
    range.
    """
    if not 0 <= opacity <= 1:
        raise ConfigError(f"overlay: opacity lies in 0..1, got {opacity}.")
    shades = [color(int(k)) for k in _indices(instances, colors)]
    source_image = _matching(image, instances).copy()
    short = min(source_image.shape[:2])
    width = max(1, round(math.sqrt(short) / 14)) if outline is None else int(outline)
    if instances.crops is not None:
        for i in np.argsort(-instances.crops.areas(), kind="stable"):
            _paint(source_image, instances.crops, int(i), shades[i], opacity, width)
    with_boxes = boxes or instances.crops is None
    words = _texts(instances, labels, scores, texts)
    if len(instances) == 0 or not (with_boxes or words or instances.keypoints is not None):
        return source_image
    canvas = Image.fromarray(source_image)
    pen = ImageDraw.Draw(canvas)
    if with_boxes:
        for box, shade in zip(instances.boxes, shades, strict=True):
            _rectangle(pen, box, shade, max(width, 1))
    if instances.keypoints is not None:
        for points, label, shade in zip(instances.keypoints, instances.labels, shades, strict=True):
            _points(pen, points, instances.classes.landmarks[int(label)], shade, max(2, round(math.sqrt(short) / 10)))
    if words:
        _write(pen, instances, words, shades, max(LEGIBLE, round(0.6 * math.sqrt(short))))
    return np.array(canvas)


def cutouts(image: Any, instances: Instances) -> Iterator[NDArray[np.uint8]]:
    """Yield each instance cut out along its mask: uint8 RGBA (h, w, 4) of its tight box, transparent outside the mask.

    An empty mask gives a (0, 0, 4) array. Raises ImageError if the sizes differ, DataError without masks.
    """
    source_image, masks = _matching(image, instances), _masks(instances, "cutouts")
    return (_cutout(source_image, masks, i) for i in range(len(masks)))


def _cutout(image: NDArray[np.uint8], masks: Masks, index: int) -> NDArray[np.uint8]:
    x0, y0, x1, y1 = (int(v) for v in masks[index].boxes()[0])
    top, left = masks.corners[index]
    crop = masks.bitmaps[index][y0 - top : y1 - top, x0 - left : x1 - left] if x1 > x0 else np.zeros((0, 0), np.bool_)
    out = np.zeros((*crop.shape, 4), np.uint8)
    out[crop, :3] = image[y0:y1, x0:x1][crop]
    out[crop, 3] = 255
    return out


def label_map(instances: Instances) -> NDArray[np.uint16]:
    """uint16 (H, W): 0 is background, i + 1 is instance i; where masks overlap, the highest score wins.

    Raises DataError without masks or with more than 65535 instances.
    """
    masks = _masks(instances, "label_map")
    if len(masks) > 65535:
        raise DataError(f"label_map: 16 bits hold 65535 instances, got {len(masks)}. Save RLE instead, or fewer.")
    out = np.zeros(instances.size, np.uint16)
    windows = masks.windows
    for i in np.argsort(-instances.scores, kind="stable")[::-1]:
        out[windows[i]][masks.bitmaps[i]] = i + 1
    return out


def color(index: int) -> Color:
    """The RGB colour of an index: hues a golden angle apart, lightness in three steps, so that neighbours differ most.

    Chosen in the OKLCH colour space, where equal distances look equal.
    """
    hue = 2 * math.pi * ((0.07 + index * 0.6180339887498949) % 1)
    light, chroma = ((0.73, 0.20), (0.62, 0.23), (0.81, 0.18))[index % 3]
    for _ in range(12):  # reduce the chroma until the colour lies in sRGB
        linear = _oklch(light, chroma, hue)
        if min(linear) >= -1e-3 and max(linear) <= 1 + 1e-3:
            break
        chroma *= 0.9
    r, g, b = (round(255 * _gamma(min(max(v, 0.0), 1.0))) for v in linear)
    return r, g, b


def _oklch(light: float, chroma: float, hue: float) -> tuple[float, float, float]:
    """OKLCH to linear sRGB (B. Ottosson, "A perceptual color space for image processing", 2020)."""
    a, b = chroma * math.cos(hue), chroma * math.sin(hue)
    long = (light + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (light - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (light - 0.0894841775 * a - 1.2914855480 * b) ** 3
    return (
        4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
        -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
        -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
    )


def _gamma(value: float) -> float:
    return 12.92 * value if value <= 0.0031308 else 1.055 * value ** (1 / 2.4) - 0.055


def _indices(instances: Instances, colors: str | Sequence[int]) -> Sequence[int]:
    if isinstance(colors, str):
        if colors not in ("instance", "class"):
            raise ConfigError(f"overlay: colors must be 'instance', 'class' or indices, got {colors!r}.")
        return instances.labels.tolist() if colors == "class" else range(len(instances))
    if len(colors) != len(instances):
        raise ConfigError(f"overlay: colors has {len(colors)} indices, expected one for each of {len(instances)}.")
    return colors


def _matching(image: Any, instances: Instances) -> NDArray[np.uint8]:
    source_image = as_image(image)
    if source_image.shape[:2] != instances.size:
        raise ImageError(f"The image is {source_image.shape[:2]} (H, W), the instances' image was {instances.size}.")
    return source_image


def _masks(instances: Instances, verb: str) -> Masks:
    if instances.crops is None:
        raise DataError(f"{verb} needs masks, these instances have boxes only.")
    return instances.crops


# ---- shapes -----------------------------------------------------------------------------------------------------


def _paint(image: NDArray[np.uint8], masks: Masks, index: int, shade: Color, opacity: float, width: int) -> None:
    (top, left), crop = masks.corners[index], masks.bitmaps[index]
    if not crop.size:
        return
    region = image[top : top + crop.shape[0], left : left + crop.shape[1]]
    if opacity > 0:
        mixed = np.arange(256)[:, None] * (1 - opacity) + np.array(shade) * opacity  # (256, 3)
        table = np.round(mixed).astype(np.uint8)
        inside = region[crop]  # (area, 3)
        region[crop] = table[inside, np.arange(3)]
    thin = min(width, max(1, min(crop.shape) // 8))  # the outline must not fill a small object
    if width > 0:
        region[_rim(crop, thin)] = shade


def _rim(crop: BoolArray, width: int) -> BoolArray:
    """Pixels of the mask within `width` of its border: what erosion by crosses and squares in turn removes.

    The two in turn approximate a disk. In NumPy, as scipy's erosion takes twenty times as long.
    """
    core = np.pad(crop, 1)
    for step in range(width):
        inner = core.copy()
        inner[1:] &= core[:-1]
        inner[:-1] &= core[1:]
        if step % 2:  # a square: erode the result along the other axis, not the original
            core = inner.copy()
        inner[:, 1:] &= core[:, :-1]
        inner[:, :-1] &= core[:, 1:]
        core = inner
    return crop & ~core[1:-1, 1:-1]


def _rectangle(pen: ImageDraw.ImageDraw, box: NDArray[np.float32], shade: Color, width: int) -> None:
    x0, y0, x1, y1 = (float(v) for v in box)
    if x1 > x0 and y1 > y0:
        right, bottom = max(math.ceil(x1) - 1, math.floor(x0)), max(math.ceil(y1) - 1, math.floor(y0))
        pen.rectangle((math.floor(x0), math.floor(y0), right, bottom), outline=shade, width=width)


def _points(
    pen: ImageDraw.ImageDraw,
    points: NDArray[np.float32],
    marks: Landmarks | None,
    shade: Color,
    radius: int,
) -> None:
    """Draw one instance's landmarks (P, 3) as dots, over the lines between them."""
    spots = [(math.floor(x), math.floor(y), score > 0) for x, y, score in points.tolist()]
    for a, b in () if marks is None else marks.links:
        if spots[a][2] and spots[b][2]:
            pen.line([spots[a][:2], spots[b][:2]], fill=shade, width=max(1, radius - 1))
    for x, y, found in spots:
        if found:
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=shade, outline=(255, 255, 255))


# ---- texts ------------------------------------------------------------------------------------------------------


def _texts(
    instances: Instances, labels: bool, scores: bool, wanted: Sequence[bool] | None
) -> dict[int, tuple[str, str]]:
    """By instance, its text and a short form for where the text does not fit.

    The short form is the class name if there are several classes, else the score.
    """
    if not (labels or scores):
        return {}
    if wanted is not None and len(wanted) != len(instances):
        raise ConfigError(f"overlay: texts has {len(wanted)} values, expected one for each of {len(instances)}.")
    chosen = [i for i in range(len(instances)) if wanted is None or wanted[i]]
    names = [instances.classes[int(k)] if labels else "" for k in instances.labels]
    marks = [f"{s:.2f}" if scores else "" for s in instances.scores]
    several = len(set(names)) > 1
    shorts = [(name if several else mark) or name or mark for name, mark in zip(names, marks, strict=True)]
    return {i: (f"{names[i]} {marks[i]}".strip(), shorts[i]) for i in chosen}


def _write(
    pen: ImageDraw.ImageDraw, instances: Instances, texts: dict[int, tuple[str, str]], shades: list[Color], size: int
) -> None:
    """Write texts, highest score first, each at the first place that is allowed, or not at all."""
    font = ImageFont.load_default(size)
    pad = max(1, size // 5)
    frame = (instances.size[1], instances.size[0])
    crowd, small = len(texts) > FEW, min(frame) < SMALL
    placed, hidden = np.zeros((0, 4)), np.zeros(len(instances))

    def allowed(spot: Rectangle) -> bool:
        return not small or bool((hidden + _hidden(instances, spot) <= HIDDEN).all())

    for i in sorted(texts, key=lambda i: -instances.scores[i]):
        box = instances.boxes[i].astype(np.float64)
        for text in map(one_line, texts[i]):
            extent = (pen.textlength(text, font=font) + 2 * pad, size + 2 * pad)
            spot = _spot(box, extent, frame, placed, allowed, not crowd) if _fits(box, extent, crowd) else None
            if spot is not None:
                hidden += _hidden(instances, spot) if small else 0
                placed = np.concatenate([placed, [spot]])
                r, g, b = shades[i]
                ink = (0, 0, 0) if 0.299 * r + 0.587 * g + 0.114 * b > 140 else (255, 255, 255)
                pen.rounded_rectangle(spot, radius=pad, fill=shades[i])
                pen.text((spot[0] + pad, (spot[1] + spot[3]) / 2), text, fill=ink, font=font, anchor="lm")
                break


def _fits(box: NDArray[np.float64], extent: tuple[float, float], crowd: bool) -> bool:
    """Whether an object is large enough for a text (width, height); crowd: whether there are more than FEW texts."""
    wide, high = float(box[2] - box[0]), float(box[3] - box[1])
    if crowd:
        return wide >= extent[0] and extent[0] * extent[1] <= 0.25 * wide * high
    return min(wide, high) >= 0.6 * extent[1]


def _hidden(instances: Instances, spot: Rectangle) -> NDArray[np.float64]:
    """(N,) share of each object's mask, or without masks of its box, that a text at `spot` covers."""
    if instances.crops is None:
        boxes = instances.boxes.astype(np.float64)
        sides = np.minimum(boxes[:, 2:], spot[2:]) - np.maximum(boxes[:, :2], spot[:2])
        whole = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
        shares: NDArray[np.float64] = np.clip(sides, 0, None).prod(axis=1) / np.maximum(whole, 1)
        return shares
    x0, y0, x1, y1 = math.floor(spot[0]), math.floor(spot[1]), math.floor(spot[2]) + 1, math.floor(spot[3]) + 1
    counts = [
        crop[max(y0 - top, 0) : max(y1 - top, 0), max(x0 - left, 0) : max(x1 - left, 0)].sum()
        for (top, left), crop in zip(instances.crops.corners.tolist(), instances.crops.bitmaps, strict=True)
    ]
    return np.array(counts, np.float64) / np.maximum(instances.crops.areas(), 1)


def _spot(
    box: NDArray[np.float64],
    text: tuple[float, float],
    image: tuple[int, int],
    placed: NDArray[Any],
    allowed: Callable[[Rectangle], bool],
    outside: bool,
) -> Rectangle | None:
    """The first free place for a text (width, height): above, in or below its box, inside the image, not over others.

    outside: the text may lie outside its box. None if no place is free.
    """
    x0, y0, x1, y1 = (float(v) for v in box)
    (w, h), (right, bottom) = text, image
    if w > right or h > bottom:
        return None
    middle = ((x0 + x1 - w) / 2, (y0 + y1 - h) / 2)
    around = [(x0, y0 - h), (x0, y0), (x0, y1), (x0, y1 - h), (x1 - w, y0 - h), middle]
    for x, y in around if outside else [(x0, y0), middle, (x0, y1 - h)]:
        x, y = min(max(x, 0), right - w), min(max(y, 0), bottom - h)
        clear = (x >= placed[:, 2]) | (x + w <= placed[:, 0]) | (y >= placed[:, 3]) | (y + h <= placed[:, 1])
        if clear.all() and allowed((x, y, x + w, y + h)):
            return x, y, x + w, y + h
    return None
