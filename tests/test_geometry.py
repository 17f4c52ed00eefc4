"""The one place where coordinates change frame: there and back, for boxes, masks, points and images."""

from functools import reduce

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from maskwright.errors import ConfigError, ImageError
from maskwright.geometry import Geometry
from maskwright.types import Masks

many = settings(max_examples=50, deadline=None)
seeds = st.integers(0, 10**6)


def step(kind: str, size: tuple[int, int], rng: np.random.Generator) -> Geometry:
    """One random map of a kind from an image of `size`."""
    h, w = size
    if kind == "flip":
        return Geometry.flip(size, horizontal=bool(rng.integers(2)), vertical=bool(rng.integers(2)))
    if kind == "crop":
        new = (int(rng.integers(1, h + 1)), int(rng.integers(1, w + 1)))
        return Geometry.crop(size, int(rng.integers(0, h - new[0] + 1)), int(rng.integers(0, w - new[1] + 1)), new)
    if kind == "pad":
        top, left, bottom, right = (int(v) for v in rng.integers(0, 9, 4))
        return Geometry.pad(size, top=top, left=left, bottom=bottom, right=right)
    if kind == "enlarge":
        return Geometry.resize(size, (h * int(rng.integers(1, 4)), w * int(rng.integers(1, 4))))
    if kind == "resize":
        return Geometry.resize(size, (int(rng.integers(1, 3 * h + 1)), int(rng.integers(1, 3 * w + 1))))
    degrees, scale, shear, x, y = rng.uniform((-180, 0.4, -30, -9, -9), (180, 2.5, 30, 9, 9))
    return Geometry.affine(size, degrees=degrees, scale=scale, shear=shear, shift=(x, y))


def chain(kinds: str, seed: int, size: tuple[int, int] | None = None, limit: int = 150) -> list[Geometry]:
    """One to five random maps, one after the other, images not above `limit` pixels a side."""
    rng = np.random.default_rng(seed)
    size = size or (int(rng.integers(1, 25)), int(rng.integers(1, 25)))
    out: list[Geometry] = []
    for _ in range(rng.integers(1, 6)):
        new = step(str(rng.choice(kinds.split())), size, rng)
        if max(new.size) <= limit:
            out.append(new)
            size = new.size
    return out or [Geometry.identity(size)]


def whole(steps: list[Geometry]) -> Geometry:
    return steps[0].then(*steps[1:])


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / max(1, (a | b).sum()))


ANY = "flip crop pad enlarge resize affine"
AXES = "flip crop pad enlarge resize"
GRID = "flip crop pad enlarge"
COPY = "flip crop pad"


class TestMaps:
    def test_conventions(self):
        size = (4, 6)
        flip = Geometry.flip(size, horizontal=True)
        assert flip.points([0.5, 0.5]).tolist() == [5.5, 0.5]
        assert Geometry.flip(size, vertical=True).points([0.5, 0.5]).tolist() == [0.5, 3.5]
        assert Geometry.resize(size, (8, 3)).points([[6, 4], [0, 0]]).tolist() == [[3, 8], [0, 0]]
        assert Geometry.crop(size, 1, 2, (2, 2)).points([2, 1]).tolist() == [0, 0]
        pad = Geometry.pad(size, top=1, left=2, bottom=3, right=4)
        assert pad.points([0, 0]).tolist() == [2, 1]
        assert pad.size == (8, 12)
        turned = Geometry.affine((10, 10), degrees=90).points([10, 5])  # clockwise on screen: right goes down
        np.testing.assert_allclose(turned, [5, 10], atol=1e-12)
        moved = Geometry.affine((10, 10), scale=2, shift=(1, -1)).points([6, 6])
        np.testing.assert_allclose(moved, [8, 6], atol=1e-12)
        sheared = Geometry.affine((10, 10), shear=45).points([5, 6])
        np.testing.assert_allclose(sheared, [6, 6], atol=1e-12)

    @given(seeds)
    @many
    def test_points_there_and_back(self, seed):
        steps = chain(ANY, seed)
        map_ = whole(steps)
        points = np.random.default_rng(seed).uniform(-50, 50, (2, 7, 2))
        np.testing.assert_allclose(map_.inverse().points(map_.points(points)), points, atol=1e-6)
        one_by_one = reduce(lambda p, g: g.points(p), steps, points)
        np.testing.assert_allclose(map_.points(points), one_by_one, rtol=1e-9, atol=1e-6)

    @given(seeds)
    @many
    def test_then_associates_and_inverse_is_the_identity(self, seed):
        a = chain(ANY, seed)
        b, c = chain(ANY, seed + 1, a[-1].size), chain(ANY, seed + 2, (9, 9))
        first, second = whole(a), whole(b)
        third = Geometry.resize(second.size, (9, 9)).then(*c)
        left, right = first.then(second).then(third), first.then(second.then(third))
        np.testing.assert_allclose(left.matrix, right.matrix, rtol=1e-9, atol=1e-6)
        assert left.source == right.source == first.source
        assert left.size == right.size == third.size
        both = first.then(first.inverse())
        np.testing.assert_allclose(both.matrix, np.eye(3), atol=1e-6)
        assert both.source == both.size == first.source
        assert first.then() is first

    @given(seeds)
    @many
    def test_boxes_of_axis_aligned_chains(self, seed):
        map_ = whole(chain(AXES, seed))
        corners = np.sort(np.random.default_rng(seed).uniform(-9, 40, (5, 2, 2)), axis=1)
        boxes = corners.reshape(-1, 4)
        there = map_.boxes(boxes)
        assert there.dtype == np.float32
        np.testing.assert_allclose(map_.inverse().boxes(there), boxes, atol=1e-3)
        whole_pixels = np.floor(boxes)
        grid = whole(chain(GRID, seed))
        np.testing.assert_array_equal(grid.inverse().boxes(grid.boxes(whole_pixels)), whole_pixels)

    @given(seeds)
    @many
    def test_boxes_enclose_their_points(self, seed):
        map_ = whole(chain(ANY, seed))
        rng = np.random.default_rng(seed)
        inside = map_.points(rng.uniform((2, 3), (9, 7), (40, 2)))
        x0, y0, x1, y1 = map_.boxes([2, 3, 9, 7])[0].astype(np.float64)
        assert (inside >= np.array([x0, y0]) - 1e-3).all()
        assert (inside <= np.array([x1, y1]) + 1e-3).all()
        assert map_.boxes(np.zeros((0, 4))).shape == (0, 4)

    def test_frozen(self):
        given_matrix = np.eye(3)
        map_ = Geometry(given_matrix, (2, 2), (2, 2))
        given_matrix[0, 0] = 5
        assert map_.matrix[0, 0] == 1
        with pytest.raises(ValueError):
            map_.matrix[0, 0] = 2

    def test_errors(self):
        size = (4, 6)
        for matrix in (np.zeros((3, 3)), np.eye(2), np.full((3, 3), np.nan)):
            with pytest.raises(ConfigError, match="invertible"):
                Geometry(matrix, size, size)
        with pytest.raises(ConfigError, match="size must be at least 1x1, got 0x6"):
            Geometry(np.eye(3), size, (0, 6))
        with pytest.raises(ConfigError, match="source must be"):
            Geometry(np.eye(3), (4, -1), size)
        with pytest.raises(ConfigError, match=r"ends at \(4, 6\).*starts at \(5, 6\)"):
            Geometry.identity(size).then(Geometry.identity((5, 6)))
        with pytest.raises(ConfigError, match=r"\(5, 6\)"):
            Geometry.identity(size).masks(Masks.empty((5, 6)))
        with pytest.raises(ConfigError, match=r"\(5, 6\)"):
            Geometry.identity(size).image(np.zeros((5, 6, 3), np.uint8))
        for bad in (np.zeros((4, 6), np.uint8), np.zeros((4, 6, 3)), np.zeros((4, 6, 4), np.uint8)):
            with pytest.raises(ImageError, match="uint8"):
                Geometry.identity(size).image(bad)


def sampled(mask: np.ndarray, map_: Geometry) -> np.ndarray:
    """Slow twin of Geometry.masks: for each new pixel, the old pixel under its centre."""
    back, out = map_.inverse(), np.zeros(map_.size, np.bool_)
    for i in range(map_.size[0]):
        for j in range(map_.size[1]):
            x, y = np.floor(back.points([j + 0.5, i + 0.5]) + 1e-9).astype(int)
            out[i, j] = 0 <= y < mask.shape[0] and 0 <= x < mask.shape[1] and mask[y, x]
    return out


def blob(size: tuple[int, int], seed: int) -> np.ndarray:
    """A large wobbly shape in the middle of an image."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    angle = np.arctan2(y - size[0] / 2, x - size[1] / 2)
    radius = min(size) * (0.3 + 0.06 * np.sin(rng.integers(1, 4) * angle + rng.uniform(0, 6)))
    return np.hypot(y - size[0] / 2, x - size[1] / 2) < radius


class TestMasks:
    @given(seeds)
    @many
    def test_grid_chains_are_exact_there_and_back(self, seed):
        map_ = whole(chain(GRID, seed))
        dense = np.random.default_rng(seed).random((3, *map_.source)) < 0.5
        back = map_.inverse().masks(map_.masks(Masks.from_dense(dense))).dense()
        centres = np.stack(np.meshgrid(*(np.arange(n) + 0.5 for n in map_.source[::-1])), axis=-1)
        there = np.floor(map_.points(centres) + 1e-9)
        kept = ((there >= 0) & (there < np.array(map_.size[::-1]))).all(axis=-1)  # centre not cropped away
        np.testing.assert_array_equal(back, dense & kept)

    @given(seeds)
    @settings(max_examples=25, deadline=None)
    def test_against_the_slow_twin(self, seed):
        map_ = whole(chain(ANY, seed, limit=40))
        dense = np.random.default_rng(seed).random((1, *map_.source)) < 0.5
        found = map_.masks(Masks.from_dense(dense)).dense()[0]
        assert (found != sampled(dense[0], map_)).mean() <= 0.002  # a centre on a border may round either way

    @given(seeds)
    @many
    def test_rotating_there_and_back_keeps_the_object(self, seed):
        rng = np.random.default_rng(seed)
        turn = Geometry.affine((300, 300), degrees=rng.uniform(-180, 180), scale=rng.uniform(0.6, 1.2), shear=15)
        map_ = Geometry.pad((100, 100), top=100, left=100, bottom=100, right=100).then(turn)
        mask = blob((100, 100), seed)
        there = map_.masks(Masks.from_dense(mask[None]))
        assert there.areas()[0] == pytest.approx(mask.sum() * abs(np.linalg.det(map_.matrix)), rel=0.05)
        assert iou(map_.inverse().masks(there).dense()[0], mask) > 0.9

    def test_gone_and_none(self):
        map_ = Geometry.crop((9, 9), 5, 5, (3, 3))
        corner = Masks.from_dense(np.eye(9, dtype=np.bool_)[None, :2, :2].repeat(1, 0), (2, 2))
        corner = Masks((9, 9), corner.corners, corner.bitmaps)
        assert map_.masks(corner).areas().tolist() == [0]
        assert len(map_.masks(Masks.empty((9, 9)))) == 0
        assert map_.masks(Masks.from_dense(np.zeros((1, 9, 9)))).areas().tolist() == [0]

    def test_work_follows_the_objects(self):
        masks = Masks((20000, 20000), np.array([[19990, 5]]), (np.ones((10, 4), np.bool_),))
        there = Geometry.flip(masks.size, vertical=True, horizontal=True).masks(masks)
        assert there.corners.tolist() == [[0, 19991]]
        assert there.bitmaps[0].shape == (10, 4)


class TestImage:
    @given(seeds)
    @many
    def test_copies_are_exact(self, seed):
        steps = chain(COPY, seed)
        rng = np.random.default_rng(seed)
        image = rng.integers(0, 256, (*steps[0].source, 3), dtype=np.uint8)
        expected = image
        for map_ in steps:
            out = np.full((*map_.size, 3), (9, 0, 255), np.uint8)
            for i in range(map_.size[0]):
                for j in range(map_.size[1]):
                    x, y = np.floor(map_.inverse().points([j + 0.5, i + 0.5])).astype(int)
                    if 0 <= y < expected.shape[0] and 0 <= x < expected.shape[1]:
                        out[i, j] = expected[y, x]
            expected = out
        found = reduce(lambda a, g: g.image(a, fill=(9, 0, 255)), steps, image)
        np.testing.assert_array_equal(found, expected)

    @given(seeds)
    @many
    def test_agrees_with_masks(self, seed):
        rng = np.random.default_rng(seed)
        size = (120, 110)
        map_ = Geometry.affine(size, degrees=rng.uniform(-180, 180), scale=rng.uniform(0.5, 1.5), shear=20)
        map_ = map_.then(Geometry.resize(size, (int(rng.integers(60, 200)), int(rng.integers(60, 200)))))
        map_ = map_.then(step("flip", map_.size, rng))
        mask = blob(size, seed)
        image = np.repeat(mask[..., None] * np.uint8(255), 3, axis=2)
        there = map_.masks(Masks.from_dense(mask[None])).dense()[0]
        assert iou(map_.image(image)[..., 0] > 127, there) > 0.93
        exact = whole(chain(COPY, seed, size, limit=500))
        there = exact.masks(Masks.from_dense(mask[None])).dense()[0]
        np.testing.assert_array_equal(exact.image(image)[..., 2] > 127, there)

    @pytest.mark.parametrize("size", [(40, 30), (25, 90), (61, 47), (240, 188), (1, 1)])
    def test_resize_equals_pillow(self, size):
        coarse = np.random.default_rng(0).integers(0, 256, (16, 12, 3), dtype=np.uint8)
        image = np.array(Image.fromarray(coarse).resize((94, 120), Image.Resampling.BICUBIC))
        expected = np.array(Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR))
        found = Geometry.resize((120, 94), size).image(image)
        assert np.abs(found.astype(int) - expected).max() <= 1

    def test_shrinking_is_smooth(self):
        checks = (np.indices((200, 200)).sum(axis=0) % 2 * 255).astype(np.uint8)
        turn = Geometry.affine((200, 200), degrees=30, scale=0.2)
        found = turn.image(np.repeat(checks[..., None], 3, axis=2))
        assert np.abs(found[90:110, 90:110].astype(int) - 127).max() <= 12

    @pytest.mark.parametrize("size", [(1, 1), (7, 3000), (3000, 7)])
    def test_odd_sizes(self, size):
        image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
        flip = Geometry.flip(size, horizontal=True)
        np.testing.assert_array_equal(flip.image(image), image[:, ::-1])
        np.testing.assert_array_equal(Geometry.identity(size).image(image), image)
        assert Geometry.resize(size, (5, 9)).image(image).shape == (5, 9, 3)
