"""Instance segmentation: find and outline every object in images.

import maskwright as mw
r = mw.load("nuclei").predict("cells.png")
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from maskwright import errors as errors

__version__ = "0.1.0"

_HOME = {
    "Classes": "types",
    "Dataset": "data.dataset",
    "Evaluation": "evaluation.outcome",
    "FindOptions": "predictor.options",
    "Geometry": "geometry",
    "GivenBoxes": "predictor.given",
    "InputSpec": "types",
    "Instances": "types",
    "Intensity": "types",
    "Landmarks": "types",
    "LinkOptions": "predictor.track_options",
    "LoadOptions": "predictor.options",
    "Masks": "types",
    "MaskwrightError": "errors",
    "OutputSpec": "types",
    "Prediction": "results.prediction",
    "Predictor": "predictor.predictor",
    "TrackOptions": "predictor.track_options",
    "TrainConfig": "training.config",
    "build": "predictor.load",
    "evaluate": "evaluation.evaluate",
    "export": "exporting.export",
    "load": "predictor.load",
    "read_image": "media",
    "train": "training.train",
}

__all__ = [  # noqa: PLE0604
    "__version__",
    *_HOME,
]

if TYPE_CHECKING:
    from maskwright.data.dataset import Dataset as Dataset
    from maskwright.errors import MaskwrightError as MaskwrightError
    from maskwright.evaluation.evaluate import evaluate as evaluate
    from maskwright.evaluation.outcome import Evaluation as Evaluation
    from maskwright.exporting.export import export as export
    from maskwright.geometry import Geometry as Geometry
    from maskwright.media import read_image as read_image
    from maskwright.predictor.given import GivenBoxes as GivenBoxes
    from maskwright.predictor.load import build as build
    from maskwright.predictor.load import load as load
    from maskwright.predictor.options import FindOptions as FindOptions
    from maskwright.predictor.options import LoadOptions as LoadOptions
    from maskwright.predictor.predictor import Predictor as Predictor
    from maskwright.predictor.track_options import LinkOptions as LinkOptions
    from maskwright.predictor.track_options import TrackOptions as TrackOptions
    from maskwright.results.prediction import Prediction as Prediction
    from maskwright.training.config import TrainConfig as TrainConfig
    from maskwright.training.train import train as train
    from maskwright.types import Classes as Classes
    from maskwright.types import InputSpec as InputSpec
    from maskwright.types import Instances as Instances
    from maskwright.types import Intensity as Intensity
    from maskwright.types import Landmarks as Landmarks
    from maskwright.types import Masks as Masks
    from maskwright.types import OutputSpec as OutputSpec


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `import maskwright` costs nothing."""
    if name not in _HOME:
        raise AttributeError(f"module 'maskwright' has no attribute '{name}'")
    value = getattr(import_module(f"maskwright.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
