"""RoIPool: the largest value of each bin of whole cells, which RoIAlign replaced.

A box is rounded to whole cells and is at least one cell wide and high; its bins overlap by a cell where its side is no
multiple of their number; a bin outside the map is zero. torchvision's kernel does the work: a form of our own was not
faster.

Source: Girshick 2015, Fast R-CNN, section 2.1.
"""

from collections.abc import Sequence

import torchvision
from torch import Tensor

from maskwright.errors import ConfigError
from maskwright.ops.roi_align import by_torchvision, check_rois


def roi_pool(
    features: Sequence[Tensor],
    boxes: Tensor,
    batch_index: Tensor,
    levels: Tensor | None,
    scales: Sequence[float],
    output_size: int,
) -> Tensor:
    """Greatest feature in each bin of each box, (R, C, output_size, output_size), channels_last; empty bins are 0.

    features: L maps (B, C, h, w). boxes: (R, 4) xyxy in input pixels. batch_index: (R,) image of each box, whole
    numbers of any type. levels: (R,) map of each box, likewise; None where L is 1. scales: of each map, cells per input
    pixel. The gradient of a bin goes to the first of its greatest cells. Raises ConfigError for arguments that do not
    fit together.
    """
    batch_index, levels = check_rois("roi_pool", features, boxes, batch_index, levels, scales)
    if output_size < 1:
        raise ConfigError(f"roi_pool: output_size must be at least 1, got {output_size}.")
    return by_torchvision(torchvision.ops.roi_pool, features, boxes, batch_index, levels, scales, output_size)
