"""Asking for more instances gives more, of every family, and the first ones stay what they were."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from maskwright.data.synthetic import scene
from maskwright.media import write_image
from maskwright.models import rcnn, yolact
from maskwright.models.base import Model
from maskwright.models.families import reporting
from maskwright.models.rcnn import RCNN
from maskwright.models.yolact import NMSConfig, Yolact
from maskwright.prediction.batch import RunOptions, predict_files
from maskwright.predictor.predictor import Predictor
from maskwright.types import Classes

pytestmark = pytest.mark.usefixtures("one_thread")

KEEP = 5
KINDS = {
    "rcnn": lambda: replace(rcnn.tiny("compact"), roi=replace(rcnn.tiny("compact").roi, keep=KEEP, score=0.01)),
    "c4_boxes": lambda: replace(rcnn.tiny("c4"), masks=False, roi=replace(rcnn.tiny("c4").roi, keep=KEEP, score=0.01)),
    "fast": lambda: replace(yolact.tiny("yolact"), nms=NMSConfig("fast", score=0.01, keep=KEEP)),
    "fast_cross": lambda: replace(yolact.tiny("plus"), nms=NMSConfig("fast_cross", score=0.01, before=KEEP, keep=KEEP)),
    "exact": lambda: replace(yolact.tiny("compact"), nms=NMSConfig("exact", score=0.01, keep=KEEP)),
}


def model_of(kind: str) -> Model:
    torch.manual_seed(0)
    config = KINDS[kind]()
    model: Model = RCNN(config) if isinstance(config, rcnn.RCNNConfig) else Yolact(config)
    with torch.no_grad():
        if isinstance(model, RCNN):
            model.box_predictor.deltas.weight.mul_(60)
            model.rpn.deltas.weight.mul_(10)
        else:
            model.head.deltas.weight.mul_(2)
    model.output = replace(model.output, score_threshold=0.01, max_instances=KEEP, clip=False, whole_boxes=False)
    return model.eval()


def predictor_of(kind: str) -> Predictor:
    return Predictor(model_of(kind), Classes(["a", "b", "c"]), name=kind, take=True)


@pytest.mark.parametrize("kind", KINDS)
def test_asking_for_more_gives_more(kind: str) -> None:
    predictor, image = predictor_of(kind), scene(0, (60, 90))[0]
    before = predictor.model.config
    few = predictor.predict(image)
    assert len(few) == KEEP
    more = predictor.predict(image, max_instances=12)
    assert len(more) == 12
    most = predictor.predict([image, image], max_instances=30, batch_size=2)
    assert len(most[0]) == len(most[1]) > 12
    rows = np.argsort(-(most[0].scores if most[0].box_scores is None else most[0].box_scores), kind="stable")
    rows = np.sort(rows[:KEEP])
    np.testing.assert_allclose(most[0][rows].boxes, few.boxes, atol=1e-3)
    assert most[0][rows].labels.tolist() == few.labels.tolist()
    assert predictor.model.config == before
    assert len(predictor.predict(image)) == KEEP


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_changes_where_the_model_reports_as_many(kind: str) -> None:
    model = model_of(kind)
    assert reporting(model, KEEP) is model
    assert reporting(model, 1) is model
    twin = reporting(model, 40)
    assert twin is not model
    assert twin.state_dict().keys() == model.state_dict().keys()
    assert all(a is b for a, b in zip(twin.parameters(), model.parameters(), strict=True))


@pytest.mark.parametrize("kind", ["rcnn", "fast"])
def test_a_run_over_files_takes_it_too(kind: str, tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", scene(0, (60, 90))[0])
    counts = []
    for most in (None, 3, 14):
        options = RunOptions(save=["json"], max_instances=most)
        predict_files(
            predictor_of(kind), [str(tmp_path / "a.png")], tmp_path / str(most), options,
            lambda done, _: counts.append(done.count),  # type: ignore[union-attr]
        )  # fmt: skip
    assert counts == [KEEP, 3, 14]
