"""Picture to network input: size rules, resizing, normalising and padding, as the published models were trained.

Letters: H W picture, h w resized picture, B batch.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from maskwright.types import InputSpec, Size


def input_size(size: Size, spec: InputSpec) -> Size:
    """(h, w) a picture of `size` is resized to; the two rounding rules differ in about four sizes out of ten.

    "pillow": each side to the nearest pixel, the long-edge limit applied after the short edge (detectron2).
    "float": one factor, each side rounded down (torchvision). Neither side ever gets below one pixel.
    """
    height, width = size
    short, long = min(size), max(size)
    wanted: float = spec.size if spec.shrink else max(spec.size, short)
    if spec.enlarge is not None:
        wanted = min(wanted, max(1.0, spec.enlarge * short))
    if spec.resize == "pillow":
        scale = wanted / short
        h, w = (float(wanted), scale * width) if height < width else (scale * height, float(wanted))
        if spec.max_size is not None and max(h, w) > spec.max_size:
            scale = spec.max_size / max(h, w)
            h, w = h * scale, w * scale
        return max(1, int(h + 0.5)), max(1, int(w + 0.5))
    scale = wanted / short
    if spec.max_size is not None:
        scale = min(scale, spec.max_size / long)
    return max(1, int(height * scale)), max(1, int(width * scale))


def resize_normalise(image: NDArray[np.uint8], spec: InputSpec) -> Tensor:
    """(H, W, 3) uint8 RGB to the float32 (3, h, w) input without padding; channels_last strides."""
    h, w = input_size(image.shape[:2], spec)
    if spec.resize == "pillow" and (h, w) != image.shape[:2]:
        image = np.asarray(Image.fromarray(image).resize((w, h), Image.Resampling.BILINEAR))
    if spec.channels == "BGR":
        image = image[:, :, ::-1]
    pixels = torch.from_numpy(image.astype(np.float32, order="C"))  # (H, W, 3), a copy: four times the picture's bytes
    pixels = pixels.sub_(torch.tensor(spec.mean)).div_(torch.tensor(spec.std)).permute(2, 0, 1)
    if pixels.shape[1:] != (h, w):
        pixels = F.interpolate(pixels[None], (h, w), mode="bilinear", align_corners=False)[0]
    return pixels


def padded_size(sizes: Sequence[Size], multiple: int) -> Size:
    """The common (H, W) of a batch: the largest of each side, rounded up to `multiple`."""
    height = -(-max(s[0] for s in sizes) // multiple) * multiple
    width = -(-max(s[1] for s in sizes) // multiple) * multiple
    return height, width


def pad_batch(images: Sequence[Tensor], multiple: int) -> Tensor:
    """(3, h, w) inputs as one (B, 3, H, W) batch in channels_last memory, padded right and bottom with zeros."""
    height, width = padded_size([(i.shape[1], i.shape[2]) for i in images], multiple)
    batch = images[0].new_zeros((len(images), height, width, images[0].shape[0])).permute(0, 3, 1, 2)
    for row, image in zip(batch, images, strict=True):
        row[:, : image.shape[1], : image.shape[2]] = image
    return batch
