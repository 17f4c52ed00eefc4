"""Published names to ours: complete, unambiguous, with class rows where they belong."""

import importlib.util
import json
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

from maskwright.errors import WeightsError
from maskwright.models import rcnn, zoo
from maskwright.models.rcnn.keys import DETECTRON2, TORCHVISION, from_detectron2, from_torchvision
from maskwright.weights.keyrules import Converted, convert, naming
from maskwright.weights.load import shapes_of

KNOWN = zoo.known().names

FITS: list[tuple[str, str, Callable[[], rcnn.RCNNConfig]]] = [
    ("mask_rcnn_R_50_FPN_3x", "spec.json", rcnn.detectron2_fpn),
    ("mask_rcnn_R_50_C4_3x", "spec.json", rcnn.detectron2_c4),
    ("tv_maskrcnn_resnet50_fpn", "spec.json", rcnn.torchvision_v1),
    ("tv_maskrcnn_resnet50_fpn", "spec_module.json", rcnn.torchvision_v1),
    ("tv_maskrcnn_resnet50_fpn_v2", "spec.json", rcnn.torchvision_v2),
]


def spec(shared: Path, folder: str, name: str = "spec.json") -> dict[str, Tensor]:
    rows = json.loads((shared / "golden" / "rcnn" / folder / name).read_text())
    return {key: torch.empty(shape, dtype=getattr(torch, dtype), device="meta") for key, shape, dtype in rows}


def fill(shared: Path) -> ModuleType:
    source = importlib.util.spec_from_file_location("fill", shared / "golden" / "rcnn" / "fill.py")
    assert source is not None
    assert source.loader is not None
    module = importlib.util.module_from_spec(source)
    source.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("folder", "name", "config"), FITS)
def test_every_published_name_has_its_place(shared: Path, folder: str, name: str, config) -> None:
    out = convert(spec(shared, folder, name), KNOWN)
    expected = shapes_of(lambda: rcnn.RCNN(config()))
    assert out.publisher == ("torchvision" if folder.startswith("tv_") else "detectron2")
    assert out.unknown == out.ignored == ()
    assert {n: t.shape for n, t in out.state.items()} == dict(expected)


@pytest.mark.parametrize(("folder", "missing"), [("mask_rcnn_R_50_FPN_3x", 5), ("mask_rcnn_R_50_C4_3x", 1)])
def test_additional_tensors_of_zoo_files_are_ignored(shared: Path, folder: str, missing: int) -> None:
    state = spec(shared, folder) | spec(shared, folder, "spec_zoo_extra.json")
    state |= {"pixel_mean": torch.zeros(3, 1, 1), "pixel_std": torch.ones(3, 1, 1)}
    out = from_detectron2(state)
    assert out.unknown == ()
    assert len(out.ignored) == missing + 2
    assert not set(out.ignored) & set(out.state)


@pytest.mark.parametrize(
    ("folder", "prefix", "count"),
    [
        ("mask_rcnn_R_50_FPN_3x", "roi_heads.densepose_head.", 18),
        ("tv_maskrcnn_resnet50_fpn", "roi_heads.pose_", 18),
    ],
)
def test_other_heads_stay_under_their_names_and_are_reported(
    shared: Path, folder: str, prefix: str, count: int
) -> None:
    state = spec(shared, folder)
    state |= {f"{prefix}conv{k}.weight": torch.empty(8, 8, 3, 3, device="meta") for k in range(count)}
    out = convert(state, KNOWN)
    assert out.unknown == tuple(n for n in state if n.startswith(prefix))
    assert len(out.unknown) == count
    assert set(out.unknown) <= set(out.state)
    body = shapes_of(lambda: rcnn.RCNN(rcnn.detectron2_fpn(masks=False)))
    assert set(body) <= set(out.state)


def test_no_name_is_matched_by_two_rules(shared: Path) -> None:
    names = {DETECTRON2: set(), TORCHVISION: set()}
    for path in (shared / "golden" / "rcnn").glob("*/spec*.json"):
        rules = TORCHVISION if "tv_" in path.parent.name else DETECTRON2
        names[rules] |= {row[0] for row in json.loads(path.read_text())}
    for rules, all_names in names.items():
        assert len(all_names) > 400
        for name in all_names:
            hits = [r.pattern for r in rules if re.fullmatch(r.pattern, name)]
            assert len(hits) <= 1, (name, hits)


def test_old_and_new_names_of_torchvision_give_the_same_values(shared: Path) -> None:
    """Values travel by order of the two lists, which is the same: every tensor must land in the same place."""
    old, new = (spec(shared, "tv_maskrcnn_resnet50_fpn", n) for n in ("spec.json", "spec_module.json"))
    values = [torch.randn(t.shape) if t.numel() < 5000 else torch.rand(1).expand(t.shape) for t in old.values()]
    a = from_torchvision(dict(zip(old, values, strict=True))).state
    b = from_torchvision(dict(zip(new, values, strict=True))).state
    assert a.keys() == b.keys()
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_background_rows_are_moved_to_the_end_or_dropped() -> None:
    rows = torch.arange(4.0)  # background, then classes 1, 2, 3
    state = {
        "rpn.head.cls_logits.bias": torch.zeros(3),
        "roi_heads.box_predictor.cls_score.bias": rows,
        "roi_heads.box_predictor.cls_score.weight": rows[:, None].expand(4, 7),
        "roi_heads.box_predictor.bbox_pred.bias": rows.repeat_interleave(4) * 10 + torch.arange(4).repeat(4),
        "roi_heads.mask_predictor.mask_fcn_logits.weight": rows.view(4, 1, 1, 1).expand(4, 5, 1, 1),
    }
    out = convert(state, KNOWN).state
    assert out["box_predictor.classes.bias"].tolist() == [1, 2, 3, 0]
    assert out["box_predictor.classes.weight"][:, 6].tolist() == [1, 2, 3, 0]
    assert out["box_predictor.deltas.bias"].tolist() == [10, 11, 12, 13, 20, 21, 22, 23, 30, 31, 32, 33]
    assert out["mask_head.logits.weight"].shape == (3, 5, 1, 1)
    assert out["mask_head.logits.weight"][:, 0, 0, 0].tolist() == [1, 2, 3]


def test_detectron2_rows_stay(shared: Path) -> None:
    rows = torch.arange(81.0)
    out = from_detectron2({"roi_heads.box_predictor.cls_score.bias": rows}).state
    assert torch.equal(out["box_predictor.classes.bias"], rows)


def test_filled_weights_arrive_unchanged(shared: Path) -> None:
    """A few names of each part, values compared with the file's own."""
    pick = json.loads((shared / "golden" / "rcnn" / "mask_rcnn_R_50_FPN_3x" / "spec.json").read_text())
    state = fill(shared).fill_state_dict([r for r in pick if "res4.5" in r[0] or "fpn_" in r[0] or "mask_head" in r[0]])
    out = from_detectron2(state).state
    same = {
        "backbone.bottom_up.res4.5.conv2.norm.running_var": "backbone.layer3.5.bn2.running_var",
        "backbone.bottom_up.res4.5.conv3.weight": "backbone.layer3.5.conv3.weight",
        "backbone.fpn_lateral5.bias": "fpn.lateral.3.0.bias",
        "backbone.fpn_output2.weight": "fpn.output.0.0.weight",
        "roi_heads.mask_head.mask_fcn1.bias": "mask_head.conv.0.0.bias",
        "roi_heads.mask_head.mask_fcn4.weight": "mask_head.conv.3.0.weight",
        "roi_heads.mask_head.predictor.weight": "mask_head.logits.weight",
    }
    assert all(torch.equal(state[a], out[b]) for a, b in same.items())


def test_very_old_files_without_statistics_get_neutral_ones(shared: Path) -> None:
    state = {n: torch.ones(t.shape) for n, t in spec(shared, "mask_rcnn_R_50_C4_3x").items() if "running_" not in n}
    out = from_detectron2(state).state
    expected = shapes_of(lambda: rcnn.RCNN(rcnn.detectron2_c4()))
    assert {n: t.shape for n, t in out.items()} == dict(expected)
    assert all(t.eq(0).all() for n, t in out.items() if n.endswith("running_mean"))
    assert all(t.eq(1).all() for n, t in out.items() if n.endswith("running_var"))


def test_only_some_statistics_missing_is_left_to_the_loader(shared: Path) -> None:
    state = spec(shared, "mask_rcnn_R_50_FPN_3x")
    del state["backbone.bottom_up.res2.0.conv1.norm.running_var"]
    assert "backbone.layer1.0.bn1.running_var" not in from_detectron2(state).state


def test_two_names_for_one_place_are_an_error() -> None:
    state = {"rpn.head.conv.weight": torch.zeros(1), "rpn.head.conv.0.0.weight": torch.zeros(1)}
    with pytest.raises(WeightsError, match=r"'rpn\.head\.conv\.weight' and 'rpn\.head\.conv\.0\.0\.weight'"):
        convert(state, KNOWN)


def test_unknown_names_are_kept() -> None:
    state = {"backbone.conv1.weight": torch.zeros(1), "rpn.logits.bias": torch.zeros(3)}
    assert naming(state, KNOWN) is None
    assert convert(state, KNOWN) == Converted(state)
    assert convert(state, KNOWN).state == state
    assert convert({}, KNOWN).state == {}


def test_a_scalar_in_place_of_rows_is_left_to_the_loader() -> None:
    out = from_torchvision({"roi_heads.box_predictor.cls_score.bias": torch.tensor(1.0)})
    assert out.state["box_predictor.classes.bias"].shape == ()
