"""Proposals of training images: searched once, moved with the image through every augmentation."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from maskwright.data.dataset import Dataset
from maskwright.data.synthetic import scenes_fixture
from maskwright.geometry import Geometry
from maskwright.ops.selective_search import selective_search
from maskwright.ops.warp import input_size
from maskwright.samples import searched
from maskwright.samples.augment import Augment, Choice, apply
from maskwright.samples.loader import Batches, SampleKey, Sampling, TrainingSamples
from maskwright.samples.sample import Objects, Sample, join_proposals
from maskwright.samples.searched import Searched
from maskwright.types import InputSpec, SearchSpec

SPEC = InputSpec(size=60, resize="pillow", multiple=16)
SEARCH = SearchSpec(most=50)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return scenes_fixture(tmp_path_factory.mktemp("scenes"), 1, images=4, size=(40, 56), objects=3, classes=2)


def test_an_image_is_searched_once_by_whoever_needs_it_first(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def counted(image: np.ndarray, spec: SearchSpec) -> np.ndarray:
        seen.append(int(image.sum()))
        return selective_search(image, spec)

    monkeypatch.setattr(searched, "selective_search", counted)
    batches = Batches(data, SPEC, Sampling(batch_size=3, epochs=3, search=SEARCH))
    folder = batches.samples.searched.folder  # type: ignore[union-attr]
    found = [batch for epoch in range(2) for batch in batches.start(epoch)]
    assert len(found) > 4
    assert len(seen) == len(set(seen)) == 4
    assert len(list(folder.iterdir())) == 4
    del batches, found
    assert not folder.exists()


def test_workers_share_what_was_found(data: Dataset) -> None:
    """And give the same batches as one process."""
    plain = list(Batches(data, SPEC, Sampling(batch_size=2, augment=Augment(), search=SEARCH)).start())
    batches = Batches(data, SPEC, Sampling(batch_size=2, augment=Augment(), search=SEARCH, workers=2))
    for one, other in zip(plain, batches.start(), strict=True):
        assert one.proposals is not None
        assert other.proposals is not None
        assert all(torch.equal(a, b) for a, b in zip(one.proposals, other.proposals, strict=True))
    assert len(list(batches.samples.searched.folder.iterdir())) == 4  # type: ignore[union-attr]


def test_still_images_have_the_proposals_of_prediction(data: Dataset) -> None:
    batch = next(Batches(data, SPEC, Sampling(batch_size=1, search=SEARCH)).start())
    image = data.image(batch.keys[0].position)
    size = image.shape[:2]
    wanted = Geometry.resize(size, input_size(size, SPEC)).boxes(selective_search(image, SEARCH))
    assert batch.inputs.proposals is not None
    np.testing.assert_allclose(batch.inputs.proposals[0], wanted, atol=1e-3)
    moved = batch.to(torch.device("meta"))
    assert moved.proposals is not None
    assert moved.proposals[0].device.type == "meta"


def test_a_mirrored_image_has_mirrored_proposals_cut_off_at_its_edges() -> None:
    boxes = np.array([[2, 3, 10, 12], [30, 5, 40, 20], [0, 0, 40, 30]], np.float32)
    sample = Sample(np.zeros((30, 40, 3), np.uint8), empty(), proposals=boxes)
    move = Geometry.flip((30, 40), horizontal=True).then(Geometry.crop((30, 40), 5, 0, (20, 30)))
    moved = apply(sample, Choice(move))
    assert moved.proposals is not None
    assert moved.proposals.tolist() == [[0, 0, 10, 15], [0, 0, 30, 20]]  # the first lies outside of the window


def empty() -> Objects:
    return Objects(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), None, np.zeros(0, np.bool_))


def test_mosaic_and_copy_paste_bring_the_proposals_of_their_images(data: Dataset) -> None:
    """Each object of the result is still covered by a proposal as well as its proposals covered it before."""
    for augment in (Augment(mosaic=1.0), Augment(copy_paste=1.0)):
        samples = TrainingSamples(data, SPEC, Sampling(augment=augment, search=SearchSpec()))
        exact = {k: replace(samples.sample(k), proposals=data.boxes(k)) for k in range(len(data))}
        samples.sample = exact.__getitem__  # type: ignore[method-assign]
        for position in range(len(data)):
            item = samples[SampleKey(0, 0, position)]
            assert item.proposals is not None
            height, width = item.image.shape[1:]
            assert (item.proposals >= 0).all()
            assert (item.proposals <= torch.tensor([width, height, width, height])).all()
            apart = (item.target.boxes[:, None] - item.proposals).abs().amax(dim=2).amin(dim=1)
            assert (apart <= 8).float().mean() >= 0.6  # boxes become tight again, proposals do not


def test_no_images_and_no_search() -> None:
    assert join_proposals([None, None]) is None
    both = join_proposals([np.ones((2, 4), np.float32), None, np.zeros((1, 4), np.float32)])
    assert both is not None
    assert both.shape == (3, 4)


def test_a_share_without_images_has_no_proposals(data: Dataset) -> None:
    batches = list(Batches(data, SPEC, Sampling(batch_size=1, search=SEARCH), (0, 2)).start())
    assert [len(batch) for batch in batches] == [0] * 4
    assert all(batch.inputs.proposals == [] for batch in batches)


def test_the_folder_is_kept_by_other_processes(tmp_path: Path) -> None:
    searched._remove(tmp_path, -1)
    assert tmp_path.exists()
    assert Searched(SEARCH).spec == SEARCH
