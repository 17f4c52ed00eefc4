"""Boxes that are given with an image, for which a model finds class and mask."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import ArrayLike

from maskwright.errors import ConfigError, DataError
from maskwright.geometry import Geometry
from maskwright.predictor.options import FindOptions
from maskwright.results.prediction import Prediction
from maskwright.types import FloatArray, IntArray, Limits, OutputSpec, Size


@dataclass(frozen=True, eq=False)
class GivenBoxes:
    """The boxes of one image, (N, 4) xyxy in its pixels, and their labels (N,), -1 where the model decides.

    Raises DataError for other shapes, and for boxes that are not finite or whose sides are not positive.
    """

    boxes: FloatArray
    labels: IntArray

    @classmethod
    def of(cls, boxes: ArrayLike, labels: ArrayLike | None = None) -> "GivenBoxes":
        """From anything that NumPy takes for an array; labels None: the model decides."""
        array = np.asarray(boxes, np.float32)
        array = array.reshape(0, 4) if array.size == 0 else array
        if array.ndim != 2 or array.shape[1] != 4:
            raise DataError(f"boxes are (N, 4), x0, y0, x1, y1 of each, got {array.shape}.")
        for row, (x0, y0, x1, y1) in enumerate(array.tolist()):
            if not (np.isfinite(array[row]).all() and x0 < x1 and y0 < y1):
                raise DataError(
                    f"boxes are x0, y0, x1, y1 in pixels with x0 < x1 and y0 < y1; row {row} is {array[row].tolist()}."
                )
        names = np.full(len(array), -1) if labels is None else np.asarray(labels)
        if names.shape != (len(array),):
            raise DataError(f"boxes: {len(array)} of them, but labels are {names.shape}.")
        return cls(array, names.astype(np.int64))

    def within(self, size: Size) -> "GivenBoxes":
        """Cut off at the edges of an image of `size` (H, W); DataError for a box that lies outside."""
        height, width = size
        cut = self.boxes.clip(0, np.array([width, height, width, height], np.float32))
        empty = np.flatnonzero((cut[:, 2:] <= cut[:, :2]).any(1))
        if len(empty):
            row = int(empty[0])
            raise DataError(
                f"boxes: row {row}, {self.boxes[row].tolist()}, lies outside the image of {width} x {height} pixels."
            )
        return replace(self, boxes=cut)

    def rows(self, index: IntArray, corner: IntArray) -> "GivenBoxes":
        """Some of them, in a window of the image with its corner at (x, y)."""
        return GivenBoxes((self.boxes[index] - np.tile(corner, 2)).astype(np.float32), self.labels[index])

    def inputs(self, geometry: Geometry) -> tuple[torch.Tensor, torch.Tensor]:
        """Boxes (N, 4) in the input frame and labels (N,)."""
        return torch.from_numpy(geometry.boxes(self.boxes)), torch.from_numpy(self.labels)


def given_boxes(boxes: Sequence[ArrayLike | GivenBoxes], count: int, name: str, *, takes: bool) -> list[GivenBoxes]:
    """The boxes of `count` images. ConfigError where there is not one array for each, or the model takes none."""
    if not takes:
        raise ConfigError(f"'{name}' finds its own boxes, it cannot be given any. R-CNNs can.")
    if len(boxes) != count:
        raise ConfigError(f"boxes has one array for each image: {count} images, {len(boxes)} arrays.")
    return [own if isinstance(own, GivenBoxes) else GivenBoxes.of(own) for own in boxes]


def for_given(
    limits: Limits, output: OutputSpec, options: FindOptions, boxes: Sequence[GivenBoxes]
) -> tuple[Limits, OutputSpec]:
    """The same with room for every box; ConfigError for options that choose among instances."""
    chosen = [k for k in ("score_threshold", "classes", "max_instances") if getattr(options, k) is not None]
    if chosen:
        raise ConfigError(
            f"Each box that is given becomes an instance, so there is no use for {' and '.join(chosen)}.",
            options=tuple(chosen),
        )
    most = max((len(own.boxes) for own in boxes), default=0)
    # A row more than boxes: a last row that is used would mean that a limit was reached.
    return replace(limits, keep=most + 1), replace(output, score_threshold=0.0, max_instances=most)


def as_given(found: Prediction, own: GivenBoxes) -> Prediction:
    """The instances with the boxes as they were given, to the last bit."""
    assert len(found) == len(own.boxes)
    return replace(found, boxes=own.boxes)
