"""Graph segmentation and the grouping of selective search with plain loops. Slow and obvious."""

import math

import numpy as np
from scipy import ndimage

ONE, STEPS = 1 << 16, 64


def graph_segments(image, k, sigma=0.8):
    """The labels (H, W) of one scale."""
    height, width, _ = image.shape
    smooth = ndimage.gaussian_filter(image.astype(np.float32), (sigma, sigma, 0)).astype(np.float64)
    pairs = []
    for direction, (down, right) in enumerate([(0, 1), (1, 0), (1, 1), (1, -1)]):
        for y in range(height - down):
            for x in range(width):
                if 0 <= x + right < width:
                    apart = math.dist(smooth[y, x], smooth[y + down, x + right])
                    pairs.append((round(apart * STEPS), direction, y, x, (y + down, x + right)))
    region = {(y, x): (y, x) for y in range(height) for x in range(width)}
    inner = dict.fromkeys(region, 0)

    def pixels(name):
        return sum(1 for own in region.values() if own == name)

    def join(a, b):
        for place, own in region.items():
            if own == b:
                region[place] = a

    for cost, _, y, x, other in sorted(pairs):
        a, b = region[y, x], region[other]
        if a != b and cost <= min(inner[one] + k * STEPS / pixels(one) for one in (a, b)):
            join(a, b)
            inner[a] = cost
    for _, _, y, x, other in sorted(pairs):
        a, b = region[y, x], region[other]
        if a != b and min(pixels(a), pixels(b)) < k:
            join(a, b)
    names = list(dict.fromkeys(region.values()))
    return np.array([[names.index(region[y, x]) for x in range(width)] for y in range(height)])


def grouped(boxes, pixels, borders, described):
    """The same arguments and result as `ops.selective_search.grouped`, from all pairs anew at every step."""
    boxes, pixels = [list(map(int, box)) for box in boxes], [int(n) for n in pixels]
    bins = [[int(v) for histogram in described for v in histogram[r]] for r in range(len(boxes))]
    pairs, total, alive = {tuple(map(int, pair)) for pair in borders}, sum(pixels), set(range(len(boxes)))

    def around(a, b):
        low = [min(boxes[a][i], boxes[b][i]) for i in (0, 1)]
        return low + [max(boxes[a][i], boxes[b][i]) for i in (2, 3)]

    def alike(a, b):
        x1, y1, x2, y2 = around(a, b)
        both = pixels[a] + pixels[b]
        shared = sum(min(v, w) for v, w in zip(bins[a], bins[b], strict=True))
        return shared + ONE - both * ONE // total + ONE - ((x2 - x1) * (y2 - y1) - both) * ONE // total

    while len(alive) > 1:
        a, b = min(sorted(pairs), key=lambda pair: -alike(*pair))
        new, both = len(boxes), pixels[a] + pixels[b]
        boxes.append(around(a, b))
        bins.append([(pixels[a] * v + pixels[b] * w) // both for v, w in zip(bins[a], bins[b], strict=True)])
        pixels.append(both)
        pairs = {tuple(new if r in (a, b) else r for r in pair) for pair in pairs}
        pairs = {(min(pair), max(pair)) for pair in pairs if pair[0] != pair[1]}
        alive = alive - {a, b} | {new}
    return np.array(boxes)
