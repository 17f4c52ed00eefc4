"""Fixed shapes without the price of dead rows.

A network that is exported must have shapes that do not depend on the data, so detections come as a fixed number of
rows of which the last are dead: score 0, everything else 0. In eager mode the expensive layers run on live rows only;
while exporting they run on all. `exporting` is the one place where that is decided.

Letters: N rows, R of them that are refined.
"""

import torch
from torch import Tensor


def exporting() -> bool:
    """Whether a graph of fixed shapes is being made."""
    return torch.compiler.is_exporting()


def rows_to_refine(alive: Tensor, most: int | None = None, ranks: Tensor | None = None) -> Tensor:
    """(R,) int64: the rows, of the flattened (N,) bool `alive`, that the next layers run on, in order.

    Eager mode: those that are alive. While exporting: all of them, or, where `most` is below N, the `most` with the
    highest `ranks` (N,).
    """
    alive = alive.flatten()
    if not exporting():
        return torch.nonzero(alive).flatten()
    count = alive.shape[0]  # `len` would fix the size of the input
    if most is None or ranks is None or most >= count:
        return torch.arange(count, device=alive.device)
    return torch.where(alive, ranks.flatten(), -torch.inf).topk(most).indices.sort().values


def spread(values: Tensor, rows: Tensor, count: int) -> Tensor:
    """(R, ...) values of `rows` among `count` rows, the others zero."""
    if len(rows) == count:
        return values
    return values.new_zeros(count, *values.shape[1:]).index_copy(0, rows, values)


def with_room(values: Tensor, count: int, fill: float = 0.0, dim: int = 0) -> Tensor:
    """While exporting: followed by `count` rows of `fill` along a dimension, so that the best `count` can be taken
    whatever their number is, which then does not depend on the size of the input. As they are in eager mode, and
    where the size is fixed and they are enough."""
    if not exporting() or (isinstance(values.shape[dim], int) and values.shape[dim] >= count):
        return values
    shape = list(values.shape)
    shape[dim] = count
    return torch.cat([values, values.new_full(shape, fill)], dim=dim)


def padded(values: Tensor, count: int) -> Tensor:
    """(N, ...) to (count, ...): cut off, or filled up with zeros."""
    if len(values) >= count:
        return values[:count]
    return torch.cat([values, values.new_zeros(count - len(values), *values.shape[1:])])
