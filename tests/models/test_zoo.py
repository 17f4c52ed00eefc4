"""The zoo's table: names, figures and addresses, each against an independent source where there is one."""

import json
import math
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import torch
from torch import Tensor
from torchvision.models import detection

from maskwright.errors import ConfigError, WeightsError
from maskwright.models import rcnn
from maskwright.models.coco_classes import COCO, COCO_BY_ID
from maskwright.models.family import family_of
from maskwright.models.zoo import ZOO, build, config_of, describe, known, network_of, resolve, table
from maskwright.types import Classes, Landmarks
from maskwright.weights.class_rows import class_count
from maskwright.weights.fetch import Digest

BUILT = [name for name, entry in ZOO.items() if entry.config is not None]
TORCHVISION = {
    "faster_rcnn_r50_fpn.torchvision": detection.FasterRCNN_ResNet50_FPN_Weights.COCO_V1,
    "faster_rcnn_r50_fpn_v2": detection.FasterRCNN_ResNet50_FPN_V2_Weights.COCO_V1,
    "mask_rcnn_r50_fpn.torchvision": detection.MaskRCNN_ResNet50_FPN_Weights.COCO_V1,
    "mask_rcnn_r50_fpn_v2": detection.MaskRCNN_ResNet50_FPN_V2_Weights.COCO_V1,
    "keypoint_rcnn_r50_fpn.torchvision": detection.KeypointRCNN_ResNet50_FPN_Weights.COCO_V1,
}


def classes_in(state: dict[str, Tensor]) -> int | None:
    return class_count({name: tensor.shape for name, tensor in state.items()}, known().class_rows)


@pytest.mark.parametrize("name", BUILT)
def test_an_entry_builds_what_it_says(name: str) -> None:
    entry = ZOO[name]
    with torch.device("meta"):
        model = build(entry)
    assert sum(p.numel() for p in model.parameters()) == entry.parameters
    state = model.state_dict()
    assert classes_in(state) == len(entry.classes)
    assert ("mask_head.logits.bias" in state) == name.startswith(("mask", "panoptic"))
    assert ("scorer.conv.5.0.bias" in state) == name.startswith("yolact_plus")
    if entry.weights is None:
        return
    assert (entry.weights.mask_ap is not None) == (not name.startswith(("faster", "keypoint")))
    floats = sum(t.numel() for t in state.values() if t.is_floating_point())
    assert entry.weights.megabytes in (None, pytest.approx(floats * 4e-6, abs=0.3))
    assert entry.config.num_classes == len(entry.classes)


@pytest.mark.parametrize(("name", "folder"), [
    ("yolact_r50", "yolact_resnet50"),
    ("yolact_darknet53", "yolact_darknet53"),
    ("yolact_plus_r50", "yolact_plus_resnet50"),
])  # fmt: skip
def test_yolact_has_as_many_values_as_the_official_network(shared: Path, name: str, folder: str) -> None:
    rows = json.loads((shared / "golden/yolact" / folder / "spec.json").read_text())
    sizes = {n: math.prod(shape) for n, shape, _ in rows}
    norms = [n.removesuffix("running_mean") for n in sizes if n.endswith("running_mean")]
    of_norms = {stem + end for stem in norms for end in ("weight", "bias", "running_mean", "running_var")}
    free = {n: v for n, v in sizes.items() if n not in of_norms and not n.endswith("num_batches_tracked")}
    assert ZOO[name].parameters == sum(free.values())  # norms are frozen


@pytest.mark.parametrize("name", TORCHVISION)
def test_figures_are_those_torchvision_gives(name: str) -> None:
    entry, official = ZOO[name], TORCHVISION[name]
    metrics = official.meta["_metrics"]["COCO-val2017"]
    assert entry.weights is not None
    assert entry.weights.url == official.url
    assert (entry.weights.box_ap, entry.weights.mask_ap) == (metrics["box_map"], metrics.get("mask_map"))
    assert entry.weights.megabytes == pytest.approx(official.meta["_file_size"] * 2**20 / 1e6, abs=0.06)
    assert entry.weights.keypoint_ap == metrics.get("kp_map")
    background = 1024 * 5 + 5 + (257 if "mask" in name else 0)  # class row, box rows and mask row
    kept = 1024 + 1  # the class row stays, as the last
    assert entry.parameters == official.meta["num_params"] - background + kept
    categories = official.meta["categories"]
    assert [n if not n.startswith("N/A") else "N/A" for n in entry.classes] == categories[1:]


@pytest.mark.parametrize("name", [n for n, e in ZOO.items() if e.weights])
def test_addresses_carry_the_hash_they_are_checked_with(name: str) -> None:
    weights = ZOO[name].weights
    assert weights is not None
    parts = urlsplit(weights.url)
    assert parts.scheme == "https"
    assert (weights.digest is None) == (weights.publisher == "yolact")  # its author gives none
    if weights.digest is None:
        return
    digest = Digest.parse(weights.digest)
    assert digest.digits in parts.path
    assert (digest.algorithm, len(digest.digits)) == (("sha256", 8) if "pytorch" in parts.netloc else ("md5", 6))


def test_detectron2_folders_belong_to_the_task() -> None:
    for name, entry in ZOO.items():
        if entry.publisher == "detectron2":
            assert entry.weights is not None
            assert entry.config is not None
            kind = name.partition("_")[0]
            folders = {"mask": "InstanceSegmentation", "faster": "Detection", "keypoint": "Keypoints"}
            folder = folders.get(kind, "PanopticSegmentation")
            assert f"/COCO-{folder}/{kind}_" in entry.weights.url
            assert ("R_101" in entry.weights.url) == ("r101" in name) == (entry.config.backbone == "resnet101")
            assert ("_C4_" in entry.weights.url) == ("c4" in name) == (entry.config.neck == "c4")


def test_names() -> None:
    assert resolve("mask_rcnn_r50_fpn") is ZOO["mask_rcnn_r50_fpn.detectron2"]
    assert resolve("mask_rcnn_r50_fpn.torchvision").publisher == "torchvision"
    assert resolve("mask_rcnn_r50_fpn_v2") is resolve("mask_rcnn_r50_fpn_v2.torchvision")
    assert all(resolve(name) is entry for name, entry in ZOO.items())
    with pytest.raises(ConfigError, match=r"Did you mean.*'mask_rcnn_r50_fpn'"):
        resolve("maskrcnn_r50_fpn")
    with pytest.raises(ConfigError, match=r"'mask_rcnn_r50_fpn\.detectron2'"):
        resolve("mask_rcnn_r50_fpn.detectron")
    with pytest.raises(ConfigError, match=r"no model 'mask_rcnn_r50_fpn_v2\.detectron2'"):
        resolve("mask_rcnn_r50_fpn_v2.detectron2")


def test_any_timm_backbone_by_name() -> None:
    entry = resolve("mask_rcnn_fpn.resnet18")
    assert entry.config is not None
    assert entry.config.backbone == "resnet18"
    with torch.device("meta"):
        model = build(entry, Classes(["leaf", "stem"]))
    assert len(model.state_dict()["mask_head.logits.bias"]) == 2
    with pytest.raises(ConfigError, match=r"'mask_rcnn_fpn\.NAME'"):
        build(resolve("mask_rcnn_fpn"))
    with pytest.raises(ConfigError, match="timm has no model 'resnet17'"):
        build(resolve("mask_rcnn_fpn.resnet17"))
    with pytest.raises(WeightsError, match="no weights that can be fetched"):
        entry.path()


def test_yolact_over_any_timm_backbone() -> None:
    entry = resolve("yolact.resnet18")
    assert (entry.name, entry.summary) == ("yolact.resnet18", "YOLACT, timm's resnet18")
    with torch.device("meta"):
        model = build(entry, Classes(["leaf", "stem"]))
    assert classes_in(model.state_dict()) == 2
    with pytest.raises(ConfigError, match=r"'yolact\.NAME'"):
        build(resolve("yolact"))


def test_the_families_know_their_configs() -> None:
    for entry in (ZOO[name] for name in BUILT):
        config = config_of(entry)
        assert type(config) is family_of(config).config
        sides = config.anchor_sides
        assert not sides or config.with_anchor_sides(sides) == config or len(sides) == 1
        assert config.with_limits() == config
        assert config.for_classes(Classes(list("abcdefg"), landmarks=[Landmarks(("tip",))] * 7)).num_classes == 7
        assert config.limits_for().nms in config.nms_kinds
        more = config.with_limits(score=0.001, keep=1000).limits_for(config.nms_kinds[0])
        assert (more.score, more.keep) == (0.001, 1000)


@pytest.mark.parametrize("name", ["nuclei", "nuclei_fast"])
def test_models_in_the_package_are_rebuilt_from_their_files(name: str) -> None:
    entry = resolve(name)
    with pytest.raises(ConfigError, match="rebuilt from its checkpoint"):
        build(entry)
    try:
        path = entry.path()
    except WeightsError as error:
        pytest.skip(str(error))
    assert path.name == f"{name}.safetensors"
    assert path.stat().st_size <= 25e6


def test_headers_carry_landmarks() -> None:
    """Through JSON and back; a model without landmarks has the header it always had, and that loads."""
    marks = Landmarks(("left wing", "right wing", "head"), ((0, 2), (1, 2)), (1, 0, 2))
    config = rcnn.tiny("compact", 2)
    plain = json.loads(json.dumps(describe(config, Classes(["leaf", "fly"], [3, 5]), "tiny")))
    assert plain["classes"] == {"names": ["leaf", "fly"], "ids": [3, 5]}
    assert network_of(plain)[1].landmarks == (None, None)
    marked = Classes(["leaf", "fly"], [3, 5], [None, marks])
    header = json.loads(json.dumps(describe(config, marked, "tiny")))
    assert network_of(header)[1] == marked
    header["classes"]["landmarks"][1]["links"] = [[0, 7]]
    with pytest.raises(WeightsError, match=r"Landmarks: links join positions 0\.\.2"):
        network_of(header)


def test_candidates_are_told_apart() -> None:
    shapes = {name: tuple(sorted((k, tuple(s)) for k, s in make().items())) for name, make in known().shapes.items()}
    assert set(shapes) == set(BUILT)
    alike = dict.fromkeys(("yolact_r101_400", "yolact_r101_700"), "yolact_r101")  # differ in their anchors alone
    alike |= {"yolact_edge_r50": "yolact_r50", "yolact_edge_r101": "yolact_r101"}  # the same network
    # their files are told apart by the names that the publishers give
    alike["keypoint_rcnn_r50_fpn.torchvision"] = "keypoint_rcnn_r50_fpn.detectron2"
    assert len(set(shapes.values())) == len(shapes) - len(alike)
    assert all(shapes[name] == shapes[other] for name, other in alike.items())


def test_table_is_json_with_one_row_each() -> None:
    rows = json.loads(json.dumps(table()))
    assert [r["name"] for r in rows] == list(ZOO)
    assert len({tuple(r) for r in rows}) == 1
    default = {r["default_of"]: r["name"] for r in rows if r["default_of"]}
    assert all(resolve(bare).name == name for bare, name in default.items())
    assert len(default) == 3


def test_coco_classes() -> None:
    assert len(COCO) == 80
    assert len(COCO_BY_ID) == 90
    assert COCO_BY_ID.ids == tuple(range(1, 91))
    assert [i for n, i in zip(COCO_BY_ID, COCO_BY_ID.ids, strict=True) if n.startswith("N/A")] == [
        *(12, 26, 29, 30, 45),
        *(66, 68, 69, 71, 83),
    ]
    assert all(COCO_BY_ID[i - 1] == name for name, i in zip(COCO, COCO.ids, strict=True))
