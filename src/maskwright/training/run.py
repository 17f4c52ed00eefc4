"""The objects of a training run and how far it is: model, batches, optimiser, mean of the weights, saved state."""

import math
import signal
import time
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from maskwright.data.dataset import Dataset
from maskwright.errors import ConfigError, TrainingError
from maskwright.models.base import Model
from maskwright.nn.sync_norm import has_frozen_norms, live_norms, synchronised_norms
from maskwright.samples.loader import Batch, Batches
from maskwright.training import checkpoint
from maskwright.training.checkpoint import Ema, Position
from maskwright.training.config import TrainConfig, facts
from maskwright.training.processes import Team

if TYPE_CHECKING:
    from accelerate import Accelerator

STATE = "last.state"


def learning_rate(config: TrainConfig, iteration: int, progress: float) -> float:
    """lr at an iteration; progress in [0, 1] is the share of the run that is over."""
    warm = min(1.0, (iteration + 1) / config.warmup) if config.warmup else 1.0
    if config.schedule == "cosine":
        cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
        return config.lr * warm * (config.lr_end + (1 - config.lr_end) * cosine)
    passed = bisect_right(config.milestones, progress) if config.schedule == "step" else 0
    return float(config.lr * warm * config.gamma**passed)


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
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=config.nesterov)
    return torch.optim.AdamW(groups, lr=config.lr)


class Run:
    """The objects of a run and how far it is."""

    def __init__(self, model: Model, data: Dataset, config: TrainConfig) -> None:
        if config.norm == "live" and has_frozen_norms(model):
            raise ConfigError("TrainConfig: norm is 'live', but this model was built with norms that never change.")
        self.config, self.out = config, Path(config.out)
        self.accelerator = _accelerator(config)
        self.team = Team()
        self.model = model.to(self.accelerator.device).to(memory_format=torch.channels_last)
        self.learn()
        sampling = replace(config.sampling(), masks=model.draws_masks)
        self.batches = Batches(data, model.spec, sampling, (self.team.rank, self.team.count))
        self.optimizer = build_optimizer(self.model, config)
        self.team.same_weights(self.model)
        self.ema = None if config.ema is None else Ema(self.model, config.ema)
        self.facts = facts(config, data)
        self.position = self._resume()
        self._began = time.perf_counter() - self.position.seconds
        self._saved = time.perf_counter()

    def _resume(self) -> Position:
        if len({tuple(f.items()) for f in self.team.gather(self.facts)}) > 1:
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
        if not self.config.resume:
            raise ConfigError(
                f"{path} is there: {self.out} holds a run. Resume it, or choose another folder for `out`."
            )
        state = checkpoint.load(path)
        if changed := checkpoint.differing_facts(state, self.facts):
            raise ConfigError(
                f"{path} cannot be resumed, the run was started otherwise. {'; '.join(changed)}. Resume it as it was, "
                f"or begin a new run with its weights: weights {path.with_name('last.safetensors')} and another `out`."
            )
        return state

    @property
    def shown(self) -> Model:
        """The model that is evaluated and saved."""
        return self.model if self.ema is None else self.ema.model

    def learn(self) -> None:
        """Put the model in train mode; frozen norms keep their statistics there."""
        self.model.train()
        if self.config.norm == "frozen":
            for norm in live_norms(self.model):
                norm.eval()

    def shared_norms(self) -> AbstractContextManager[None]:
        """Inside, live norms see the images of all processes."""
        alone = self.team.count == 1 or self.config.norm == "frozen"
        return nullcontext() if alone else synchronised_norms(self.model)

    def groups(self) -> Iterator[tuple[list[Batch], float]]:
        """The batches of each coming step, never of two epochs, and the seconds spent waiting for them."""
        stream, length = self.batches.start(self.position.epoch, self.position.number), len(self.batches)
        while not self.stalled():
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

    def ending(self, signal_name: str | None) -> str | None:
        """Why the run ends here, the same in all processes: a signal that reached one of them, or "time"; or None."""
        own = signal.Signals[signal_name].value if signal_name else 0
        self.position.seconds, number = self.team.largest(self.elapsed(), own)
        if number:
            return signal.Signals(int(number)).name
        limit = self.config.max_minutes
        return "time" if limit is not None and self.position.seconds >= 60 * limit else None

    def elapsed(self) -> float:
        """Seconds of the run so far, with those before a resume."""
        return time.perf_counter() - self._began

    def progress(self) -> float:
        """Share of the run that is over, by epochs or time, whichever is further; in [0, 1]."""
        at, config = self.position, self.config
        done = (at.epoch + at.number / len(self.batches)) / config.epochs if config.epochs else 0.0
        used = at.seconds / (60 * config.max_minutes) if config.max_minutes else 0.0
        return min(1.0, max(done, used))

    def stalled(self) -> bool:
        """Whether `patience` evaluations in a row brought nothing better."""
        return self.config.patience is not None and self.position.stale >= self.config.patience

    def state_is_old(self) -> bool:
        """Whether checkpoint_minutes have passed since the last saved state."""
        return time.perf_counter() - self._saved >= 60 * self.config.checkpoint_minutes

    def save_state(self) -> None:
        """Write all that a resumed run needs; the first process does it for all."""
        self._saved = time.perf_counter()
        if self.team.first:
            position = replace(self.position, seconds=self.elapsed())
            scaler = self.accelerator.scaler
            state = checkpoint.capture(self.model, self.ema, self.optimizer, scaler, position, self.facts)
            checkpoint.save(self.out / STATE, state)


def _accelerator(config: TrainConfig) -> "Accelerator":
    """Device, precision and processes. Accelerate keeps its set-up for the whole process: each run starts it afresh."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    if config.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("TrainConfig: device is 'cuda', but this machine has no usable CUDA device.")
    if config.precision == "fp16" and (config.device == "cpu" or not torch.cuda.is_available()):
        raise ConfigError("TrainConfig: precision 'fp16' needs a CUDA device; on this one use 'bf16' or 'float32'.")
    AcceleratorState._reset_state(reset_partial_state=True)
    precision = {"bf16": "bf16", "fp16": "fp16"}.get(config.precision, "no")
    return Accelerator(cpu=config.device == "cpu", mixed_precision=precision)
