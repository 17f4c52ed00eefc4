"""Maps of landmarks and of classes against slow twins: odd sizes, thin boxes, nothing at all."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.reference import heat_maps as twin
from torch import Tensor

from maskwright.geometry import Geometry
from maskwright.ops.heat_maps import class_of_pixels, peaks

pytestmark = pytest.mark.usefixtures("one_thread")


def random(*shape: int, seed: int, scale: float = 3.0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    instances=st.integers(0, 3),
    landmarks=st.integers(1, 3),
    side=st.integers(1, 9),
    width=st.sampled_from([0.0, 0.3, 1.0, 1.01, 6.5, 13.0, 21.7]),
    height=st.sampled_from([0.0, 0.9, 2.0, 7.25, 16.0]),
)
def test_peaks_equal_the_twin(
    seed: int, instances: int, landmarks: int, side: int, width: float, height: float
) -> None:
    maps = random(instances, landmarks, side, side, seed=seed)
    corner = random(instances, 2, seed=seed + 1, scale=20)
    boxes = torch.cat([corner, corner + torch.tensor([width, height])], dim=1)
    found = peaks(maps, boxes)
    assert found.shape == (instances, landmarks, 3)
    assert found.dtype == np.float32
    for row, single, box in zip(found, maps, boxes.tolist(), strict=True):
        wanted = np.array(twin.peaks(single.numpy(), box)).reshape(-1, 3)
        np.testing.assert_allclose(row, wanted, rtol=1e-4, atol=1e-4)


def test_a_peak_lies_at_the_middle_of_its_cell() -> None:
    """A sharp peak in one of 4 x 4 cells, each as large as a pixel, and then three pixels wide."""
    maps = torch.full((1, 1, 4, 4), -20.0)
    maps[0, 0, 1, 2] = 20
    for side in (1, 3):
        [[[x, y, score]]] = peaks(maps, torch.tensor([[10.0, 30, 10 + 4 * side, 30 + 4 * side]]))
        assert (x, y) == (10 + 2.5 * side, 30 + 1.5 * side)
        assert score == pytest.approx(1)


@pytest.mark.parametrize(("instances", "landmarks"), [(0, 3), (2, 0)])
def test_without_instances_or_landmarks_there_are_no_peaks(instances: int, landmarks: int) -> None:
    boxes = torch.tensor([[0.0, 0, 16, 16]]).repeat(instances, 1)
    assert peaks(torch.zeros(instances, landmarks, 8, 8), boxes).shape == (instances, landmarks, 3)


def test_a_flat_map_is_not_sure() -> None:
    [[[_, _, score]]] = peaks(torch.zeros(1, 1, 8, 8), torch.tensor([[0.0, 0, 16, 16]]))
    assert score == pytest.approx(1 / 64)


def test_a_box_thinner_than_a_pixel_has_its_landmark_there() -> None:
    [[[x, y, _]]] = peaks(random(1, 1, 5, 5, seed=0), torch.tensor([[7.0, 9, 7.2, 9.1]]))
    assert (x, y) == (7.5, 9.5)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    classes=st.integers(1, 5),
    cells=st.tuples(st.integers(1, 6), st.integers(1, 7)),
    size=st.tuples(st.integers(1, 24), st.integers(1, 28)),
    padding=st.tuples(st.integers(0, 9), st.integers(0, 9)),
    source=st.tuples(st.integers(1, 40), st.integers(1, 40)),
)
def test_classes_of_pixels_equal_the_twin(
    seed: int,
    classes: int,
    cells: tuple[int, int],
    size: tuple[int, int],
    padding: tuple[int, int],
    source: tuple[int, int],
) -> None:
    logits, span = random(classes, *cells, seed=seed), (size[0] + padding[0], size[1] + padding[1])
    found = class_of_pixels(logits, span, Geometry.resize(source, size))
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, twin.class_of_pixels(logits, span, size, source))


def test_of_equal_classes_the_first_is_taken() -> None:
    found = class_of_pixels(torch.ones(3, 2, 2), (8, 8), Geometry.resize((5, 5), (8, 8)))
    assert not found.any()
