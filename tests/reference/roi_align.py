"""RoIAlign with plain loops: every sample on its own, four corners each. Slow and obvious."""

import math

from torch import Tensor


def bilinear(plane: Tensor, y: float, x: float) -> Tensor:
    """(C,) value of (C, h, w) at (y, x); zero more than one cell outside, edges repeated within that cell."""
    _, h, w = plane.shape
    if not (-1 <= y <= h and -1 <= x <= w):
        return plane.new_zeros(plane.shape[0])
    y, x = min(max(y, 0.0), h - 1), min(max(x, 0.0), w - 1)
    top, left = math.floor(y), math.floor(x)
    bottom, right = min(top + 1, h - 1), min(left + 1, w - 1)
    dy, dx = y - top, x - left
    above = plane[:, top, left] * (1 - dx) + plane[:, top, right] * dx
    below = plane[:, bottom, left] * (1 - dx) + plane[:, bottom, right] * dx
    return above * (1 - dy) + below * dy


def roi_align(features, boxes, batch_index, levels, scales, output_size, sampling_ratio=2, aligned=True) -> Tensor:
    """The same arguments and result as `maskwright.ops.roi_align.roi_align`."""
    out = features[0].new_zeros(len(boxes), features[0].shape[1], output_size, output_size)
    for r in range(len(boxes)):
        level = 0 if levels is None else int(levels[r])
        plane = features[level][int(batch_index[r])]
        x1, y1, x2, y2 = (float(v) * scales[level] - (0.5 if aligned else 0.0) for v in boxes[r])
        width, height = x2 - x1, y2 - y1
        if not aligned:
            width, height = max(width, 1.0), max(height, 1.0)
        step_y, step_x = height / output_size, width / output_size
        count_y, count_x = sampling_ratio or math.ceil(step_y), sampling_ratio or math.ceil(step_x)
        for i in range(output_size):
            for j in range(output_size):
                for a in range(count_y):
                    for b in range(count_x):
                        y = y1 + (i + (a + 0.5) / count_y) * step_y
                        x = x1 + (j + (b + 0.5) / count_x) * step_x
                        out[r, :, i, j] += bilinear(plane, y, x) / (count_y * count_x)
    return out
