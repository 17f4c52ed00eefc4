"""The semantic branch of Panoptic FPN (Kirillov et al. 2019): the class of every pixel, from the maps of the pyramid.

Class 0 stands for all things; the others are stuff, such as sky and road. `results.panoptic` merges both answers.
Letters: B batch, L levels, C channels, S classes, H W input, h w cells of the finest map.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskwright.codec import Section, ranged
from maskwright.errors import ConfigError, DataError
from maskwright.nn.layers import Norm, conv
from maskwright.ops.losses import Term
from maskwright.types import THINGS, Classes, Inputs, Semantic, Target


@dataclass(frozen=True)
class SemanticConfig(Section):
    """names, ids: of the classes, things first; empty: no branch. width: channels of its layers. groups: of their norm
    (0: none). weight: of its loss. stuff_area: pixels of an image that a kind of stuff needs to become a segment."""

    names: tuple[str, ...] = ()
    ids: tuple[int, ...] = ()
    width: int = ranged(128, low=1, high=2**16)
    groups: int = ranged(32, low=0, high=2**16)
    weight: float = ranged(0.5, low=0)
    stuff_area: int = ranged(4096, low=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.names) == 1 or len(self.ids) != len(self.names):
            raise ConfigError(
                f"SemanticConfig: names are '{THINGS}' and at least one kind of stuff, with an id each, got "
                f"{len(self.names)} names and {len(self.ids)} ids."
            )
        if self.groups and self.width % self.groups:
            raise ConfigError(f"SemanticConfig: width {self.width} is not a multiple of the {self.groups} groups.")

    @property
    def classes(self) -> Classes:
        """The names with their ids."""
        return Classes(self.names, self.ids)


class SemanticHead(nn.Module):
    """The pyramid's maps, each brought to the finest one's size by 3x3 layers and upsampling, summed, to class logits.

    strides: of the maps, finest first. A map of the finest stride has one layer, each other one for each doubling.
    """

    def __init__(self, config: SemanticConfig, inputs: int, strides: Sequence[int]) -> None:
        super().__init__()
        norm: Norm | None = partial(nn.GroupNorm, config.groups) if config.groups else None
        counts = [max(1, round(math.log2(stride / strides[0]))) for stride in strides]
        self.levels = nn.ModuleList(
            nn.Sequential(
                *(conv(inputs if i == 0 else config.width, config.width, 3, norm, relu=True) for i in range(count))
            )
            for count in counts
        )
        self.logits = nn.Conv2d(config.width, len(config.names), 1)
        nn.init.kaiming_normal_(self.logits.weight, mode="fan_out", nonlinearity="relu")
        assert self.logits.bias is not None
        nn.init.zeros_(self.logits.bias)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """The maps of all levels, each (B, C, h', w'), to logits (B, S, h, w) on the finest."""
        total: Tensor | None = None
        for level, (layers, x) in enumerate(zip(self.levels, features, strict=False)):
            for layer in layers.children():
                x = layer(x)
                if level:
                    x = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
            total = x if total is None else total + x
        assert total is not None
        out: Tensor = self.logits(total)
        return out


@dataclass(frozen=True, eq=False)
class SemanticBranch:
    """The class of every pixel of the input."""

    head: SemanticHead
    config: SemanticConfig

    def terms(self, features: Sequence[Tensor], inputs: Inputs, targets: Sequence[Target]) -> dict[str, Term]:
        """`semantic`: cross-entropy over the annotated pixels, at the input's resolution."""
        logits, total, count = self.head(features).float(), features[0].new_zeros((), dtype=torch.float32), 0
        for i, target in enumerate(targets):
            if target.semantic is None:
                raise DataError("The targets have no semantic map; a model with a semantic branch learns from one.")
            most = int(target.semantic.max()) if target.semantic.numel() else -1
            if most >= len(self.config.names):
                raise DataError(
                    f"The semantic map has the label {most}, the model's classes are 0..{len(self.config.names) - 1}."
                )
            height, width = target.semantic.shape
            wide = F.interpolate(logits[i : i + 1], inputs.padded, mode="bilinear", align_corners=False)
            wanted = target.semantic[None]
            total = total + F.cross_entropy(wide[..., :height, :width], wanted, ignore_index=-1, reduction="sum")
            count += int((wanted >= 0).sum())
        return {"semantic": Term(self.config.weight * total + 0 * logits.sum(), count)}

    def detect(self, features: Sequence[Tensor], inputs: Inputs) -> Semantic:
        """The logits of every image."""
        return Semantic(self.head(features), inputs.padded, self.config.classes, self.config.stuff_area)
