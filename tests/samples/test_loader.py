"""Batches: their order and contents depend on seed, epoch and image alone, and show what prediction would see."""

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from maskwright.data.dataset import Annotation, Dataset, ImageRecord
from maskwright.errors import ConfigError, DataError, TrainingError
from maskwright.geometry import Geometry
from maskwright.ops.warp import resize_normalise
from maskwright.samples import loader
from maskwright.samples.augment import Augment
from maskwright.samples.inputs import scaled_spec
from maskwright.samples.loader import Batch, Batches, Sampling, order
from maskwright.types import Classes, InputSpec

SPEC = InputSpec(size=40, max_size=60, resize="pillow", multiple=16)
VARIED = Augment(flip_horizontal=0.5, flip_vertical=0.5, rot90=0.5, rotate=10, scale=(0.7, 1.4), crop=(32, 32), hue=0.1)


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    """Seven images of different sizes with i % 3 objects each; the object in image 4 is a crowd."""
    rng, records, annotations = np.random.default_rng(0), [], {}
    for i in range(7):
        size = (20 + 3 * i, 30 + (i % 2) * 20)
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(tmp_path / f"{i}.png")
        boxes = [(3.0 + 9 * k, 4.0, 10.0 + 9 * k, 15.0) for k in range(i % 3)]
        annotations[100 + i] = tuple(
            Annotation(
                id=10 * i + k,
                image_id=100 + i,
                label=k,
                box=b,
                segmentation=(np.array([b[0], b[1], b[2], b[1], b[2], b[3], b[0], b[3]]),),
                area=77.0,
                crowd=i == 4,
            )
            for k, b in enumerate(boxes)
        )
        records.append(ImageRecord(100 + i, f"{i}.png", size))
    return Dataset(Classes(["a", "b"]), tuple(records), annotations, tmp_path, tmp_path / "data.json")


def collect(data: Dataset, sampling: Sampling, epoch: int = 0, number: int = 0) -> list[Batch]:
    return list(Batches(data, SPEC, sampling).start(epoch, number))


def assert_same(a: list[Batch], b: list[Batch]) -> None:
    assert [x.image_ids for x in a] == [x.image_ids for x in b]
    for x, y in zip(a, b, strict=True):
        assert (x.epoch, x.number, x.sizes, x.files) == (y.epoch, y.number, y.sizes, y.files)
        assert torch.equal(x.images, y.images)
        for s, t in zip(x.targets, y.targets, strict=True):
            assert torch.equal(s.boxes, t.boxes)
            assert torch.equal(s.labels, t.labels)
            np.testing.assert_array_equal(s.masks.dense(), t.masks.dense())


def test_an_epoch_shows_every_image_once(data: Dataset) -> None:
    batches = collect(data, Sampling(batch_size=3, epochs=2))
    assert [len(b) for b in batches] == [3, 3, 1, 3, 3, 1]
    assert [(b.epoch, b.number) for b in batches] == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
    for epoch in (0, 1):
        seen = Counter(i for b in batches if b.epoch == epoch for i in b.image_ids)
        assert seen == Counter(range(100, 107))
    assert [i for b in batches[:3] for i in b.image_ids] != [i for b in batches[3:] for i in b.image_ids]


def test_order_is_a_function_of_seed_and_epoch() -> None:
    rows = np.arange(50)
    np.testing.assert_array_equal(order(rows, 1, 2), order(rows, 1, 2))
    orders = {tuple(order(rows, seed, epoch)) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9
    assert all(sorted(o) == rows.tolist() for o in orders)


@pytest.mark.parametrize("start", [(0, 0), (0, 2), (1, 1), (2, 0)])
def test_any_start_gives_the_rest_of_the_same_run(data: Dataset, start: tuple[int, int]) -> None:
    sampling = Sampling(batch_size=3, epochs=3, seed=4, augment=VARIED, short_edges=(30, 40))
    whole = collect(data, sampling)
    torch.manual_seed(np.random.default_rng().integers(1000))  # the global stream plays no part
    assert_same(collect(data, sampling, *start), whole[3 * start[0] + start[1] :])


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
def test_workers_change_nothing(data: Dataset) -> None:
    sampling = Sampling(batch_size=3, epochs=2, augment=VARIED)
    assert_same(collect(data, replace(sampling, workers=2), 0, 1), collect(data, sampling, 0, 1))


def test_the_loader_leaves_the_global_stream_alone(data: Dataset) -> None:
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    collect(data, Sampling(augment=VARIED))
    assert torch.equal(torch.rand(1), expected)


def test_variations_differ_between_epochs_and_seeds(data: Dataset) -> None:
    def image(seed: int, epoch: int) -> torch.Tensor:
        batches = collect(data, Sampling(batch_size=1, seed=seed, epochs=2, augment=VARIED))
        return next(b.images for b in batches if b.epoch == epoch and b.image_ids == [103])

    images = [image(0, 0), image(0, 1), image(1, 0)]
    assert not any(a.shape == b.shape and torch.equal(a, b) for a, b in itertools.pairwise(images))


@pytest.mark.parametrize("resize", ["pillow", "float"])
@pytest.mark.parametrize("channels", ["RGB", "BGR"])
@pytest.mark.parametrize("edge", [40, 16])
def test_the_input_is_predictions(data: Dataset, resize: str, channels: str, edge: int) -> None:
    """Without augmentation exactly; with one that happens to change nothing, within a grey level: two roundings."""
    spec = replace(SPEC, resize=resize, channels=channels, size=edge)
    for augment, tolerance in ((None, 0.0), (Augment(flip_horizontal=0), 1.01 / 57.12)):
        for batch in Batches(data, spec, Sampling(batch_size=2, augment=augment)).start():
            assert batch.images.shape[2] % 16 == 0
            assert batch.images.shape[3] % 16 == 0
            for row, (h, w), file, target in zip(batch.images, batch.sizes, batch.files, batch.targets, strict=True):
                position = int(file[0])
                expected = resize_normalise(data.image(position), spec)
                assert expected.shape == (3, h, w)
                torch.testing.assert_close(row[:, :h, :w], expected, rtol=0, atol=tolerance)
                assert not row[:, h:].any()
                assert not row[:, :, w:].any()
                whole = Geometry.resize(data.images[position].size, (h, w)).masks(data.masks(position))
                np.testing.assert_array_equal(target.masks.dense(), whole.dense())
                np.testing.assert_array_equal(target.boxes.numpy(), whole.boxes())
                assert target.labels.tolist() == data.labels(position).tolist()
                assert target.crowd.tolist() == data.crowd(position).tolist()


def test_outside_a_turned_image_is_zero_as_padding_is(tmp_path: Path, data: Dataset) -> None:
    """The mean colour rounded to a grey level: zero within half a level."""
    turned = Augment(flip_horizontal=0, rotate=180)
    for channels in ("RGB", "BGR"):
        spec = replace(SPEC, channels=channels)
        batch = next(Batches(data, spec, Sampling(batch_size=7, augment=turned)).start())
        corners = torch.stack([row[:, 0, 0] for row in batch.images])
        assert (corners.abs().amax(dim=1) < 0.51 / 57).any()


def test_short_edges_are_drawn(data: Dataset) -> None:
    sampling = Sampling(batch_size=7, epochs=20, short_edges=(20, 40))
    batches = Batches(data, replace(SPEC, max_size=None), sampling).start()
    edges = Counter(min(size) for batch in batches for size in batch.sizes)
    assert set(edges) == {20, 40}
    assert min(edges.values()) > 40
    assert scaled_spec(SPEC, 20) == replace(SPEC, size=20, max_size=30)
    assert scaled_spec(replace(SPEC, max_size=None), 20).max_size is None


def test_images_without_objects(data: Dataset) -> None:
    assert len(Batches(data, SPEC, Sampling(batch_size=1))) == 7
    kept = Batches(data, SPEC, Sampling(batch_size=1, keep_empty=False))
    assert sorted(i for b in kept.start() for i in b.image_ids) == [101, 102, 105]  # 104 has a crowd only
    with pytest.raises(DataError, match="has an object"):
        Batches(data.subset([0, 3, 4]), SPEC, Sampling())


def test_boxes_without_outlines(data: Dataset) -> None:
    bare = {i: tuple(replace(a, segmentation=None) for a in rows) for i, rows in data.annotations.items()}
    boxes_only = replace(data, annotations=bare)
    with pytest.raises(DataError, match="no outline"):
        Batches(boxes_only, SPEC, Sampling())
    batch = next(Batches(boxes_only, SPEC, Sampling(batch_size=7, masks=False)).start())
    assert all(t.masks is None for t in batch.targets)
    assert sum(len(t) for t in batch.targets) == 6


@pytest.mark.parametrize("workers", [0, 1])
def test_a_vanished_image_is_named(data: Dataset, workers: int) -> None:
    data.path(3).unlink()
    with pytest.raises(Exception, match=r"3\.png") as caught:
        collect(data, Sampling(workers=workers))
    assert type(caught.value).__module__ == "maskwright.errors"


@pytest.mark.parametrize("fault", [ConnectionResetError(104, "reset by peer"), ConnectionRefusedError(), EOFError()])
def test_a_worker_that_ended_before_its_batch_was_taken_over_is_told_of(fault: Exception) -> None:
    """Which of these comes, or torch's own report, is a matter of moments."""

    class Lost:
        num_workers = 1

        def __iter__(self) -> Iterator[Batch]:
            raise fault
            yield

    with pytest.raises(TrainingError, match=r"A process that prepares images ended: .*fewer workers"):
        next(loader._unwrapped(Lost()))  # type: ignore[arg-type]
    Lost.num_workers = 0
    with pytest.raises(type(fault)):
        next(loader._unwrapped(Lost()))  # type: ignore[arg-type]


def test_to_keeps_what_it_need_not_move(data: Dataset) -> None:
    batch = next(Batches(data, SPEC, Sampling()).start())
    assert batch.to(torch.device("cpu")) is batch
    moved = batch.to(torch.device("meta"))
    assert moved.images.device.type == "meta"
    assert all(t.boxes.device.type == t.labels.device.type == "meta" for t in moved.targets)
    assert moved.targets[0].masks is batch.targets[0].masks
    crowds = [t.crowd is not None and bool(t.crowd.any()) for t in batch.targets]
    assert [t.crowd is not None for t in moved.targets] == crowds  # flags that are all false stay behind
    flagged = replace(batch.targets[0], crowd=torch.ones(len(batch.targets[0]), dtype=torch.bool))
    moved = replace(batch, targets=[flagged, *batch.targets[1:]]).to(torch.device("meta"))
    assert moved.targets[0].crowd.device.type == "meta"


def test_wrong_sampling_is_refused() -> None:
    for bad in ({"batch_size": 0}, {"seed": -1}, {"workers": -1}, {"short_edges": (0,)}, {"epochs": -1}):
        with pytest.raises(ConfigError, match=next(iter(bad))):
            Sampling(**bad)
