"""How weights follow gradients: the optimiser and its learning rate."""

import math
from bisect import bisect_right
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from maskwright.codec import FieldError, Section, open_field, ranged
from maskwright.errors import TrainingError


@dataclass(frozen=True)
class LearningSettings(Section):
    """Optimiser, learning rate and norms.

    optimizer: "sgd" uses momentum and nesterov. weight_decay: not of norms and biases. lr: the highest learning rate,
    reached after `warmup` iterations of linear rise. schedule: "cosine" falls to lr * lr_end; "step" multiplies by
    gamma at each of the milestones, shares of the run; "constant" stays. clip: largest gradient norm, or None. ema:
    decay of the mean of the weights that is evaluated and saved, or None. norm: "live" batch norms take their
    statistics from the batches; "frozen" keeps those the model begins with, for small batches and pretrained weights;
    None leaves them as the model was built.
    """

    optimizer: Literal["adamw", "sgd"] = "adamw"
    momentum: float = ranged(0.9, low=0, high=0.999999)
    nesterov: bool = False
    lr: float = open_field(2e-4, low=0, open_low=True)
    schedule: Literal["cosine", "step", "constant"] = "cosine"
    lr_end: float = ranged(0.01, low=0, high=1)
    milestones: tuple[float, ...] = (0.67, 0.89)
    gamma: float = ranged(0.1, low=0, high=1)
    weight_decay: float = ranged(0.05, low=0)
    warmup: int = open_field(500, low=0)
    clip: float | None = ranged(5.0, low=0, open_low=True)
    ema: float | None = ranged(0.999, low=0, high=0.999999)
    norm: Literal["live", "frozen"] | None = open_field(None)

    def __post_init__(self) -> None:
        super().__post_init__()
        shares = self.milestones
        if any(not 0 < share < 1 for share in shares) or list(shares) != sorted(shares):
            raise FieldError(f"milestones are rising shares of the run in (0, 1), got {shares}.", ("milestones",))
        if self.nesterov and (self.optimizer != "sgd" or self.momentum == 0):
            raise FieldError("nesterov needs optimizer 'sgd' and a momentum above 0.", ("nesterov",))


def learning_rate(settings: LearningSettings, iteration: int, progress: float, risen: float = 0.0) -> float:
    """lr at an iteration; progress in [0, 1] is the share of the run that is over. risen: the share of its rise that is
    over at least, as fewer steps than `warmup` may fit in a run that ends with the time."""
    warm = min(1.0, max((iteration + 1) / settings.warmup, risen)) if settings.warmup else 1.0
    if settings.schedule == "cosine":
        cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
        return settings.lr * warm * (settings.lr_end + (1 - settings.lr_end) * cosine)
    passed = bisect_right(settings.milestones, progress) if settings.schedule == "step" else 0
    return float(settings.lr * warm * settings.gamma**passed)


def build_optimizer(model: nn.Module, settings: LearningSettings) -> torch.optim.Optimizer:
    """Weight decay on weights of two and more dimensions only. Raises TrainingError where nothing can be learnt."""
    learnt = [p for p in model.parameters() if p.requires_grad]
    if not learnt:
        raise TrainingError("The model has no weights that learn: all of them are frozen.")
    groups = [
        {"params": [p for p in learnt if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in learnt if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [g for g in groups if g["params"]]
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum, nesterov=settings.nesterov)
    return torch.optim.AdamW(groups, lr=settings.lr)
