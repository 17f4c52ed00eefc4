"""Published weights begin a run for other classes: from the publisher's own file layout, by its zoo name."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from maskwright.errors import WeightsError
from maskwright.models import zoo
from maskwright.training.network import NetworkSettings, build, find_start
from maskwright.types import Classes
from maskwright.weights.files import read
from maskwright.weights.keyrules import convert

pytestmark = pytest.mark.golden


@pytest.mark.parametrize(
    ("recorded", "name", "other"),
    [
        ("tv_maskrcnn_resnet50_fpn", "mask_rcnn_r50_fpn.torchvision", "mask_rcnn_r50_fpn.detectron2"),
        ("mask_rcnn_R_50_FPN_3x", "mask_rcnn_r50_fpn.detectron2", "mask_rcnn_r50_fpn.torchvision"),
    ],
)
def test_classes_of_the_same_name_keep_their_rows(
    recorded: str, name: str, other: str, checkpoint: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = checkpoint(recorded)
    monkeypatch.setattr(zoo.Entry, "path", lambda self, progress=True: path)
    config = NetworkSettings(weights=name)
    start = find_start(config)
    assert start.architecture == name
    assert start.classes == zoo.resolve(name).classes
    model, done = build(config, Classes(["leaf", "dog", "person"]), start)
    assert done is not None
    assert done.classes == ("dog", "person")
    assert {n.rpartition(".")[0] for n in done.by_row} == {
        "box_predictor.classes", "box_predictor.deltas", "mask_head.logits",
    }  # fmt: skip
    assert (done.began, done.unused) == ((), ())
    assert len(done.kept) + 6 == len(model.state_dict())
    state, mine = convert(read(path).tensors, zoo.known().names).state, model.state_dict()
    row = start.classes.names.index("dog")
    assert torch.equal(mine["mask_head.logits.weight"][1], state["mask_head.logits.weight"][row])
    assert torch.equal(mine["box_predictor.deltas.bias"][4:8], state["box_predictor.deltas.bias"][4 * row :][:4])
    assert torch.equal(mine["box_predictor.classes.weight"][3], state["box_predictor.classes.weight"][-1])
    assert torch.equal(mine["backbone.layer3.2.conv2.weight"], state["backbone.layer3.2.conv2.weight"])
    with pytest.raises(WeightsError, match="'s, this model follows"):
        find_start(NetworkSettings(model=other, weights=str(path)))
