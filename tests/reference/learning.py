"""A short training by hand, for tests of whether a model learns."""

from collections.abc import Sequence

import torch
from torch import Tensor

from maskwright.models.base import AnyModel
from maskwright.types import Inputs, Target


def total(losses: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(losses.values())).sum()


def learn(model: AnyModel, inputs: Inputs, targets: Sequence[Target], steps: int) -> list[dict[str, float]]:
    """Steps on one batch, with a learning rate that rises and falls: the losses before each."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    generator, history = torch.Generator().manual_seed(0), []
    for _ in range(steps):
        losses = model.loss(inputs, targets, generator)
        optimizer.zero_grad()
        total(losses).backward()
        optimizer.step()
        schedule.step()
        history.append({name: value.item() for name, value in losses.items()})
    return history
