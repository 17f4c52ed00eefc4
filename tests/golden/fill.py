"""Weights from names alone: the same numbers on every machine, so that no checkpoint is needed to compare networks.

Every tensor has its own random stream, seeded by its name: tensors depend neither on each other nor on their order.
Rows of convolutions have zero mean. Without that a random ReLU network answers nearly the same for every region; with
it one sees dozens of classes and well separated scores. The gains bring scores, offsets and masks into the range that
trained weights give.
"""

import hashlib
import math
import re
from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor

Spec = Iterable[tuple[str, list[int], str]]
"""Name, shape and number type of every tensor, in the order of the published file."""

BACKGROUND_BONUS = 7.0
BACKGROUND_ROW = {81: -1, 91: 0}  # by number of class rows: last at detectron2, first at torchvision

_LAST_NORM = re.compile(r"res\d\.\d+\.conv3\.norm\.weight$|layer\d\.\d+\.bn3\.weight$")
_GAINS = (  # the first pattern found in the name counts
    (r"stem\.conv1\.weight$", 1 / 20),  # detectron2 feeds pixels with a deviation of about 60
    (r"fpn_lateral\d\.weight$", 0.35),
    (r"(fpn_output2|layer_blocks\.0(\.0)?)\.weight$", 0.3),
    (r"(fpn_output3|layer_blocks\.1(\.0)?)\.weight$", 0.6),
    (r"(fpn_output4|layer_blocks\.2(\.0)?)\.weight$", 0.9),
    (r"(fpn_output5|layer_blocks\.3(\.0)?)\.weight$", 1.6),
    (r"(objectness_logits|rpn\.head\.cls_logits)\.weight$", 3.0),
    (r"(anchor_deltas|rpn\.head\.bbox_pred)\.weight$", 0.3),
    (r"box_head\.5\.weight$", 2.0),
    (r"cls_score\.weight$", 3.5),
    (r"(mask_head\.predictor|mask_fcn_logits)\.weight$", 4.0),
    (r"score_lowres\.weight$", 6.0),
)


def fill(name: str, shape: Iterable[int], dtype: str) -> Tensor:
    """The tensor that belongs to a name."""
    shape = tuple(shape)
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    rng = np.random.Generator(np.random.PCG64(seed))
    if name.endswith("num_batches_tracked"):
        values = np.zeros(shape)
    elif name.endswith("running_mean"):
        values = 0.05 * rng.standard_normal(shape)
    elif name.endswith("running_var"):
        values = rng.uniform(0.8, 1.2, shape)
    elif name.endswith("bias"):
        values = 0.02 * rng.standard_normal(shape)
        if name.endswith("cls_score.bias") and shape[0] > 2:
            values[BACKGROUND_ROW[shape[0]]] += BACKGROUND_BONUS
    elif len(shape) == 1:  # weight of a norm
        values = rng.uniform(0.8, 1.2, shape) * (0.2 if _LAST_NORM.search(name) else 1.0)
    else:
        values = rng.standard_normal(shape)
        values -= values.mean(axis=tuple(range(1, values.ndim)), keepdims=True)
        values *= (2.0 / math.prod(shape[1:])) ** 0.5
        values *= next((gain for pattern, gain in _GAINS if re.search(pattern, name)), 1.0)
    return torch.from_numpy(np.asarray(values)).to(getattr(torch, dtype))


def fill_all(spec: Spec) -> dict[str, Tensor]:
    """All tensors of a published file, in its order."""
    return {name: fill(name, shape, dtype) for name, shape, dtype in spec}


def digest(tensors: Mapping[str, Tensor]) -> str:
    """sha256 over the raw bytes of all tensors in order; where it differs, NumPy draws other numbers here."""
    out = hashlib.sha256()
    for tensor in tensors.values():
        out.update(tensor.contiguous().numpy().tobytes())
    return out.hexdigest()
