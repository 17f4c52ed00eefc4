"""The same network for prediction: norms folded into convolutions, and each convolution in its fastest exact form.

`accelerate(model)` swaps modules in place; the values change by rounding only. Nothing here is used while training.
"""

from collections.abc import Iterable
from typing import TypeVar

import torch
from torch import Tensor, nn

from maskwright.fast.fused import ACTIVATIONS, NORMS, WINOGRAD_FEW_CELLS, FusedConv, FusedLinear
from maskwright.fast.yolact import FastDeformable, FastHead, FastPyramid, FastResidual
from maskwright.nn.darknet import Residual
from maskwright.nn.deform import DeformableConv2d
from maskwright.nn.resnet import Bottleneck, ResNet
from maskwright.nn.roi_heads import BoxHead, MaskHead
from maskwright.nn.yolact import Head, Pyramid

Net = TypeVar("Net", bound=nn.Module)


class FastBlock(nn.Module):
    """A residual block of fused convolutions: the last one adds the shortcut and clamps as it writes.

    Without a shortcut convolution the block's input is overwritten by its output. Nobody else reads it: a stage's
    output is the input of the next stage's first block, which has one.
    """

    def __init__(self, convs: Iterable[nn.Module], shortcut: nn.Module | None) -> None:
        super().__init__()
        self.convs, self.shortcut = nn.ModuleList(convs), shortcut

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.shortcut is None else self.shortcut(x)
        for conv in self.convs[:-1]:
            x = conv(x)
        y: Tensor = self.convs[-1](x, shortcut)
        return y


class FastBoxHead(nn.Module):
    """A `BoxHead` whose first full layer reads pooled features in the order in which they lie: channels last."""

    def __init__(self, head: BoxHead) -> None:
        super().__init__()
        self.conv = _swap(head.conv)
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
        self.conv, self.logits = _swap(head.conv), head.logits
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
    """Swap in place what can be folded and fused: blocks, the stem, the heads, and conv-norm-activation sequences."""
    _swap(model)
    if any(isinstance(m, FastHead) for m in model.modules()):  # YOLACT: small maps throughout
        for conv in model.modules():
            if isinstance(conv, FusedConv):
                conv.winograd_cells = WINOGRAD_FEW_CELLS
    return model


def _swap(model: Net) -> Net:
    for name, child in list(model.named_children()):
        fast = _block(child) or _head(child)
        if fast is None and _in_order(child):
            fast = _fused_sequence(child)
        setattr(model, name, fast or _swap(child))
    if isinstance(model, ResNet) and isinstance(model.conv1, nn.Conv2d):  # not yet done
        model.conv1 = FusedConv(model.conv1, model.bn1, model.relu)  # type: ignore[assignment]
        model.bn1, model.relu = nn.Identity(), nn.Identity()  # type: ignore[assignment]
    elif _in_order(model):
        _fuse_runs(model)
    return model


def _head(part: nn.Module) -> nn.Module | None:
    """The fast form of a part of a network that has one."""
    if isinstance(part, BoxHead):
        return FastBoxHead(part)
    if type(part) is MaskHead:
        return FastMaskHead(part)
    for kind, fast in ((Head, FastHead), (Pyramid, FastPyramid), (Residual, FastResidual)):
        if type(part) is kind:
            return fast(_swap(part))  # type: ignore[arg-type]
    return None


def _block(block: nn.Module) -> FastBlock | None:
    """The fast form of a residual block: a bottleneck of ours, or timm's plain block or bottleneck without extras."""
    if type(block) is not Bottleneck and not _plain_timm_block(block):
        return None
    names = [name for name in ("conv1", "conv2", "conv3") if hasattr(block, name)]
    pairs = [(block.get_submodule(name), block.get_submodule(name.replace("conv", "bn"))) for name in names]
    if any(type(norm) not in NORMS for _, norm in pairs):
        return None
    convs: list[nn.Module] = []
    for conv, norm in pairs:
        if isinstance(conv, DeformableConv2d):
            convs.append(FastDeformable(conv, norm))
        else:
            assert isinstance(conv, nn.Conv2d)
            convs.append(FusedConv(conv, norm, nn.ReLU()))
    shortcut = block.downsample
    if isinstance(shortcut, nn.Sequential):
        shortcut = _fused_sequence(shortcut) or _swap(shortcut)
    assert shortcut is None or isinstance(shortcut, nn.Module)
    return FastBlock(convs, shortcut)


def _plain_timm_block(block: nn.Module) -> bool:
    """Whether it is timm's ResNet block with nothing between norms and activations and nothing before the sum."""
    if type(block).__module__ != "timm.models.resnet" or type(block).__name__ not in ("BasicBlock", "Bottleneck"):
        return False
    between = [getattr(block, name, None) for name in ("aa", "drop_block", "drop_path", "se")]
    clamps = [layer for name, layer in block.named_children() if name.startswith("act")]
    return all(p is None or isinstance(p, nn.Identity) for p in between) and all(type(a) is nn.ReLU for a in clamps)


def _in_order(model: nn.Module) -> bool:
    """Whether a module calls its children one after the other and nothing else."""
    if isinstance(model, nn.Sequential):
        return type(model).forward is nn.Sequential.forward
    return type(model).__name__ == "FeatureListNet" and type(model).__module__.startswith("timm.")


def _fuse_runs(model: nn.Module) -> None:
    """Where a convolution is followed by its norm or an activation, one does it all and the others do nothing."""
    children = list(model.named_children())
    for i, (name, conv) in enumerate(children):
        if type(conv) is not nn.Conv2d:
            continue
        rest = children[i + 1 : i + 3]
        norm = rest.pop(0) if rest and type(rest[0][1]) in NORMS else None
        after = rest[0] if rest and type(rest[0][1]) in ACTIVATIONS else None
        if norm is None and after is None:
            continue
        setattr(model, name, FusedConv(conv, norm and norm[1], after and after[1]))
        for done in (norm, after):
            if done is not None:
                setattr(model, done[0], nn.Identity())


def _fused_sequence(layers: nn.Module) -> FusedConv | None:
    """One fused convolution for conv [+ norm] [+ activation]; None for anything else."""
    parts = [part for part in layers.children() if not isinstance(part, nn.Identity)]
    if not parts or type(parts[0]) is not nn.Conv2d:
        return None
    norm = parts[1] if len(parts) > 1 and type(parts[1]) in NORMS else None
    rest = parts[1 + (norm is not None) :]
    if len(rest) > 1 or (rest and type(rest[0]) not in ACTIVATIONS):
        return None
    return FusedConv(parts[0], norm, rest[0] if rest else None)
