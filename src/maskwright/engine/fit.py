"""Training: `fit` is the loop, everything it calls stands above it in the order of the loop.

A step's batch, its variations and its samples depend on seed, epoch and iteration alone, so a resumed run continues to
the weights of an uninterrupted one (bit by bit on a CPU).
"""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from maskwright.data.dataset import Dataset
from maskwright.data.loader import Batch, Batches, Sampling
from maskwright.engine.checkpoint import Position
from maskwright.engine.run import Run, learning_rate
from maskwright.engine.train_config import TrainConfig
from maskwright.engine.watch import Log, StopRequest, TrainingBar
from maskwright.errors import TrainingError
from maskwright.models.base import Model

Evaluate = Callable[[Model, Dataset], Mapping[str, float]]
"""Measures a model on a data set; the FIRST value decides which weights are best (higher is better)."""

SaveWeights = Callable[[Model, Path, Mapping[str, float]], object]
"""Writes a model that predicts; the numbers are its latest evaluation."""


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
            generator = torch.Generator().manual_seed(_stream(seed, batch.keys[0].number, 0))
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
