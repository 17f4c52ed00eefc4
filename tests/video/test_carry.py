"""Instances carried along their motion: translations exactly, rotations closely; boxes and landmarks with the masks."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.ops.test_block_motion import texture

from maskwright.data.synthetic import Motion, clip
from maskwright.results.prediction import Prediction
from maskwright.types import BoolArray, Classes, ImageArray, Masks
from maskwright.video.carry import KeyFrame, carry, fitted, moved
from maskwright.video.keys import CarriedFit, KeyRule, is_cut, misfit, thumbnail, travel
from maskwright.video.motion import compared, small

pytestmark = pytest.mark.usefixtures("one_thread")

CLASSES = Classes(["a", "b"])


def disc(size: tuple[int, int], x: float, y: float, radius: float) -> BoolArray:
    rows, columns = np.mgrid[: size[0], : size[1]] + 0.5
    return np.asarray(np.hypot(columns - x, rows - y) < radius)


def found(masks: BoolArray) -> Prediction:
    crops = Masks.from_dense(masks)
    scores = np.linspace(0.9, 0.5, len(masks)).astype(np.float32)
    return Prediction(crops.boxes(), scores, np.zeros(len(masks), np.int64), CLASSES, crops.size, crops)


def grey(values: np.ndarray) -> ImageArray:
    return np.repeat(values.astype(np.uint8)[..., None], 3, axis=2)


@settings(max_examples=15, deadline=None)
@given(dx=st.integers(-12, 12), dy=st.integers(-12, 12), seed=st.integers(0, 99))
def test_a_translation_moves_masks_and_boxes_exactly(dx: int, dy: int, seed: int) -> None:
    image = texture(160, 200, seed).numpy()
    before, now = (grey(image[20 + y : 140 + y, 20 + x : 180 + x]) for x, y in ((0, 0), (-dx, -dy)))
    size = (120, 160)
    key = KeyFrame(found(np.stack([disc(size, 60, 50, 20), disc(size, 110, 70, 12)])), small(before))
    one = carry(key, small(now), compared(small(now), key.small, size))
    wanted = np.stack([disc(size, 60 + dx, 50 + dy, 20), disc(size, 110 + dx, 70 + dy, 12)])
    assert one.found.masks is not None
    assert np.array_equal(one.found.masks, wanted)
    assert np.abs(one.found.boxes - Masks.from_dense(wanted).boxes()).max() < 0.1
    assert one.found.scores == pytest.approx(key.found.scores, rel=0.01)
    assert travel(key.found, one.maps) == pytest.approx(
        np.average(np.hypot(dx, dy) / np.array([40.0, 24.0]), weights=[0.9, 0.5]), abs=0.02
    )


def test_what_does_not_move_is_the_same() -> None:
    image = grey(texture(96, 128).numpy())
    key = KeyFrame(found(disc((96, 128), 60, 40, 15)[None]), small(image))
    one = carry(key, small(image), compared(small(image), key.small, (96, 128)))
    assert np.array_equal(one.maps, np.eye(3)[None])
    assert np.array_equal(one.found.boxes, key.found.boxes)


def test_what_fits_less_is_less_sure() -> None:
    """Something bright has come in front of the second object."""
    image, size = texture(96, 128).numpy(), (96, 128)
    key = KeyFrame(found(np.stack([disc(size, 30, 40, 12), disc(size, 90, 50, 12)])), small(grey(image)))
    now = small(grey(np.where(disc(size, 90, 50, 16), 255, image)))
    first, second = carry(key, now, compared(now, key.small, size)).found.scores
    assert first == pytest.approx(0.9, rel=0.01)
    assert second < 0.35


def test_objects_of_a_clip_are_followed_better_than_left_where_they_are() -> None:
    frames = list(clip(5, 4, (120, 160), 4, 3, motion=Motion(speed=0.015)))
    first, last = frames[0].instances, frames[-1].instances
    start = Prediction(
        first.boxes, first.scores, first.labels, first.classes, first.size, first.crops, track_ids=first.track_ids
    )
    key, field, maps = KeyFrame(start, small(frames[0].image)), None, None
    for frame in frames[1:]:
        now = small(frame.image)
        field = compared(now, key.small, start.size, field)
        one = carry(key, now, field, maps)
        maps = one.maps

    def overlap(a: Prediction) -> float:
        assert a.masks is not None
        assert last.masks is not None
        assert a.track_ids is not None
        assert last.track_ids is not None
        ids = last.track_ids.tolist()
        pairs = [(m, last.masks[ids.index(t)]) for m, t in zip(a.masks, a.track_ids.tolist(), strict=True) if t in ids]
        return float(np.mean([(m & t).sum() / (m | t).sum() for m, t in pairs]))

    assert overlap(one.found) > 0.75
    assert overlap(one.found) > overlap(start) + 0.15


def test_boxes_and_landmarks_move_without_masks() -> None:
    plain = Prediction(
        np.array([[10, 20, 30, 40]], np.float32),
        np.array([0.5], np.float32),
        np.array([1]),
        CLASSES,
        (60, 80),
        keypoints=np.array([[[15, 25, 0.7], [20, 30, 0.2]]], np.float32),
    )
    grown = np.array([[[1.5, 0, -10], [0, 1, 4], [0, 0, 1.0]]])
    out = moved(plain, grown)
    assert out.boxes.tolist() == [[5, 24, 35, 44]]
    assert out.keypoints is not None
    assert np.array_equal(out.keypoints, np.array([[[12.5, 29, 0.7], [20, 34, 0.2]]], np.float32))
    assert plain.keypoints is not None
    assert plain.keypoints[0, 0, 0] == 15  # the key frame's own stay
    assert len(moved(plain, np.array([[[1.0, 0, -50], [0, 1, 0], [0, 0, 1]]]))) == 0  # it has left the image
    assert len(moved(plain[:0], np.zeros((0, 3, 3)))) == 0


def test_cells_that_disagree_count_little() -> None:
    rng = np.random.default_rng(0)
    sources = rng.uniform(0, 40, (60, 2))
    steps = np.tile([3.0, -2.0], (60, 1))
    steps[:15] += 20
    matrix = fitted(sources, steps, np.array([20.0, 20.0]))
    assert matrix[:2] @ [20, 20, 1] == pytest.approx([23, 18], abs=0.05)
    assert np.array_equal(fitted(sources, np.zeros((60, 2)), np.array([20.0, 20.0])), np.eye(3))


def test_a_cut_is_told_from_motion() -> None:
    frames = [thumbnail(small(f.image)) for f in clip(2, 4, (96, 128), 6, 5, motion=Motion(speed=0.05))]
    assert not any(is_cut(b, a) for a, b in pairwise(frames))
    dark = thumbnail(small(grey(texture(96, 128, 4).numpy() * disc((96, 128), 30, 50, 60))))
    light = thumbnail(small(grey(255 - texture(96, 128, 4).numpy() * disc((96, 128), 100, 50, 60))))
    assert is_cut(light, dark)
    assert not is_cut(dark, dark)


def test_a_cut_between_dark_scenes_is_told_by_the_instances() -> None:
    """Their thumbnails hardly differ."""
    size, rule = (96, 128), KeyRule(20)
    spots = [[disc(size, x, y, 9) for x, y in places] for places in (((30, 30), (90, 60)), ((60, 75), (110, 15)))]
    before, cut = (small(grey(8 + 110 * np.any(one, axis=0))) for one in spots)
    key = KeyFrame(found(np.stack(spots[0])), before)
    for now, wanted in ((before, ""), (cut, "cut")):
        field = compared(now, key.small, size)
        assert rule.by_fit(CarriedFit(field.change, misfit=misfit(key.found, carry(key, now, field).rest))) == wanted
