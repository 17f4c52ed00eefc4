"""Landmarks and masks follow the image: what a colour marks is where the annotation says, after any variation."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.samples import marked

from maskwright.data.formats import coco
from maskwright.data.synthetic import coco_fixture
from maskwright.errors import DataError
from maskwright.geometry import Geometry
from maskwright.samples.augment import Augment, Choice, apply, augment, choose, move_objects
from maskwright.samples.sample import Objects, Sample, join, move_points, sample_of
from maskwright.types import Classes, Landmarks, Masks

chance = st.sampled_from([0.0, 0.5, 1.0])
movements = st.builds(
    Augment,
    flip_horizontal=chance,
    flip_vertical=chance,
    rot90=chance,
    rotate=st.sampled_from([0.0, 30.0, 180.0]),
    scale=st.sampled_from([(1.0, 1.0), (0.6, 2.0)]),
    crop=st.sampled_from([None, (40, 50), (25, 90)]),
    min_share=st.just(0.0),
)
sizes = st.tuples(st.integers(45, 90), st.integers(45, 90))
seeds = st.integers(0, 2**32)


@settings(max_examples=60, deadline=None)
@given(sizes, movements, seeds)
def test_landmarks_lie_on_their_dots(size: tuple[int, int], config: Augment, seed: int) -> None:
    sample = marked.dots(np.random.default_rng(seed), size)
    choice = choose(config, np.random.default_rng(seed), size)
    out = apply(sample, choice)
    mirrored = np.linalg.det(choice.geometry.matrix[:2, :2]) < 0
    for label, points in zip(out.objects.labels, out.objects.keypoints, strict=True):
        for k, (x, y, visible) in enumerate(points):
            if label == 1 and k > 0:
                assert (x, y, visible) == (0, 0, 0)
                continue
            before = 3 if label == 1 else ((1, 0, 2)[k] if mirrored else k)
            check(out.image, before, (x, y, visible), seen=2 - before % 2)


def check(image: np.ndarray, k: int, point: tuple[float, float, float], seen: int) -> None:
    """A dot that is whole in the image is where the point is; one that is not annotated is at most half there."""
    (height, width), (x, y, visible), spot = image.shape[:2], point, marked.find(image, k)
    if visible == 0:
        assert (x, y) == (0, 0)
        assert spot is None or not ((spot > 2.5) & (spot < (width - 2.5, height - 2.5))).all()
        return
    assert visible == seen
    assert 0 <= x <= width
    assert 0 <= y <= height
    if 6 <= x <= width - 6 and 6 <= y <= height - 6:
        assert spot is not None
        assert np.hypot(*(spot - (x, y))) < 1.0


@settings(max_examples=40, deadline=None)
@given(sizes, movements, st.sampled_from([0, 1, 7]), seeds)
def test_masks_cover_their_colours(size: tuple[int, int], config: Augment, count: int, seed: int) -> None:
    out = augment(marked.disks(np.random.default_rng(seed), size, count), config, np.random.default_rng(seed))
    covers(out.image, out.objects)


def covers(image: np.ndarray, objects: Objects) -> None:
    """Each large object's mask is where its hue is. The rim, where hues mix into others, counts for neither side."""
    for label, mask in zip(objects.labels, objects.masks.dense(), strict=True):
        shown, inner = marked.share_of(image, int(label)) > 0.5, shrunk(mask)
        if inner.sum() >= 300:
            outer = ~shrunk(~mask)
            assert ((shown & ~outer) | (inner & ~shown)).sum() < 0.15 * inner.sum()


def shrunk(mask: np.ndarray) -> np.ndarray:
    """The mask without the pixels that touch its outside; the image's border is no outside."""
    wide = np.pad(mask, 1, mode="edge")
    return wide[1:-1, 1:-1] & wide[2:, 1:-1] & wide[:-2, 1:-1] & wide[1:-1, 2:] & wide[1:-1, :-2]


# ---- left and right -------------------------------------------------------------------------------------------------


def person(*points: tuple[float, float, float], landmarks: Landmarks | None) -> Objects:
    masks = Masks.from_dense(np.ones((1, 20, 40), bool))
    return Objects(masks.boxes(), np.array([0]), masks, np.zeros(1, bool), np.array([points], np.float32), (landmarks,))


def test_a_mirror_exchanges_left_and_right() -> None:
    ears = Landmarks(("left ear", "right ear", "nose"))
    before = person((30, 5, 2), (10, 5, 1), (20, 6, 2), landmarks=ears)
    flip = Geometry.flip((20, 40), horizontal=True)
    after = [[30, 5, 1], [10, 5, 2], [20, 6, 2]]
    np.testing.assert_array_equal(move_points(before, flip)[0], after)
    np.testing.assert_array_equal(move_points(before, Geometry.flip((20, 40), vertical=True))[0, 0], [10, 15, 1])
    both = Geometry.flip((20, 40), horizontal=True, vertical=True)  # a turn by 180 degrees exchanges nothing
    np.testing.assert_array_equal(move_points(before, both)[0, 0], [10, 15, 2])
    unnamed = person((30, 5, 2), (10, 5, 1), (20, 6, 2), landmarks=None)
    np.testing.assert_array_equal(move_points(unnamed, flip)[0, 0], [10, 5, 2])


def test_points_that_leave_are_not_annotated_any_more() -> None:
    before = person((30, 5, 2), (0, 0, 0), (10, 5, 1), landmarks=None)
    moved = move_points(before, Geometry.crop((20, 40), 2, 20, (10, 20)))
    np.testing.assert_array_equal(moved[0], [[10, 3, 2], [0, 0, 0], [0, 0, 0]])
    edge = move_points(person((0, 0, 2), (40, 20, 2), landmarks=None), Geometry.flip((20, 40), horizontal=True))
    np.testing.assert_array_equal(edge[0], [[40, 0, 2], [0, 20, 2]])


def test_landmarks_stay_with_their_objects() -> None:
    before = join([person((30, 5, 2), landmarks=None), person((10, 5, 2), landmarks=None)])
    small = np.zeros((2, 20, 40), bool)
    small[0, 4:7, 29:32] = small[1, 4:7, 9:12] = True
    before = Objects(before.boxes, np.array([0, 0]), Masks.from_dense(small), before.crowd, before.keypoints)
    after = move_objects(before, Choice(Geometry.crop((20, 40), 0, 0, (20, 20))))
    np.testing.assert_array_equal(after.keypoints, [[[10, 5, 2]]])


def test_joining_refuses_what_does_not_fit() -> None:
    one = person((30, 5, 2), landmarks=None)
    with pytest.raises(DataError, match="some have keypoints"):
        join([one, Objects(one.boxes, one.labels, one.masks, one.crowd)])
    with pytest.raises(DataError, match="some have masks"):
        join([one, Objects(one.boxes, one.labels, None, one.crowd, one.keypoints)])
    with pytest.raises(DataError, match="images are"):
        join([one, Objects(one.boxes, one.labels, Masks.from_dense(np.ones((1, 3, 3))), one.crowd, one.keypoints)])


@pytest.mark.parametrize(
    ("flips", "labels"), [((1.0, 0.0), [1, 0, 2]), ((0.0, 1.0), [1, 0, 2]), ((1.0, 1.0), [0, 1, 2])]
)
def test_a_mirrored_left_class_is_a_right_one(flips: tuple[float, float], labels: list[int]) -> None:
    dense = np.zeros((3, 8, 12), bool)
    dense[0, 1:3, 1:3] = dense[1, 4:6, 4:6] = dense[2, 6:8, 9:11] = True
    masks, semantic = Masks.from_dense(dense), np.full((8, 12), -1, np.int64)
    semantic[dense[0]], semantic[dense[2]] = 0, 2
    objects = Objects(masks.boxes(), np.arange(3), masks, np.zeros(3, bool), mirrored=(1, 0, 2))
    sample = Sample(np.zeros((8, 12, 3), np.uint8), objects, semantic, (1, 0, 2))
    out = augment(sample, Augment(flip_horizontal=flips[0], flip_vertical=flips[1]), np.random.default_rng(0))
    assert out.objects.labels.tolist() == labels
    assert out.semantic is not None
    assert sorted(np.unique(out.semantic).tolist()) == sorted({-1, labels[0], labels[2]})
    still = augment(sample, Augment(flip_horizontal=0.0), np.random.default_rng(0))
    assert still.objects.labels.tolist() == [0, 1, 2]


def test_a_data_set_says_which_classes_change_places(tmp_path: Path) -> None:
    data = coco.load(coco_fixture(tmp_path / "set", 1, images=1), tmp_path / "set" / "images")
    sided = replace(data, classes=Classes(["left", "other", "right"]))
    assert sample_of(sided, 0, masks=True).objects.mirrored == (2, 1, 0)
    assert sample_of(data, 0, masks=True).objects.mirrored == (0, 1, 2)
