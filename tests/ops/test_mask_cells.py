"""Masks read at single cells against whole masks resized by the library, and rectangles against dense windows."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from maskwright.ops import prototypes as prototype_ops
from maskwright.ops.mask_cells import MaskCells, Rectangles
from maskwright.types import BoolArray, Masks, Size

PROPERTY = settings(max_examples=50, deadline=None)
SHAPES: list[tuple[Size, Size]] = [
    ((20, 24), (10, 12)),
    ((20, 24), (5, 6)),
    ((55, 55), (14, 14)),
    ((31, 17), (9, 7)),
    ((9, 9), (12, 15)),
    ((8, 60), (1, 5)),
    ((1, 1), (1, 1)),
]
"""Input and map."""


def blobs(seed: int, size: Size, count: int) -> BoolArray:
    """Ragged masks of any extent, among them an empty one, a lone pixel and the whole input."""
    rng = np.random.default_rng(seed)
    out = np.zeros((count, *size), np.bool_)
    for mask in out:
        top, left = rng.integers(0, size[0]), rng.integers(0, size[1])
        bottom, right = rng.integers(top, size[0]) + 1, rng.integers(left, size[1]) + 1
        mask[top:bottom, left:right] = rng.random((bottom - top, right - left)) < rng.choice([0.3, 0.8, 1.0])
    if count > 2:
        out[0], out[1], out[2] = False, True, False
        out[2, size[0] // 2, size[1] // 2] = True
    return out


def resized(masks: BoolArray, shape: Size) -> torch.Tensor:
    if not len(masks):
        return torch.zeros(0, *shape, dtype=torch.bool)
    dense = torch.from_numpy(masks.astype(np.float32))[None]
    return F.interpolate(dense, shape, mode="bilinear", align_corners=False)[0] > 0.5


@PROPERTY
@given(st.integers(0, 10**6), st.sampled_from(SHAPES), st.integers(0, 6))
def test_every_cell_equals_the_resized_mask(seed: int, sizes: tuple[Size, Size], count: int) -> None:
    size, shape = sizes
    dense = blobs(seed, size, count)
    parts = [Masks.from_dense(dense[: count // 2], size), Masks.from_dense(dense[count // 2 :], size)]
    cells = MaskCells(parts, torch.device("cpu"))
    assert len(cells) == count
    which, y, x = (v.flatten() for v in torch.meshgrid(*(torch.arange(n) for n in (count, *shape)), indexing="ij"))
    found = cells.at(which, y, x, shape, size).view(count, *shape)
    expected = resized(dense, shape)
    assert torch.equal(found, expected)
    extents = cells.extents(shape, size)
    held = extents.hold(which, y, x).view(count, *shape)
    assert not (expected & ~held).any()


@pytest.mark.parametrize(("size", "shape"), SHAPES)
def test_extents_are_tight(size: Size, shape: Size) -> None:
    """At most one row or column more on each side than the mask fills: those whose middle lies just on its edge."""
    dense = np.zeros((1, *size), np.bool_)
    dense[0, size[0] // 4 : size[0] // 4 + max(1, size[0] // 2), size[1] // 3 :] = True
    extent = MaskCells([Masks.from_dense(dense)], torch.device("cpu")).extents(shape, size)
    true = resized(dense, shape)[0]
    down, across = int(true.any(dim=1).sum()), int(true.any(dim=0).sum())
    height, width = (extent.end - extent.first)[0].tolist()
    assert down <= height <= down + 2
    assert across <= width <= across + 2


def test_masks_of_the_image_lie_in_the_padded_input() -> None:
    """Padding is on the right and below; its pixels belong to nothing, and the scale is the input's."""
    dense = np.ones((1, 10, 12), np.bool_)
    cells = MaskCells([Masks.from_dense(dense)], torch.device("cpu"))
    padded = np.zeros((1, 16, 16), np.bool_)
    padded[:, :10, :12] = dense
    y, x = (v.flatten() for v in torch.meshgrid(torch.arange(8), torch.arange(8), indexing="ij"))
    found = cells.at(torch.zeros_like(y), y, x, (8, 8), (16, 16)).view(1, 8, 8)
    assert torch.equal(found, resized(padded, (8, 8)))


@PROPERTY
@given(
    st.lists(st.tuples(*[st.floats(-40, 60, width=32)] * 4), max_size=5),
    st.sampled_from(SHAPES),
    st.sampled_from([0.0, 0.5, 1.0, 3.0]),
)
def test_windows_are_those_of_the_prototypes(
    rows: list[tuple[float, ...]], sizes: tuple[Size, Size], margin: float
) -> None:
    size, shape = sizes
    boxes = torch.tensor(rows, dtype=torch.float32).reshape(-1, 4)
    rectangles = Rectangles.around(boxes, shape, size, margin)
    dense = torch.zeros(len(boxes), *shape, dtype=torch.bool)
    which, y, x = rectangles.cells()
    dense[which, y, x] = True
    assert torch.equal(dense, prototype_ops.window(boxes, shape, size, margin))
    assert torch.equal(rectangles.areas, dense.sum(dim=(1, 2)))
    assert len(which) == int(dense.sum())
    assert bool(rectangles.hold(which, y, x).all())


def test_the_union_of_rectangles() -> None:
    a = Rectangles(*torch.tensor([[[0, 0], [2, 2], [5, 5]], [[3, 3], [4, 4], [5, 9]]]))
    b = Rectangles(*torch.tensor([[[1, 5], [9, 9], [1, 1]], [[2, 6], [9, 9], [2, 2]]]))
    both = a | b
    assert torch.cat([both.first, both.end], 1).tolist() == [
        [0, 0, 3, 6],
        [2, 2, 4, 4],  # the other is empty
        [1, 1, 2, 2],  # the first is empty
    ]
    swapped = b | a
    assert torch.equal(swapped.areas, both.areas)
    assert torch.equal(both[torch.tensor([2, 0])].areas, both.areas[[2, 0]])
