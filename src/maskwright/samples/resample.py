"""An image moved by an affine map, in one pass and fast: what `Geometry.image` does, for training.

Letters: H W image, h w result.
"""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image

from maskwright.errors import ConfigError
from maskwright.geometry import Geometry
from maskwright.samples.sample import RGB
from maskwright.types import ImageArray, Size


def warp(image: ImageArray, geometry: Geometry, *, fill: RGB = (0, 0, 0), antialias: bool = True) -> ImageArray:
    """(H, W, 3) uint8 moved as `Geometry.image` does, faster: equal where pixels are copied, else within rounding.

    antialias False samples the image as it is even where it shrinks.
    """
    if image.shape[:2] != geometry.source:
        raise ConfigError(f"warp: the image is {image.shape[:2]}, the map starts at {geometry.source}.")
    image, matrix = _turn_upright(image, geometry.matrix)
    if _near(matrix[:2, :2], np.eye(2)) and _near(matrix[:2, 2], np.rint(matrix[:2, 2])):
        return _window(image, -round(matrix[1, 2]), -round(matrix[0, 2]), geometry.size, fill)
    h, w = geometry.size
    back = np.linalg.inv(matrix).astype(np.float64)
    x0, y0 = back[:2, 2]
    x1, y1 = back[:2] @ (w, h, 1)
    inside = min(x0, y0) >= -1e-6 and x1 <= image.shape[1] + 1e-6 and y1 <= image.shape[0] + 1e-6
    scale = np.linalg.norm(matrix[:2, :2], axis=0)  # of a step along source x, y
    straight = _near(matrix[:2, :2], np.diag(np.diag(matrix[:2, :2])))
    if straight and inside and (antialias or scale.min() >= 1):
        window = (max(0.0, x0), max(0.0, y0), min(float(image.shape[1]), x1), min(float(image.shape[0]), y1))
        return np.array(Image.fromarray(image).resize((w, h), Image.Resampling.BILINEAR, box=window))
    if antialias and scale.min() < 1:
        small = [max(1, round(side * min(1.0, s))) for side, s in zip(image.shape[1::-1], scale, strict=True)]
        back = np.diag([small[0] / image.shape[1], small[1] / image.shape[0], 1.0]) @ back
        image = np.array(Image.fromarray(image).resize((small[0], small[1]), Image.Resampling.BILINEAR))
    return _sample(image, back, (h, w), fill)


def _sample(image: ImageArray, back: NDArray[np.float64], size: Size, fill: RGB) -> ImageArray:
    """Bilinear samples of the image at `back @ centre` of each new pixel; Pillow's own would round down."""
    height, width = image.shape[:2]
    x = torch.arange(size[1], dtype=torch.float32)[None] + 0.5
    y = torch.arange(size[0], dtype=torch.float32)[:, None] + 0.5
    from_x = (back[0, 0] * x + back[0, 1] * y + back[0, 2]) * (2 / width) - 1  # (h, w)
    from_y = (back[1, 0] * x + back[1, 1] * y + back[1, 2]) * (2 / height) - 1
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float()  # (1, 3, H, W)
    grid = torch.stack([from_x, from_y], dim=-1)[None]
    moved = F.grid_sample(pixels, grid, mode="bilinear", padding_mode="border", align_corners=False)[0]
    outside = (from_x.abs() > 1) | (from_y.abs() > 1)
    moved = torch.where(outside, torch.tensor(fill, dtype=torch.float32).view(3, 1, 1), moved)
    return moved.permute(1, 2, 0).round_().to(torch.uint8).contiguous().numpy()


def _near(a: NDArray[np.float64], b: NDArray[np.float64]) -> bool:
    return bool(np.abs(a - b).max() < 1e-9)


def _turn_upright(image: ImageArray, matrix: NDArray[np.float64]) -> tuple[ImageArray, NDArray[np.float64]]:
    """Take exchanged axes and mirrorings out of an axis-parallel map by views of the image; others stay."""
    if _near(np.diag(matrix[:2, :2]), np.zeros(2)):
        image, matrix = image.transpose(1, 0, 2), matrix @ np.array([[0.0, 1, 0], [1, 0, 0], [0, 0, 1]])
    if _near(np.fliplr(matrix[:2, :2]).diagonal(), np.zeros(2)):
        height, width = image.shape[:2]
        if matrix[0, 0] < 0:
            image, matrix = image[:, ::-1], matrix @ np.array([[-1.0, 0, width], [0, 1, 0], [0, 0, 1]])
        if matrix[1, 1] < 0:
            image, matrix = image[::-1], matrix @ np.array([[1.0, 0, 0], [0, -1, height], [0, 0, 1]])
    return np.ascontiguousarray(image), matrix


def _window(image: ImageArray, top: int, left: int, size: Size, fill: RGB) -> ImageArray:
    """The window of `size` at (top, left), which may reach outside; always a new array."""
    height, width = image.shape[:2]
    y0, x0, y1, x1 = max(top, 0), max(left, 0), min(top + size[0], height), min(left + size[1], width)
    if (y1 - y0, x1 - x0) == size:
        return image[y0:y1, x0:x1].copy()
    out = np.empty((*size, 3), np.uint8)
    out[:] = fill
    if y0 < y1 and x0 < x1:
        out[y0 - top : y1 - top, x0 - left : x1 - left] = image[y0:y1, x0:x1]
    return out
