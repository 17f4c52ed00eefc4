"""What YOLACT's non-maximum suppression did around one result, by the rule of the kind that was used.

Letters: M candidates, Q classes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from maskwright.geometry import Geometry
from maskwright.models.yolact.config import YolactConfig
from maskwright.ops import boxes as box_ops
from maskwright.ops.nms import batched_nms, fast_nms, greedy_nms_by_class, with_end_pixels
from maskwright.types import FloatArray, Limits
from maskwright.wording import counted


@dataclass(frozen=True, eq=False)
class Suppression:
    """What non-maximum suppression did among the boxes of the instance's class. Boxes are in the image's pixels.

    kind: of `NMSConfig`; "fast_cross" compares the boxes of all classes. compared: how many boxes took part. lost
    (F, 4): those that the instance's box suppressed: their score is lower and their IoU with it above `iou`; of "exact"
    at least `iou`, with both end pixels in the boxes, where no better box had suppressed them before. only_fast (G, 4):
    those that only a suppressed box suppressed, so that greedy suppression would have kept them; empty for "exact".
    """

    kind: str
    iou: float
    compared: int
    lost: FloatArray
    only_fast: FloatArray

    def taking_part(self, name: str) -> str:
        """Which boxes were compared, in words; name: the class of the instance."""
        boxes, were = counted(self.compared, "box", "es"), "was" if self.compared == 1 else "were"
        if self.kind == "fast":  # every candidate takes part in every class
            return f"{boxes} {were} compared, ranked by their score for {name}:"
        return f"Of {boxes} of {'all classes' if self.kind == 'fast_cross' else 'the same class'}"


def suppressed(
    boxes: Tensor,
    scores: Tensor,
    label: int,
    box: Tensor,
    score: float,
    config: YolactConfig,
    limits: Limits,
    back: Geometry,
) -> Suppression:
    """What suppression did around one result. boxes (M, 4), scores (M, Q) of all candidates, box (4,): of the input."""
    own, iou, kind = scores[:, label], config.nms.iou, limits.nms
    if kind == "exact":
        compared = torch.nonzero(own > limits.score).flatten()
        rows, labels, values = greedy_nms_by_class(boxes, scores, limits.score, iou, max(1, scores.numel()))
        alive = rows[(labels == label) & (values > 0)]
    else:
        across = kind == "fast_cross"
        part = scores if across else own[:, None]
        own = scores.amax(dim=1) if across else own
        before = config.compared(limits)
        compared, alive = (_rows_of_fast(boxes, part, threshold, before, across) for threshold in (1.0, iou))
    dead, only_fast = ~torch.isin(compared, alive), compared[:0]
    if kind == "exact":
        better = with_end_pixels(torch.cat([box[None], boxes[alive[own[alive] > score]]]))
        over = box_ops.iou(with_end_pixels(boxes[compared]), better) >= iou
        double = over[:, 0] & ~over[:, 1:].any(dim=1)
    else:
        double = box_ops.iou(boxes[compared], box[None])[:, 0] > iou
        greedy = compared[batched_nms(boxes[compared], own[compared], torch.zeros_like(compared), iou)]
        only_fast = greedy[~torch.isin(greedy, alive)]
    lost = compared[dead & double & (own[compared] <= score)]
    moved = [back.boxes(boxes[rows].float().cpu().numpy()) for rows in (lost, only_fast)]
    return Suppression(kind, iou, len(compared), *moved)


def _rows_of_fast(boxes: Tensor, scores: Tensor, iou: float, before: int, across: bool) -> Tensor:
    """The rows that Fast NMS keeps of all candidates."""
    row, _, score = fast_nms(boxes, scores, iou, before, max(1, len(boxes)), across=across)
    return row[score > 0]
