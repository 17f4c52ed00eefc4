"""What only YOLACT does: inputs of any side, kinds of suppression, ratings, masks that are drawn, norms by level."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from maskwright.data.synthetic import scene
from maskwright.models.yolact import Yolact, YolactConfig, timm_yolact, tiny, tiny_variants
from maskwright.ops.warp import pad_batch
from maskwright.predictor.prepare import prepare
from maskwright.types import Inputs, Limits, PrototypeMasks, Size, Target

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
    prior = found.prior[0, alive]
    torch.testing.assert_close(scores[prior, found.labels[0, alive]], found.scores[0, alive])
    image = torch.zeros_like(prior)
    assert torch.equal(trace.outputs.coefficients[image, prior], found.coefficients[0, alive])
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
