"""YolactEdge learns to carry: after a short training scenes are found from key frames in which they lie elsewhere."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from tests.reference.learning import learn

from maskwright.data.synthetic import scene
from maskwright.models import yolact_edge
from maskwright.models.family import build
from maskwright.models.yolact_edge import loss
from maskwright.models.yolact_edge.parts import LevelMotion
from maskwright.ops import boxes as box_ops
from maskwright.ops.flow import warp
from maskwright.predictor.prepare import prepare
from maskwright.types import ImageArray, Inputs, Instances, RawDetections, Target

pytestmark = pytest.mark.usefixtures("one_thread")

STEPS = 120


def found(raw: RawDetections, scenes: Sequence[tuple[ImageArray, Instances]]) -> int:
    """How many of all objects have a sure detection of their class with an IoU above one half."""
    hits = 0
    for i, (_, truth) in enumerate(scenes):
        sure = raw.scores[i] >= 0.5
        iou = box_ops.iou(torch.from_numpy(truth.boxes), raw.boxes[i][sure]).numpy()
        same = truth.labels[:, None] == raw.labels[i][sure].numpy()
        hits += int(((iou > 0.5) & same).any(axis=1).sum())
    return hits


def test_it_learns_to_carry_three_scenes() -> None:
    torch.manual_seed(0)
    config = replace(yolact_edge.tiny_variants()["video"], norm="live", neck_norm=True, channels=24)
    model = build(config).train()
    assert isinstance(model, yolact_edge.YolactEdge)
    scenes = [scene(seed, (64, 64), 3, 3) for seed in range(3)]
    images = torch.stack([prepare(image, config.spec)[0] for image, _ in scenes])
    targets = [Target(torch.from_numpy(s.boxes), torch.from_numpy(s.labels), s.crops) for _, s in scenes]
    history = learn(model, Inputs(images), targets, STEPS)
    before, _ = loss.moved(images, [torch.Generator().manual_seed(i) for i in range(len(images))])
    with torch.no_grad():
        model.eval()
        own, (_, state) = model.detect(Inputs(images)), model.start(Inputs(before))
        carried, _ = model.step(Inputs(images), state)
    assert sum(history[-1].values()) < sum(history[0].values()) / 4
    assert history[-1]["match"] < history[0]["match"] / 2
    motion = [losses["flow"] for losses in history]  # of another displacement at each step
    assert sum(motion[-20:]) < 0.85 * sum(motion[:20])
    assert found(own, scenes) >= 7
    assert found(carried, scenes) >= 7


def test_a_moved_copy_is_brought_back_by_its_true_motion() -> None:
    """What `moved` says of a copy is what `warp` and the loss of the motion mean by a flow."""
    images = torch.randn(4, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    copies, shares = loss.moved(images, [torch.Generator().manual_seed(i) for i in range(4)])
    assert shares.flatten(1).any(dim=1).all()
    flow = (shares * torch.tensor([96.0, 64.0])[:, None, None]).expand(4, 2, 64, 96)
    inside = (slice(None), slice(None), slice(8, -8), slice(8, -8))
    torch.testing.assert_close(warp(copies, flow)[inside], images[inside], rtol=0, atol=1e-3)
    cells = (shares * torch.tensor([11.0, 7.0])[:, None, None]).expand(4, 2, 8, 12)
    motion = [LevelMotion(cells, None, None)]
    assert loss.end_point_error(motion, shares, 8.0).mean().item() < 1e-5
    wrong = loss.end_point_error([LevelMotion(-cells, None, None)], shares, 8.0).mean().item()
    assert wrong == pytest.approx((32 * shares).norm(dim=1).mean().item(), rel=1e-4)
