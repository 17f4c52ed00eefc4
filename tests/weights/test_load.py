"""Strict loading: all or nothing, and an error that says which model the file is of."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from maskwright.errors import WeightsError
from maskwright.models import rcnn, zoo
from maskwright.weights.files import save_checkpoint
from maskwright.weights.keyrules import convert
from maskwright.weights.load import Known, load_file, load_into, shapes_of

HEADER = {"architecture": "x", "config": {}, "classes": {}}


def small(live: bool = True, width: int = 4) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width) if live else nn.Identity())


def test_values_arrive_in_the_models_type(tmp_path: Path) -> None:
    model, other = small(), small()
    model[1].num_batches_tracked += 5
    path = save_checkpoint(tmp_path / "a.safetensors", model.state_dict(), HEADER, half=True)
    file = load_file(other, path)
    assert file.header is not None
    assert other[0].weight.dtype == torch.float32
    assert torch.equal(other[0].weight, model[0].weight.half().float())
    assert torch.equal(other[1].running_var, model[1].running_var)
    assert other[1].num_batches_tracked == 5


def test_batch_counters_may_be_missing_or_too_many() -> None:
    model = small()
    model[1].num_batches_tracked += 5
    state = {n: t for n, t in small().state_dict().items() if "tracked" not in n}
    load_into(model, state, "a.pth")
    assert model[1].num_batches_tracked == 0
    load_into(model, {**small().state_dict(), "9.num_batches_tracked": torch.tensor(1)}, "a.pth")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"0.weight": None}, r"lacks 0\.weight\."),
        ({"extra.bias": torch.zeros(1)}, r"has besides extra\.bias"),
        ({"0.weight": torch.zeros(4, 3, 1, 1)}, r"0\.weight \(4x3x1x1, expected 4x3x3x3\)"),
        ({"0.bias": torch.zeros(4, dtype=torch.int64)}, r"other types in 0\.bias"),
        ({"0.bias": torch.full((4,), torch.nan)}, "not finite, in 0.bias"),
    ],
)
def test_any_difference_is_an_error_and_leaves_the_model_unchanged(change: dict, message: str) -> None:
    model = small()
    before = {n: t.clone() for n, t in model.state_dict().items()}
    state = {n: t for n, t in {**small().state_dict(), **change}.items() if t is not None}
    with pytest.raises(WeightsError, match=message) as caught:
        load_into(model, state, "runs/a.pth")
    assert "runs/a.pth" in str(caught.value)
    assert all(torch.equal(before[n], t) for n, t in model.state_dict().items())


def test_many_differences_are_counted_not_listed() -> None:
    state = {f"layer{i}.weight": torch.zeros(1) for i in range(300)}
    with pytest.raises(WeightsError, match=r"and 296 others \(300 in all\)") as caught:
        load_into(small(), state, "a.pth")
    assert len(str(caught.value)) < 600


def meta_state(shared: Path, folder: str) -> dict[str, torch.Tensor]:
    rows = json.loads((shared / "golden" / "rcnn" / folder / "spec.json").read_text())
    return {k: torch.empty(s, dtype=getattr(torch, d), device="meta") for k, s, d in rows}


CANDIDATES = {
    name: (lambda config=config: shapes_of(lambda: rcnn.RCNN(config)))
    for name, config in {
        "mask.detectron2": rcnn.detectron2_fpn(),
        "mask.torchvision": rcnn.torchvision_v1(),
        "mask_v2": rcnn.torchvision_v2(),
        "mask_r101": rcnn.detectron2_fpn(depth=101),
        "mask_c4": rcnn.detectron2_c4(),
        "faster.detectron2": rcnn.detectron2_fpn(masks=False),
        "faster.torchvision": rcnn.torchvision_v1(masks=False),
    }.items()
}

KNOWN = Known(CANDIDATES, zoo.known().names, zoo.known().class_rows)


@pytest.mark.parametrize(
    ("folder", "hint"),
    [
        ("mask_rcnn_R_50_FPN_3x", r"The file fits: mask\.detectron2\.$"),
        ("tv_maskrcnn_resnet50_fpn", r"The file fits: mask\.torchvision\.$"),
        ("tv_maskrcnn_resnet50_fpn_v2", r"The file fits: mask_v2\.$"),
        ("panoptic_fpn_R_50_3x", r"and 23 others.*Nearest is mask\.detectron2: 93%"),
        ("keypoint_rcnn_R_50_FPN_3x", r"keypoint_head\.conv\.0\.0.*and 17 more.*Nearest is faster\.detectron2"),
    ],
)
def test_the_error_says_which_model_the_file_fits(shared: Path, folder: str, hint: str) -> None:
    with torch.device("meta"):
        model = rcnn.RCNN(rcnn.detectron2_c4())
    with pytest.raises(WeightsError, match=hint):
        load_into(model, convert(meta_state(shared, folder), KNOWN.names), "file.pkl", KNOWN)


def test_other_numbers_of_classes_are_recognised() -> None:
    with torch.device("meta"):
        model, file = (rcnn.RCNN(rcnn.detectron2_fpn(num_classes=q)) for q in (80, 3))
    hint = r"Except for its number of classes \(3\) the file fits: mask\.detectron2, mask\.torchvision\."
    with pytest.raises(WeightsError, match=hint):
        load_into(model, file.state_dict(), "mine.pth", KNOWN)


def test_weights_that_fit_no_model() -> None:
    with pytest.raises(WeightsError, match="It fits no model of the zoo"):
        load_into(small(), {"x": torch.zeros(1)}, "a.pth", KNOWN)


def test_another_publishers_file_is_refused_even_where_it_would_fit(tmp_path: Path) -> None:
    path = tmp_path / "model_final.pkl"
    names = {"proposal_generator.rpn_head.objectness_logits.bias": np.ones(3, np.float32)}
    path.write_bytes(pickle.dumps({"model": names}))
    model = nn.Module()
    model.rpn = nn.Module()
    model.rpn.logits = nn.Module()
    model.rpn.logits.register_buffer("bias", torch.zeros(3))
    with pytest.raises(WeightsError, match=r"model_final\.pkl is detectron2's, this model follows torchvision's"):
        load_file(model, path, KNOWN, publisher="torchvision")
    with pytest.raises(WeightsError, match=r"is detectron2's, this model follows maskwright's own conventions"):
        load_file(model, path, KNOWN, publisher=None)
    assert model.rpn.logits.bias.sum() == 0
    load_file(model, path, KNOWN, publisher="detectron2")
    assert model.rpn.logits.bias.sum() == 3


def test_ambiguous_names_are_reported_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "odd.pth"
    torch.save({"rpn.head.conv.weight": torch.zeros(1), "rpn.head.conv.0.0.weight": torch.zeros(1)}, path)
    with pytest.raises(WeightsError, match=r"odd\.pth: 'rpn"):
        load_file(small(), path, KNOWN)
