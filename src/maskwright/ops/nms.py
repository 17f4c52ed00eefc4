"""Non-maximum suppression: of boxes that overlap too much, only the best one stays.

Letters: N boxes, K rows kept.
"""

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
