"""The Predictor's edges, with a detector whose answer is known and with a tiny random Mask R-CNN."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from maskwright.data.synthetic import scene
from maskwright.errors import ConfigError, ImageError
from maskwright.models.base import Config
from maskwright.models.family import family_of
from maskwright.models.rcnn import RCNN, tiny
from maskwright.predictor import predictor as predictor_module
from maskwright.predictor.detector import Detector
from maskwright.predictor.finish import finish
from maskwright.predictor.predictor import Predictor
from maskwright.predictor.prepare import prepare
from maskwright.predictor.timing import StageTimer
from maskwright.results.prediction import Prediction
from maskwright.types import BoxMasks, Classes, Inputs, InputSpec, Limits, OutputSpec, RawDetections

pytestmark = pytest.mark.usefixtures("one_thread")

CLASSES = Classes(["leaf", "stem", "root"])


class Middle:
    """A detector that is no network: finds the middle of every image, as many times as asked, of labels 0, 1, 2, 0,
    ...; notes what it was given."""

    classes, parts = CLASSES, (BoxMasks,)
    device, dtype, precision = torch.device("cpu"), torch.float32, "float32"

    def __init__(self, count: int = 3, spec: InputSpec | None = None, output: OutputSpec | None = None) -> None:
        self.spec = spec or InputSpec(size=32, max_size=64, mean=(0, 0, 0), std=(1, 1, 1))
        self.output, self.limits = output or OutputSpec(), Limits(0.05, 100, "none")
        self.count = count
        self.seen: list[tuple[tuple[int, ...], list[tuple[int, int]]]] = []
        self.asked: list[Limits] = []
        self.pixels: list[Tensor] = []

    def lowest_score(self, limits: Limits) -> float:
        return limits.score

    def detect(self, inputs: Inputs, limits: Limits) -> RawDetections:
        self.seen.append((tuple(inputs.images.shape), list(inputs.sizes)))
        self.asked.append(limits)
        self.pixels.append(inputs.images.float())
        batch, k = len(inputs), self.count
        boxes = torch.tensor([[w / 4, h / 4, 3 * w / 4, 3 * h / 4] for h, w in inputs.sizes])[:, None].repeat(1, k, 1)
        scores = torch.linspace(0.9, 0.3, k).repeat(batch, 1)
        labels = (torch.arange(k) % 3).repeat(batch, 1)
        return RawDetections(boxes, scores, labels, (BoxMasks(torch.ones(batch, k, 28, 28)),))


def middle(count: int = 3, output: OutputSpec | None = None) -> Predictor:
    detector: Detector = Middle(count, output=output)
    return Predictor(detector, name="middle")


def network(seed: int = 0, style: str = "detectron2", **options: Any) -> Predictor:
    torch.manual_seed(seed)
    model = RCNN(tiny(style)).eval()
    with torch.no_grad():
        model.box_predictor.deltas.weight.mul_(30)
    return Predictor(model, CLASSES, name="tiny", **options)


def source_image(size: tuple[int, int] = (40, 60), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def assert_same(a: Prediction, b: Prediction, exact: bool = True) -> None:
    assert (len(a), a.size) == (len(b), b.size)
    assert np.array_equal(a.labels, b.labels)
    np.testing.assert_allclose(a.scores, b.scores, rtol=0, atol=0 if exact else 1e-5)
    np.testing.assert_allclose(a.boxes, b.boxes, rtol=0, atol=0 if exact else 2e-2)
    assert a.crops is not None
    assert b.crops is not None
    if exact:
        assert np.array_equal(a.masks, b.masks)  # type: ignore[arg-type]
    else:
        np.testing.assert_allclose(a.crops.areas(), b.crops.areas(), rtol=0.02, atol=3)


# ---- what comes back ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 100])
def test_none_one_and_many(count: int) -> None:
    found = middle(count).predict(source_image((40, 80)))
    assert isinstance(found, Prediction)
    assert len(found) == count
    assert found.size == (40, 80)
    assert found.classes == CLASSES
    assert found.masks is not None
    assert found.masks.shape == (count, 40, 80)
    for box, mask in zip(found.boxes, found.masks, strict=True):
        assert box.tolist() == pytest.approx([20, 10, 60, 30])
        assert mask[10:30, 20:60].all()
        assert mask.sum() == 20 * 40


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (20000, 50), (3, 2)])
@pytest.mark.parametrize("style", ["detectron2", "torchvision_v1", "c4", "compact"])
def test_extreme_images_through_a_network(size: tuple[int, int], style: str) -> None:
    found = network(style=style).predict(source_image(size))
    assert found.size == size
    assert found.masks is not None
    assert np.isfinite(found.boxes).all()
    if style != "torchvision_v1":  # it leaves boxes as they are after scaling
        assert (found.boxes >= 0).all()
        assert (found.boxes <= np.array([size[1], size[0]] * 2)).all()


def test_nothing_found_by_a_network() -> None:
    predictor = network()
    with torch.no_grad():
        predictor.model.box_predictor.classes.bias[-1] = 100  # type: ignore[union-attr, index]
    found = predictor.predict(source_image())
    assert len(found) == 0
    assert found.masks is not None
    assert found.masks.shape == (0, 40, 60)
    assert found.to_coco() == []


# ---- what goes in ---------------------------------------------------------------------------------------------------


def test_every_kind_of_source_is_the_same_image(tmp_path: Path) -> None:
    image, predictor = source_image(), network()
    wanted = predictor.predict(image)
    assert len(wanted) > 0
    path = tmp_path / "p.png"
    Image.fromarray(image).save(path)
    for source in (path, str(path), Image.open(path), Image.fromarray(image), image[:, :, ::-1][:, :, ::-1]):
        assert_same(predictor.predict(source), wanted)
    assert_same(predictor.predict([path])[0], wanted)
    assert_same(predictor.predict((image,))[0], wanted)


def test_grey_palette_and_transparent_images(tmp_path: Path) -> None:
    grey = source_image()[:, :, 0]
    predictor = network()
    wanted = predictor.predict(np.repeat(grey[:, :, None], 3, axis=2))
    Image.fromarray(grey).save(tmp_path / "grey.png")
    for source in (grey, grey[:, :, None], Image.fromarray(grey), tmp_path / "grey.png"):
        assert_same(predictor.predict(source), wanted)
    image = source_image()
    opaque = np.dstack([image, np.full(image.shape[:2], 255, np.uint8)])
    wanted = predictor.predict(image)
    for source in (opaque, Image.fromarray(opaque)):
        assert_same(predictor.predict(source), wanted)
    palette = Image.fromarray(image).quantize(16)
    assert_same(predictor.predict(palette), predictor.predict(np.asarray(palette.convert("RGB"))))


def test_channels_reach_the_network_in_its_order() -> None:
    image = np.zeros((32, 32, 3), np.uint8)
    image[:, :, 0] = 200  # red
    for channels, place in (("RGB", 0), ("BGR", 2)):
        spec = InputSpec(size=32, max_size=64, channels=channels, mean=(0, 0, 0), std=(1, 1, 1))  # type: ignore[arg-type]
        detector = Middle(spec=spec)
        Predictor(detector).predict(image)
        assert detector.pixels[0].amax(dim=(0, 2, 3)).tolist() == [200.0 if c == place else 0.0 for c in range(3)]


@pytest.mark.parametrize("source", [3, None, np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8), "there/is/none.png"])
def test_what_is_no_image_is_an_error(source: Any) -> None:
    with pytest.raises(ImageError):
        middle().predict(source)


# ---- lists ----------------------------------------------------------------------------------------------------------

SIZES = [(40, 60), (60, 40), (40, 58), (40, 60), (33, 90), (64, 64), (60, 40)]


def test_a_list_is_batched_by_padded_size_and_keeps_its_order() -> None:
    predictor = middle()
    found = predictor.predict([source_image(s) for s in SIZES], batch_size=2)
    assert [f.size for f in found] == SIZES
    for result, size in zip(found, SIZES, strict=True):
        assert_same(result, middle().predict(source_image(size)))
    assert isinstance(predictor.detector, Middle)
    batches = predictor.detector.seen
    assert max(shape[0] for shape, _ in batches) == 2
    assert sum(shape[0] for shape, _ in batches) == len(SIZES)
    for shape, sizes in batches:
        assert all(shape[2] - 32 < h <= shape[2] and shape[3] - 32 < w <= shape[3] for h, w in sizes)
    assert len(batches) < len(SIZES)


@pytest.mark.parametrize("style", ["detectron2", "torchvision_v1", "c4"])
def test_a_list_gives_what_its_images_give_alone(style: str) -> None:
    """Bit for bit where each goes alone, within rounding where they share a batch."""
    predictor = network(style=style)
    images = [scene(i, s)[0] for i, s in enumerate(SIZES)]
    alone = [predictor.predict(image) for image in images]
    for together, exact in ((predictor.predict(images, batch_size=1), True), (predictor.predict(images), False)):
        for a, b in zip(together, alone, strict=True):
            assert_same(a, b, exact)
    assert sum(len(a) for a in alone) > 0


def test_an_empty_list() -> None:
    assert middle().predict([]) == []


def test_one_bad_image_of_a_list_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"broken\.png"):
        middle().predict([source_image(), tmp_path / "broken.png"])


# ---- options --------------------------------------------------------------------------------------------------------


def test_options_choose_rows() -> None:
    predictor = middle(5)
    every = predictor.predict(source_image())
    assert every.labels.tolist() == [0, 1, 2, 0, 1]
    assert predictor.predict(source_image(), score_threshold=0.5).scores.min() >= 0.5
    assert predictor.predict(source_image(), max_instances=2).labels.tolist() == [0, 1]
    assert predictor.predict(source_image(), max_instances=0).labels.tolist() == []
    assert predictor.predict(source_image(), classes=["root", "leaf"]).labels.tolist() == [0, 2, 0]
    assert predictor.predict(source_image(), classes=[]).labels.tolist() == []
    assert predictor.predict(source_image(), classes=["stem"], max_instances=1).labels.tolist() == [1]
    assert_same(predictor.predict(source_image(), score_threshold=None, classes=None, max_instances=None), every)
    assert isinstance(predictor.detector, Middle)
    assert predictor.detector.output == OutputSpec()


def test_a_detector_is_asked_for_as_many_rows_as_are_wanted() -> None:
    predictor = middle(5)
    for options in ({}, {"max_instances": 3}, {"max_instances": 300}):
        predictor.predict(source_image(), **options)
    assert isinstance(predictor.detector, Middle)
    assert [limits.keep for limits in predictor.detector.asked] == [100, 100, 300]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"score_threshold": 0.01}, r"'middle' finds nothing below a score of 0\.05, got score_threshold 0\.01"),
        ({"score_threshold": 1.5}, r"score_threshold is at least 0 and at most 1, got 1\.5"),
        ({"max_instances": -1}, "max_instances is at least 0 and finite, got -1"),
        ({"batch_size": 0}, "batch_size is at least 1 and finite, got 0"),
        ({"classes": ["leef"]}, r"'middle' has no class 'leef'\. Did you mean 'leaf'"),
        ({"classes": "leaf"}, r"classes is a list of names, got 'leaf'"),
        ({"score": 0.5}, r"predict has no option 'score'\. Did you mean 'score_threshold'"),
    ],
)
def test_wrong_options_are_named_before_anything_is_read(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        middle().predict("there/is/none.png", **options)


def test_the_timer_gets_every_stage() -> None:
    timer = StageTimer()
    middle().predict([source_image(), source_image((60, 40))], timer=timer)
    assert set(timer.totals) == {"read", "prepare", "network", "finish"}


# ---- the model ------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("bf16")
@pytest.mark.parametrize("training", [True, False])
def test_the_given_model_stays_as_it_is(training: bool) -> None:
    torch.manual_seed(0)
    model = RCNN(tiny("torchvision_v2")).train(training)
    state = {k: v.clone() for k, v in model.state_dict().items()}
    modules = [(n, type(m)) for n, m in model.named_modules()]
    predictor = Predictor(model, CLASSES, precision="bf16")
    predictor.predict(source_image())
    assert predictor.model is not model
    assert model.training is training
    assert [(n, type(m)) for n, m in model.named_modules()] == modules
    assert all(torch.equal(v, state[k]) and v.dtype == state[k].dtype for k, v in model.state_dict().items())
    assert all(p.requires_grad for p in model.parameters())
    assert model.config == tiny("torchvision_v2")


def test_prediction_equals_the_models_own_detection() -> None:
    """Accelerated against plain, through everything that comes before and after."""
    torch.manual_seed(1)
    model = RCNN(tiny("torchvision_v2")).eval()
    image = scene(0, (64, 64))[0]
    found = Predictor(model, CLASSES).predict(image)
    with torch.no_grad():
        tensor, geometry = prepare(image, model.config.spec)
        expected = finish(model.detect(Inputs(tensor[None])), 0, geometry, CLASSES, model.config.output)
    assert len(found) == len(expected) > 0
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)


@pytest.mark.usefixtures("bf16")
@pytest.mark.parametrize("style", ["detectron2", "torchvision_v1", "torchvision_v2", "c4", "compact"])
def test_bf16_runs_and_is_near(style: str) -> None:
    full, half = network(style=style), network(style=style, precision="bf16")
    image = scene(2, (64, 80))[0]
    a, b = (p.predict(image, score_threshold=p.lowest_score) for p in (full, half))
    assert half.precision == "bf16"
    assert all(p.dtype == torch.bfloat16 for p in half.model.parameters())
    assert b.scores.dtype == b.boxes.dtype == np.float32
    assert len(b) > 0
    assert a.scores.max() == pytest.approx(b.scores.max(), abs=0.05)
    assert repr(half).endswith("bf16)")


def test_a_fork_that_would_wait_for_ever_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch hangs there where several threads are set; a copy sent to a process is used there."""
    predictor, image = network(), scene(2, (64, 80))[0]
    copied = pickle.loads(pickle.dumps(predictor))
    monkeypatch.setattr(predictor_module.os, "getpid", lambda: 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    for use in (predictor.predict, predictor.prepare):
        with pytest.raises(
            ConfigError, match=r"this one \(1\) is a fork.*get_context\('spawn'\).*set_num_threads\(1\)"
        ):
            use(image)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert len(predictor.predict(image)) == len(pickle.loads(pickle.dumps(copied)).predict(image))


def test_unknown_precision_and_device() -> None:
    with pytest.raises(ConfigError, match="precision is one of"):
        network(precision="fp8")
    with pytest.raises(ConfigError, match="device 'gpu' cannot be used"):
        network(device="gpu")


@pytest.mark.usefixtures("bf16")
def test_both_spellings_of_bf16() -> None:
    assert network(precision="bfloat16").precision == "bf16"


def test_what_only_a_network_needs_and_has() -> None:
    with pytest.raises(ConfigError, match="needs the names of its classes"):
        Predictor(RCNN(tiny()))
    with pytest.raises(ConfigError, match="Config is the config of no known family; known are rcnn, yolact"):
        family_of(Config())
    with pytest.raises(ConfigError, match="'middle' is run by Middle, there is no network to look at"):
        _ = middle().model
    assert (middle().precision, middle().device.type, middle().draws_masks) == ("float32", "cpu", True)
    assert repr(middle()) == "Predictor('middle', 3 classes, cpu, float32)"


def test_labels_by_name() -> None:
    assert middle().labels(["root", "leaf"]) == [2, 0]
    assert middle().spec.size == 32


def test_what_users_see_may_be_stricter_than_what_the_model_reports() -> None:
    strict, every = middle(5, OutputSpec(score_threshold=0.5)), middle(5).predict(source_image())
    assert (strict.lowest_score, strict.score_threshold) == (0.05, 0.5)
    assert 0 < (every.scores >= 0.5).sum() < len(every)
    assert_same(strict.predict(source_image()), every[every.scores >= 0.5])
    assert_same(strict.predict(source_image(), score_threshold=strict.lowest_score), every)
