"""RoIPool with plain loops. Slow and obvious."""

import math

from torch import Tensor


def nearest(value: float) -> int:
    """The nearest whole number, halves away from zero."""
    return int(math.copysign(math.floor(abs(value) + 0.5), value))


def roi_pool(features, boxes, batch_index, levels, scales, output_size) -> Tensor:
    """The same arguments and result as `maskwright.ops.roi_pool.roi_pool`."""
    out = features[0].new_zeros(len(boxes), features[0].shape[1], output_size, output_size)
    for r in range(len(boxes)):
        level = 0 if levels is None else int(levels[r])
        plane = features[level][int(batch_index[r])]
        x1, y1, x2, y2 = (nearest(float(v) * scales[level]) for v in boxes[r])
        height, width = max(y2 - y1 + 1, 1), max(x2 - x1 + 1, 1)
        for i in range(output_size):
            for j in range(output_size):
                top, bottom = y1 + i * height // output_size, y1 - (-(i + 1) * height // output_size)
                left, right = x1 + j * width // output_size, x1 - (-(j + 1) * width // output_size)
                part = plane[:, max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
                if part.numel():
                    out[r, :, i, j] = part.amax((1, 2))
    return out
