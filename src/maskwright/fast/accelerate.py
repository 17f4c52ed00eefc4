"""The same network for prediction: norms folded into convolutions, and each convolution in its fastest exact form.

The values change by rounding only. Nothing here is used while training.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from torch import nn

from maskwright.fast.blocks import FastBlock, FastDeformable, FastResidual
from maskwright.fast.fused import ACTIVATIONS, NORMS, FusedConv
from maskwright.nn.darknet import Residual
from maskwright.nn.deform import DeformableConv2d
from maskwright.nn.resnet import Bottleneck, ResNet

Net = TypeVar("Net", bound=nn.Module)
Swap = Callable[[Any], nn.Module]


@dataclass(frozen=True)
class FastForm:
    """How a family's networks are made fast.

    swaps: for a type of its modules the function that makes the fast one, of a module whose children are fast already.
    winograd_cells: cells of a map from which Winograd's form is used; None: as usual.
    """

    swaps: Mapping[type[nn.Module], Swap] = field(default_factory=dict)
    winograd_cells: int | None = None


def accelerate(model: Net, form: FastForm) -> Net:
    """Swap in place what can be folded and fused: blocks, the stem, conv-norm-activation sequences, and `form.swaps`.

    Its caller hands over the model, or a copy of it; `models.family.accelerated` does.
    """
    _swap(model, {Residual: FastResidual, **form.swaps})
    if form.winograd_cells is not None:
        for conv in model.modules():
            if isinstance(conv, FusedConv):
                conv.winograd_cells = form.winograd_cells
    return model


def _swap(model: Net, swaps: Mapping[type[nn.Module], Swap]) -> Net:
    for name, child in list(model.named_children()):
        fast: nn.Module | None = _block(child)
        if fast is None and type(child) in swaps:
            fast = swaps[type(child)](_swap(child, swaps))
        if fast is None and _in_order(child):
            fast = _fused_sequence(child)
        setattr(model, name, fast or _swap(child, swaps))
    if isinstance(model, ResNet) and isinstance(model.conv1, nn.Conv2d):  # not yet done
        model.conv1 = FusedConv(model.conv1, model.bn1, model.relu)  # type: ignore[assignment]
        model.bn1, model.relu = nn.Identity(), nn.Identity()  # type: ignore[assignment]
    elif _in_order(model):
        _fuse_runs(model)
    return model


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
        shortcut = _fused_sequence(shortcut) or _swap(shortcut, {})
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
