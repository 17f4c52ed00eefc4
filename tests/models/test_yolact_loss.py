"""YOLACT's terms against a slow twin over whole maps, from hand-made answers of the network."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.reference import yolact_loss as twin
from torch import Tensor

from maskwright.data.synthetic import scene
from maskwright.errors import ConfigError, DataError
from maskwright.models.yolact import LossConfig
from maskwright.models.yolact import loss as yolact_loss
from maskwright.models.yolact.loss import Outputs, Truth
from maskwright.models.yolact.parts import MaskScorer, Raw
from maskwright.ops import masks as mask_ops
from maskwright.ops.anchors import cell_anchors, level_priors
from maskwright.ops.losses import Term
from maskwright.types import Masks, Size, Target

pytestmark = pytest.mark.usefixtures("one_thread")

ALL = LossConfig(masks=10**6)
"""Every foreground prior's mask takes part: nothing is random."""


def answers(batch: int, *, seed: int = 0, size: Size = (48, 64), classes: int = 3, depth: int = 4) -> Outputs:
    """What a network might say, with priors of two levels and a map of half the input's resolution.

    Priors lie at quarters of a pixel, so that overlaps that are equal are so in any precision.
    """
    g = torch.Generator().manual_seed(seed)
    shapes = [(size[0] // 8, size[1] // 8), (size[0] // 16, size[1] // 16)]
    cells = [cell_anchors([side], [1, 2, 0.5]) for side in (14.0, 30.0)]
    priors = torch.cat([level_priors(c, s, size) for c, s in zip(cells, shapes, strict=True)]).mul(4).round() / 4
    leaf = {
        "deltas": torch.randn(batch, len(priors), 4, generator=g),
        "logits": torch.randn(batch, len(priors), classes + 1, generator=g) * 2,
        "coefficients": torch.randn(batch, len(priors), depth, generator=g).tanh(),
        "prototypes": torch.randn(batch, size[0] // 2, size[1] // 2, depth, generator=g).relu(),
        "semantic": torch.randn(batch, classes, size[0] // 8, size[1] // 8, generator=g),
    }
    leaf = {name: value.requires_grad_() for name, value in leaf.items()}
    raw = Raw(leaf["deltas"], leaf["logits"], leaf["coefficients"])
    return Outputs(raw, leaf["prototypes"], leaf["semantic"], priors, size)


def leaves(outputs: Outputs) -> dict[str, Tensor]:
    raw = outputs.raw
    return {
        "deltas": raw.deltas,
        "logits": raw.logits,
        "coefficients": raw.coefficients,
        "prototypes": outputs.prototypes,
        "semantic": outputs.semantic,
    }


def target(
    objects: int, *, seed: int = 1, crowds: int = 0, classes: int = 3, size: Size = (48, 64), masks: bool = True
) -> Target:
    _, found = scene(seed, size, objects + crowds, classes)
    crowd = torch.arange(len(found)) >= objects
    crops = found.crops if masks else None
    return Target(torch.from_numpy(found.boxes), torch.from_numpy(found.labels), crops, crowd)


def scorer(classes: int = 3) -> MaskScorer:
    torch.manual_seed(5)
    return MaskScorer(classes)


def losses(
    outputs: Outputs, targets: list[Target], config: LossConfig = ALL, net: MaskScorer | None = None
) -> dict[str, Term]:
    return yolact_loss.terms(outputs, targets, config, [None] * len(targets), net)


def assert_equal(found: dict[str, Term], expected: dict[str, tuple[Tensor, int]]) -> None:
    assert found.keys() == expected.keys()
    for name, (value, count) in expected.items():
        assert found[name].count == count, name
        assert found[name].total.item() == pytest.approx(value.item(), rel=2e-5, abs=1e-5), name


def total(terms: dict[str, Term]) -> Tensor:
    return torch.stack([term.mean() for term in terms.values()]).sum()


def assert_sound(outputs: Outputs, terms: dict[str, Term]) -> None:
    """Finite losses, and a finite gradient for everything the network says."""
    for name, term in terms.items():
        assert math.isfinite(term.total.item()), name
        assert term.total.item() >= 0, name
        assert term.total.dtype == torch.float32
    total(terms).backward()
    for name, leaf in leaves(outputs).items():
        assert leaf.grad is not None, name
        assert bool(torch.isfinite(leaf.grad).all()), name


# ---- against the twin -----------------------------------------------------------------------------------------------

TARGETS = {
    "none": lambda: [target(0), target(0)],
    "one": lambda: [target(1), target(1, seed=2)],
    "many": lambda: [target(6), target(4, seed=5)],
    "crowds": lambda: [target(0, crowds=2), target(3, crowds=2, seed=4)],
    "half": lambda: [target(0), target(3, seed=4)],
}


@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize("rated", [False, True])
def test_terms_and_gradients_equal_the_twin(kind: str, rated: bool) -> None:
    net = scorer() if rated else None
    targets = TARGETS[kind]()
    ours, theirs = answers(2), answers(2)
    found, expected = losses(ours, targets, net=net), twin.terms(theirs, targets, ALL, net)
    assert_equal(found, expected)
    assert_sound(ours, found)
    weights = {}
    if net is not None:
        weights = {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}
        net.zero_grad()
    torch.stack([value / max(count, 1) for value, count in expected.values()]).sum().backward()
    for name, leaf in leaves(theirs).items():
        wanted = leaf.grad if leaf.grad is not None else torch.zeros_like(leaf)
        torch.testing.assert_close(leaves(ours)[name].grad, wanted, rtol=1e-4, atol=1e-6, msg=name)
    for name, p in net.named_parameters() if net is not None else ():
        wanted = p.grad if p.grad is not None else torch.zeros_like(p)
        torch.testing.assert_close(weights[name], wanted, rtol=1e-3, atol=1e-5, msg=name)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 9), st.sampled_from([(48, 64), (40, 56), (33, 61)]), st.integers(1, 4))
def test_any_image_equals_the_twin(seed: int, objects: int, size: Size, classes: int) -> None:
    """Padded too: the image may be smaller than the input."""
    whole = (-(-size[0] // 16) * 16, -(-size[1] // 16) * 16)
    targets = [target(objects, seed=seed, classes=classes, size=size, crowds=seed % 2)]
    outputs = answers(1, seed=seed, size=whole, classes=classes)
    assert_equal(losses(outputs, targets), twin.terms(outputs, targets, ALL))


def test_a_mask_that_leaves_its_box_costs_as_published() -> None:
    """Boxes of annotations need not fit their masks; a true cell outside the window costs 100."""
    one = target(3)
    shrunk = replace(one, boxes=torch.cat([one.boxes[:, :2] + 6, one.boxes[:, 2:] - 3], 1))
    far = replace(one, boxes=torch.tensor([[2.0, 2, 20, 20]] * 3))
    for kept in (shrunk, far):
        outputs = answers(1)
        found = losses(outputs, [kept])
        assert_equal(found, twin.terms(outputs, [kept], ALL))
        assert found["mask"].total.item() > 100
        assert_sound(outputs, found)


def test_weights_and_limits_of_the_config() -> None:
    config = LossConfig(0.6, 0.3, 0.5, 1, 10**6, 60, 2.0, 3.0, 4.0, 5.0, 6.0)
    outputs, targets, net = answers(2), [target(5, crowds=1), target(3, seed=3)], scorer()
    assert_equal(losses(outputs, targets, config, net), twin.terms(outputs, targets, config, net))


# ---- what is drawn --------------------------------------------------------------------------------------------------


def draws(seeds: list[int]) -> list[torch.Generator | None]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def test_masks_are_drawn_and_scaled_up() -> None:
    """The mean over many draws is the whole, and each draw follows the image's own generator."""
    outputs, targets, few = answers(2), [target(6), target(4, seed=5)], LossConfig(masks=5)
    whole = losses(outputs, targets)["mask"].total.item()

    def draw(seeds: list[int]) -> float:
        with torch.no_grad():
            found = yolact_loss.terms(outputs, targets, few, draws(seeds))
        return found["mask"].total.item()

    assert draw([1, 2]) == draw([1, 2])
    assert draw([1, 2]) != draw([3, 2])
    alone = [
        yolact_loss.terms(_image(outputs, b), targets[b : b + 1], few, draws([seed]))["mask"].total.item()
        for b, seed in enumerate((1, 2))
    ]
    assert sum(alone) == pytest.approx(draw([1, 2]), rel=1e-5)
    values = [draw([seed, seed + 1000]) for seed in range(60)]
    assert np.mean(values) == pytest.approx(whole, rel=4 * np.std(values) / whole / math.sqrt(60))
    torch.manual_seed(3)
    first = losses(outputs, targets, few)["mask"].total.item()
    torch.manual_seed(3)
    assert losses(outputs, targets, few)["mask"].total.item() == first


def _image(outputs: Outputs, b: int) -> Outputs:
    raw = outputs.raw
    one = Raw(raw.deltas[b : b + 1], raw.logits[b : b + 1], raw.coefficients[b : b + 1])
    return replace(outputs, raw=one, prototypes=outputs.prototypes[b : b + 1], semantic=outputs.semantic[b : b + 1])


def test_totals_and_counts_of_images_add_up() -> None:
    """So that several processes make one batch."""
    outputs, net = answers(3), scorer()
    targets = [target(5), target(0), target(3, crowds=1, seed=4)]
    both = losses(outputs, targets, net=net)
    alone = [losses(_image(outputs, b), targets[b : b + 1], net=net) for b in range(3)]
    for name, term in both.items():
        assert term.count == sum(one[name].count for one in alone)
        assert term.total.item() == pytest.approx(sum(one[name].total.item() for one in alone), rel=1e-5)


def test_the_hardest_background_is_taken() -> None:
    outputs, one = answers(1), target(1)
    with torch.no_grad():
        outputs.raw.logits[:] = torch.tensor([0.0, 0, 0, 20])
        matches = yolact_loss.match(Truth.of([one], outputs), outputs.priors, ALL)[0]
        background = torch.nonzero(matches == -1).flatten()
        neutral = torch.nonzero(matches == -2).flatten()
        positive = int((matches >= 0).sum())
        outputs.raw.logits[0, background[7], 1] = 30
        outputs.raw.logits[0, neutral, 1] = 90
    losses(outputs, [one])["class"].total.backward()
    grad = outputs.raw.logits.grad
    assert grad is not None
    assert bool(grad[0, background[7]].any())
    assert not grad[0, neutral].any()
    assert int(grad[0].any(dim=1).sum()) <= 4 * positive


# ---- hard cases -----------------------------------------------------------------------------------------------------


def test_a_batch_without_images() -> None:
    outputs, net = answers(0), scorer()
    found = losses(outputs, [], net=net)
    assert set(found) == {"class", "box", "mask", "semantic", "mask_iou"}
    assert all(term.total.item() == 0 and term.count == 0 for term in found.values())
    assert_sound(outputs, found)
    assert all(p.grad is not None for p in net.parameters())


@pytest.mark.parametrize("kind", ["none", "one"])
def test_every_answer_is_connected(kind: str) -> None:
    """Also where there is nothing to learn: other processes may wait for the gradient."""
    outputs, net = answers(2), scorer()
    found = losses(outputs, TARGETS[kind](), net=net)
    assert_sound(outputs, found)
    assert all(p.grad is not None and bool(torch.isfinite(p.grad).all()) for p in net.parameters())


def odd(boxes: list[list[float]], crops: list[tuple[int, int]]) -> Target:
    masks = Masks((48, 64), np.array([[4, 4]] * len(boxes)), tuple(np.ones(shape, np.bool_) for shape in crops))
    return Target(torch.tensor(boxes), torch.zeros(len(boxes), dtype=torch.int64), masks)


@pytest.mark.parametrize(
    "one",
    [
        odd([[30.0, 30, 30, 40]], [(0, 0)]),
        odd([[30.0, 30, 30, 30]], [(3, 3)]),
        odd([[30.0, 30, 30.004, 40], [4, 4, 24, 24]], [(1, 1), (20, 20)]),
        odd([[4.0, 4, 4.02, 24]], [(20, 1)]),
        odd([[4.0, 4, 4.5, 4.5]] * 3, [(1, 1)] * 3),
        odd([[0.0, 0, 64, 48]], [(44, 60)]),
        odd([[63.5, 47.5, 64, 48]], [(1, 1)]),
        odd([[4.0, 4, 5, 5]] * 300, [(1, 1)] * 300),
        odd([[60.0, 40, 20, 10]], [(5, 5)]),
        odd([[10.0, 10, 30, 30]], [(0, 0)]),
    ],
    ids=["line", "point", "hair", "thin", "subcell", "whole", "corner", "more_than_priors", "reversed", "no_pixels"],
)
@pytest.mark.parametrize("classes", [1, 3])
def test_odd_objects_do_not_spoil_the_loss(one: Target, classes: int) -> None:
    outputs, net = answers(2, classes=classes), scorer(classes)
    found = losses(outputs, [one, target(2, classes=classes)], LossConfig(), net)
    assert_sound(outputs, found)
    assert all(term.mean().item() < 500 for term in found.values())


@pytest.mark.parametrize("scale", [30.0, 1e4, 1e30])
def test_huge_answers_do_not_spoil_the_loss(scale: float) -> None:
    outputs, net = answers(1), scorer()
    with torch.no_grad():
        outputs.raw.logits.mul_(scale)
        outputs.semantic.mul_(scale)
        outputs.raw.deltas.mul_(min(scale, 1e4))
        outputs.prototypes.mul_(min(scale, 1e4))
    assert_sound(outputs, losses(outputs, [target(4)], net=net))


def test_a_sure_and_wrong_mask_still_learns() -> None:
    """Through probabilities the gradient of a saturated answer would be 0."""
    outputs = answers(1)
    with torch.no_grad():
        outputs.prototypes.fill_(1.0)
        outputs.raw.coefficients.fill_(-1.0).mul_(40)
    losses(outputs, [target(2)])["mask"].total.backward()
    assert outputs.raw.coefficients.grad is not None
    assert bool(outputs.raw.coefficients.grad.any())


def test_500_objects() -> None:
    size = (256, 256)
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(500, 2, generator=generator) * 245
    boxes = torch.cat([corner, corner + 2 + torch.rand(500, 2, generator=generator) * 8], 1).round()
    crops = tuple(np.ones((int(b[3] - b[1]), int(b[2] - b[0])), np.bool_) for b in boxes)
    masks = Masks(size, boxes[:, [1, 0]].numpy().astype(np.int64), crops)
    one = Target(boxes, torch.zeros(500, dtype=torch.int64), masks)
    outputs = answers(1, size=size, classes=1)
    found = losses(outputs, [one], LossConfig())
    assert found["mask"].count >= 500
    assert_sound(outputs, found)


def test_half_precision_is_computed_in_full() -> None:
    """Under autocast, from 16-bit answers: as from the same answers in 32 bits, but for the scorer's convolutions."""
    outputs, targets, net = answers(2), TARGETS["many"](), scorer()
    raw = outputs.raw
    half = Outputs(
        Raw(raw.deltas.bfloat16(), raw.logits.bfloat16(), raw.coefficients.bfloat16()),
        outputs.prototypes.bfloat16(),
        outputs.semantic.bfloat16(),
        outputs.priors,
        outputs.size,
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = losses(half, targets, net=net)
    assert_sound(outputs, found)
    full = Outputs(
        Raw(half.raw.deltas.float(), half.raw.logits.float(), half.raw.coefficients.float()),
        half.prototypes.float(),
        half.semantic.float(),
        outputs.priors,
        outputs.size,
    )
    expected = losses(full, targets, net=net)
    for name, term in expected.items():
        limit = 1e-6 if name != "mask_iou" else 2e-2
        assert found[name].total.item() == pytest.approx(term.total.item(), rel=limit), name


def test_polygons_and_bitmaps_teach_nearly_the_same() -> None:
    bitmaps = target(5)
    assert isinstance(bitmaps.masks, Masks)
    parts = [[p.outer.reshape(-1) for p in parts] for parts in mask_ops.to_polygons(bitmaps.masks)]
    outputs = answers(1)
    a, b = losses(outputs, [bitmaps]), losses(outputs, [replace(bitmaps, masks=parts)])
    for name in a:
        limit = 0.2 if name in ("mask", "semantic") else 1e-6
        assert b[name].total.item() == pytest.approx(a[name].total.item(), rel=limit)


def test_boxes_without_masks_cannot_teach() -> None:
    outputs = answers(1)
    with pytest.raises(DataError, match="boxes but no masks"):
        losses(outputs, [target(2, masks=False)])
    crowd = losses(outputs, [target(0, crowds=1, masks=False)])
    assert crowd["mask"].count == 0
    nothing = losses(outputs, [target(0, masks=False)])
    assert nothing["mask"].total.item() == 0


@pytest.mark.parametrize(
    "wrong",
    [{"negative": 0.0}, {"negative": 0.6}, {"positive": 1.5}, {"crowd": 0.0}, {"negatives": 0}, {"masks": 0}],
)
def test_a_config_that_cannot_work_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        LossConfig(**wrong)  # type: ignore[arg-type]
