"""Weights from names alone, as `fill`, with the gains that bring YOLACT's scores, boxes and masks into range.

Levels P5 and P4 are amplified, so that all levels find something; the last norm of a residual block is damped; the
class layer gets so much bias for the background that some 20 to 100 detections lie above 0.05.
"""

import hashlib
import math
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from tests.golden.fill import Spec
from torch import Tensor

_GAINS = (  # the first part found in the name counts
    ("conv_offset_mask", 0.1),
    ("pred_layers.0.", 3.0),
    ("pred_layers.1.", 2.0),
    ("conf_layer", 2.0),
    ("refine_convs", 0.3),
    ("pred1.conv.", 3.0),
    ("pred2.conv.", 3.0),
    ("pred3.conv.", 3.0),
    (".scale.weight", 0.3),
    (".bias.weight", 0.3),
)
_DAMPED_NORMS = ((("bn3.weight", "conv2.1.weight"), 0.2), ((".conv.2.weight", ".conv.3.weight"), 0.5))
_SMALL_FAN_IN = 27
"""Kernels of the first layer keep their mean."""


def fill_all(spec: Spec) -> dict[str, Tensor]:
    """All tensors of a published file, in its order."""
    shapes = {name: tuple(shape) for name, shape, _ in spec}
    return {
        name: torch.tensor(_values(name, shapes[name], shapes)).reshape(shapes[name]).to(getattr(torch, kind))
        for name, _, kind in spec
    }


def checksum(tensors: Mapping[str, Tensor]) -> NDArray[np.float64]:
    """Number of tensors, sum, sum of magnitudes, sum of squares: what the recordings tell of their weights."""
    flat = [tensor.double().flatten() for _, tensor in sorted(tensors.items())]
    sums = [sum(float(f(t)) for t in flat) for f in (torch.sum, lambda t: t.abs().sum(), lambda t: (t * t).sum())]
    return np.array([len(flat), *sums])


def _values(name: str, shape: tuple[int, ...], shapes: Mapping[str, tuple[int, ...]]) -> NDArray[np.float64]:
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    rng = np.random.Generator(np.random.PCG64(seed))
    if name.endswith(".num_batches_tracked"):
        return np.zeros(shape)
    if name.endswith(".running_mean"):
        return 0.05 * rng.standard_normal(shape)
    if name.endswith(".running_var"):
        return rng.uniform(0.8, 1.2, shape)
    if name.endswith(".bias"):
        return 0.02 * rng.standard_normal(shape) + _bias(name, shape, shapes)
    if len(shape) == 1:
        damped = next((factor for endings, factor in _DAMPED_NORMS if name.endswith(endings)), 1.0)
        return rng.uniform(0.8, 1.2, shape) * damped
    values, fan_in = rng.standard_normal(shape), math.prod(shape[1:])
    if fan_in > _SMALL_FAN_IN:
        values = values - values.mean(axis=tuple(range(1, len(shape))), keepdims=True)
    return values * math.sqrt(2.0 / fan_in) * next((gain for part, gain in _GAINS if part in name), 1.0)


def _bias(name: str, shape: tuple[int, ...], shapes: Mapping[str, tuple[int, ...]]) -> NDArray[np.float64] | float:
    """What is added to a bias: to the background's row of each prior, and 1 to what scales a map."""
    if name.endswith(".scale.bias"):
        return 1.0
    if not name.endswith("conf_layer.bias"):
        return 0.0
    priors = shapes[name.replace("conf_", "bbox_")][0] // 4
    coco_resnet = "backbone.conv1.weight" in shapes and shape[0] // priors == 81
    extra = np.zeros((priors, shape[0] // priors))
    extra[:, 0] = 20.0 if priors == 9 else 18.0 if coco_resnet else 15.0
    return extra.reshape(shape)
