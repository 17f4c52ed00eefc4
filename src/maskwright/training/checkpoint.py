"""The whole state of a training run in one file, so that a run that ended anywhere goes on as if it had not.

The file is written beside its place, flushed to the disk and renamed: whatever happens while it is written, the
earlier one stays whole. It is read with `weights_only=True`: nothing in it is executed.
"""

import copy
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import nn

from maskwright.atomic import FULL, reason, replacing
from maskwright.errors import TrainingError
from maskwright.samples.loader import worker_failures_explained
from maskwright.training.position import Position

FORMAT = 2
"""Of the file; a reader refuses others. 2: random samples follow the image, not the batch."""


M = TypeVar("M", bound=nn.Module)


class Ema(Generic[M]):
    """A running mean of a model's weights, often better than the last weights themselves.

    model: the mean, in eval mode. After n updates it forgets by min(decay, (1 + n) / (10 + n)) a step, so that the
    random start does not stay in it.
    """

    def __init__(self, model: M, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.model: M = copy.deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move towards the weights (and norm statistics) of `model`; whole numbers are copied."""
        self.updates += 1
        keep = min(self.decay, (1 + self.updates) / (10 + self.updates))
        pairs = list(zip(self.model.state_dict().values(), model.state_dict().values(), strict=True))
        means, values = zip(*(pair for pair in pairs if pair[0].is_floating_point()), strict=True)
        torch._foreach_lerp_(means, values, 1 - keep)  # one call: a GPU waits for hundreds of small ones
        for mean, new in pairs:
            if not mean.is_floating_point():
                mean.copy_(new)


def capture(
    model: M,
    ema: Ema[M] | None,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler | None,
    position: Position,
    fingerprint: Mapping[str, str],
) -> dict[str, Any]:
    """Everything that decides how a run goes on. fingerprint: what must be the same on resuming (settings, data).

    There are no random states in it: each step draws from seed, epoch and image.
    """
    return {
        "format": FORMAT,
        "position": asdict(position),
        "facts": json.dumps(dict(fingerprint)),
        "model": model.state_dict(),
        "ema": None if ema is None else {"updates": ema.updates, "model": ema.model.state_dict()},
        "optimizer": optimizer.state_dict(),
        "scaler": None if scaler is None else scaler.state_dict(),
    }


def restore(
    state: Mapping[str, Any],
    model: M,
    ema: Ema[M] | None,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler | None,
    path: Path,
) -> Position:
    """Put a captured state back into the objects of a new run. Raises TrainingError where it does not fit them."""
    if (state["ema"] is None) != (ema is None):
        raise TrainingError(f"{path} was written {'without' if ema else 'with'} a mean of the weights; set ema alike.")
    try:
        model.load_state_dict(state["model"])
        if ema is not None:
            ema.model.load_state_dict(state["ema"]["model"])
            ema.updates = int(state["ema"]["updates"])
        optimizer.load_state_dict(state["optimizer"])
        if scaler is not None and state["scaler"]:
            scaler.load_state_dict(state["scaler"])
    except (RuntimeError, ValueError) as error:
        raise TrainingError(f"{path} is of another model or optimiser than this run's: {error}") from error
    return Position(**state["position"])


def save(path: Path, state: Mapping[str, Any]) -> Path:
    """Write the state. Raises TrainingError where that fails; the file that was there before is then untouched."""
    try:
        for left in path.parent.glob(f".{path.name}.*.part"):  # by a run that was killed while it wrote
            left.unlink()
        with worker_failures_explained(), replacing(path, durable=True) as part, part.open("wb") as stream:
            torch.save(dict(state), stream)  # into a stream: the system's error stays behind torch's
    except TrainingError:
        raise
    except (OSError, RuntimeError) as error:
        kept, then = "There is no earlier one.", "start again"
        if path.exists():
            kept, then = f"The earlier one at {path} is intact.", "resume"
        why = reason(error)
        advice = "Free some space" if why in (None, *FULL.values()) else "Make it possible to write there"
        raise TrainingError(
            f"The checkpoint {path} could not be written: {why or error}. {kept} {advice}, then {then}."
        ) from error
    return path


def load(path: Path) -> dict[str, Any]:
    """The state in a file, on the CPU. Raises TrainingError where it is missing, damaged or not one."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise TrainingError(f"There is no training state at {path}; start without resume.") from None
    except Exception as error:  # torch raises a dozen types for damaged files
        raise TrainingError(f"{path} is damaged or not a training state: {error}") from error
    if not isinstance(state, dict) or "format" not in state:
        raise TrainingError(f"{path} is not a training state: expected one of format {FORMAT}.")
    if state["format"] != FORMAT:
        raise TrainingError(
            f"{path} is a training state of format {state['format']!r}, written by another version of maskwright; this "
            f"one reads format {FORMAT} and would not continue to the same weights. Resume with that version, or begin "
            f"a new run with `weights` set to the weights beside it."
        )
    return state
