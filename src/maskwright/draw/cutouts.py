"""Instances taken out of their image: cut-outs and label maps."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskwright.errors import DataError, ImageError
from maskwright.media import Windows, as_image
from maskwright.ops.masks import painted
from maskwright.types import Instances, Masks

MOST_LABELS = 65535
"""Largest value of a label image of 16 bits."""


def cutouts(image: Any, instances: Instances) -> Iterator[NDArray[np.uint8]]:
    """Yield each instance cut out along its mask: uint8 RGBA (h, w, 4) of its tight box, transparent outside the mask.

    image: as for `overlay`, or read in windows. An empty mask gives a (0, 0, 4) array. Raises ImageError if the sizes
    differ, DataError without masks.
    """
    masks = _masks(instances, "cutouts")
    source_image = image if isinstance(image, Windows) else matching(image, instances)
    return (_cutout(source_image, masks, i) for i in range(len(masks)))


def _cutout(image: NDArray[np.uint8] | Windows, masks: Masks, index: int) -> NDArray[np.uint8]:
    x0, y0, x1, y1 = (int(v) for v in masks[index].boxes()[0])
    top, left = masks.corners[index]
    crop = masks.bitmaps[index][y0 - top : y1 - top, x0 - left : x1 - left] if x1 > x0 else np.zeros((0, 0), np.bool_)
    out = np.zeros((*crop.shape, 4), np.uint8)
    if crop.size:
        pixels = image.read(y0, x0, crop.shape) if isinstance(image, Windows) else image[y0:y1, x0:x1]
        out[crop, :3] = pixels[crop]
    out[crop, 3] = 255
    return out


def label_map(instances: Instances, values: Sequence[int] | None = None) -> NDArray[np.uint16]:
    """uint16 (H, W): 0 is background, i + 1 is instance i; where masks overlap, the highest score wins.

    values: another number for each instance, such as that of its track. Raises DataError without masks or with more
    instances or larger values than 65535.
    """
    masks = _masks(instances, "label_map")
    numbers = range(1, len(masks) + 1) if values is None else values
    if max(numbers, default=0) > MOST_LABELS:
        raise DataError(
            f"label_map: 16 bits hold {MOST_LABELS} labels, got {max(numbers)}. Save RLE instead, or fewer."
        )
    return painted(masks, np.argsort(-instances.scores, kind="stable")[::-1].tolist(), numbers, np.uint16)


def matching(image: Any, instances: Instances) -> NDArray[np.uint8]:
    """The image as (H, W, 3) uint8. Raises ImageError where its size is not the instances'."""
    source_image = as_image(image)
    if source_image.shape[:2] != instances.size:
        raise ImageError(f"The image is {source_image.shape[:2]} (H, W), the instances' image was {instances.size}.")
    return source_image


def _masks(instances: Instances, verb: str) -> Masks:
    if instances.crops is None:
        raise DataError(f"{verb} needs masks, these instances have boxes only.")
    return instances.crops
