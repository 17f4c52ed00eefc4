"""Whether a polygon crosses itself, slowly: every pair of edges in exact fractions."""

from collections.abc import Sequence
from fractions import Fraction
from itertools import combinations

Point = tuple[Fraction, Fraction]


def crosses_itself(points: Sequence[Sequence[float]]) -> bool:
    """Whether two edges of the closed ring meet in one point inside both."""
    ring = [(Fraction(float(x)), Fraction(float(y))) for x, y in points]
    edges = [(a, b) for a, b in zip(ring, ring[1:] + ring[:1], strict=True) if a != b]
    return any(
        side(a, b, c) * side(a, b, d) < 0 and side(c, d, a) * side(c, d, b) < 0
        for (a, b), (c, d) in combinations(edges, 2)
    )


def side(a: Point, b: Point, p: Point) -> int:
    """-1, 0 or 1: right of, on, left of the line from a to b."""
    value = (b[0] - a[0]) * (p[1] - a[1]) - (b[1] - a[1]) * (p[0] - a[0])
    return (value > 0) - (value < 0)
