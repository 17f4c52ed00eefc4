"""Image to network input, with the geometry that leads back."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from maskwright.geometry import Geometry
from maskwright.ops.warp import resize_normalise
from maskwright.types import InputSpec


def prepare(image: NDArray[np.uint8], spec: InputSpec) -> tuple[Tensor, Geometry]:
    """(H, W, 3) uint8 RGB to the normalised (3, h, w) input without padding, and the map image -> input."""
    pixels = resize_normalise(image, spec)
    return pixels, Geometry.resize((image.shape[0], image.shape[1]), (pixels.shape[1], pixels.shape[2]))
