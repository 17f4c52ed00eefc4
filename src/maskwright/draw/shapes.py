"""Masks, boxes and landmarks as they are drawn.

Letters: P landmarks, h w crop.
"""

import math

import numpy as np
from numpy.typing import NDArray
from PIL import ImageDraw

from maskwright.draw.colours import Colour
from maskwright.types import BoolArray, Landmarks, Masks


def paint(image: NDArray[np.uint8], masks: Masks, index: int, shade: Colour, opacity: float, width: int) -> None:
    """Fill one mask and draw its outline, `width` pixels inside it, into the image."""
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


def rectangle(pen: ImageDraw.ImageDraw, box: NDArray[np.float32], shade: Colour, width: int) -> None:
    """Draw a box, its lines inside it."""
    x0, y0, x1, y1 = (float(v) for v in box)
    if x1 > x0 and y1 > y0:
        right, bottom = max(math.ceil(x1) - 1, math.floor(x0)), max(math.ceil(y1) - 1, math.floor(y0))
        pen.rectangle((math.floor(x0), math.floor(y0), right, bottom), outline=shade, width=width)


def landmarks(
    pen: ImageDraw.ImageDraw,
    points: NDArray[np.float32],
    marks: Landmarks | None,
    shade: Colour,
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
