"""YOLACT's parts for prediction, made of parts whose convolutions are fused already: see `fast.accelerate`.

Letters: B batch, C channels, L levels, A priors of a cell, N priors of all levels, D prototypes, Q classes, K rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskwright.fast.fused import FusedConv, FusedLinear, folded, on_cpu
from maskwright.nn.darknet import Residual
from maskwright.nn.deform import DeformableConv2d, deformed
from maskwright.nn.yolact import Head, Pyramid, Raw, SharedConv


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
    """A `Head` whose boxes and classes are one convolution, the values of a prior side by side, all levels together.

    Coefficients are worked out for the priors whose masks are drawn, a few hundred of tens of thousands.
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
    """`Coefficients` that are worked out when they are asked for: a 3x3 convolution at single cells.

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
            here = torch.nonzero((cell >= 0) & (cell < cells)).flatten()
            around[here] = _around(table, image[here], cell[here])
            cell = cell - cells
        values: Tensor = self.product(around).unflatten(1, (self.priors, -1))
        return values[torch.arange(len(which), device=which.device), which].tanh()


def _around(table: Tensor, image: Tensor, cell: Tensor) -> Tensor:
    """(K, 9 * C): what lies around K cells of (B, h, w, C), 0 beyond the border."""
    _, height, width, _ = table.shape
    step = torch.arange(-1, 2, device=cell.device)
    y = (cell // width)[:, None, None] + step[:, None]  # (K, 3, 1)
    x = (cell % width)[:, None, None] + step  # (K, 1, 3)
    values = table[image[:, None, None], y.clamp(0, height - 1), x.clamp(0, width - 1)]  # (K, 3, 3, C)
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    return values.mul_(inside[..., None]).flatten(1)


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
    """A deformable convolution, its norm and ReLU.

    On a CPU the map is a table with a row for each cell: what a tap reads is a weighted sum of four rows, and the
    convolution a matrix product.
    """

    ROWS = 1024
    """Results worked out together: what their taps read stays in the cache."""

    def __init__(self, conv: DeformableConv2d, norm: nn.Module | None) -> None:
        super().__init__()
        weight, bias = folded(conv, norm)
        self.sampling, self.stride, self.shape = FusedConv(conv.sampling), conv.stride, weight.shape
        self.product = FusedLinear(weight.permute(0, 2, 3, 1).flatten(1), bias, relu=True)

    def forward(self, x: Tensor) -> Tensor:
        sampling = self.sampling(x)
        if not on_cpu(x):
            outputs, inputs, *kernel = self.shape
            weight = self.product.weight.view(outputs, *kernel, inputs).permute(0, 3, 1, 2)
            return deformed(x, sampling, weight, self.product.bias, self.stride).relu_()
        b, _, h, w = sampling.shape
        cells, weights = _taps(sampling.float(), (x.shape[2], x.shape[3]), self.stride)
        table = x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])
        parts = zip(cells.split(self.ROWS), weights.to(x.dtype).split(self.ROWS), strict=True)
        rows = [self.product(self._read(table, *part)) for part in parts]
        return torch.cat(rows).view(b, h, w, -1).permute(0, 3, 1, 2)

    def _read(self, table: Tensor, cells: Tensor, weights: Tensor) -> Tensor:
        """(n, taps, 4) cells of a table (cells, C) and their weights to (n, taps * C)."""
        cells, weights = cells.flatten(0, 1), weights.flatten(0, 1)
        return F.embedding_bag(cells, table, mode="sum", per_sample_weights=weights).view(
            -1, self.product.weight.shape[1]
        )


def _taps(sampling: Tensor, size: tuple[int, int], stride: int) -> tuple[Tensor, Tensor]:
    """Which cells of a batch of maps of `size` each of 9 taps reads, (B * h * w, 9, 4), and how much of each; float32.

    sampling: (B, 27, h, w), see `DeformableConv2d`. Cells outside the map count nothing.
    """
    b, _, h, w = sampling.shape
    values = sampling.permute(0, 2, 3, 1).reshape(b, h, w, 27)
    steps = torch.arange(3, dtype=torch.float32)
    y = values[..., 0:18:2] + (torch.arange(h) * stride - 1)[:, None, None] + steps.repeat_interleave(3)
    x = values[..., 1:18:2] + (torch.arange(w) * stride - 1)[:, None] + steps.repeat(3)
    row, rows = _ends(y, size[0])
    column, columns = _ends(x, size[1])
    first = torch.arange(b).view(b, 1, 1, 1, 1) * size[0]
    cells = ((first + row)[..., :, None] * size[1] + column[..., None, :]).flatten(4)
    weights = (rows[..., :, None] * columns[..., None, :]).flatten(4) * values[..., 18:, None].sigmoid()
    return cells.flatten(0, 2), weights.flatten(0, 2)


def _ends(at: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Places along an axis of `count` cells to the two cells around each, (..., 2), and their weights, 0 outside."""
    low = at.floor()
    share = at - low
    both = torch.stack([low, low + 1], dim=-1)
    weights = torch.stack([1 - share, share], dim=-1) * ((both >= 0) & (both < count))
    return both.clamp(0, count - 1).long(), weights
