"""Training on things and stuff: classes of pixels come from the data, panoptic quality decides."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import maskwright
from maskwright.data import formats
from maskwright.data.dataset import Dataset
from maskwright.data.stats import stats
from maskwright.data.synthetic import coco_fixture, panoptic_fixture
from maskwright.errors import ConfigError
from maskwright.evaluation.classes import of_stuff
from maskwright.explanation.explain import explain
from maskwright.models.rcnn import RCNN, tiny_variants
from maskwright.samples.augment import Augment
from maskwright.samples.excerpt import windows
from maskwright.samples.loader import Sampling
from maskwright.samples.sheet import sheet
from maskwright.training.network import NetworkSettings, build, find_start, least_stuff
from maskwright.types import BoxMasks, Semantic


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return panoptic_fixture(tmp_path_factory.mktemp("scenes"), 0, images=6, size=(64, 80), objects=3, classes=2).parent


@pytest.fixture(scope="module")
def data(place: Path) -> Dataset:
    return formats.load(place)


def test_the_classes_of_pixels_come_from_the_data(data: Dataset, tmp_path: Path) -> None:
    start = find_start(NetworkSettings(model="panoptic_fpn_small"))
    model, _ = build(NetworkSettings(model="panoptic_fpn_small"), data.classes, start, data=data)
    semantic = model.config.semantic
    assert semantic.classes == data.semantic_classes
    assert semantic.stuff_area == least_stuff(data) == round(4096 * 64 * 80 / (480 * 640))
    assert least_stuff(replace(data, images=(replace(data.images[0], size=(2000, 2000)),))) == 4096
    assert model.state_dict()["semantic_head.logits.bias"].shape == (len(data.semantic_classes),)
    objects = formats.load(coco_fixture(tmp_path, 0, images=1))
    with pytest.raises(ConfigError, match=r"learns the class of every pixel.*'coco_panoptic'; or choose a Mask R-CNN"):
        build(NetworkSettings(model="panoptic_fpn_small"), objects.classes, start, data=objects)


def test_what_is_measured_is_what_data_and_model_both_have(data: Dataset) -> None:
    both = (BoxMasks, Semantic)
    assert of_stuff(data, both) == ("panoptic", "semantic")
    assert of_stuff(replace(data, semantic_maps=None), both) == ("panoptic",)
    assert of_stuff(replace(data, panoptic_maps=None), both) == of_stuff(data, (BoxMasks,)) == ()


def test_statistics_name_the_stuff(data: Dataset) -> None:
    names = data.semantic_classes.names[1:]
    assert stats(data).as_json()["stuff"] == list(names)
    assert f"Maps of all pixels: {len(names)} kinds of stuff ({', '.join(names)})." in stats(data).report()


def test_windows_keep_the_classes_of_their_pixels(data: Dataset, tmp_path: Path) -> None:
    cut = windows(data, [0, 2], replace(tiny_variants()["panoptic"].spec, size=64), 32, tmp_path)
    assert cut.semantic_classes == data.semantic_classes
    for i in range(2):
        assert cut.semantic(i).shape == cut.images[i].size == (32, 32)
        things = np.zeros((32, 32), bool) if not cut.of(i) else cut.masks(i).dense().any(axis=0)
        assert (cut.semantic(i)[things] == 0).mean() > 0.9


def test_the_sheet_of_samples_tints_stuff(data: Dataset) -> None:
    spec = replace(tiny_variants()["panoptic"].spec, size=64)
    drawn, plain = (sheet(one, spec, Sampling(), 2) for one in (data, replace(data, semantic_maps=None)))
    assert drawn.shape == plain.shape
    assert (drawn != plain).any(axis=2).mean() > 0.3


def test_a_run_measures_and_shows_segments(place: Path, data: Dataset, tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = tiny_variants()["panoptic"].for_classes(data.classes).for_semantic(data.semantic_classes, 10)
    config = replace(config, roi=replace(config.roi, score=0.0))
    best = maskwright.train(
        maskwright.TrainConfig(
            data=str(place), out=str(tmp_path / "run"), epochs=1, batch_size=2, augment=Augment(), progress=False
        ),
        model=RCNN(config),
    )
    (head, _) = csv.reader((tmp_path / "run" / "metrics.csv").read_text().splitlines())
    assert head[2:5] == ["panoptic/PQ", "panoptic/SQ", "panoptic/RQ"]
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Panoptic quality of stuff" in page
    assert "IoU of the classes of pixels" in page
    predictor = maskwright.load(best)
    evaluation = maskwright.evaluate(predictor, place, progress=False)
    assert list(evaluation.results) == ["coco", "panoptic", "semantic"]
    assert 0 <= evaluation.values["semantic/pixel_accuracy"] <= 1
    assert list(maskwright.evaluate(predictor, place, metrics=("coco",), progress=False).results) == ["coco"]
    found = predictor.predict(data.path(0), score_threshold=0.0)
    assert found.stuff_area == 10
    assert found.semantic_classes == data.semantic_classes
    shown = explain(predictor, data.path(0), score_threshold=0.0)
    (panel,) = [p for p in shown.panels() if p.title == "The class of every pixel"]
    assert len(panel.key) >= 1
