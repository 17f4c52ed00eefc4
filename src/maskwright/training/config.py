"""What a training run is made of, checked when it is written down."""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal, get_args

import numpy as np

from maskwright.data.dataset import Dataset
from maskwright.errors import ConfigError, suggest
from maskwright.samples.augment import Augment
from maskwright.samples.loader import Sampling
from maskwright.training.undecided import undecided
from maskwright.types import Fit

FREE_ON_RESUME = (
    *("data", "images", "data_format", "val", "val_images", "out", "workers", "device"),
    *("resume", "checkpoint_minutes", "progress", "log_every", "tensorboard", "report", "patience", "min_delta"),
)
"""Fields that may differ when a run is resumed; the others decide the weights."""

CHOICES: dict[str, tuple[str, ...]] = {
    "optimizer": ("adamw", "sgd"),
    "schedule": ("cosine", "step", "constant"),
    "norm": ("auto", "live", "frozen"),
    "precision": ("float32", "bf16", "fp16"),
    "orientation": ("upright", "free"),
    "device": ("auto", "cpu", "cuda"),
}
AT_LEAST_ONE = (
    *("epochs", "size", "repeats", "batch_size", "accumulate", "evaluate_every", "patience", "log_every"),
    *("max_instances", "max_size", "enlarge"),
)


UNDECIDED_AUGMENT = Augment()
"""The variations where nobody chose any; this object itself, not one that equals it."""


@dataclass(frozen=True)
class TrainConfig:
    """One training run. Classes, and so the model's outputs, come from the annotation file.

    What is not given and is marked `undecided`, or is None among size, max_size, shrink, enlarge, anchors,
    score_threshold and max_instances, `train` decides from the data (`training.defaults`).

    data: annotation file or folder; data_format: a name of `data.formats.FORMATS`, None recognises it. images: the
    images' folder where it is not the format's own. out: the run's folder. model: zoo name. weights: checkpoint or
    zoo name to begin with, of any classes; of another family the backbone is taken. None begins with random weights.
    size: input short edge, or side of the square, None is the model's own; short_edges: draw one of these instead.
    val, val_images: annotations of the images to measure on, and their folder. val_fraction: without them, the share
    of the images that is held out, chosen by a hash of the file name and `split_salt`; None takes the parts train
    and val that the data names, or else a fifth.
    epochs, max_minutes: the run ends with the first that is reached; one may be None. With max_minutes the learning
    rate follows the share of the time that is used, or of the epochs if that is further.
    repeats: times an epoch shows each image, each time varied anew; for small data sets. keep_empty: learn also from
    images without objects. seed: of order, variations and random weights.
    batch_size: images at once, in all processes together; accumulate: batches for one step. optimizer: "sgd" uses
    momentum and nesterov. weight_decay: not of norms, biases. lr: reached after `warmup` iterations of linear rise.
    schedule: "cosine" falls to lr * lr_end; "step" multiplies by gamma at each of the milestones, shares of the run;
    "constant" stays.
    clip: largest gradient norm, or None. ema: decay of the mean of the weights that is evaluated and saved, or None.
    norm: "live" batch norms take their statistics from the batches; "frozen" keeps those the model begins with, for
    small batches and pretrained weights; "auto" leaves it to the data and the model.
    precision: "bf16", "fp16" (CUDA only) run the network in it; weights, losses and the choice of samples stay float32.
    evaluate_every: epochs. patience: stop after this many evaluations in a row that are not better than the best by
    more than min_delta; None never does. checkpoint_minutes: between saved states. workers: processes that prepare
    images, for each process that trains.
    fit, max_size, shrink, enlarge: as in `InputSpec`, None is the model's own. anchors: sides in input pixels, one for
    each level (C4: all of its one level). score_threshold, max_instances: what the trained model reports unless asked
    otherwise.
    orientation: "free" where images have no up and down, as seen through a microscope or from above.
    log_every: iterations. progress: a bar on stderr. tensorboard: write events for it as well. report: write
    report.html at the end, which costs one more evaluation.
    device: "auto", "cpu" or "cuda". resume: continue the run in `out`; it starts where there is none.
    """

    data: str = ""
    images: str = ""
    data_format: str | None = None
    out: str = "runs/train"
    model: str = undecided("mask_rcnn_small")
    weights: str | None = None
    size: int | None = None
    fit: Fit | None = None
    max_size: int | None = None
    shrink: bool | None = None
    enlarge: float | None = None
    anchors: tuple[float, ...] | None = None
    score_threshold: float | None = None
    max_instances: int | None = None
    short_edges: tuple[int, ...] = ()
    val: str | None = None
    val_images: str = ""
    val_fraction: float | None = None
    split_salt: str = ""
    epochs: int | None = undecided(50)
    max_minutes: float | None = None
    repeats: int = 1
    batch_size: int = undecided(4)
    accumulate: int = 1
    optimizer: Literal["adamw", "sgd"] = "adamw"
    momentum: float = 0.9
    nesterov: bool = False
    lr: float = undecided(2e-4)
    schedule: Literal["cosine", "step", "constant"] = "cosine"
    lr_end: float = 0.01
    milestones: tuple[float, ...] = (0.67, 0.89)
    gamma: float = 0.1
    weight_decay: float = 0.05
    warmup: int = undecided(500)
    clip: float | None = 5.0
    ema: float | None = 0.999
    norm: Literal["auto", "live", "frozen"] = "auto"
    precision: Literal["float32", "bf16", "fp16"] = undecided("float32")
    augment: Augment | None = UNDECIDED_AUGMENT
    orientation: Literal["upright", "free"] = "upright"
    keep_empty: bool = True
    seed: int = 0
    workers: int = undecided(0)
    evaluate_every: int = undecided(1)
    patience: int | None = None
    min_delta: float = 0.0
    checkpoint_minutes: float = 10.0
    log_every: int = 10
    tensorboard: bool = False
    report: bool = True
    device: Literal["auto", "cpu", "cuda"] = "auto"
    resume: bool = False
    progress: bool = True

    def __post_init__(self) -> None:
        for name, known in CHOICES.items():
            _check_choice(name, getattr(self, name), known)
        if self.fit is not None:
            _check_choice("fit", self.fit, get_args(Fit))
        if self.epochs is None and self.max_minutes is None:
            raise ConfigError("TrainConfig: set epochs or max_minutes, or the run would never end.")
        for name in AT_LEAST_ONE:
            _check_range(name, getattr(self, name), low=1)
        _check_range("seed", self.seed, low=0, high=2**63 - 1)
        for name in ("workers", "warmup", "weight_decay", "checkpoint_minutes", "min_delta"):
            _check_range(name, getattr(self, name), low=0)
        for name in ("lr", "max_minutes", "clip"):
            _check_range(name, getattr(self, name), low=0, open_low=True)
        for name in ("lr_end", "gamma", "score_threshold"):
            _check_range(name, getattr(self, name), low=0, high=1)
        for name in ("ema", "momentum"):
            _check_range(name, getattr(self, name), low=0, high=0.999999)
        _check_range("val_fraction", self.val_fraction, low=0, high=0.9)
        if self.anchors is not None and not (self.anchors and all(side > 0 for side in self.anchors)):
            raise ConfigError(f"TrainConfig: anchors are positive pixels, at least one, got {self.anchors}.")
        if any(edge < 1 for edge in self.short_edges):
            raise ConfigError(f"TrainConfig: short_edges are positive pixels, got {self.short_edges}.")
        if any(not 0 < share < 1 for share in self.milestones) or list(self.milestones) != sorted(self.milestones):
            raise ConfigError(f"TrainConfig: milestones are rising shares of the run in (0, 1), got {self.milestones}.")
        if self.nesterov and (self.optimizer != "sgd" or self.momentum == 0):
            raise ConfigError("TrainConfig: nesterov needs optimizer 'sgd' and a momentum above 0.")

    def sampling(self) -> Sampling:
        """How the training batches are drawn."""
        return Sampling(
            batch_size=self.batch_size,
            seed=self.seed,
            epochs=self.epochs,
            repeats=self.repeats,
            augment=self.augment,
            short_edges=self.short_edges,
            keep_empty=self.keep_empty,
            workers=self.workers,
        )


def _check_choice(name: str, value: object, known: Sequence[str]) -> None:
    if value not in known:
        raise ConfigError(
            f"TrainConfig: {name} is one of {', '.join(known)}, got {value!r}.{suggest(str(value), known)}"
        )


def _check_range(name: str, value: float | None, *, low: float, high: float = math.inf, open_low: bool = False) -> None:
    """None is allowed where the field allows it: the type says so."""
    fits = value is None or ((low < value if open_low else low <= value) and value <= high and value < math.inf)
    if not fits:
        above = f"above {low:g}" if open_low else f"at least {low:g}"
        most = "finite" if high == math.inf else f"at most {high if isinstance(high, int) else f'{high:g}'}"
        raise ConfigError(f"TrainConfig: {name} is {above} and {most}, got {value}.")


def facts(config: TrainConfig, data: Dataset) -> dict[str, str]:
    """What decides the weights of a run, by name: the config and the annotations."""
    digest = hashlib.sha256()
    for record in data.images:
        digest.update(repr((record.file_name, record.size)).encode())
        for a in data.annotations[record.id]:
            digest.update(repr((a.id, a.label, a.box, a.crowd)).encode())
            outline = a.segmentation if isinstance(a.segmentation, (list, tuple)) else (a.segmentation,)
            for part in (*outline, a.keypoints):
                digest.update(part.tobytes() if isinstance(part, np.ndarray) else repr(part).encode())
    kept = {k: json.dumps(v) for k, v in asdict(config).items() if k not in FREE_ON_RESUME}
    return {**kept, "annotations": digest.hexdigest()[:16]}
