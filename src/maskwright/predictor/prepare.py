"""Image to network input, with the geometry that leads back; its proposals for a network that is given them."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskwright.geometry import Geometry
from maskwright.ops.selective_search import selective_search
from maskwright.ops.warp import resize_normalise
from maskwright.predictor.detector import Detector, NetworkDetector
from maskwright.predictor.timing import StageTimer, stage
from maskwright.types import ImageArray, InputSpec


def prepare(image: NDArray[np.uint8], spec: InputSpec) -> tuple[Tensor, Geometry]:
    """(H, W, 3) uint8 RGB to the normalised (3, h, w) input without padding, and the map image -> input."""
    pixels = resize_normalise(image, spec)
    return pixels, Geometry.resize((image.shape[0], image.shape[1]), (pixels.shape[1], pixels.shape[2]))


def searched(
    detector: Detector,
    images: Sequence[ImageArray],
    geometries: Sequence[Geometry],
    timer: StageTimer | None = None,
) -> list[Tensor] | None:
    """The proposals (N, 4) of each image in its input, for a network that is given them; None for any other.

    geometries: of each image, as `prepare` returns it. timer: receives the seconds of the stage "search".
    """
    spec = detector.network.config.box_search if isinstance(detector, NetworkDetector) else None
    if spec is None:
        return None
    with stage(timer, "search"):
        pairs = zip(images, geometries, strict=True)
        return [torch.from_numpy(geometry.boxes(selective_search(image, spec))) for image, geometry in pairs]
