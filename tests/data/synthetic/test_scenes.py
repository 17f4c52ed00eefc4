"""Synthetic scenes: masks, landmarks and panoptic maps are what the outlines say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.reference.inside import inside, pixels_inside

from maskwright.data.formats import coco
from maskwright.data.synthetic import Look, compose, panoptic_fixture, save_panoptic, scenes_fixture
from maskwright.data.synthetic.kinds import KINDS, class_list, paint
from maskwright.data.synthetic.scenes import Actor, back, move, pose, rasterise, then
from maskwright.errors import ConfigError, DataError
from maskwright.types import Panoptic, Segment


def everything_agrees(scene, size, objects, classes, look):
    """What holds in every scene and frame."""
    found, panoptic = scene.instances, scene.panoptic
    assert scene.image.shape == (*size, 3)
    assert scene.image.dtype == np.uint8
    assert found.size == panoptic.size == size
    assert len(found) == len(scene.poses) == len(scene.whole) == len(scene.keypoints) <= objects
    assert (found.crops.areas() > 0).all()
    np.testing.assert_array_equal(found.boxes, found.crops.boxes())
    seen, whole = found.masks, scene.whole.dense()
    assert seen.sum(axis=0).max(initial=0) <= 1
    front = np.zeros(size, bool)
    for mine, all_of_me in zip(seen[::-1], whole[::-1], strict=True):  # nearest first
        np.testing.assert_array_equal(mine, all_of_me & ~front)
        front |= all_of_me
    things = [s for s in panoptic.segments if panoptic.things[s.label]]
    for segment, mask, label in zip(things, seen, found.labels, strict=True):
        np.testing.assert_array_equal(panoptic.ids == segment.id, mask)
        assert segment.label == label
    assert panoptic.ids.min() >= 1
    stuff = [s for s in panoptic.segments if not panoptic.things[s.label]]
    assert all(s.label == classes + s.id - 1 and s.id <= look.stuff for s in stuff)
    np.testing.assert_array_equal(np.isin(panoptic.ids, [s.id for s in stuff]), ~front)
    assert [len(marks) for marks in scene.instances.classes.landmarks] == [
        len(list(KINDS.values())[k % 8].landmarks) for k in range(classes)
    ]
    landmarks_agree(scene)


def landmarks_agree(scene):
    height, width = scene.instances.size
    seen, whole = scene.instances.masks, scene.whole.dense()
    for k, (row, label) in enumerate(zip(scene.keypoints, scene.instances.labels, strict=True)):
        count = len(scene.instances.classes.landmarks[label])
        assert not row[count:].any()
        for x, y, visibility in row[:count]:
            if visibility == 0:
                assert x == y == 0
                continue
            assert 0 <= x < width
            assert 0 <= y < height
            hidden = seen[k + 1 :, int(y), int(x)].any()
            assert visibility == (1 if hidden else 2)
            if np.hypot(*scene.poses[k, :, 0]) > 25:  # else a tip may be thinner than the pixels
                assert whole[k, max(0, int(y) - 2) : int(y) + 3, max(0, int(x) - 2) : int(x) + 3].any()


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (37, 53), (240, 320), (1500, 20)])
@pytest.mark.parametrize("objects", [0, 1, 12])
def test_scene_agrees_with_itself(size, objects):
    everything_agrees(compose(3, size, objects, 4), size, objects, 4, Look())


@given(
    seed=st.integers(0, 2**63),
    size=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    objects=st.integers(0, 25),
    classes=st.integers(1, 40),
    occlusion=st.sampled_from([0.0, 0.3, 1.0]),
    stuff=st.integers(1, 9),
)
@settings(max_examples=40, deadline=None)
def test_any_scene_agrees_with_itself(seed, size, objects, classes, occlusion, stuff):
    look = Look(occlusion=occlusion, stuff=stuff, unannotated=0.2)
    scene = compose(seed, size, objects, classes, look)
    everything_agrees(scene, size, objects, classes, look)
    assert (scene.instances.crops.areas() >= (1 - occlusion) * scene.whole.areas() - 1e-9).all()


def test_five_hundred_objects_and_a_large_image():
    crowd = compose(1, (480, 640), 500, 100)
    assert len(crowd.instances) == 500
    assert len(set(crowd.instances.labels.tolist())) > 80
    large = compose(1, (2000, 3000), 3)
    assert large.image.shape == (2000, 3000, 3)
    assert large.instances.crops.areas().min() > 20_000


def test_masks_are_the_outlines_pixel_by_pixel():
    for label in range(8):
        rng = np.random.default_rng(label)
        actor = Actor.cast(rng, 1, Look(), 1) if label == 0 else None
        body = actor.body if actor else list(KINDS.values())[label].grow(rng)
        matrix = pose(11.3, 9.9, 10.0, 0.4 + label)
        rings = [move(matrix, ring) for ring in (body.part.outer, *body.part.holes)]
        np.testing.assert_array_equal(
            rasterise(body, matrix, (20, 23)).dense()[0], pixels_inside(rings, (20, 23)), err_msg=str(label)
        )


def test_occlusion_is_what_was_asked_for():
    def hidden(occlusion):
        look = Look(occlusion=occlusion)
        scenes = [compose(seed, objects=12, look=look) for seed in range(6)]
        shares = [1 - s.instances.crops.areas() / s.whole.areas() for s in scenes]
        assert all(len(s.instances) == 12 for s in scenes)
        return np.concatenate(shares)

    none, some, much = hidden(0.0), hidden(0.4), hidden(0.9)
    assert none.max() == 0
    assert 0.2 < some.max() <= 0.4
    assert 0.6 < much.max() <= 0.9
    assert some.mean() < much.mean()


def test_seeds_repeat_and_differ():
    one, same, other = compose(1), compose(1), compose(2)
    np.testing.assert_array_equal(one.image, same.image)
    np.testing.assert_array_equal(one.keypoints, same.keypoints)
    np.testing.assert_array_equal(one.panoptic.ids, same.panoptic.ids)
    assert (one.image != other.image).mean() > 0.5


def distance(ring, point):
    """0 inside a ring, else how far outside the point lies."""
    here, along = ring, np.roll(ring, -1, axis=0) - ring
    share = np.clip(((point - here) * along).sum(axis=1) / (along**2).sum(axis=1), 0, 1)
    outside = np.hypot(*(here + share[:, None] * along - point).T).min()
    return 0.0 if inside([ring], *point) else outside


def test_landmarks_keep_their_side_of_the_body():
    """Left and right are the object's own: each pair lies to the left and right of the way from tail to nose."""
    for name, kind in KINDS.items():
        names, mirrored = kind.landmarks.names, kind.landmarks.mirrored
        for seed in range(5):
            body = kind.grow(np.random.default_rng(seed))
            points = body.points
            assert max(distance(body.part.outer, point) for point in points) < 1e-9, name
            assert np.hypot(*body.part.outer.T).max() == pytest.approx(1.0)
            for k, mark in enumerate(names):
                if "left" in mark:
                    assert points[k, 0] < -0.02, name
                    assert points[mirrored[k], 0] > 0.02, name
                    assert "right" in names[mirrored[k]]
                else:
                    assert "right" in mark or mirrored[k] == k


def test_landmarks_follow_a_known_motion():
    rng = np.random.default_rng(4)
    body = KINDS["fish"].grow(rng)
    first, second = pose(40.0, 50.0, 20.0, 0.3), pose(61.0, 33.0, 12.0, 2.0)
    between = then(back(first), second)
    np.testing.assert_allclose(move(between, move(first, body.points)), move(second, body.points), atol=1e-9)
    np.testing.assert_allclose(move(pose(7.0, 9.0, 3.0, np.pi / 2), np.array([[0.0, -1.0]])), [[10.0, 9.0]], atol=1e-12)


def test_visibility_has_all_three_values():
    values = np.concatenate([compose(s, objects=14).keypoints[:, :2, 2].ravel() for s in range(4)])
    assert set(values.tolist()) == {0.0, 1.0, 2.0}
    assert compose(1, look=Look(unannotated=1.0)).keypoints.max() == 0


def test_scenes_are_varied():
    stuff = [len([s for s in compose(k).panoptic.segments if s.label >= 5]) for k in range(10)]
    assert max(stuff) == 4
    spread = [compose(k, objects=0).image.std() for k in range(5)]
    assert min(spread) > 8
    sharp, noisy = (compose(1, look=Look(noise=n)).image.astype(float) for n in (0.0, 10.0))
    assert 8 < (noisy - sharp).std() < 12


def test_classes_go_on():
    names = class_list(70)
    assert len(set(names)) == 70
    assert names[:9] == (*KINDS, "beetle 2")
    rng = np.random.default_rng(0)
    assert [paint(rng, k, 0.0).pattern for k in (0, 8, 16, 24, 32)] == [0, 1, 2, 3, 0]


@pytest.mark.parametrize("bad", [{"size": (0, 5)}, {"objects": -1}, {"classes": 0}])
def test_scene_refuses_nonsense(bad):
    with pytest.raises(ConfigError):
        compose(0, **bad)


@pytest.mark.parametrize(
    "bad", [{"stuff": 0}, {"occlusion": 1.1}, {"noise": -1}, {"lighting": 0.95}, {"radius": (0.3, 0.2)}]
)
def test_look_refuses_nonsense(bad):
    with pytest.raises(ConfigError):
        Look(**bad)


def test_scenes_fixture_is_read_back(tmp_path):
    made = scenes_fixture(tmp_path / "büro 1", 7, images=4, objects=7, classes=8)
    read = coco.load(made.source, made.root)
    assert read.notes == ()
    assert read.classes == made.classes
    assert [m.names for m in read.classes.landmarks] == [m.names for m in made.classes.landmarks]
    assert len(made.of(3)) == 0
    for i in range(4):
        scene = compose(7000 + i, (96, 128), 7 if i < 3 else 0, 8)
        np.testing.assert_array_equal(read.image(i), scene.image)
        np.testing.assert_array_equal(read.boxes(i), scene.instances.boxes)
        np.testing.assert_allclose(read.keypoints(i), scene.keypoints[:, : read.keypoints(i).shape[1]], atol=1e-4)
        for ours, exact in zip(read.masks(i).dense(), scene.instances.masks, strict=True):
            assert (ours & exact).sum() / (ours | exact).sum() > (0.8 if i == 1 else 0.999)


def test_panoptic_fixture_is_read_back(tmp_path):
    import json

    path = panoptic_fixture(tmp_path, 3, images=2)
    content = json.loads(path.read_text())
    assert [c["isthing"] for c in content["categories"]] == [1] * 5 + [0] * 4
    for k, row in enumerate(content["annotations"]):
        scene = compose(3000 + k, (96, 128), 6, 5)
        rgb = np.asarray(Image.open(tmp_path / "panoptic" / row["file_name"])).astype(int)
        ids = rgb @ [1, 256, 65536]
        np.testing.assert_array_equal(ids, scene.panoptic.ids)
        assert {s["id"]: s["area"] for s in row["segments_info"]} == dict(
            zip(*np.unique(ids, return_counts=True), strict=True)
        )
        for s in row["segments_info"]:
            y, x = np.nonzero(ids == s["id"])
            assert s["bbox"] == [x.min(), y.min(), x.max() + 1 - x.min(), y.max() + 1 - y.min()]


@pytest.mark.parametrize(
    ("ids", "segments", "things", "says"),
    [
        ([[1, 2]], [Segment(1, 0)], (True,), r"\[2\]"),
        ([[1, 0]], [Segment(1, 0), Segment(7, 0)], (True,), r"\[7\]"),
        ([[1, 1]], [Segment(1, 0), Segment(1, 0)], (True,), "same ids"),
        ([[-1, 1]], [Segment(-1, 0), Segment(1, 0)], (True,), "above 0"),
        ([[1, 1]], [Segment(1, 1)], (True,), "labels"),
        ([[1, 1]], [Segment(1, 0)], (True, False), "2 rows"),
        ([1, 1], [Segment(1, 0)], (True,), "int32"),
    ],
)
def test_panoptic_maps_and_tables_agree(ids, segments, things, says):
    with pytest.raises(DataError, match=says):
        Panoptic(np.array(ids, np.int32), tuple(segments), class_list(1), things)


def test_save_panoptic_refuses_what_does_not_fit(tmp_path):
    with pytest.raises(ConfigError, match="at least one map"):
        save_panoptic(tmp_path / "p.json", [])
    huge = Panoptic(np.full((2, 2), 1 << 24, np.int32), (Segment(1 << 24, 0),), class_list(1), (True,))
    record = scenes_fixture(tmp_path, 0, images=1, size=(2, 2)).images[0]
    with pytest.raises(ConfigError, match="below 2"):
        save_panoptic(tmp_path / "p.json", [(record, huge)])
    other = Panoptic(np.ones((2, 2), np.int32), (Segment(1, 0),), class_list(2), (True, True))
    one = Panoptic(np.ones((2, 2), np.int32), (Segment(1, 0),), class_list(1), (True,))
    with pytest.raises(ConfigError, match="same classes"):
        save_panoptic(tmp_path / "p.json", [(record, one), (record, other)])
    assert not (tmp_path / "p.json").exists()
