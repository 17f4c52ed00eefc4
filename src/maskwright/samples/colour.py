"""A drawn change of an image's colours: exposure, contrast, tint, sharpness, noise, compression.

Letters: H W image.
"""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from maskwright import media
from maskwright.types import ImageArray

Curve = NDArray[np.float32]
"""(256,) the new value of each value."""

LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""Weights of red, green and blue in the grey value (ITU-R BT.601)."""

BRIGHT = 0.995
"""The bright end of an image is this quantile of its values."""
LOOKED_AT = 250_000
"""About this many pixels of a large image are sampled to find its bright end."""

DARKEST = 16.0
"""Grey levels that a gain keeps between black and the bright end: fewer cannot show an object in 8 bits."""


@dataclass(frozen=True)
class ColourJitter:
    """A drawn change of colour. The factors are 1 where nothing changes; noise is drawn anew from `noise_seed`.

    gain: factor of the exposure. It is limited so that the bright end of the whole image stays between 16 grey levels
    and white and no visible detail is lost. gamma: exponent of the values in 0..1.
    jpeg: quality of a JPEG round trip; 100 is none.
    """

    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0
    hue: float = 0.0
    invert: bool = False
    blur: float = 0.0
    noise: float = 0.0
    noise_seed: int = 0
    gain: float = 1.0
    gamma: float = 1.0
    jpeg: int = 100

    def apply(self, image: ImageArray, whole: ImageArray | None = None) -> ImageArray:
        """(H, W, 3) uint8 to the same: blur, gamma, one colour matrix, noise, rounded and clipped once; then JPEG.

        whole: the image that `image` is a part of, maybe turned and with margins; None: `image` itself.
        """
        return self.apply_alike([image], whole)[0]

    def apply_alike(self, images: Sequence[ImageArray], whole: ImageArray | None = None) -> list[ImageArray]:
        """`apply` for frames of a clip: gain and contrast are measured on the first one, so none flickers."""
        if self.blur > 0:
            images = [np.array(Image.fromarray(one).filter(ImageFilter.GaussianBlur(self.blur))) for one in images]
        curve = None if self.gamma == 1 else (255 * (np.arange(256) / 255) ** self.gamma).astype(np.float32)
        matrix, shift = self._matrix(images[0], images[0] if whole is None else whole, curve)
        images = [self._recolour(one, curve, matrix, shift) for one in images]
        return images if self.jpeg >= 100 else [_jpeg(one, self.jpeg) for one in images]

    def _recolour(
        self, image: ImageArray, curve: Curve | None, matrix: NDArray[np.float64], shift: NDArray[np.float64]
    ) -> ImageArray:
        if self.noise == 0 and curve is None and np.array_equal(matrix, np.eye(3)) and not shift.any():
            return image
        pixels = image.astype(np.float32) if curve is None else np.take(curve, image)
        pixels = pixels.reshape(-1, 3) @ matrix.T.astype(np.float32) + shift.astype(np.float32)
        if self.noise > 0:
            drawn = np.random.default_rng(self.noise_seed).standard_normal(pixels.shape, np.float32)
            pixels += np.float32(self.noise) * drawn
        return np.rint(np.clip(pixels, 0, 255)).astype(np.uint8).reshape(image.shape)

    def _matrix(
        self, image: ImageArray, whole: ImageArray, curve: Curve | None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """All changes after the curve as (3, 3) matrix and (3,) shift; contrast turns about the mean grey value."""
        luma = np.tile(LUMA.astype(np.float64), (3, 1))
        bright = self.brightness * self._held_gain(whole, curve)
        matrix = bright * (self.saturation * np.eye(3) + (1 - self.saturation) * luma)
        if self.hue:
            matrix = _hue_matrix(self.hue) @ matrix
        shift = np.zeros(3)
        if self.contrast != 1:
            mean = bright * _mean_grey(image, curve)
            matrix, shift = self.contrast * matrix, shift + (1 - self.contrast) * mean
        return (-matrix, 255 - shift) if self.invert else (matrix, shift)

    def _held_gain(self, whole: ImageArray, curve: Curve | None) -> float:
        if self.gain == 1:
            return 1.0
        step = max(1, round(math.sqrt(whole.shape[0] * whole.shape[1] / LOOKED_AT)))
        counts = _histogram(whole[::step, ::step]).cumsum(axis=1)
        end = max(int(np.searchsorted(row, BRIGHT * row[-1])) for row in counts)
        bright = max(1.0, float(end if curve is None else curve[end]))
        return min(max(self.gain, min(1.0, DARKEST / bright)), max(1.0, 255 / bright))


def _histogram(image: ImageArray) -> NDArray[np.int64]:
    """(3, 256) pixels of each value in each channel."""
    return np.reshape(Image.fromarray(np.ascontiguousarray(image)).histogram(), (3, 256)).astype(np.int64)


def _mean_grey(image: ImageArray, curve: Curve | None) -> float:
    if curve is None:
        columns = image.mean(axis=0, dtype=np.float32)  # rows first: a tenth of the time of all at once
        return float(columns.mean(axis=0, dtype=np.float64) @ LUMA)
    counts = _histogram(image)
    return float(counts @ curve.astype(np.float64) @ LUMA / counts[0].sum())


def _hue_matrix(turns: float) -> NDArray[np.float64]:
    """Turn the colour plane of YIQ, which leaves grey values as they are."""
    to_yiq = np.array([[0.299, 0.587, 0.114], [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]])
    cos, sin = math.cos(2 * math.pi * turns), math.sin(2 * math.pi * turns)
    turn = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    matrix: NDArray[np.float64] = np.linalg.inv(to_yiq) @ turn @ to_yiq
    return matrix


def _jpeg(image: ImageArray, quality: int) -> ImageArray:
    """What is left of an image after JPEG compression."""
    if max(image.shape[:2]) > 65500:  # more than a JPEG file can have
        return image
    return np.array(Image.open(io.BytesIO(media.encoded(Image.fromarray(image), "JPEG", quality=quality))))
