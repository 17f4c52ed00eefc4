"""The training loop: `fit`, and above it the functions that it calls, in the order of the loop.

A step's batch, its variations and its samples depend on seed, epoch and iteration alone, so a resumed run continues to
the weights of an uninterrupted one (bit by bit on a CPU).
"""

import hashlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import torch

from maskwright.data.dataset import Dataset
from maskwright.errors import TrainingError
from maskwright.models.base import AnyModel
from maskwright.samples.loader import Batch, worker_failures_explained
from maskwright.training.config import TrainConfig
from maskwright.training.learning import learning_rate
from maskwright.training.lock import only_run
from maskwright.training.position import MEASURING, Position
from maskwright.training.processes import is_first, saved
from maskwright.training.resolved import Resolved
from maskwright.training.run import STATE, Pace, Run
from maskwright.training.watch import Log, Stopped, StopRequest, TrainingBar

Evaluate = Callable[[AnyModel, Dataset], Mapping[str, float]]
"""Measures a model on a data set; the FIRST value decides which weights are best (higher is better)."""

PROBE, LEAST, EVALUATIONS = 2, 8, 5
"""With max_minutes: images that are timed first, fewest images that are measured, evaluations that can be afforded."""


SaveWeights = Callable[[AnyModel, Path, Mapping[str, float]], object]
"""Writes a model that predicts; the numbers are its latest evaluation."""


@dataclass
class History:
    """What a run did. metrics: one row per evaluation (iteration, epoch and the numbers). best: its first number, the
    largest of all, reached at best_iteration (-1: never measured).

    stopped: "finished", "time", "no progress", or the signal's name. seconds: of training, with those before a resume.
    """

    iterations: int = 0
    epochs: int = 0
    seconds: float = 0.0
    losses: list[dict[str, float]] = field(default_factory=list)
    metrics: list[dict[str, float]] = field(default_factory=list)
    best: float | None = None
    best_iteration: int = -1
    stopped: str = "finished"

    def end(self, at: Position, seconds: float) -> None:
        """Note how far the run is, and the seconds that it took."""
        self.iterations, self.epochs, self.seconds = at.iteration, at.epoch, seconds
        self.best, self.best_iteration = at.best, at.best_iteration


# ---- the steps of the loop ------------------------------------------------------------------------------------------


def train_step(run: Run, group: Sequence[Batch]) -> dict[str, float]:
    """One optimiser step over the batches of `group`: the mean of each loss, their sum, gradient norm and lr.

    With several processes each has its share of every batch, and all get the losses of the whole.
    Raises TrainingError, naming the term and the images, where a loss or the gradient is not finite; the weights are
    then still those of the step before, and all processes stop.
    """
    risen = run.position.risen(run.length)
    lr = learning_rate(run.learning, run.position.iteration, run.progress(), risen)
    for parameters in run.optimizer.param_groups:
        parameters["lr"] = lr
    means: dict[str, float] = {}
    for part, batch in enumerate(group):
        batch = run.team.same_size(batch.to(run.accelerator.device))
        torch.manual_seed(_stream(run.seed, run.position.iteration, part, run.team.rank))  # for dropout
        with run.accelerator.autocast(), run.team.together():
            terms = run.model.terms(batch.inputs, batch.targets, draws(run.seed, batch))
        losses, values = run.team.divide(terms)
        check_finite(values, run, batch)
        with run.team.together():
            run.accelerator.backward(torch.stack([v.float() for v in losses.values()]).sum() / len(group))
        for name, value in values.items():
            means[name] = means.get(name, 0.0) + value / len(group)
    norm = update(run, group)
    if run.ema is not None:
        run.ema.update(run.model)
    return {**means, "loss": sum(means.values()), "grad_norm": norm, "lr": lr}


def draws(seed: int, batch: Batch) -> list[torch.Generator]:
    """A generator for each image, which depends on nothing else that is in the batch."""
    keys = [(key.epoch, key.position, key.repeat) for key in batch.keys]
    return [torch.Generator().manual_seed(_stream(seed, *key)) for key in keys]


def _stream(*numbers: int) -> int:
    """A seed of its own for each row of numbers."""
    return int.from_bytes(hashlib.sha256(" ".join(map(str, numbers)).encode()).digest()[:8], "big") >> 1


def check_finite(losses: Mapping[str, float], run: Run, *group: Batch) -> None:
    """Raises TrainingError that names the terms and the images of all processes where one is not finite."""
    bad = [f"{name} is {value}" for name, value in losses.items() if not math.isfinite(value)]
    if not bad:
        return
    files = [name for names in run.team.gather([f for batch in group for f in batch.files]) for name in names]
    raise TrainingError(
        f"Training stopped at iteration {run.position.iteration} (epoch {run.position.epoch}): {' and '.join(bad)}. "
        f"Images of this step: {', '.join(files)}. Look at these images and their annotations; if they are in "
        f"order, lower lr, lengthen warmup, set clip, or use precision float32. {saved(run.out / STATE)}"
    )


def update(run: Run, group: Sequence[Batch]) -> float:
    """One optimiser step with the clipped gradients of all processes; returns their norm before clipping.

    fp16: where gradients overflow the step is skipped, the loss scale is lowered, and 0 is returned.
    """
    scaler, parameters = run.accelerator.scaler, list(run.model.parameters())
    run.team.add_gradients(parameters)
    if scaler is not None:
        scaler.unscale_(run.optimizer)
    norm = float(torch.nn.utils.clip_grad_norm_(parameters, run.learning.clip or math.inf))
    overflow = scaler is not None and scaler.get_scale() > 1 and not math.isfinite(norm)
    if not overflow:
        check_finite({"the gradient norm": norm}, run, *group)
    if scaler is None:
        run.optimizer.step()
    else:
        scaler.step(run.optimizer)  # skips where there was an overflow
        scaler.update()
    run.optimizer.zero_grad(set_to_none=True)
    return 0.0 if overflow else norm


def validate(
    run: Run, data: Dataset, evaluate: Evaluate, save: SaveWeights | None, stop: StopRequest
) -> dict[str, float]:
    """Measure the model as it is now; where it is the best so far, save it as best.safetensors.

    The first process does both, the others wait for the numbers. Raises Stopped, in all, where a signal came: an
    evaluation may take long, so it is given up, and due when the run is resumed.
    """

    def measure() -> tuple[dict[str, float] | None, float]:
        start = time.perf_counter()
        run.evaluated.eval()
        try:
            with stop.at_once():
                found = {name: float(value) for name, value in evaluate(run.evaluated, data).items()}
        except Stopped:
            return None, time.perf_counter() - start
        return found, time.perf_counter() - start

    metrics, seconds = run.team.from_first(measure)
    run.train_mode()
    if metrics is None:
        run.position.due = True
        raise Stopped
    run.position.took(seconds)
    if not metrics:
        raise TrainingError("The evaluation returned no number, so the best weights cannot be chosen.")
    best = run.position.measured(next(iter(metrics.values())), run.length)
    if best and save is not None and run.team.first:
        save(run.evaluated, run.out / "best.safetensors", metrics)
    return metrics


def evaluated(position: Position, metrics: Mapping[str, float]) -> str:
    """An evaluation in one line: its first numbers, and the best so far."""
    at = f"iteration {position.iteration} (epoch {position.epoch})" if position.iteration else "Before the first step"
    values = {name: value for name, value in metrics.items() if name not in ("iteration", "epoch")}
    kind = next(iter(values)).partition("/")[0]  # of masks where there are any; the table has the others too
    found = ", ".join(f"{name} {value:.3f}" for name, value in values.items() if name.partition("/")[0] == kind)
    is_best = position.best_iteration == position.iteration
    best = "the best so far" if is_best else f"best {position.best:.3f} at iteration {position.best_iteration}"
    return f"{at}: {found}; {best}"


def affordable(run: Run, data: Dataset, evaluate: Evaluate, say: Callable[[str], None]) -> Dataset:
    """The images to measure on: all of them, or with max_minutes so few that an evaluation takes a small share of it.

    They are spread evenly over the data. How many, is found by timing two of them, and kept in the run's position.
    say: is told where they are not all.
    """
    position, minutes = run.position, run.length.max_minutes
    if minutes is None or not data:
        return data
    if not position.images:

        def timed() -> tuple[int, float]:
            run.evaluated.eval()
            few = _spread(data, PROBE)
            for _ in range(2):  # the second time nothing is prepared any more
                start = time.perf_counter()
                evaluate(run.evaluated, few)
                each = (time.perf_counter() - start) / len(few)
            return min(len(data), max(LEAST, int(MEASURING / EVALUATIONS * 60 * minutes / each))), each

        position.images, each = run.team.from_first(timed)
        run.train_mode()
        position.cost = each * position.images
    few = _spread(data, position.images)
    if len(few) < len(data):
        say(
            f"Evaluations measure {len(few)} of the {len(data)} images, so that they take a fifth of the time at most; "
            "the report measures all."
        )
    return few


def _spread(data: Dataset, count: int) -> Dataset:
    """`count` images, evenly spread; of those with objects if the others have none; all where there are fewer."""
    if count >= len(data):
        return data
    chosen = data.subset([i * len(data) // count for i in range(count)])
    if any(chosen.annotations.values()):
        return chosen
    filled = [i for i in range(len(data)) if data.of(i)]
    return data.subset(sorted({filled[i * len(filled) // count] for i in range(count)})) if filled else chosen


# ---- the loop -------------------------------------------------------------------------------------------------------


def fit(
    model: AnyModel,
    train_data: Dataset,
    val_data: Dataset | None,
    config: TrainConfig,
    evaluate: Evaluate | None = None,
    save: SaveWeights | None = None,
    on_start: Callable[[], object] | None = None,
    *,
    measure_first: bool = False,
) -> History:
    """Train `model` in place; what it learns is in the run's folder at any time.

    config: settings that are UNSET take their fallback. evaluate: without it nothing is measured. save: writes
    best.safetensors and last.safetensors. on_start: called by the first process once everything is set up, before the
    first step. measure_first: the weights are measured before the first step, so that the best are never worse.
    SIGTERM or one Ctrl-C ends the run after the step it is at, with its state saved.
    Raises TrainingError where the run cannot go on; ConfigError, DataError where it cannot begin, such as in a folder
    that another run uses.
    """
    settings, history = Resolved.of(config), History()
    with ExitStack() as stack:
        stop = stack.enter_context(StopRequest())
        stack.enter_context(worker_failures_explained())
        stack.enter_context(_random_state_kept())
        if is_first():
            stack.enter_context(only_run(Path(settings.run.out)))
        torch.manual_seed(settings.compute.seed)
        run = Run(model, train_data, settings)
        run.team.state = run.out / STATE
        stack.enter_context(run.shared_norms())
        stop.heeded = True
        output, folder = settings.run, run.out if run.team.first else None
        log = stack.enter_context(Log(folder, run.position, output.log_every, tensorboard=output.tensorboard))
        bar = stack.enter_context(TrainingBar(output.progress and run.team.first))
        bar.say(run.begins())
        if on_start is not None and run.team.first:
            on_start()

        measured = affordable(run, val_data, evaluate, bar.say) if evaluate is not None and val_data else None

        def save_and_validate() -> None:
            run.save_state()  # before the evaluation, which may take long
            if evaluate is not None and measured and run.position.validated != run.position.iteration:
                history.metrics.append(log.metrics(run.position, validate(run, measured, evaluate, save, stop)))
                bar.say(evaluated(run.position, history.metrics[-1]))
            run.position.due = False

        try:
            if run.position.due or (measure_first and not run.position.iteration):  # due: stopped before its evaluation
                save_and_validate()
            pace = Pace(run)
            for group, waited in run.groups():
                losses = train_step(run, group)
                run.position.advance(len(group), len(run.batches), run.length)
                ending, progress = run.ending(stop.name), run.progress()
                history.losses += log.step(run.position, losses, sum(map(len, group)), waited, last=progress >= 1)
                bar.show(run.position, losses, progress, log.rate)
                if told := pace.told():
                    bar.say(told)
                if ending:
                    history.stopped = ending
                    break
                if measured and run.position.wants_evaluation(run.length):
                    save_and_validate()
                run.position.due = False
                if run.state_is_old():
                    run.save_state()
            if history.stopped in ("finished", "time"):
                history.losses += log.rest(run.position)  # the steps since the last row
                save_and_validate()
                history.stopped = "no progress" if run.position.stalled(run.length) else history.stopped
        except Stopped:
            history.stopped = run.ending(stop.name) or history.stopped
        run.save_state()
        if save is not None and run.team.first:
            save(run.evaluated, run.out / "last.safetensors", history.metrics[-1] if history.metrics else {})
        run.team.leave()
    history.end(run.position, run.elapsed())
    return history


def _random_state_kept() -> AbstractContextManager[None]:
    """Restores the caller's random state at the end, so that seeding and drawing inside do not change it."""
    return torch.random.fork_rng([torch.cuda.current_device()] if torch.cuda.is_available() else [])
