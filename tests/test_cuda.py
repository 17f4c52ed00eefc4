"""What a CUDA device answers, held to what the processor answers. Skips where there is none."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.models.test_contract import VARIANTS, inputs_of, lively, source_images, target
from torch import Tensor

import maskwright
from maskwright.data.synthetic import coco_fixture, scene
from maskwright.models.base import AnyModel
from maskwright.models.family import accelerated
from maskwright.ops.roi_align import roi_align
from maskwright.predictor.predictor import Predictor
from maskwright.types import BoxMasks, Classes, RawDetections, Target
from maskwright.weights.files import read

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.fixture(autouse=True)
def _exact() -> Iterator[None]:
    """Convolutions in float32 proper; by default CUDA rounds their factors to TF32."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


def assert_same_rows(a: RawDetections, b: RawDetections) -> None:
    """Rows of nearly equal scores may have changed places."""
    assert torch.allclose(a.scores, b.scores.cpu(), atol=2e-5)
    own, other = a.part(BoxMasks), b.part(BoxMasks)
    assert (own is None) == (other is None)
    for i in range(len(a.scores)):
        apart = torch.cdist(a.boxes[i], b.boxes[i].cpu(), p=torch.inf) + 1e3 * (
            a.labels[i][:, None] != b.labels[i].cpu()
        )
        nearest, place = apart.min(dim=1)
        assert float(nearest.max()) < 2e-2
        if own is not None and other is not None:
            assert torch.allclose(own.probs[i], other.probs[i].cpu()[place], atol=1e-3)


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("name", VARIANTS)
def test_detections_are_the_processors(name: str, fast: bool) -> None:
    model, other = (accelerated(lively(VARIANTS[name])) if fast else lively(VARIANTS[name]) for _ in range(2))
    images = source_images(2)
    with torch.inference_mode():
        found = other.cuda().detect(inputs_of(other.config, images.cuda()))
        assert all(value.is_cuda for value in found.tensors().values())
        assert_same_rows(model.detect(inputs_of(model.config, images)), found)


def on_device(target: Target) -> Target:
    return replace(
        target,
        boxes=target.boxes.cuda(),
        labels=target.labels.cuda(),
        crowd=None if target.crowd is None else target.crowd.cuda(),
    )


def losses_and_gradients(model: AnyModel, images: Tensor, targets: list[Target]) -> tuple[dict[str, float], Tensor]:
    draws = [torch.Generator().manual_seed(i) for i in range(len(targets))]
    terms = model.terms(inputs_of(model.config, images), targets, draws)
    means = {name: term.mean() for name, term in terms.items()}
    torch.stack(list(means.values())).sum().backward()
    grads = [p.grad.flatten().cpu() for p in model.parameters() if p.grad is not None]
    return {name: float(value.detach()) for name, value in means.items()}, torch.cat(grads)


@pytest.mark.parametrize("name", VARIANTS)
def test_losses_and_gradients_are_the_processors(name: str) -> None:
    model, images = lively(VARIANTS[name]), source_images(2)
    classes = model.config.num_classes
    targets = [replace(t, labels=t.labels % classes) for t in (target(4, crowds=1), target(0))]
    own, own_grad = losses_and_gradients(model, images, targets)
    model.zero_grad()
    other, other_grad = losses_and_gradients(model.cuda(), images.cuda(), [on_device(t) for t in targets])
    assert other == pytest.approx(own, rel=1e-3, abs=1e-5)
    assert float((own_grad - other_grad).norm() / own_grad.norm()) < 0.02


@pytest.mark.parametrize("aligned", [False, True])
def test_roi_align_is_the_processors(aligned: bool) -> None:
    g = torch.Generator().manual_seed(0)
    maps = [torch.randn(2, 8, side, side, generator=g) for side in (32, 16)]
    corner = torch.rand(40, 2, generator=g) * 80
    boxes = torch.cat([corner, corner + torch.rand(40, 2, generator=g) * 60], 1)
    batch, level = torch.arange(40) % 2, torch.arange(40) // 20
    rest = ((0.25, 0.125), 7, 2, aligned)
    a = roi_align(maps, boxes, batch, level, *rest)
    b = roi_align([m.cuda() for m in maps], boxes.cuda(), batch.cuda(), level.cuda(), *rest)
    assert torch.allclose(a, b.cpu(), atol=1e-5)


@pytest.mark.parametrize("name", ["nuclei", "nuclei_fast"])
@pytest.mark.parametrize(("precision", "least"), [("float32", 0.98), ("bf16", 0.9)])
def test_shipped_models_find_the_same(name: str, precision: str, least: float) -> None:
    image = nuclei_like()
    own = maskwright.load(name).predict(image)
    found = maskwright.load(name, device="cuda", precision=precision).predict([image, image[:200]])[0]
    assert len(own) > 10
    best = iou(own.masks, found.masks).max(axis=1)
    assert float((best > 0.9).mean()) >= least


def nuclei_like() -> np.ndarray:
    """Bright discs on a dark ground."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:256, :256]
    image = np.full((256, 256), 12.0)
    for row in range(5):
        for column in range(5):
            cy, cx, r = 26 + 50 * row + rng.uniform(-6, 6), 26 + 50 * column + rng.uniform(-6, 6), rng.uniform(8, 14)
            image[(y - cy) ** 2 + (x - cx) ** 2 < r * r] = rng.uniform(70, 150)
    image += rng.normal(0, 3, image.shape)
    return np.repeat(image.clip(0, 255).astype(np.uint8)[:, :, None], 3, axis=2)


def iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = a.reshape(len(a), -1).astype(np.float32), b.reshape(len(b), -1).astype(np.float32)
    both = a @ b.T
    return both / (a.sum(1)[:, None] + b.sum(1)[None] - both)


@pytest.mark.parametrize("precision", ["float32", "bf16", "fp16"])
@pytest.mark.parametrize("model", ["mask_rcnn_small", "yolact_small"])
def test_a_run_trains_resumes_and_predicts(tmp_path: Path, model: str, precision: str) -> None:
    file = coco_fixture(tmp_path / "data", 0)
    settings: dict[str, Any] = {
        "data": str(file),
        "images": str(file.parent / "images"),
        "model": model,
        "out": str(tmp_path / "run"),
        "precision": precision,
        "batch_size": 2,
        "epochs": 2,
        "val_fraction": 0.3,
        "device": "cuda",
        "progress": False,
        "report": False,
        "workers": 2,
    }
    best, kept = tmp_path / "run" / "last.safetensors", []
    for resume in (False, True):  # the second finds a run that is over, and its state
        maskwright.train(maskwright.TrainConfig(**settings, augment=None, resume=resume))
        kept.append(read(best).tensors)
    assert all(torch.equal(value, kept[1][name]) for name, value in kept[0].items())
    image, _ = scene(3, (96, 128), 4, 3)
    found = maskwright.load(best, device="cuda").predict(image, score_threshold=0.05)
    assert found.masks.shape[1:] == (96, 128)


def test_predicting_in_batches_gives_what_one_by_one_gives() -> None:
    predictor = Predictor(lively(VARIANTS["rcnn-detectron2"]), Classes(["a", "b", "c"]), device="cuda")
    images = [scene(i, (64, 96), 4, 3)[0] for i in range(6)]
    together = predictor.predict(images, score_threshold=0.05, batch_size=4)
    for one, many in zip(images, together, strict=True):
        alone = predictor.predict(one, score_threshold=0.05)
        assert alone.labels.tolist() == many.labels.tolist()
        assert np.allclose(alone.boxes, many.boxes, atol=0.05)
