"""A detector without weights: it finds what a test paints, in any window, pixel by pixel."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from maskwright.predictor.predictor import Predictor
from maskwright.types import (
    Classes,
    Inputs,
    InputSpec,
    Limits,
    OutputSpec,
    Part,
    PrototypeMasks,
    RawDetections,
)

CLASSES = Classes(["cell", "dot"])

SPEC = InputSpec(
    size=64, max_size=None, resize="pillow", mean=(0, 0, 0), std=(1, 1, 1), shrink=False, enlarge=1.0, multiple=32
)


@dataclass(frozen=True)
class Painted:
    """Each number R + 256 G in an image is an object; its class is B, its score falls with the number.

    keep: the most that it reports. seen: sizes (H, W) of all inputs, without padding.
    """

    spec: InputSpec = SPEC
    keep: int = 100
    with_masks: bool = True
    seen: list[tuple[int, int]] = field(default_factory=list)
    classes: Classes = CLASSES
    device = torch.device("cpu")
    dtype, precision = torch.float32, "float32"

    @property
    def output(self) -> OutputSpec:
        return OutputSpec(score_threshold=0.1, max_instances=self.keep, crop_margin=0.0)

    @property
    def limits(self) -> Limits:
        return Limits(0.05, self.keep, "fast")

    @property
    def parts(self) -> tuple[type[Part], ...]:
        return (PrototypeMasks,) if self.with_masks else ()

    def lowest_score(self, limits: Limits) -> float:
        return limits.score

    def detect(self, inputs: Inputs, limits: Limits) -> RawDetections:
        self.seen.extend(inputs.sizes)
        rows = [self._one(image, limits.keep) for image in inputs.images]
        boxes, scores, labels, prototypes = (torch.stack(column) for column in zip(*rows, strict=True))
        parts: tuple[Any, ...] = ()
        if self.with_masks:
            eye = torch.eye(limits.keep)[None].repeat(len(rows), 1, 1)
            parts = (PrototypeMasks(eye, prototypes, inputs.padded),)
        return RawDetections(boxes, scores, labels, parts)

    def _one(self, image: torch.Tensor, keep: int) -> tuple[torch.Tensor, ...]:
        values = image.round().long()
        numbers = values[0] + 256 * values[1]
        found = [n for n in numbers.unique().tolist() if n][:keep]
        boxes, scores, labels = torch.zeros(keep, 4), torch.zeros(keep), torch.zeros(keep, dtype=torch.long)
        prototypes = torch.full((*numbers.shape, keep), -9.0)
        for k, number in enumerate(found):
            rows, columns = torch.nonzero(numbers == number, as_tuple=True)
            boxes[k] = torch.tensor([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
            scores[k], labels[k] = 1 - number / 20000, values[2][rows[0], columns[0]]
            prototypes[..., k][numbers == number] = 9.0
        return boxes, scores, labels, prototypes


def painted(**options: Any) -> Predictor:
    """A predictor of painted objects."""
    return Predictor(Painted(**options), name="painted")


def canvas(size: tuple[int, int], shapes: list[NDArray[np.bool_]]) -> NDArray[np.uint8]:
    """An image (H, W, 3) with these shapes (H, W), numbered from 1."""
    out = np.zeros((*size, 3), np.uint8)
    for number, shape in enumerate(shapes, 1):
        out[shape] = number % 256, number // 256, 0
    return out


def scattered(size: tuple[int, int], step: int = 20, seed: int = 0) -> list[NDArray[np.bool_]]:
    """Discs of many sizes that do not touch, about one in each square of `step` pixels, some at the image's edges."""
    rng, out = np.random.default_rng(seed), []
    rows, columns = np.mgrid[: size[0], : size[1]] + 0.5
    for y in range(0, size[0], step):
        for x in range(0, size[1], step):
            radius = rng.uniform(1.5, step / 2 - 2)
            cy, cx = y + step / 2 + rng.uniform(-1, 1), x + step / 2 + rng.uniform(-1, 1)
            shape = (rows - cy) ** 2 + (columns - cx) ** 2 <= radius**2
            if shape.any():
                out.append(np.asarray(shape))
    return out
