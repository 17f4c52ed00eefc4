"""From an annotation file to weights that predict: data, model, measure, then `fit`."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import torch

from maskwright.data import formats
from maskwright.data.dataset import Dataset
from maskwright.data.loader import scaled_spec
from maskwright.engine.fit import Evaluate, fit, validation_loss
from maskwright.engine.fit import History as History
from maskwright.engine.fit import SaveWeights as SaveWeights
from maskwright.engine.run import Run as Run
from maskwright.engine.run import build_optimizer as build_optimizer
from maskwright.engine.run import learning_rate as learning_rate
from maskwright.engine.train_config import TrainConfig
from maskwright.errors import ConfigError, DataError
from maskwright.models import zoo
from maskwright.models.base import Model
from maskwright.types import Classes
from maskwright.weights.files import save_checkpoint
from maskwright.weights.load import load_file

__all__ = [
    "Evaluate",
    "History",
    "Run",
    "SaveWeights",
    "TrainConfig",
    "average_precision",
    "build_optimizer",
    "fit",
    "learning_rate",
    "train",
    "validation_loss",
]


def train(config: TrainConfig, model: Model | None = None) -> Path:
    """Train on the pictures of an annotation file; gives the file of the best weights, ready for `maskwright.load`.

    model: one that was built for the file's classes, instead of `config.model` with random weights.
    """
    from maskwright.models import zoo

    data = formats.load(config.data, config.images or None, config.data_format)
    _check_pictures(data)
    rest, held_out = data.split(config.val_fraction, config.split_salt) if config.val_fraction else (data, None)
    model = model or _build(config, data.classes)

    def save(trained: Model, path: Path, metrics: Mapping[str, float]) -> None:
        about = zoo.describe(trained, data.classes, config.model)
        header = {**about, "metrics": dict(metrics), "training": asdict(config)}
        save_checkpoint(path, trained.state_dict(), header)

    fit(model, rest, held_out, config, average_precision(data.classes), save)
    best = Path(config.out) / "best.safetensors"
    return best if best.exists() else best.with_name("last.safetensors")


def _check_pictures(data: Dataset) -> None:
    missing = data.check_files()
    if missing:
        some = ", ".join(str(path) for path in missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise DataError(f"{data.source}: {len(missing)} of {len(data)} picture files are missing: {some}.")


def _build(config: TrainConfig, classes: Classes) -> Model:
    """The zoo's model for these classes, its random weights drawn from the run's seed."""
    entry = zoo.resolve(config.model)
    if entry.config is not None and entry.config.norm == "frozen" and config.weights is None:
        raise ConfigError(
            f"'{config.model}' has frozen norms, which only fit its published weights; from random weights it would "
            "learn next to nothing. Train 'mask_rcnn_small' or 'mask_rcnn_fpn.BACKBONE'."
        )
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        model = entry.build(classes)
        if config.size is not None:
            model = type(model)(replace(model.config, spec=scaled_spec(model.spec, config.size)))
    if config.weights is not None:
        load_file(model, config.weights, zoo.candidates(), entry.publisher)
    return model


def average_precision(classes: Classes) -> Evaluate:
    """COCO mask AP (box AP where there are no masks) decides; AP50 and AP75 of both are noted too."""

    def measure(model: Model, data: Dataset) -> dict[str, float]:
        from maskwright.engine.evaluate import evaluate
        from maskwright.engine.predict import Predictor

        device = next(model.parameters()).device
        result = evaluate(Predictor(model, classes, device=str(device)), data, progress=False).result
        found = [s for s in (result.masks, result.boxes) if s is not None]
        return {f"{scores.kind}/{name}": scores[name] for scores in found for name in ("AP", "AP50", "AP75")}

    return measure
