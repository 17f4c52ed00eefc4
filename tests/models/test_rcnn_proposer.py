"""Proposals and their loss from hand-made answers, and against torchvision's network."""

from dataclasses import replace

import pytest
import torch
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead

from maskwright.models.rcnn import RPNConfig
from maskwright.models.rcnn.proposer import RPN, Anchored, split_crowd
from maskwright.ops import boxes as box_ops
from maskwright.types import Inputs, Target

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = RPNConfig(sizes=((8.0,), (16.0,)), ratios=(0.5, 1.0, 2.0), before=60, after=40, train_before=60, train_after=40)


def make(config: RPNConfig = SMALL, seed: int = 0) -> RPN:
    torch.manual_seed(seed)
    rpn = RPN(config, 4, (4, 8))
    for layer in (rpn.logits, rpn.deltas):
        torch.nn.init.normal_(layer.weight, std=0.5)
    return rpn


def maps(seed: int = 0, count: int = 2) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(count, 4, 8, 10, generator=generator), torch.randn(count, 4, 4, 5, generator=generator)]


SIZE = (32, 40)


def test_answers_lie_in_the_order_of_the_anchors() -> None:
    rpn, features = make(), maps()
    logits, deltas = rpn(features)
    anchors = rpn.anchors(features, SIZE)
    for level in range(2):
        h, w = features[level].shape[2:]
        assert logits[level].shape == (2, h * w * 3)
        assert deltas[level].shape == (2, h * w * 3, 4)
        assert anchors[level].shape == (h * w * 3, 4)
        hidden = rpn.conv(features[level])
        y, x, a = 2, 3, 1
        row = (y * w + x) * 3 + a
        assert logits[level][1, row] == rpn.logits(hidden)[1, a, y, x]
        assert torch.equal(deltas[level][1, row], rpn.deltas(hidden)[1, 4 * a : 4 * a + 4, y, x])
        stride = (4, 8)[level]
        centre = (anchors[level][row, :2] + anchors[level][row, 2:]) / 2
        assert centre.tolist() == pytest.approx([x * stride, y * stride], abs=1e-4)


def test_proposals_are_the_best_of_each_level_clipped_and_suppressed() -> None:
    rpn, sizes = make(), [SIZE, (20, 30)]
    found = rpn.propose(maps(), Inputs(torch.zeros(2, 3, *SIZE), sizes))
    assert found.boxes.shape == (2, SMALL.after, 4)
    assert not found.boxes[~found.alive].any()
    assert not found.scores[~found.alive].any()
    for i, size in enumerate(sizes):
        boxes, scores = found.of(i), found.scores[i, : len(found.of(i))]
        assert 0 < len(boxes) <= SMALL.after
        assert bool(found.alive[i, : len(boxes)].all())
        assert bool((scores.diff() <= 0).all())
        assert torch.equal(boxes, box_ops.clip(boxes, size))
        assert bool(box_ops.sides_at_least(boxes, 0).all())


def test_more_proposals_begin_with_the_usual_ones() -> None:
    """Where more detections are asked for; none is lost by it."""
    rpn, inputs = make(replace(SMALL, before=200, after=10)), Inputs(torch.zeros(2, 3, *SIZE))
    usual, more = rpn.propose(maps(), inputs), rpn.propose(maps(), inputs, 20)
    assert more.boxes.shape == (2, 40, 4)
    assert torch.equal(more.boxes[:, :10], usual.boxes)


def test_levels_do_not_suppress_each_other() -> None:
    rpn = RPN(replace(SMALL, sizes=((8.0,), (8.0,)), ratios=(1.0,)), 4, (4, 8))
    anchors = [torch.tensor([[4.0, 4, 12, 12], [4, 4, 12, 13]]), torch.tensor([[4.0, 4, 12, 12]])]
    logits, deltas = [torch.tensor([[2.0, 1.0]]), torch.tensor([[0.5]])], [torch.zeros(1, 2, 4), torch.zeros(1, 1, 4)]
    found = rpn.best(Anchored(logits, deltas, anchors), [(40, 40)], 60, 40)
    assert found.scores.tolist() == [[2.0, 0.5, 0.0]]
    assert torch.equal(found.of(0), torch.cat([anchors[0][:1], anchors[1]]))


def test_answers_that_are_not_finite_propose_nothing() -> None:
    rpn, features = make(), maps()
    answers = rpn.anchored(features, SIZE)
    answers.deltas[0][:] = torch.nan
    answers.logits[1][0] = torch.inf
    found = rpn.best(answers, [SIZE, SIZE], 60, 40)
    assert len(found.of(0)) == 0
    assert 0 < len(found.of(1)) <= 4 * 5 * 3
    assert bool(torch.isfinite(found.boxes).all())


def test_equal_to_torchvisions_network() -> None:
    """Its conventions, a random network, odd sizes, targets with ties: the same proposals and losses."""
    config = replace(
        SMALL, rounded=True, stride_from_input=True, rank_by="probability", min_side=1e-3, beta=1 / 9,
        mean_over="sampled", samples=10**6, foreground=0.5, nms=0.7,
    )  # fmt: skip
    ours = make(config)
    head = RPNHead(4, 3)
    with torch.no_grad():
        for theirs_layer, layer in (
            (head.conv[0][0], ours.conv[0][0]),
            (head.cls_logits, ours.logits),
            (head.bbox_pred, ours.deltas),
        ):
            theirs_layer.weight.copy_(layer.weight)
            theirs_layer.bias.copy_(layer.bias)
    generator = AnchorGenerator(((8,), (16,)), ((0.5, 1.0, 2.0),) * 2)
    both = {"training": 60, "testing": 60}
    theirs = RegionProposalNetwork(generator, head, 0.7, 0.3, 10**6, 0.5, both, {"training": 40, "testing": 40}, 0.7)
    features, sizes = maps(3), [SIZE, (27, 33)]
    images = ImageList(torch.zeros(2, 3, *SIZE), sizes)
    truth = [torch.tensor([[2.0, 3, 14, 12], [20, 8, 36, 30]]), torch.tensor([[5.0, 5, 13, 13]])]
    expected, _ = theirs.eval()(images, dict(enumerate(features)))  # type: ignore[arg-type]
    found = ours.propose(features, Inputs(images.tensors, sizes))
    for i, wanted in enumerate(expected):
        torch.testing.assert_close(found.of(i), wanted, rtol=1e-5, atol=1e-4)
    _, losses = theirs.train()(images, dict(enumerate(features)), [{"boxes": t} for t in truth])  # type: ignore[arg-type]
    targets = [Target(t, torch.zeros(len(t), dtype=torch.int64)) for t in truth]
    mine, proposals = ours.learn(features, Inputs(images.tensors, sizes), targets, [None, None])
    assert torch.equal(proposals.boxes, found.boxes)  # as many while training, in this config
    assert mine["rpn_class"].mean().item() == pytest.approx(losses["loss_objectness"].item(), rel=1e-5)
    assert mine["rpn_box"].mean().item() == pytest.approx(losses["loss_rpn_box_reg"].item(), rel=1e-5)


def test_crowds_are_neither_object_nor_background() -> None:
    rpn, features = make(replace(SMALL, samples=10**6, mean_over="sampled")), maps(count=1)
    answers = rpn.anchored(features, SIZE)
    boxes, labels = torch.tensor([[0.0, 0, 40, 32]]), torch.zeros(1, dtype=torch.int64)
    all_ignored = rpn.terms(answers, [Target(boxes, labels, crowd=torch.tensor([True]))], [None])
    inside = torch.cat(answers.anchors)
    share = box_ops.intersection(inside, boxes)[:, 0] / box_ops.area(inside)
    left = torch.cat(answers.logits, 1)[0][share < 0.5]
    expected = torch.nn.functional.softplus(left).mean() if len(left) else torch.zeros(())
    assert all_ignored["rpn_class"].mean().item() == pytest.approx(expected.item(), rel=1e-5)
    assert all_ignored["rpn_box"].mean().item() == 0


def test_split_crowd() -> None:
    boxes = torch.arange(12.0).view(3, 4)
    truth, crowds = split_crowd(Target(boxes, torch.zeros(3, dtype=torch.int64)))
    assert torch.equal(truth, boxes)
    assert crowds.shape == (0, 4)
    truth, crowds = split_crowd(
        Target(boxes, torch.zeros(3, dtype=torch.int64), crowd=torch.tensor([False, True, False]))
    )
    assert torch.equal(truth, boxes[[0, 2]])
    assert torch.equal(crowds, boxes[[1]])
