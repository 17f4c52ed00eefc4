"""Loss terms shared by the models. All are computed in float32."""

import torch
import torch.nn.functional as F
from torch import Tensor


def smooth_l1_sum(prediction: Tensor, target: Tensor, beta: float) -> Tensor:
    """Sum of |d| - beta/2, quadratic below beta; beta 0 is the plain L1 sum."""
    prediction, target = prediction.float(), target.float()
    if beta == 0:
        return (prediction - target).abs().sum()
    return F.smooth_l1_loss(prediction, target, reduction="sum", beta=beta)


def mask_bce(logits: Tensor, target: Tensor) -> Tensor:
    """Mean binary cross-entropy over (R, M, M); zero, but connected to the graph, where R is 0."""
    if logits.shape[0] == 0:
        return logits.float().sum() * 0
    return F.binary_cross_entropy_with_logits(logits.float(), target)


def class_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy over (R, Q+1) rows; zero, but connected to the graph, where R is 0."""
    if logits.shape[0] == 0:
        return logits.float().sum() * 0
    return F.cross_entropy(logits.float(), labels)


def objectness_bce_sum(logits: Tensor, labels: Tensor) -> Tensor:
    """Sum of binary cross-entropies of (R,) logits against 0/1 labels."""
    return F.binary_cross_entropy_with_logits(logits.float(), labels.to(torch.float32), reduction="sum")
