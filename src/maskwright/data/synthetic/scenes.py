"""Still scenes: objects of many kinds on a background of stuff, hiding each other, with exact ground truth.

Letters: N visible objects, K drawn objects, P landmarks, S kinds of stuff, H W image, n pixels of one object.
A pixel belongs to an object where its centre, at half-integers, lies inside the outline and no object drawn later
covers it. A pose is the (2, 3) matrix that takes an object's own frame to the image.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from maskwright.codec import Section, ranged
from maskwright.data.synthetic.ground import lay, stuff_names
from maskwright.data.synthetic.kinds import Array, Body, Paint, Pixels, class_list, kind_of, paint
from maskwright.errors import ConfigError
from maskwright.ops.polygons import PolygonPart, from_polygons
from maskwright.types import (
    BoolArray,
    Classes,
    FloatArray,
    Instances,
    IntArray,
    Masks,
    Panoptic,
    Segment,
    Size,
)

_TRIES = 16
_GIVE_UP = 12  # objects in a row without a free place after which the image counts as full


@dataclass(frozen=True)
class Look(Section):
    """The appearance and difficulty of scenes.

    stuff: kinds of background, at least 1. occlusion: the share of an object that others may hide in a still scene,
    from 0 (no overlap) to 1; also how often objects are placed near others. radius: smallest and largest, in short
    edges, for up to eight objects; of more they are smaller. lighting: how much brighter one side is than the middle,
    0 to 0.9. shadow: how much an object darkens its surroundings. blur: radius of the lens blur in pixels. noise:
    standard deviation of the sensor noise in grey levels. jitter: how far the hue of an object may be from that of its
    class; at 0.5 colour carries no information. unannotated: the share of landmarks left without annotation.
    """

    stuff: int = ranged(4, low=1)
    occlusion: float = ranged(0.6, low=0, high=1)
    radius: tuple[float, float] = (0.1, 0.25)
    lighting: float = ranged(0.3, low=0, high=0.9)
    shadow: float = ranged(0.35, low=0, high=1)
    blur: float = ranged(0.4, low=0)
    noise: float = ranged(5.0, low=0)
    jitter: float = ranged(0.12, low=0, high=1)
    unannotated: float = ranged(0.0, low=0, high=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.radius[0] <= self.radius[1]:
            raise ConfigError(f"radius is (smallest, largest), both above 0, got {self.radius}.")


@dataclass(frozen=True, eq=False)
class Scene:
    """An image and its ground truth.

    image: (H, W, 3) uint8 RGB. instances: the visible objects, farthest first, scores 1, masks of what is seen.
    whole: for each of them its mask without the others in front, cut at the image. keypoints: (N, P, 3) float64 x,
    y, visibility (2 seen, 1 behind another object, 0 outside the image or not annotated, x and y then 0), P the
    most landmarks of any class, zeros behind those of the others. poses: (N, 2, 3).
    panoptic: every pixel's segment; stuff s has id s + 1, things follow; labels of things are those of `instances`.
    """

    image: NDArray[np.uint8]
    instances: Instances
    whole: Masks
    keypoints: Array
    poses: Array
    panoptic: Panoptic


@dataclass(frozen=True, eq=False)
class Actor:
    """One individual, independent of its pose. track: its number, from 1."""

    label: int
    body: Body
    paint: Paint
    track: int

    @classmethod
    def cast(cls, rng: np.random.Generator, classes: int, look: Look, track: int) -> "Actor":
        """A new individual of a random class."""
        label = int(rng.integers(classes))
        return cls(label, kind_of(label).grow(rng), paint(rng, label, look.jitter), track)


def compose(seed: int, size: Size = (240, 320), objects: int = 8, classes: int = 5, look: Look | None = None) -> Scene:
    """A still scene; the same arguments give the same scene.

    Where the image has no place for `objects` of them, there are fewer.
    Raises ConfigError for an empty size, no classes or a negative number of objects.
    """
    look = look or Look()
    check(size, objects, classes)
    rng = np.random.default_rng(seed)
    ground = lay(rng, size, look.stuff, min(size))
    canvas = Canvas(ground.image, look, rng.uniform(0, 2 * np.pi))
    low, high = (r * min(size) / max(1.0, (objects / 8) ** 0.5) for r in look.radius)
    in_vain = 0
    for track in range(1, objects + 1):
        actor = Actor.cast(rng, classes, look, track)
        placed = _place(rng, canvas, actor, max(0.75, rng.uniform(low, high)))
        in_vain = 0 if placed else in_vain + 1
        if in_vain == _GIVE_UP:
            break
    return canvas.develop(rng, ground.stuff, classes)


def check(size: Size, objects: int, classes: int) -> None:
    """Raises ConfigError where a scene cannot have this size or this number of objects or classes."""
    if min(size) < 1 or objects < 0 or classes < 1:
        raise ConfigError(
            f"A scene has a positive size and at least one class, and objects are not negative; "
            f"got size {tuple(size)}, objects {objects}, classes {classes}."
        )


def pose(x: float, y: float, radius: float, turn: float) -> Array:
    """(2, 3): the object's centre at (x, y), its frame turned clockwise on screen by `turn` radians."""
    c, s = radius * np.cos(turn), radius * np.sin(turn)
    return np.array([[c, -s, x], [s, c, y]])


def move(matrix: Array, points: Array) -> Array:
    """Points (n, 2) taken through a (2, 3) matrix."""
    return np.asarray(points @ matrix[:, :2].T + matrix[:, 2])


def then(first: Array, second: Array) -> Array:
    """The (2, 3) matrix of one map after the other."""
    return np.concatenate([second[:, :2] @ first[:, :2], (second[:, :2] @ first[:, 2:]) + second[:, 2:]], axis=1)


def back(matrix: Array) -> Array:
    """The inverse of a (2, 3) matrix."""
    turned = np.linalg.inv(matrix[:, :2])
    return np.concatenate([turned, -turned @ matrix[:, 2:]], axis=1)


def _place(rng: np.random.Generator, canvas: "Canvas", actor: Actor, radius: float) -> bool:
    """Add the object at a random place where enough of the others stays visible; False if none was found."""
    height, width = canvas.size
    limit = canvas.look.occlusion
    for k in range(_TRIES):
        own = max(0.75, radius * 0.85 ** (k // 4))
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        if canvas.poses and rng.random() < 0.6 * limit:  # near another one
            other = canvas.poses[int(rng.integers(len(canvas.poses)))]
            away, turn = (own + np.hypot(*other[:, 0])) * rng.uniform(0.35, 0.95), rng.uniform(0, 2 * np.pi)
            near = other[0, 2] + away * np.cos(turn), other[1, 2] + away * np.sin(turn)
            x, y = near if 0 <= near[0] < width and 0 <= near[1] < height else (x, y)
        matrix = pose(x, y, own, rng.uniform(0, 2 * np.pi))
        shape = rasterise(actor.body, matrix, canvas.size)
        if not shape.bitmaps[0].size:
            continue
        left = canvas.seen - canvas.below(shape)
        if (left >= np.maximum(1, (1 - limit) * canvas.area)).all():
            canvas.add(actor, matrix, shape)
            return True
    return False


def rasterise(body: Body, matrix: Array, size: Size) -> Masks:
    """One mask: the pixels of an image of `size` whose centres lie inside the outline."""
    holes = tuple(move(matrix, hole) for hole in body.part.holes)
    return from_polygons([[PolygonPart(move(matrix, body.part.outer), holes)]], size)


class Canvas:
    """A scene in the making: objects are added to a ground one by one, each over those before it.

    image: (H, W, 3) float32, changed in place. lamp: the direction that the light comes from, radians.
    owner: (H, W) int32, which object is seen, -1 none. area, seen: (K,) pixels of each, and those nothing hides.
    """

    def __init__(self, image: FloatArray, look: Look, lamp: float) -> None:
        self.image, self.look = image, look
        self.size: Size = (image.shape[0], image.shape[1])
        self.light = np.array([np.cos(lamp), np.sin(lamp)])
        self.owner = np.full(self.size, -1, np.int32)
        self.actors: list[Actor] = []
        self.poses: list[Array] = []
        self.shapes: list[Masks] = []
        self.area, self.seen = np.zeros(0, np.int64), np.zeros(0, np.int64)

    def below(self, shape: Masks) -> IntArray:
        """(K,) pixels that this mask would hide of each object."""
        return owned(self.owner[shape.windows[0]][shape.bitmaps[0]], len(self.actors))

    def add(self, actor: Actor, matrix: Array, shape: Masks) -> None:
        """Add an object over all others."""
        (top, left), crop = shape.corners[0], shape.bitmaps[0]
        covered = int(crop.sum())
        self.seen = np.append(self.seen - self.below(shape), covered)
        self.area = np.append(self.area, covered)
        if covered:
            rows, columns = np.nonzero(crop)
            place = (rows + top) * self.size[1] + (columns + left)  # (n,) in the flattened image
            self._shade(place, columns + left, np.hypot(*matrix[:, 0]))
            own = then(np.array([[1.0, 0.0, left + 0.5], [0.0, 1.0, top + 0.5]]), back(matrix)).astype(np.float32)
            x, y = np.arange(crop.shape[1], dtype=np.float32), np.arange(crop.shape[0], dtype=np.float32)
            u = (own[0, 0] * x + own[0, 2]).take(columns) + (own[0, 1] * y).take(rows)
            v = (own[1, 0] * x + own[1, 2]).take(columns) + (own[1, 1] * y).take(rows)
            pixels = actor.paint.pixels(u, v)
            pixels *= self._brightness(matrix, u, v, _rim(crop)[rows, columns])[:, None]
            self.image.reshape(-1, 3)[place] = pixels
            self.owner.reshape(-1)[place] = len(self.actors)
        self.actors.append(actor)
        self.poses.append(matrix)
        self.shapes.append(shape)

    def _shade(self, place: IntArray, columns: IntArray, radius: float) -> None:
        """Darken the pixels of the object's shadow."""
        if self.look.shadow == 0:
            return
        right, down = (int(v) for v in -np.rint(self.light * (1 + 0.1 * radius)))
        thrown = place + (down * self.size[1] + right)
        flat = self.image.reshape(-1, 3)
        thrown = thrown[(thrown >= 0) & (thrown < len(flat)) & (columns >= -right) & (columns < self.size[1] - right)]
        flat[thrown] = flat.take(thrown, axis=0) * np.float32(1 - self.look.shadow)

    def _brightness(self, matrix: Array, u: Pixels, v: Pixels, rim: BoolArray) -> Pixels:
        """(n,) brightness at the points u, v of the object's frame: more towards the lamp, less at its rim."""
        slope = (matrix[:, :2].T @ self.light / np.hypot(*matrix[:, 0]) * self.look.lighting).astype(np.float32)
        bright = np.float32(1) + slope[0] * u + slope[1] * v
        bright[rim] *= np.float32(1 - 0.6 * self.look.shadow)
        return np.asarray(bright)

    def develop(
        self, rng: np.random.Generator, stuff: NDArray[np.int32], classes: int, *, tracks: bool = False
    ) -> Scene:
        """The finished scene: the image with light, blur and noise, and the ground truth of what is visible."""
        image = _photograph(rng, self.image, self.look, self.light)
        kept = np.flatnonzero(self.seen > 0)
        actors, poses = [self.actors[k] for k in kept], np.array([self.poses[k] for k in kept]).reshape(-1, 2, 3)
        masks = visible(self.owner, kept)
        numbers = np.array([a.track for a in actors], np.int64) if tracks else None
        shapes = [self.shapes[k] for k in kept]
        corners = np.concatenate([s.corners for s in shapes]) if shapes else np.zeros((0, 2), np.int64)
        return Scene(
            image=image,
            instances=instances(masks, [a.label for a in actors], class_list(classes), numbers),
            whole=Masks(self.size, corners, tuple(s.bitmaps[0] for s in shapes)),
            keypoints=self._keypoints(rng, kept, classes),
            poses=poses,
            panoptic=self._panoptic(stuff, kept, classes),
        )

    def _keypoints(self, rng: np.random.Generator, kept: IntArray, classes: int) -> Array:
        most = max(len(kind_of(label).landmarks) for label in range(classes))
        out = np.zeros((len(kept), most, 3))
        for row, k in zip(out, kept, strict=True):
            points = move(self.poses[k], self.actors[k].body.points)
            row[: len(points), :2] = points
            inside = (points >= 0).all(axis=1) & (points[:, 0] < self.size[1]) & (points[:, 1] < self.size[0])
            inside &= rng.random(len(points)) >= self.look.unannotated
            x, y = points[inside].astype(np.int64).T
            row[: len(points), 2][inside] = np.where(self.owner[y, x] > k, 1, 2)
        out[out[:, :, 2] == 0] = 0
        return out

    def _panoptic(self, stuff: NDArray[np.int32], kept: IntArray, classes: int) -> Panoptic:
        kinds = self.look.stuff
        number = np.zeros(len(self.actors) + 1, np.int32)
        number[1:] = [kinds + a.track for a in self.actors]
        ids = number.take(self.owner + 1)
        np.copyto(ids, stuff + np.int32(1), where=ids == 0)
        present = np.flatnonzero(np.bincount(stuff[self.owner < 0], minlength=kinds))
        segments = [Segment(int(s) + 1, classes + int(s)) for s in present]
        segments += [Segment(int(number[k + 1]), self.actors[k].label) for k in kept]
        names = Classes([*class_list(classes), *stuff_names(kinds)])
        return Panoptic(ids, tuple(segments), names, (True,) * classes + (False,) * kinds)


def owned(pixels: NDArray[np.int32], objects: int) -> IntArray:
    """(K,) how many of the pixels show each object. pixels: the object that each of them shows, -1 for none."""
    return np.bincount(pixels + 1, minlength=objects + 1)[1:]


def instances(masks: Masks, labels: Sequence[int], classes: Classes, tracks: IntArray | None = None) -> Instances:
    """The objects of a synthetic image, whose scores are 1."""
    return Instances(
        boxes=masks.boxes(),
        scores=np.ones(len(labels), np.float32),
        labels=np.array(labels, np.int64),
        classes=classes,
        size=masks.size,
        crops=masks,
        track_ids=tracks,
    )


def visible(owner: NDArray[np.int32], kept: Sequence[int] | IntArray) -> Masks:
    """The masks of the objects `kept`, from the object that is seen at each pixel (H, W)."""
    from scipy.ndimage import find_objects

    windows = find_objects(owner + 1)
    corners = [(windows[k][0].start, windows[k][1].start) for k in kept]
    crops = tuple(owner[windows[k]] == k for k in kept)
    return Masks((owner.shape[0], owner.shape[1]), np.array(corners, np.int64).reshape(-1, 2), crops)


def _rim(crop: BoolArray) -> BoolArray:
    """The pixels of a mask that have a neighbour outside it, or lie on its crop's border."""
    rim = crop.copy()
    rim[1:-1, 1:-1] &= ~(crop[:-2, 1:-1] & crop[2:, 1:-1] & crop[1:-1, :-2] & crop[1:-1, 2:])
    return rim


def _photograph(rng: np.random.Generator, image: FloatArray, look: Look, light: Array) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 with the gradient of the light, lens blur and sensor noise. Changes `image`."""
    height, width = image.shape[:2]
    if look.lighting:
        reach = look.lighting / np.hypot(height, width) * 2
        x = ((np.arange(width) + 0.5 - width / 2) * light[0] * reach).astype(np.float32)
        y = ((np.arange(height) + 0.5 - height / 2) * light[1] * reach).astype(np.float32)
        image *= (1 + x + y[:, None])[:, :, None]
    source_image = np.clip(np.rint(image, out=image), 0, 255, out=image).astype(np.uint8)
    if look.blur:
        source_image = np.array(Image.fromarray(source_image).filter(ImageFilter.BoxBlur(look.blur)))
    if look.noise:
        noise = _noise_levels(look.noise).take(np.frombuffer(rng.bytes(source_image.size), np.uint8))
        noise = noise.reshape(source_image.shape)
        noise += source_image
        source_image = np.clip(noise, 0, 255, out=noise).astype(np.uint8)
    return source_image


def _noise_levels(deviation: float) -> NDArray[np.int16]:
    """256 values, equally likely, of a normal distribution, rounded."""
    from scipy.special import ndtri

    levels = np.clip(ndtri((np.arange(256) + 0.5) / 256) * deviation, -255, 255)
    return np.asarray(np.rint(levels), np.int16)
