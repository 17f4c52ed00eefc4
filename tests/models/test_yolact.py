"""What only YOLACT does: inputs of any side, suppression, ratings, masks that are drawn, how well it learns, norms."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.reference.learning import learn
from torch import Tensor

from maskwright.data.synthetic import scene
from maskwright.models.yolact import Yolact, YolactConfig, timm_yolact, tiny, tiny_variants
from maskwright.ops import boxes as box_ops
from maskwright.ops import prototypes as prototype_ops
from maskwright.ops.warp import pad_batch
from maskwright.predictor.prepare import prepare
from maskwright.types import Inputs, Limits, Masks, PrototypeMasks, RawDetections, Size, Target

pytestmark = pytest.mark.usefixtures("one_thread")

CONFIGS = tiny_variants()
SIZE = (64, 96)


def make(config: YolactConfig) -> Yolact:
    """Random weights; logits and offsets are made larger than at the start of training, so that something is found."""
    torch.manual_seed(0)
    model = Yolact(config).eval()
    with torch.no_grad():
        model.head.logits.get_parameter("weight").mul_(4)
        model.head.deltas.get_parameter("weight").mul_(2)
    return model


def source_images(count: int, seed: int = 0, size: Size = SIZE) -> Tensor:
    return torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(seed))


def targets(classes: int) -> list[Target]:
    """Of two images."""
    out = []
    for seed, objects in ((1, 6), (5, 3)):
        _, found = scene(seed, SIZE, objects, 3)
        labels = torch.from_numpy(found.labels) % classes
        out.append(Target(torch.from_numpy(found.boxes), labels, found.crops))
    return out


# ---- detect ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backbone", ["hrnet_w18_small", "swin_tiny_patch4_window7_224"])
def test_backbones_that_halve_their_input_often_take_any_image(backbone: str) -> None:
    """Inputs of sides that cannot be halved so often are filled up."""
    model = Yolact(timm_yolact(backbone, 2)).eval()
    image, own = np.zeros((90, 70, 3), np.uint8), model.config.spec
    for spec in (replace(own, size=126), replace(own, size=126, fit="letterbox")):
        tensor, _ = prepare(image, spec)
        images = pad_batch([tensor], spec.multiple, spec.square)
        with torch.inference_mode():
            model.detect(Inputs(images, [(tensor.shape[1], tensor.shape[2])]))


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("size", [SIZE, (70, 45)])
def test_masks_come_as_coefficients_of_prototypes(name: str, size: Size) -> None:
    """Ratings where the network has them."""
    model = make(CONFIGS[name])
    with torch.no_grad():
        raw = model.detect(Inputs(source_images(2, size=size)))
    masks = raw.part(PrototypeMasks)
    assert masks is not None
    assert masks.prototypes.shape[3] == masks.coefficients.shape[2] == model.config.prototypes
    assert masks.span == size
    assert (masks.ratings is not None) == model.config.mask_scoring
    assert masks.ratings is None or bool((masks.ratings >= 0).all())
    assert bool(masks.coefficients[raw.scores > 0].any(dim=1).all())


def test_each_detection_belongs_to_the_prior_that_it_names() -> None:
    model = make(CONFIGS["plus"])
    with torch.no_grad():
        trace = model.trace(Inputs(source_images(1)), model.config.limits_for())
    scores, found = trace.outputs.logits[0].softmax(dim=1), trace.found
    alive = found.scores[0] > 0
    prior = found.origin[0, alive]
    torch.testing.assert_close(scores[prior, found.labels[0, alive]], found.scores[0, alive])
    image = torch.zeros_like(prior)
    assert torch.equal(trace.outputs.coefficients[image, prior], trace.coefficients[0, alive])
    assert len(trace.priors) == trace.outputs.logits.shape[1]


def test_kinds_of_suppression_differ() -> None:
    model, inputs = make(CONFIGS["yolact"]), Inputs(source_images(2))
    config = model.config
    assert config.limits_for() == Limits(0.05, 20, "fast") == config.limits_for("fast")
    assert config.limits_for("fast_cross").keep == config.nms.before
    with torch.no_grad():
        found = {kind: model.detect(inputs, Limits(0.05, 1000, kind)) for kind in config.nms_kinds}
    counts = {kind: int((raw.scores > 0).sum()) for kind, raw in found.items()}
    assert counts["fast_cross"] < counts["fast"]
    assert config.lowest_score(config.limits_for("exact")) == 0.05
    assert bool((found["exact"].scores[found["exact"].scores > 0] > 0.05).all())
    assert config.lowest_score(config.limits_for("fast")) == 0


# ---- loss -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CONFIGS)
def test_the_generator_draws_masks_alone(name: str) -> None:
    config = CONFIGS[name]
    model = make(replace(config, loss=replace(config.loss, masks=4)))
    batch = Inputs(source_images(2)), targets(config.num_classes)
    first, other = (model.loss(*batch, torch.Generator().manual_seed(seed)) for seed in (11, 12))
    assert first.keys() == {"class", "box", "mask", "semantic"} | ({"mask_iou"} if config.mask_scoring else set())
    assert {k for k in first if not torch.equal(first[k], other[k])} <= {"mask", "mask_iou"}
    assert not torch.equal(first["mask"], other["mask"])


@pytest.mark.parametrize("name", CONFIGS)
def test_half_precision(name: str) -> None:
    """Under autocast losses are float32, finite, and near those of full precision."""
    model, draw = make(CONFIGS[name]), torch.Generator()
    batch = Inputs(source_images(2)), targets(model.config.num_classes)
    full = model.loss(*batch, draw.manual_seed(1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = model.loss(*batch, draw.manual_seed(1))
    for key, value in half.items():
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(full[key].item(), rel=0.1, abs=0.05)
    torch.stack(list(half.values())).sum().backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in model.parameters() if p.grad is not None)


# ---- learning -------------------------------------------------------------------------------------------------------

STEPS = 110


def lesson(config: YolactConfig, count: int) -> tuple[Tensor, list[Target]]:
    images, targets = [], []
    for seed in range(count):
        image, found = scene(seed, (64, 64), 3, 3)
        images.append(prepare(image, config.spec)[0])
        labels = torch.from_numpy(found.labels) % config.num_classes
        targets.append(Target(torch.from_numpy(found.boxes), labels, found.crops))
    return torch.stack(images), targets


def enlarged(masks: Tensor, size: Size) -> Tensor:
    """(N, h, w) probabilities to (N, H, W) bool."""
    return torch.nn.functional.interpolate(masks[None], size, mode="bilinear", align_corners=False)[0] > 0.5


def overlaps(a: Tensor, b: Tensor) -> Tensor:
    """(N, H, W), (M, H, W) to (N, M): IoU of masks."""
    a, b = a[:, None], b[None]
    return (a & b).sum(dim=(2, 3)) / (a | b).sum(dim=(2, 3)).clamp(min=1)


def found_of(raw: RawDetections, image: int, one: Target, size: Size) -> Tensor:
    """(3, N): of each object the IoU of box and of mask of the sure row of its class whose box fits best, and the IoU
    that a perfect mask on the prototypes' map would have."""
    part = raw.part(PrototypeMasks)
    assert part is not None
    assert isinstance(one.masks, Masks)
    sure, shape = raw.scores[image] > 0.5, part.prototypes.shape[1:3]
    boxes, labels = raw.boxes[image, sure], raw.labels[image, sure]
    true = torch.from_numpy(one.masks.dense())
    small = torch.nn.functional.interpolate(true[None].float(), shape, mode="bilinear", align_corners=False)[0] > 0.5
    ceiling = overlaps(enlarged(small.float(), size), true).diagonal()
    if not len(boxes):
        return torch.stack([torch.zeros(len(one)), torch.zeros(len(one)), ceiling])
    soft = prototype_ops.soft_masks(part.prototypes[image], part.coefficients[image, sure], boxes, size)
    iou = torch.where(one.labels[:, None] == labels, box_ops.iou(one.boxes, boxes), 0.0)
    value, row = iou.max(dim=1)
    return torch.stack([value, overlaps(true, enlarged(soft, size))[torch.arange(len(one)), row], ceiling])


@pytest.mark.parametrize("name", ["yolact", "plus", "compact"])
def test_it_learns_three_scenes(name: str) -> None:
    """After 110 steps every object is found, sure, its box fits, its mask fits nearly as well as the map's cells allow.

    Not a measure of quality: what is broken in matching, coding or targets cannot be learnt. The
    smallest of the nine masks, a few of the map's cells, may be missed: on some processors it is.
    """
    torch.manual_seed(0)
    config = replace(CONFIGS[name], norm="live", neck_norm=True, channels=24, proto_channels=24)
    model = Yolact(config).train()
    images, targets = lesson(config, 3)
    history = learn(model, Inputs(images), targets, STEPS)
    with torch.no_grad():
        raw = model.eval().detect(Inputs(images))
    rows = [found_of(raw, i, one, (64, 64)) for i, one in enumerate(targets)]
    boxes, masks, ceiling = torch.cat(rows, dim=1)
    assert sum(history[-1].values()) < sum(history[0].values()) / 10
    assert boxes.min() > 0.6
    assert boxes.mean() > 0.8
    assert masks.mean() > 0.9 * ceiling.mean()
    assert int((raw.scores > 0.5).sum()) <= boxes.numel() + 2


def test_a_head_answers_after_training_as_it_did_while_training() -> None:
    """Levels whose features are not alike: the norms must keep what they saw of each."""
    torch.manual_seed(0)
    model = Yolact(tiny("compact")).train()
    features = [torch.randn(2, 16, 16 >> i, 16 >> i) * 3**i + i for i in range(4)]
    with torch.no_grad():
        for _ in range(200):
            while_training = model.head(features)
        afterwards = model.eval().head(features)
    torch.testing.assert_close(afterwards.deltas, while_training.deltas, rtol=0.05, atol=0.05)
    torch.testing.assert_close(afterwards.logits, while_training.logits, rtol=0.05, atol=0.05)
