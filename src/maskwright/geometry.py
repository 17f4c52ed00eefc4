"""Affine maps between image frames, with an inverse: the only place where coordinates change frame.

A point (x, y) of the source image is mapped to `matrix @ (x, y, 1)`. Coordinates are continuous pixels: an image covers
[0, W) x [0, H), pixel centres lie at half-integers, a flip is x -> W - x.
"""

import math
from dataclasses import dataclass
from functools import reduce
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from maskwright.errors import ConfigError, ImageError
from maskwright.types import RGB, BoolArray, FloatArray, ImageArray, IntArray, Masks, Size

Matrix = NDArray[np.float64]
Value = TypeVar("Value", bound=np.generic)


@dataclass(frozen=True, eq=False)
class Geometry:
    """An affine map from an image of size `source` to one of size `size`, both (H, W).

    matrix: (3, 3) float64 acting on (x, y, 1). Raises ConfigError if it is not invertible, or a side is below 1.
    """

    matrix: Matrix
    source: Size
    size: Size

    def __post_init__(self) -> None:
        matrix = np.array(self.matrix, dtype=np.float64)
        if matrix.shape != (3, 3) or not np.isfinite(matrix).all() or abs(np.linalg.det(matrix)) < 1e-12:
            raise ConfigError(f"Geometry needs an invertible finite 3x3 matrix, got {self.matrix!r}.")
        for name in ("source", "size"):
            height, width = (int(v) for v in getattr(self, name))
            if height < 1 or width < 1:
                raise ConfigError(f"Geometry: {name} must be at least 1x1, got {height}x{width}.")
            object.__setattr__(self, name, (height, width))
        matrix.setflags(write=False)
        object.__setattr__(self, "matrix", matrix)

    @property
    def mirrors(self) -> bool:
        """Whether it turns a left hand into a right one: a flip along one axis does, a turn does not."""
        return float(np.linalg.det(self.matrix[:2, :2])) < 0

    # ---- construction -----------------------------------------------------------------------------------------

    @classmethod
    def identity(cls, size: Size) -> "Geometry":
        """The identity map."""
        return cls(np.eye(3), size, size)

    @classmethod
    def resize(cls, source: Size, size: Size) -> "Geometry":
        """Resize `source` to `size`, each axis by its own factor."""
        return cls(np.diag([size[1] / source[1], size[0] / source[0], 1.0]), source, size)

    @classmethod
    def flip(cls, source: Size, *, horizontal: bool = False, vertical: bool = False) -> "Geometry":
        """Mirror left-right and/or top-bottom."""
        x, y = 1.0 - 2 * horizontal, 1.0 - 2 * vertical
        matrix = np.array([[x, 0, horizontal * source[1]], [0, y, vertical * source[0]], [0, 0, 1]])
        return cls(matrix, source, source)

    @classmethod
    def crop(cls, source: Size, top: int, left: int, size: Size) -> "Geometry":
        """The window of `size` with its corner at (top, left); parts outside the source are padding."""
        return cls(np.array([[1.0, 0, -left], [0, 1, -top], [0, 0, 1]]), source, size)

    @classmethod
    def pad(cls, source: Size, *, top: int = 0, left: int = 0, bottom: int = 0, right: int = 0) -> "Geometry":
        """Add margins, in pixels."""
        return cls.crop(source, -top, -left, (source[0] + top + bottom, source[1] + left + right))

    @classmethod
    def affine(
        cls,
        source: Size,
        *,
        degrees: float = 0.0,
        scale: float = 1.0,
        shear: float = 0.0,
        shift: tuple[float, float] = (0.0, 0.0),
    ) -> "Geometry":
        """Rotate (clockwise on screen), scale and shear (degrees, along x) about the centre, then shift by (x, y)."""
        angle, slant = math.radians(degrees), math.tan(math.radians(shear))
        cos, sin = math.cos(angle), math.sin(angle)
        linear = scale * np.array([[cos, -sin], [sin, cos]]) @ np.array([[1.0, slant], [0.0, 1.0]])
        centre = np.array([source[1] / 2, source[0] / 2])
        matrix = np.eye(3)
        matrix[:2, :2] = linear
        matrix[:2, 2] = centre + np.asarray(shift, np.float64) - linear @ centre
        return cls(matrix, source, source)

    # ---- combining --------------------------------------------------------------------------------------------

    def then(self, *others: "Geometry") -> "Geometry":
        """This map followed by the others, as one. Raises ConfigError where their sizes do not match."""
        return reduce(Geometry._followed_by, others, self)

    def _followed_by(self, other: "Geometry") -> "Geometry":
        if self.size != other.source:
            raise ConfigError(f"Geometry.then: this one ends at {self.size}, the next one starts at {other.source}.")
        return Geometry(other.matrix @ self.matrix, self.source, other.size)

    def inverse(self) -> "Geometry":
        """The inverse map."""
        return Geometry(_inverse(self.matrix), self.size, self.source)

    # ---- applying ---------------------------------------------------------------------------------------------

    def points(self, points: ArrayLike) -> NDArray[np.float64]:
        """(..., 2) x, y mapped to the new frame; float64."""
        points = np.asarray(points, dtype=np.float64)
        return points @ self.matrix[:2, :2].T + self.matrix[:2, 2]

    def boxes(self, boxes: ArrayLike) -> FloatArray:
        """(N, 4) xyxy to the bounding boxes of the mapped corners; float32, not clipped."""
        boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
        corners = self.points(boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2))
        return np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1).astype(np.float32)

    def masks(self, masks: Masks) -> Masks:
        """The masks in the new frame, each pixel read at its centre (nearest neighbour); work follows the masks' area.

        Raises ConfigError for masks of another size than `source`.
        """
        if masks.size != self.source:
            raise ConfigError(f"Geometry.masks: the masks are for {masks.size}, this map starts at {self.source}.")
        back = _inverse(self.matrix)
        moved = [
            self._mask(crop, int(t), int(le), back) for crop, (t, le) in zip(masks.bitmaps, masks.corners, strict=True)
        ]
        corners = np.array([corner for corner, _ in moved], np.int64).reshape(-1, 2)
        return Masks(self.size, corners, tuple(crop for _, crop in moved))

    def _mask(self, crop: BoolArray, top: int, left: int, back: Matrix) -> tuple[tuple[int, int], BoolArray]:
        empty = ((0, 0), np.zeros((0, 0), np.bool_))
        h, w = crop.shape
        if h == 0 or w == 0:
            return empty
        box = self.boxes([[left, top, left + w, top + h]])[0].astype(np.float64)
        x0, y0 = max(0, math.floor(box[0])), max(0, math.floor(box[1]))
        x1, y1 = min(self.size[1], math.ceil(box[2])), min(self.size[0], math.ceil(box[3]))
        if x0 >= x1 or y0 >= y1:
            return empty
        out = _nearest(crop, (top, left), back, (y0, y1), (x0, x1), outside=False)
        return ((y0, x0), out) if out.any() else empty

    def label_map(self, labels: IntArray, outside: int = -1) -> IntArray:
        """A map of labels (H, W) in the new frame, read as masks are; `outside` where the source has no pixel.

        Raises ConfigError for a map of another size than `source`.
        """
        if labels.shape != self.source:
            raise ConfigError(f"Geometry.label_map: labels are {labels.shape}, this map starts at {self.source}.")
        height, width = self.size
        return _nearest(labels, (0, 0), _inverse(self.matrix), (0, height), (0, width), outside)

    def image(self, image: ImageArray, fill: RGB = (0, 0, 0), *, antialias: bool = True) -> ImageArray:
        """The uint8 image (H, W, 3) in the new frame: bilinear, antialiased where it shrinks; `fill` outside.

        Flips, crops and padding by whole pixels copy pixels exactly. antialias False samples the image as it is even
        where it shrinks. Raises ImageError for another kind of array, ConfigError for another size than `source`.
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ImageError(f"Geometry.image needs a uint8 image (H, W, 3), got {image.dtype} {image.shape}.")
        if image.shape[:2] != self.source:
            raise ConfigError(f"Geometry.image: image is {image.shape[:2]}, this map starts at {self.source}.")
        image, matrix = _turn_upright(image, self.matrix)
        if _near(matrix[:2, :2], np.eye(2)) and _near(matrix[:2, 2], np.rint(matrix[:2, 2])):
            return _window(image, -round(matrix[1, 2]), -round(matrix[0, 2]), self.size, fill)
        h, w = self.size
        back = _inverse(matrix)
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


def _inverse(matrix: Matrix) -> Matrix:
    return np.asarray(np.linalg.inv(matrix), dtype=np.float64)


def _nearest(
    values: NDArray[Value], corner: Size, back: Matrix, rows: Size, columns: Size, outside: Any
) -> NDArray[Value]:
    """Rows and columns (first, end) of a moved array that had its corner at (top, left), each read at its centre."""
    h, w = values.shape
    centre_x, centre_y = np.arange(*columns) + 0.5, np.arange(*rows)[:, None] + 0.5
    # 1e-9: centres that lie on a pixel border up to rounding errors are all assigned to the same side.
    from_x = np.floor(back[0, 0] * centre_x + back[0, 1] * centre_y + back[0, 2] + 1e-9).astype(np.int64) - corner[1]
    from_y = np.floor(back[1, 0] * centre_x + back[1, 1] * centre_y + back[1, 2] + 1e-9).astype(np.int64) - corner[0]
    inside = (from_x >= 0) & (from_x < w) & (from_y >= 0) & (from_y < h)
    read: NDArray[Value] = values[np.clip(from_y, 0, h - 1), np.clip(from_x, 0, w - 1)]
    return np.where(inside, read, values.dtype.type(outside))


def _sample(image: ImageArray, back: Matrix, size: Size, fill: RGB) -> ImageArray:
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


def _near(a: Matrix, b: Matrix) -> bool:
    return bool(np.abs(a - b).max() < 1e-9)


def _turn_upright(image: ImageArray, matrix: Matrix) -> tuple[ImageArray, Matrix]:
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
