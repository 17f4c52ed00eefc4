"""RoIAlign on the CPU as weighted sums of table rows: exact, differentiable, and short of arithmetic.

A feature map in channels_last memory is a table with one row of C numbers per cell. The average of a bin's bilinear
samples is a weighted sum of a few rows, and the weights are separable:

    out[r, :, i, j] = sum_s sum_t wy[r, i, s] * wx[r, j, t] * table[y[r, i, s] + x[r, j, t]]

so the work per axis is tiny, and the rest is `torch.nn.functional.embedding_bag`. Three things make it fast:
samples that share cells share taps (n samples at most one cell apart touch n + 1 rows, not 2n); RoIs with the same
number of taps go together, in chunks whose result is still in the cache when it is moved to its place; the result
lies in huge pages, as its page faults would cost as much as the arithmetic.

Letters: R RoIs, L levels, B pictures, C channels, h w cells of a map, P output side, K samples per bin and axis,
T taps (rows with a weight) per bin and axis. A cell's centre is its integer coordinate here, as in the reference.

Source: He et al. 2017, Mask R-CNN, section 3; results equal `torchvision.ops.roi_align`.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor
from torch.autograd.function import once_differentiable

from maskwright.errors import ConfigError

_CHUNK_BYTES = 2 << 20  # results of one chunk: small enough to stay in the cache
_CHUNK_TAPS = 1 << 20  # taps listed at once: bounds the memory of boxes with very many samples
_HUGE_BYTES = 4 << 20  # results from here on are worth huge pages


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
    (R,) picture of each box. levels: (R,) map of each box; None where L is 1. scales: map cells per input pixel.
    sampling_ratio: samples per bin and axis; 0 means ceil(RoI side / output_size), of each box and axis.
    aligned: False is the legacy form without the half-pixel shift, where a RoI is at least one cell wide and high.

    Samples more than one cell outside the map are zero. Differentiable in the features, not in the boxes.
    Raises ConfigError for arguments that do not fit together.
    """
    levels = check_rois("roi_align", features, boxes, batch_index, levels, scales)
    if output_size < 1 or sampling_ratio < 0:
        raise ConfigError(
            f"roi_align: output_size must be >= 1 and sampling_ratio >= 0, got {output_size} and {sampling_ratio}."
        )
    if features[0].device.type != "cpu":
        return _by_torchvision(features, boxes, batch_index, levels, scales, output_size, sampling_ratio, aligned)
    with torch.no_grad():
        plan = _plan(features, boxes, batch_index, levels, scales, output_size, sampling_ratio, aligned)
    rows: Tensor = _WeightedRows.apply(plan, *features)  # (R, P, P, C)
    return rows.permute(0, 3, 1, 2)


def check_rois(
    name: str,
    features: Sequence[Tensor],
    boxes: Tensor,
    batch_index: Tensor,
    levels: Tensor | None,
    scales: Sequence[float],
) -> Tensor:
    """The level of each box, (R,) int64, once all arguments are found to fit together; ConfigError otherwise."""
    count = len(boxes)
    if not features or len(features) != len(scales):
        raise ConfigError(f"{name}: needs one scale per feature map, got {len(features)} maps, {len(scales)} scales.")
    if any(f.ndim != 4 or f.shape[:2] != features[0].shape[:2] or 0 in f.shape[2:] for f in features):
        shapes = [tuple(f.shape) for f in features]
        raise ConfigError(f"{name}: feature maps must be (B, C, h, w) with equal B and C, none empty; got {shapes}.")
    if boxes.shape != (count, 4) or batch_index.shape != (count,):
        got = f"{tuple(boxes.shape)} and {tuple(batch_index.shape)}"
        raise ConfigError(f"{name}: boxes must be (R, 4) and batch_index (R,), got {got}.")
    if levels is None:
        if len(features) != 1:
            raise ConfigError(f"{name}: levels says which of the {len(features)} maps each box is for; got None.")
        levels = batch_index.new_zeros(count)
    if levels.shape != (count,):
        raise ConfigError(f"{name}: levels must be ({count},), one per box, got {tuple(levels.shape)}.")
    if count and boxes.device.type == "cpu":
        if not boxes.isfinite().all():
            raise ConfigError(
                f"{name}: boxes must be finite; row {int((~boxes.isfinite()).any(1).nonzero()[0])} is not."
            )
        for what, index, end in (("batch_index", batch_index, len(features[0])), ("levels", levels, len(features))):
            if int(index.min()) < 0 or int(index.max()) >= end:
                raise ConfigError(
                    f"{name}: {what} must be in 0..{end - 1}, got {int(index.min())}..{int(index.max())}."
                )
    return levels


class _Axis(NamedTuple):
    """Taps along one axis. cell: (R, P, T) int32, weight: (R, P, T), taps: (R,) how many of the T each box uses."""

    cell: Tensor
    weight: Tensor
    taps: Tensor


class TapGroup(NamedTuple):
    """Rows start..stop of a plan: boxes of one level with `high` taps along y and `wide` along x."""

    level: int
    start: int
    stop: int
    high: int
    wide: int


class _Plan(NamedTuple):
    """Which table rows make which bins. order: (R,) the box of each row of y and x, which lie group by group."""

    side: int
    order: Tensor
    y: _Axis  # its cells count table rows: those of the pictures before + y * w
    x: _Axis
    groups: list[TapGroup]


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
    high, wide = torch.tensor([f.shape[2:] for f in features])[levels].unbind(1)
    scaled = boxes.to(dtype) * torch.tensor(scales, dtype=dtype)[levels, None] - (0.5 if aligned else 0.0)
    y = _axis(scaled[:, 1], scaled[:, 3], high, side, sampling, aligned)
    x = _axis(scaled[:, 0], scaled[:, 2], wide, side, sampling, aligned)
    y = y._replace(cell=((batch_index * high)[:, None, None] + y.cell) * wide[:, None, None])
    order, groups = group_by_taps(levels, y.taps, x.taps)
    y, x = (_Axis(axis.cell.to(torch.int32)[order], axis.weight[order], axis.taps[order]) for axis in (y, x))
    return _Plan(side, order, y, x, groups)


def _axis(start: Tensor, end: Tensor, cells: Tensor, side: int, sampling: int, aligned: bool) -> _Axis:
    """Taps of the bins of [start, end] along an axis of `cells` cells, all (R,), in cells.

    Samples whose cells lie together take one tap per cell of the window around them; samples far apart take two each.
    """
    length = end - start if aligned else (end - start).clamp(min=1)
    step = (length / side)[:, None, None]  # (R, 1, 1)
    samples = torch.full_like(step, sampling) if sampling else step.ceil().clamp(min=0)
    divisor = samples.clamp(min=1)
    k = torch.arange(int(divisor.max()) if len(start) else 1).expand(len(start), 1, -1)  # (R, 1, K)
    live = k < samples
    k = torch.minimum(k, divisor.long() - 1)  # the samples that a box does not have repeat its last
    at = start[:, None, None] + torch.arange(side)[:, None] * step + (k + 0.5) * step / divisor  # (R, P, K)
    cells = cells[:, None, None]
    share = (live & (at >= -1) & (at <= cells)) / divisor
    at = torch.minimum(at.clamp(min=0), cells - 1)
    low = at.floor()
    upper = (at - low) * share
    low = low.long()
    first, last = low[..., :1], low[..., -1:]  # one of them is the least: samples are in order, or in reverse
    taps = torch.minimum((first - last).abs().amax(1, keepdim=True) + 2, 2 * divisor.long())
    slot = torch.where((first - last).abs() + 2 <= taps, low - torch.minimum(first, last), 2 * k)
    shape = (len(start), side, int(taps.max()) if len(start) else 2)
    weight = at.new_zeros(shape).scatter_add_(2, slot, share - upper).scatter_add_(2, slot + 1, upper)
    cell = low.new_zeros(shape).scatter_(2, slot, low).scatter_(2, slot + 1, low + 1)
    return _Axis(torch.minimum(cell, cells - 1), weight, taps[:, 0, 0])


def group_by_taps(levels: Tensor, high: Tensor, wide: Tensor) -> tuple[Tensor, list[TapGroup]]:
    """The order that brings boxes of one level and one number of taps together, and the groups in it."""
    span = int(torch.maximum(high, wide).max()) + 1 if len(levels) else 1
    keys, order = ((levels * span + high) * span + wide).sort(stable=True)
    keys, counts = keys.unique_consecutive(return_counts=True)
    groups, start = [], 0
    for key, count in zip(keys.tolist(), counts.tolist(), strict=True):
        groups.append(TapGroup(key // span**2, start, start + count, key // span % span, key % span))
        start += count
    return order, groups


def _taps(plan: _Plan, group: TapGroup, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Table rows and weights of all taps of a group, bin by bin, both (n * P * P * high * wide,)."""
    own, shape = slice(group.start, group.stop), (-1, -1, group.high, group.wide)

    def down(
        t: Tensor,
    ) -> Tensor:  # a bin's taps in full along the last axis, so that the product below runs through it
        return t[own, :, : group.high, None].expand(shape).flatten(2)[:, :, None]

    def along(t: Tensor) -> Tensor:
        return t[own, :, None, : group.wide].expand(shape).flatten(2)[:, None]

    row = down(plan.y.cell) + along(plan.x.cell)  # (n, P, P, high * wide)
    weight = down(plan.y.weight) * along(plan.x.weight)
    return row.flatten(), weight.flatten().to(dtype)


def _bags(table: Tensor, row: Tensor, weight: Tensor, offsets: Tensor) -> Tensor:
    """Weighted sums of table rows: bag b has the taps offsets[b]..offsets[b + 1]."""
    return F.embedding_bag(row, table, offsets, mode="sum", per_sample_weights=weight, include_last_offset=True)


class _WeightedRows(torch.autograd.Function):
    """(plan, L maps) -> (R, P, P, C). The gradient of a map is weighted rows too: the plan read cell by cell."""

    @staticmethod
    def forward(ctx: Any, plan: _Plan, *features: Tensor) -> Tensor:
        ctx.plan, ctx.shapes = plan, [f.shape for f in features]
        channels, bins = features[0].shape[1], plan.side**2
        out = empty_rows((len(plan.order), bins * channels), features[0].dtype)
        tables = [f.permute(0, 2, 3, 1).reshape(-1, channels) for f in features]
        for group in plan.groups:
            taps = group.high * group.wide
            chunk = max(1, min(_CHUNK_BYTES // max(1, out[:1].nbytes), _CHUNK_TAPS // (bins * taps)))
            for start in range(group.start, group.stop, chunk):
                part = group._replace(start=start, stop=min(start + chunk, group.stop))
                row, weight = _taps(plan, part, out.dtype)
                offsets = torch.arange(0, len(row) + 1, taps, dtype=row.dtype)
                rows = _bags(tables[group.level], row, weight, offsets)
                _place(out, plan.order[part.start : part.stop], rows.view(-1, bins * channels))
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
    """Gradient (B, C, h, w) of one map, channels_last. grad: (R * P * P, C) of the bins."""
    batch, channels, high, wide = shape
    bins = plan.side**2
    cells, weights, sources = [grad.new_empty(0, dtype=torch.int32)], [grad.new_empty(0)], [plan.order[:0]]
    for group in (g for g in plan.groups if g.level == level):
        cell, weight = _taps(plan, group, grad.dtype)
        cells.append(cell)
        weights.append(weight)
        bin_rows = plan.order[group.start : group.stop, None] * bins + torch.arange(bins)
        sources.append(bin_rows.flatten().repeat_interleave(group.high * group.wide))
    cell, by_cell = torch.cat(cells).sort(stable=True)
    offsets = F.pad(cell.bincount(minlength=batch * high * wide).cumsum(0), (1, 0))
    table = _bags(grad, torch.cat(sources)[by_cell], torch.cat(weights)[by_cell], offsets)
    return table.view(batch, high, wide, channels).permute(0, 3, 1, 2)


def _place(out: Tensor, index: Tensor, rows: Tensor) -> None:
    """`out[index] = rows`, 16 bytes at a time where the rows allow it, as PyTorch moves one number at a time."""
    if rows.nbytes and rows[0].nbytes % 16 == 0:
        out, rows = out.view(torch.complex128), rows.view(torch.complex128)
    out.index_copy_(0, index, rows)


def empty_rows(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """An uninitialised CPU tensor; a big one asks for huge pages (as NumPy does), 512 times fewer page faults."""
    size = int(np.prod(shape)) * dtype.itemsize
    if size < _HUGE_BYTES:
        return torch.empty(shape, dtype=dtype)
    memory = np.empty(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return torch.from_numpy(memory[start : start + size]).view(dtype).view(shape)


def _by_torchvision(
    features: Sequence[Tensor],
    boxes: Tensor,
    batch_index: Tensor,
    levels: Tensor,
    scales: Sequence[float],
    side: int,
    sampling: int,
    aligned: bool,
) -> Tensor:
    """The same through torchvision's compiled kernel, level by level: the fast way on a GPU."""
    dtype = torch.promote_types(features[0].dtype, torch.float32)
    rois = torch.cat([batch_index[:, None].to(dtype), boxes.to(dtype)], 1)
    out = rois.new_zeros(len(rois), features[0].shape[1], side, side)
    for level, (feature, scale) in enumerate(zip(features, scales, strict=True)):
        index = (levels == level).nonzero()[:, 0]
        part = torchvision.ops.roi_align(feature.to(dtype), rois[index], side, scale, sampling, aligned)
        out = out.index_copy(0, index, part)
    return out.to(features[0].dtype).contiguous(memory_format=torch.channels_last)
