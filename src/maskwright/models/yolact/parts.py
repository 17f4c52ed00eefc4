"""The parts of YOLACT: pyramid, prototypes, prediction head, mask scorer.

Letters: B batch, C channels, L levels, A priors of a cell, N priors of all levels, D prototypes, Q classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskwright.nn.layers import Norm, conv

M = TypeVar("M", bound=nn.Module)


class Coefficients(Protocol):
    """(B, N, D) of all priors after tanh, or an object that computes them for the priors that are asked for."""

    def __getitem__(self, place: tuple[Tensor, Tensor], /) -> Tensor:
        """(K, D): the coefficients of K priors, given the image and the number of each."""


@dataclass(frozen=True, eq=False)
class Raw:
    """The head's outputs for every prior: deltas (B, N, 4), logits (B, N, Q+1) with background last, coefficients."""

    deltas: Tensor
    logits: Tensor
    coefficients: Coefficients


class Pyramid(nn.Module):
    """Feature maps in, as many and `extra` coarser ones of `channels` out, finest first.

    Unlike in the FPN paper the coarser level is enlarged bilinearly and every 3x3 convolution is followed by ReLU; the
    extra levels are strided convolutions without.
    """

    def __init__(self, inputs: Sequence[int], channels: int, extra: int, norm: Norm | None = None) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(_xavier(conv(c, channels, 1, norm)) for c in inputs)
        self.output = nn.ModuleList(_xavier(conv(channels, channels, 3, norm, relu=True)) for _ in inputs)
        self.extra = nn.ModuleList(
            _xavier(nn.Sequential(nn.Conv2d(channels, channels, 3, stride=2, padding=1))) for _ in range(extra)
        )

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        return self.refine(self.merge(features))

    def merge(self, features: Sequence[Tensor], first: int = 0) -> list[Tensor]:
        """From the coarsest down, each level at `channels` channels plus the enlarged one above it.

        features: from level number `first` to the coarsest.
        """
        merged: list[Tensor] = []
        for lateral, feature in zip(reversed(self.lateral[first:]), reversed(features), strict=True):
            level = lateral(feature)
            merged.insert(0, level + enlarged(merged[0], level) if merged else level)
        return merged

    def refine(self, merged: Sequence[Tensor]) -> list[Tensor]:
        """The 3x3 convolutions and the extra levels."""
        levels = [output(level) for output, level in zip(self.output, merged, strict=True)]
        for extra in self.extra:
            levels.append(extra(levels[-1]))
        return levels


def enlarged(above: Tensor, like: Tensor) -> Tensor:
    """A map (B, C, h, w) resized bilinearly to the height and width of another one."""
    return F.interpolate(above, like.shape[-2:], mode="bilinear", align_corners=False)


class Protonet(nn.Module):
    """The finest level to D prototypes, (B, h, w, D), none negative.

    convs: 3x3 convolutions before the enlargement; one more and a 1x1 follow.
    """

    def __init__(
        self, inputs: int, channels: int, prototypes: int, convs: int, *, upsample: bool, norm: Norm | None = None
    ) -> None:
        super().__init__()
        first = (conv(inputs if i == 0 else channels, channels, 3, norm, relu=True) for i in range(convs))
        self.before = nn.Sequential(*(_xavier(layer) for layer in first))
        self.upsample = upsample
        self.after = _xavier(conv(channels if convs else inputs, channels, 3, norm, relu=True))
        self.prototypes = _xavier(conv(channels, prototypes, 1, relu=True))

    def forward(self, x: Tensor) -> Tensor:
        x = self.before(x)
        if self.upsample:
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        y: Tensor = self.prototypes(self.after(x)).permute(0, 2, 3, 1)
        return y


class SharedConv(nn.Module):
    """A 3x3 convolution and ReLU that all levels share, with a norm of its own for each of the L levels, if any.

    While training, each level is normalised by its own statistics. One norm for all would keep the mean of them, which
    fits no level: every box of a level would come out too wide or too narrow.
    """

    def __init__(self, channels: int, levels: int, norm: Norm | None = None) -> None:
        super().__init__()
        self.conv = _xavier(conv(channels, channels, 3, norm))[0]
        self.norms = nn.ModuleList() if norm is None else nn.ModuleList(norm(channels) for _ in range(levels))

    def forward(self, x: Tensor, level: int) -> Tensor:
        x = self.conv(x)
        return F.relu(self.norms[level](x) if self.norms else x, inplace=True)


class Head(nn.Module):
    """One set of weights for all L levels: for each prior its box, class and mask coefficients."""

    def __init__(
        self,
        channels: int,
        priors: int,
        classes: int,
        prototypes: int,
        convs: int,
        levels: int,
        norm: Norm | None = None,
    ) -> None:
        super().__init__()
        self.rows = (4, classes + 1, prototypes)
        self.conv = nn.ModuleList(SharedConv(channels, levels, norm) for _ in range(convs))
        self.deltas, self.logits, self.coefficients = (
            _xavier(nn.Conv2d(channels, priors * row, 3, padding=1)) for row in self.rows
        )

    def forward(self, features: Sequence[Tensor]) -> Raw:
        """L maps to the rows of all priors, ordered (level, y, x, prior)."""
        parts = [self.level(feature, level) for level, feature in enumerate(features)]
        deltas, logits, coefficients = (torch.cat(column, dim=1) for column in zip(*parts, strict=True))
        return Raw(deltas, logits, coefficients.tanh())

    def level(self, x: Tensor, level: int) -> tuple[Tensor, ...]:
        """The rows of one level: (B, h * w * A, 4), (.., Q+1) and (.., D) before tanh."""
        for shared in self.conv:
            x = shared(x, level)
        maps = (self.deltas(x), self.logits(x), self.coefficients(x))
        return tuple(
            m.permute(0, 2, 3, 1).reshape(len(m), m.shape[1:].numel() // row, row)  # of no images too
            for m, row in zip(maps, self.rows, strict=True)
        )


class MaskScorer(nn.Module):
    """Soft masks (K, 1, h, w) to the IoU they would have, were they of each class: (K, Q), from 0, not bounded.

    YOLACT++, section "mask re-scoring": strided 3x3 convolutions without padding, a 1x1, the maximum over the map.
    Smaller maps than the published 138 x 138 are filled up with zeros to where the convolutions leave one cell. The
    last bias starts at one half, not 0 as published: a class below 0 everywhere at the start would never learn.
    """

    WIDTHS = (8, 16, 32, 64, 128)
    SMALLEST = 63

    def __init__(self, classes: int) -> None:
        super().__init__()
        pairs = zip((1, *self.WIDTHS[:-1]), self.WIDTHS, strict=True)
        strided = [nn.Sequential(nn.Conv2d(a, b, 3, stride=2), nn.ReLU(inplace=True)) for a, b in pairs]
        last = _xavier(conv(self.WIDTHS[-1], classes, 1, relu=True))
        nn.init.constant_(last.get_parameter("0.bias"), 0.5)
        self.conv = nn.Sequential(*(_xavier(c) for c in strided), last)

    def forward(self, masks: Tensor) -> Tensor:
        h, w = masks.shape[2:]
        if min(h, w) < self.SMALLEST:
            masks = F.pad(masks, (0, max(0, self.SMALLEST - w), 0, max(0, self.SMALLEST - h)))
        y: Tensor = self.conv(masks).amax(dim=(2, 3))
        return y


def semantic_branch(channels: int, classes: int) -> nn.Conv2d:
    """Class logits of every cell of the finest level; learning looks at it, prediction does not."""
    return _xavier(nn.Conv2d(channels, classes, 1))


def _xavier(module: M) -> M:
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return module
