"""From names and files to predictors: what fits is loaded to the same bits, what does not is named."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from maskwright.errors import ConfigError, WeightsError
from maskwright.fast import bf16 as processor
from maskwright.models import yolact, zoo
from maskwright.models.coco_classes import COCO
from maskwright.models.rcnn import RCNN, RCNNConfig, tiny
from maskwright.predictor.load import build, load
from maskwright.types import Classes
from maskwright.weights.files import KEY, read, save_checkpoint

pytestmark = pytest.mark.usefixtures("one_thread")

CLASSES = Classes(["leaf", "stem", "root"], [7, 8, 9])


def save(path: Path, network: RCNNConfig | None = None, architecture: str = "mask_rcnn_small", **more: Any) -> Path:
    """One of our checkpoints, of a tiny network."""
    torch.manual_seed(0)
    model = RCNN(network or tiny())
    with torch.no_grad():
        model.box_predictor.deltas.weight.mul_(30)
    header = {**zoo.describe(model.config, CLASSES, architecture), **more}
    return save_checkpoint(path, model.state_dict(), header)


def source_image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)


# ---- our own checkpoints --------------------------------------------------------------------------------------------


def test_a_checkpoint_describes_itself(tmp_path: Path) -> None:
    path = save(tmp_path / "best.safetensors")
    for name in (path, str(path)):
        predictor = load(name)
        assert predictor.classes == CLASSES
        assert predictor.model.config == tiny()
        assert predictor.spec == tiny().spec
        assert predictor.name == str(path)
        assert predictor.predict(source_image()).classes.ids == (7, 8, 9)
    by_name = load("mask_rcnn_small", weights=path)
    first, second = load(path).predict(source_image()), by_name.predict(source_image())
    assert len(first) > 0
    assert np.array_equal(first.boxes, second.boxes)


def test_a_file_without_suffix_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "weights")
    monkeypatch.chdir(tmp_path)
    assert load("weights").classes == CLASSES


@pytest.mark.usefixtures("bf16")
def test_size_and_precision(tmp_path: Path) -> None:
    path = save(tmp_path / "best.safetensors")
    predictor = load(path, size=40, precision="bf16")
    assert predictor.spec.size == 40
    assert predictor.precision == "bf16"
    assert load(path).spec.size == 64
    with pytest.raises(ConfigError, match="size is at least 1 and finite, got 0"):
        load(path, size=0)


def test_other_class_names(tmp_path: Path) -> None:
    path = save(tmp_path / "best.safetensors")
    renamed = load(path, classes=["Blatt", "Stiel", "Wurzel"])
    assert renamed.classes == Classes(["Blatt", "Stiel", "Wurzel"])
    assert load(path, classes=Classes(["a", "b", "c"], [4, 5, 6])).classes.ids == (4, 5, 6)
    with pytest.raises(ConfigError, match="has 3 classes, got 2 names"):
        load(path, classes=["a", "b"])


def test_a_checkpoint_of_another_architecture_is_not_taken_for_the_named_one(tmp_path: Path) -> None:
    path = save(tmp_path / "best.safetensors", architecture="mask_rcnn_small")
    with pytest.raises(ConfigError, match=r"best\.safetensors.* 'mask_rcnn_small', not of 'mask_rcnn_r50_c4'.*load\("):
        load("mask_rcnn_r50_c4", weights=path)
    path = save(tmp_path / "d2.safetensors", architecture="mask_rcnn_r50_fpn")  # a bare name means detectron2's
    assert load("mask_rcnn_r50_fpn.detectron2", weights=path).classes == CLASSES


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"config": {"num_classes": 3, "colour": 1}}, r"best\.safetensors.*RCNNConfig has no field 'colour'"),
        ({"config": {"neck": "none"}}, r"best\.safetensors.*neck is 'fpn', 'c4' or 'crops'"),
        ({"classes": {"names": ["a"]}}, r"best\.safetensors.*classes"),
        ({"classes": ["a"]}, r"best\.safetensors.*classes"),
        ({"family": "yolo"}, r"best\.safetensors.*no model family 'yolo'"),
        ({"classes": {"names": ["a"], "ids": [1]}}, r"best\.safetensors names 1 classes, its network has 3"),
    ],
)
def test_a_header_that_makes_no_sense_names_the_file(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = save(tmp_path / "best.safetensors", **changes)
    with pytest.raises(WeightsError, match=message):
        load(path)


def test_weights_that_do_not_fit_their_header(tmp_path: Path) -> None:
    path = save(tmp_path / "best.safetensors")
    file = read(path)
    assert file.header is not None
    less = {k: v for k, v in file.tensors.items() if not k.startswith("mask_head")}
    save_checkpoint(path, less, file.header)
    with pytest.raises(WeightsError, match=r"best\.safetensors does not fit this RCNN: it lacks mask_head"):
        load(path)


# ---- names and foreign files ----------------------------------------------------------------------------------------


def test_a_file_that_does_not_say_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "downloaded.pth"
    torch.save(nn.Linear(2, 2).state_dict(), path)
    with pytest.raises(WeightsError, match=r"downloaded\.pth.*does not say of which network.*load\('NAME', weights"):
        load(path)


def test_a_file_of_unknown_name_is_told_by_its_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = {
        "masks": zoo.Entry("masks", "", tiny("compact", 80), COCO),
        "fast": zoo.Entry("fast", "", yolact.tiny(num_classes=80), COCO),
    }
    monkeypatch.setattr(zoo, "ZOO", entries)
    torch.save(zoo.build(zoo.ZOO["fast"], Classes(["a", "b", "c"])).state_dict(), tmp_path / "leaves_10_500.pth")
    with pytest.raises(WeightsError, match=r"its number of classes \(3\) the file fits: fast.*load\('NAME', weights"):
        load(tmp_path / "leaves_10_500.pth")


def test_weights_of_another_architecture_name_the_right_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files without a header: names and shapes alone tell."""
    entries = {
        "masks": zoo.Entry("masks", "", tiny(num_classes=80), COCO),
        "boxes": zoo.Entry("boxes", "", replace(tiny(num_classes=80), masks=False), COCO),
        "other": zoo.Entry("other", "", tiny("torchvision_v2", 80), COCO),
    }
    monkeypatch.setattr(zoo, "ZOO", entries)
    path = tmp_path / "w.pth"
    torch.save(zoo.build(entries["masks"]).state_dict(), path)
    for wrong in ("boxes", "other"):
        with pytest.raises(WeightsError, match=r"w\.pth does not fit.* fits: masks\.$"):
            load(wrong, weights=path)
    assert load("masks", weights=path).classes == COCO
    with pytest.raises(WeightsError, match=r"81x64, expected 2x64.* fits: masks\."):
        load("masks", weights=path, classes=["leaf"])


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("mask_rcnn_r50_fpm", ConfigError, r"no model 'mask_rcnn_r50_fpm'.*Did you mean.*'mask_rcnn_r50_fpn'"),
        ("none.safetensors", WeightsError, r"no weights file at none\.safetensors"),
        ("runs/none/best", WeightsError, "no weights file at runs/none/best"),
        ("mask_rcnn_small", WeightsError, "'mask_rcnn_small' has no weights that can be fetched"),
        ("mask_rcnn_fpn.no_such_net", ConfigError, "^timm has no model 'no_such_net'"),
    ],
)
def test_names_that_lead_nowhere(name: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        load(name)


def test_a_checkpoint_in_the_package_takes_no_other_weights(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'nuclei' is a checkpoint in the package.*load\('.*best\.safetensors'\)"):
        load("nuclei", weights=save(tmp_path / "best.safetensors"))


def test_a_file_and_weights_are_one_too_many(tmp_path: Path) -> None:
    path = save(tmp_path / "best.safetensors")
    with pytest.raises(ConfigError, match="is a file already"):
        load(path, weights=path)


@pytest.mark.parametrize("name", ["nuclei", "nuclei_fast"])
def test_models_in_the_package_load_without_a_network(name: str) -> None:
    try:
        zoo.resolve(name).path()
    except WeightsError as error:
        pytest.skip(str(error))
    predictor = load(name)
    assert predictor.classes == ("nucleus",)
    found = predictor.predict(source_image())
    assert found.masks is not None
    assert found.masks.shape == (len(found), 50, 70)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"device": "gpu"}, "device 'gpu' cannot be used"), ({"precision": "int3"}, "precision is one of")],
)
def test_device_and_precision_are_checked_before_anything_is_read(options: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load("no/such/file.safetensors", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"channels": 65536, "backbone": "resnet101"}, "does not fit this RCNN"),  # 300 GB of weights
        ({"num_classes": 2**31}, "numel|does not fit|memory|names 2 classes"),
        ({"roi": {"box_convs": 2**31}}, "box_convs is at least 0 and at most 64"),
        ({"roi": {"box_width": "wide"}}, "box_width is a whole number, got 'wide'"),
        ({"rpn": {"sizes": "32"}}, "sizes is a list of lists, got '32'"),
        ({"rpn": {"sizes": [[8.0], [], [32.0], [64.0], [128.0]]}}, "the same number of sides for each level"),
        ({"rpn": {"ratios": [0.5, "1", 2.0]}}, "ratios is a list of numbers"),
        ({"spec": {"std": [1.0, float("nan"), 1.0]}}, "std is above 0"),
        ({"spec": {"size": 2**31}}, "size is at least 1 and at most 65536"),
        ({"strides": []}, "describes no network"),
        ({"backbone": "x" * 100_000}, "has no model"),
    ],
)
def test_a_config_is_checked_whole_before_memory_is_taken(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    path = save(tmp_path / "best.safetensors")
    file = read(path)
    assert file.header is not None
    config = {k: {**v, **change.get(k, {})} if isinstance(v, dict) else change.get(k, v)
              for k, v in file.header["config"].items()}  # fmt: skip
    save_file(file.tensors, path, metadata={KEY: json.dumps({**file.header, "config": config})})
    with pytest.raises(WeightsError, match=said) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 2000


def test_bf16_on_a_processor_that_cannot_multiply_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused before anything is read, with what is lacking and what to use; "auto" takes float32."""
    monkeypatch.setattr(processor, "takes_bf16", lambda: False)
    for machine, needed in (("x86_64", "AVX-512"), ("aarch64", "ARMv8.6"), ("riscv64", "instructions")):
        monkeypatch.setattr(processor.platform, "machine", lambda machine=machine: machine)
        with pytest.raises(ConfigError, match=rf"'bf16' needs .*{needed}.*{machine}.*Use 'float32'") as caught:
            load("no/such/file.safetensors", precision="bf16")
        assert caught.value.options == ("precision",)
    assert load("nuclei_fast", precision="auto").precision == "float32"


@pytest.mark.parametrize(("able", "precision"), [({"avx512_bf16": True}, "bf16"), ({"avx512_bf16": False}, "float32")])
def test_auto_takes_bf16_where_there_are_instructions_for_it(
    monkeypatch: pytest.MonkeyPatch, able: dict[str, bool], precision: str
) -> None:
    monkeypatch.setattr(processor, "takes_bf16", lambda: True)
    monkeypatch.setattr(processor.torch.cpu, "get_capabilities", lambda: able)
    assert load("nuclei_fast", precision="auto").precision == precision


def test_build() -> None:
    model = build("mask_rcnn_small", ["leaf"])
    assert isinstance(model, RCNN)
    assert model.config.num_classes == 1
    assert build("mask_rcnn_small", Classes(["a", "b"])).config.num_classes == 2
    with pytest.raises(ConfigError, match="no model"):
        build("nothing")
