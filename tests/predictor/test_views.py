"""Test-time augmentation: mirror images of an image, and what they show together."""

from dataclasses import replace

import numpy as np
import pytest
from tests.reference.painted import Painted, canvas, painted, scattered

from maskwright.data import synthetic
from maskwright.errors import ConfigError
from maskwright.explanation.explain import explain
from maskwright.models import rcnn
from maskwright.models.family import build
from maskwright.predictor.predictor import Predictor
from maskwright.predictor.views import VIEWS, _back, _fused, _turned
from maskwright.results.prediction import MAX_INSTANCES, Prediction
from maskwright.types import Classes, Landmarks

SIZE = (70, 101)
IMAGE = canvas(SIZE, scattered(SIZE))


@pytest.mark.parametrize("with_masks", [True, False])
@pytest.mark.parametrize("tta", ["horizontal", "both"])
def test_what_every_view_shows_is_found_as_without(tta: str, with_masks: bool) -> None:
    plain, joined = (painted(with_masks=with_masks).predict(IMAGE, tta=t) for t in (None, tta))
    assert len(plain) > 10
    assert joined.labels.tolist() == plain.labels.tolist()
    np.testing.assert_allclose(joined.boxes, plain.boxes, atol=1e-4)
    np.testing.assert_allclose(joined.scores, plain.scores, rtol=1e-6)
    if plain.crops is not None and joined.crops is not None:
        np.testing.assert_array_equal(joined.crops.dense(), plain.crops.dense())
    assert joined.limits == plain.limits == {}


def test_each_view_is_computed_and_tiles_are_too() -> None:
    detector = Painted(keep=140)
    Predictor(detector, name="painted").predict(IMAGE, tta="both", tiles=64, tile_overlap=32)
    assert len(detector.seen) == 4 * 6
    tiled = painted(keep=140).predict(IMAGE, tta="horizontal", tiles=64, tile_overlap=32)
    assert len(tiled) == len(painted(keep=140).predict(IMAGE))


def test_what_one_view_alone_shows_counts_half() -> None:
    class Left(Painted):
        """It sees nothing in the right half of an image."""

        def detect(self, inputs, limits):  # type: ignore[no-untyped-def]
            images = inputs.images.clone()
            images[..., 50:] = 0
            return super().detect(replace(inputs, images=images), limits)

    shape = np.zeros(SIZE, bool)
    shape[10:30, 5:25] = True
    once = Predictor(Left(), name="left").predict(canvas(SIZE, [shape]), tta="horizontal")
    assert once.scores.tolist() == pytest.approx([(1 - 1 / 20000) / 2])
    assert len(Predictor(Left(), name="left").predict(canvas(SIZE, [shape]), tta="both", score_threshold=0.6)) == 0


def test_the_best_are_kept_and_the_limit_is_told() -> None:
    found = painted().predict(IMAGE, tta="both", max_instances=3)
    assert len(found) == 3
    assert set(found.limits) == {MAX_INSTANCES}


def test_of_a_limit_that_several_views_reached_the_best_score_left_out_is_told() -> None:
    scores = (0.7, 0.8, 0.2, 0.6)
    seen = [Prediction([], [], [], Classes(["a"]), (4, 4), limits={MAX_INSTANCES: score}) for score in scores]
    assert _fused(seen, least=0.5, most=9).limits == {MAX_INSTANCES: 0.8}


@pytest.mark.parametrize("view", VIEWS["both"])
def test_a_mirror_image_of_a_mirror_image_is_the_image(view: tuple[bool, bool]) -> None:
    scene = synthetic.compose(seed=3, size=(60, 80), objects=4, classes=3)
    np.testing.assert_array_equal(_turned(_turned(scene.image, view), view), scene.image)
    own = scene.instances
    marks = (own.boxes, own.scores, own.labels, own.classes, own.size)
    found = Prediction(*marks, crops=own.crops, keypoints=scene.keypoints.astype(np.float32))
    twice = _back(_back(found, view), view)
    np.testing.assert_allclose(twice.boxes, found.boxes, atol=1e-4)
    np.testing.assert_allclose(twice.keypoints, found.keypoints, atol=1e-4)
    assert found.crops is not None
    turned = _back(found, view).crops
    assert turned is not None
    np.testing.assert_array_equal(turned.dense(), [_turned(m[..., None], view)[..., 0] for m in found.crops.dense()])


def test_left_and_right_change_places_in_a_mirror_and_not_upside_down() -> None:
    classes = Classes(["left hand", "right hand"], landmarks=[Landmarks(("left", "right"))] * 2)
    marks = np.array([[[1, 2, 1], [4, 3, 0.5]]], np.float32)
    found = Prediction([[1, 2, 4, 3]], [0.9], [0], classes, (10, 20), keypoints=marks)
    across, turned = _back(found, (True, False)), _back(found, (True, True))
    assert (across.labels.tolist(), turned.labels.tolist()) == ([1], [0])
    assert across.boxes.tolist() == [[16, 2, 19, 3]]
    np.testing.assert_allclose(across.keypoints, [[[16, 3, 0.5], [19, 2, 1]]])
    np.testing.assert_allclose(turned.keypoints, [[[19, 8, 1], [16, 7, 0.5]]])


def test_what_has_no_mirror_image_is_refused() -> None:
    sided = Predictor(Painted(classes=Classes(["left hand", "dot"])), name="painted")
    with pytest.raises(ConfigError, match=r"'left hand' says a side, and none says the other.*leave tta out"):
        sided.predict(IMAGE, tta="both")
    with pytest.raises(ConfigError, match="tta"):
        painted().predict(IMAGE, tta="diagonal")
    with pytest.raises(ConfigError, match="frames are computed as they are"):
        next(painted().track([IMAGE], tta="both"))
    network = Predictor(build(rcnn.tiny("compact")).eval(), Classes(["a", "b", "c"]), name="tiny")
    with pytest.raises(ConfigError, match="Boxes that are given are looked at as they are"):
        network.predict(IMAGE, boxes=[[1, 1, 20, 20]], tta="both")
    with pytest.raises(ConfigError, match="mirror images are further ones"):
        explain(network, IMAGE, tta="both")
