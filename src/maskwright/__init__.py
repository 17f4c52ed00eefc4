"""Instance segmentation: find and outline every object in images.

import maskwright as mw
r = mw.load("nuclei").predict("cells.png")
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "Classes": "types",
    "FindOptions": "predictor.options",
    "Geometry": "geometry",
    "GivenBoxes": "predictor.given",
    "InputSpec": "types",
    "Instances": "types",
    "LoadOptions": "predictor.options",
    "Masks": "types",
    "MaskwrightError": "errors",
    "Predictor": "predictor.predictor",
    "TrainConfig": "training.config",
    "build": "predictor.load",
    "evaluate": "evaluation.evaluate",
    "load": "predictor.load",
    "read_image": "media",
    "train": "training.train",
}

__all__ = [  # noqa: PLE0604
    "__version__",
    *_HOME,
]

if TYPE_CHECKING:
    from maskwright.errors import MaskwrightError as MaskwrightError
    from maskwright.evaluation.evaluate import evaluate as evaluate
    from maskwright.geometry import Geometry as Geometry
    from maskwright.media import read_image as read_image
    from maskwright.predictor.given import GivenBoxes as GivenBoxes
    from maskwright.predictor.load import build as build
    from maskwright.predictor.load import load as load
    from maskwright.predictor.options import FindOptions as FindOptions
    from maskwright.predictor.options import LoadOptions as LoadOptions
    from maskwright.predictor.predictor import Predictor as Predictor
    from maskwright.training.config import TrainConfig as TrainConfig
    from maskwright.training.train import train as train
    from maskwright.types import Classes as Classes
    from maskwright.types import InputSpec as InputSpec
    from maskwright.types import Instances as Instances
    from maskwright.types import Masks as Masks


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `import maskwright` costs nothing."""
    if name not in _HOME:
        raise AttributeError(f"module 'maskwright' has no attribute '{name}'")
    value = getattr(import_module(f"maskwright.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
