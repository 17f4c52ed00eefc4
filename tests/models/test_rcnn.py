"""The stages of R-CNN from hand-made answers, against torchvision's post-processing and losses."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.models.detection.roi_heads import RoIHeads, fastrcnn_loss, maskrcnn_loss

from maskwright.errors import ConfigError, DataError
from maskwright.models.rcnn import BOX_WEIGHTS, RCNN, RCNNConfig, Sampled, tiny
from maskwright.ops import boxes as box_ops
from maskwright.types import Masks, Target

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE = (64, 96)


def make(config: RCNNConfig) -> RCNN:
    torch.manual_seed(0)
    return RCNN(config).eval()


def random_boxes(count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * torch.tensor([70.0, 40.0])
    return torch.cat([corner, corner + 4 + torch.rand(count, 2, generator=generator) * 30], 1)


def background_first(rows: Tensor) -> Tensor:
    return torch.cat([rows[:, -1:], rows[:, :-1]], 1)


# ---- detection ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("score", [0.05, 0.3])
def test_selection_equals_torchvisions(score: float) -> None:
    """Two images of different size, three classes, more survivors than places."""
    config = tiny("torchvision_v1")
    config = replace(config, roi=replace(config.roi, score=score, keep=15))
    model, boxes, sizes = make(config), [random_boxes(40, 1), random_boxes(25, 2)], [SIZE, (50, 60)]
    generator = torch.Generator().manual_seed(3)
    logits, deltas = torch.randn(65, 4, generator=generator) * 1.5, torch.randn(65, 3, 4, generator=generator)
    nothing = torch.nn.Identity()
    theirs = RoIHeads(nothing, nothing, nothing, 0.5, 0.5, 512, 0.25, BOX_WEIGHTS, score, 0.5, 15)
    padded = torch.cat([torch.zeros(65, 1, 4), deltas], 1).flatten(1)
    expected = theirs.postprocess_detections(background_first(logits), padded, boxes, sizes)
    for (box, value, label), *wanted in zip(model.select(logits, deltas, boxes, sizes), *expected, strict=True):
        torch.testing.assert_close(box, wanted[0])
        torch.testing.assert_close(value, wanted[1])
        assert torch.equal(label + 1, wanted[2])
        assert 0 < len(box) <= 15


def test_selection_keeps_apart_what_classes_keep_apart() -> None:
    model = make(tiny())
    boxes, logits = torch.tensor([[10.0, 10, 30, 30]] * 3), torch.tensor([[5.0, 0, 0, 0], [0, 5, 0, 0], [4, 0, 0, 0]])
    [(box, value, label)] = model.select(logits, torch.zeros(3, 3, 4), [boxes], [SIZE])
    assert label.tolist() == [0, 1]
    assert torch.equal(box, boxes[:2])
    assert value.tolist() == pytest.approx([logits[0].softmax(0)[0].item()] * 2)


def test_each_class_has_its_own_box() -> None:
    model = make(tiny())
    deltas = torch.zeros(1, 3, 4)
    deltas[0, 1, 0] = 10 * 0.25  # a quarter of the width to the right
    [(box, _, label)] = model.select(
        torch.tensor([[2.0, 2.0, -9, -9]]), deltas, [torch.tensor([[8.0, 8, 16, 16]])], [SIZE]
    )
    found = dict(zip(label.tolist(), box.tolist(), strict=True))
    assert found == {0: [8, 8, 16, 16], 1: [10, 8, 18, 16]}


# ---- training -------------------------------------------------------------------------------------------------------


def target(crowd: bool = False) -> Target:
    """Three objects; the middle one is a crowd if asked for."""
    boxes = torch.tensor([[4.0, 4, 24, 24], [30, 4, 60, 40], [62, 30, 90, 60]])
    crops = tuple(np.ones((int(b[3] - b[1]), int(b[2] - b[0])), np.bool_) for b in boxes)
    masks = Masks(SIZE, boxes[:, [1, 0]].numpy().astype(np.int64), crops)
    flags = torch.tensor([False, True, False]) if crowd else None
    return Target(boxes, torch.tensor([2, 0, 1]), masks, flags)


def test_samples_are_matched_to_their_objects() -> None:
    model = make(tiny())
    truth = target().boxes
    proposals = torch.cat([truth + 1, truth[[0, 2]] - 2, random_boxes(30, 5)])
    for t, known in ((target(), {0, 1, 2}), (target(crowd=True), {0, 2})):
        s = model.sample(proposals, t, torch.Generator().manual_seed(0))
        foreground = len(s.truth)
        assert len(s.boxes) == len(s.labels) <= model.config.roi.samples
        assert 0 < foreground <= model.config.roi.samples * model.config.roi.foreground
        assert set(s.objects.tolist()) <= known
        assert torch.equal(s.truth, truth[s.objects])
        assert torch.equal(s.labels[:foreground], t.labels[s.objects])
        assert bool((s.labels[foreground:] == 3).all())
        own = box_ops.iou(s.boxes, truth)
        assert bool((own[torch.arange(foreground), s.objects] >= 0.5).all())
        if t.crowd is not None:  # nothing that lies in the crowd is called background
            inside = box_ops.intersection(s.boxes, truth[1:2])[:, 0] / box_ops.area(s.boxes)
            assert bool((inside[foreground:] < 0.5).all())


def test_the_truth_is_a_proposal_too() -> None:
    s = make(tiny()).sample(torch.zeros(0, 4), target(), None)
    assert sorted(s.objects.tolist()) == [0, 1, 2]
    assert torch.equal(s.boxes, s.truth)


@pytest.mark.parametrize("empty", [False, True])
def test_box_and_class_losses_equal_torchvisions(empty: bool) -> None:
    model, parts = make(tiny("torchvision_v1")), []
    for seed in (1, 2):
        t = target()
        rows = Target(t.boxes[:0], t.labels[:0], t.masks[:0]) if empty else t  # type: ignore[index]
        near = t.boxes + torch.randn(3, 4, generator=torch.Generator().manual_seed(seed))
        parts.append(model.sample(torch.cat([near, random_boxes(30, seed)]), rows, torch.Generator().manual_seed(seed)))
    features = model.features(torch.randn(2, 3, *SIZE))
    losses = {name: term.mean() for name, term in model.box_terms(features, parts).items()}
    logits, deltas = model.classify(features, [s.boxes for s in parts])
    labels, wanted = [], []
    for s in parts:
        full = s.boxes.clone()
        full[: len(s.truth)] = s.truth
        labels.append(torch.where(s.labels == 3, 0, s.labels + 1))
        wanted.append(box_ops.encode(full, s.boxes, BOX_WEIGHTS))
    padded = torch.cat([torch.zeros(len(deltas), 1, 4), deltas], 1).flatten(1)
    expected = fastrcnn_loss(background_first(logits), padded, labels, wanted)
    torch.testing.assert_close(losses["class"], expected[0])
    torch.testing.assert_close(losses["box"], expected[1])
    assert (losses["box"].item() == 0) == empty


def test_mask_loss_equals_torchvisions() -> None:
    model, t = make(tiny("torchvision_v1")), target()
    boxes = t.boxes[[0, 2, 1, 0]] + torch.tensor([1.0, -2, 3, 1])
    objects = torch.tensor([0, 2, 1, 0])
    sampled = Sampled(boxes, t.labels[objects], t.boxes[objects], objects)
    features = model.features(torch.randn(1, 3, *SIZE))
    found = model.mask_terms(features, [sampled], [t])["mask"].mean()
    assert model.mask_head is not None
    pooled = model.mask_pooler(features, boxes, torch.zeros(4, dtype=torch.int64))
    every = model.mask_head.all_classes(pooled)
    assert isinstance(t.masks, Masks)
    dense = torch.from_numpy(t.masks.dense().astype(np.uint8))
    expected = maskrcnn_loss(every, [boxes], [dense], [t.labels], [objects])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_boxes_without_masks_cannot_teach_masks() -> None:
    t = replace(target(), masks=None)
    model = make(tiny())
    with pytest.raises(DataError, match="boxes but no masks"):
        model.loss(torch.randn(1, 3, *SIZE), [SIZE], [t])
    boxes_only = make(replace(tiny(), masks=False))
    assert "mask" not in boxes_only.loss(torch.randn(1, 3, *SIZE), [SIZE], [t])
    nothing = Target(t.boxes[:0], t.labels[:0])
    assert model.loss(torch.randn(1, 3, *SIZE), [SIZE], [nothing])["mask"].item() == 0


# ---- configs that cannot work ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"strides": (4, 8)}, r"each of the 3 levels \(strides \(4, 8, 16\)\) that 'resnet14_narrow' gives, got 5"),
        ({"strides": (4, 16, 32), "rpn": replace(tiny().rpn, sizes=((8.0,),) * 4)}, "strides double"),
        ({"strides": (4, 64)}, "has feature maps at the strides 4, 8, 16 and 32"),
        ({"neck": "c4"}, r"'c4' works on one feature map, got the strides \(4, 8, 16, 32\)"),
        ({"backbone": "resnet_50"}, "timm has no model 'resnet_50'. Did you mean"),
    ],
)
def test_parts_that_do_not_fit_are_named(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RCNN(replace(tiny(), **changes))  # type: ignore[arg-type]
