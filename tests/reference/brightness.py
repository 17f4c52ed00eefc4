"""A predictor without a model: it finds what a test paints."""

import numpy as np
import torch
from numpy.typing import NDArray

from maskwright.errors import ConfigError, suggest
from maskwright.predictor.options import FindOptions
from maskwright.results.outputs import WRITERS
from maskwright.results.prediction import Prediction
from maskwright.types import Classes, Masks

CLASSES = Classes(["cell", "a/b: ü"], [7, 90])
WITHOUT_STUFF = tuple(kind for kind, own in WRITERS.items() if not (own.needs_stuff or own.needs_landmarks))
"""The kinds of results that can be made of it."""


class Brightness:
    """Stands in for a model: each grey level from 1 to 9 in an image's red channel is one instance.

    Odd levels are of class 0, even ones of class 1, so that a test chooses its instances by painting them.
    """

    classes = CLASSES
    with_masks = True
    largest_batch = 0
    device = torch.device("cpu")

    @property
    def draws_masks(self) -> bool:
        """Whether it finds masks, not boxes alone."""
        return self.with_masks

    def predict(
        self, source: list[NDArray[np.uint8]], options: FindOptions | None = None, on_tile: object = None
    ) -> list[Prediction]:
        """As the real predictor's; of the options only `classes` is looked at, and only its spelling."""
        for name in (options or FindOptions()).classes or ():
            if name not in self.classes:
                raise ConfigError(f"no class '{name}'.{suggest(name, self.classes)}")
        self.largest_batch = max(self.largest_batch, len(source))
        return [self._one(pixels) for pixels in source]

    def _one(self, pixels: NDArray[np.uint8]) -> Prediction:
        levels = [level for level in range(1, 10) if (pixels[..., 0] == level).any()]
        masks = Masks.from_dense(
            np.array([pixels[..., 0] == level for level in levels], bool).reshape(-1, *pixels.shape[:2])
        )
        scores = np.array([1 - level / 10 for level in levels], np.float32)
        labels = np.array([1 - level % 2 for level in levels], np.int64)
        crops = masks if self.with_masks else None
        return Prediction(masks.boxes(), scores, labels, self.classes, masks.size, crops)
