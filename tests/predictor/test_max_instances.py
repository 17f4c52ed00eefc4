"""Asking for more instances gives more, of every family, and the first ones stay what they were."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from maskwright.data.synthetic import scene
from maskwright.media import write_image
from maskwright.models import rcnn, yolact
from maskwright.models.base import AnyModel, Config
from maskwright.models.family import build
from maskwright.models.rcnn import RCNN
from maskwright.models.yolact import NMSConfig, Yolact
from maskwright.prediction.batch import RunOptions, predict_files
from maskwright.predictor.options import FindOptions
from maskwright.predictor.predictor import Predictor
from maskwright.types import Classes, Inputs

pytestmark = pytest.mark.usefixtures("one_thread")

KEEP = 5
KINDS = {
    "rcnn": lambda: replace(rcnn.tiny("compact"), roi=replace(rcnn.tiny("compact").roi, keep=KEEP, score=0.01)),
    "c4_boxes": lambda: replace(rcnn.tiny("c4"), masks=False, roi=replace(rcnn.tiny("c4").roi, keep=KEEP, score=0.01)),
    "fast": lambda: replace(yolact.tiny("yolact"), nms=NMSConfig("fast", score=0.01, keep=KEEP)),
    "fast_cross": lambda: replace(yolact.tiny("plus"), nms=NMSConfig("fast_cross", score=0.01, before=KEEP, keep=KEEP)),
    "exact": lambda: replace(yolact.tiny("compact"), nms=NMSConfig("exact", score=0.01, keep=KEEP)),
}


def model_of(kind: str) -> AnyModel:
    torch.manual_seed(0)
    config: Config = KINDS[kind]()
    output = replace(config.output, score_threshold=0.01, max_instances=KEEP, clip=False, whole_boxes=False)
    model = build(replace(config, output=output))
    with torch.no_grad():
        if isinstance(model, RCNN):
            model.box_predictor.deltas.weight.mul_(60)
            model.rpn.deltas.weight.mul_(10)
        else:
            assert isinstance(model, Yolact)
            model.head.deltas.weight.mul_(2)
    return model.eval()


def predictor_of(kind: str) -> Predictor:
    return Predictor(model_of(kind), Classes(["a", "b", "c"]), name=kind)


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
    assert predictor.model.config is before
    assert len(predictor.predict(image)) == KEEP


@pytest.mark.parametrize("kind", KINDS)
def test_every_call_says_how_many_rows_it_wants(kind: str) -> None:
    """`Limits.keep` rows come back, dead ones last; more proposals may change which are the best of more rows."""
    model, limits = model_of(kind), model_of(kind).config.limits_for()
    assert limits.keep == KEEP
    inputs = Inputs(torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    with torch.inference_mode():
        own, few, more = (model.detect(inputs, replace(limits, keep=keep)) for keep in (KEEP, 2, 40))
        assert torch.equal(model.detect(inputs).boxes, own.boxes)
    assert [raw.scores.shape for raw in (own, few, more)] == [(2, KEEP), (2, 2), (2, 40)]
    for name in ("boxes", "scores", "labels"):
        assert torch.equal(getattr(few, name), getattr(own, name)[:, :2])
    assert ((more.scores > 0).sum(dim=1) > KEEP).all()


@pytest.mark.parametrize("kind", KINDS)
def test_fewer_than_the_model_reports_change_nothing_for_the_network(kind: str) -> None:
    predictor = predictor_of(kind)
    own = predictor.detector.limits
    assert predictor.plan(FindOptions(max_instances=KEEP)).limits == own
    assert predictor.plan(FindOptions(max_instances=1)).limits == own
    assert predictor.plan(FindOptions(max_instances=40)).limits == replace(own, keep=40)


@pytest.mark.parametrize("kind", ["rcnn", "fast"])
def test_a_run_over_files_takes_it_too(kind: str, tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", scene(0, (60, 90))[0])
    counts = []
    for most in (None, 3, 14):
        options = RunOptions(save=["json"], find=FindOptions(max_instances=most))
        predict_files(
            predictor_of(kind), [str(tmp_path / "a.png")], tmp_path / str(most), options,
            lambda done, _: counts.append(done.count),  # type: ignore[union-attr]
        )  # fmt: skip
    assert counts == [KEEP, 3, 14]
