"""What YOLACT and YOLACT++ learn from: class, box, mask, semantic and mask-IoU terms (Bolya et al. 2019, 2020).

Letters: B batch, N priors, G objects of a picture, F foreground priors, D prototypes, Q classes, h w prototype map.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from maskwright.nn.yolact import Raw
from maskwright.ops.losses import Term
from maskwright.types import Size, Target


@dataclass(frozen=True)
class LossConfig:
    """Thresholds and weights of the terms.

    positive, negative: IoU from which a prior answers for an object, and below which it is background. crowd: share of
    a prior inside a crowd from which it is neither. negatives: background priors for each foreground one, the hardest.
    masks: foreground priors of a picture whose masks are compared, drawn at random; smallest: cells of a true mask
    below which its IoU is not learnt. The rest are weights.
    """

    positive: float = 0.5
    negative: float = 0.4
    crowd: float = 0.7
    negatives: int = 3
    masks: int = 100
    smallest: int = 25
    class_weight: float = 1.0
    box_weight: float = 1.5
    mask_weight: float = 6.125
    semantic_weight: float = 1.0
    mask_iou_weight: float = 25.0


@dataclass(frozen=True, eq=False)
class Outputs:
    """What the network says of a batch.

    raw: of all priors. prototypes (B, h, w, D), after ReLU. semantic (B, Q, h', w') logits on the finest level.
    priors (N, 4) xyxy in the input frame. size: (H, W) of the padded input that prototypes and semantic map span.
    """

    raw: Raw
    prototypes: Tensor
    semantic: Tensor
    priors: Tensor
    size: Size


def terms(
    outputs: Outputs,
    targets: Sequence[Target],
    config: LossConfig,
    draws: Sequence[torch.Generator | None],
    scorer: nn.Module | None = None,
) -> dict[str, Term]:
    """`class`, `box`, `mask`, `semantic` and, with a scorer, `mask_iou`; the weights are in the totals."""
    raise NotImplementedError
