"""Training: `fit` is the loop, everything it calls stands above it in the order of the loop.

A step's batch, its variations and its samples depend on seed, epoch and iteration alone, so a resumed run continues to
the weights of an uninterrupted one (bit by bit on a CPU).
"""

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from maskwright.data import coco
from maskwright.data.dataset import Dataset
from maskwright.data.loader import Batch, Batches, Sampling, scaled_spec
from maskwright.engine import checkpoint
from maskwright.engine.checkpoint import Ema, Position
from maskwright.engine.train_config import TrainConfig as TrainConfig
from maskwright.engine.train_config import facts
from maskwright.engine.watch import Log, StopRequest, TrainingBar
from maskwright.errors import ConfigError, DataError, TrainingError
from maskwright.models import zoo
from maskwright.models.base import Model
from maskwright.types import Classes
from maskwright.weights.files import save_checkpoint
from maskwright.weights.load import load_file

if TYPE_CHECKING:
    from accelerate import Accelerator

Evaluate = Callable[[Model, Dataset], Mapping[str, float]]
"""Measures a model on a data set; the FIRST value decides which weights are best (higher is better)."""

SaveWeights = Callable[[Model, Path, Mapping[str, float]], object]
"""Writes a model that predicts; the numbers are its latest evaluation."""

STATE = "last.state"


@dataclass
class History:
    """What a run did. metrics: one row per evaluation (iteration, epoch and the numbers). best: its first number.

    stopped: "finished", "time", or the signal's name. seconds: of training, with those before a resume.
    """

    iterations: int = 0
    epochs: int = 0
    seconds: float = 0.0
    losses: list[dict[str, float]] = field(default_factory=list)
    metrics: list[dict[str, float]] = field(default_factory=list)
    best: float | None = None
    stopped: str = "finished"


# ---- the parts of a run ---------------------------------------------------------------------------------------------


def learning_rate(config: TrainConfig, iteration: int, progress: float) -> float:
    """lr at an iteration; progress in [0, 1] is the share of the run that is over."""
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    warm = min(1.0, (iteration + 1) / config.warmup) if config.warmup else 1.0
    return config.lr * warm * (config.lr_end + (1 - config.lr_end) * cosine)


def build_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Weight decay on weights of two and more dimensions only. Raises TrainingError where nothing can be learnt."""
    learnt = [p for p in model.parameters() if p.requires_grad]
    if not learnt:
        raise TrainingError("The model has no weights that learn: all of them are frozen.")
    groups = [
        {"params": [p for p in learnt if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in learnt if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [g for g in groups if g["params"]]
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=0.9)
    return torch.optim.AdamW(groups, lr=config.lr)


class Run:
    """The objects of a run and how far it is."""

    def __init__(self, model: Model, data: Dataset, config: TrainConfig) -> None:
        self.config, self.out = config, Path(config.out)
        self.accelerator = _accelerator(config)
        self.model = model.to(self.accelerator.device).to(memory_format=torch.channels_last).train()
        self.batches = Batches(data, model.spec, config.sampling())
        self.optimizer = build_optimizer(self.model, config)
        self.ema = None if config.ema is None else Ema(self.model, config.ema)
        self.facts = facts(config, data)
        self.position = self._resume()
        self._began = time.perf_counter() - self.position.seconds
        self._saved = time.perf_counter()

    def _resume(self) -> Position:
        path = self.out / STATE
        if not path.exists():
            return Position()
        if not self.config.resume:
            raise ConfigError(
                f"{path} is there: {self.out} holds a run. Resume it, or choose another folder for `out`."
            )
        state = checkpoint.load(path)
        if changed := checkpoint.differing_facts(state, self.facts):
            raise ConfigError(f"{path} cannot be resumed, the run was started otherwise. " + "; ".join(changed) + ".")
        return checkpoint.restore(state, self.model, self.ema, self.optimizer, path)

    @property
    def shown(self) -> Model:
        """The model that is evaluated and saved."""
        return self.model if self.ema is None else self.ema.model

    def groups(self) -> Iterator[tuple[list[Batch], float]]:
        """The batches of each coming step, never of two epochs, and the seconds spent waiting for them."""
        stream, length = self.batches.start(self.position.epoch, self.position.number), len(self.batches)
        while True:
            start = time.perf_counter()
            group = list(islice(stream, min(self.config.accumulate, length - self.position.number)))
            if not group:
                return
            yield group, time.perf_counter() - start

    def advance(self, group: Sequence[Batch]) -> None:
        """Count a step that was done."""
        at, config = self.position, self.config
        at.iteration, at.number = at.iteration + 1, at.number + len(group)
        if at.number >= len(self.batches):
            at.epoch, at.number = at.epoch + 1, 0
            at.due = at.epoch % config.evaluate_every == 0
        at.seconds = time.perf_counter() - self._began

    def progress(self) -> float:
        """Share of the run that is over, by epochs or time, whichever is further; in [0, 1]."""
        at, config = self.position, self.config
        done = (at.epoch + at.number / len(self.batches)) / config.epochs if config.epochs else 0.0
        used = at.seconds / (60 * config.max_minutes) if config.max_minutes else 0.0
        return min(1.0, max(done, used))

    def out_of_time(self) -> bool:
        """Whether max_minutes have passed."""
        return self.config.max_minutes is not None and self.position.seconds >= 60 * self.config.max_minutes

    def state_is_old(self) -> bool:
        """Whether checkpoint_minutes have passed since the last saved state."""
        return time.perf_counter() - self._saved >= 60 * self.config.checkpoint_minutes

    def save_state(self) -> None:
        """Write all that a resumed run needs."""
        self.position.seconds = time.perf_counter() - self._began
        state = checkpoint.capture(self.model, self.ema, self.optimizer, self.position, self.facts)
        checkpoint.save(self.out / STATE, state)
        self._saved = time.perf_counter()


def _accelerator(config: TrainConfig) -> "Accelerator":
    """Devices and precision. Accelerate keeps its set-up for the whole process, so each run starts it afresh."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    if config.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("TrainConfig: device is 'cuda', but this machine has no usable CUDA device.")
    AcceleratorState._reset_state(reset_partial_state=True)
    return Accelerator(
        cpu=config.device == "cpu",
        mixed_precision="bf16" if config.precision == "bf16" else "no",
        gradient_accumulation_steps=config.accumulate,
    )


# ---- the steps of the loop ------------------------------------------------------------------------------------------


def train_step(run: Run, group: Sequence[Batch]) -> dict[str, float]:
    """One optimiser step over the batches of `group`: the mean of each loss, their sum, gradient norm and lr.

    Raises TrainingError, naming the term and the pictures, where a loss or the gradient is not finite; the weights are
    then still those of the step before.
    """
    lr = learning_rate(run.config, run.position.iteration, run.progress())
    for parameters in run.optimizer.param_groups:
        parameters["lr"] = lr
    means: dict[str, float] = {}
    for part, batch in enumerate(group):
        batch = batch.to(run.accelerator.device)
        generator = torch.Generator().manual_seed(_stream(run.config.seed, run.position.iteration, part))
        with run.accelerator.autocast():
            losses = run.model.loss(batch.images, batch.sizes, batch.targets, generator)
        values = check_finite(losses, batch, run.position)
        run.accelerator.backward(torch.stack([v.float() for v in losses.values()]).sum())
        for name, value in values.items():
            means[name] = means.get(name, 0.0) + value / len(group)
    norm = float(run.accelerator.clip_grad_norm_(run.model.parameters(), run.config.clip or math.inf))
    if not math.isfinite(norm):
        raise _not_finite(f"the gradient norm is {norm}", [f for b in group for f in b.files], run.position)
    run.optimizer.step()
    run.optimizer.zero_grad(set_to_none=True)
    if run.ema is not None:
        run.ema.update(run.model)
    return {**means, "loss": sum(means.values()), "grad_norm": norm, "lr": lr}


def _stream(seed: int, iteration: int, part: int) -> int:
    """A seed of its own for each batch of each step."""
    return int.from_bytes(hashlib.sha256(f"{seed} {iteration} {part}".encode()).digest()[:8], "big") >> 1


def check_finite(losses: Mapping[str, Tensor], batch: Batch, position: Position) -> dict[str, float]:
    """The losses as numbers. Raises TrainingError that names the terms and the pictures where one is not finite."""
    values = {name: float(value.detach()) for name, value in losses.items()}
    bad = [f"{name} is {value}" for name, value in values.items() if not math.isfinite(value)]
    if bad:
        raise _not_finite(" and ".join(bad), batch.files, position)
    return values


def _not_finite(what: str, files: Sequence[str], position: Position) -> TrainingError:
    return TrainingError(
        f"Training stopped at iteration {position.iteration} (epoch {position.epoch}): {what}. Pictures of this step: "
        f"{', '.join(files)}. Look at these pictures and their annotations; if they are in order, lower lr, lengthen "
        f"warmup, set clip, or use precision float32. Saved checkpoints are intact."
    )


def validation_loss(model: Model, data: Dataset, *, batch_size: int = 4, seed: int = 0) -> dict[str, float]:
    """Mean losses over a data set, pictures as prediction sees them. `score`, the first, is minus their sum."""
    batches = Batches(data, model.spec, Sampling(batch_size=batch_size, seed=seed))
    device, sums, count = next(model.parameters()).device, dict[str, float](), 0
    with torch.no_grad():
        for batch in batches.start():
            batch = batch.to(device)
            generator = torch.Generator().manual_seed(_stream(seed, batch.number, 0))
            for name, value in model.loss(batch.images, batch.sizes, batch.targets, generator).items():
                sums[name] = sums.get(name, 0.0) + float(value) * len(batch)
            count += len(batch)
    means = {name: value / count for name, value in sums.items()}
    return {"score": -sum(means.values()), **means}


def validate(run: Run, data: Dataset, evaluate: Evaluate, save: SaveWeights | None) -> dict[str, float]:
    """Measure the model as it is now; where it is the best so far, save it as best.safetensors."""
    run.shown.eval()
    metrics = {name: float(value) for name, value in evaluate(run.shown, data).items()}
    run.model.train()
    if not metrics:
        raise TrainingError("The evaluation returned no number, so the best weights cannot be told.")
    at, value = run.position, next(iter(metrics.values()))
    at.due, at.validated = False, at.iteration
    if at.best is None or value > at.best:
        at.best, at.best_iteration = value, at.iteration
        if save is not None:
            save(run.shown, run.out / "best.safetensors", metrics)
    return metrics


# ---- the loop -------------------------------------------------------------------------------------------------------


def fit(
    model: Model,
    train_data: Dataset,
    val_data: Dataset | None,
    config: TrainConfig,
    evaluate: Evaluate | None = None,
    save: SaveWeights | None = None,
) -> History:
    """Train `model` in place; what it learns is in `config.out` at any time.

    evaluate: without it the validation loss decides which weights are best. save: writes best.safetensors and
    last.safetensors. SIGTERM or one Ctrl-C ends the run after the step it is at, with its state saved.
    Raises TrainingError where the run cannot go on; ConfigError, DataError where it cannot begin.
    """
    measure, history = evaluate or validation_loss, History()
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng())  # the caller's random numbers go on as if nothing had been trained
        torch.manual_seed(config.seed)
        run = Run(model, train_data, config)
        stop = stack.enter_context(StopRequest())
        log = stack.enter_context(Log(run.out, run.position, config.log_every))
        bar = stack.enter_context(TrainingBar(config.progress))

        def check_up() -> None:
            run.save_state()  # before the evaluation, which may take long
            if val_data is not None and len(val_data) and run.position.validated != run.position.iteration:
                history.metrics.append(log.metrics(run.position, validate(run, val_data, measure, save)))
            run.position.due = False

        if run.position.due:  # stopped between a step and its evaluation
            check_up()
        for group, waited in run.groups():
            losses = train_step(run, group)
            run.advance(group)
            history.losses += log.step(run.position, losses, sum(map(len, group)), waited)
            bar.show(run.position, losses, run.progress(), log.rate)
            if stop.name or run.out_of_time():
                history.stopped = stop.name or "time"
                break
            if run.position.due:
                check_up()
            if run.state_is_old():
                run.save_state()
        if stop.name is None:
            check_up()
        run.save_state()
        if save is not None:
            save(run.shown, run.out / "last.safetensors", history.metrics[-1] if history.metrics else {})
    at = run.position
    history.iterations, history.epochs, history.seconds, history.best = at.iteration, at.epoch, at.seconds, at.best
    return history


def train(config: TrainConfig, model: Model | None = None) -> Path:
    """Train on the pictures of an annotation file; gives the file of the best weights, ready for `maskwright.load`.

    model: one that was built for the file's classes, instead of `config.model` with random weights.
    """
    from maskwright.models import zoo

    data = coco.load(config.data, config.images)
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
