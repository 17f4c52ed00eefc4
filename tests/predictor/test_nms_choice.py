"""Which suppression a loaded model uses: chosen by name, refused where there is no choice, and seen by explanations."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from maskwright.data.synthetic import scene
from maskwright.errors import ConfigError, DataError
from maskwright.explanation.explain import explain
from maskwright.models import rcnn, yolact, zoo
from maskwright.models.base import AnyModel
from maskwright.models.rcnn.explanation import RCNNExplanation
from maskwright.models.yolact import Yolact
from maskwright.models.yolact.explanation import YolactExplanation
from maskwright.ops import boxes as box_ops
from maskwright.predictor.load import load
from maskwright.results.prediction import Prediction
from maskwright.types import Classes
from maskwright.weights.files import save_checkpoint

CLASSES = Classes(["leaf", "stem", "root"])
KINDS = ("fast", "fast_cross", "exact")
CONFIG = replace(yolact.tiny(), nms=yolact.NMSConfig(iou=0.3, keep=200))


def checkpoint(folder: Path, model: AnyModel, name: str = "best.safetensors") -> Path:
    save_checkpoint(folder / name, model.state_dict(), zoo.describe(model.config, CLASSES, "some"))
    return folder / name


@pytest.fixture
def path(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    return checkpoint(tmp_path, Yolact(CONFIG))


def test_a_model_loaded_with_another_suppression_finds_what_one_built_so_finds(path: Path, tmp_path: Path) -> None:
    image, counts = scene(0, (60, 80))[0], set()
    for kind in KINDS:
        torch.manual_seed(0)
        built = Yolact(replace(CONFIG, nms=replace(CONFIG.nms, kind=kind)))
        chosen, own = load(path, nms=kind), load(checkpoint(tmp_path, built, f"{kind}.safetensors"))
        a, b = (p.predict(image, score_threshold=p.lowest_score) for p in (chosen, own))
        assert np.array_equal(a.boxes, b.boxes)
        assert np.array_equal(a.scores, b.scores)
        assert np.array_equal(a.labels, b.labels)
        counts.add(a.boxes.tobytes())
        assert chosen.detector.limits == own.detector.limits
        assert chosen.model.config == CONFIG  # the network is the same: the choice comes with each call
    assert len(counts) == len(KINDS)  # so the choice reached the network
    assert load(path).detector.limits == CONFIG.limits_for()


def test_exact_suppression_reports_nothing_below_its_threshold_and_says_so(path: Path) -> None:
    assert load(path).lowest_score == 0.0
    predictor = load(path, nms="exact")
    assert predictor.lowest_score == CONFIG.nms.score
    with pytest.raises(ConfigError, match=r"finds nothing below a score of 0\.05"):
        predictor.predict(scene(0, (60, 80))[0], score_threshold=0.01)


def test_an_explanation_tells_of_the_chosen_suppression(path: Path) -> None:
    found = explain(load(path, nms="exact"), scene(0, (60, 80))[0], score_threshold=0.05)
    assert isinstance(found, YolactExplanation)
    assert found.suppression.kind == "exact"
    assert found.panels()[1].title.startswith("Greedy NMS")


def test_an_explanation_takes_the_options_of_masks(path: Path) -> None:
    predictor, image = load(path), scene(0, (60, 80))[0]
    for options in ({}, {"crop_margin": 0.0, "upsample": "logits"}, {"crop_margin": 4.0, "largest_component": True}):
        found = explain(predictor, image, score_threshold=0.05, **options)  # type: ignore[arg-type]
        same = predictor.predict(image, score_threshold=0.05, **options)  # type: ignore[call-overload]
        assert np.array_equal(found.prediction.masks, same.masks)  # type: ignore[arg-type]
        assert isinstance(found, YolactExplanation)
        x1, _, x2, _ = found.cell_box
        margin = float(options.get("crop_margin", 1.0))
        cells = np.flatnonzero(found.window.any(axis=0))
        assert cells[0] >= x1 - margin
        assert cells[-1] < x2 + margin
    assert predictor.detector.output == CONFIG.output


def test_a_lower_score_is_advised_only_where_it_helps(tmp_path: Path) -> None:
    """A prior whose best class is not above the candidates' threshold is never looked at, whatever is asked for."""
    torch.manual_seed(0)
    model = Yolact(replace(CONFIG, nms=replace(CONFIG.nms, score=0.999)))
    predictor = load(checkpoint(tmp_path, model))
    with pytest.raises(DataError, match=r"reports nothing below 0\.999, so there is nothing to explain"):
        explain(predictor, scene(0, (60, 80))[0], score_threshold=0.1)


def test_a_wrong_choice_is_refused(path: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="fast, fast_cross, exact, got 'soft'"):
        load(path, nms="soft")
    masks = checkpoint(tmp_path, rcnn.RCNN(rcnn.tiny("detectron2")), "masks.safetensors")
    with pytest.raises(ConfigError, match="nms is one of by_class, cross, got 'exact'"):
        load(masks, nms="exact")
    with pytest.raises(ConfigError, match="nms is one of by_class, cross, got 'fast'"):
        load("mask_rcnn_r50_fpn.detectron2", nms="fast")  # before anything is fetched


def test_no_place_is_found_as_two_classes_where_suppression_is_across(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = rcnn.tiny("compact")
    model = rcnn.RCNN(replace(config, roi=replace(config.roi, score=0.01, keep=200)))
    path, image = checkpoint(tmp_path, model), scene(0, (60, 80))[0]
    own, across, same = (
        load(path, nms=kind).predict(image, score_threshold=0.01) for kind in (None, "cross", "fast_cross")
    )
    assert load(path, nms="fast_cross").detector.limits.nms == "cross"  # the name that YOLACT has for it
    assert np.array_equal(across.boxes, same.boxes)

    def overlap(found: Prediction) -> float:
        iou = box_ops.iou(torch.from_numpy(found.boxes), torch.from_numpy(found.boxes))
        return float(iou.fill_diagonal_(0).max())

    assert overlap(own) > config.roi.nms
    assert overlap(across) <= config.roi.nms + 1e-5
    assert across.scores[0] == own.scores[0]
    told = explain(load(path, nms="cross"), image, score_threshold=0.01)
    assert isinstance(told, RCNNExplanation)
    assert told.across
    assert len(told.rivals) >= len(explain(load(path), image, score_threshold=0.01).rivals)  # type: ignore[attr-defined]


def test_across_has_one_name_for_all_families(path: Path) -> None:
    assert load(path, nms="cross").detector.limits == load(path, nms="fast_cross").detector.limits
