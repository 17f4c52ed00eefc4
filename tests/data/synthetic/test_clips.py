"""Synthetic clips: what is said to have moved did move, in labels, landmarks and colours."""

import weakref
from itertools import islice, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates, maximum_filter, minimum_filter
from tests.data.synthetic.test_scenes import everything_agrees

from maskwright.data.formats import coco
from maskwright.data.synthetic import Look, Motion, clip, clips_fixture
from maskwright.data.synthetic.clips import _Camera
from maskwright.data.synthetic.scenes import back, move
from maskwright.errors import ConfigError

FAST = Motion(speed=0.05, spin=0.1, period=60)
PLAIN = Look(lighting=0, shadow=0, blur=0, noise=0)


@given(
    seed=st.integers(0, 2**63),
    size=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    objects=st.integers(0, 12),
    classes=st.integers(1, 20),
    camera=st.sampled_from([0.0, 1.0, 3.0]),
    speed=st.sampled_from([0.0, 0.05, 5.0]),
)
@settings(max_examples=30, deadline=None)
def test_any_frame_agrees_with_itself(seed, size, objects, classes, camera, speed):
    motion = Motion(speed=speed, camera=camera, period=9)
    before = None
    for t, frame in enumerate(clip(seed, 4, size, objects, classes, Look(stuff=3), motion)):
        everything_agrees(frame, size, objects, classes, Look(stuff=3))
        assert frame.index == t
        tracks = frame.instances.track_ids
        assert len(set(tracks.tolist())) == len(tracks)
        assert {3 + t for t in tracks.tolist()} == {s.id for s in frame.panoptic.segments if s.label < classes}
        flow, valid = frame.flow()
        assert flow.shape == (*size, 2)
        assert flow.dtype == np.float32
        assert np.isfinite(flow).all()
        assert valid.any() <= (before is not None)
        if before is not None:
            labels_come_from(before, frame, flow, valid)
        before = frame


def labels_come_from(before, frame, flow, valid):
    height, width = valid.shape
    for row, column in np.argwhere(valid)[::7]:
        x, y = column + 0.5 + flow[row, column, 0], row + 0.5 + flow[row, column, 1]
        assert 0 <= x <= width
        assert 0 <= y <= height
        assert before.panoptic.ids[int(y), int(x)] == frame.panoptic.ids[row, column]


def test_flow_carries_labels_nearly_everywhere():
    """Only what was hidden, outside or on a border has no valid flow."""
    for before, frame in pairwise(clip(2, 6)):
        _, valid = frame.flow()
        assert valid.mean() > 0.94
        inner = minimum_filter(before.panoptic.ids, 9) == maximum_filter(before.panoptic.ids, 9)
        inner &= before.panoptic.ids == frame.panoptic.ids  # deep inside a segment then, and the same one now
        assert valid[inner][2000:-2000].mean() > 0.995


def warped(before, flow):
    """The previous image at the places the flow names, bilinear."""
    y, x = np.indices(flow.shape[:2]) + 0.0
    at = [y + flow[..., 1], x + flow[..., 0]]
    return np.stack(
        [map_coordinates(before.image[..., c].astype(float), at, order=1, mode="nearest") for c in range(3)], -1
    )


@pytest.mark.parametrize("camera", [0.0, 1.0])
def test_flow_carries_colours(camera):
    motion = Motion(speed=0.03, spin=0.05, camera=camera, period=80)
    moved = 0
    for before, frame in pairwise(clip(5, 5, look=PLAIN, motion=motion)):
        flow, valid = frame.flow()
        smooth = minimum_filter(before.panoptic.ids, 7) == maximum_filter(before.panoptic.ids, 7)
        smooth &= minimum_filter(frame.panoptic.ids, 7) == maximum_filter(frame.panoptic.ids, 7)
        things = frame.panoptic.ids > 4
        for part in (valid & smooth & things, valid & smooth & ~things):
            assert part.sum() > 500
            now = frame.image[part].astype(float)
            wrong = np.abs(warped(before, flow)[part] - now).mean()
            still = np.abs(before.image[part].astype(float) - now).mean()
            assert wrong < 2.5
            moved += still > 1.8 * wrong
    assert moved >= (8 if camera else 4)


def test_landmarks_follow_their_objects():
    checked = 0
    for before, frame in pairwise(clip(3, 8, look=Look(), motion=FAST)):
        rows = {s.id: k for k, s in enumerate(frame.panoptic.segments)}
        earlier = {int(t): k for k, t in enumerate(before.instances.track_ids)}
        for k, track in enumerate(frame.instances.track_ids.tolist()):
            if track not in earlier:
                continue
            now, then_ = frame.keypoints[k], before.keypoints[earlier[track]]
            both = (now[:, 2] > 0) & (then_[:, 2] > 0)
            expected = move(frame.moves[rows[4 + track]], now[both, :2])
            np.testing.assert_allclose(expected, then_[both, :2], atol=1e-9)
            checked += both.sum()
    assert checked > 100


def test_objects_enter_leave_hide_and_keep_their_tracks():
    labels, times = {}, {}
    entered_inside = 0
    for frame in clip(0, 80, (48, 64), 10, motion=Motion(speed=0.08, spin=0.1, period=60)):
        for k, track in enumerate(frame.instances.track_ids.tolist()):
            label = int(frame.instances.labels[k])
            assert labels.setdefault(track, label) == label
            if track not in times and frame.index:
                x1, y1, x2, y2 = frame.instances.boxes[k]
                entered_inside += not (x1 == 0 or y1 == 0 or x2 == 64 or y2 == 48)
            times.setdefault(track, []).append(frame.index)
    assert len(times) > 15
    assert sum(max(t) < 79 for t in times.values()) > 8
    assert sum(len(t) < max(t) - min(t) + 1 for t in times.values()) >= 1  # gone behind another, and back
    assert entered_inside <= 3  # at first behind another


def test_motion_is_smooth():
    for before, frame in pairwise(clip(4, 12, (120, 160))):
        flow, valid = frame.flow()
        assert np.hypot(flow[..., 0], flow[..., 1])[valid].max() < 7
        assert len(frame.instances) >= 2
        assert abs(len(frame.instances) - len(before.instances)) <= 2


def test_nothing_moves_when_nothing_should():
    still = Motion(speed=0, spin=0, growth=0, camera=0)
    frames = list(clip(6, 3, motion=still, look=PLAIN))
    np.testing.assert_array_equal(frames[0].image, frames[2].image)
    flow, valid = frames[2].flow()
    assert np.abs(flow).max() < 1e-4
    assert valid.all()
    assert len(frames[0].instances) > 3


def test_clips_repeat_continue_and_differ():
    short, long, other = list(clip(7, 3)), list(clip(7, 5)), next(clip(8, 1))
    for a, b in zip(short, long, strict=False):
        np.testing.assert_array_equal(a.image, b.image)
        np.testing.assert_array_equal(a.flow()[0], b.flow()[0])
    assert (short[0].image != other.image).mean() > 0.5
    assert list(clip(7, 0)) == []


def test_an_endless_clip_keeps_no_frames():
    frames = clip(9, 10**9, (48, 64), 3, motion=FAST)
    made = []
    for frame in islice(frames, 12):
        made.append((weakref.ref(frame), weakref.ref(frame.image), weakref.ref(frame.panoptic.ids)))
    del frame
    assert [[ref() is None for ref in refs] for refs in made[:-2]] == [[True] * 3] * 10


@pytest.mark.parametrize("size", [(1, 1), (37, 900), (900, 37), (240, 320)])
@pytest.mark.parametrize("strength", [0.5, 1.0, 3.0])
def test_the_ground_covers_what_the_camera_sees(size, strength):
    camera = _Camera(np.random.default_rng(3), size, Motion(camera=strength))
    corners = np.array([[0, 0], [size[1], 0], [0, size[0]], [size[1], size[0]]], float)
    for t in range(-500, 3000, 7):
        seen = move(back(camera.at(t)), corners)
        assert seen.min() >= 0
        assert (seen <= [camera.ground[1], camera.ground[0]]).all()


@pytest.mark.parametrize("bad", [{"speed": -1}, {"growth": 1.0}, {"period": 0}, {"camera": 4}])
def test_motion_refuses_nonsense(bad):
    with pytest.raises(ConfigError):
        Motion(**bad)


def test_clip_refuses_nonsense_at_once():
    for bad in ({"frames": -1}, {"frames": 1, "size": (0, 1)}, {"frames": 1, "classes": 0}):
        with pytest.raises(ConfigError):
            clip(0, **bad)


def test_clips_fixture_has_tracks(tmp_path):
    data = clips_fixture(5, tmp_path / "clips", clips=2, frames=6)
    assert len(data) == 12
    assert [r.frame.clip.id for r in data.images] == [1] * 6 + [2] * 6
    assert [r.frame.index for r in data.images] == [*range(6), *range(6)]
    videos = {}
    for i, record in enumerate(data.images):
        for a in data.of(i):
            shown = (record.frame.clip.id, a.label)
            assert videos.setdefault(a.track_id, shown) == shown
    assert len({v for v, _ in videos.values()}) == 2
    frame = next(clip(5001, 1, (96, 128), 6, 5, motion=Motion(speed=0.06, spin=0.1, period=40)))
    np.testing.assert_array_equal(data.image(6), frame.image)
    np.testing.assert_array_equal(data.masks(6).dense(), frame.instances.masks)
    in_memory = clips_fixture(5, clips=2, frames=6)
    assert in_memory.root is None
    assert [a.track_id for a in in_memory.of(3)] == [a.track_id for a in data.of(3)]
    coco.save(tmp_path / "clips.json", data)
    again = coco.load(tmp_path / "clips.json", data.root)
    assert [a.track_id for a in again.of(3)] == [a.track_id for a in data.of(3)]
    assert again.images[3].frame == data.images[3].frame
