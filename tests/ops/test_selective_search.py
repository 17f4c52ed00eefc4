"""Graph segmentation and selective search against twins of plain loops, and on images of every kind."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.reference import selective_search as twin

from maskwright.data.synthetic import scene
from maskwright.ops import boxes as box_ops
from maskwright.ops import graph_segments as graph
from maskwright.ops import selective_search as search
from maskwright.ops.selective_search import selective_search
from maskwright.types import SearchSpec


def patches(seed: int, height: int, width: int, values: int) -> np.ndarray:
    """An image of few values, so that differences are equal often; flat parts beside noise."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, values, (height, width, 3)) * (255 // max(1, values - 1))
    image[: height // 2, : width // 2] = image[0, 0]
    return image.astype(np.uint8)


@settings(max_examples=25)
@given(
    seed=st.integers(0, 99),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    values=st.sampled_from([1, 2, 4, 256]),
    k=st.sampled_from([0.5, 5, 40, 300]),
    chunk=st.sampled_from([1, 7, 50, 1 << 15]),
)
def test_segments_equal_the_twin(seed: int, size: tuple[int, int], values: int, k: float, chunk: int) -> None:
    """Whatever the number of pairs that are looked at between two passes."""
    image = patches(seed, *size, values)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph, "CHUNK", chunk)
        (found,) = graph.graph_segments(image, [k])
    assert np.array_equal(found, twin.graph_segments(image, k))


@settings(max_examples=12)
@given(seed=st.integers(0, 999), size=st.tuples(st.integers(2, 7), st.integers(2, 7)), kinds=st.integers(1, 2))
def test_grouping_equals_the_twin(seed: int, size: tuple[int, int], kinds: int) -> None:
    """With few bins, so that pairs are equally alike often."""
    rng = np.random.default_rng(seed)
    height, width = size
    segments = np.unique(rng.integers(0, 6, (height, width)), return_inverse=True)[1].reshape(size)
    bins = [rng.integers(0, 3, (height, width, 1)) for _ in range(kinds)]
    described = [search._histograms(segments, own) for own in bins]
    arguments = search._first_boxes(segments), np.bincount(segments.ravel()), search._borders(segments), described
    assert np.array_equal(search.grouped(*arguments), twin.grouped(*arguments))


def test_histograms_are_shares_of_the_bins() -> None:
    segments = np.array([[0, 0, 1]])
    bins = np.array([[[0, 4], [1, 4], [3, 5]]])
    one = search.ONE
    assert search._histograms(segments, bins).tolist() == [
        [one // 4, one // 4, 0, 0, one // 2, 0],
        [0, 0, 0, one // 2, 0, one // 2],
    ]


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (17, 1), (3, 2), (61, 83), (9, 700), (1400, 35)])
@pytest.mark.parametrize("values", [1, 256])
def test_boxes_lie_inside_images_of_any_size(size: tuple[int, int], values: int) -> None:
    """The whole image is one of them; a uniform image has no other."""
    height, width = size
    image = patches(3, height, width, values)
    boxes = selective_search(image)
    assert boxes.dtype == np.float32
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2:] <= np.float32([width, height])).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    assert len(np.unique(boxes, axis=0)) == len(boxes) <= 2000
    assert [0, 0, width, height] in boxes.tolist()
    assert values > 1 or len(boxes) == 1


def test_boxes_are_the_same_every_time_and_limits_cut_them() -> None:
    image, _ = scene(1, (90, 120), 4, 3)
    boxes = selective_search(image)
    assert np.array_equal(boxes, selective_search(image.copy()))
    assert np.array_equal(selective_search(image, SearchSpec(most=5)), boxes[:5])
    sides = boxes[:, 2:] - boxes[:, :2]
    larger = selective_search(image, SearchSpec(least=20))
    assert np.array_equal(larger, boxes[(sides >= 20).all(axis=1)])


def test_a_large_image_is_searched_at_a_smaller_size() -> None:
    """An image of twice the side has the boxes of the small one, twice as large."""
    image, _ = scene(2, (60, 90), 3, 3)
    large = image.repeat(2, axis=0).repeat(2, axis=1)
    spec = SearchSpec(side=90)
    assert np.array_equal(selective_search(large, spec), 2 * selective_search(image, spec))


def test_objects_of_synthetic_scenes_are_among_the_boxes() -> None:
    best = []
    for seed in range(3):
        image, truth = scene(seed, (120, 160), 4, 3)
        overlap = box_ops.iou(torch.from_numpy(truth.boxes), torch.from_numpy(selective_search(image)))
        best += overlap.amax(dim=1).tolist()
    assert np.mean(np.array(best) > 0.5) >= 0.8
