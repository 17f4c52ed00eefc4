"""Mask targets cut from crops against RoIAlign on whole images; from polygons against the COCO API."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.reference import mask_targets as twin

from maskwright.ops import mask_targets
from maskwright.ops.mask_targets import from_bitmaps, from_polygons
from maskwright.types import Masks

PROPERTY = settings(max_examples=50, deadline=None)


def random_masks(rng: np.random.Generator, size: tuple[int, int], count: int) -> Masks:
    """Blobs, some of them touching the borders, every fourth one empty."""
    dense = np.zeros((count, *size), np.bool_)
    for i in range(count):
        if i % 4 == 3:
            continue
        top, left = rng.integers(0, size[0]), rng.integers(0, size[1])
        bottom, right = rng.integers(top, size[0]) + 1, rng.integers(left, size[1]) + 1
        dense[i, top:bottom, left:right] = rng.random((bottom - top, right - left)) < 0.7
    return Masks.from_dense(dense)


def random_boxes(rng: np.random.Generator, size: tuple[int, int], count: int) -> torch.Tensor:
    """Also reaching outside the image, and much smaller than a pixel."""
    height, width = size
    corner = rng.uniform(-8, [width + 4, height + 4], (count, 2))
    sides = rng.choice([0.05, 1, 10, 60], (count, 1)) * rng.uniform(0.2, 1.5, (count, 2))
    return torch.from_numpy(np.concatenate([corner, corner + sides], 1).astype(np.float32))


@PROPERTY
@given(
    st.integers(0, 10**6), st.tuples(st.integers(1, 40), st.integers(1, 40)), st.integers(1, 6), st.booleans(),
    st.sampled_from([1, 7, 28]),
)  # fmt: skip
def test_bitmaps_equal_roi_align(seed: int, size: tuple[int, int], count: int, aligned: bool, side: int) -> None:
    rng = np.random.default_rng(seed)
    masks, boxes = random_masks(rng, size, count), random_boxes(rng, size, 9)
    rows = torch.from_numpy(rng.integers(0, count, 9))
    found = from_bitmaps(masks, rows, boxes, side, aligned=aligned)
    torch.testing.assert_close(found, twin.from_bitmaps(masks, rows, boxes, side, aligned), rtol=0, atol=1e-5)


@pytest.mark.parametrize("aligned", [True, False])
def test_bitmaps_equal_roi_align_where_coordinates_are_large(aligned: bool) -> None:
    rng = np.random.default_rng(4)
    size = (700, 1333)
    masks = random_masks(rng, size, 8)
    corner = rng.uniform(0, [1100, 500], (12, 2))
    boxes = torch.from_numpy(np.concatenate([corner, corner + rng.uniform(20, 500, (12, 2))], 1).astype(np.float32))
    rows = torch.from_numpy(rng.integers(0, 8, 12))
    found = from_bitmaps(masks, rows, boxes, 28, aligned=aligned)
    expected = twin.from_bitmaps(masks, rows, boxes, 28, aligned)
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-4)  # float32 positions: 1333 has steps of 1e-4
    assert expected.max() > 0.5


@pytest.mark.parametrize("aligned", [True, False])
def test_boxes_without_area_equal_roi_align(aligned: bool) -> None:
    masks = Masks.from_dense(np.ones((1, 12, 12), np.bool_))
    boxes = torch.tensor([[4.0, 4, 4, 4], [4, 4, 4, 9], [6, 6, 3, 9], [50, 50, 60, 60]])
    rows = torch.zeros(4, dtype=torch.int64)
    found = from_bitmaps(masks, rows, boxes, 7, aligned=aligned)
    torch.testing.assert_close(found, twin.from_bitmaps(masks, rows, boxes, 7, aligned), rtol=0, atol=1e-5)


def test_many_rois_are_processed_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    masks, boxes = random_masks(rng, (60, 80), 10), random_boxes(rng, (60, 80), 300)
    rows = torch.from_numpy(rng.integers(0, 10, 300))
    whole = from_bitmaps(masks, rows, boxes, 14, aligned=True)
    monkeypatch.setattr(mask_targets, "CHUNK_BYTES", 4 * 60 * 80 * 7)
    torch.testing.assert_close(from_bitmaps(masks, rows, boxes, 14, aligned=True), whole, rtol=0, atol=1e-6)
    torch.testing.assert_close(whole, twin.from_bitmaps(masks, rows, boxes, 14, True), rtol=0, atol=1e-5)


def test_a_full_mask_in_its_own_box_is_all_ones() -> None:
    masks = Masks((50, 60), np.array([[10, 20]]), (np.ones((16, 24), np.bool_),))
    found = from_bitmaps(masks, torch.tensor([0]), torch.from_numpy(masks.boxes()), 28, aligned=True)
    assert found.shape == (1, 28, 28)
    assert bool((found >= 0.5).all())
    assert bool((found[:, 1:-1, 1:-1] == 1).all())


@pytest.mark.parametrize("count", [0, 3])
def test_no_rois(count: int) -> None:
    masks = random_masks(np.random.default_rng(0), (9, 9), count) if count else Masks.empty((9, 9))
    nothing = torch.zeros(0, dtype=torch.int64), torch.zeros(0, 4)
    assert from_bitmaps(masks, *nothing, 28, aligned=True).shape == (0, 28, 28)
    assert from_polygons([], *nothing, 28).shape == (0, 28, 28)


def random_polygons(rng: np.random.Generator, count: int) -> list[list[np.ndarray]]:
    """One to three parts each, also reaching outside the image."""
    out = []
    for _ in range(count):
        parts = []
        for _ in range(rng.integers(1, 4)):
            angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 9)))
            points = rng.uniform(-5, 70, 2) + rng.uniform(1, 40) * np.stack([np.cos(angles), np.sin(angles)], 1)
            parts.append(points.ravel())
        out.append(parts)
    return out


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@PROPERTY
@given(st.integers(0, 10**6), st.sampled_from([14, 28]))
def test_polygons_equal_the_coco_api(seed: int, side: int) -> None:
    rng = np.random.default_rng(seed)
    polygons, boxes = random_polygons(rng, 4), random_boxes(rng, (64, 64), 8)
    rows = torch.from_numpy(rng.integers(0, 4, 8))
    found = from_polygons(polygons, rows, boxes, side)
    assert torch.equal(found, twin.from_polygons(polygons, rows, boxes, side))


def test_a_polygon_of_its_own_box_fills_the_target_and_parts_are_joined() -> None:
    square = np.array([10.0, 20, 30, 20, 30, 50, 10, 50])
    box = torch.tensor([[10.0, 20, 30, 50]])
    assert bool((from_polygons([[square]], torch.tensor([0]), box, 28) == 1).all())
    left, right = np.array([10.0, 20, 20, 20, 20, 50, 10, 50]), np.array([20.0, 20, 30, 20, 30, 50, 20, 50])
    assert bool((from_polygons([[left, right]], torch.tensor([0]), box, 28) == 1).all())
    assert float(from_polygons([[left]], torch.tensor([0]), box, 28).mean()) == 0.5


def test_odd_polygons() -> None:
    """No part, two points (which the COCO API would take for a box), and two points beside a real part."""
    box, square = torch.tensor([[0.0, 0, 10, 10]] * 3), np.array([0.0, 0, 10, 0, 10, 5, 0, 5])
    line = np.array([1.0, 1.0, 9.0, 8.0])
    found = from_polygons([[], [line], [line, square]], torch.arange(3), box, 14)
    assert found.flatten(1).mean(1).tolist() == [0.0, 0.0, 0.5]
