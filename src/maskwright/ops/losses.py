"""Loss terms shared by the models. All are computed in float32.

Each is a sum; what it is divided by stands beside it in a `Term`. Letters: R rows, M mask side, Q classes.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Term:
    """One loss before its division: total / max(count, 1).

    total: scalar, connected to the graph also where there is nothing to learn from. count: what it is the mean over.
    Of images that several processes share, totals and counts are added up first; so their losses are those of one
    process with all the images.
    """

    total: Tensor
    count: float

    def mean(self) -> Tensor:
        """The loss of these images alone."""
        return self.total / max(self.count, 1)


def smooth_l1_sum(prediction: Tensor, target: Tensor, beta: float) -> Tensor:
    """Sum of |d| - beta/2, quadratic below beta; beta 0 is the plain L1 sum."""
    prediction, target = prediction.float(), target.float()
    if beta == 0:
        return (prediction - target).abs().sum()
    return F.smooth_l1_loss(prediction, target, reduction="sum", beta=beta)


def mask_bce_sum(logits: Tensor, target: Tensor) -> Tensor:
    """Sum of binary cross-entropies over (R, M, M)."""
    return F.binary_cross_entropy_with_logits(logits.float(), target, reduction="sum")


def class_cross_entropy_sum(logits: Tensor, labels: Tensor) -> Tensor:
    """Sum of cross-entropies over (R, Q+1) rows."""
    return F.cross_entropy(logits.float(), labels, reduction="sum")


def objectness_bce_sum(logits: Tensor, labels: Tensor) -> Tensor:
    """Sum of binary cross-entropies of (R,) logits against 0/1 labels."""
    return F.binary_cross_entropy_with_logits(logits.float(), labels.to(torch.float32), reduction="sum")
