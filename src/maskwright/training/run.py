"""The objects of a training run and how far it is: model, batches, optimiser, mean of the weights, saved state."""

import json
import math
import signal
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from maskwright.data.dataset import Dataset
from maskwright.errors import ConfigError
from maskwright.models.base import AnyModel
from maskwright.nn.sync_norm import has_frozen_norms, live_norms, synchronised_norms
from maskwright.samples.loader import Batch, Batches
from maskwright.training import checkpoint
from maskwright.training.checkpoint import Ema
from maskwright.training.compute import accelerator
from maskwright.training.learning import build_optimizer
from maskwright.training.position import MEASURING, Position
from maskwright.training.processes import Team
from maskwright.training.resolved import LENGTH_ON_RESUME, Resolved, fingerprint, upgraded
from maskwright.wording import device_name, duration

STATE = "last.state"


FIRST_STEPS = 3
"""Steps that are timed before it is said how long a run takes; the very first, which prepares much, does not count."""


class Run:
    """The objects of a run and how far it is."""

    def __init__(self, model: AnyModel, data: Dataset, settings: Resolved) -> None:
        if settings.learning.norm == "live" and has_frozen_norms(model):
            raise ConfigError("TrainConfig: norm is 'live', but this model was built with norms that never change.")
        self.settings, self.learning, self.length = settings, settings.learning, settings.length
        self.out, self.seed = Path(settings.run.out), settings.compute.seed
        self.accelerator = accelerator(settings.compute)
        self.team = Team()
        self.model = model.to(self.accelerator.device).to(memory_format=torch.channels_last)
        self.train_mode()
        sampling = settings.sampling(masks=model.config.draws_masks, search=model.config.box_search)
        self.batches = Batches(data, model.config.spec, sampling, (self.team.rank, self.team.count))
        self.optimizer = build_optimizer(self.model, self.learning)
        self.team.same_weights(self.model)
        self.ema = None if self.learning.ema is None else Ema(self.model, self.learning.ema)
        self.fingerprint = fingerprint(settings, data)
        self.new_length: list[str] = []
        self.position = self._resume()
        self._began = time.perf_counter() - self.position.seconds
        self._saved = time.perf_counter()

    def _resume(self) -> Position:
        if len({tuple(f.items()) for f in self.team.gather(self.fingerprint)}) > 1:
            raise ConfigError("The processes of this run were given different settings or annotations.")
        path = self.out / STATE
        state = self.team.from_first(self._state)
        if state is None:
            return Position()
        return checkpoint.restore(state, self.model, self.ema, self.optimizer, self.accelerator.scaler, path)

    def _state(self) -> dict[str, Any] | None:
        path = self.out / STATE
        if not path.exists():
            return None
        if not self.settings.run.resume:
            raise ConfigError(
                f"{path} is there: {self.out} holds a run. Resume it, or choose another folder for `out`."
            )
        state = checkpoint.load(path)
        then, now = upgraded(json.loads(state["facts"])), self.fingerprint
        names = sorted(n for n in set(then) | set(now) if then.get(n) != now.get(n))
        differs = {n: f"{n}: {then.get(n)} -> {now.get(n)}" for n in names}
        self.new_length = [differs.pop(n) for n in names if n in LENGTH_ON_RESUME]
        if differs:
            raise ConfigError(
                f"{path} cannot be resumed, the run was started otherwise. {'; '.join(differs.values())}. Resume it as "
                f"it was, or begin a new run with its weights: weights {path.with_name('last.safetensors')} and "
                f"another `out`."
            )
        return state

    def begins(self) -> str:
        """Lines for people before the first step: where it computes, and where a resumed run goes on."""
        lines = [f"Computing on {device_name(self.accelerator.device)}, {self.settings.compute.precision}"]
        at = self.position
        if not self.settings.run.resume:
            return lines[0]
        if not at.iteration:
            return f"{lines[0]}\nNo step of {self.out} was saved: it begins anew"
        best = "" if at.best is None else f", best {at.best:.3f} at iteration {at.best_iteration}"
        took = duration(at.seconds)
        lines.append(f"Going on with {self.out} after iteration {at.iteration} (epoch {at.epoch}, {took}{best})")
        if self.new_length:
            lines.append(
                f"Its length was changed: {'; '.join(self.new_length)}. The learning rate follows the new length, so "
                f"the weights will not be those of a run that had it from the start"
            )
        if at.stalled(self.length):
            lines.append("It ended without progress: a larger patience lets it go on")
        elif self.progress() >= 1:
            lines.append("It is at its end already: more epochs or minutes (in all) let it go on")
        return "\n".join(lines)

    @property
    def evaluated(self) -> AnyModel:
        """The model that is evaluated and saved."""
        return self.model if self.ema is None else self.ema.model

    def train_mode(self) -> None:
        """Put the model in train mode; frozen norms keep their statistics there."""
        self.model.train()
        if self.learning.norm == "frozen":
            for norm in live_norms(self.model):
                norm.eval()

    def shared_norms(self) -> AbstractContextManager[None]:
        """Inside, live norms see the images of all processes."""
        alone = self.team.count == 1 or self.learning.norm == "frozen"
        return nullcontext() if alone else synchronised_norms(self.model)

    def groups(self) -> Iterator[tuple[list[Batch], float]]:
        """The batches of each coming step, never of two epochs, and the seconds spent waiting for them."""
        stream, length = self.batches.start(self.position.epoch, self.position.number), len(self.batches)
        while not self.position.stalled(self.length):
            start = time.perf_counter()
            group = list(islice(stream, min(self.settings.batches.accumulate, length - self.position.number)))
            if not group:
                return
            yield group, time.perf_counter() - start

    def ending(self, signal_name: str | None) -> str | None:
        """Why the run ends here, the same in all processes: a signal that reached one of them, or "time"; or None."""
        own = signal.Signals[signal_name].value if signal_name else 0
        self.position.seconds, number = self.team.largest(self.elapsed(), own)
        if number:
            return signal.Signals(int(number)).name
        return "time" if self.position.seconds >= self.position.limit(self.length) else None

    def elapsed(self) -> float:
        """Seconds of the run so far, with those before a resume."""
        return time.perf_counter() - self._began

    def progress(self) -> float:
        """Share of the run that is over, in [0, 1]."""
        return self.position.progress(len(self.batches), self.length)

    def state_is_old(self) -> bool:
        """Whether checkpoint_minutes have passed since the last saved state."""
        return time.perf_counter() - self._saved >= 60 * self.settings.run.checkpoint_minutes

    def save_state(self) -> None:
        """Write all that a resumed run needs; the first process does it for all."""
        self._saved = time.perf_counter()
        if self.team.first:
            position = replace(self.position, seconds=self.elapsed())
            scaler = self.accelerator.scaler
            state = checkpoint.capture(self.model, self.ema, self.optimizer, scaler, position, self.fingerprint)
            checkpoint.save(self.out / STATE, state)


class Pace:
    """How long a run will take, told once after its first steps, which are timed."""

    def __init__(self, run: Run) -> None:
        self._run, self._first, self._since, self._done = run, run.position.iteration, 0.0, False

    def told(self) -> str:
        """A line for people after the last of the first steps, else nothing."""
        run, done = self._run, self._run.position.iteration - self._first
        if self._done or done > FIRST_STEPS:
            return ""
        now = time.perf_counter()
        if done <= 1:
            self._since = now
        if done < FIRST_STEPS:
            return ""
        self._done = True
        each = (now - self._since) / (FIRST_STEPS - 1)
        per_epoch = math.ceil(len(run.batches) / run.settings.batches.accumulate)
        left = math.inf if run.length.epochs is None else run.length.epochs * per_epoch - run.position.iteration
        seconds, ends = left * each, ""
        if run.length.max_minutes is not None:
            rest = run.position.limit(run.length) - run.position.seconds
            evaluations = max(0.0, MEASURING * 60 * run.length.max_minutes - run.position.measuring - run.position.cost)
            if rest < seconds:
                left, seconds, ends = int(max(rest - evaluations, 0) / each), rest, ", when the time is used up"
        return (
            f"A step takes {each:.2g} s: about {left:.0f} more steps ({left / per_epoch:.1f} epochs), done in about "
            f"{duration(seconds)}{ends}"
        )
