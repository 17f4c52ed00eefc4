"""The stages of R-CNN from hand-made answers, against torchvision's post-processing and losses."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.reference.proposed import proposed
from torch import Tensor
from torchvision.models.detection.roi_heads import RoIHeads, fastrcnn_loss, maskrcnn_loss

from maskwright.errors import ConfigError, DataError
from maskwright.models.base import Detections
from maskwright.models.family import accelerated
from maskwright.models.rcnn import RCNN, RCNNConfig, tiny, tiny_variants
from maskwright.models.rcnn.heads import BOX_WEIGHTS, Sampled, sample, together
from maskwright.models.rcnn.proposer import Proposals
from maskwright.ops import boxes as box_ops
from maskwright.ops import masks as mask_ops
from maskwright.types import BoxMasks, Inputs, Masks, Target

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE = (64, 96)


def make(config: RCNNConfig) -> RCNN:
    torch.manual_seed(0)
    return RCNN(config).eval()


def random_boxes(count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * torch.tensor([70.0, 40.0])
    return torch.cat([corner, corner + 4 + torch.rand(count, 2, generator=generator) * 30], 1)


def proposals_of(boxes: list[Tensor]) -> Proposals:
    """Boxes (P, 4) of each image; dead rows where an image has fewer than another."""
    most = max(len(b) for b in boxes)
    rows = torch.stack([torch.cat([b, b.new_zeros(most - len(b), 4)]) for b in boxes])
    alive = torch.arange(most) < torch.tensor([[len(b)] for b in boxes])
    return Proposals(rows, alive.float(), alive)


def detected(
    model: RCNN, logits: Tensor, deltas: Tensor, boxes: list[Tensor], sizes: list[tuple[int, int]]
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Boxes, scores and labels of the live rows of each image, from the logits and offsets of all images' boxes."""
    proposals = proposals_of(boxes)
    scores, wide = torch.zeros(*proposals.alive.shape, logits.shape[1]), torch.zeros(*proposals.alive.shape, 3, 4)
    scores[proposals.alive], wide[proposals.alive] = logits.softmax(1), deltas
    found = model.box_branch.detect(scores, wide, proposals, sizes, model.config.limits_for())
    assert found.scores.shape == (len(boxes), model.config.roi.keep)
    live = [found.alive[i] for i in range(len(boxes))]
    return [(found.boxes[i, a], found.scores[i, a], found.labels[i, a]) for i, a in enumerate(live)]


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
    for (box, value, label), *wanted in zip(detected(model, logits, deltas, boxes, sizes), *expected, strict=True):
        torch.testing.assert_close(box, wanted[0])
        torch.testing.assert_close(value, wanted[1])
        assert torch.equal(label + 1, wanted[2])
        assert 0 < len(box) <= 15


def test_selection_keeps_apart_what_classes_keep_apart() -> None:
    model = make(tiny())
    boxes, logits = torch.tensor([[10.0, 10, 30, 30]] * 3), torch.tensor([[5.0, 0, 0, 0], [0, 5, 0, 0], [4, 0, 0, 0]])
    [(box, value, label)] = detected(model, logits, torch.zeros(3, 3, 4), [boxes], [SIZE])
    assert label.tolist() == [0, 1]
    assert torch.equal(box, boxes[:2])
    assert value.tolist() == pytest.approx([logits[0].softmax(0)[0].item()] * 2)


def test_each_class_has_its_own_box() -> None:
    model = make(tiny())
    deltas = torch.zeros(1, 3, 4)
    deltas[0, 1, 0] = 10 * 0.25  # a quarter of the width to the right
    logits, boxes = torch.tensor([[2.0, 2.0, -9, -9]]), torch.tensor([[8.0, 8, 16, 16]])
    [(box, _, label)] = detected(model, logits, deltas, [boxes], [SIZE])
    found = dict(zip(label.tolist(), box.tolist(), strict=True))
    assert found == {0: [8, 8, 16, 16], 1: [10, 8, 18, 16]}


@pytest.mark.parametrize("name", tiny_variants())
def test_boxes_lie_inside_the_image_without_its_padding(name: str) -> None:
    model = make(tiny_variants()[name])
    with torch.no_grad():
        model.box_predictor.deltas.weight.mul_(30)
        raw = model.detect(proposed(model.config, Inputs(torch.randn(2, 3, *SIZE), [SIZE, (50, 70)])))
    assert bool((raw.scores > 0).any(dim=1).all())
    for boxes, (height, width) in zip(raw.boxes, (SIZE, (50, 70)), strict=True):
        assert torch.equal(boxes, box_ops.clip(boxes, (height, width)))
    masks = raw.part(BoxMasks)
    assert (masks is not None) == model.config.masks
    if masks is not None:
        assert masks.probs.shape[2] == masks.probs.shape[3]
        assert bool(((masks.probs >= 0) & (masks.probs <= 1)).all())


@pytest.mark.parametrize("name", ["detectron2", "c4_boxes", "compact"])
def test_no_proposal_is_no_detection(name: str) -> None:
    """Also in the fast form."""
    model = make(tiny_variants()[name])
    with torch.no_grad():
        model.rpn.deltas.bias.fill_(-1e4)  # every box far outside the image, clipped to nothing
        for net in (model, accelerated(model)):
            inputs = Inputs(torch.randn(2, 3, *SIZE))
            trace = net.trace(inputs, model.config.limits_for())
            assert not trace.proposals.alive.any()
            assert all(not value.any() for value in trace.raw.tensors().values())


@pytest.mark.parametrize("name", tiny_variants())
def test_every_stage_of_the_fast_form_gives_the_same(name: str) -> None:
    """Stage by stage, so that no rounding can swap two rows. Norms get statistics, so that folding them is seen."""
    model, generator = make(tiny_variants()[name]), torch.Generator().manual_seed(3)
    for key, buffer in model.state_dict().items():
        if key.endswith(("running_mean", "running_var")):
            buffer.copy_(0.8 + 0.4 * torch.rand(buffer.shape, generator=generator))
    fast = accelerated(model)
    assert isinstance(fast, RCNN)
    inputs, limits = Inputs(torch.randn(2, 3, *SIZE, generator=generator)), model.config.limits_for()
    inputs = proposed(model.config, inputs)

    def assert_near(a: Tensor, b: Tensor) -> None:
        assert a.shape == b.shape
        assert float((a - b).abs().max()) <= 1e-4 * float(a.abs().max())

    with torch.no_grad():
        trace = model.trace(inputs, limits)
        for a, b in zip(trace.features, fast.features(inputs.images), strict=True):
            assert_near(a, b)
        if model.rpn is not None:
            for ours, theirs in zip(model.rpn(trace.features), fast.rpn(trace.features), strict=True):
                for a, b in zip(ours, theirs, strict=True):
                    assert_near(a, b)
        for a, b in zip(
            (trace.scores, trace.deltas), fast.box_branch.scored(trace.features, trace.proposals), strict=True
        ):
            assert_near(a, b)
        if trace.masks is not None:
            assert trace.found.alive.any()
            assert fast.mask_branch is not None
            assert_near(trace.masks.probs, fast.mask_branch.detect(trace.features, trace.found).probs)


def test_the_trace_holds_what_the_stages_returned() -> None:
    """Each detection belongs to the proposal that it names."""
    model = make(tiny())
    with torch.no_grad():
        trace = model.trace(Inputs(torch.randn(2, 3, *SIZE)), model.config.limits_for())
    found: Detections = trace.found
    assert torch.equal(trace.raw.boxes, found.boxes)
    for i in range(2):
        for k in range(int(found.alive[i].sum())):
            row, label = int(found.origin[i, k]), int(found.labels[i, k])
            assert trace.proposals.alive[i, row]
            assert trace.scores[i, row, label] == found.scores[i, k]
    sums = trace.scores.sum(dim=2)
    torch.testing.assert_close(sums, trace.proposals.alive.float())


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
        [s] = sample(proposals_of([proposals]), [t], [torch.Generator().manual_seed(0)], model.config.roi, 3)
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
    [s] = sample(proposals_of([torch.zeros(0, 4)]), [target()], [None], tiny().roi, 3)
    assert sorted(s.objects.tolist()) == [0, 1, 2]
    assert torch.equal(s.boxes, s.truth)


@pytest.mark.parametrize("empty", [False, True])
def test_box_and_class_losses_equal_torchvisions(empty: bool) -> None:
    model, parts = make(tiny("torchvision_v1")), []
    for seed in (1, 2):
        t = target()
        rows = Target(t.boxes[:0], t.labels[:0], t.masks[:0]) if empty else t  # type: ignore[index]
        near = t.boxes + torch.randn(3, 4, generator=torch.Generator().manual_seed(seed))
        proposals, draw = proposals_of([torch.cat([near, random_boxes(30, seed)])]), torch.Generator().manual_seed(seed)
        parts += sample(proposals, [rows], [draw], model.config.roi, 3)
    features = model.features(torch.randn(2, 3, *SIZE))
    losses = {name: term.mean() for name, term in model.box_branch.terms(features, parts).items()}
    logits, deltas = model.box_branch.classify(features, *together([s.boxes for s in parts]))
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
    branch = model.mask_branch
    assert branch is not None
    assert model.mask_head is not None
    found = branch.terms(features, [sampled], [t])["mask"].mean()
    pooled = branch.reader(features, boxes, torch.zeros(4, dtype=torch.int64))
    every = model.mask_head.all_classes(pooled)
    assert isinstance(t.masks, Masks)
    dense = torch.from_numpy(t.masks.dense().astype(np.uint8))
    expected = maskrcnn_loss(every, [boxes], [dense], [t.labels], [objects])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_boxes_without_masks_cannot_teach_masks() -> None:
    t = replace(target(), masks=None)
    model = make(tiny())
    with pytest.raises(DataError, match="boxes but no masks"):
        model.loss(Inputs(torch.randn(1, 3, *SIZE)), [t])
    boxes_only = make(replace(tiny(), masks=False))
    assert "mask" not in boxes_only.loss(Inputs(torch.randn(1, 3, *SIZE)), [t])
    nothing = Target(t.boxes[:0], t.labels[:0])
    assert model.loss(Inputs(torch.randn(1, 3, *SIZE)), [nothing])["mask"].item() == 0


@pytest.mark.parametrize("name", [name for name, config in tiny_variants().items() if config.parts == (BoxMasks,)])
def test_polygons_and_bitmaps_teach_nearly_the_same(name: str) -> None:
    model, bitmaps = make(tiny_variants()[name]), target()
    bitmaps = replace(bitmaps, labels=bitmaps.labels % model.config.num_classes)
    assert isinstance(bitmaps.masks, Masks)
    parts = [[p.outer.reshape(-1) for p in parts] for parts in mask_ops.to_polygons(bitmaps.masks)]
    inputs = proposed(model.config, Inputs(torch.randn(1, 3, *SIZE)))
    a, b = (model.loss(inputs, [t], torch.Generator().manual_seed(1)) for t in (bitmaps, replace(bitmaps, masks=parts)))
    assert a.keys() - {"rpn_class", "rpn_box"} == {"class", "box", "mask"}
    assert all(torch.equal(a[k], b[k]) for k in a if k != "mask")
    assert b["mask"].item() == pytest.approx(a["mask"].item(), rel=0.2)


@pytest.mark.parametrize("style", ["detectron2", "torchvision_v1"])
def test_degenerate_truth_does_not_spoil_the_loss(style: str) -> None:
    """A box without area can come out of clipping or of a careless annotation."""
    masks = Masks(SIZE, np.zeros((2, 2), np.int64), (np.zeros((0, 0), np.bool_), np.ones((20, 20), np.bool_)))
    boxes, labels = torch.tensor([[30.0, 30, 30, 40], [0, 0, 20, 20]]), torch.tensor([0, 1])
    targets = [Target(boxes, labels, masks), Target(boxes[:1], labels[:1], masks[:1])]
    losses = make(tiny(style)).loss(Inputs(torch.randn(2, 3, *SIZE)), targets)
    assert all(bool(torch.isfinite(value)) for value in losses.values())


def test_another_generator_draws_other_samples() -> None:
    model, inputs = make(tiny()), Inputs(torch.randn(1, 3, *SIZE))
    a, b = (model.loss(inputs, [target()], torch.Generator().manual_seed(seed)) for seed in (1, 2))
    assert any(not torch.equal(a[k], b[k]) for k in a)


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
