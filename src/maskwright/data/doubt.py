"""Whether the objects of a data set are single things, or masks of another kind that were taken for objects.

A foreground mask has one value for all things, a class mask one for each class, and a label image that was stored as
JPEG or resized with smoothing has values that were not drawn: the "objects" then lie in many pieces. Where the
background has a value other than 0, it becomes an object. The rules here judge what was read, of any format.
"""

from collections.abc import Iterable
from dataclasses import astuple, dataclass

import numpy as np
from scipy import ndimage

from maskwright.types import BoolArray, Masks

_LARGE = 0.1  # of the largest piece's pixels, from which on another piece is no speck
_LEAST_PIECES = 8  # fewer say nothing
_GROUND = 0.1, 2.0  # the least share of its image, and of the second largest object, that a background has
_MOST = 0.5  # of its image: from here on a background need reach three borders alone
_MANY = 4, 0.5  # pieces from which on an object is a void value or a class: at least, and for each other object
_AROUND = np.ones((3, 3), np.int8)  # pieces that touch at a corner are one


def pieces(crop: BoolArray) -> int:
    """The separate pieces of a mask; 1 where there are no more than a second one that is a speck."""
    parts, count = ndimage.label(crop, _AROUND)
    if count == 2:
        sizes = np.bincount(parts.ravel())[1:]
        return 2 if sizes.min() >= _LARGE * sizes.max() else 1
    return int(count)


def ground(masks: Masks) -> int | None:
    """Which object may be the background: it reaches all borders, or three of them where it is most of the image, and
    is the largest by far; None for none."""
    if len(masks) < 2:
        return None
    areas, (height, width) = masks.areas(), masks.size
    *_, second, first = np.argsort(areas, kind="stable")
    share, times = _GROUND
    borders = int((masks.boxes()[first] == [0, 0, width, height]).sum())
    whole = borders == 4 or (borders == 3 and areas[first] >= _MOST * height * width)
    large = areas[first] >= share * height * width and areas[first] >= times * areas[second]
    return int(first) if whole and large else None


@dataclass
class Tally:
    """What was seen of a data set so far.

    objects: with pixels. scattered: those in several pieces. parts: the pieces of all. crowded: images with two objects
    or more. grounds, voids: those of them in which one object may be the background, or a void value. crowds, single:
    crowd regions with an outline, and those of one piece.
    """

    objects: int = 0
    scattered: int = 0
    parts: int = 0
    crowded: int = 0
    grounds: int = 0
    voids: int = 0
    crowds: int = 0
    single: int = 0

    def add(self, masks: Masks) -> None:
        """Look at the objects of one image."""
        counts = [pieces(crop) for crop in masks.bitmaps if crop.any()]
        self.objects += len(counts)
        self.scattered += sum(n > 1 for n in counts)
        self.parts += sum(counts)
        self.crowded += len(counts) > 1
        self.grounds += ground(masks) is not None
        least, each = _MANY
        self.voids += len(counts) > 1 and max(counts) >= max(least, each * (len(counts) - 1))

    def add_crowds(self, bitmaps: Iterable[BoolArray]) -> None:
        """Look at crowd regions."""
        counts = [pieces(crop) for crop in bitmaps]
        self.crowds += len(counts)
        self.single += sum(n == 1 for n in counts)

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def doubt(self) -> str:
        """Why the objects may not be what was meant, in a sentence; empty where nothing speaks against them."""
        if 2 * self.scattered > self.objects and self.parts >= max(_LEAST_PIECES, 2 * self.objects):
            return (
                f"{self.scattered} of {self.objects} objects lie in separate pieces ({self.parts} in all). Are these "
                f"foreground masks (one value for all things), class masks (one for each class), or label images "
                f"that were stored as JPEG or resized with smoothing?"
            )
        if self.grounds and 2 * self.grounds > self.crowded:
            return (
                f"in {self.grounds} of {self.crowded} images one object reaches the borders and is the largest by far. "
                f"Is it the background, whose value should be 0?"
            )
        if self.voids and 2 * self.voids > self.crowded:
            return (
                f"in {self.voids} of {self.crowded} images one object lies in {_MANY[0]} pieces or more, many for the "
                f"number of the others. Is it a void value, such as 255 around the objects, or a class?"
            )
        return ""
