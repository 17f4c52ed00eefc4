"""Loss functions shared by the models, computed in float32.

Each returns a sum; the model puts it into a `Term` together with its divisor. Letters: R rows, M mask side, Q classes.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Term:
    """A loss as numerator and denominator: total / max(count, 1).

    total: scalar, connected to the graph even where no row contributes. count: number of rows that it is the mean over.
    With several processes, totals and counts are summed over the processes before the division, so that the loss is
    the one a single process would compute for all images.
    """

    total: Tensor
    count: float

    def mean(self) -> Tensor:
        """The loss of this process's images."""
        return self.total / max(self.count, 1)


def smooth_l1_sum(prediction: Tensor, target: Tensor, beta: float) -> Tensor:
    """Smooth L1 of equal shapes: |d| - beta / 2, quadratic (d^2 / 2 beta) below beta; beta 0 is plain L1."""
    return F.smooth_l1_loss(prediction.float(), target.float(), reduction="sum", beta=beta)


def mask_bce_sum(logits: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy of mask logits (R, M, M) and targets in [0, 1] of the same shape."""
    return F.binary_cross_entropy_with_logits(logits.float(), target, reduction="sum")


def class_cross_entropy_sum(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of class logits (R, Q + 1) and int64 labels (R,)."""
    return F.cross_entropy(logits.float(), labels, reduction="sum")


def objectness_bce_sum(logits: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropy of objectness logits (R,) and labels 0 or 1 (R,)."""
    return F.binary_cross_entropy_with_logits(logits.float(), labels.to(torch.float32), reduction="sum")
