"""What every model must do, held to every variant: a tiny one of each published style.

A new variant is one more line in `CONFIGS`.
"""

import copy
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from maskwright.data.synthetic import scene
from maskwright.fast.accelerate import accelerate
from maskwright.models import zoo
from maskwright.models.rcnn import RCNN, RCNNConfig, tiny
from maskwright.ops import boxes as box_ops
from maskwright.ops import masks as mask_ops
from maskwright.predictor.prepare import prepare
from maskwright.types import Classes, Masks, RawDetections, Target
from maskwright.weights.files import read, save_checkpoint
from maskwright.weights.load import load_into

pytestmark = pytest.mark.usefixtures("one_thread")

CONFIGS: dict[str, RCNNConfig] = {
    "detectron2": tiny("detectron2"),
    "detectron2_boxes": replace(tiny("detectron2"), masks=False),
    "torchvision_v1": tiny("torchvision_v1"),
    "torchvision_v1_boxes": replace(tiny("torchvision_v1"), masks=False),
    "torchvision_v2": tiny("torchvision_v2"),
    "c4": tiny("c4"),
    "c4_boxes": replace(tiny("c4"), masks=False),
    "compact": tiny("compact"),
    "timm": replace(tiny("detectron2"), backbone="test_byobnet", norm="live"),
    "one_class": tiny("compact", num_classes=1),
}
SIZE = (64, 96)
FROZEN = [name for name, c in CONFIGS.items() if c.norm == "frozen" and not c.neck_norm]


def make(name: str, seed: int = 0) -> RCNN:
    """Random weights; offsets are made larger than at the start of training, so that boxes move."""
    torch.manual_seed(seed)
    model = RCNN(CONFIGS[name]).eval()
    with torch.no_grad():
        model.box_predictor.deltas.weight.mul_(30)
        model.rpn.deltas.weight.mul_(10)
    return model


def source_images(count: int, seed: int = 0, size: tuple[int, int] = SIZE) -> Tensor:
    return torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(seed))


def target(objects: int, *, classes: int = 3, crowds: int = 0, size: tuple[int, int] = SIZE, seed: int = 1) -> Target:
    _, found = scene(seed, size, objects + crowds, classes)
    assert len(found) == objects + crowds
    crowd = torch.arange(len(found)) >= objects
    return Target(torch.from_numpy(found.boxes), torch.from_numpy(found.labels), found.crops, crowd)


def alive(raw: RawDetections) -> Tensor:
    return raw.scores > 0


def assert_fixed_shape(raw: RawDetections, batch: int, config: RCNNConfig, size: tuple[int, int] = SIZE) -> None:
    """(B, K, ...), best first, dead rows all zero, boxes inside the input."""
    k = raw.scores.shape[1]
    assert raw.scores.shape == (batch, k)
    assert k <= config.roi.keep
    assert raw.boxes.shape == (batch, k, 4)
    assert raw.labels.shape == (batch, k)
    assert raw.labels.dtype == torch.int64
    assert bool((raw.scores.diff(dim=1) <= 0).all())
    dead = ~alive(raw)
    for value in (raw.boxes, raw.labels, raw.part(BoxMasks).probs):
        assert value is None or not value[dead].any()
    live = alive(raw)
    assert bool((raw.labels[live] < config.num_classes).all())
    assert bool((raw.scores[live] > config.roi.score).all())
    limit = torch.tensor([size[1], size[0]] * 2)
    assert bool(((raw.boxes >= 0) & (raw.boxes <= limit)).all())
    if config.masks:
        assert raw.part(BoxMasks).probs is not None
        assert raw.part(BoxMasks).probs.shape == (batch, k, *raw.part(BoxMasks).probs.shape[2:])
        assert raw.part(BoxMasks).probs.shape[2] == raw.part(BoxMasks).probs.shape[3]
        assert bool(((raw.part(BoxMasks).probs >= 0) & (raw.part(BoxMasks).probs <= 1)).all())
    else:
        assert raw.part(BoxMasks).probs is None


# ---- detect ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("count", [1, 3])
def test_detect_gives_rows_of_fixed_shape(name: str, count: int) -> None:
    model = make(name)
    with torch.no_grad():
        raw = model.detect(Inputs(source_images(count)))
        same = model(source_images(count))
    assert_fixed_shape(raw, count, model.config)
    assert alive(raw).any()
    assert torch.equal(raw.boxes, same.boxes)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("size", [(32, 32), (32, 256), (96, 32)])
def test_detect_takes_any_size(name: str, size: tuple[int, int]) -> None:
    model = make(name)
    with torch.no_grad():
        assert_fixed_shape(model.detect(Inputs(source_images(1, size=size))), 1, model.config, size)
        small = size[0] - 9, size[1] - 20
        raw = model.detect(Inputs(source_images(1, size=size), [small]))
    assert_fixed_shape(raw, 1, model.config, small)


@pytest.mark.parametrize("name", CONFIGS)
def test_nothing_found_is_no_rows(name: str) -> None:
    model = make(name)
    with torch.no_grad():
        model.box_predictor.classes.bias[-1] = 100
        raw = model.detect(Inputs(source_images(2)))
    assert raw.scores.shape == (2, 0)
    assert_fixed_shape(raw, 2, model.config)


@pytest.mark.parametrize("name", CONFIGS)
def test_no_proposal_is_no_rows(name: str) -> None:
    """Also with the modules that predict."""
    model = make(name)
    with torch.no_grad():
        model.rpn.deltas.bias.fill_(-1e4)  # every box far outside the image, clipped to nothing
        for net in (model, accelerate(copy.deepcopy(model))):
            raw = net.detect(Inputs(source_images(2)))
            assert raw.scores.shape == (2, 0)
            assert_fixed_shape(raw, 2, model.config)


@pytest.mark.parametrize("name", CONFIGS)
def test_rows_that_are_not_finite_are_dropped(name: str) -> None:
    """Random networks and overflowing half precision give NaN; it must not come out as a detection."""
    model = make(name)
    with torch.no_grad():
        model.box_predictor.deltas.bias[1] = math.nan
        raw = model.detect(Inputs(source_images(2)))
    assert_fixed_shape(raw, 2, model.config)
    assert bool(torch.isfinite(raw.boxes).all())
    assert 0 not in raw.labels[alive(raw)]


@pytest.mark.parametrize("name", CONFIGS)
def test_a_batch_gives_what_its_images_give_alone(name: str) -> None:
    """Different images, different sizes inside the same padding."""
    model, images, sizes = make(name), source_images(2, 5), [(64, 96), (50, 70)]
    images[1, :, 50:] = 0
    images[1, :, :, 70:] = 0
    with torch.no_grad():
        both = model.detect(Inputs(images, sizes))
        for i in range(2):
            one = model.detect(Inputs(images[i : i + 1], sizes[i : i + 1]))
            count = int(alive(one).sum())
            assert count == int(alive(both)[i].sum()) > 0
            torch.testing.assert_close(both.boxes[i, :count], one.boxes[0, :count], rtol=0, atol=2e-3)
            torch.testing.assert_close(both.scores[i, :count], one.scores[0, :count], rtol=0, atol=1e-5)
            assert torch.equal(both.labels[i, :count], one.labels[0, :count])
            if one.part(BoxMasks).probs is not None and both.part(BoxMasks).probs is not None:
                torch.testing.assert_close(both.part(BoxMasks).probs[i, :count], one.part(BoxMasks).probs[0, :count], rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_fast_form_equals_the_plain_one(name: str) -> None:
    """Stage by stage, so that no rounding can swap two rows. Norms get statistics, so that folding them is seen."""
    model = make(name)
    generator = torch.Generator().manual_seed(3)
    for key, buffer in model.state_dict().items():
        if key.endswith(("running_mean", "running_var")):
            buffer.copy_(0.8 + 0.4 * torch.rand(buffer.shape, generator=generator))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    fast = accelerate(copy.deepcopy(model).to(memory_format=torch.channels_last))
    images = source_images(2, 7).to(memory_format=torch.channels_last)

    def assert_near(a: Tensor, b: Tensor) -> None:
        assert a.shape == b.shape
        assert float((a - b).abs().max()) <= 1e-4 * float(a.abs().max())

    with torch.no_grad():
        features = model.features(images)
        for a, b in zip(features, fast.features(images), strict=True):
            assert_near(a, b)
        for ours, theirs in zip(model.rpn(features), fast.rpn(features), strict=True):
            for a, b in zip(ours, theirs, strict=True):
                assert_near(a, b)
        boxes = [found for found, _ in model.propose(features, images, [SIZE, SIZE])]
        logits, deltas = model.classify(features, boxes)
        for a, b in zip((logits, deltas), fast.classify(features, boxes), strict=True):
            assert_near(a, b)
        rows = model.select(logits, deltas, boxes, [SIZE, SIZE])
        if model.config.masks:
            assert_near(model.segment(features, rows), fast.segment(features, rows))
        assert_fixed_shape(fast.detect(Inputs(images)), 2, model.config)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


# ---- loss -----------------------------------------------------------------------------------------------------------

TARGETS = {
    "none": [target(0), target(0)],
    "one": [target(1), target(1, seed=2)],
    "many": [target(6), target(3, seed=5)],
    "crowd_only": [target(0, crowds=1), target(0, crowds=1)],
    "mixed": [target(0), target(3, crowds=1, seed=4)],
}


def loss_of(model: RCNN, targets: list[Target], classes: int = 3) -> dict[str, Tensor]:
    kept = [replace(t, labels=t.labels % classes) for t in targets]
    sizes = [SIZE, (60, 90)]
    return model.loss(source_images(2), sizes, kept, torch.Generator().manual_seed(11))


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("kind", TARGETS)
def test_loss_is_finite_and_reaches_every_parameter(name: str, kind: str) -> None:
    model = make(name)
    losses = loss_of(model, TARGETS[kind], model.config.num_classes)
    wanted = {"rpn_class", "rpn_box", "class", "box"} | ({"mask"} if model.config.masks else set())
    assert set(losses) == wanted
    for value in losses.values():
        assert value.shape == ()
        assert math.isfinite(value.item())
        assert value.item() >= 0
    torch.stack(list(losses.values())).sum().backward()
    without = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []
    assert all(bool(torch.isfinite(p.grad).all()) for p in model.parameters() if p.grad is not None)
    if kind == "many" and name != "timm":  # timm starts the last norm of each block at zero
        still = [n for n, p in model.named_parameters() if p.grad is not None and not p.grad.any()]
        assert still == []


@pytest.mark.parametrize("name", FROZEN)
def test_loss_is_the_same_in_train_and_eval_mode(name: str) -> None:
    model = make(name)
    first, second = loss_of(model.train(), TARGETS["many"]), loss_of(model.eval(), TARGETS["many"])
    assert all(torch.equal(first[k], second[k]) for k in first)


@pytest.mark.parametrize("name", CONFIGS)
def test_loss_works_in_train_mode_and_follows_its_generator(name: str) -> None:
    """Live norms use the batch's statistics there."""
    model, classes = make(name).train(), CONFIGS[name].num_classes
    first, second = (loss_of(model, TARGETS["many"], classes) for _ in range(2))
    assert all(math.isfinite(v.item()) for v in first.values())
    assert all(torch.equal(first[k], second[k]) for k in first)
    kept = [replace(t, labels=t.labels % classes) for t in TARGETS["many"]]
    other = model.loss(source_images(2), [SIZE, (60, 90)], kept, torch.Generator().manual_seed(12))
    assert any(not torch.equal(first[k], other[k]) for k in first)


@pytest.mark.parametrize("name", [n for n, c in CONFIGS.items() if c.masks])
def test_polygons_and_bitmaps_teach_nearly_the_same(name: str) -> None:
    model, bitmaps = make(name), TARGETS["many"]
    polygons = []
    for t in bitmaps:
        assert isinstance(t.masks, Masks)
        parts = [[p.outer.reshape(-1) for p in parts] for parts in mask_ops.to_polygons(t.masks)]
        polygons.append(replace(t, masks=parts))
    classes = model.config.num_classes
    a, b = loss_of(model, bitmaps, classes), loss_of(model, polygons, classes)
    assert all(torch.equal(a[k], b[k]) for k in a if k != "mask")
    assert b["mask"].item() == pytest.approx(a["mask"].item(), rel=0.2)


def test_degenerate_truth_does_not_spoil_the_loss() -> None:
    """A box without area can come out of clipping or of a careless annotation."""
    masks = Masks(SIZE, np.zeros((2, 2), np.int64), (np.zeros((0, 0), np.bool_), np.ones((20, 20), np.bool_)))
    boxes = torch.tensor([[30.0, 30, 30, 40], [0, 0, 20, 20]])
    labels = torch.tensor([0, 1])
    for name in ("detectron2", "torchvision_v1"):
        losses = loss_of(make(name), [Target(boxes, labels, masks), Target(boxes[:1], labels[:1], masks[:1])])
        assert all(math.isfinite(v.item()) for v in losses.values())


# ---- as a checkpoint ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CONFIGS)
def test_a_checkpoint_rebuilds_the_same_bits(name: str, tmp_path: Path) -> None:
    model = make(name)
    classes = Classes([f"kind {i}" for i in range(model.config.num_classes)])
    path = save_checkpoint(tmp_path / "m.safetensors", model.state_dict(), zoo.describe(model.config, classes, name))
    file = read(path)
    assert file.header is not None
    torch.manual_seed(99)
    again, known = zoo.rebuild(file.header)
    load_into(again, file.tensors, str(path))
    assert isinstance(again, RCNN)
    assert (again.config, known) == (model.config, classes)
    with torch.no_grad():
        a, b = model.detect(Inputs(source_images(2))), again.eval().detect(Inputs(source_images(2)))
    assert torch.equal(a.boxes, b.boxes)
    assert torch.equal(a.scores, b.scores)
    assert (a.part(BoxMasks).probs is None and b.part(BoxMasks).probs is None) or torch.equal(a.part(BoxMasks).probs, b.part(BoxMasks).probs)  # type: ignore[arg-type]


# ---- learning -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["detectron2", "compact"])
def test_it_learns_four_scenes(name: str) -> None:
    """In 100 steps the loss falls to a third and most of the 12 objects are found, with live norms.

    Not a measure of quality: what is broken in matching, coding or targets cannot be learnt.
    """
    torch.manual_seed(0)
    config = replace(CONFIGS[name], norm="live", neck_norm=True)
    model = RCNN(config).train()
    images, targets = [], []
    for seed in range(4):
        image, found = scene(seed, (64, 64), 3, 3)
        images.append(prepare(image, config.spec)[0])
        targets.append(Target(torch.from_numpy(found.boxes), torch.from_numpy(found.labels), found.crops))
    batch, sizes = torch.stack(images), [(64, 64)] * 4
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    generator, history = torch.Generator().manual_seed(0), []
    for _ in range(100):
        total = torch.stack(list(model.loss(batch, sizes, targets, generator).values())).sum()
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        history.append(total.item())
    assert sum(history[-5:]) / 5 < history[0] / 3
    with torch.no_grad():
        raw = model.eval().detect(Inputs(batch))
    hits = 0
    for i, t in enumerate(targets):
        right = (
            (box_ops.iou(t.boxes, raw.boxes[i]) > 0.5) & (t.labels[:, None] == raw.labels[i]) & (raw.scores[i] > 0.5)
        )
        hits += int(right.any(dim=1).sum())
    assert hits >= 8
    assert int((raw.scores > 0.5).sum()) <= 16
