"""YOLACT's parts for prediction, made of parts whose convolutions are fused already: see `fast.accelerate`.

Letters: B batch, C channels, L levels, A priors of a cell, N priors of all levels, D prototypes, Q classes, K rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from maskwright.fast.accelerate import FastForm
from maskwright.fast.fused import WINOGRAD_FEW_CELLS, FusedConv, FusedLinear, folded
from maskwright.models.yolact.parts import Head, Pyramid, Raw, SharedConv, enlarged
from maskwright.ops.rows import rows_to_refine, spread


class FastPyramid(Pyramid):
    """A `Pyramid` whose lateral convolutions add the enlarged coarser level as they write."""

    def __init__(self, plain: Pyramid) -> None:
        nn.Module.__init__(self)
        self.lateral, self.output, self.extra = plain.lateral, plain.output, plain.extra

    def merge(self, features: Sequence[Tensor], first: int = 0) -> list[Tensor]:
        merged: list[Tensor] = []
        for lateral, feature in zip(reversed(self.lateral[first:]), reversed(features), strict=True):
            merged.insert(0, lateral(feature, enlarged(merged[0], feature) if merged else None))
        return merged


class FastHead(nn.Module):
    """A `Head` whose boxes and classes are one convolution, the values of a prior side by side, all levels together.

    Coefficients are computed for the priors whose masks are drawn, a few hundred of tens of thousands.
    """

    def __init__(self, head: Head) -> None:
        super().__init__()
        self.rows, self.conv = head.rows[:2], nn.ModuleList(FastSharedConv(conv) for conv in head.conv)
        weights, biases = zip(*(folded(conv, None) for conv in (head.deltas, head.logits)), strict=True)
        merged = nn.Conv2d(weights[0].shape[1], sum(len(b) for b in biases), 3, padding=1, device="meta")
        self.all = FusedConv(merged, values=(_by_prior(weights, self.rows), _by_prior(biases, self.rows)))
        weight, bias = folded(head.coefficients, None)
        self.coefficients = FusedLinear(weight.permute(0, 2, 3, 1).flatten(1), bias, relu=False)
        self.priors = len(weight) // head.rows[2]

    def forward(self, features: Sequence[Tensor]) -> Raw:
        """L maps to the rows of all priors, ordered (level, y, x, prior)."""
        maps = list(features)
        for conv in self.conv:
            maps = conv(maps)
        coefficients = LateCoefficients([m.permute(0, 2, 3, 1) for m in maps], self.coefficients, self.priors)
        parts = [m.permute(0, 2, 3, 1).reshape(len(m), -1, sum(self.rows)) for m in self.all.each(maps)]
        deltas, logits = torch.cat(parts, dim=1).split(self.rows, dim=2)
        return Raw(deltas, logits, coefficients)


class FastSharedConv(nn.Module):
    """A `SharedConv` of all levels at once: one fused convolution, or where levels have norms of their own as many."""

    def __init__(self, shared: nn.Module) -> None:
        super().__init__()
        assert isinstance(shared, SharedConv)
        norms = shared.norms or [None]
        assert isinstance(shared.conv, nn.Conv2d)
        self.convs = nn.ModuleList(FusedConv(shared.conv, norm, nn.ReLU()) for norm in norms)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        first = self.convs[0]
        assert isinstance(first, FusedConv)
        if len(self.convs) == 1:
            return first.each(maps)
        return [conv(x) for conv, x in zip(self.convs, maps, strict=True)]


@dataclass(frozen=True, eq=False)
class LateCoefficients:
    """`Coefficients` that are computed when they are asked for: a 3x3 convolution at single cells.

    maps: of each level (B, h, w, C). product: 9 * C values around a cell, row by row, to the A * D of its priors.
    priors: A.
    """

    maps: Sequence[Tensor]
    product: FusedLinear
    priors: int

    def __getitem__(self, place: tuple[Tensor, Tensor], /) -> Tensor:
        image, prior = place
        cell, which = prior // self.priors, prior % self.priors
        around = self.maps[0].new_zeros((len(cell), self.product.weight.shape[1]))
        for table in self.maps:
            cells = table.shape[1] * table.shape[2]
            inside = (cell >= 0) & (cell < cells)
            here = rows_to_refine(inside)
            values = _around(table, image[here], cell[here].clamp(0, cells - 1))
            around += spread(values * inside[here, None], here, len(cell))
            cell = cell - cells
        every: Tensor = self.product(around).unflatten(1, (self.priors, -1))
        return every[torch.arange(len(which), device=which.device), which].tanh()


def _around(table: Tensor, image: Tensor, cell: Tensor) -> Tensor:
    """(K, 9 * C): what lies around K cells of (B, h, w, C), 0 beyond the border."""
    _, height, width, _ = table.shape
    step = torch.arange(-1, 2, device=cell.device)
    row = cell // width
    y = row[:, None, None] + step[:, None]  # (K, 3, 1)
    x = (cell - row * width)[:, None, None] + step  # (K, 1, 3)
    values = table[image[:, None, None], y.clamp(0, height - 1), x.clamp(0, width - 1)]  # (K, 3, 3, C)
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    return values.mul_(inside[..., None]).flatten(1)


def _by_prior(parts: Sequence[Tensor], rows: Sequence[int]) -> Tensor:
    """Tensors whose first dimension is (A * row) to one: for each of A priors its rows of the first, the second, ..."""
    return torch.cat([p.unflatten(0, (-1, row)) for p, row in zip(parts, rows, strict=True)], dim=1).flatten(0, 1)


FAST = FastForm({Head: FastHead, Pyramid: FastPyramid}, winograd_cells=WINOGRAD_FEW_CELLS)
"""Its maps are small throughout, so that Winograd's form pays earlier."""
