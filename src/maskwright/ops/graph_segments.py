"""Regions of an image by joining neighbouring pixels along a graph (Felzenszwalb and Huttenlocher 2004).

Two regions are joined where the least difference between them is no larger than the differences inside each, plus k
over its size. Differences are counted in steps of 1/64 grey level, so that equal ones are equal on every machine; they
are looked at in rising order, of one value those to the right first, then those below, in the order of the pixels.

Letters: H W image, N pixels, E pairs of neighbours.
"""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage, sparse
from scipy.sparse.csgraph import connected_components

from maskwright.types import DoubleArray, ImageArray, IntArray

Pairs = tuple[IntArray, IntArray, IntArray]
"""Two pixels (E,) and (E,), and how much they differ (E,)."""

STEPS = 64
"""Steps of a grey level in which differences are counted."""

CHUNK = 1 << 15
"""Pairs between two passes that sort out the pairs which cannot join anything any more."""


def graph_segments(image: ImageArray, scales: Sequence[float], sigma: float = 0.8) -> list[IntArray]:
    """(H, W, 3) uint8 to (H, W) the region of each pixel, 0..R-1, numbered from the top left, one map for each scale.

    scales: k; larger values give larger regions. k is that of the paper for values of 0..255, and also the number of
    pixels that a region has at least where the image has as many: smaller ones are joined to the neighbour that differs
    least. sigma: of the smoothing before, in pixels.
    """
    size = (image.shape[0], image.shape[1])
    a, b, cost = _pairs(image, sigma)
    order = np.argsort(cost, kind="stable")
    pairs = a[order], b[order], cost[order]
    flat = int(np.searchsorted(pairs[2], 1))  # pairs of difference 0 are joined whatever k is
    count = size[0] * size[1]
    graph = sparse.coo_array((np.ones(flat, np.bool_), (pairs[0][:flat], pairs[1][:flat])), (count, count))
    start = connected_components(graph, directed=False)[1].astype(np.int64)
    rest = pairs[0][flat:], pairs[1][flat:], pairs[2][flat:]
    out = []
    for k in scales:
        region, pixels = _joined(start, np.bincount(start), rest, k=k * STEPS)
        region, _ = _joined(region, pixels, rest, least=k)
        out.append(_numbered(region).reshape(size))
    return out


def _numbered(region: IntArray) -> IntArray:
    """The same regions, numbered in the order of their first pixels."""
    _, first, inverse = np.unique(region, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    numbered: IntArray = rank[inverse]
    return numbered


def _pairs(image: ImageArray, sigma: float) -> Pairs:
    """The E pairs of 8-neighbours, as rows of pixels (E,), and their differences (E,) in `STEPS`."""
    smooth = ndimage.gaussian_filter(image.astype(np.float32), (sigma, sigma, 0))
    height, width = image.shape[:2]
    index = np.arange(height * width).reshape(height, width)
    first, second, cost = [], [], []
    for rows, columns, other_rows, other_columns in (
        (slice(None), slice(None, -1), slice(None), slice(1, None)),  # right
        (slice(None, -1), slice(None), slice(1, None), slice(None)),  # below
        (slice(None, -1), slice(None, -1), slice(1, None), slice(1, None)),
        (slice(None, -1), slice(1, None), slice(1, None), slice(None, -1)),
    ):
        apart = smooth[rows, columns] - smooth[other_rows, other_columns]
        cost.append(np.rint(np.sqrt((apart * apart).sum(axis=2)) * STEPS).astype(np.uint16).ravel())  # sorted by radix
        first.append(index[rows, columns].ravel())
        second.append(index[other_rows, other_columns].ravel())
    return np.concatenate(first), np.concatenate(second), np.concatenate(cost)


def _joined(
    region: IntArray, pixels: IntArray, pairs: Pairs, k: float | None = None, least: float = 0
) -> tuple[IntArray, IntArray]:
    """Regions (N,) and their numbers of pixels (R,) after the joins along the pairs, which are in rising order.

    k: by the rule of the module. None: every pair joins whose regions differ and of which one has fewer than `least`
    pixels. A region that the rule refused takes no further pair, as all that follow differ at least as much: each chunk
    begins without the pairs of such regions.
    """
    pixels = pixels.copy()
    limit = np.full(len(pixels), np.inf) if k is None else k / pixels  # the most by which joined regions may differ
    for start in range(0, len(pairs[0]), CHUNK):
        a, b, cost = (part[start : start + CHUNK] for part in pairs)
        a, b = region[a], region[b]
        live = (a != b) & (limit[a] >= cost[0]) & (limit[b] >= cost[0])
        if k is None:
            live &= (pixels[a] < least) | (pixels[b] < least)
        if not live.any():
            continue
        own, local = np.unique(np.concatenate([a[live], b[live]]), return_inverse=True)
        first, second = local.reshape(2, -1).tolist()
        root, pixels[own], limit[own] = _chunk(first, second, cost[live].tolist(), pixels[own], limit[own], k, least)
        new = np.arange(len(pixels))
        new[own] = own[root]
        region = new[region]
    return region, pixels


def _chunk(
    first: list[int],
    second: list[int],
    cost: list[int],
    pixels: IntArray,
    limit: DoubleArray,
    k: float | None,
    least: float,
) -> tuple[IntArray, IntArray, DoubleArray]:
    """The joins along the pairs of a chunk, one after the other: for each region the one that it is part of now, and of
    that the pixels and the limit."""
    root, size, most = list(range(len(pixels))), pixels.tolist(), limit.tolist()
    for i, j, value in zip(first, second, cost, strict=True):
        while root[i] != i:
            root[i] = i = root[root[i]]
        while root[j] != j:
            root[j] = j = root[root[j]]
        if i == j or value > most[i] or value > most[j] or (k is None and size[i] >= least and size[j] >= least):
            continue
        if size[i] < size[j]:
            i, j = j, i
        root[j] = i
        size[i] += size[j]
        if k is not None:
            most[i] = value + k / size[i]
    roots = np.array(root)
    while (roots != roots[roots]).any():
        roots = roots[roots]
    return roots, np.array(size), np.array(most)
