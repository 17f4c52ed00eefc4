"""The values that travel: every check fires, and indexing and round trips keep everything."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from maskwright.errors import ConfigError, DataError
from maskwright.types import (
    BoxMasks,
    Classes,
    HeatMaps,
    Inputs,
    InputSpec,
    Instances,
    Landmarks,
    Limits,
    Masks,
    OutputSpec,
    PrototypeMasks,
    RawDetections,
    Semantic,
    Target,
)

dense_masks = st.tuples(st.integers(0, 4), st.integers(1, 9), st.integers(1, 9)).flatmap(
    lambda shape: hnp.arrays(np.bool_, shape)
)


class TestClasses:
    def test_names_and_ids(self):
        classes = Classes(["cat", "dog"], [7, 3])
        assert (len(classes), classes[1], classes[:1], list(classes)) == (2, "dog", ("cat",), ["cat", "dog"])
        assert classes.ids == (7, 3)
        assert Classes(["a", "b"]).ids == (1, 2)
        assert classes.index("dog") == 1
        assert "cat" in classes
        assert repr(Classes([str(i) for i in range(7)])) == "Classes(7: 0, 1, 2, 3, 4, ...)"

    def test_equality(self):
        a = Classes(["cat", "dog"])
        assert a == Classes(["cat", "dog"])
        assert a != Classes(["cat", "dog"], [5, 6])
        assert a == ["cat", "dog"] == a
        assert a != "cat dog"
        assert len({a, Classes(["cat", "dog"])}) == 1

    def test_match(self):
        data = Classes(["ring", "cell", "cell"], [9, 1, 0])
        assert Classes(["cell", "star", "ring", "cell"], [0, 4, 7, 1]).match(data).tolist() == [2, -1, 0, 1]
        assert Classes(["cell"], [5]).match(data).tolist() == [-1]
        assert Classes(["cell"], [5]).match(Classes(["cell"], [6])).tolist() == [0]

    def test_landmarks(self):
        wing = Landmarks(("left tip", "right tip"), ((0, 1),))
        marked = Classes(["fly", "leaf"], landmarks=[wing, None])
        assert (marked.landmarks, Classes(["fly", "leaf"]).landmarks) == ((wing, None), (None, None))
        assert marked == Classes(["fly", "leaf"], landmarks=(wing, None)) != Classes(["fly", "leaf"])
        assert marked == ["fly", "leaf"]
        assert len({marked, Classes(["fly", "leaf"], landmarks=(wing, None)), Classes(["fly", "leaf"])}) == 2
        assert repr(marked) == "Classes(2: fly, leaf; 1 with landmarks)"
        assert Instances([[0, 0, 1, 1]], [1.0], [0], marked, (5, 5))[:0].classes.landmarks == (wing, None)

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (([],), "at least one"),
            (("cell",), r"give \['cell'\]"),
            ((["a"], [1, 2]), "1 names and 2 ids"),
            ((["a", "b"], [1, 1]), "distinct"),
            ((["a", "b"], None, [None]), "2 names and 1"),
        ],
    )
    def test_errors(self, arguments, says):
        with pytest.raises(ConfigError, match=says):
            Classes(*arguments)


class TestLandmarks:
    @pytest.mark.parametrize(
        ("names", "mirrored"),
        [
            (("left eye", "nose", "right eye"), (2, 1, 0)),
            (("upright left", "upright right"), (1, 0)),
            (("cleft left", "cleft right"), (1, 0)),
            (("left leftmost", "right rightmost"), (1, 0)),
            (("LeftEye", "RightEye"), (1, 0)),
            (("left", "tip"), (0, 1)),
        ],
    )
    def test_left_and_right_change_places(self, names, mirrored):
        assert Landmarks(names).mirrored == mirrored

    @given(st.lists(st.lists(st.sampled_from(["left", "right", "up", " "]), max_size=3).map("".join), max_size=6))
    def test_no_point_is_lost_in_a_mirror(self, names):
        mirrored = Landmarks(tuple(names)).mirrored
        assert sorted(mirrored) == list(range(len(names)))


class TestSpecs:
    @pytest.mark.parametrize(
        "options",
        [
            {"size": 0},
            {"multiple": 0},
            {"max_size": 0},
            {"resize": "nearest"},
            {"channels": "GRB"},
            {"mean": (1, 2)},
            {"std": (1, 0, 1)},
        ],
    )
    def test_input(self, options):
        with pytest.raises(ConfigError, match=next(iter(options))):
            InputSpec(**options)

    def test_input_values(self):
        spec = InputSpec(mean=[1, 2, 3], max_size=None)
        assert spec.mean == (1.0, 2.0, 3.0)
        assert hash(spec) == hash(InputSpec(mean=(1.0, 2.0, 3.0), max_size=None))

    @pytest.mark.parametrize(
        "options",
        [
            {"paste": "glue"},
            {"mask_threshold": 0.0},
            {"mask_threshold": 1.0},
            {"score_threshold": -0.1},
            {"score_threshold": 1.1},
            {"max_instances": -1},
        ],
    )
    def test_output(self, options):
        with pytest.raises(ConfigError, match=next(iter(options))):
            OutputSpec(**options)


class TestMasks:
    @given(dense_masks)
    @settings(max_examples=60, deadline=None)
    def test_dense_round_trip(self, dense):
        masks = Masks.from_dense(dense)
        assert len(masks) == len(dense)
        assert masks.size == dense.shape[1:]
        np.testing.assert_array_equal(masks.dense(), dense)
        np.testing.assert_array_equal(masks.areas(), dense.sum(axis=(1, 2)))
        for box, crop, mask in zip(masks.boxes(), masks.bitmaps, dense, strict=True):
            y, x = np.nonzero(mask)
            expected = [x.min(), y.min(), x.max() + 1, y.max() + 1] if len(x) else [0, 0, 0, 0]
            assert box.tolist() == expected
            assert crop.shape == (expected[3] - expected[1], expected[2] - expected[0])

    def test_crops_are_copies(self):
        dense = np.ones((1, 3, 3), np.bool_)
        masks = Masks.from_dense(dense)
        dense[:] = False
        assert masks.areas().tolist() == [9]

    def test_indexing(self):
        dense = np.random.default_rng(0).random((4, 5, 6)) < 0.5
        masks = Masks.from_dense(dense)
        keep = np.array([True, False, True, False])
        for index in (slice(1, 3), [2, 0], keep, np.array([3, 3]), [], slice(0, 0)):
            np.testing.assert_array_equal(masks[index].dense(), dense[index])
        for index in (1, -1, np.int64(2)):
            np.testing.assert_array_equal(masks[index].dense(), dense[index][None])
        np.testing.assert_array_equal(np.concatenate([m.dense() for m in masks]), dense)
        with pytest.raises(IndexError):
            masks[4]

    def test_empty(self):
        none = Masks.empty((4, 5))
        assert none.dense().shape == (0, 4, 5)
        assert none.boxes().shape == (0, 4)
        assert none.areas().shape == (0,)
        assert Masks.from_dense(np.zeros((0, 0, 0)), (4, 5)).size == (4, 5)

    def test_loose_crop(self):
        crop = np.zeros((4, 4), np.bool_)
        crop[1, 2] = True
        assert Masks((9, 9), np.array([[3, 4]]), (crop,)).boxes().tolist() == [[6, 4, 7, 5]]

    @pytest.mark.parametrize(
        ("corners", "crop", "says"),
        [
            ([[0, 0], [1, 1]], np.ones((2, 2), np.bool_), "2 corners for 1 bitmaps"),
            ([[0, 0]], np.ones((2, 2), np.uint8), "bool array"),
            ([[0, 0]], np.ones((2, 2, 1), np.bool_), "bool array"),
            ([[3, 0]], np.ones((2, 2), np.bool_), "leaves the image"),
            ([[0, 4]], np.ones((2, 2), np.bool_), "leaves the image"),
            ([[-1, 0]], np.ones((2, 2), np.bool_), "leaves the image"),
            ([[0, -1]], np.ones((2, 2), np.bool_), "leaves the image"),
        ],
    )
    def test_errors(self, corners, crop, says):
        with pytest.raises(DataError, match=says):
            Masks((4, 5), np.array(corners), (crop,))

    def test_from_dense_errors(self):
        with pytest.raises(DataError, match=r"needs \(N, H, W\)"):
            Masks.from_dense(np.zeros((4, 5)))
        with pytest.raises(DataError, match=r"\(4, 5\), the image is \(5, 4\)"):
            Masks.from_dense(np.zeros((1, 4, 5)), (5, 4))


def instances(n: int = 3, **changes: object) -> Instances:
    dense = np.random.default_rng(0).random((n, 6, 8)) < 0.5
    values: dict[str, object] = {
        "boxes": np.arange(4 * n).reshape(n, 4),
        "scores": np.linspace(1, 0, n),
        "labels": np.arange(n) % 2,
        "classes": Classes(["cat", "dog"]),
        "size": (6, 8),
        "crops": Masks.from_dense(dense, (6, 8)),
        "keypoints": np.arange(6 * n, dtype=np.float32).reshape(n, 2, 3),
        "track_ids": np.arange(n) + 10,
    }
    return Instances(**{**values, **changes})


class TestInstances:
    def test_types(self):
        one = instances(classes=["cat", "dog"], size=[6, 8], boxes=[[0, 1, 2, 3]] * 3, scores=[1, 0.5, 0])
        assert (one.boxes.dtype, one.scores.dtype, one.labels.dtype) == (np.float32, np.float32, np.int64)
        assert isinstance(one.classes, Classes)
        assert one.size == (6, 8)
        assert one.masks.shape == (3, 6, 8)
        assert instances(crops=None).masks is None

    @pytest.mark.parametrize("index", [1, -1, slice(0, 2), [2, 0], np.array([True, False, True]), [], [0, 0]])
    def test_indexing(self, index):
        class Special(Instances):
            pass

        whole = Special(**vars(instances()))
        cut = whole[index]
        assert type(cut) is Special
        rows = np.atleast_1d(np.arange(3)[index])
        for name in ("boxes", "scores", "labels", "masks", "keypoints", "track_ids"):
            np.testing.assert_array_equal(getattr(cut, name), getattr(whole, name)[rows])
        assert (cut.classes, cut.size) == (whole.classes, whole.size)

    def test_empty_and_bare(self):
        assert len(instances(0)) == 0
        bare = instances(crops=None, keypoints=None, track_ids=None)[:1]
        assert bare.crops is bare.keypoints is bare.track_ids is None
        assert len(instances()[instances().scores > 2]) == 0

    @pytest.mark.parametrize(
        ("changes", "says"),
        [
            ({"scores": [0.5]}, "3 boxes but 1 scores"),
            ({"labels": [0]}, "3 boxes but 1 labels"),
            ({"crops": Masks.empty((6, 8))}, "3 boxes but 0 crops"),
            ({"keypoints": np.zeros((1, 2, 3))}, "3 boxes but 1 keypoints"),
            ({"track_ids": [1]}, "3 boxes but 1 track_ids"),
            ({"labels": [0, 1, 2]}, r"0\.\.1, got 0\.\.2"),
            ({"labels": [0, -1, 1]}, r"got -1\.\.1"),
            ({"scores": [0, 0.5, 1.5]}, r"\[0, 1\]"),
            ({"scores": [0, 0.5, np.nan]}, r"\[0, 1\]"),
            ({"keypoints": np.zeros((3, 2))}, "keypoints are"),
            ({"size": (6, 9)}, r"\(6, 8\).*\(6, 9\)"),
        ],
    )
    def test_errors(self, changes, says):
        with pytest.raises(DataError, match=says):
            instances(**changes)


class TestTargetsAndRawDetections:
    def test_target(self):
        boxes, labels = torch.zeros(2, 4), torch.zeros(2, dtype=torch.int64)
        assert len(Target(boxes, labels)) == 2
        assert len(Target(boxes, labels, [[np.zeros(6)], []], torch.zeros(2, dtype=torch.bool))) == 2

    @pytest.mark.parametrize(
        ("changes", "says"),
        [
            ({"boxes": torch.zeros(4)}, r"\(N, 4\)"),
            ({"boxes": torch.zeros(2, 5)}, r"\(N, 4\)"),
            ({"labels": torch.zeros(3)}, "2 boxes but 3 labels"),
            ({"masks": Masks.empty((3, 3))}, "2 boxes but 0 masks"),
            ({"crowd": torch.zeros(1)}, "2 boxes but 1 crowd"),
            ({"keypoints": torch.zeros(1, 5, 3)}, "2 boxes but 1 keypoints"),
            ({"semantic": torch.zeros(1, 5, 3)}, r"semantic is \(h, w\)"),
        ],
    )
    def test_target_errors(self, changes, says):
        with pytest.raises(DataError, match=says):
            Target(**{"boxes": torch.zeros(2, 4), "labels": torch.zeros(2), **changes})

    def test_raw_detections(self):
        rows = {"boxes": torch.zeros(1, 5, 4), "scores": torch.zeros(1, 5), "labels": torch.zeros(1, 5)}
        for name in ("boxes", "labels"):
            with pytest.raises(DataError, match=name):
                RawDetections(**{**rows, name: torch.zeros(1, 4, 4)})

    def test_parts(self):
        rows = {"boxes": torch.zeros(1, 5, 4), "scores": torch.zeros(1, 5), "labels": torch.zeros(1, 5)}
        masks, semantic = BoxMasks(torch.zeros(1, 5, 7, 7)), Semantic(torch.zeros(1, 2, 8, 8), (64, 64))
        raw = RawDetections(**rows, parts=(masks, semantic))
        assert (raw.part(BoxMasks), raw.part(Semantic), raw.part(HeatMaps)) == (masks, semantic, None)
        assert list(raw.tensors()) == ["boxes", "scores", "labels", "BoxMasks.probs", "Semantic.logits"]

    @pytest.mark.parametrize(
        ("part", "name"),
        [
            (BoxMasks(torch.zeros(1, 4, 7, 7)), "BoxMasks.probs"),
            (HeatMaps(torch.zeros(2, 5, 3, 7, 7), torch.zeros(1, 5)), "HeatMaps.logits"),
            (Semantic(torch.zeros(2, 3, 8, 8), (64, 64)), "Semantic.logits"),
            (PrototypeMasks(torch.zeros(1, 4, 8), torch.zeros(1, 9, 9, 8), (36, 36)), "PrototypeMasks.coefficients"),
            (PrototypeMasks(torch.zeros(1, 5, 8), torch.zeros(2, 9, 9, 8), (36, 36)), "PrototypeMasks.prototypes"),
            (
                PrototypeMasks(torch.zeros(1, 5, 8), torch.zeros(1, 9, 9, 8), (36, 36), torch.zeros(1, 4)),
                "PrototypeMasks.ratings",
            ),
        ],
    )
    def test_parts_of_other_rows(self, part, name):
        rows = {"boxes": torch.zeros(1, 5, 4), "scores": torch.zeros(1, 5), "labels": torch.zeros(1, 5)}
        with pytest.raises(DataError, match=name):
            RawDetections(**rows, parts=(part,))


class TestInputsAndLimits:
    def test_sizes_are_those_of_the_images_unless_given(self):
        inputs = Inputs(torch.zeros(2, 3, 32, 64))
        assert (len(inputs), inputs.padded, tuple(inputs.sizes)) == (2, (32, 64), ((32, 64), (32, 64)))
        assert Inputs(inputs.images, [(30, 60), (32, 64)]).sizes == [(30, 60), (32, 64)]
        assert len(Inputs(torch.zeros(0, 3, 32, 64))) == 0

    def test_one_of_each_for_every_image(self):
        with pytest.raises(DataError, match="2 images but 1 sizes"):
            Inputs(torch.zeros(2, 3, 32, 64), [(32, 64)])
        with pytest.raises(DataError, match="2 images but 1 proposals"):
            Inputs(torch.zeros(2, 3, 32, 64), proposals=[torch.zeros(0, 4)])

    @pytest.mark.parametrize("limits", [(-0.1, 10), (1.0, 10), (0.5, 0)])
    def test_limits(self, limits):
        with pytest.raises(ConfigError, match="Limits: score is at least 0 and below 1, keep at least 1"):
            Limits(*limits, "exact")
