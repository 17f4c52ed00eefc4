"""How recorded and own numbers are held against each other."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from torch import Tensor

BOX_PX = 0.05
SCORE = 1e-3
MASK_IOU = 0.99
VALUES = 1e-3  # of the deviation of the whole tensor


def mask_ious(recorded: Sequence[bytes], own: Sequence[dict[str, Any]]) -> NDArray[np.float64]:
    """IoU of each recorded run-length encoding with the own one beside it; 1 where both are empty."""
    out = np.ones(len(recorded))
    for i, (counts, rle) in enumerate(zip(recorded, own, strict=True)):
        pair = [{"size": rle["size"], "counts": counts}, rle]
        if coco_mask.area(pair).any():
            out[i] = coco_mask.iou(pair[:1], pair[1:], [0])[0, 0]
    return out


def assert_values(own: Tensor, recorded: NDArray[Any], deviation: float, what: str, limit: float = VALUES) -> None:
    """Every value within `limit` deviations of the recorded one."""
    own_values = own.detach().float().cpu().numpy()
    assert own_values.shape == recorded.shape, f"{what}: {own_values.shape}, recorded {recorded.shape}"
    worst = np.abs(own_values - recorded).max(initial=0)
    assert worst <= limit * deviation, f"{what}: off by {worst:.3g}, allowed are {limit:g} of {deviation:.3g}"


def assert_stats(own: Tensor, stats: NDArray[Any], what: str, limit: float = VALUES) -> None:
    """Mean, deviation and norm of a whole tensor as recorded."""
    values = own.detach().double()
    mean, deviation, norm = stats.tolist()
    found = (values.mean().item(), values.std(correction=0).item(), values.norm().item())
    for name, value, wanted, scale in zip(
        ("mean", "deviation", "norm"), found, (mean, deviation, norm), (deviation, deviation, norm), strict=True
    ):
        assert abs(value - wanted) <= limit * scale, f"{what}: {name} {value:.6g}, recorded {wanted:.6g}"


def rows_as_recorded(logits: Tensor, background_first: bool) -> Tensor:
    """Class logits (R, Q+1), ours with the background last, in the order of the publisher."""
    return logits.roll(1, dims=1) if background_first else logits
