"""Non-maximum suppression: of boxes that overlap too much, only the best one stays.

A box with a coordinate that is not finite is no box: it never stays, suppresses none and takes no other's place.

Letters: N boxes, Q classes, T best rows of a class, K rows kept.
"""

import math

import torch
from torch import Tensor
from torchvision.ops import batched_nms as _batched_nms
from torchvision.ops import nms as _nms

FEW = 48
"""Best rows of each class that Fast NMS looks at first; the others seldom count."""

BLOCK = 1 << 18
"""Overlaps that are worked out together: they stay in the processor's cache."""


def batched_nms(boxes: Tensor, scores: Tensor, groups: Tensor, iou_threshold: float, *, finite: bool = False) -> Tensor:
    """Row numbers that survive greedy suppression inside each group, best first; IoU > threshold suppresses.

    boxes (N, 4), scores (N,), groups (N,) class or level; computed in float32. finite: all boxes are known to be.
    """
    rows = None if finite else _finite_rows(boxes)
    if rows is not None:
        return rows[batched_nms(boxes[rows], scores[rows], groups[rows], iou_threshold)]
    boxes = boxes.float()
    if len(boxes):
        boxes = boxes - boxes.amin().clamp(max=0)  # torchvision keeps groups apart by shifts that suppose x, y >= 0
    keep: Tensor = _batched_nms(boxes, scores.float(), groups, iou_threshold)
    return keep


def _finite_rows(boxes: Tensor) -> Tensor | None:
    """The rows (F,) of those boxes that are finite; None where all are."""
    finite = torch.isfinite(boxes).all(dim=1)
    return None if bool(finite.all()) else torch.nonzero(finite).flatten()


def nms_fixed(boxes: Tensor, scores: Tensor, groups: Tensor, iou_threshold: float, rows: int) -> tuple[Tensor, Tensor]:
    """The same choice with a fixed number of rows, for graphs whose output shapes must not depend on the data.

    Scores must be >= 0; a row of score 0 never survives. Returns (index (K,) int64, alive (K,) bool), K = min(rows, N),
    best first; the rows after the survivors are dead and their index is 0.
    """
    boxes, scores = boxes.float(), scores.float()
    finite = torch.isfinite(boxes).all(dim=1)
    boxes, scores = torch.where(finite[:, None], boxes, 0.0), torch.where(finite, scores, 0.0)
    reach = torch.cat([boxes.flatten(), boxes.new_zeros(1)]).abs().amax()
    apart = groups.to(torch.float32) * (reach * 2 + 1)  # groups never meet
    keep = _nms(boxes + apart[:, None], scores, iou_threshold)
    survives = torch.zeros_like(scores).index_fill(0, keep, 1.0)
    best, index = torch.topk(scores * survives, min(rows, len(scores)))
    alive = best > 0
    return torch.where(alive, index, 0), alive


def fast_nms(
    boxes: Tensor, scores: Tensor, iou_threshold: float, before: int, keep: int, *, across: bool = False
) -> tuple[Tensor, Tensor]:
    """Fast NMS (YOLACT, section 5): one matrix and no loop, because a suppressed box still suppresses others.

    boxes (N, 4), scores (N, Q) of every class. Of each class the best `before` rows are compared; those that overlap
    a better one by IoU > threshold fall. No row falls for its low score. Returns (row (K,), label (K,)), best first,
    K <= keep. across: every box counts for its best class alone, all classes suppress each other, and K <= before.
    """
    rows = _finite_rows(boxes)
    if rows is not None:
        row, label = fast_nms(boxes[rows], scores[rows], iou_threshold, before, keep, across=across)
        return rows[row], label
    label = torch.zeros(0, dtype=torch.int64, device=boxes.device)
    if across:
        scores, label = scores.max(dim=1, keepdim=True)  # (N, 1)
        keep = before
    group, row, score, rest = _alive(boxes, scores, iou_threshold, min(before, FEW))
    if before > FEW and not (len(score) >= keep > 0 and score[keep - 1] > rest):  # a row not looked at may count
        group, row, _, _ = _alive(boxes, scores, iou_threshold, before)
    group, row = group[:keep], row[:keep]
    return row, label[row, 0] if across else group


def _alive(boxes: Tensor, scores: Tensor, iou_threshold: float, before: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(class, row, score) of all that stay of the `before` best of each class, best first; the best score of the rest.

    What better rows decide does not change with worse ones, so the first of them stay the same for a larger `before`.
    """
    best, row = torch.topk(scores.T, min(before, len(scores)), dim=1)  # (Q, T)
    alive = _worst_overlap(boxes[row]) <= iou_threshold
    group, place = torch.nonzero(alive, as_tuple=True)
    order = torch.argsort(best[group, place], descending=True, stable=True)
    group, place = group[order], place[order]
    return group, row[group, place], best[group, place], best[:, -1:].amax() if best.numel() else best.new_zeros(())


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


def greedy_nms_by_class(
    boxes: Tensor, scores: Tensor, score: float, iou_threshold: float, keep: int
) -> tuple[Tensor, Tensor]:
    """Greedy suppression of every class by itself, as the YOLACT code has it: boxes hold both their end pixels (width
    x2 - x1 + 1), and IoU >= threshold suppresses.

    boxes (N, 4), scores (N, Q). Every score above `score` takes part. Returns (row (K,), label (K,)), best first.
    """
    row, label = torch.nonzero(scores > score, as_tuple=True)
    whole = with_end_pixels(boxes[row])
    below = math.nextafter(iou_threshold, 0.0)
    chosen = batched_nms(whole, scores[row, label], label, below)[:keep]
    return row[chosen], label[chosen]


def with_end_pixels(boxes: Tensor) -> Tensor:
    """Boxes (N, 4) of which width is x2 - x1 + 1, in ours: as the YOLACT code measures them for exact suppression."""
    return boxes + boxes.new_tensor([0.0, 0.0, 1.0, 1.0])
