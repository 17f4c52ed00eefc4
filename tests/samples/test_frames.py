"""Samples of several frames: every frame of a clip is augmented as the image is, so what moves keeps its direction."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from tests.samples.test_augment_landmarks import movements, seeds
from tests.samples.test_mix import AS_IT_IS

from maskwright.data.dataset import Dataset
from maskwright.data.synthetic import clip, clips_fixture
from maskwright.data.synthetic.clips import ClipScene
from maskwright.data.synthetic.kinds import class_list
from maskwright.errors import ConfigError, DataError
from maskwright.samples.augment import Augment, choose
from maskwright.samples.colour import ColourJitter
from maskwright.samples.loader import Item, SampleKey, Sampling, TrainingSamples
from maskwright.samples.sample import Objects, Sample
from maskwright.types import Classes, Clip, Frame, InputSpec

SPEC = InputSpec(size=48, max_size=96, resize="pillow", multiple=16)
VARIED = Augment(
    flip_vertical=0.5, rot90=0.5, rotate=20, scale=(0.7, 1.4), crop=(40, 44), focus=0.5, contrast=0.5, gain=4, blur=1,
    gamma=1.5, jpeg=50, noise=4,
)  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Two clips of four frames; a class for each object."""
    made = clips_fixture(5, tmp_path_factory.mktemp("clips"), frames=4, size=(50, 60))
    tracks = [[a.track_id or 0 for a in rows] for rows in made.annotations.values()]
    rows = {i: tuple(replace(a, label=a.track_id or 0) for a in own) for i, own in made.annotations.items()}
    classes = Classes(class_list(1 + max(map(max, tracks))).names)
    return replace(made, annotations=rows, classes=classes)


def assert_equal(one: Item, two: Item) -> None:
    assert torch.equal(one.image, two.image)
    assert torch.equal(one.target.boxes, two.target.boxes)
    assert torch.equal(one.target.labels, two.target.labels)
    np.testing.assert_array_equal(one.target.masks.dense(), two.target.masks.dense())


def test_previous_frames_are_those_of_the_clip_nearest_first(data: Dataset) -> None:
    assert [data.previous_frames(i, 2) for i in range(8)] == [(), (0,), (1, 0), (2, 1), (), (4,), (5, 4), (6, 5)]
    assert data.previous_frames(3, 0) == ()
    assert data.previous_frames(3, 9) == (2, 1, 0)
    mixed = data.subset([6, 3, 0, 5, 1])
    assert [mixed.previous_frames(i, 2) for i in range(5)] == [(3,), (4, 2), (), (), (2,)]
    still = replace(data, images=tuple(replace(record, frame=None) for record in data.images))
    assert still.previous_frames(3, 2) == ()


@pytest.mark.parametrize("augment", [None, VARIED])
def test_frames_change_nothing_about_the_image(data: Dataset, augment: Augment | None) -> None:
    samples = TrainingSamples(data, SPEC, Sampling(augment=augment, short_edges=(40, 48)))
    for epoch in range(4):
        alone, item = samples[SampleKey(epoch, 0, 3)], samples[SampleKey(epoch, 0, 3, frames=(2, 1))]
        assert_equal(alone, item)
        assert alone.frames == ()
        assert [frame.key for frame in item.frames] == [SampleKey(epoch, 0, 2), SampleKey(epoch, 0, 1)]
        assert {frame.image.shape for frame in item.frames} == {item.image.shape}


def test_the_image_as_its_own_frame_is_the_same_again(data: Dataset) -> None:
    samples = TrainingSamples(data, SPEC, Sampling(augment=VARIED))
    for epoch in range(6):
        item = samples[SampleKey(epoch, 0, 2, frames=(2, 1))]
        assert_equal(item, item.frames[0])
        assert not torch.equal(item.image, item.frames[1].image)


def test_colours_are_measured_on_the_first_frame() -> None:
    """A bright object that enters changes neither the exposure nor the mean grey value of the rest."""
    first = np.full((20, 20, 3), 60, np.uint8)
    second = first.copy()
    second[:8] = 250
    colour = ColourJitter(gain=3.0, contrast=1.5, gamma=1.2)
    one, two = colour.apply_alike([first, second])
    np.testing.assert_array_equal(one, colour.apply(first))
    np.testing.assert_array_equal(two[8:], one[8:])
    assert (colour.apply(second)[8:] != one[8:]).all()


def still_images(seed: int) -> tuple[list[ClipScene], list[Sample]]:
    """Two frames of a clip, the later one first, their panoptic ids in place of classes."""
    scenes = list(clip(seed, 2, (60, 70), 5, 3))[::-1]
    samples = []
    for scene in scenes:
        found = scene.instances
        rows = Objects(found.boxes, found.track_ids, found.crops, np.zeros(len(found), bool))
        samples.append(Sample(scene.image, rows, scene.panoptic.ids.astype(np.int64)))
    return scenes, samples


@settings(max_examples=40, deadline=None)
@given(movements, seeds)
def test_masks_and_flow_of_frames_move_alike(config: Augment, seed: int) -> None:
    """Each frame's masks are moved by one map; the flow, turned by it, leads to the same object in the frame before."""
    scenes, samples = still_images(seed % 1000)
    geometry = choose(config, np.random.default_rng(seed), (60, 70), (60, 70), samples[0].objects).geometry
    now, before = AS_IT_IS.varied_alike(samples, config, np.random.default_rng(seed))
    for one, sample in ((now, samples[0]), (before, samples[1])):
        moved = geometry.masks(sample.objects.masks).dense()
        np.testing.assert_array_equal(one.objects.masks.dense(), moved[moved.any(axis=(1, 2))])
        np.testing.assert_array_equal(one.semantic, geometry.label_map(sample.semantic))
    if config.rotate or config.scale != (1.0, 1.0):
        return  # pixels are not copied one to one, so that borders are not exact
    flow, valid = scenes[0].flow()
    back = geometry.inverse()
    y, x = np.nonzero(now.semantic >= 0)
    column, row = np.floor(back.points(np.stack([x, y], axis=1) + 0.5)).astype(int).T
    here = valid[row, column]
    turned = flow[row, column] @ geometry.matrix[:2, :2].T
    to_x, to_y = np.floor(np.stack([x, y], axis=1) + 0.5 + turned).astype(int).T
    here &= (to_x >= 0) & (to_x < before.size[1]) & (to_y >= 0) & (to_y < before.size[0])
    assert np.mean(before.semantic[to_y[here], to_x[here]] == now.semantic[y[here], x[here]]) > 0.995  # ties at borders


def test_objects_overlap_as_before_and_a_mirror_turns_their_motion(data: Dataset) -> None:
    plain, mirrored = (
        TrainingSamples(data, SPEC, Sampling(augment=Augment(flip_horizontal=p)))[SampleKey(0, 0, 2, frames=(1,))]
        for p in (0.0, 1.0)
    )
    kept = 0
    for label in set(plain.target.labels.tolist()) & set(plain.frames[0].target.labels.tolist()):
        overlap, motion = zip(*(measured(item, label) for item in (plain, mirrored)), strict=True)
        assert overlap[0] == pytest.approx(overlap[1])
        assert motion[0][0] == pytest.approx(-motion[1][0], abs=1e-6)
        assert motion[0][1] == pytest.approx(motion[1][1], abs=1e-6)
        kept += abs(motion[0][0]) > 0.5
    assert kept


def measured(item: Item, label: int) -> tuple[float, np.ndarray]:
    """IoU of an object's masks in the image and its frame, and how its centre moved, x and y."""
    masks = [part.target.masks.dense()[part.target.labels.tolist().index(label)] for part in (item, item.frames[0])]
    centres = [np.argwhere(mask).mean(axis=0)[::-1] for mask in masks]
    return float((masks[0] & masks[1]).sum() / (masks[0] | masks[1]).sum()), centres[0] - centres[1]


def test_batches_have_a_batch_for_each_frame(data: Dataset) -> None:
    samples = TrainingSamples(data, SPEC, Sampling(augment=replace(VARIED, crop=None, focus=0)))
    items = [samples[SampleKey(0, 0, i, frames=data.previous_frames(i, 2))] for i in (3, 7, 2)]
    batch = samples.collate(items)
    assert [len(frame) for frame in batch.frames] == [3, 3]
    assert [frame.image_ids for frame in batch.frames] == [[3, 7, 2], [2, 6, 1]]
    for frame in batch.frames:
        assert frame.images.shape == batch.images.shape
        assert frame.sizes == batch.sizes
        assert frame.frames == ()
    assert torch.equal(batch.frames[1].images[1][:, : batch.sizes[1][0], : batch.sizes[1][1]], items[1].frames[1].image)
    moved = batch.to(torch.device("meta"))
    assert {frame.images.device.type for frame in moved.frames} == {"meta"}
    assert moved.frames[0].targets[0].boxes.device.type == "meta"
    assert samples.collate([samples[SampleKey(0, 0, 3)]]).frames == samples.collate([]).frames == ()
    with pytest.raises(ConfigError, match=r"equally many frames, got \[2, 0\]"):
        samples.collate([items[0], samples[SampleKey(0, 0, 0)]])


def test_frames_that_cannot_be_augmented_alike_are_refused(data: Dataset) -> None:
    for config in (Augment(copy_paste=0.1), Augment(mosaic=0.1)):
        samples = TrainingSamples(data, SPEC, Sampling(augment=config))
        with pytest.raises(ConfigError, match="copy_paste and mosaic cannot"):
            samples[SampleKey(0, 0, 3, frames=(2,))]
        assert samples[SampleKey(0, 0, 3)].frames == ()

    def refused(text: str, **changes: object) -> None:
        images = (replace(data.images[0], **changes), *data.images[1:])
        with pytest.raises(DataError, match=text):
            TrainingSamples(replace(data, images=images), SPEC, Sampling())[SampleKey(0, 0, 1, frames=(0,))]

    text = r"clip_000.00000.png and clip_000.00001.png are not frames of one clip"
    refused(text, frame=None)
    refused(text, frame=Frame(Clip(9), 0))
    refused(r"are \(50, 61\) and \(50, 60\): sizes must be equal", size=(50, 61))


def test_a_clip_in_a_folder_is_read_with_its_frames(tmp_path: Path, data: Dataset) -> None:
    from maskwright.data.formats import youtube_vis

    place = tmp_path / "instances.json"
    youtube_vis.save(place, data, False)
    again = youtube_vis.load(place, data.root)
    assert [again.previous_frames(i, 2) for i in range(8)] == [data.previous_frames(i, 2) for i in range(8)]
