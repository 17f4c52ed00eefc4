"""YOLACT in training: what is decided for it, what it takes of other weights, and a run from a file to a file."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tests.training.test_defaults import CPU, PLAIN, data
from tests.training.test_train import assert_same, make_config
from torch import Tensor

from maskwright.data.synthetic import coco_fixture
from maskwright.errors import ConfigError, WeightsError
from maskwright.models import rcnn, yolact, zoo
from maskwright.models.rcnn import RCNN
from maskwright.models.yolact import Yolact, YolactConfig
from maskwright.predictor.load import load
from maskwright.training import checkpoint
from maskwright.training.config import PATHS, TrainConfig
from maskwright.training.defaults import resolve
from maskwright.training.network import NetworkSettings, Start, build, find_start, fitted
from maskwright.training.train import plan, train
from maskwright.training.try_out import try_out
from maskwright.types import Classes
from maskwright.weights import files
from maskwright.weights.keyrules import Converted
from maskwright.weights.transfer import transfer as transfer_by

pytestmark = pytest.mark.usefixtures("one_thread")

transfer = partial(transfer_by, table=yolact.CLASS_ROWS)

SMALL = replace(yolact.tiny("compact", 80), neck_norm=True)


@pytest.fixture
def small_zoo(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two networks with one backbone, and one that looks at other colours, under names of their own."""
    other = replace(SMALL, spec=replace(SMALL.spec, channels="BGR"))
    entries = {
        "one_stage": zoo.Entry("one_stage", "", SMALL, Classes([f"c{i}" for i in range(80)])),
        "one_stage_bgr": zoo.Entry("one_stage_bgr", "", other, Classes([f"c{i}" for i in range(80)])),
        "two_stage": zoo.Entry("two_stage", "", rcnn.tiny("compact", 80), Classes([f"c{i}" for i in range(80)])),
    }
    monkeypatch.setattr(zoo, "ZOO", entries)


def tiny(classes: int, seed: int, **changes: Any) -> Yolact:
    torch.manual_seed(seed)
    model = Yolact(replace(yolact.tiny("plus", classes), **changes))
    with torch.no_grad():
        for value in model.state_dict().values():
            if value.is_floating_point():
                value.add_(torch.rand_like(value) * 0.1)
    return model


def values(model: torch.nn.Module) -> dict[str, Tensor]:
    return {n: t.clone() for n, t in model.state_dict().items()}


def saved(model: torch.nn.Module, architecture: str, classes: Classes, path: Path) -> Path:
    return files.save_checkpoint(path, model.state_dict(), zoo.describe(model.config, classes, architecture))  # type: ignore[arg-type]


# ---- weights of other classes and of other networks -----------------------------------------------------------------


def test_rows_of_every_prior_follow_the_names_of_the_classes() -> None:
    own, theirs = Classes(["bird", "dog", "cat"]), Classes(["cat", "cow", "dog", "fish"])
    model, other = tiny(3, 1), tiny(4, 2)
    before, state = values(model), values(other)
    done = transfer(model, state, "old.pth", own, theirs)
    after, priors = values(model), len(yolact.tiny("plus").sizes[0]) * 3
    for name in ("head.logits.weight", "head.logits.bias"):
        old, new, now = (
            t[name].unflatten(0, (priors, rows)) for t, rows in ((before, 4), (state, 5), (after, 4))
        )  # rows: classes, background last
        assert torch.equal(now, torch.stack([old[:, 0], new[:, 2], new[:, 0], new[:, 4]], dim=1))
    for name in ("semantic.weight", "semantic.bias", "scorer.conv.5.0.weight", "scorer.conv.5.0.bias"):
        assert torch.equal(after[name], torch.stack([before[name][0], state[name][2], state[name][0]]))
    by_class = {n for n in after if n.startswith(("head.logits", "semantic", "scorer.conv.5"))}
    assert set(done.by_row) == by_class
    assert done.classes == ("dog", "cat")
    assert_same({n: after[n] for n in after if n not in by_class}, {n: state[n] for n in after if n not in by_class})


def test_weights_that_do_not_name_their_classes() -> None:
    state = values(tiny(3, 2))
    model = tiny(3, 1)
    assert transfer(model, state, "old.pth", Classes(["a", "b", "c"]), None).in_order
    assert_same(values(model), state)
    done = transfer(tiny(2, 1), state, "old.pth", Classes(["a", "b"]), None)
    assert {n.rpartition(".")[0] for n in done.began} == {"head.logits", "semantic", "scorer.conv.5.0"}


def test_other_priors_begin_anew() -> None:
    done = transfer(tiny(3, 1, ratios=(1.0,)), values(tiny(3, 2)), "old.pth", *[Classes(["a", "b", "c"])] * 2)
    heads = {"head.deltas", "head.logits", "head.coefficients"}
    assert {n.rpartition(".")[0] for n in done.began} == heads


def test_a_run_begins_with_the_backbone_of_the_other_family(small_zoo: None, tmp_path: Path) -> None:
    classes, torch_seed = Classes(["nucleus"]), torch.manual_seed(3)
    assert torch_seed is not None
    other = RCNN(rcnn.tiny("compact", 1))
    path = saved(other, "two_stage", classes, tmp_path / "two.safetensors")
    config = NetworkSettings(model="one_stage", weights=str(path))
    start = find_start(config)
    assert (start.config, start.backbone_only) == (SMALL, True)
    model, moved = build(config, classes, start)
    assert moved is not None
    state, theirs = model.state_dict(), other.state_dict()
    body = [n for n in state if n.startswith("backbone.")]
    assert_same({n: state[n] for n in body}, {n: theirs[n] for n in body})
    assert "fpn.lateral.0.0.weight" in moved.kept
    assert any(n.startswith("protonet.") for n in moved.began)
    assert "start from random values" in moved.report()
    assert "not used" in moved.report()
    with pytest.raises(WeightsError, match=r"'one_stage_bgr' cannot begin with, it learnt otherwise: channels RGB"):
        find_start(replace(config, model="one_stage_bgr"))
    same = find_start(NetworkSettings(model="two_stage", weights=str(path)))
    assert not same.backbone_only


def test_the_input_is_fitted_as_asked() -> None:
    drawn = NetworkSettings(model="yolact.resnet18", backbone_weights="none")
    published, asked = find_start(drawn), find_start(replace(drawn, fit="letterbox"))
    assert (published.config.spec.fit, asked.config.spec.fit) == ("stretch", "letterbox")
    model, _ = build(replace(drawn, fit="letterbox", size=256), Classes(["a"]), asked)
    assert (model.config.spec.fit, model.config.spec.size) == ("letterbox", 256)
    for name, fit in (("yolact_small", "letterbox"), ("mask_rcnn_small", "stretch")):  # images are not shrunk there
        spec = find_start(NetworkSettings(model=name, fit=fit)).config.spec  # type: ignore[arg-type]
        assert (spec.fit, spec.shrink, spec.enlarge) == (fit, True, 2.0 if fit == "letterbox" else None)
    with pytest.raises(ConfigError, match="fit is 'short_edge', 'stretch' or 'letterbox', got 'box'"):
        NetworkSettings(fit="box")  # type: ignore[arg-type]


def test_a_published_backbone_serves_the_other_family(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """torchvision's Mask R-CNN sees what YOLACT sees; detectron2's does not."""
    path = tmp_path / "w.pth"
    monkeypatch.setattr(zoo.Entry, "path", lambda self, progress=True: path)
    body = {"backbone.body.conv1.weight": torch.zeros(64, 3, 7, 7)}
    torch.save(body, path)
    start = find_start(NetworkSettings(model="yolact_r50", weights="mask_rcnn_r50_fpn.torchvision"))
    assert (start.architecture, type(start.config), start.backbone_only) == ("yolact_r50", YolactConfig, True)
    assert start.weights is not None
    assert list(start.weights.state) == ["backbone.conv1.weight"]
    with pytest.raises(WeightsError, match=r"channels BGR, not RGB.*strides in other convolutions"):
        find_start(NetworkSettings(model="yolact_r50", weights="mask_rcnn_r50_fpn.detectron2"))


# ---- what is decided ------------------------------------------------------------------------------------------------


def settings_of(
    dataset: Any, config: YolactConfig, weights: bool = False, backbone_only: bool = False, **given: Any
) -> Any:
    found = Converted({}) if weights or backbone_only else None
    start = Start("yolact_small", config, "old.safetensors", found, None, backbone_only=backbone_only)
    found = resolve(TrainConfig(**given), dataset, start, CPU)
    return SimpleNamespace(network=found.network, **{name: found.value(name) for name in PATHS})


def test_priors_fit_the_objects_and_keep_their_steps() -> None:
    tiny_objects = data(*[((200, 200), [8.0, 12.0, 16.0])] * 50)
    config = settings_of(tiny_objects, yolact.compact())
    assert config.size == 384  # 32 x 12: twice, in whole strides
    assert config.anchors is not None
    assert len(config.anchors) == 4
    new = fitted(yolact.compact(1), config.network)
    assert new.sizes == tuple((side, side * 2**0.5) for side in config.anchors)
    assert Yolact(new).config.num_classes == 1
    assert settings_of(tiny_objects, yolact.compact(), weights=True).anchors is None
    plus = fitted(
        yolact.plus(2), NetworkSettings(anchors=(10, 20, 40, 80, 160), max_instances=300, score_threshold=0.01)
    )
    assert plus.sizes[1] == pytest.approx((20.0, 20 * 2 ** (1 / 3), 20 * 2 ** (2 / 3)))
    assert (plus.nms.keep, plus.nms.before, plus.nms.score) == (300, 600, 0.01)
    assert (plus.output.max_instances, plus.output.score_threshold) == (300, 0.01)
    with pytest.raises(ConfigError, match="one entry for each of the 5 levels"):
        Yolact(fitted(yolact.published(2), NetworkSettings(anchors=(10, 20))))


def test_new_heads_on_a_trained_backbone_are_trained_as_new() -> None:
    new, body, old = (
        settings_of(PLAIN, yolact.compact(), **kind) for kind in ({}, {"backbone_only": True}, {"weights": True})
    )
    assert (new.norm, body.norm, old.norm) == ("live", "live", "frozen")
    assert new.epochs > body.epochs > old.epochs
    assert new.lr > body.lr > old.lr
    assert body.anchors == new.anchors


def test_stretched_images_are_measured_as_they_are_seen() -> None:
    """Short edge 200, but a stretched square of 283 x 283 has the image's area."""
    stretched = replace(yolact.compact(), spec=replace(yolact.published().spec, multiple=32))
    wide = data(*[((200, 400), [20.0])] * 50)
    config = settings_of(wide, stretched)
    assert config.size == 32 * round(2 * 20000**0.5 * 2 / 32)
    assert (config.shrink, config.enlarge, config.max_size) == (None, None, None)


def test_frozen_norms_name_what_learns_from_nothing(tmp_path: Path) -> None:
    annotations = coco_fixture(tmp_path / "data", 0, images=3, size=(40, 40))
    images = str(annotations.parent / "images")
    with pytest.raises(ConfigError, match=r"'yolact_r50' has frozen norms.*'yolact_small' or 'yolact\.BACKBONE'"):
        train(make_config(tmp_path / "run", data=str(annotations), images=images, model="yolact_r50"))


# ---- from a file to a file ------------------------------------------------------------------------------------------


def run_of(folder: Path, name: str, **changes: Any) -> TrainConfig:
    annotations = folder / "data" / "annotations.json"
    if not annotations.exists():
        coco_fixture(folder / "data", 0, images=8, size=(64, 72), objects=3, classes=2)
    return make_config(
        folder / name, data=str(annotations), images=str(folder / "data" / "images"), model="one_stage", epochs=2,
        batch_size=3, val_fraction=0.3, size=64, optimizer="adamw", lr=1e-3, clip=5.0, report=False, **changes,
    )  # fmt: skip


def test_a_run_leaves_weights_that_predict_and_goes_on_to_the_same_bits(
    small_zoo: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    best = train(run_of(tmp_path, "straight"))
    predictor = load(best)
    assert isinstance(predictor.model, Yolact)
    found = predictor.predict(tmp_path / "data" / "images" / "0000.png", score_threshold=0.0)
    assert found.size == (64, 72)
    assert found.masks is not None
    header = (tmp_path / "straight" / "metrics.csv").read_text().splitlines()[0]
    assert header.startswith("iteration,epoch,segm/AP,")
    terms, calls = Yolact.terms, []

    def dying(self: Yolact, *args: Any) -> Any:
        calls.append(1)
        if len(calls) == 4:
            raise SystemError("the machine is gone")
        return terms(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Yolact, "terms", dying)
        with pytest.raises(SystemError):
            train(run_of(tmp_path, "cut", checkpoint_minutes=0.0))
    state = tmp_path / "cut" / "last.state"
    assert checkpoint.load(state)["position"]["iteration"] == 3
    assert not (tmp_path / "cut" / "last.safetensors").exists()
    train(run_of(tmp_path, "cut", resume=True))
    for name in ("best", "last"):
        one, two = (files.read(tmp_path / run / f"{name}.safetensors").tensors for run in ("straight", "cut"))
        assert_same(one, two)


def test_a_trial_learns(small_zoo: None, tmp_path: Path) -> None:
    """Some steps of --check, with what it says of each term."""
    planned = plan(run_of(tmp_path, "trial"))
    found = try_out(planned, seconds=2.0)
    assert {"class", "box", "mask", "semantic", "loss"} <= set(found.first)
    assert found.steps > 0
    assert "masks" in found.ap


# ---- loading --------------------------------------------------------------------------------------------------------


def test_users_own_class_counts(small_zoo: None, tmp_path: Path) -> None:
    path = tmp_path / "own.pth"
    torch.save(Yolact(replace(SMALL, num_classes=2)).state_dict(), path)
    assert load("one_stage", weights=path, classes=["leaf", "stem"]).classes == ("leaf", "stem")
    with pytest.raises(WeightsError, match=r"number of classes \(2\) the file fits: one_stage"):
        load("one_stage", weights=path)


def test_a_published_file_under_another_models_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Only their anchors tell the two apart, and these are not in the file."""
    narrow = {
        name: replace(zoo.ZOO[name], config=replace(SMALL, spec=zoo.ZOO[name].config.spec))
        for name in ("yolact_r101", "yolact_r101_700")
    }
    monkeypatch.setattr(zoo, "ZOO", narrow)
    path = tmp_path / "yolact_im700_54_800000.pth"
    torch.save(Yolact(SMALL).state_dict(), path)
    assert load("yolact_r101_700", weights=path).spec.size == 700
    with pytest.raises(WeightsError, match=r"load\('yolact_r101_700', weights="):
        load(path)
    with pytest.raises(ConfigError, match=r"yolact_im700_54_800000\.pth has the name under which 'yolact_r101_700'"):
        load("yolact_r101", weights=path)
