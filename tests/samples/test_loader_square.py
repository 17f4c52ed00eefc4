"""Training batches of square inputs: what prediction would see, with the objects where it would find them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from maskwright.data import synthetic
from maskwright.data.dataset import Dataset
from maskwright.data.formats import coco
from maskwright.predictor.prepare import prepare
from maskwright.samples.augment import Augment
from maskwright.samples.excerpt import windows
from maskwright.samples.inputs import scaled_spec
from maskwright.samples.loader import Batch, Batches, Sampling
from maskwright.types import InputSpec, Masks

SPECS = {
    "stretch": InputSpec(size=48, fit="stretch", multiple=1),
    "letterbox": InputSpec(size=48, fit="letterbox", multiple=1),
}
MIXED = [(30, 70), (70, 30), (40, 40), (90, 20), (25, 25)]


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    """Images of five shapes."""
    parts = []
    for i, size in enumerate(MIXED):
        path = synthetic.coco_fixture(tmp_path / str(i), 1, size=size, objects=3)
        parts.append(coco.load(path, path.parent / "images"))
    images = [replace(p.images[0], id=i, file_name=str(p.path(0))) for i, p in enumerate(parts)]
    rows = {i: tuple(replace(a, image_id=i, id=10 * i + k) for k, a in enumerate(p.of(0))) for i, p in enumerate(parts)}
    return replace(parts[0], images=tuple(images), annotations=rows, root=Path("/"))


def only_batch(data: Dataset, fit: str, **sampling: object) -> Batch:
    (batch,) = Batches(data, SPECS[fit], Sampling(batch_size=len(data), **sampling)).start()  # type: ignore[arg-type]
    return batch


@pytest.mark.parametrize("fit", SPECS)
def test_images_of_all_shapes_share_a_batch_and_targets_lie_in_the_input(data: Dataset, fit: str) -> None:
    batch, boxes = only_batch(data, fit), only_batch(data, fit, masks=False)
    assert batch.images.shape == (5, 3, 48, 48)
    assert batch.image_ids == boxes.image_ids
    for image, size, target, plain, i in zip(
        batch.images, batch.sizes, batch.targets, boxes.targets, batch.image_ids, strict=True
    ):
        expected, geometry = prepare(data.image(i), SPECS[fit])
        assert size == geometry.size
        assert torch.equal(image[:, : size[0], : size[1]], expected)
        assert not image[:, size[0] :].any()
        assert not image[:, :, size[1] :].any()
        np.testing.assert_allclose(plain.boxes.numpy(), geometry.boxes(data.boxes(i)), atol=1e-4)
        assert isinstance(target.masks, Masks)
        assert target.masks.size == size
        truth = data.masks(i)
        assert truth is not None
        assert np.array_equal(target.masks.dense(), geometry.masks(truth).dense())
        assert np.array_equal(target.boxes.numpy(), target.masks.boxes())


@pytest.mark.parametrize("fit", SPECS)
def test_drawn_sizes_move_the_square(data: Dataset, fit: str) -> None:
    sides = set()
    for seed in range(6):
        batch = only_batch(data, fit, short_edges=(32, 64), seed=seed)
        sides |= {max(size) for size in batch.sizes}
        assert tuple(batch.images.shape[2:]) == (max(max(s) for s in batch.sizes),) * 2
    assert sides == {32, 64}
    assert scaled_spec(SPECS[fit], 64).size == 64


@pytest.mark.parametrize("fit", SPECS)
def test_varied_images_and_windows(data: Dataset, fit: str) -> None:
    """A varied letterbox is still filled up to the square; a window is the input and is not."""
    assert only_batch(data, fit, augment=Augment()).images.shape == (5, 3, 48, 48)
    smaller = only_batch(data, fit, augment=Augment(scale=(0.5, 0.5)))
    assert smaller.images.shape[2:] == ((24, 24) if fit == "stretch" else (48, 48))
    windowed = only_batch(data, fit, augment=Augment(crop=(16, 16)))
    assert max(windowed.images.shape[2:]) == 16


@pytest.mark.parametrize("fit", SPECS)
def test_windows_of_a_trial_have_the_inputs_scale(data: Dataset, fit: str, tmp_path: Path) -> None:
    cut = windows(data, [0, 3], SPECS[fit], 24, tmp_path)
    for record, i in zip(cut.images, (0, 3), strict=True):
        _, geometry = prepare(data.image(i), SPECS[fit])
        assert record.size == (min(24, geometry.size[0]), min(24, geometry.size[1]))
