"""Any backbone by name: our own forms for published detection weights, timm for everything else.

A name in `RESNETS` or `OTHERS` is ours, also where timm has a model of that name; any other name is timm's. A new depth
of our bottleneck ResNet is a row in `resnet.BLOCKS` and in `RESNETS`, a network of another kind a row in `OTHERS`.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal

import torch.nn as nn
from torch import Tensor

from maskwright.errors import ConfigError, suggest
from maskwright.nn.darknet import DarkNet
from maskwright.nn.layers import Backbone, FrozenBatchNorm2d, Norm
from maskwright.nn.mobilenet import MobileNetV2
from maskwright.nn.resnet import ResNet

NormKind = Literal["frozen", "live"]


def missing_strides(name: str, has: tuple[int, ...], wanted: tuple[int, ...]) -> str:
    """For an error: which of the wanted strides a backbone lacks, and what to do; nothing where it has them all."""
    missing = [stride for stride in wanted if stride not in has]
    if not missing:
        return ""
    return f" '{name}' has feature maps at the strides {has}, none at {missing}: choose a backbone that has."


def norm_layer(kind: NormKind, eps: float = 1e-5) -> Norm:
    """A maker of frozen or live batch normalisation."""
    if kind == "frozen":
        return lambda channels: FrozenBatchNorm2d(channels, eps)
    return lambda channels: nn.BatchNorm2d(channels, eps)


class TimmBackbone(Backbone):
    """A timm model cut to its last feature map at each of the wanted strides that it has; random weights."""

    def __init__(self, name: str, strides: tuple[int, ...] = (4, 8, 16, 32), **options: Any) -> None:
        super().__init__()

        check_backbone(name)
        info = _create(name, **options).feature_info
        last = dict(zip(info.reduction(), info.out_indices, strict=True))
        wanted = [last[s] for s in sorted(strides) if s in last]
        if not wanted:
            raise ConfigError(f"timm's '{name}' has feature maps at the strides {sorted(last)}, none at {strides}.")
        self.body = _create(name, out_indices=wanted, **options)
        self.channels = tuple(int(c) for c in self.body.feature_info.channels())
        self.strides = tuple(int(s) for s in self.body.feature_info.reduction())
        self.channels_last = getattr(self.body, "output_fmt", None) == "NHWC"

    def forward(self, x: Tensor, levels: int | None = None) -> list[Tensor]:
        outputs: list[Tensor] = self.body(x) if levels is None else self._finest(x, levels)
        return [y.permute(0, 3, 1, 2) for y in outputs] if self.channels_last else outputs

    def _finest(self, x: Tensor, levels: int) -> list[Tensor]:
        """A body that is a list of layers stops after the last wanted one; other networks are computed whole."""
        if type(self.body).__name__ != "FeatureListNet":
            return list(self.body(x))[:levels]
        wanted, outputs = list(self.body.return_layers)[:levels], []
        for name, layer in self.body.items():
            x = layer(x)
            if name in wanted:
                outputs.append(x)
            if name == wanted[-1]:
                break
        return outputs


def _create(name: str, **options: Any) -> Any:
    """A timm model that gives feature maps of inputs of any size; ConfigError where it cannot."""
    import timm

    facts = timm.get_pretrained_cfg(name)
    free: tuple[dict[str, bool], ...] = ({},)
    if facts is not None and facts.fixed_input_size:  # with these, Swin and plain transformers take inputs of any size
        free = ({"strict_img_size": False}, {"dynamic_img_size": True})
    for choice in free:
        try:
            return timm.create_model(name, features_only=True, **choice, **options)
        except TypeError:
            continue
        except (RuntimeError, AttributeError, AssertionError) as error:
            raise ConfigError(f"timm's '{name}' gives no feature maps ({error}); use another backbone.") from error
    raise ConfigError(f"timm's '{name}' takes images of one size only; use a backbone that takes any size.")


def timm_features(name: str, pretrained: Mapping[str, Any] | None = None) -> nn.Module:
    """timm's model of this name with all of its feature maps; its tensors' names are those of `TimmBackbone.body`.

    pretrained: facts of weights that override timm's, their `state_dict` among them; None: random weights.
    """
    options = {} if pretrained is None else {"pretrained": True, "pretrained_cfg_overlay": dict(pretrained)}
    made: nn.Module = _create(name, **options)
    return made


RESNETS = {"resnet14_narrow": (14, 8), "resnet50": (50, 64), "resnet101": (101, 64)}
"""Depth and width of our bottleneck ResNets by name; the narrow one is for tests."""

OTHERS: Mapping[str, Callable[[Norm, tuple[int, ...]], Backbone]] = MappingProxyType(
    {
        "darknet53": lambda norm, strides: DarkNet(norm, strides=strides),
        "mobilenetv2": lambda norm, strides: MobileNetV2(norm, strides=strides),
        "resnet18_half": lambda norm, strides: TimmBackbone("resnet18", strides, channels=(32, 64, 128, 256)),
    }
)
"""Makers of our other backbones, from the norm layer and the wanted strides. The half-width ResNet-18 has timm's layers
and norm; it is light, and trained from random weights."""

OUR_BACKBONES = (*RESNETS, *OTHERS)


def check_backbone(name: str) -> None:
    """Raises ConfigError where there is no backbone of this name."""
    import timm

    if name not in OUR_BACKBONES and name not in timm.list_models():
        near = timm.list_models(f"*{name.split('_')[0]}*") or timm.list_models()
        raise ConfigError(f"timm has no model '{name}'.{suggest(name, near)}")


def backbone(
    name: str,
    norm: NormKind,
    eps: float,
    *,
    strides: tuple[int, ...],
    stride_in_1x1: bool = False,
    deformable: int = 0,
) -> Backbone:
    """The backbone of this name, with random weights.

    norm, eps: of our own backbones; timm's have their own norm. strides: which feature maps are wanted. Of our
    ResNets: stride_in_1x1: see `Bottleneck`; deformable: n: in stages 3 to 5 every n-th block has a deformable
    convolution, 0: none. ConfigError for a name that is unknown, and for `deformable` with another backbone.
    """
    if deformable < 0 or (deformable and name not in RESNETS):
        raise ConfigError(
            f"deformable is 0 (none), 1 (every block), 2 (every second) ..., and above 0 only with "
            f"{', '.join(RESNETS)}; got {deformable} with '{name}'."
        )
    if name in RESNETS:
        depth, width = RESNETS[name]
        if any(s not in (4, 8, 16, 32) for s in strides):
            raise ConfigError(f"'{name}' has feature maps at the strides 4, 8, 16 and 32, got {strides}.")
        out, norms = tuple(stride.bit_length() - 1 for stride in strides), norm_layer(norm, eps)
        return ResNet(depth, norms, stride_in_1x1=stride_in_1x1, out=out, width=width, deformable=deformable)
    if name in OTHERS:
        return OTHERS[name](norm_layer(norm, eps), strides)
    return TimmBackbone(name, strides)
