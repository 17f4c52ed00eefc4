"""Non-maximum suppression: of boxes that overlap too much, only the best one stays.

Letters: N boxes, Q classes, T best rows of a class, K rows kept.
"""

import math

import torch
from torch import Tensor
from torchvision.ops import batched_nms as _batched_nms
from torchvision.ops import nms as _nms


def batched_nms(boxes: Tensor, scores: Tensor, groups: Tensor, iou_threshold: float) -> Tensor:
    """Row numbers that survive greedy suppression inside each group, best first; IoU > threshold suppresses.

    boxes (N, 4), scores (N,), groups (N,) class or level; computed in float32.
    """
    boxes = boxes.float()
    if len(boxes):
        boxes = boxes - boxes.amin().clamp(max=0)  # torchvision keeps groups apart by shifts that suppose x, y >= 0
    keep: Tensor = _batched_nms(boxes, scores.float(), groups, iou_threshold)
    return keep


def nms_fixed(boxes: Tensor, scores: Tensor, groups: Tensor, iou_threshold: float, rows: int) -> tuple[Tensor, Tensor]:
    """The same choice with a fixed number of rows, for graphs whose output shapes must not depend on the data.

    Scores must be >= 0; a row of score 0 never survives. Returns (index (K,) int64, alive (K,) bool), K = min(rows, N),
    best first; the rows after the survivors are dead and their index is 0.
    """
    boxes, scores = boxes.float(), scores.float()
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
    label = torch.zeros(0, dtype=torch.int64, device=boxes.device)
    if across:
        scores, label = scores.max(dim=1, keepdim=True)  # (N, 1)
        keep = before
    best, row = torch.topk(scores.T, min(before, len(scores)), dim=1)  # (Q, T)
    overlap = _iou_of_rows(boxes[row]).triu_(diagonal=1)  # (Q, T, T)
    alive = overlap.amax(dim=1) <= iou_threshold if overlap.numel() else torch.zeros_like(best, dtype=torch.bool)
    group, place = torch.nonzero(alive, as_tuple=True)
    order = torch.argsort(best[group, place], descending=True, stable=True)[:keep]
    row = row[group[order], place[order]]
    return row, label[row, 0] if across else group[order]


def _iou_of_rows(boxes: Tensor) -> Tensor:
    """(Q, T, 4) to (Q, T, T)."""
    low = torch.maximum(boxes[:, :, None, :2], boxes[:, None, :, :2])
    high = torch.minimum(boxes[:, :, None, 2:], boxes[:, None, :, 2:])
    common = (high - low).clamp_(min=0).prod(dim=3)
    area = (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
    return common / (area[:, :, None] + area[:, None, :] - common).clamp_(min=1e-12)


def greedy_nms_by_class(
    boxes: Tensor, scores: Tensor, score: float, iou_threshold: float, keep: int
) -> tuple[Tensor, Tensor]:
    """Greedy suppression of every class by itself, as the YOLACT code has it: boxes hold both their end pixels (width
    x2 - x1 + 1), and IoU >= threshold suppresses.

    boxes (N, 4), scores (N, Q). Every score above `score` takes part. Returns (row (K,), label (K,)), best first.
    """
    row, label = torch.nonzero(scores > score, as_tuple=True)
    whole = boxes[row] + boxes.new_tensor([0.0, 0.0, 1.0, 1.0])
    below = math.nextafter(iou_threshold, 0.0)
    chosen = batched_nms(whole, scores[row, label], label, below)[:keep]
    return row[chosen], label[chosen]
