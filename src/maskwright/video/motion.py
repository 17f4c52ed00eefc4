"""How the surfaces of a frame lie to those of its key frame, whatever it was measured with."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from maskwright.ops import block_motion
from maskwright.types import BoolArray, FloatArray, ImageArray, Size

SIDE = 320
"""The long side of the small images that are compared."""

NOISE = 6.0
"""Grey levels by which a block may differ from where it came from, beside twice what is usual in the frame."""


RESOLVED = 1e-3
"""Pixels of the small image below which a motion is none: rounding, so that what is still stays exactly."""


@dataclass(frozen=True, eq=False)
class Field:
    """The motion of a frame of `size` (H, W) by cells (h, w), in the frame's pixels.

    places: (h, w, 2) x, y of the cells' centres. flow: (h, w, 2); what is at a place was at place + flow in the key
    frame. unexplained: (h, w) bool, whether nothing of the key frame looks like the cell.
    """

    size: Size
    places: FloatArray
    flow: FloatArray
    unexplained: BoolArray

    @property
    def change(self) -> float:
        """The share of the frame that nothing of the key frame explains."""
        return float(self.unexplained.mean())


def small(image: ImageArray) -> Tensor:
    """(H, W, 3) uint8 to the grey image that is compared, float32 0..255, its long side at most `SIDE`."""
    factor = -(-max(image.shape[:2]) // SIDE)  # whole pixels of the image, so that nothing is resampled
    grey = torch.from_numpy(np.ascontiguousarray(image[:, :, 1]))  # green: most of the light, sharpest of the sensor
    if factor == 1:
        return grey.float()
    return F.avg_pool2d(grey.float()[None, None], factor, ceil_mode=True, count_include_pad=False)[0, 0]


def compared(now: Tensor, key: Tensor, size: Size, guess: Field | None = None) -> Field:
    """The motion between two small images by block matching.

    size: of the frames. guess: the motion of a frame near this one from the same key frame.
    """
    factor = -(-max(size) // SIDE)
    start = None if guess is None else torch.from_numpy(guess.flow) / factor
    flow, rest = block_motion.block_motion(now, key, start)
    flow = torch.where(flow.abs() < RESOLVED, 0.0, flow)
    places = block_motion.centres(now.shape[0], now.shape[1])
    there = places + flow
    limit = torch.tensor([now.shape[1], now.shape[0]])
    outside = ((there < 0) | (there > limit)).any(dim=2)
    unexplained = outside | (rest > NOISE + 2 * rest.median())
    return Field(size, _numbers(places * factor), _numbers(flow * factor), unexplained.numpy())


def _numbers(values: Tensor) -> NDArray[np.float32]:
    return values.numpy()
