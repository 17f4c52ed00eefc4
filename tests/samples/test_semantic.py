"""Semantic maps: they follow every movement as masks do, and change nothing else."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from tests.samples.test_augment_landmarks import movements, seeds, sizes
from tests.samples.test_loader import assert_same
from tests.samples.test_mix import AS_IT_IS, Others, same

from maskwright.data import synthetic
from maskwright.data.dataset import Dataset, ImageRecord
from maskwright.data.formats import table as formats
from maskwright.data.synthetic import compose
from maskwright.errors import ConfigError, DataError
from maskwright.geometry import Geometry
from maskwright.samples.augment import Augment, apply, choose
from maskwright.samples.loader import Batches, SampleKey, Sampling, TrainingSamples
from maskwright.samples.mix import paste, vary
from maskwright.samples.sample import Objects, Sample
from maskwright.types import Classes, InputSpec, IntArray, Masks, Panoptic

SPEC = InputSpec(size=40, max_size=80, resize="pillow", multiple=16)
MIXED = Augment(flip_horizontal=0.5, rot90=0.5, rotate=20, scale=(0.7, 1.4), crop=(40, 50), copy_paste=0.5, mosaic=0.5)


def labels_of(panoptic: Panoptic) -> IntArray:
    """The class of each pixel."""
    table = np.full(int(panoptic.ids.max()) + 1, -1, np.int64)
    table[[s.id for s in panoptic.segments]] = [s.label for s in panoptic.segments]
    return table[panoptic.ids]


def scene(seed: int, size: tuple[int, int], objects: int = 4) -> Sample:
    shown = compose(seed, size, objects, classes=3)
    found = shown.instances
    rows = Objects(found.boxes, found.labels, found.crops, np.zeros(len(found), bool))
    return Sample(shown.image, rows, labels_of(shown.panoptic))


def maps_of_scenes(record: ImageRecord) -> IntArray | None:
    """The maps of `scenes_fixture(seed=3)` but for its second image, which has none."""
    return None if record.id == 2 else labels_of(compose(2999 + record.id, record.size, 6, 5).panoptic)


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    made = synthetic.scenes_fixture(tmp_path, 3, images=4, size=(50, 70))
    classes = compose(0, (20, 20), 1, 5).panoptic.classes
    return replace(made, semantic_maps=maps_of_scenes, semantic_classes=classes).subset([0, 1, 2])


@settings(max_examples=60, deadline=None)
@given(sizes, movements, seeds)
def test_a_moved_map_equals_the_moved_masks_of_its_classes(size: tuple[int, int], config: Augment, seed: int) -> None:
    before = scene(seed % 1000, size)
    choice = choose(config, np.random.default_rng(seed), size, objects=before.objects)
    after = apply(before, choice)
    assert after.semantic.shape == after.size
    labels = np.unique(before.semantic)
    masks = choice.geometry.masks(Masks.from_dense(before.semantic == labels[:, None, None])).dense()
    expected = np.where(masks.any(axis=0), labels[masks.argmax(axis=0)], -1)
    np.testing.assert_array_equal(after.semantic, expected)


def test_flips_and_windows_copy_the_map() -> None:
    labels = np.arange(12).reshape(3, 4)
    flipped = Geometry.flip((3, 4), horizontal=True).label_map(labels)
    np.testing.assert_array_equal(flipped, labels[:, ::-1])
    window = Geometry.crop((3, 4), -1, 2, (3, 4)).label_map(labels)
    np.testing.assert_array_equal(window, [[-1, -1, -1, -1], [2, 3, -1, -1], [6, 7, -1, -1]])
    with pytest.raises(ConfigError, match=r"\(3, 3\)"):
        Geometry.identity((3, 4)).label_map(labels[:, :3])


@settings(max_examples=60, deadline=None)
@given(movements, seeds)
def test_mixed_maps_agree_with_the_masks(config: Augment, seed: int) -> None:
    """Where a class of objects is in the map, there are masks of it, and the other way round."""
    config = replace(config, copy_paste=0.5, mosaic=0.5, min_share=0.0, cut="drop")
    images = [scene(seed % 1000 + k, (30 + 5 * k, 40)) for k in range(4)]
    out = vary(images[0], config, np.random.default_rng(seed), AS_IT_IS, Others(images[1:]))
    masks = out.objects.masks.dense()
    for label in range(3):
        np.testing.assert_array_equal(out.semantic == label, masks[out.objects.labels == label].any(axis=0))
    bare = [replace(image, semantic=None) for image in images]
    without = vary(bare[0], config, np.random.default_rng(seed), AS_IT_IS, Others(bare[1:]))
    same(without, out)
    assert without.semantic is None


def test_images_without_a_map_are_not_annotated_when_mixed() -> None:
    one, two = scene(1, (40, 40)), scene(2, (40, 40))
    cover = two.objects.masks.dense().any(axis=0)
    pasted = paste(one, replace(two, semantic=None)).semantic
    np.testing.assert_array_equal(pasted, np.where(cover, -1, one.semantic))
    assert paste(replace(one, semantic=None), two).semantic is None
    tiled = Augment(flip_horizontal=0, mosaic=1.0)
    out = vary(replace(one, semantic=None), tiled, np.random.default_rng(0), AS_IT_IS, Others([two]))
    assert (out.semantic[:12, :12] == -1).all()  # of the first image, at the upper left
    assert (out.semantic[30:, 30:] >= 0).all()


def test_targets_carry_the_map(data: Dataset) -> None:
    for augment in (None, Augment(flip_horizontal=0.0)):
        samples = TrainingSamples(data, SPEC, Sampling(augment=augment))
        item = samples[SampleKey(0, 0, 0)]
        h, w = item.image.shape[1:]
        assert item.target.semantic.dtype == torch.int64
        expected = Geometry.resize((50, 70), (h, w)).label_map(data.semantic(0))
        np.testing.assert_array_equal(item.target.semantic, expected)
        assert samples[SampleKey(0, 0, 1)].target.semantic is None
    batch = next(Batches(data, SPEC, Sampling()).start()).to(torch.device("meta"))
    assert {t.semantic.device.type for t in batch.targets if t.semantic is not None} == {"meta"}


def test_a_map_changes_nothing_else(data: Dataset) -> None:
    sampling = Sampling(augment=MIXED, epochs=3, short_edges=(30, 40))
    with_maps, without = (list(Batches(d, SPEC, sampling).start()) for d in (data, replace(data, semantic_maps=None)))
    assert_same(with_maps, without)
    assert all(t.semantic is None for batch in without for t in batch.targets)
    assert all(
        t.semantic is None or t.semantic.shape == size
        for batch in with_maps
        for t, size in zip(batch.targets, batch.sizes, strict=True)
    )


def test_a_data_set_reads_its_maps(tmp_path: Path, data: Dataset) -> None:
    np.testing.assert_array_equal(data.semantic(2), maps_of_scenes(data.images[2]))
    np.testing.assert_array_equal(data.subset([2]).semantic(0), data.semantic(2))
    assert data.semantic(1) is None
    assert replace(data, semantic_maps=None).semantic(0) is None
    small = replace(data, semantic_maps=lambda record: np.zeros((3, 4), np.uint8))
    with pytest.raises(DataError, match=r"000000.png: the semantic map is \(3, 4\), the image is \(50, 70\)"):
        small.semantic(0)
    for fewer in (Classes(["a"]), None):
        with pytest.raises(DataError, match=r"the labels of the semantic map are \d+\.\.\d+, its \d classes"):
            replace(data, semantic_classes=fewer).semantic(0)
    assert formats.save(tmp_path / "out.json", data, "coco") == ("3 images without the semantic maps of the data set.",)
    with pytest.raises(DataError, match="semantic is"):
        replace(scene(1, (9, 9)), semantic=np.zeros((9, 8), np.int64))
