"""RoIPool: the largest value of each bin of whole cells, as in the Fast R-CNN paper.

A box is rounded to whole cells and is at least one cell wide and high; its bins overlap by a cell where its side is
no multiple of their number; a bin outside the map is zero.

Letters: R RoIs, L levels, B images, C channels, h w cells of a map, P output side, T cells per bin and axis.

Source: Girshick 2015, Fast R-CNN, section 2.1; results and gradients equal `torchvision.ops.roi_pool`.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torchvision
from torch import Tensor
from torch.autograd.function import once_differentiable

from maskwright.errors import ConfigError
from maskwright.ops.roi_align import TapGroup, check_rois, group_by_taps

_CHUNK_BYTES = 4 << 20  # cells gathered at once


def roi_pool(
    features: Sequence[Tensor],
    boxes: Tensor,
    batch_index: Tensor,
    levels: Tensor | None,
    scales: Sequence[float],
    output_size: int,
) -> Tensor:
    """Greatest feature in each bin of each box, (R, C, output_size, output_size), channels_last; empty bins are 0.

    features: L maps (B, C, h, w), fastest in channels_last memory. boxes: (R, 4) xyxy in input pixels. batch_index:
    (R,) image of each box. levels: (R,) map of each box; None where L is 1. scales: map cells per input pixel.
    The gradient of a bin goes to the first of its greatest cells. Raises ConfigError for arguments that do not fit.
    """
    levels = check_rois("roi_pool", features, boxes, batch_index, levels, scales)
    if output_size < 1:
        raise ConfigError(f"roi_pool: output_size must be at least 1, got {output_size}.")
    if features[0].device.type != "cpu":
        return _by_torchvision(features, boxes, batch_index, levels, scales, output_size)
    plan = _plan(features, boxes.detach(), batch_index, levels, scales, output_size)
    return _Greatest.apply(plan, *features).permute(0, 3, 1, 2)  # type: ignore[no-any-return]


class _Axis(NamedTuple):
    """Cells start..end (R, P) of each bin along one axis, as whole numbers; none where end <= start."""

    start: Tensor
    end: Tensor


class _Plan(NamedTuple):
    """Which cells make which bins. order: (R,) the box of each row of the rest, which lies group by group."""

    side: int
    order: Tensor
    first: Tensor  # (R,) table rows before the box's image
    width: Tensor  # (R,) w of the box's map
    y: _Axis
    x: _Axis
    groups: list[TapGroup]


def _plan(
    features: Sequence[Tensor],
    boxes: Tensor,
    batch_index: Tensor,
    levels: Tensor,
    scales: Sequence[float],
    side: int,
) -> _Plan:
    dtype = torch.promote_types(features[0].dtype, torch.float32)
    high, wide = torch.tensor([f.shape[2:] for f in features])[levels].unbind(1)
    x1, y1, x2, y2 = _round(boxes.to(dtype) * torch.tensor(scales, dtype=dtype)[levels, None]).unbind(1)
    y, x = _axis(y1, y2, high, side), _axis(x1, x2, wide, side)
    cells = [(a.end - a.start).clamp(min=1).amax(1) for a in (y, x)]
    index, groups = group_by_taps(levels.numpy(), *(c.numpy() for c in cells))
    order = torch.from_numpy(index)
    y, x = (_Axis(a.start[order], a.end[order]) for a in (y, x))
    return _Plan(side, order, (batch_index * high * wide)[order], wide[order], y, x, groups)


def _round(value: Tensor) -> Tensor:
    """To the nearest whole number, halves away from zero."""
    whole = value.trunc()
    return whole + (value - whole).abs().ge(0.5) * value.sign()


def _axis(start: Tensor, end: Tensor, cells: Tensor, side: int) -> _Axis:
    """Bins of the cells start..end (both in) along an axis of `cells` cells, all (R,)."""
    step = ((end - start + 1).clamp(min=1) / side)[:, None]
    i = torch.arange(side)
    edges = (i * step).floor() + start[:, None], ((i + 1) * step).ceil() + start[:, None]
    low, high = (torch.minimum(e.clamp(min=0), cells[:, None]).long() for e in edges)
    return _Axis(low, high)


def _cells(plan: _Plan, group: TapGroup) -> tuple[Tensor, Tensor]:
    """Table rows (n, P, P, high * wide) of the cells of a group's bins, its last repeated, and (n, P, P) where none."""
    own = slice(group.start, group.stop)
    y, x = (_Axis(a.start[own, :, None], a.end[own, :, None]) for a in (plan.y, plan.x))
    down, along = (
        torch.minimum(a.start + torch.arange(count), a.end - 1).clamp(min=0)
        for a, count in ((y, group.high), (x, group.wide))
    )
    down = plan.first[own, None, None] + down * plan.width[own, None, None]
    rows = (down[:, :, None, :, None] + along[:, None, :, None, :]).flatten(3)
    return rows, (y.end <= y.start) | (x.end <= x.start).transpose(1, 2)


class _Greatest(torch.autograd.Function):
    """(plan, L maps) -> (R, P, P, C)."""

    @staticmethod
    def forward(ctx: Any, plan: _Plan, *features: Tensor) -> Tensor:
        channels, side = features[0].shape[1], plan.side
        out = features[0].new_empty(len(plan.order), side, side, channels)
        wanted = any(ctx.needs_input_grad)
        source = torch.empty_like(out if wanted else out[:0], dtype=torch.int32)  # table row of each result; -1 none
        tables = [f.permute(0, 2, 3, 1).reshape(-1, channels) for f in features]
        for group in plan.groups:
            chunk = max(1, _CHUNK_BYTES // max(1, out[:1].nbytes * group.high * group.wide))
            for start in range(group.start, group.stop, chunk):
                part = group._replace(start=start, stop=min(start + chunk, group.stop))
                rows, none = _cells(plan, part)
                cells = tables[group.level][rows]  # (n, P, P, T * T, C)
                index = plan.order[part.start : part.stop]
                if wanted:
                    best, which = cells.max(3)
                    source[index] = rows.gather(3, which).to(torch.int32).masked_fill_(none[..., None], -1)
                else:
                    best = cells.amax(3)
                out[index] = best.masked_fill_(none[..., None], 0)
        ctx.plan, ctx.shapes = plan, [f.shape for f in features]
        ctx.save_for_backward(source)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (source,) = ctx.saved_tensors
        grads: list[Tensor | None] = []
        for level, (shape, wanted) in enumerate(zip(ctx.shapes, ctx.needs_input_grad[1:], strict=True)):
            grads.append(_map_gradient(ctx.plan, level, shape, source, grad) if wanted else None)
        return None, *grads


def _map_gradient(plan: _Plan, level: int, shape: torch.Size, source: Tensor, grad: Tensor) -> Tensor:
    """Gradient (B, C, h, w) of one map: each bin's gradient added to the cell that it came from."""
    batch, channels, high, wide = shape
    table = grad.new_zeros(batch * high * wide, channels)
    for index in (plan.order[g.start : g.stop] for g in plan.groups if g.level == level):
        cell = source[index].view(-1, channels).long()
        table.scatter_add_(0, cell.clamp(min=0), grad[index].reshape(-1, channels) * (cell >= 0))
    return table.view(batch, high, wide, channels).permute(0, 3, 1, 2)


def _by_torchvision(
    features: Sequence[Tensor],
    boxes: Tensor,
    batch_index: Tensor,
    levels: Tensor,
    scales: Sequence[float],
    side: int,
) -> Tensor:
    """The same through torchvision's compiled kernel, level by level: the fast way on a GPU."""
    dtype = torch.promote_types(features[0].dtype, torch.float32)
    rois = torch.cat([batch_index[:, None].to(dtype), boxes.to(dtype)], 1)
    out = rois.new_zeros(len(rois), features[0].shape[1], side, side)
    for level, (feature, scale) in enumerate(zip(features, scales, strict=True)):
        index = (levels == level).nonzero()[:, 0]
        out = out.index_copy(0, index, torchvision.ops.roi_pool(feature.to(dtype), rois[index], side, scale))
    return out.to(features[0].dtype).contiguous(memory_format=torch.channels_last)
