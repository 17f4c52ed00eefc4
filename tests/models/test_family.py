"""What it takes to add a family: one module and one row. All verbs then work, and the contract holds it too."""

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.models.dummy import FAMILY, Dummy, DummyConfig, DummyState
from tests.models.test_contract import CHECKS, assert_rows, exported_rows_are_the_same, source_images
from tests.reference import heat_maps as twin

from maskwright.errors import ConfigError
from maskwright.explanation.explain import explain
from maskwright.models import zoo
from maskwright.models.base import Config
from maskwright.models.family import FAMILIES, accelerated, build, family_name, family_of
from maskwright.predictor.finish import kept_rows
from maskwright.predictor.load import load
from maskwright.predictor.options import FindOptions
from maskwright.predictor.predictor import Predictor
from maskwright.results.prediction import Prediction
from maskwright.types import Classes, HeatMaps, Inputs, Landmarks
from maskwright.weights.files import save_checkpoint

pytestmark = pytest.mark.usefixtures("one_thread", "dummy")

WING = Landmarks(("left tip", "right tip"), ((0, 1),))
CLASSES = Classes(["fly", "bee"], landmarks=[WING, WING])


@pytest.fixture
def dummy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FAMILIES, "dummy", FAMILY)


def bright_is_class_1() -> Dummy:
    """The class of a pixel is whether its cell is bright."""
    torch.manual_seed(0)
    model = Dummy(DummyConfig()).eval()
    with torch.no_grad():
        body, semantic = model.body.get_parameter("0.weight"), model.semantic
        body[0] = 1 / body[0].numel()
        model.body.get_parameter("0.bias")[0] = 0
        semantic.weight.zero_()
        semantic.weight[1, 0] = 1
        semantic.get_parameter("bias").copy_(torch.tensor([0.5, 0.0]))
    return model


def photo() -> np.ndarray:
    """(75, 110, 3): noise, dark on the left, bright on the right."""
    image = np.random.default_rng(0).integers(0, 60, (75, 110, 3))
    image[:, 60:] += 190
    return image.astype(np.uint8)


def test_one_row_makes_it_known() -> None:
    config = DummyConfig(landmarks=3)
    assert family_of(config) is FAMILY
    assert family_name(config) == "dummy"
    model, classes = zoo.rebuild(zoo.describe(config, CLASSES, "dummy"))
    assert (type(model), model.config, classes) == (Dummy, config, CLASSES)
    assert type(accelerated(build(config))) is Dummy


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_contract_holds_it(check: Callable[[Config], None]) -> None:
    check(DummyConfig())


def test_it_is_exported() -> None:
    exported_rows_are_the_same(DummyConfig())


def test_what_it_finds_comes_out_on_the_image(tmp_path: Path) -> None:
    """Landmarks as the twin finds them in the raw maps, the class of every pixel, and all of it in a file."""
    model, image = bright_is_class_1(), photo()
    predictor = Predictor(model, CLASSES, name="dummy")
    found = predictor.predict(image)
    assert 0 < len(found) <= 10
    assert found.classes.landmarks == (WING, WING)
    assert found.crops is None
    assert not predictor.draws_masks
    tensor, geometry = predictor.prepare(image)
    raw = predictor.run(predictor.batch([tensor]), predictor.plan(FindOptions()))
    maps = raw.part(HeatMaps)
    assert maps is not None
    height, width = geometry.size
    kept = kept_rows(raw, 0, geometry, model.config.output).index.tolist()
    assert found.keypoints is not None
    for row, points in zip(kept, found.keypoints, strict=True):
        wanted = np.array(twin.peaks(maps.logits[0, row].numpy(), raw.boxes[0, row].tolist()))
        wanted[:, :2] *= np.array([110 / width, 75 / height])
        np.testing.assert_allclose(points, wanted, rtol=1e-4, atol=1e-2)
    assert found.semantic is not None
    assert found.semantic.shape == (75, 110)
    assert not found.semantic[:, :50].any()
    assert found.semantic[:, 70:].all()
    again = Prediction.load(found.save(tmp_path / "a.json"))
    np.testing.assert_array_equal(again.keypoints, found.keypoints)
    np.testing.assert_array_equal(again.semantic, found.semantic)


def test_a_list_gives_what_its_images_give() -> None:
    predictor = Predictor(bright_is_class_1(), CLASSES)
    images = [photo(), photo()[:, ::-1]]
    for found, image in zip(predictor.predict(images, batch_size=2), images, strict=True):
        alone = predictor.predict(image)
        np.testing.assert_allclose(found.boxes, alone.boxes, atol=1e-3)
        np.testing.assert_array_equal(found.semantic, alone.semantic)


def test_without_an_explanation_it_says_so() -> None:
    predictor = Predictor(build(DummyConfig()), CLASSES, name="dummy")
    with pytest.raises(ConfigError, match=r"'dummy' cannot be explained; .*: rcnn, yolact"):
        explain(predictor, photo())


def test_a_checkpoint_of_it_is_loaded(tmp_path: Path) -> None:
    model = bright_is_class_1()
    header = zoo.describe(model.config, CLASSES, "dummy")
    path = save_checkpoint(tmp_path / "dummy.safetensors", model.state_dict(), header)
    predictor = load(path)
    wanted, found = Predictor(model, CLASSES).predict(photo()), predictor.predict(photo())
    assert predictor.classes == CLASSES
    np.testing.assert_array_equal(found.boxes, wanted.boxes)
    np.testing.assert_array_equal(found.keypoints, wanted.keypoints)


def test_a_video_is_carried_by_its_state_alone() -> None:
    """Frames give the same whatever the model saw before, and a state can be used twice."""
    model, frames = bright_is_class_1(), [Inputs(source_images(1, seed)) for seed in range(3)]
    attributes = set(vars(model))
    with torch.no_grad():
        first, state = model.start(frames[0])
        kept = {f.name: getattr(state, f.name).clone() for f in fields(DummyState)}
        second, later = model.step(frames[1], state)
        third, _ = model.step(frames[2], later)
        alone = model.detect(frames[0])
        again, _ = model.step(frames[1], state)
    assert all(torch.equal(value, alone.tensors()[name]) for name, value in first.tensors().items())
    assert torch.equal(second.boxes, again.boxes)
    assert all(torch.equal(value, getattr(state, name)) for name, value in kept.items())
    assert set(vars(model)) == attributes
    for raw in (first, second, third):
        assert_rows(raw, 1, model.config)
