"""The kinds of objects in synthetic scenes: their shapes, landmarks and colours.

Letters: P landmarks, n pixels of one object. An object has its own frame: the origin is its centre, the farthest point
of its outline lies at distance 1, its front points to -y and its left side to -x, seen from above with y downwards.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from maskwright.ops.polygons import PolygonPart, Ring
from maskwright.types import Classes, FloatArray, Landmarks

Array = NDArray[np.float64]
Pixels = NDArray[np.float32]

_PATTERNS = 4
_STEPS = 6  # points that replace one side of a control polygon


@dataclass(frozen=True, eq=False)
class Body:
    """One individual in its own frame: its outline with holes, and its landmarks (P, 2)."""

    part: PolygonPart
    points: Array


@dataclass(frozen=True, eq=False)
class Kind:
    """A kind of objects. grow: draws one individual."""

    landmarks: Landmarks
    grow: Callable[[np.random.Generator], Body]


def class_list(classes: int) -> Classes:
    """`classes` labels with their landmarks: beetle, ring, star, ..., then "beetle 2", ..."""
    return Classes(numbered(list(KINDS), classes), landmarks=[kind_of(label).landmarks for label in range(classes)])


def numbered(names: Sequence[str], count: int) -> list[str]:
    """`count` names: the given ones, then the same with 2, 3, ... behind them."""
    return [names[k % len(names)] + (f" {k // len(names) + 1}" if k >= len(names) else "") for k in range(count)]


def kind_of(label: int) -> Kind:
    """The kind of a label; the kinds repeat."""
    return list(KINDS.values())[label % len(KINDS)]


# ---- outlines -------------------------------------------------------------------------------------------------------


def _smooth(control: Array) -> Ring:
    """A closed uniform Catmull-Rom curve through all control points, _STEPS points for each, itself first."""
    before, after, second = (np.roll(control, -k, axis=0) for k in (-1, 1, 2))
    t = (np.arange(_STEPS) / _STEPS)[None, :, None]
    a, b, c, d = (p[:, None] for p in (before, control, after, second))
    curve = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
    return np.asarray(curve.reshape(-1, 2))


def _both_sides(right: Array, rng: np.random.Generator) -> Array:
    """A mirror-symmetric control polygon, from its right half from front to back, with random proportions."""
    right = right * [rng.uniform(0.8, 1.25), 1.0] + rng.uniform(-0.04, 0.04, right.shape)
    right[[0, -1], 0] = 0.0
    return np.concatenate([right, right[-2:0:-1] * [-1.0, 1.0]])


def _body(outer: Ring, points: Array, *holes: Ring) -> Body:
    """The individual, scaled so that its farthest outline point is at distance 1 from the origin."""
    scale = 1.0 / np.hypot(outer[:, 0], outer[:, 1]).max()
    return Body(PolygonPart(outer * scale, tuple(h * scale for h in holes)), points * scale)


def _symmetric(right: list[tuple[float, float]], marks: list[int], *, smooth: bool) -> Callable[..., Body]:
    """A symmetric kind from its right half. marks: the landmarks in the control polygon, clockwise from the front."""
    half = np.array(right)

    def grow(rng: np.random.Generator) -> Body:
        control = _both_sides(half, rng)
        return _body(_smooth(control) if smooth else control, control[marks])

    return grow


_BEETLE = [(0, -1), (0.22, -0.86), (0.13, -0.6), (0.46, -0.4), (0.56, 0.1), (0.4, 0.7), (0, 0.95)]
_FISH = [(0, -1), (0.2, -0.65), (0.27, -0.3), (0.62, 0.1), (0.2, 0.1), (0.09, 0.55), (0.4, 1.0), (0, 0.8)]
_STAR = [(0, -1.1), (0.2, -0.28), (0.85, -0.3), (0.34, 0.12), (0.55, 0.82), (0, 0.4)]
_PLANE = [
    (0, -1), (0.13, -0.75), (0.15, -0.3), (0.95, 0.15), (0.9, 0.32), (0.15, 0.15), (0.1, 0.68), (0.38, 0.88),
    (0.36, 0.97), (0, 0.9),
]  # fmt: skip
_HORSESHOE = [
    (0, -0.9), (0.62, -0.62), (0.85, 0.05), (0.62, 0.85), (0.28, 0.78), (0.42, 0.05), (0.26, -0.38), (0, -0.5),
]  # fmt: skip
_LEAF = [(0, -1), (0.3, -0.6), (0.44, -0.1), (0.32, 0.35), (0.07, 0.62), (0.06, 1.0), (0, 1.02)]


def _ring(rng: np.random.Generator) -> Body:
    """An oval ring with a bead at its front."""
    angles: Array = np.linspace(0.0, 2 * np.pi, 40, endpoint=False)
    away = (angles + np.pi) % (2 * np.pi) - np.pi  # from the front
    wave = 1 + 0.05 * np.sin(3 * angles + rng.uniform(0, 6.28)) + 0.28 * np.exp(-((away / 0.22) ** 2))
    shape = np.stack([np.sin(angles), -np.cos(angles)], axis=1) * [rng.uniform(0.72, 1.0), 1.0]
    outer = shape * wave[:, None]
    return _body(outer, outer[[0, 20]], shape * rng.uniform(0.42, 0.64))


def _key(rng: np.random.Generator) -> Body:
    """A bow with a hole, a shaft, and teeth on one side; it is mirrored at random, so it has no left and right."""
    angles = np.radians(np.arange(20.0, 341.0, 20.0)) + np.pi  # round the bow, from the shaft to the shaft
    bow = np.stack([np.sin(angles), -np.cos(angles)], axis=1)
    bow[:, 0] *= rng.uniform(0.8, 1.1)
    centre, radius, wide = np.array([0.0, -0.6]), 0.4, rng.uniform(0.1, 0.14)
    deep, first = rng.uniform(0.2, 0.32), rng.uniform(0.5, 0.6)
    shaft = [(-wide, 1.0), (wide, 1.0), (wide, 0.92), (wide + deep, 0.92), (wide + deep, 0.8), (wide, 0.8)]
    shaft += [(wide, first + 0.12), (wide + deep * 0.7, first + 0.12), (wide + deep * 0.7, first), (wide, first)]
    outer = np.concatenate([centre + radius * bow, np.array(shaft)[::-1]])
    points = np.array([[0.0, -0.6 - radius * 0.98], [0.0, 0.98], [wide + deep * 0.9, 0.86]])
    side = np.array([rng.choice([-1.0, 1.0]), 1.0])
    return _body(outer * side, points * side, (centre + radius * rng.uniform(0.4, 0.6) * bow) * side)


KINDS: Mapping[str, Kind] = MappingProxyType({
    "beetle": Kind(Landmarks(("nose", "tail", "left shoulder", "right shoulder", "left hip", "right hip"),
                             ((0, 2), (0, 3), (2, 4), (3, 5), (4, 1), (5, 1))),
                   _symmetric(_BEETLE, [0, 6, 9, 3, 7, 5], smooth=True)),
    "ring": Kind(Landmarks(("bead", "back")), _ring),
    "star": Kind(Landmarks(("head", "left arm", "right arm", "left foot", "right foot", "crotch"),
                           ((0, 5), (1, 5), (2, 5), (3, 5), (4, 5))),
                 _symmetric(_STAR, [0, 8, 2, 6, 4, 5], smooth=False)),
    "fish": Kind(Landmarks(("nose", "left fin", "right fin", "left tail", "right tail"),
                           ((0, 1), (0, 2), (0, 3), (0, 4))),
                 _symmetric(_FISH, [0, 11, 3, 8, 6], smooth=True)),
    "plane": Kind(Landmarks(("nose", "left wing", "right wing", "left elevator", "right elevator", "rudder"),
                            ((0, 1), (0, 2), (0, 5), (3, 5), (4, 5))),
                  _symmetric(_PLANE, [0, 15, 3, 11, 7, 9], smooth=False)),
    "horseshoe": Kind(Landmarks(("bend", "left end", "right end"), ((0, 1), (0, 2))),
                      _symmetric(_HORSESHOE, [0, 11, 3], smooth=True)),
    "leaf": Kind(Landmarks(("tip", "stalk", "left edge", "right edge"), ((0, 1),)),
                 _symmetric(_LEAF, [0, 6, 10, 2], smooth=True)),
    "key": Kind(Landmarks(("bow", "end", "tooth"), ((0, 1), (1, 2))), _key),
})  # fmt: skip
"""Name -> kind, in label order; classes beyond the last repeat the kinds with another pattern."""


# ---- colours --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Paint:
    """The colours of one individual. base, accent: RGB 0..255. pattern: 0..3. wave: (4,) phases, scale."""

    base: FloatArray
    accent: FloatArray
    pattern: int
    wave: FloatArray

    def pixels(self, u: Pixels, v: Pixels) -> Pixels:
        """(n, 3) colours at the points u, v (n,) of the object's own frame."""
        phase, other, scale = self.wave[:3]
        if self.pattern == 0:  # soft blotches
            mark = np.sin(scale * 0.6 * u + phase) * np.sin(scale * 0.6 * v + other)
        elif self.pattern == 1:  # bands
            mark = np.sin(scale * v + phase) * 1.6
        elif self.pattern == 2:  # spots
            mark = np.sin(scale * u + phase) * np.sin(scale * v + other) * 4 - 1.4
        else:  # rings around the centre
            mark = np.sin(scale * 1.2 * np.hypot(u, v) + phase) * 1.6
        share = np.clip(mark, -1, 1)
        share *= 0.5
        share += 0.5
        return np.asarray(self.base + share[:, None] * (self.accent - self.base), np.float32)


def paint(rng: np.random.Generator, label: int, jitter: float) -> Paint:
    """Colours of a new individual. The hues of the classes are a golden angle apart, +- `jitter` of the colour wheel.

    The first eight classes have blotches, the next eight bands, then spots, then rings; classes beyond these 32 repeat
    shapes and patterns with other hues.
    """
    group, turn = divmod(label, len(KINDS) * _PATTERNS)
    hue = turn % len(KINDS) * 0.618 + group * 0.236 + rng.uniform(-jitter, jitter)
    base = _rgb(hue) * rng.uniform(110, 235)
    accent = _rgb(hue + rng.uniform(-0.06, 0.06)) * rng.uniform(110, 235) * rng.uniform(0.45, 0.85)
    wave = np.array([*rng.uniform(0, 2 * np.pi, 2), rng.uniform(6, 11), 0.0], np.float32)
    return Paint(base.astype(np.float32), accent.astype(np.float32), turn // len(KINDS), wave)


def _rgb(hue: float) -> Array:
    wheel = np.abs((hue % 1.0 * 6 + np.array([0.0, 4.0, 2.0])) % 6 - 3) - 1
    return np.asarray(0.3 + 0.7 * np.clip(wheel, 0, 1))
