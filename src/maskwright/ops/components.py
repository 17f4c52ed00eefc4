"""Connected components of masks, 4-connected as in `masks.to_polygons`."""

import numpy as np
from scipy import ndimage

from maskwright.types import BoolArray, Masks


def largest(masks: Masks) -> Masks:
    """Each mask reduced to its largest component, the topmost of equally large ones; empty masks stay empty."""
    return Masks(masks.size, masks.corners, tuple(_largest(crop) for crop in masks.bitmaps))


def _largest(crop: BoolArray) -> BoolArray:
    parts, count = ndimage.label(crop)
    if count <= 1:
        return crop
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    out: BoolArray = parts == sizes.argmax()
    return out
