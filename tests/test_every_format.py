"""Every annotation format, the way a user goes: convert, train an epoch, evaluate, predict."""

from pathlib import Path

import pytest
import torch

import maskwright
from maskwright.data import formats
from maskwright.data.synthetic import coco_fixture
from maskwright.models.rcnn import RCNN, tiny
from maskwright.samples.augment import Augment


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return coco_fixture(tmp_path_factory.mktemp("source"), 3, images=5, size=(64, 80), objects=3)


@pytest.mark.parametrize("name", [n for n, f in formats.FORMATS.items() if f.save is not None])
def test_one_epoch_then_evaluation_then_prediction(name: str, source: Path, tmp_path: Path) -> None:
    place = tmp_path / "converted"
    formats.save(place, formats.load(source, source.parent / "images"), name)
    data = formats.load(place)
    torch.manual_seed(0)
    best = maskwright.train(
        maskwright.TrainConfig(
            data=str(place), out=str(tmp_path / "run"), epochs=1, batch_size=2, augment=Augment(), progress=False
        ),
        model=RCNN(tiny("compact", len(data.classes))),
    )
    predictor = maskwright.load(best)
    assert list(predictor.classes) == list(data.classes)
    result = maskwright.evaluate(predictor, place, progress=False)
    assert result.images == len(data) == 5
    assert result.result.masks is not None
    found = predictor.predict(data.path(0), score_threshold=predictor.lowest_score)
    assert found.size == data.images[0].size
    assert found.crops is not None
