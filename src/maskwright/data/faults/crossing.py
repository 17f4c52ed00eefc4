"""Whether a polygon crosses itself: exact, without rounding.

Letters: n corners and edges of one ring, C candidate pairs of edges. Edge i runs from corner i to corner i + 1.
A crossing is where the ring passes from one side of itself to the other. Touching is no crossing: outlines of pixels
meet in corners, and thin spikes run back along their own edge.
"""

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from maskwright.types import IntArray

Points = NDArray[np.float64]
_CHUNK = 1_000_000  # candidate pairs looked at together
_ROUNDING = 16 * np.finfo(np.float64).eps  # bounds the error of an orientation computed in float64, times its terms


def crosses_itself(points: Points) -> bool:
    """points: (n, 2) x, y of a closed ring, finite; the first point may be repeated at the end."""
    ring = np.asarray(points, np.float64)
    ring = ring[(ring != np.roll(ring, 1, axis=0)).any(axis=1)]  # without points that repeat the one before
    n = len(ring)
    if n < 4:
        return False
    a, b = ring, np.roll(ring, -1, axis=0)
    low, high = np.minimum(a, b), np.maximum(a, b)
    order = np.argsort(low[:, 0], kind="stable")
    stop = np.searchsorted(low[order, 0], high[order, 0], side="right")  # edges that begin before this one ends
    count = np.maximum(stop - np.arange(n) - 1, 0)
    begin = 0
    while begin < n:
        end = int(np.searchsorted(np.cumsum(count[begin:]), _CHUNK, side="right")) + begin
        end = min(max(end, begin + 1), n)
        if _any_crossing(ring, *_pairs(order, count, begin, end, low, high)):
            return True
        begin = end
    return False


def _pairs(
    order: IntArray, count: IntArray, begin: int, end: int, low: Points, high: Points
) -> tuple[IntArray, IntArray]:
    """Edges of each candidate pair, (C,) each: their rectangles meet and they are not neighbours in the ring."""
    n, own = len(order), count[begin:end]
    first = np.repeat(np.arange(begin, end), own)
    second = first + 1 + np.arange(len(first)) - np.repeat(np.cumsum(own) - own, own)
    i, j = order[first], order[second]
    meet = (low[i, 1] <= high[j, 1]) & (low[j, 1] <= high[i, 1])
    i, j = i[meet], j[meet]
    apart = (i - j) % n
    far = (apart != 1) & (apart != n - 1)
    return i[far], j[far]


def _any_crossing(ring: Points, i: IntArray, j: IntArray) -> bool:
    if len(i) == 0:
        return False
    a, b, c, d = ring[i], ring[(i + 1) % len(ring)], ring[j], ring[(j + 1) % len(ring)]
    sides = np.stack([_side(a, b, c), _side(a, b, d), _side(c, d, a), _side(c, d, b)])  # (4, C)
    sure = (np.abs(sides) == 1).all(axis=0)
    if (sure & (sides[0] != sides[1]) & (sides[2] != sides[3])).any():
        return True
    apart = ((sides[0] == sides[1]) & (np.abs(sides[0]) == 1)) | ((sides[2] == sides[3]) & (np.abs(sides[2]) == 1))
    i, j = i[~sure & ~apart], j[~sure & ~apart]
    near = np.concatenate([np.roll(ring, -k, axis=0) for k in range(3)], axis=1)  # all that decides about an edge
    kind = np.unique(near, axis=0, return_inverse=True)[1].reshape(-1)
    _, first = np.unique(kind[i] * len(ring) + kind[j], return_index=True)  # a ring may run around many times
    return any(_crosses_exactly(ring, int(p), int(q)) for p, q in zip(i[first], j[first], strict=True))


def _side(a: Points, b: Points, p: Points) -> NDArray[np.int8]:
    """On which side of the line a, b point p lies: -1 or 1 where that is sure, 0 where rounding could change it."""
    left, right = (b[:, 0] - a[:, 0]) * (p[:, 1] - a[:, 1]), (b[:, 1] - a[:, 1]) * (p[:, 0] - a[:, 0])
    value = left - right
    return np.where(np.abs(value) > _ROUNDING * (np.abs(left) + np.abs(right)), np.sign(value), 0).astype(np.int8)


def _crosses_exactly(ring: Points, i: int, j: int) -> bool:
    """The few pairs that touch or nearly touch, in exact fractions."""
    n = len(ring)
    a, b, c, d = ring[i], ring[(i + 1) % n], ring[j], ring[(j + 1) % n]
    s, t, u, v = _sign(a, b, c), _sign(a, b, d), _sign(c, d, a), _sign(c, d, b)
    if s * t < 0 and u * v < 0:
        return True
    # A corner on the other edge: does the ring change sides there? Looked at once, for the edge that ends in it.
    if u * v < 0 and t == 0:  # d strictly inside edge i
        return _passes(ring, i, i + 1, (j + 1) % n)
    if s * t < 0 and v == 0:  # b strictly inside edge j
        return _passes(ring, j, j + 1, (i + 1) % n)
    if (b == d).all():  # both edges end in one point: two corners of the ring meet there
        return _corners_cross(ring, (i + 1) % n, (j + 1) % n)
    return False


def _passes(ring: Points, begin: int, end: int, corner: int) -> bool:
    n = len(ring)
    a, b = ring[begin % n], ring[end % n]
    before, after = _sign(a, b, ring[corner - 1]), _sign(a, b, ring[(corner + 1) % n])
    return before * after < 0


def _corners_cross(ring: Points, p: int, q: int) -> bool:
    """Whether the ring, which visits one point as corners p and q, changes sides of itself there."""
    n = len(ring)
    centre, one, two = ring[p], ring[p - 1], ring[(p + 1) % n]
    inside = [_in_turn(centre, one, two, other) for other in (ring[q - 1], ring[(q + 1) % n])]
    return None not in inside and inside[0] != inside[1]


def _in_turn(o: Points, one: Points, two: Points, other: Points) -> bool | None:
    """Whether ray o-other lies in the turn from o-one (positively) to o-two; None where it runs along one of them."""
    first, second, whole = _sign(o, one, other), _sign(o, other, two), _sign(o, one, two)
    along = (first == 0 and _ahead(o, one, other)) or (second == 0 and _ahead(o, two, other))
    if along:
        return None
    if whole > 0:
        return first > 0 and second > 0
    if whole < 0:
        return not (first < 0 and second < 0)
    return first > 0 if not _ahead(o, one, two) else None


def _ahead(o: Points, a: Points, b: Points) -> bool:
    return bool((a - o) @ (b - o) > 0)


def _sign(a: Points, b: Points, p: Points) -> int:
    ax, ay, bx, by, px, py = (Fraction(float(v)) for v in (*a, *b, *p))
    value = (bx - ax) * (py - ay) - (by - ay) * (px - ax)
    return (value > 0) - (value < 0)
