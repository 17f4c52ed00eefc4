"""Asking for more instances gives more, of every family, and the first ones stay what they were."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from maskwright.data.synthetic import scene
from maskwright.errors import ConfigError
from maskwright.explanation.explain import explain
from maskwright.media import write_image
from maskwright.models import rcnn, yolact
from maskwright.models.base import AnyModel, Config
from maskwright.models.family import build
from maskwright.models.rcnn import RCNN
from maskwright.models.yolact import NMSConfig, Yolact
from maskwright.prediction.batch import RunOptions, predict_files
from maskwright.predictor.options import FindOptions
from maskwright.predictor.predictor import Predictor
from maskwright.results.prediction import Prediction
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


# ---- a limit that was reached is told -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_limit_that_was_reached_is_in_the_prediction(kind: str, tmp_path: Path) -> None:
    predictor, image = predictor_of(kind), scene(0, (60, 90))[0]
    few = predictor.predict(image)
    assert list(few.limits) == ["max_instances"]
    assert f"a limit was reached: {KEEP} instances" in few.limit_note
    assert few[:2].limits == few.limits
    assert Prediction.load(few.save(tmp_path / "a.json")).limits == pytest.approx(dict(few.limits), abs=1e-6)
    fewer = predictor.predict(image, max_instances=2)
    assert list(fewer.limits) == ["max_instances"]
    assert fewer.limits["max_instances"] >= few.limits["max_instances"]
    above = float(few.scores[0] if few.box_scores is None else few.box_scores.max())
    best = predictor.predict(image, score_threshold=min(1.0, above + 1e-6))  # no row that was left out has such a score
    assert (len(best), "max_instances" in best.limits) == (0, False)


def test_proposals_that_were_passed_over_are_told_until_more_are_asked_for() -> None:
    """Every anchor is likely an object, and only the best few are looked at."""
    model = model_of("rcnn")
    assert isinstance(model, RCNN)
    rpn = replace(model.config.rpn, before=4, after=4)
    torch.nn.init.constant_(model.rpn.logits.bias, 3.0)
    for few, left in ((rpn, True), (replace(rpn, before=100_000, after=100_000), False)):
        model.rpn.config = few
        inputs = Inputs(torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
        with torch.inference_mode():
            raw = model.detect(inputs, replace(model.config.limits_for(), keep=200))
        assert raw.left_out is not None
        assert (float(raw.left_out[0]) > 0.9) == left
        assert float(raw.left_out[0]) == 0 or left


def test_boxes_that_fast_nms_did_not_compare_are_told_until_more_are_asked_for() -> None:
    model = model_of("fast")
    assert isinstance(model, Yolact)
    boxes = torch.arange(0, 900, 30.0)[:, None] + torch.tensor([0.0, 0.0, 20.0, 20.0])  # none overlaps another
    scores = torch.linspace(0.9, 0.6, 30)[:, None]
    rows, labels = torch.arange(30), torch.zeros(30, dtype=torch.int64)
    for before, left in ((10, float(scores[10])), (30, 0.0)):
        model.config = replace(model.config, nms=replace(model.config.nms, before=before, keep=KEEP))
        limits = model.config.limits_for()
        out = model._left_out(boxes, scores, rows[:before], labels[:before], limits)
        assert float(out) == pytest.approx(left)
    model.config = replace(model.config, nms=replace(model.config.nms, before=10))
    near = torch.cat([boxes[:10], boxes[:10] + 0.1, boxes[:10] + 0.2])  # copies of what was found are no loss
    assert float(model._left_out(near, scores, rows[:10], labels[:10], limits)) == 0.0


def test_a_run_over_files_names_the_images_that_reached_a_limit(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", scene(0, (60, 90))[0])
    result = predict_files(predictor_of("fast"), [str(tmp_path / "a.png")], tmp_path / "out", RunOptions(save=["json"]))
    told = f"Objects are probably missing, a limit was reached in 1 image: {tmp_path / 'a.png'} ({KEEP} instances). "
    assert told + "A larger max_instances finds more." in result.summary()


def test_an_explanation_tells_of_a_limit() -> None:
    predictor, image = predictor_of("rcnn"), scene(0, (60, 90))[0]
    found = explain(predictor, image)
    assert found.subtitle.endswith(found.prediction.limit_note)
    with pytest.raises(ConfigError, match=rf"instances 0\.\.{KEEP - 1} .*A larger max_instances finds more") as caught:
        explain(predictor, image, KEEP)
    assert caught.value.options == ("max_instances",)
    assert explain(predictor, image, KEEP, max_instances=KEEP + 1).instance == KEEP
