"""A program that runs an exported file: what each must offer, and what ours have in common."""

from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

Values: TypeAlias = dict[str, NDArray[Any]]
"""Arrays by the name of an input or output."""


class Runtime(Protocol):
    """An opened file. name: of the program. header: the text in its metadata, None where there is none."""

    @property
    def name(self) -> str: ...
    @property
    def header(self) -> str | None: ...

    def run(self, image: NDArray[np.float32], size: NDArray[np.int64]) -> Values:
        """Outputs by name for one padded image (1, 3, H, W) and its (h, w) without padding."""


class Opener(Protocol):
    """Opens a file for a number of threads. Raises WeightsError for a damaged one, MissingExtraError."""

    def __call__(self, path: Path, threads: int) -> Runtime: ...
