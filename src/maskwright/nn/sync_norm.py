"""Batch norms over the images of all processes, and batch norms with frozen statistics.

torch's own synchronised norm runs on CUDA only. This one runs wherever torch.distributed does, weighs each process by
its number of values, and also works in a process without any.

Letters: P processes, C channels, n values per channel in one process, N in all.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from maskwright.errors import ConfigError
from maskwright.nn.layers import FrozenBatchNorm2d

DIMS = (0, 2, 3)


class _Normalise(torch.autograd.Function):
    """(B, C, h, w) over its mean and variance in all processes; also gives those two and N."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        mean, var, total = _statistics(x)
        ctx.save_for_backward(x, weight, mean, torch.rsqrt(var + eps), total)
        y = F.batch_norm(x, mean, var, weight, bias, training=False, eps=eps) if x.numel() else torch.zeros_like(x)
        ctx.mark_non_differentiable(mean, var, total)
        return y, mean, var, total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight, mean, scale, total = ctx.saved_tensors
        dy = grads[0].float()
        centred = (x.float() - mean.view(1, -1, 1, 1)) * scale.view(1, -1, 1, 1)
        own = torch.stack([dy.sum(DIMS), (dy * centred).sum(DIMS)])  # (2, C): the gradients of bias and weight
        everywhere = own.double()
        dist.all_reduce(everywhere)
        shift, slope = (everywhere / total.clamp(min=1)).float().view(2, 1, -1, 1, 1)
        dx = (dy - shift - centred * slope) * (weight.float() * scale).view(1, -1, 1, 1)
        return dx.to(x.dtype), own[1].to(weight.dtype), own[0].to(weight.dtype), None


def _statistics(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean (C,), variance (C,) and N (1,) over all processes; zeros where N is 0."""
    count = x.numel() // x.shape[1]
    own = torch.zeros(2 * x.shape[1] + 1, dtype=torch.float64, device=x.device)
    if count:
        var, mean = torch.var_mean(x.float(), DIMS, correction=0)
        own = torch.cat([mean.double(), var.double(), own[-1:] + count])
    parts = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, own)
    every = torch.stack(parts)  # (P, 2C + 1)
    n, (means, variances) = every[:, -1:], every[:, :-1].chunk(2, dim=1)
    total = n.sum().view(1)
    shares = n / total.clamp(min=1)
    mean = (shares * means).sum(0)
    var = (shares * (variances + (means - mean).square())).sum(0)
    return mean.float(), var.float(), total


def synchronised(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """What `norm` in train mode gives over the batches of all processes; its running statistics follow."""
    y: Tensor
    y, mean, var, total = _Normalise.apply(x, norm.weight, norm.bias, norm.eps)
    values = float(total)
    if norm.track_running_stats and values:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        assert norm.num_batches_tracked is not None
        norm.num_batches_tracked.add_(1)
        rate = norm.momentum if norm.momentum is not None else 1 / float(norm.num_batches_tracked)
        norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), rate)
        norm.running_var.lerp_((var * (values / max(values - 1, 1))).to(norm.running_var.dtype), rate)
    return y


class SyncBatchNorm2d(nn.BatchNorm2d):
    """A batch norm that, in train mode, sees the images of all processes."""

    def forward(self, x: Tensor) -> Tensor:
        return synchronised(self, x) if self.training else super().forward(x)


@contextmanager
def synchronised_norms(model: nn.Module) -> Iterator[None]:
    """In the block the batch norms of `model` use the images of all processes. Raises ConfigError for unknown kinds.

    The modules stay the same objects with the same parameters; only their class is replaced inside the block.
    """
    kinds = _kinds()
    found: list[nn.Module] = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if unknown := sorted({type(m).__name__ for m in found if type(m) not in kinds}):
        raise ConfigError(
            f"Norms of the kind {', '.join(unknown)} cannot be shared by several processes. Train in one process, or "
            f"with norm 'frozen'."
        )
    before: list[type[nn.Module]] = [type(m) for m in found]
    try:
        for module in found:
            module.__class__ = kinds[type(module)]
        yield
    finally:
        for module, kind in zip(found, before, strict=True):
            module.__class__ = kind


def _kinds() -> dict[type[nn.Module], type[nn.Module]]:
    """What takes the place of each kind of norm: torch's, and timm's with dropout and activation behind it."""
    from timm.layers import BatchNormAct2d

    class SyncBatchNormAct2d(BatchNormAct2d):
        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.act(self.drop(synchronised(self, x))) if self.training else super().forward(x)
            return y

    return {nn.BatchNorm2d: SyncBatchNorm2d, BatchNormAct2d: SyncBatchNormAct2d}


def live_norms(model: nn.Module) -> list[nn.Module]:
    """The norms whose statistics come from the batch while the model is in train mode."""
    return [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]


def has_frozen_norms(model: nn.Module) -> bool:
    """Whether the model was built with norms that never change."""
    return any(isinstance(m, FrozenBatchNorm2d) for m in model.modules())
