"""Clips: objects cross the view of a moving camera, with exact optical flow.

Letters: N visible objects, H W image, t frame index. The world is the frame in which the ground rests; the camera
matrix maps it to the image. All motion is a closed form of t, so a clip of any length needs the memory of two frames.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, fields

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maskwright.codec import Section, ranged
from maskwright.data.synthetic.ground import Ground, lay
from maskwright.data.synthetic.kinds import Array
from maskwright.data.synthetic.scenes import Actor, Canvas, Look, Scene, back, check, move, pose, rasterise, then
from maskwright.errors import ConfigError
from maskwright.types import BoolArray, FloatArray, Size

_ZOOM, _ROLL, _PAN = 0.16, 0.07, (0.22, 0.12)  # of the camera at strength 1: log zoom, radians, shares of width, height
_FOREVER = 1e6  # frames after which an object that does not move leaves


@dataclass(frozen=True)
class Motion(Section):
    """The motion of a clip.

    speed: of the objects, in short edges of the image per frame. spin: largest rotation of an object per frame,
    radians. growth: relative amplitude of an object's size. camera: amplitude of pan, zoom and roll; 0: no motion.
    period: frames of the main oscillation of the camera.
    """

    speed: float = ranged(0.012, low=0)
    spin: float = ranged(0.03, low=0)
    growth: float = ranged(0.2, low=0, high=1, open_high=True)
    camera: float = ranged(1.0, low=0, high=3)  # the ground must cover what it sees
    period: float = ranged(240.0, low=0, open_low=True)


@dataclass(frozen=True, eq=False)
class ClipScene(Scene):
    """One frame of a clip; `instances.track_ids` name its objects, the same in every frame.

    A hidden or departed object is not listed. index: 0, 1, ... camera: (2, 3), world to image. moves: by segment of
    the panoptic map, in its order, the (2, 3) matrix from this frame's pixels to the previous frame's.
    """

    index: int = 0
    camera: Array = field(default_factory=lambda: np.zeros((2, 3)))
    moves: Array = field(default_factory=lambda: np.zeros((0, 2, 3)))
    before: NDArray[np.int32] | None = None

    def flow(self) -> tuple[FloatArray, BoolArray]:
        """Backward flow (H, W, 2) float32 x, y and where it is valid (H, W) bool.

        The surface at a pixel's centre p was at p + flow in the previous frame. Valid where that place was in the
        image and its pixel has the same segment; elsewhere the surface was hidden, outside, or so close to a border
        that its pixel shows another segment. In the first frame nothing is valid.
        """
        height, width = self.panoptic.size
        rows = {s.id: k for k, s in enumerate(self.panoptic.segments)}
        table = np.zeros(max(rows) + 1, np.int64)
        table[list(rows)] = list(rows.values())
        change = (self.moves - np.eye(2, 3)).astype(np.float32)  # (segments, 2, 3)
        per_pixel = change.take(table.take(self.panoptic.ids), axis=0)  # (H, W, 2, 3)
        x, y = np.arange(width, dtype=np.float32) + 0.5, np.arange(height, dtype=np.float32)[:, None] + 0.5
        flow = per_pixel[..., 0] * x[:, None] + per_pixel[..., 1] * y[:, :, None] + per_pixel[..., 2]
        if self.before is None:
            return flow, np.zeros((height, width), np.bool_)
        column, row = np.floor(flow[..., 0] + x).astype(np.int64), np.floor(flow[..., 1] + y).astype(np.int64)
        valid = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        at = np.where(valid, row * width + column, 0)
        return flow, valid & (self.before.reshape(-1).take(at) == self.panoptic.ids)


def clip(
    seed: int,
    frames: int,
    size: Size = (240, 320),
    objects: int = 8,
    classes: int = 5,
    look: Look | None = None,
    motion: Motion | None = None,
) -> Iterator[ClipScene]:
    """The frames of a clip, made one by one; the same arguments give the same clip, and more frames continue it.

    objects: the number in motion at any time; one that has left the view is replaced by a new one that enters. Some
    may be outside the view or hidden. look.occlusion does not apply: occlusion follows from the motion.
    Raises ConfigError, before the first frame, for what `scenes.compose` refuses and a negative number of frames.
    """
    check(size, objects, classes)
    if frames < 0:
        raise ConfigError(f"A clip has 0 frames or more, got {frames}.")
    return _play(seed, frames, _Stage(seed, size, objects, classes, look or Look(), motion or Motion()))


def _play(seed: int, frames: int, stage: "_Stage") -> Iterator[ClipScene]:
    before = None
    for t in range(frames):
        frame = stage.frame(t, before, np.random.default_rng([seed, 2, t]))
        before = frame.panoptic.ids
        yield frame


# ---- the camera -----------------------------------------------------------------------------------------------------


class _Camera:
    """Pan, zoom and roll as slow oscillations around the middle of a ground that is large enough for all of them."""

    def __init__(self, rng: np.random.Generator, size: Size, motion: Motion) -> None:
        self.size, self.strength = size, motion.camera
        self.rate = 2 * np.pi / (motion.period * rng.uniform((0.8, 0.8, 1, 1), (1.2, 1.2, 1.6, 1.6)))
        self.phase = rng.uniform(0, 2 * np.pi, (2, 4))
        half = np.array([size[1], size[0]]) / 2
        roll = min(_ROLL * self.strength, np.pi / 2)
        seen = np.array([half[0] + half[1] * np.sin(roll), half[1] + half[0] * np.sin(roll)])
        reach = seen * np.exp(_ZOOM * self.strength) + np.array(_PAN) * self.strength * 2 * half
        self.middle = np.ceil(reach) + 2 if self.strength else half
        self.ground: Size = (round(2 * float(self.middle[1])), round(2 * float(self.middle[0])))

    def at(self, t: float) -> Array:
        """(2, 3) world to image, at any time."""
        swing = 0.75 * np.sin(self.rate * t + self.phase[0]) + 0.25 * np.sin(2.3 * self.rate * t + self.phase[1])
        swing = swing * self.strength
        zoom, turn = np.exp(_ZOOM * swing[2]), _ROLL * swing[3]
        looks_at = self.middle + np.array(_PAN) * swing[:2] * [self.size[1], self.size[0]]
        matrix = pose(0.0, 0.0, zoom, turn)
        matrix[:, 2] = [self.size[1] / 2, self.size[0] / 2] - matrix[:, :2] @ looks_at
        return matrix


# ---- the objects ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Life:
    """The path of one object through the world, a quadratic Bezier curve: `done` of it at `born`, `pace` per frame."""

    actor: Actor
    depth: float
    born: int
    done: float
    pace: float
    path: Array  # (3, 2) control points in the world
    radius: float
    turn: tuple[float, float]  # at frame 0, a frame
    swing: tuple[float, float, float]  # of the size: share, a frame, phase

    def way(self, t: float) -> float:
        """The share of its path that is done; at 1 it has left."""
        return self.done + self.pace * (t - self.born)

    def pose(self, t: float) -> Array:
        """(2, 3) own frame to world."""
        s = self.way(t)
        x, y = self.path.T @ np.array([(1 - s) ** 2, 2 * s * (1 - s), s**2])
        share, rate, phase = self.swing
        radius = self.radius * (1 + share * np.sin(rate * t + phase))
        return pose(x, y, radius, self.turn[0] + self.turn[1] * t)


class _Stage:
    """The ground, the camera and the moving objects; frames must be requested in order."""

    def __init__(self, seed: int, size: Size, objects: int, classes: int, look: Look, motion: Motion) -> None:
        self.size, self.classes, self.look, self.motion = size, classes, look, motion
        self.rng = np.random.default_rng([seed, 1])
        self.camera = _Camera(self.rng, size, motion)
        self.lamp = self.rng.uniform(0, 2 * np.pi)
        ground = lay(self.rng, self.camera.ground, look.stuff, min(size))
        self.stuff = ground.stuff
        self.image = ground.image if not motion.camera else np.clip(np.rint(ground.image), 0, 255).astype(np.uint8)
        self.born = 0
        crowd = max(1.0, (objects / 8) ** 0.5)
        self.radii = tuple(max(0.75, r * min(size) / crowd) for r in look.radius)
        self.lives = [self._enter(0, self.rng.uniform(0.2, 0.8)) for _ in range(objects)]

    def frame(self, t: int, before: NDArray[np.int32] | None, rng: np.random.Generator) -> ClipScene:
        """ClipScene t. before: the panoptic ids of the previous one."""
        self.lives = [life if life.way(t) < 1 else self._enter(t, 0.0) for life in self.lives]
        camera, earlier = self.camera.at(t), self.camera.at(t - 1)
        ground = self._ground(camera)
        canvas = Canvas(ground.image, self.look, self.lamp)
        lives = sorted(self.lives, key=lambda life: life.depth)
        for life in lives:
            matrix = then(life.pose(t), camera)
            canvas.add(life.actor, matrix, rasterise(life.actor.body, matrix, self.size))
        scene = canvas.develop(rng, ground.stuff, self.classes, tracks=True)
        rest = then(back(camera), earlier)
        moved = {
            self.look.stuff + life.actor.track: then(back(then(life.pose(t), camera)), then(life.pose(t - 1), earlier))
            for life in lives
        }
        moves = np.array([moved.get(s.id, rest) for s in scene.panoptic.segments])
        parts = {f.name: getattr(scene, f.name) for f in fields(scene)}
        return ClipScene(**parts, index=t, camera=camera, moves=moves, before=before)

    def _ground(self, camera: Array) -> Ground:
        """The ground as the camera sees it: stuff from the pixel under each centre, colours between pixels."""
        if not self.motion.camera:
            return Ground(self.stuff, self.image.astype(np.float32))
        height, width = self.size
        to_world = back(camera)
        (a, b, c), (d, e, f) = to_world
        x, y = np.arange(width) + 0.5, np.arange(height)[:, None] + 0.5
        column, row = (a * x + c + b * y).astype(np.int32), (d * x + f + e * y).astype(np.int32)
        stuff = self.stuff.reshape(-1).take(row * np.int32(self.stuff.shape[1]) + column)
        seen = Image.fromarray(self.image).transform(
            (width, height), Image.Transform.AFFINE, tuple(to_world.ravel()), Image.Resampling.BILINEAR
        )
        return Ground(stuff, np.array(seen, np.float32))

    def _enter(self, now: int, done: float) -> _Life:
        """A new object that has `done` a share of its path at the time `now`; it starts and ends outside the view."""
        rng, motion = self.rng, self.motion
        self.born += 1
        actor = Actor.cast(rng, self.classes, self.look, self.born)
        radius = rng.uniform(*self.radii)
        height, width = self.size
        pace = motion.speed * min(self.size) * rng.uniform(0.6, 1.5) / (0.9 * (height + width))
        lasts = min(_FOREVER, 1 / max(pace, 1e-9))
        start = now - done * lasts
        margin = 1.05 * radius * (1 + motion.growth) * np.exp(_ZOOM * motion.camera) + 1
        heading, bend = rng.uniform(0, 2 * np.pi), rng.uniform(-0.6, 0.6)
        waypoints = [
            self._edge(heading, margin),
            rng.uniform(0.2, 0.8, 2) * [width, height],
            self._edge(heading + np.pi + bend, margin),
        ]
        times = (start, start + lasts / 2, start + lasts)
        path = [move(back(self.camera.at(t)), p[None])[0] for t, p in zip(times, waypoints, strict=True)]
        turn = rng.uniform(0, 2 * np.pi), motion.spin * rng.uniform(-1, 1)
        swing = motion.growth * rng.uniform(0.3, 1), 2 * np.pi / rng.uniform(60, 200), rng.uniform(0, 2 * np.pi)
        return _Life(actor, rng.random(), now, done, pace, np.array(path), radius, turn, swing)

    def _edge(self, heading: float, margin: float) -> Array:
        """The point of the view's border, `margin` outside, in this direction from its middle."""
        half = np.array([self.size[1], self.size[0]]) / 2 + margin
        way = np.array([np.cos(heading), np.sin(heading)])
        return np.asarray(half - margin + way / (np.abs(way) / half).max())
