"""YOLACT's parts for prediction, made of parts whose convolutions are fused already: see `fast.accelerate`.

Letters: B batch, L levels, A priors of a cell, N priors of all levels, D prototypes, Q classes.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskwright.nn.darknet import Residual
from maskwright.nn.deform import DeformableConv2d, deformed
from maskwright.nn.fused import FusedConv, folded
from maskwright.nn.yolact import Head, Pyramid, Raw


class FastPyramid(Pyramid):
    """A `Pyramid` whose lateral convolutions add the enlarged coarser level as they write."""

    def __init__(self, plain: Pyramid) -> None:
        nn.Module.__init__(self)
        self.lateral, self.output, self.extra = plain.lateral, plain.output, plain.extra

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        merged: list[Tensor] = []
        for lateral, feature in zip(reversed(self.lateral), reversed(features), strict=True):
            above = None
            if merged:
                above = F.interpolate(merged[0], feature.shape[-2:], mode="bilinear", align_corners=False)
            merged.insert(0, lateral(feature, above))
        return self.refine(merged)


class FastHead(nn.Module):
    """A `Head` whose three last convolutions are one, with the values of a prior side by side, all levels together."""

    def __init__(self, head: Head) -> None:
        super().__init__()
        self.rows, self.conv = head.rows, head.conv
        last = (head.deltas, head.logits, head.coefficients)
        weights, biases = zip(*(folded(conv, None) for conv in last), strict=True)
        merged = nn.Conv2d(weights[0].shape[1], sum(len(b) for b in biases), 3, padding=1, device="meta")
        self.all = FusedConv(merged, values=(_by_prior(weights, self.rows), _by_prior(biases, self.rows)))

    def forward(self, features: Sequence[Tensor]) -> Raw:
        """L maps to the rows of all priors, ordered (level, y, x, prior)."""
        maps = list(features)
        for conv in (*self.conv, self.all):
            maps = conv.each(maps)
        parts = [m.permute(0, 2, 3, 1).reshape(len(m), -1, sum(self.rows)) for m in maps]
        deltas, logits, coefficients = torch.cat(parts, dim=1).split(self.rows, dim=2)
        return Raw(deltas, logits, coefficients.tanh())


def _by_prior(parts: Sequence[Tensor], rows: Sequence[int]) -> Tensor:
    """Tensors whose first dimension is (A * row) to one: for each of A priors its rows of the first, the second, ..."""
    return torch.cat([p.unflatten(0, (-1, row)) for p, row in zip(parts, rows, strict=True)], dim=1).flatten(0, 1)


class FastResidual(nn.Module):
    """DarkNet's `Residual`; its input stays as it is, for it may be asked for."""

    def __init__(self, block: Residual) -> None:
        super().__init__()
        self.conv1, self.conv2 = block.conv1, block.conv2

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv2(self.conv1(x))
        return y.add_(x)


class FastDeformable(nn.Module):
    """A deformable convolution, its norm and ReLU."""

    def __init__(self, conv: DeformableConv2d, norm: nn.Module | None) -> None:
        super().__init__()
        weight, bias = folded(conv, norm)
        self.weight, self.bias = (nn.Parameter(t, requires_grad=False) for t in (weight, bias))
        self.sampling, self.stride = FusedConv(conv.sampling), conv.stride

    def forward(self, x: Tensor) -> Tensor:
        return deformed(x, self.sampling(x), self.weight, self.bias, self.stride).relu_()
