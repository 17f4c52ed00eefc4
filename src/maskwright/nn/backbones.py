"""Any backbone by name: our ResNet-50/101 for published detection weights, timm for everything else."""

from typing import Any, Literal

import torch.nn as nn
from torch import Tensor

from maskwright.errors import ConfigError, suggest
from maskwright.nn.layers import FrozenBatchNorm2d, Norm
from maskwright.nn.resnet import ResNet

NormKind = Literal["frozen", "live"]


def norm_layer(kind: NormKind, eps: float = 1e-5) -> Norm:
    """A maker of frozen or live batch normalisation."""
    if kind == "frozen":
        return lambda channels: FrozenBatchNorm2d(channels, eps)
    return lambda channels: nn.BatchNorm2d(channels, eps)


class TimmBackbone(nn.Module):
    """A timm model cut to its feature maps at the wanted strides (those of them that it has); random weights."""

    def __init__(self, name: str, strides: tuple[int, ...] = (4, 8, 16, 32), **options: Any) -> None:
        super().__init__()
        import timm

        if name not in timm.list_models():
            hint = suggest(name, timm.list_models(f"*{name.split('_')[0]}*") or timm.list_models())
            raise ConfigError(f"timm has no model '{name}'.{hint}")
        probe = timm.create_model(name, features_only=True)
        wanted = tuple(i for i, s in enumerate(probe.feature_info.reduction()) if s in strides)
        if not wanted:
            raise ConfigError(f"timm's '{name}' has no feature map at any of the strides {strides}.")
        self.body = timm.create_model(name, features_only=True, out_indices=wanted, **options)
        self.channels = tuple(int(c) for c in self.body.feature_info.channels())
        self.strides = tuple(int(s) for s in self.body.feature_info.reduction())

    def forward(self, x: Tensor) -> list[Tensor]:
        outputs: list[Tensor] = self.body(x)
        return outputs


def backbone(
    name: str, norm: NormKind, eps: float, *, strides: tuple[int, ...], stride_in_1x1: bool = False
) -> ResNet | TimmBackbone:
    """`resnet50` and `resnet101` are ours (both published forms); any other name is timm's. Weights are random."""
    if name in ("resnet50", "resnet101"):
        stages = tuple(stride.bit_length() - 1 for stride in strides)
        return ResNet(int(name[6:]), norm_layer(norm, eps), stride_in_1x1=stride_in_1x1, out=stages)
    return TimmBackbone(name, strides)
