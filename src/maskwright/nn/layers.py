"""Convolution + normalisation, as in necks and heads, and the frozen normalisation of published weights."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

Norm = Callable[[int], nn.Module]
"""Makes a normalisation layer for a number of channels."""


class Backbone(nn.Module):
    """Gives feature maps of an image, finest first. channels, strides: of each map."""

    channels: tuple[int, ...]
    strides: tuple[int, ...]

    def forward(self, x: Tensor, levels: int | None = None) -> list[Tensor]:
        """(B, 3, H, W) to its maps; levels: only as many of the finest, without computing the layers behind them."""
        raise NotImplementedError


class FrozenBatchNorm2d(nn.Module):
    """Batch normalisation whose four statistics never change: y = (x - mean) / sqrt(var + eps) * weight + bias.

    eps: 1e-5 for most published weights; torchvision's first detection models were trained with 0.
    """

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.register_buffer("weight", torch.ones(channels))
        self.register_buffer("bias", torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        scale = self.weight / torch.sqrt(self.running_var + self.eps)
        shift = self.bias - self.running_mean * scale
        return x * scale.to(x.dtype).view(1, -1, 1, 1) + shift.to(x.dtype).view(1, -1, 1, 1)

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor


def conv(
    inputs: int, outputs: int, kernel: int, norm: Norm | None = None, *, relu: bool = False, std: float | None = None
) -> nn.Sequential:
    """Same-size convolution, then norm and ReLU where asked for. With a norm it has no bias.

    std: initial weights are normal with this deviation (None: He's rule); biases start at 0.
    """
    layer = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=norm is None)
    if std is None:
        nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    else:
        nn.init.normal_(layer.weight, std=std)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    parts: list[nn.Module] = [layer]
    if norm is not None:
        parts.append(norm(outputs))
    if relu:
        parts.append(nn.ReLU(inplace=True))
    return nn.Sequential(*parts)
