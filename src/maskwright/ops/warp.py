"""Preprocessing from image to network input: resizing, normalisation and padding by the published models' rules.

Letters: H W image, h w resized image, B batch. Sizes are (H, W).
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
    """(h, w) to which an image of `size` is resized, before padding; each side is at least one pixel.

    spec.fit: "stretch" fills the square, "letterbox" fits into it with each side rounded to the nearest pixel.
    "short_edge" has two rounding rules, which differ in about four sizes out of ten. spec.resize "pillow" rounds each
    side to the nearest pixel and applies the long-edge limit after the short edge (detectron2); "float" uses one
    factor and rounds down (torchvision).
    """
    if spec.fit == "stretch":
        return spec.size, spec.size
    if spec.fit == "letterbox":
        return _letterboxed(size, spec)
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


def _letterboxed(size: Size, spec: InputSpec) -> Size:
    scale = spec.size / max(size)
    if spec.enlarge is not None:
        scale = min(scale, spec.enlarge)
    height, width = (max(1, int(side * scale + 0.5)) for side in size)
    return height, width


def resize_normalise(image: NDArray[np.uint8], spec: InputSpec) -> Tensor:
    """(H, W, 3) uint8 RGB to the float32 (3, h, w) input, not padded.

    "float" resizes before it normalises, unlike torchvision: both steps are linear, so results differ by rounding only,
    and this order is less work.
    """
    h, w = input_size((image.shape[0], image.shape[1]), spec)
    if spec.resize == "pillow" and (h, w) != image.shape[:2]:
        image = np.asarray(Image.fromarray(image).resize((w, h), Image.Resampling.BILINEAR))
    pixels = _floats(image, spec)
    if pixels.shape[1:] != (h, w):
        pixels = F.interpolate(pixels[None], (h, w), mode="bilinear", align_corners=False)[0]
    return _normalised(pixels, spec)


def normalise(image: NDArray[np.uint8], spec: InputSpec) -> Tensor:
    """(H, W, 3) uint8 RGB to float32 (3, H, W), not resized."""
    return _normalised(_floats(image, spec), spec)


def _floats(image: NDArray[np.uint8], spec: InputSpec) -> Tensor:
    """A float32 copy (3, H, W) in the network's channel order."""
    if spec.channels == "BGR":
        image = image[:, :, ::-1]
    return torch.from_numpy(image.astype(np.float32, order="C")).permute(2, 0, 1)


def _normalised(pixels: Tensor, spec: InputSpec) -> Tensor:
    """In place."""
    mean, std = torch.tensor(spec.mean), torch.tensor(spec.std)
    return pixels.sub_(mean[:, None, None]).div_(std[:, None, None])


def padded_size(sizes: Sequence[Size], multiple: int, least: int = 0) -> Size:
    """The common (H, W) of a batch: the largest of each side and of `least`, rounded up to `multiple`.

    least: `InputSpec.square` of the inputs.
    """
    height = -(-max(least, *(s[0] for s in sizes)) // multiple) * multiple
    width = -(-max(least, *(s[1] for s in sizes)) // multiple) * multiple
    return height, width


def pad_batch(images: Sequence[Tensor], multiple: int, least: int = 0) -> Tensor:
    """(3, h, w) inputs as one (B, 3, H, W) batch of `padded_size`, zeros at the right and bottom, channels_last."""
    height, width = padded_size([(i.shape[1], i.shape[2]) for i in images], multiple, least)
    batch = images[0].new_zeros((len(images), height, width, images[0].shape[0])).permute(0, 3, 1, 2)
    for row, image in zip(batch, images, strict=True):
        row[:, : image.shape[1], : image.shape[2]] = image
    return batch
