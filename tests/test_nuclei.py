"""The model inside the package finds nuclei, without a network connection."""

from pathlib import Path

import numpy as np
import pytest

import maskwright
from maskwright.data.formats import coco
from maskwright.demo import SCORE, blue_stain, nuclei_image
from maskwright.metrics.nuclei import NucleiMetric


@pytest.fixture(scope="module")
def predictor() -> "maskwright.Predictor":
    return maskwright.load("nuclei")


def test_finds_the_nuclei_of_the_demo_image(predictor: "maskwright.Predictor") -> None:
    """What is outlined holds more of the nuclei's stain than what surrounds it, and has the size of nuclei."""
    stain = blue_stain(nuclei_image())
    found = predictor.predict(stain, score_threshold=SCORE)
    assert 200 <= len(found) <= 350
    assert found.scores.min() >= SCORE
    assert found.masks is not None
    background = stain[~found.masks.any(axis=0)].mean()
    amounts = np.array([stain[mask].mean() for mask in found.masks])
    assert (amounts > background).mean() >= 0.8
    areas = found.masks.sum(axis=(1, 2))
    assert 60 <= np.median(areas) <= 250
    assert areas.max() <= 2500


def test_outlines_held_out_fluorescence_images(predictor: "maskwright.Predictor", shared: Path) -> None:
    """Every twelfth of them: AP = TP / (TP + FP + FN), see docs/accuracy.md for all."""
    folder = shared / "data" / "nuclei_dsb2018"
    data = coco.load(folder / "annotations" / "instances_train.json", folder / "images").split(0.2)[1]
    rows = [i for i, record in enumerate(data.images) if record.extra["kind"] == "fluorescence"][::12]
    metric = NucleiMetric(data.classes)
    for i in rows:
        metric.add(predictor.predict(data.path(i)), data.truth(i))
    overall = metric.result().overall
    for iou, least in ((0.5, 0.8), (0.75, 0.62), (0.9, 0.25)):
        assert overall.at(iou).ap_by_image >= least


@pytest.mark.parametrize("grey", [0, 128, 255])
def test_finds_nothing_where_there_is_nothing(predictor: "maskwright.Predictor", grey: int) -> None:
    assert len(predictor.predict(np.full((128, 160, 3), grey, np.uint8))) == 0
