"""YOLACT through the Predictor: mixed sizes in a batch, the mask options, and what they refuse."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from maskwright.data import synthetic
from maskwright.data.formats import coco
from maskwright.data.synthetic import scene
from maskwright.errors import ConfigError
from maskwright.evaluation.evaluate import evaluate
from maskwright.media import write_image
from maskwright.models import rcnn, yolact, zoo
from maskwright.models.yolact import Yolact
from maskwright.prediction.batch import RunOptions, predict_files
from maskwright.predictor.detector import NetworkDetector
from maskwright.predictor.load import load
from maskwright.predictor.options import FindOptions
from maskwright.predictor.predictor import Predictor
from maskwright.results.prediction import Prediction
from maskwright.types import Classes, Inputs, InputSpec, Limits, RawDetections
from maskwright.weights.files import save_checkpoint

pytestmark = pytest.mark.usefixtures("one_thread")

CLASSES = Classes(["leaf", "stem", "root"])
SIZES = [(40, 60), (60, 40), (40, 58), (40, 60), (33, 90), (64, 64), (1, 1), (7, 120)]
FITS = {
    "stretch": InputSpec(size=64, fit="stretch", multiple=1),
    "letterbox": InputSpec(size=64, fit="letterbox", multiple=1),
    "letterbox, not enlarged": InputSpec(size=64, fit="letterbox", enlarge=1.0, resize="pillow", multiple=32),
    "short_edge": InputSpec(size=48, max_size=100, multiple=32),
}
"""Every way to an input."""


def network(style: str = "yolact", spec: InputSpec | None = None, seed: int = 0, **options: Any) -> Predictor:
    torch.manual_seed(seed)
    model = Yolact(yolact.tiny(style)).eval()
    return Predictor(model if spec is None else model.with_spec(spec), CLASSES, name="tiny", **options)


def source_images() -> list[np.ndarray]:
    return [scene(i, size)[0] if min(size) > 30 else np.full((*size, 3), 90, np.uint8) for i, size in enumerate(SIZES)]


def assert_same(a: Prediction, b: Prediction, exact: bool) -> None:
    """Bit for bit, or within the rounding of convolutions that take several images at once."""
    assert (len(a), a.size) == (len(b), b.size)
    assert np.array_equal(a.labels, b.labels)
    assert a.crops is not None
    assert b.crops is not None
    if exact:
        assert np.array_equal(a.scores, b.scores)
        assert np.array_equal(a.boxes, b.boxes)
        assert np.array_equal(a.masks, b.masks)  # type: ignore[arg-type]
    else:
        np.testing.assert_allclose(a.scores, b.scores, rtol=0, atol=1e-5)
        np.testing.assert_allclose(a.boxes, b.boxes, rtol=0, atol=1)  # published boxes are cut to whole pixels
        assert sum(int((x != y).sum()) for x, y in zip(a.masks, b.masks, strict=True)) <= 0.001 * a.crops.areas().sum()  # type: ignore[arg-type]


# ---- batches --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("style", ["yolact", "plus"])
@pytest.mark.parametrize("fit", FITS)
def test_a_batch_of_mixed_sizes_gives_what_its_images_give_alone(fit: str, style: str) -> None:
    predictor = network(style, FITS[fit])
    images = source_images()
    alone = [predictor.predict(image, score_threshold=0.0) for image in images]
    assert sum(len(found) for found in alone) > 30
    assert sum(int(found.crops.areas().sum()) for found in alone if found.crops is not None) > 1000
    for batch_size in (1, 2, 4):
        together = predictor.predict(images, score_threshold=0.0, batch_size=batch_size)
        for a, b in zip(together, alone, strict=True):
            assert_same(a, b, exact=batch_size == 1)


@pytest.mark.parametrize("fit", ["stretch", "letterbox"])
def test_squares_share_batches_whatever_the_images_sizes(fit: str) -> None:
    seen: list[tuple[int, ...]] = []

    class Noting(NetworkDetector):
        def detect(self, inputs: Inputs, limits: Limits) -> RawDetections:
            seen.append(tuple(inputs.images.shape))
            return super().detect(inputs, limits)

    detector = Noting.of(Yolact(yolact.tiny()), CLASSES, spec=FITS[fit])
    Predictor(detector).predict(source_images(), batch_size=4)
    assert seen == [(4, 3, 64, 64), (4, 3, 64, 64)]


def test_a_letterbox_is_a_padded_image_of_its_shape() -> None:
    """The same answer as for the image padded by hand with the mean colour to a square of its long edge."""
    spec = replace(FITS["letterbox"], size=64, mean=(90.0, 90.0, 90.0), std=(50.0, 50.0, 50.0))
    image, square = scene(0, (48, 64))[0], np.full((64, 64, 3), 90, np.uint8)
    square[:48] = image
    predictor = network(spec=spec)
    found, whole = (predictor.predict(i, score_threshold=0.0) for i in (image, square))
    assert found.masks is not None
    assert whole.masks is not None
    inside = {tuple(np.minimum(b, [64, 48, 64, 48])): m[:48] for b, m in zip(whole.boxes, whole.masks, strict=True)}
    assert len(found) > 5
    for box, mask in zip(found.boxes, found.masks, strict=True):
        assert np.array_equal(inside[tuple(box)], mask)


# ---- options --------------------------------------------------------------------------------------------------------


def test_the_mask_options_reach_the_masks() -> None:
    predictor, image = network(), source_images()[0]

    def masks(**options: Any) -> np.ndarray:
        found = predictor.predict(image, score_threshold=0.0, **options).masks
        assert found is not None
        return found

    plain = masks()
    assert np.array_equal(plain, masks(crop_margin=None, upsample=None, largest_component=None))
    assert np.array_equal(plain, masks(crop_margin=1.0, upsample="masks", largest_component=False))
    tight, loose, free = (masks(crop_margin=m).sum() for m in (0.0, 3.0, float("inf")))
    assert tight < plain.sum() < loose < free
    exact = masks(crop_margin=0.0, upsample="logits")
    assert 0 < exact.sum() < plain.sum()
    boxes = predictor.predict(image, score_threshold=0.0).boxes  # cut down to whole pixels
    for (x1, y1, x2, y2), mask in zip(boxes.astype(int), exact, strict=True):
        outside = mask.copy()
        outside[y1 : y2 + 1, x1 : x2 + 1] = False
        assert not outside.any()
    assert 0 < masks(largest_component=True).sum() < plain.sum()
    assert predictor.detector.output == yolact.tiny().output


def boxes_only() -> Predictor:
    torch.manual_seed(0)
    return Predictor(rcnn.RCNN(replace(rcnn.tiny("detectron2"), masks=False)).eval(), CLASSES, name="boxes")


def test_options_without_use_are_refused() -> None:
    torch.manual_seed(0)
    pasting = Predictor(rcnn.RCNN(rcnn.tiny("detectron2")).eval(), CLASSES, name="pasting")
    with pytest.raises(ConfigError, match=r"'pasting' makes no masks of prototypes .* no use for crop_margin"):
        pasting.predict("none.png", crop_margin=0.0)
    with pytest.raises(ConfigError, match="no use for crop_margin and upsample"):
        pasting.predict("none.png", crop_margin=0.0, upsample="masks")
    with pytest.raises(ConfigError, match="'boxes' finds boxes only"):
        boxes_only().predict("none.png", largest_component=True)
    assert boxes_only().predict(source_images()[0], largest_component=False).crops is None
    assert pasting.predict(source_images()[0], largest_component=True).crops is not None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop_margin": -1.0}, "crop_margin is at least 0"),
        ({"crop_margin": float("nan")}, "crop_margin is at least 0"),
        ({"upsample": "mask"}, "upsample is 'masks' or 'logits'"),
        ({"crop_margins": 1.0}, "Did you mean 'crop_margin'"),
    ],
)
def test_wrong_values_are_named_before_anything_is_read(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        network().predict("there/is/none.png", **options)


def test_the_options_reach_runs_and_evaluations(tmp_path: Path) -> None:
    predictor, image = network(), source_images()[0]
    write_image(tmp_path / "a.png", image)
    for masks in ({}, {"crop_margin": 0.0, "upsample": "logits"}):
        find = FindOptions(score_threshold=0.0, **masks)  # type: ignore[arg-type]
        options = RunOptions(save=["json"], find=find, overwrite=True)
        predict_files(predictor, [tmp_path / "a.png"], tmp_path / "out", options)
        expected = predictor.predict(image, score_threshold=0.0, **masks)  # type: ignore[call-overload]
        found = Prediction.load(tmp_path / "out/json/a.json")
        assert np.array_equal(found.masks, expected.masks)  # type: ignore[arg-type]
    options = RunOptions(find=FindOptions(upsample="logits"))
    with pytest.raises(ConfigError, match="no use for upsample"):
        predict_files(boxes_only(), [tmp_path / "a.png"], tmp_path / "no", options)
    assert not (tmp_path / "no").exists()

    fixture = synthetic.coco_fixture(tmp_path / "scenes", 2, size=(64, 80))
    data = coco.load(fixture, fixture.parent / "images")
    predictor = Predictor(replace(predictor.detector, classes=Classes(data.classes.names[:3])))  # type: ignore[type-var]
    data = replace(data, annotations={k: tuple(a for a in v if a.label < 3) for k, v in data.annotations.items()})
    areas = []
    for masks in ({}, {"crop_margin": float("inf")}):
        seen: list[int] = []
        evaluate(
            predictor, data, progress=False, watch=lambda i, p, f, s=seen: s.append(f.crops.areas().sum()), **masks
        )  # type: ignore
        areas.append(sum(seen))
    assert areas[0] < areas[1]
    same = dict(zip(CLASSES, data.classes, strict=False))
    with pytest.raises(ConfigError, match="no use for largest_component"):
        evaluate(boxes_only(), data, progress=False, largest_component=True, class_names=same)


def test_how_images_fit_is_chosen_when_loading(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Yolact(yolact.tiny())
    path = tmp_path / "best.safetensors"
    save_checkpoint(path, model.state_dict(), zoo.describe(model.config, CLASSES, "yolact_r50"))
    assert load(path).spec == yolact.tiny().spec
    assert load(path, fit="letterbox").spec == replace(yolact.tiny().spec, fit="letterbox")
    assert load(path, fit="short_edge", size=40).spec == replace(yolact.tiny().spec, fit="short_edge", size=40)
    found = load(path, fit="letterbox").predict(source_images()[0], score_threshold=0.0)
    assert len(found) > 0
    with pytest.raises(ConfigError, match="'short_edge', 'stretch' or 'letterbox', got 'squeeze'"):
        load(path, fit="squeeze")  # type: ignore[arg-type]
    compact = Yolact(yolact.tiny("compact"))
    save_checkpoint(path, compact.state_dict(), zoo.describe(compact.config, CLASSES, "yolact_small"))
    assert not load(path).spec.shrink
    assert load(path, fit="letterbox").spec == replace(compact.config.spec, fit="letterbox", shrink=True)
