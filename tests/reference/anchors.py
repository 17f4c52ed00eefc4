"""Anchors cell by cell."""

import math


def grid(sizes, ratios, feature_size, stride):
    """Rows ordered (y, x, size, ratio)."""
    out = []
    for i in range(feature_size[0]):
        for j in range(feature_size[1]):
            x, y = j * stride[1], i * stride[0]
            for size in sizes:
                for ratio in ratios:
                    width, height = size / math.sqrt(ratio), size * math.sqrt(ratio)
                    out.append([x - width / 2, y - height / 2, x + width / 2, y + height / 2])
    return out
