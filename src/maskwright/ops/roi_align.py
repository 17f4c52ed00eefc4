"""RoIAlign on the CPU as weighted sums of table rows: exact, differentiable, with little arithmetic.

A feature map in channels_last memory is a table with one row of C numbers per cell. The average of a bin's bilinear
samples is a weighted sum of a few rows, and the weights are separable:

    out[r, :, i, j] = sum_s sum_t wy[r, i, s] * wx[r, j, t] * table[y[r, i, s] + x[r, j, t]]

The weights per axis are small and computed in NumPy, which wakes no threads for them; the sums are
`torch.nn.functional.embedding_bag`. It is fast for three reasons. Samples that share cells share taps: n samples at
most one cell apart touch n + 1 cells per axis, not 2n. RoIs of the same level and number of taps are processed
together, so that no tap is padding. The result lies in huge pages and is filled in chunks, because page faults of
fresh memory would cost as much as the arithmetic.

Letters: R RoIs, L levels, B images, C channels, h w cells of a map, P output side, K samples per bin and axis,
T taps (cells with a weight) per bin and axis. A cell's centre is its integer coordinate here, as in the paper's code.

Source: He et al. 2017, Mask R-CNN, section 3; results equal `torchvision.ops.roi_align`.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor
from torch.autograd.function import once_differentiable

from maskwright.errors import ConfigError
from maskwright.ops import memory
from maskwright.ops.rows import exporting

Array: TypeAlias = NDArray[Any]

_CHUNK_BYTES = 16 << 20  # size of the result of one chunk: small enough that the allocator reuses its memory
_CHUNK_TAPS = 4 << 20  # taps listed at once: limits the memory of boxes with very many samples


def roi_align(
    features: Sequence[Tensor],
    boxes: Tensor,
    batch_index: Tensor,
    levels: Tensor | None,
    scales: Sequence[float],
    output_size: int,
    sampling_ratio: int = 2,
    aligned: bool = True,
) -> Tensor:
    """Features of each box, resampled to (R, C, output_size, output_size), channels_last, dtype of the features.

    features: L maps (B, C, h, w), fastest in channels_last memory. boxes: (R, 4) xyxy in input pixels. batch_index:
    (R,) image of each box, whole numbers of any type. levels: (R,) map of each box, likewise; None where L is 1.
    scales: of each map, cells per input pixel.
    sampling_ratio: samples per bin and axis; 0 is adaptive, ceil(RoI side / output_size) for each box and axis.
    aligned: False is the legacy form without the half-pixel shift, where a RoI is at least one cell wide and high.

    Samples more than one cell outside the map are zero. Differentiable with respect to the features, not the boxes.
    Raises ConfigError for arguments that do not fit together.
    """
    batch_index, levels = check_rois("roi_align", features, boxes, batch_index, levels, scales)
    if output_size < 1 or sampling_ratio < 0:
        raise ConfigError(
            f"roi_align: output_size must be >= 1 and sampling_ratio >= 0, got {output_size} and {sampling_ratio}."
        )
    if features[0].device.type != "cpu" or exporting():
        pool = partial(torchvision.ops.roi_align, sampling_ratio=sampling_ratio, aligned=aligned)
        return by_torchvision(pool, features, boxes, batch_index, levels, scales, output_size)
    plan = _plan(features, boxes, batch_index, levels, scales, output_size, sampling_ratio, aligned)
    rows: Tensor = _WeightedRows.apply(plan, *features)  # (R, P, P, C)
    return rows.permute(0, 3, 1, 2)


def check_rois(
    of: str,
    features: Sequence[Tensor],
    boxes: Tensor,
    batch_index: Tensor,
    levels: Tensor | None,
    scales: Sequence[float],
) -> tuple[Tensor, Tensor]:
    """Image and level of each box, (R,) int64, if all arguments of the operator `of` fit together.

    Raises ConfigError otherwise.
    """
    count, maps = len(boxes), len(features)
    if not features or maps != len(scales):
        raise ConfigError(f"{of}: needs one scale per feature map, got {maps} maps, {len(scales)} scales.")
    if any(f.ndim != 4 or f.shape[:2] != features[0].shape[:2] or 0 in f.shape[1:] for f in features):
        shapes = [tuple(f.shape) for f in features]
        raise ConfigError(f"{of}: feature maps must be (B, C, h, w) with equal B and C, none empty; got {shapes}.")
    if boxes.shape != (count, 4) or batch_index.shape != (count,):
        got = f"{tuple(boxes.shape)} and {tuple(batch_index.shape)}"
        raise ConfigError(f"{of}: boxes must be (R, 4) and batch_index (R,), got {got}.")
    if levels is None:
        if maps != 1:
            raise ConfigError(f"{of}: levels must say which of the {maps} maps each box is read from; got None.")
        levels = torch.zeros(count, dtype=torch.int64, device=batch_index.device)
    if levels.shape != (count,):
        raise ConfigError(f"{of}: levels must be ({count},), one per box, got {tuple(levels.shape)}.")
    for what, index in (("batch_index", batch_index), ("levels", levels)):
        if index.dtype == torch.bool or index.is_floating_point() or index.is_complex():
            raise ConfigError(f"{of}: {what} must be whole numbers, got {index.dtype}.")
    batch_index, levels = batch_index.long(), levels.long()
    if count and boxes.device.type == "cpu" and not exporting():
        if not boxes.isfinite().all():
            row = int((~boxes.isfinite()).any(1).nonzero()[0])
            raise ConfigError(f"{of}: boxes must be finite; row {row} is not.")
        for what, index, end in (("batch_index", batch_index, len(features[0])), ("levels", levels, maps)):
            low, high = int(index.min()), int(index.max())
            if low < 0 or high >= end:
                raise ConfigError(f"{of}: {what} must be in 0..{end - 1}, got {low}..{high}.")
    return batch_index, levels


class _Axis(NamedTuple):
    """Taps along one axis. cell: (R, P, T) int32; weight: (R, P, T); taps: (R,) number of the T that each box uses."""

    cell: Array
    weight: Array
    taps: Array


class _Group(NamedTuple):
    """Rows start..stop of a plan: boxes of one level with `high` taps per bin along y and `wide` along x."""

    level: int
    start: int
    stop: int
    high: int
    wide: int


class _Plan(NamedTuple):
    """The taps of all bins, sorted into groups. order: (R,) the box that each row of y and x belongs to."""

    side: int
    order: Array
    y: _Axis  # its `cell` is a table row: (rows of the images before + y) * w
    x: _Axis
    groups: list[_Group]


def _plan(
    features: Sequence[Tensor],
    boxes: Tensor,
    batch_index: Tensor,
    levels: Tensor,
    scales: Sequence[float],
    side: int,
    sampling: int,
    aligned: bool,
) -> _Plan:
    dtype = torch.promote_types(features[0].dtype, torch.float32)
    level = levels.numpy()
    high, wide = np.array([f.shape[2:] for f in features])[level].T
    scale = torch.tensor(scales, dtype=dtype)[levels, None]
    scaled = (boxes.detach().to(dtype) * scale - (0.5 if aligned else 0.0)).numpy()
    y = _axis(scaled[:, 1], scaled[:, 3], high, side, sampling, aligned)
    x = _axis(scaled[:, 0], scaled[:, 2], wide, side, sampling, aligned)
    y = y._replace(cell=((batch_index.numpy() * high)[:, None, None] + y.cell) * wide[:, None, None])
    order, groups = _grouped(level, y.taps, x.taps)
    y, x = (_Axis(axis.cell.astype(np.int32)[order], axis.weight[order], axis.taps[order]) for axis in (y, x))
    return _Plan(side, order, y, x, groups)


def _axis(start: Array, end: Array, cells: Array, side: int, sampling: int, aligned: bool) -> _Axis:
    """Taps of the bins of boxes [start, end] along an axis of `cells` cells, all (R,), in cells.

    Where samples are close, a bin has one tap per cell of the window around them; where they are far apart, two per
    sample.
    """
    dtype, count = start.dtype, len(start)
    length = end - start if aligned else np.maximum(end - start, 1)
    step = (length / side)[:, None, None]  # (R, 1, 1)
    samples = np.full_like(step, sampling) if sampling else np.ceil(step).clip(0)
    divisor = samples.clip(1)
    k = np.arange(divisor.max(initial=1), dtype=dtype)
    live = k < samples  # (R, 1, K)
    k = np.minimum(k, divisor - 1)  # samples that a box does not have repeat its last one, with weight 0
    i = np.arange(side, dtype=dtype)[:, None]
    at = start[:, None, None] + i * step + (k + dtype.type(0.5)) * step / divisor  # (R, P, K)
    cells = cells[:, None, None]
    share = (live & (at >= -1) & (at <= cells)) / divisor
    at = np.minimum(at.clip(0), (cells - 1).astype(dtype))
    low = at.astype(np.int64)
    upper = (at - low) * share
    first, last = low[..., :1], low[..., -1:]  # one of them is the smallest: samples rise, or fall if end < start
    window = abs(first - last) + 2
    taps = np.minimum(window.max(axis=1, keepdims=True), 2 * divisor).astype(np.int64)
    slot = np.where(window <= taps, low - np.minimum(first, last), (2 * k).astype(np.int64))
    shape = (count, side, taps.max(initial=2))
    slot += np.arange(count * side).reshape(count, side, 1) * shape[2]  # in the flattened result
    weight = np.bincount(slot.ravel(), (share - upper).ravel(), math.prod(shape))
    weight += np.bincount(slot.ravel() + 1, upper.ravel(), math.prod(shape))
    cell = np.zeros(shape, np.int64)
    cell.put(slot, low)
    cell.put(slot + 1, low + 1)
    return _Axis(np.minimum(cell, cells - 1), weight.astype(dtype).reshape(shape), taps[:, 0, 0])


def _grouped(levels: Array, high: Array, wide: Array) -> tuple[Array, list[_Group]]:
    """The order (R,) that sorts boxes by level and numbers of taps, and the groups of equal ones."""
    span = max(high.max(initial=0), wide.max(initial=0)) + 1
    keys = (levels * span + high) * span + wide
    order = keys.argsort(kind="stable")
    found, counts = np.unique(keys, return_counts=True)
    stops = counts.cumsum()
    parts = zip(found // span**2, stops - counts, stops, found // span % span, found % span, strict=True)
    return order, [_Group(*(int(v) for v in part)) for part in parts]


class _Matrix(NamedTuple):
    """A sparse matrix by rows: result n is the sum of the table rows row[i] times weight[i], i in
    offsets[n]..offsets[n + 1]."""

    row: Array
    weight: Array
    offsets: Array

    def __matmul__(self, table: Tensor) -> Tensor:
        row, weight, offsets = (torch.from_numpy(part) for part in self)
        weight = weight.to(table.dtype)
        return F.embedding_bag(row, table, offsets, mode="sum", per_sample_weights=weight, include_last_offset=True)

    def transposed(self, columns: int) -> "_Matrix":
        """The transpose; `columns`: number of rows of the table."""
        by_column = csr_array((self.weight, self.row, self.offsets), (len(self.offsets) - 1, columns)).tocsc()
        return _Matrix(by_column.indices, by_column.data, by_column.indptr)


def _chunks(plan: _Plan, row_bytes: int) -> Iterator[list[_Group]]:
    """The plan's groups, cut and packed into chunks: each is of one level, with a result of limited size."""
    for level in dict.fromkeys(g.level for g in plan.groups):
        own = [g for g in plan.groups if g.level == level]
        most = plan.side**2 * max(g.high * g.wide for g in own)
        size = max(1, min(_CHUNK_BYTES // row_bytes, _CHUNK_TAPS // most))
        for start in range(own[0].start, own[-1].stop, size):
            cut = (g._replace(start=max(g.start, start), stop=min(g.stop, start + size)) for g in own)
            yield [g for g in cut if g.start < g.stop]


def _matrix(plan: _Plan, groups: list[_Group]) -> _Matrix:
    """The taps of all bins of consecutive groups of one level."""
    side = plan.side
    lengths = np.repeat([g.high * g.wide for g in groups], [(g.stop - g.start) * side**2 for g in groups])
    offsets = np.concatenate([[0], lengths.cumsum()]).astype(np.int32)
    row, weight = np.empty(offsets[-1], np.int32), np.empty(offsets[-1], plan.y.weight.dtype)
    begin = 0
    for group in groups:
        shape = (group.stop - group.start, side, side, group.high * group.wide)
        own = slice(begin, begin + math.prod(shape))
        for out, y, x, combine in (
            (row, plan.y.cell, plan.x.cell, np.add),
            (weight, plan.y.weight, plan.x.weight, np.multiply),
        ):
            combine(*_spread(group, y, x), out=out[own].reshape(shape))
        begin = own.stop
    return _Matrix(row, weight, offsets)


def _spread(group: _Group, y: Array, x: Array) -> tuple[Array, Array]:
    """A group's (n, P, 1, high * wide) of y and (n, 1, P, high * wide) of x; long last axes make the product fast."""
    own = slice(group.start, group.stop)
    return (
        np.repeat(y[own, :, None, : group.high], group.wide, axis=3),
        np.tile(x[own, None, :, : group.wide], group.high),
    )


class _WeightedRows(torch.autograd.Function):
    """(plan, L maps) -> (R, P, P, C). The gradient of a map is the product with the transposed matrix."""

    @staticmethod
    def forward(ctx: Any, plan: _Plan, *features: Tensor) -> Tensor:
        ctx.plan, ctx.shapes = plan, [f.shape for f in features]
        channels = features[0].shape[1]
        out = memory.empty((len(plan.order), plan.side**2 * channels), features[0].dtype)
        tables = [f.permute(0, 2, 3, 1).reshape(-1, channels) for f in features]
        for groups in _chunks(plan, max(1, out[:1].nbytes)):
            rows = _matrix(plan, groups) @ tables[groups[0].level]
            _place(out, torch.from_numpy(plan.order[groups[0].start : groups[-1].stop]), rows.view(-1, out.shape[1]))
        return out.view(-1, plan.side, plan.side, channels)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        rows = grad.reshape(-1, grad.shape[3])  # (R * P * P, C)
        maps = enumerate(zip(ctx.shapes, ctx.needs_input_grad[1:], strict=True))
        return None, *(
            _map_gradient(ctx.plan, level, shape, rows) if wanted else None for level, (shape, wanted) in maps
        )


def _map_gradient(plan: _Plan, level: int, shape: torch.Size, grad: Tensor) -> Tensor:
    """Gradient (B, C, h, w) of one map, channels_last. grad: (R * P * P, C), of the bins."""
    batch, channels, high, wide = shape
    groups = [g for g in plan.groups if g.level == level]
    if not groups:
        return grad.new_zeros(batch, high, wide, channels).permute(0, 3, 1, 2)
    bins = plan.side**2
    boxes = plan.order[groups[0].start : groups[-1].stop, None].astype(np.int32)
    bin_rows = (boxes * bins + np.arange(bins, dtype=np.int32)).ravel()  # the row of `grad` of each row of the matrix
    by_cell = _matrix(plan, groups).transposed(batch * high * wide)
    table = by_cell._replace(row=bin_rows[by_cell.row]) @ grad
    return table.view(batch, high, wide, channels).permute(0, 3, 1, 2)


def _place(out: Tensor, index: Tensor, rows: Tensor) -> None:
    """`out[index] = rows`, 16 bytes at a time where possible, because PyTorch copies element by element."""
    if rows.nbytes and rows[0].nbytes % 16 == 0:
        out, rows = out.view(torch.complex128), rows.view(torch.complex128)
    out.index_copy_(0, index, rows)


def by_torchvision(
    pool: Callable[..., Tensor],
    features: Sequence[Tensor],
    boxes: Tensor,
    batch_index: Tensor,
    levels: Tensor,
    scales: Sequence[float],
    side: int,
) -> Tensor:
    """The result of torchvision's kernel `pool`, level by level, for arguments that `check_rois` has seen."""
    dtype = torch.promote_types(features[0].dtype, torch.float32)
    rois = torch.cat([batch_index[:, None].to(dtype), boxes.to(dtype)], 1)
    out = rois.new_zeros(len(rois), features[0].shape[1], side, side)
    for level, (feature, scale) in enumerate(zip(features, scales, strict=True)):
        index = (levels == level).nonzero()[:, 0]
        out = out.index_copy(0, index, pool(feature.to(dtype), rois[index], side, scale))
    return out.to(features[0].dtype).contiguous(memory_format=torch.channels_last)
