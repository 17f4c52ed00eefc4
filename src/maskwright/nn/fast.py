"""The same network for prediction: norms folded into convolutions, and each convolution in its fastest exact form.

`accelerate(model)` swaps modules in place; the values change by rounding only. Nothing here is used while training.
"""

from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskwright.nn.layers import FrozenBatchNorm2d
from maskwright.nn.resnet import Bottleneck, ResNet
from maskwright.nn.roi_heads import BoxHead, MaskHead
from maskwright.nn.winograd import Winograd

WINOGRAD_CHANNELS, WINOGRAD_CELLS = 128, 4000
"""From this many channels and map cells on, Winograd's form saves time that is worth the memory of its kernel."""

Net = TypeVar("Net", bound=nn.Module)
_FUSED = getattr(torch.ops.mkldnn, "_convolution_pointwise", None) if torch.backends.mkldnn.is_available() else None


class FusedConv(nn.Module):
    """Convolution with bias, then an optional sum with another tensor, then an optional ReLU, in one pass over memory.

    On a CPU oneDNN does all three in one kernel; elsewhere they are three calls.
    """

    def __init__(self, conv: nn.Conv2d, norm: nn.Module | None = None, *, relu: bool = False) -> None:
        super().__init__()
        weight, bias = folded(conv, norm)
        self.weight = nn.Parameter(weight.contiguous(memory_format=torch.channels_last), requires_grad=False)
        self.bias = nn.Parameter(bias, requires_grad=False)
        self.stride, self.padding = list(conv.stride), [int(p) for p in conv.padding]
        self.dilation, self.groups, self.relu = list(conv.dilation), conv.groups, relu
        self.suits_winograd = _suits_winograd(conv)
        self.winograd: Winograd | None = None  # made when first needed: its kernel is four times the weight

    def forward(self, x: Tensor, add: Tensor | None = None) -> Tensor:
        """(B, C, h, w) to (B, O, h', w'). `add` is overwritten with the result: a fresh buffer costs page faults."""
        if x.device.type == "cpu" and _FUSED is not None and x.dtype in (torch.float32, torch.bfloat16) and len(x):
            if self.suits_winograd and add is None and x.dtype == torch.float32 and _cells(x) >= WINOGRAD_CELLS:
                self.winograd = self.winograd or Winograd(self.weight, self.bias, relu=self.relu)
                y: Tensor = self.winograd(x)
                return y
            return self._fused(x, add)
        y = F.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)
        if add is not None:
            y = add.add_(y)
        return y.relu_() if self.relu else y

    def _fused(self, x: Tensor, add: Tensor | None) -> Tensor:
        shape = (self.padding, self.stride, self.dilation, self.groups)
        if add is None:
            after = "relu" if self.relu else "none"
            y: Tensor = torch.ops.mkldnn._convolution_pointwise(x, self.weight, self.bias, *shape, after, [], "")
            return y
        y = torch.ops.mkldnn._convolution_pointwise_.binary(
            add, x, self.weight, self.bias, *shape, "add", 1.0, "relu" if self.relu else None, [], None
        )
        return y


def _suits_winograd(conv: nn.Conv2d) -> bool:
    same = conv.kernel_size == (3, 3) and conv.padding == (1, 1) and conv.stride == conv.dilation == (1, 1)
    return same and conv.groups == 1 and min(conv.in_channels, conv.out_channels) >= WINOGRAD_CHANNELS


def _cells(x: Tensor) -> int:
    return x.shape[0] * x.shape[2] * x.shape[3]


def folded(conv: nn.Conv2d, norm: nn.Module | None) -> tuple[Tensor, Tensor]:
    """Weight and bias of the one convolution that does what `conv` and then `norm` do; worked out in float64."""
    weight = conv.weight.detach().double()
    bias = torch.zeros(conv.out_channels, dtype=torch.float64) if conv.bias is None else conv.bias.detach().double()
    if norm is not None:
        assert isinstance(norm, (FrozenBatchNorm2d, nn.BatchNorm2d))
        assert norm.running_var is not None
        assert norm.running_mean is not None
        scale = norm.weight.detach().double() / torch.sqrt(norm.running_var.double() + norm.eps)
        bias = norm.bias.detach().double() + (bias - norm.running_mean.double()) * scale
        weight = weight * scale.view(-1, 1, 1, 1)
    return weight.to(conv.weight.dtype), bias.to(conv.weight.dtype)


class FastBottleneck(nn.Module):
    """A `Bottleneck` of fused convolutions: the last one adds the shortcut and clamps as it writes.

    Without a shortcut convolution the block's input is overwritten by its output. Nobody else reads it: a stage's
    output is the input of the next stage's first block, which has one.
    """

    def __init__(self, block: Bottleneck) -> None:
        super().__init__()
        self.conv1 = FusedConv(block.conv1, block.bn1, relu=True)
        self.conv2 = FusedConv(block.conv2, block.bn2, relu=True)
        self.conv3 = FusedConv(block.conv3, block.bn3, relu=True)
        self.shortcut: FusedConv | None = None
        if block.downsample is not None:
            conv, norm = block.downsample.get_submodule("0"), block.downsample.get_submodule("1")
            assert isinstance(conv, nn.Conv2d)
            self.shortcut = FusedConv(conv, norm)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.shortcut is None else self.shortcut(x)
        y: Tensor = self.conv3(self.conv2(self.conv1(x)), shortcut)
        return y


class FusedLinear(nn.Module):
    """Full layer, then ReLU where asked for; on a CPU in one pass of oneDNN, which is faster there than a product."""

    def __init__(self, weight: Tensor, bias: Tensor, *, relu: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.detach().contiguous(), requires_grad=False)
        self.bias = nn.Parameter(bias.detach(), requires_grad=False)
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type == "cpu" and _FUSED is not None and x.dtype in (torch.float32, torch.bfloat16) and len(x):
            after = "relu" if self.relu else "none"
            y: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, after, [], "")
            return y
        y = F.linear(x, self.weight, self.bias)
        return y.relu_() if self.relu else y


class FastBoxHead(nn.Module):
    """A `BoxHead` whose first full layer reads pooled features in the order in which they lie: channels last."""

    def __init__(self, head: BoxHead) -> None:
        super().__init__()
        self.conv = accelerate(head.conv)
        layers = []
        for i in range(1, head.count + 1):
            layer = head.get_submodule(f"fc{i}")
            assert isinstance(layer, nn.Linear)
            weight = layer.weight
            if i == 1:
                weight = weight.unflatten(1, (-1, head.side, head.side)).permute(0, 2, 3, 1).flatten(1)
            layers.append(FusedLinear(weight, layer.bias, relu=True))
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(self.conv(x).permute(0, 2, 3, 1).flatten(1))
        return y


class FastMaskHead(MaskHead):
    """A `MaskHead` that upsamples a few RoIs at a time, so that their maps stay in the cache."""

    ROWS = 16

    def __init__(self, head: MaskHead) -> None:
        nn.Module.__init__(self)
        self.conv, self.logits = accelerate(head.conv), head.logits
        width = head.deconv.out_channels
        bias = head.deconv.bias if head.deconv.bias is not None else head.deconv.weight.new_zeros(width)
        self.spread = FusedLinear(head.deconv.weight.permute(2, 3, 1, 0).flatten(0, 2), bias.repeat(4), relu=True)

    def draw(self, x: Tensor, labels: Tensor) -> Tensor:
        parts = zip(x.split(self.ROWS), labels.split(self.ROWS), strict=True)
        maps: Tensor = torch.cat([super(FastMaskHead, self).draw(rows, wanted) for rows, wanted in parts])
        return maps

    def upsample(self, x: Tensor) -> Tensor:
        hidden: Tensor = self.spread(x.permute(0, 2, 3, 1))
        return hidden.view(*hidden.shape[:3], 2, 2, self.logits.in_channels)

    def all_classes(self, x: Tensor) -> Tensor:
        hidden = self.upsample(self.conv(x)).permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)
        maps: Tensor = self.logits(hidden)
        return maps


def accelerate(model: Net) -> Net:
    """Swap in place what can be folded and fused: bottlenecks, the stem, the heads, and conv-norm-ReLU sequences."""
    for name, child in list(model.named_children()):
        if isinstance(child, Bottleneck):
            setattr(model, name, FastBottleneck(child))
        elif isinstance(child, BoxHead):
            setattr(model, name, FastBoxHead(child))
        elif type(child) is MaskHead:
            setattr(model, name, FastMaskHead(child))
        elif isinstance(child, nn.Sequential) and isinstance(fused := _fused_sequence(child), FusedConv):
            setattr(model, name, fused)
        else:
            accelerate(child)
    if isinstance(model, ResNet) and isinstance(model.conv1, nn.Conv2d):  # not yet done
        model.conv1 = FusedConv(model.conv1, model.bn1, relu=True)  # type: ignore[assignment]
        model.bn1, model.relu = nn.Identity(), nn.Identity()  # type: ignore[assignment]
    return model


def _fused_sequence(layers: nn.Sequential) -> FusedConv | None:
    """One fused convolution for conv [+ norm] [+ ReLU]; None for anything else."""
    parts = list(layers)
    if not parts or not isinstance(parts[0], nn.Conv2d):
        return None
    norm = parts[1] if len(parts) > 1 and isinstance(parts[1], (FrozenBatchNorm2d, nn.BatchNorm2d)) else None
    rest = parts[1 + (norm is not None) :]
    if len(rest) > 1 or (rest and not isinstance(rest[0], nn.ReLU)):
        return None
    return FusedConv(parts[0], norm, relu=bool(rest))
