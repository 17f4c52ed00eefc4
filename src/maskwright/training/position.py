"""How far a run is, and when it ends."""

import math
from dataclasses import dataclass

from maskwright.codec import FieldError, Section, open_field, ranged

MEASURING, WARMING = 0.2, 0.1
"""Shares of `max_minutes` that evaluations take at most, and in which the learning rate has risen at the latest."""


@dataclass(frozen=True)
class LengthSettings(Section):
    """When the run ends, and how often it measures.

    epochs, max_minutes: the run ends with the first that is reached; one may be None. With max_minutes the learning
    rate follows the share of the time that is used, or of the epochs if that is further; it has risen after a tenth of
    the time at the latest. evaluate_every: epochs; with max_minutes also after each tenth of the time, but all
    evaluations together take at most a fifth of it. patience: stop after this many evaluations in a row that are not
    better than the best by more than min_delta; None never does.
    """

    epochs: int | None = open_field(50, low=1)
    max_minutes: float | None = ranged(None, low=0, open_low=True)
    evaluate_every: int = open_field(1, low=1)
    patience: int | None = ranged(None, low=1)
    min_delta: float = ranged(0.0, low=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.epochs is None and self.max_minutes is None:
            raise FieldError("Set epochs or max_minutes, or the run would never end.", ("epochs",))


@dataclass
class Position:
    """How far a run is.

    iteration: optimiser steps done. epoch, number: the batch that comes next. seconds: time used so far.
    due: an evaluation is to be done before the next step. validated: iteration of the last evaluation, or -1.
    best: the best value so far, or None; best_iteration: where it was reached. stale: evaluations since the last that
    was better by more than min_delta. Of evaluations: cost, seconds of the last one; measuring, of all so far;
    measured_at, the time when the last one ended; images: on how many images they measure, 0: on all of them.
    """

    iteration: int = 0
    epoch: int = 0
    number: int = 0
    seconds: float = 0.0
    due: bool = False
    validated: int = -1
    best: float | None = None
    best_iteration: int = -1
    stale: int = 0
    cost: float = 0.0
    measuring: float = 0.0
    measured_at: float = 0.0
    images: int = 0

    def advance(self, batches: int, per_epoch: int, length: LengthSettings) -> None:
        """Count a step over this number of batches."""
        self.iteration, self.number = self.iteration + 1, self.number + batches
        if self.number >= per_epoch:
            self.epoch, self.number = self.epoch + 1, 0
            self.due = self.epoch % length.evaluate_every == 0

    def measured(self, value: float, length: LengthSettings) -> bool:
        """Note an evaluation; gives whether it is the best so far."""
        self.due, self.validated = False, self.iteration
        self.stale = 0 if self.best is None or value > self.best + length.min_delta else self.stale + 1
        if self.best is not None and value <= self.best:
            return False
        self.best, self.best_iteration = value, self.iteration
        return True

    def progress(self, per_epoch: int, length: LengthSettings) -> float:
        """Share of the run that is over, by epochs or time, whichever is further; in [0, 1]."""
        done = (self.epoch + self.number / per_epoch) / length.epochs if length.epochs else 0.0
        used = self.seconds / self.limit(length) if length.max_minutes else 0.0
        return min(1.0, max(done, used))

    def limit(self, length: LengthSettings) -> float:
        """Seconds after which a last evaluation is done, so that the run ends with max_minutes; infinite without."""
        whole = math.inf if length.max_minutes is None else 60 * length.max_minutes
        return whole - min(self.cost, MEASURING * whole) if self.cost else whole

    def risen(self, length: LengthSettings) -> float:
        """The share of the rise of the learning rate that the time alone gives; 0 without max_minutes."""
        return max(0.0, self.seconds - self.measuring) / (WARMING * self.limit(length))

    def wants_evaluation(self, length: LengthSettings) -> bool:
        """Whether to evaluate before the next step: where it is due, or with max_minutes where it can be afforded."""
        if length.max_minutes is None:
            return self.due
        whole, since = 60 * length.max_minutes, self.seconds - self.measured_at
        affordable = self.measuring + 2 * self.cost <= MEASURING * whole  # one is kept for the end
        return affordable and since >= self.cost / MEASURING and (self.due or since >= whole / 10)

    def took(self, seconds: float) -> None:
        """Note how long an evaluation took, which has just ended."""
        self.cost, self.measuring = seconds, self.measuring + seconds
        self.seconds += seconds
        self.measured_at = self.seconds

    def stalled(self, length: LengthSettings) -> bool:
        """Whether `patience` evaluations in a row brought nothing better."""
        return length.patience is not None and self.stale >= length.patience
