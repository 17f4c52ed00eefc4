"""Non-maximum suppression: of boxes that overlap too much, only the best one stays.

Greedy suppression compares IoUs in float64: in float32 a rounding error would decide which of two boxes stays where an
IoU is at the threshold, and shifts that keep classes apart would take the bits of small boxes.

A box with a coordinate that is not finite is ignored: it is never kept and suppresses none.

Letters: N boxes, Q classes, T best rows of a class, K rows kept.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import nms as _nms

from maskwright.ops import boxes as box_ops
from maskwright.ops.rows import exporting, padded, rows_to_refine, with_room

FEW = 48
"""Best rows of each class that Fast NMS compares first; the others are seldom needed."""

CANDIDATES = 4096
"""Class scores of an image that take part in suppression by class while exporting; in eager mode all that are high
enough do."""

TOGETHER = 1000
"""Boxes of several groups that are compared in one call at most, although those of different groups never meet."""

BLOCK = 1 << 18
"""Overlaps that are computed together: they fit in the processor's cache."""

ROWS = 1 << 24
"""Overlaps of two sets of boxes that are computed together: 64 MB."""


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, *, inclusive: bool = False) -> Tensor:
    """Row numbers that survive greedy suppression, best first; IoU > threshold suppresses. boxes (N, 4), scores (N,).

    inclusive: IoU >= threshold suppresses.
    """
    limit = _limit(iou_threshold, inclusive, np.float32 if boxes.is_cuda else np.float64)
    keep: Tensor = _nms(boxes.double(), scores.double(), limit)
    return keep


def _limit(threshold: float, inclusive: bool, kind: type[np.floating]) -> float:
    """The number of this kind for which IoU > number suppresses from the threshold on, or only above it.

    torchvision compares with a float64 number on the processor and with a float32 number in its CUDA kernel.
    """
    number = kind(threshold)
    if inclusive and float(number) >= threshold:
        number = np.nextafter(number, kind(-np.inf))
    elif not inclusive and float(number) < threshold:
        number = np.nextafter(number, kind(np.inf))
    return float(number)


def batched_nms(
    boxes: Tensor,
    scores: Tensor,
    groups: Tensor,
    iou_threshold: float,
    *,
    inclusive: bool = False,
    finite: bool = False,
) -> Tensor:
    """Row numbers that survive greedy suppression inside each group, best first; see `nms`.

    boxes (N, 4), scores (N,), groups (N,) class or level. finite: all boxes are known to be.
    """
    rows = None if finite else _finite_rows(boxes)
    if rows is not None:
        return rows[batched_nms(boxes[rows], scores[rows], groups[rows], iou_threshold, inclusive=inclusive)]
    boxes = boxes.double()
    if boxes.is_cuda or len(boxes) <= TOGETHER:  # one call: a shift of whole images keeps groups apart
        apart = groups.double()[:, None] * (boxes.abs().amax() * 2 + 1 if len(boxes) else 1)
        shifted = boxes + apart
        if boxes.is_cuda or torch.equal(shifted - apart, boxes):  # no bit of a coordinate is lost
            return nms(shifted, scores, iou_threshold, inclusive=inclusive)
    order = groups.argsort(stable=True)
    survives = torch.ones_like(groups, dtype=torch.bool)
    for group in order.split(torch.unique_consecutive(groups[order], return_counts=True)[1].tolist()):
        if len(group) > 1:
            survives[group] = False
            survives[group[nms(boxes[group], scores[group], iou_threshold, inclusive=inclusive)]] = True
    best = scores.sort(stable=True, descending=True).indices
    return best[survives[best]]


def survivors(
    boxes: Tensor, scores: Tensor, groups: Tensor, iou_threshold: float, *, inclusive: bool = False
) -> Tensor:
    """(N,) bool: which of finite boxes (N, 4) survive greedy suppression inside their group; see `batched_nms`.

    While exporting it is one operator of the graph, `maskwright::survivors`: its shape does not depend on the data.
    """
    if exporting():
        graph: Tensor = torch.ops.maskwright.survivors(boxes, scores, groups, iou_threshold, inclusive)
        return graph
    chosen = batched_nms(boxes, scores, groups, iou_threshold, inclusive=inclusive, finite=True)
    return torch.zeros_like(groups, dtype=torch.bool).index_fill(0, chosen, True)


@torch.library.custom_op("maskwright::survivors", mutates_args=())
def _operator(boxes: Tensor, scores: Tensor, groups: Tensor, iou: float, inclusive: bool) -> Tensor:
    return survivors(boxes, scores, groups, iou, inclusive=inclusive)


@_operator.register_fake
def _shape(boxes: Tensor, scores: Tensor, groups: Tensor, iou: float, inclusive: bool) -> Tensor:
    return torch.empty_like(groups, dtype=torch.bool)


def _without_broken(boxes: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
    """Boxes (N, 4) and scores (N, Q) with rows that are not finite replaced by empty boxes of score 0."""
    finite = torch.isfinite(boxes).all(dim=1, keepdim=True)
    return torch.where(finite, boxes, 0.0), torch.where(finite, scores, 0.0)


def _finite_rows(boxes: Tensor) -> Tensor | None:
    """The rows (F,) of those boxes that are finite; None where all are."""
    finite = torch.isfinite(boxes).all(dim=1)
    return None if bool(finite.all()) else torch.nonzero(finite).flatten()


def nms_by_level(
    boxes: Tensor, scores: Tensor, valid: Tensor, counts: Sequence[int], iou_threshold: float, keep: int
) -> tuple[Tensor, Tensor]:
    """Greedy suppression inside each level, then the best of all levels: (row (K,), alive (K,) bool), best first.

    boxes (N, 4), scores (N,) of any sign, valid (N,): rows that take part; `counts` rows of each level lie together.
    K = min(keep, N); dead rows come last and their number is 0.
    """
    boxes = torch.where(valid[:, None], boxes, 0.0)  # an empty box overlaps none
    ranks = torch.where(valid, scores.float(), -torch.inf)
    own = (torch.full((count,), i, device=boxes.device) for i, count in enumerate(counts))
    levels = torch.cat([torch.zeros(0, dtype=torch.int64, device=boxes.device), *own])
    survives = survivors(boxes, ranks, levels, iou_threshold)
    best, row = torch.where(survives & valid, ranks, -torch.inf).sort(stable=True, descending=True)
    alive = best[:keep] > -torch.inf
    return torch.where(alive, row[:keep], 0), alive


def nms_by_class(
    boxes: Tensor, scores: Tensor, labels: Tensor, iou_threshold: float, keep: int, *, inclusive: bool = False
) -> tuple[Tensor, Tensor]:
    """Greedy suppression inside each class: (row (keep,), alive (keep,) bool), best first; dead rows are number 0.

    boxes (N, 4), finite; scores (N,): a row of score 0 takes no part; labels (N,). inclusive: see `nms`.
    """
    if not len(scores):
        none = labels.new_zeros(keep)
        return none, none.bool()
    survives = survivors(boxes, scores, labels, iou_threshold, inclusive=inclusive)
    best, row = (scores * survives).sort(stable=True, descending=True)
    best, row = padded(best, keep), padded(row, keep)
    alive = best > 0
    return torch.where(alive, row, 0), alive


def fast_nms(
    boxes: Tensor, scores: Tensor, iou_threshold: float, before: int, keep: int, *, across: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Fast NMS (YOLACT, section 5): one matrix and no loop, because a suppressed box still suppresses others.

    boxes (N, 4); scores (N, Q) of every class, not negative. Of each class the best `before` rows are compared;
    those that overlap a better one by IoU > threshold are suppressed. across: every box counts for its best class
    alone, all classes suppress each other. Returns (row (keep,), label (keep,), score (keep,)), best first; dead rows
    have score 0.
    """
    boxes, scores = _without_broken(boxes, scores)
    label = None
    if across and scores.shape[1]:
        scores, label = scores.max(dim=1, keepdim=True)  # (N, 1)
    group, row, score, rest = _survivors(boxes, scores, iou_threshold, before if exporting() else min(before, FEW))
    if not exporting() and before > FEW and not (len(score) >= keep > 0 and score[keep - 1] > rest):
        group, row, score, _ = _survivors(boxes, scores, iou_threshold, before)  # the other rows may be needed
    group, row, score = padded(group, keep), padded(row, keep), padded(score, keep)
    if label is not None and len(label):
        group = torch.where(score > 0, label[row, 0], 0)
    return row, group, score


def _survivors(
    boxes: Tensor, scores: Tensor, iou_threshold: float, before: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(class, row, score) of the `before` best of each class, best first, zero where suppressed; the best of the rest.

    What better rows suppress does not change with worse ones, so the first of them stay the same for a larger `before`.
    """
    if not scores.numel():
        none = torch.zeros(0, dtype=torch.int64, device=scores.device)
        return none, none, scores.new_zeros(0), scores.new_zeros(())
    boxes, scores = with_room(boxes, before), with_room(scores, before)
    best, row = torch.topk(scores.T, min(before, scores.shape[0]), dim=1)  # (Q, T)
    kept = torch.where(_worst_overlap(boxes[row]) <= iou_threshold, best, 0.0).flatten()
    score, place = kept.sort(stable=True, descending=True)
    live = score > 0
    group = torch.where(live, place // best.shape[1], 0)
    return group, torch.where(live, row.flatten()[place], 0), score, best[:, -1:].amax()


def _worst_overlap(boxes: Tensor) -> Tensor:
    """(Q, T, 4), each class's best first, to (Q, T): the largest IoU with a better one; some classes at a time."""
    x1, y1, x2, y2 = boxes.unbind(dim=2)
    area, step = (x2 - x1) * (y2 - y1), max(1, BLOCK // max(1, boxes.shape[1] ** 2))
    out = torch.zeros_like(area)
    for first in range(0, len(boxes) if boxes.shape[1] else 0, step):
        q = slice(first, first + step)
        width = torch.minimum(x2[q, :, None], x2[q, None]).sub_(torch.maximum(x1[q, :, None], x1[q, None]))
        height = torch.minimum(y2[q, :, None], y2[q, None]).sub_(torch.maximum(y1[q, :, None], y1[q, None]))
        common = width.clamp_(min=0).mul_(height.clamp_(min=0))  # (q, T, T)
        union = (area[q, :, None] + area[q, None]).sub_(common).clamp_(min=1e-12)
        out[q] = common.div_(union).triu_(diagonal=1).amax(dim=1)
    return out


def uncovered(boxes: Tensor, kept: Tensor, iou_threshold: float) -> Tensor:
    """(N,) bool: which of boxes (N, 4) overlap none of kept (K, 4) by IoU > threshold; some at a time."""
    step = max(1, ROWS // max(1, len(kept)))
    parts = [(box_ops.iou(part, kept) <= iou_threshold).all(dim=1) for part in boxes.split(step)]
    return torch.cat(parts) if parts else boxes.new_zeros(0, dtype=torch.bool)


def greedy_nms_by_class(
    boxes: Tensor, scores: Tensor, score: float, iou_threshold: float, keep: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Greedy suppression of every class by itself, as the YOLACT code has it: boxes hold both their end pixels (width
    x2 - x1 + 1), and IoU >= threshold suppresses.

    boxes (N, 4); scores (N, Q). Every score above `score` takes part. Returns (row (keep,), label (keep,),
    score (keep,)), best first; dead rows have score 0.
    """
    boxes, scores = (
        with_room(part, -(-CANDIDATES // max(1, scores.shape[1]))) for part in _without_broken(boxes, scores)
    )
    candidates = rows_to_refine(scores > score, CANDIDATES, scores)
    row, label = candidates // scores.shape[1], candidates % scores.shape[1]
    values = scores[row, label]
    values = torch.where(values > score, values, 0.0)
    ends = with_end_pixels(boxes[row])
    chosen, alive = nms_by_class(ends, values, label, iou_threshold, keep, inclusive=True)
    if not len(row):
        return chosen, chosen, values.new_zeros(keep)
    zero = torch.zeros_like(chosen)
    return (
        torch.where(alive, row[chosen], zero),
        torch.where(alive, label[chosen], zero),
        torch.where(alive, values[chosen], 0.0),
    )


def with_end_pixels(boxes: Tensor) -> Tensor:
    """Boxes (N, 4) of which width is x2 - x1 + 1, in ours, float64: as the YOLACT code measures them for exact
    suppression."""
    boxes = boxes.double()
    return boxes + boxes.new_tensor([0.0, 0.0, 1.0, 1.0])
