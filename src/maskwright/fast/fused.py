"""Convolution or full layer, its norm, its sum with another tensor and its activation, in one pass over memory.

oneDNN does this on a CPU; elsewhere, and for types it does not know there, the same values come from separate calls.
Nothing here is used while training.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskwright.fast.bf16 import takes_bf16
from maskwright.fast.packed import PackedKernel
from maskwright.fast.winograd import Winograd
from maskwright.nn.deform import DeformableConv2d
from maskwright.nn.layers import FrozenBatchNorm2d
from maskwright.ops.rows import exporting

NORMS = (FrozenBatchNorm2d, nn.BatchNorm2d)
ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU)
"""Activations that can follow a convolution in the same pass; exactly these types, as subclasses may do more."""

SLOPES = {"none": 1.0, "relu": 0.0, "leaky_relu": None}
"""Activations that Winograd's form knows, by oneDNN's name: the factor of what is negative; None where it varies."""

WINOGRAD_CHANNELS = 128
"""Winograd's form saves time from this many channels on."""

WINOGRAD_CELLS, WINOGRAD_FEW_CELLS = 4000, 300
"""From this many cells of its map on, a convolution saves time that is worth the memory of its kernel: in general, and
in a network whose maps are small anyway, and its other memory with them. Below the second nothing is saved."""

_FUSED = getattr(torch.ops.mkldnn, "_convolution_pointwise", None) if torch.backends.mkldnn.is_available() else None

_KINDS = (torch.float32, torch.bfloat16) if takes_bf16() else (torch.float32,)


class FusedConv(nn.Module):
    """Convolution with bias, then an optional sum with another tensor, then an optional activation.

    after: None or one of `ACTIVATIONS`; with a sum only None or ReLU. values: weight and bias instead of those of
    `conv` and `norm`.
    """

    def __init__(
        self,
        conv: nn.Conv2d,
        norm: nn.Module | None = None,
        after: nn.Module | None = None,
        *,
        values: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        super().__init__()
        weight, bias = folded(conv, norm) if values is None else values
        self.weight = nn.Parameter(weight.contiguous(memory_format=torch.channels_last), requires_grad=False)
        self.bias = nn.Parameter(bias, requires_grad=False)
        self.stride, self.padding = list(conv.stride), [int(p) for p in conv.padding]
        self.dilation, self.groups = list(conv.dilation), conv.groups
        self.after = copy.copy(after)
        if isinstance(self.after, ACTIVATIONS):
            self.after.inplace = True
        self.kind, self.numbers = _activation(after)
        self.suits_winograd = _suits_winograd(conv) and self.kind in SLOPES
        self.winograd_cells = WINOGRAD_CELLS
        self.winograd: Winograd | None = None  # made when first needed, see there
        self.packed: PackedKernel | None = None  # the same

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "winograd": None, "packed": None}

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self.winograd = self.packed = None
        super()._apply(fn, recurse)
        return self

    def forward(self, x: Tensor, add: Tensor | None = None) -> Tensor:
        """(B, C, h, w) to (B, O, h', w'). `add` is overwritten with the result: a fresh buffer costs page faults."""
        if on_cpu(x):
            return self._winograd([x])[0] if add is None and self._takes_winograd([x]) else self._fused(x, add)
        y = F.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)
        if add is not None:
            y = add.add_(y)
        return y if self.after is None else self.after(y)

    def each(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """The same of several maps, of any sizes; small ones are worked on together where that is faster."""
        return self._winograd(maps) if self._takes_winograd(maps) else [self(x) for x in maps]

    def _takes_winograd(self, maps: Sequence[Tensor]) -> bool:
        cells = sum(x.shape[0] * x.shape[2] * x.shape[3] for x in maps)
        fits = all(x.dtype == torch.float32 and on_cpu(x) for x in maps)
        return self.suits_winograd and fits and cells >= self.winograd_cells

    def _winograd(self, maps: Sequence[Tensor]) -> list[Tensor]:
        if self.winograd is None:
            fixed = SLOPES[self.kind]
            slope = self.numbers[0] if fixed is None else fixed
            self.winograd = Winograd(self.weight, self.bias, slope=slope)
        return self.winograd.each(maps)

    def _kernel(self, x: Tensor) -> Tensor:
        """The weight for this input, in bf16 in the order that it wants; in float32 that would take too much memory."""
        if x.dtype != torch.bfloat16:
            return self.weight.to(x.dtype)
        if self.packed is None:
            self.packed = PackedKernel(self.padding, self.stride, self.dilation, self.groups)
        return self.packed.of(self.weight, x.shape)

    def _fused(self, x: Tensor, add: Tensor | None) -> Tensor:
        weight, bias = self._kernel(x), self.bias.to(x.dtype)
        shape = (self.padding, self.stride, self.dilation, self.groups)
        if add is None:
            y: Tensor = torch.ops.mkldnn._convolution_pointwise(x, weight, bias, *shape, self.kind, self.numbers, "")
            return y
        assert self.kind in ("none", "relu")
        after = None if self.kind == "none" else self.kind
        y = torch.ops.mkldnn._convolution_pointwise_.binary(add, x, weight, bias, *shape, "add", 1.0, after, [], None)
        return y


class FusedLinear(nn.Module):
    """Full layer, then ReLU where asked for; on a CPU in one pass of oneDNN, which is faster there than a product."""

    def __init__(self, weight: Tensor, bias: Tensor, *, relu: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.detach().contiguous(), requires_grad=False)
        self.bias = nn.Parameter(bias.detach(), requires_grad=False)
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        if on_cpu(x):
            weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
            after = "relu" if self.relu else "none"
            fused: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, after, [], "")
            return fused
        y = F.linear(x, self.weight, self.bias)
        return y.relu_() if self.relu else y


def on_cpu(x: Tensor) -> bool:
    """Whether oneDNN's fused kernels take this tensor; an exported graph has none of them."""
    return not exporting() and x.device.type == "cpu" and _FUSED is not None and x.dtype in _KINDS and len(x) > 0


def _activation(after: nn.Module | None) -> tuple[str, list[float]]:
    """oneDNN's name of an activation and its numbers."""
    if after is None:
        return "none", []
    if isinstance(after, nn.ReLU6):
        return "hardtanh", [0.0, 6.0]
    if isinstance(after, nn.LeakyReLU):
        return "leaky_relu", [after.negative_slope]
    assert isinstance(after, nn.ReLU)
    return "relu", []


def _suits_winograd(conv: nn.Conv2d) -> bool:
    same = conv.kernel_size == (3, 3) and conv.padding == (1, 1) and conv.stride == conv.dilation == (1, 1)
    return same and conv.groups == 1 and min(conv.in_channels, conv.out_channels) >= WINOGRAD_CHANNELS


def folded(conv: nn.Conv2d | DeformableConv2d, norm: nn.Module | None) -> tuple[Tensor, Tensor]:
    """Weight and bias of the one convolution that does what `conv` and then `norm` do; computed in float64."""
    weight = conv.weight.detach().double()
    bias = weight.new_zeros(conv.out_channels) if conv.bias is None else conv.bias.detach().double()
    if norm is not None:
        assert isinstance(norm, (FrozenBatchNorm2d, nn.BatchNorm2d))
        assert norm.running_var is not None
        assert norm.running_mean is not None
        scale = norm.weight.detach().double() / torch.sqrt(norm.running_var.double() + norm.eps)
        bias = norm.bias.detach().double() + (bias - norm.running_mean.double()) * scale
        weight = weight * scale.view(-1, 1, 1, 1)
    return weight.to(conv.weight.dtype), bias.to(conv.weight.dtype)
