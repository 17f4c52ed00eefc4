"""Blocks of backbones for prediction, made of blocks whose convolutions are fused already: see `fast.accelerate`.

Letters: B batch, C channels, h w cells of a map.
"""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskwright.fast.fused import FusedConv, FusedLinear, folded, on_cpu
from maskwright.nn.darknet import Residual
from maskwright.nn.deform import DeformableConv2d, deformed


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


class FastResidual(nn.Module):
    """DarkNet's `Residual`; its input is not overwritten, as it may be a wanted feature map."""

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
    """Results computed together, so that the cells that their taps read stay in the cache."""

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

    sampling: (B, 27, h, w), see `DeformableConv2d`. Cells outside the map have the weight 0.
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
    at = at.nan_to_num(-2, -2, -2)  # a place that is not finite lies outside
    low = at.floor()
    share = at - low
    both = torch.stack([low, low + 1], dim=-1)
    weights = torch.stack([1 - share, share], dim=-1) * ((both >= 0) & (both < count))
    return both.clamp(0, count - 1).long(), weights
