"""Selective search: boxes that may hold an object, from the image alone (Uijlings et al. 2013).

The image is cut into small regions of like colour; then the two neighbours that are most alike are joined, again and
again, until one region is left. The box around every region on the way is a proposal. How alike two regions are is the
sum of four measures: of their colours, their textures, their sizes (small ones first) and how well both fill the box
around them. The paper's "fast" form has eight such groupings: two colour spaces, two sizes of the first regions, with
the colours and without.

Deliberate differences: the second colour space is YCbCr instead of Lab; likeness is counted in whole numbers, so that
the boxes are the same on every machine; equally alike pairs are joined in the order of their numbers; the random
factors of the order of the boxes come from a fixed seed.

Letters: H W image, R regions, N boxes, D bins of a histogram.
"""

import heapq
from collections.abc import Sequence

import numpy as np
from PIL import Image
from scipy import ndimage

from maskwright.ops.graph_segments import graph_segments
from maskwright.types import FloatArray, ImageArray, IntArray, SearchSpec, Size

DEFAULT = SearchSpec()

ONE = 1 << 16
"""What each of the four measures is at most."""

COLOURS, TEXTURES = 25, 10
"""Bins of a colour channel, and of a derivative's values of one sign."""

STEEPEST = 64.0
"""Derivative of a channel, in grey levels a pixel, from which all are in the last bin."""

SPACES = ("HSV", "YCbCr")


def selective_search(image: ImageArray, spec: SearchSpec = DEFAULT) -> FloatArray:
    """Boxes (N, 4) xyxy in pixels of the image (H, W, 3) uint8 RGB, likely objects first on average, none twice.

    The boxes of a longer image than `spec.side` are scaled back. The same image always has the same boxes.
    """
    height, width = image.shape[:2]
    factor = min(1.0, spec.side / max(height, width))
    seen = image
    if factor < 1:
        small = (max(1, round(width * factor)), max(1, round(height * factor)))
        seen = np.asarray(Image.fromarray(image).resize(small, Image.Resampling.BOX))
    spaces = [np.asarray(Image.fromarray(seen).convert(space)) for space in SPACES]
    bins = [(_colour_bins(space), _texture_bins(space)) for space in spaces]
    found = []
    for segments in graph_segments(seen, spec.scales):
        first, pixels, borders = _first_boxes(segments), np.bincount(segments.ravel()), _borders(segments)
        for colour, texture in bins:
            described = _histograms(segments, colour), _histograms(segments, texture)
            found += [grouped(first, pixels, borders, used) for used in (described, described[1:])]
    return _ordered(found, (height, width), (seen.shape[0], seen.shape[1]), spec)


def _ordered(found: Sequence[IntArray], size: Size, seen: Size, spec: SearchSpec) -> FloatArray:
    """The boxes of all groupings once each, scaled to the image's size.

    Their order is that of their ranks, 1 for the last one that a grouping made, times random factors (section 3.3).
    """
    boxes, ranks = np.concatenate(found), np.concatenate([np.arange(len(own), 0, -1) for own in found])
    order = np.argsort(ranks * np.random.default_rng(0).random(len(ranks)), kind="stable")
    boxes = boxes[order]
    boxes = boxes[((boxes[:, 2:] - boxes[:, :2]) >= np.minimum(spec.least, seen[::-1])).all(axis=1)]
    _, first = np.unique(boxes, axis=0, return_index=True)
    kept = boxes[np.sort(first)[: spec.most]]
    factors = np.array([size[1] / seen[1], size[0] / seen[0]] * 2)
    scaled: FloatArray = (kept * factors).astype(np.float32)
    return scaled


# ---- what describes a region ----------------------------------------------------------------------------------------


def _colour_bins(image: ImageArray) -> IntArray:
    """(H, W, 3) the bin of each channel, of 3 x COLOURS."""
    bins: IntArray = image.astype(np.int64) * COLOURS // 256 + np.arange(3) * COLOURS
    return bins


def _texture_bins(image: ImageArray) -> IntArray:
    """(H, W, 12) the bin of each channel's derivative along four axes, of 12 x 2 x TEXTURES: a half for each sign.

    Derivatives of a Gaussian of sigma 1. Bins are equally wide in the square root of the derivative: most are small.
    """
    values = image.astype(np.float32)
    x, y = (ndimage.gaussian_filter(values, (1, 1, 0), order=order) for order in ((0, 1, 0), (1, 0, 0)))
    along = np.concatenate([x, y, (x + y) / np.sqrt(2), (x - y) / np.sqrt(2)], axis=2)
    strength = np.sqrt(np.minimum(np.abs(np.rint(along * 64)) / 64 / STEEPEST, 1))
    bins: IntArray = np.minimum((strength * TEXTURES).astype(np.int64), TEXTURES - 1)
    return bins + np.where(along < 0, TEXTURES, 0) + np.arange(12) * 2 * TEXTURES


def _histograms(segments: IntArray, bins: IntArray) -> IntArray:
    """(R, D) of the bins (H, W, n) in each region, in shares of `ONE`."""
    count, width = int(segments.max()) + 1, int(bins.max()) + 1
    rows = (segments[:, :, None] * width + bins).ravel()
    histograms = np.bincount(rows, minlength=count * width).reshape(count, width)
    shares: IntArray = histograms * ONE // histograms.sum(axis=1, keepdims=True)
    return shares


def _first_boxes(segments: IntArray) -> IntArray:
    """(R, 4) the box around each region."""
    slices = ndimage.find_objects(segments + 1)
    return np.array([(x.start, y.start, x.stop, y.stop) for y, x in slices], np.int64)


def _borders(segments: IntArray) -> IntArray:
    """(E, 2) the pairs of regions with pixels side by side, smaller number first."""
    sides = [(segments[:, :-1], segments[:, 1:]), (segments[:-1], segments[1:])]
    pairs = np.concatenate([np.stack([a.ravel(), b.ravel()], axis=1) for a, b in sides])
    pairs = np.sort(pairs[pairs[:, 0] != pairs[:, 1]], axis=1)
    borders: IntArray = np.unique(pairs, axis=0)
    return borders


# ---- joining --------------------------------------------------------------------------------------------------------


def grouped(boxes: IntArray, pixels: IntArray, borders: IntArray, described: Sequence[IntArray]) -> IntArray:
    """(2R - 1, 4) the boxes of R regions and of those that they are joined to, in the order in which they arise.

    boxes: (R, 4) whole numbers; pixels: (R,); borders: (E, 2) pairs of neighbours, of one connected whole. described:
    histograms (R, D), in shares of `ONE`; of how many a region has in common with another, the sum counts.
    """
    count, total = len(boxes), int(pixels.sum())
    histogram = np.zeros((2 * count - 1, sum(h.shape[1] for h in described)), np.int64)
    histogram[:count] = np.concatenate(described, axis=1)
    box, size = np.zeros((2 * count - 1, 4), np.int64), np.zeros(2 * count - 1, np.int64)
    box[:count], size[:count] = boxes, pixels

    def likeness(a: IntArray | int, b: IntArray) -> list[int]:
        shared = np.minimum(histogram[a], histogram[b]).sum(axis=1)
        both, corner, far = size[a] + size[b], np.minimum(box[a], box[b]), np.maximum(box[a], box[b])
        around = (far[:, 2] - corner[:, 0]) * (far[:, 3] - corner[:, 1])
        alike: list[int] = (shared + ONE - both * ONE // total + ONE - (around - both) * ONE // total).tolist()
        return alike

    neighbours: list[set[int]] = [set() for _ in range(2 * count - 1)]
    for a, b in borders.tolist():
        neighbours[a].add(b)
        neighbours[b].add(a)
    heap = [(-s, a, b) for s, (a, b) in zip(likeness(*borders.T), borders.tolist(), strict=True)]
    heapq.heapify(heap)
    alive = [True] * count + [False] * (count - 1)
    new = count
    while new < 2 * count - 1:
        _, a, b = heapq.heappop(heap)
        if not (alive[a] and alive[b]):
            continue
        size[new] = size[a] + size[b]
        box[new, :2], box[new, 2:] = np.minimum(box[a, :2], box[b, :2]), np.maximum(box[a, 2:], box[b, 2:])
        histogram[new] = (size[a] * histogram[a] + size[b] * histogram[b]) // size[new]
        alive[a], alive[b], alive[new] = False, False, True
        near = sorted((neighbours[a] | neighbours[b]) - {a, b})
        neighbours[new] = set(near)
        for other in near:
            neighbours[other] -= {a, b}
            neighbours[other].add(new)
        if near:
            for s, other in zip(likeness(new, np.array(near)), near, strict=True):
                heapq.heappush(heap, (-s, other, new))
        new += 1
    return box
