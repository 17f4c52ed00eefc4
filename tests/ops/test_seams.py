"""Pieces of objects in overlapping tiles: as the slow twin joins them, and what that means for an object."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.reference import seams as twin

from maskwright.ops.seams import Pieces, objects, union
from maskwright.types import Masks

SIZE = (60, 90)
TILES = np.array([(x, y, x + 40, y + 36) for y in (0, 24) for x in (0, 28, 50)])


def disc(x: float, y: float, rx: float, ry: float) -> NDArray[np.bool_]:
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    return np.asarray(((columns - x) / rx) ** 2 + ((rows - y) / ry) ** 2 <= 1)


def pieces_of(shown: list[tuple[int, NDArray[np.bool_], int, float]], with_masks: bool = True) -> Pieces:
    """What tiles show: (tile, shape on the image, label, score)."""
    dense = np.zeros((len(shown), *SIZE), bool)
    for row, (t, shape, _, _) in zip(dense, shown, strict=True):
        x0, y0, x1, y1 = TILES[t]
        row[y0:y1, x0:x1] = shape[y0:y1, x0:x1]
    masks = Masks.from_dense(dense, SIZE)
    tile, labels = (np.array([row[k] for row in shown], np.int64) for k in (0, 2))
    scores = np.array([row[3] for row in shown], np.float32)
    return Pieces(SIZE, TILES, tile, masks.boxes(), scores, labels, masks if with_masks else None, touch=1.0)


@st.composite
def shapes(draw: st.DrawFn) -> list[tuple[int, NDArray[np.bool_], int, float]]:
    """Discs that each tile shows where it has some of them, with errors of a pixel or two."""
    out = []
    for _ in range(draw(st.integers(1, 5))):
        x, y = draw(st.integers(0, 90)), draw(st.integers(0, 60))
        rx, ry, label = draw(st.integers(2, 40)), draw(st.integers(2, 30)), draw(st.integers(0, 1))
        for t, (x0, y0, x1, y1) in enumerate(TILES):
            error = draw(st.integers(-2, 2))
            shape = disc(x + error, y, max(1, rx + error), ry)
            if shape[y0:y1, x0:x1].any() and draw(st.integers(0, 9)):
                out.append((t, shape, label, draw(st.sampled_from([0.5, 0.75, 1.0]))))
    return out


@settings(deadline=None, max_examples=60)
@given(shown=shapes(), with_masks=st.booleans())
def test_pieces_are_joined_as_by_the_slow_twin(
    shown: list[tuple[int, NDArray[np.bool_], int, float]], with_masks: bool
) -> None:
    pieces = pieces_of(shown, with_masks)
    assert sorted(sorted(rows) for rows in objects(pieces)) == twin.objects(pieces)


def test_of_whole_pieces_the_one_farthest_from_seams_stays() -> None:
    shape = disc(33, 15, 4, 4)  # 3 pixels from the right end of the first tile, 1 from the left end of the second
    shown = [(0, shape, 0, 0.5), (1, shape, 0, 0.9)]
    assert objects(pieces_of(shown)) == [[0]]


def test_a_cut_piece_is_dropped_where_another_tile_shows_the_object_whole() -> None:
    shape = disc(38, 14, 8, 8)
    shown = [(0, shape, 0, 0.99), (1, shape, 0, 0.6)]
    assert objects(pieces_of(shown)) == [[1]]


def test_a_cut_piece_that_is_shown_nowhere_else_stays() -> None:
    assert objects(pieces_of([(0, disc(39, 14, 3, 3), 0, 0.9)])) == [[0]]


def test_an_object_over_all_tiles_is_joined() -> None:
    shape = disc(45, 30, 44, 28)
    pieces = pieces_of([(t, shape, 0, 0.9) for t in range(6)])
    (rows,) = objects(pieces)
    assert sorted(rows) == list(range(6))
    assert pieces.masks is not None
    assert np.array_equal(union(pieces.masks, rows).dense()[0], shape)


@pytest.mark.parametrize("with_masks", [True, False])
def test_two_objects_at_a_seam_stay_two(with_masks: bool) -> None:
    above, below = disc(34, 8, 9, 4), disc(34, 17, 9, 4)
    shown = [(t, shape, 0, 0.9) for t in (0, 1) for shape in (above, below)]
    groups = objects(pieces_of(shown, with_masks))
    assert sorted(sorted(rows) for rows in groups) == [[0, 2], [1, 3]]


def test_other_classes_are_not_joined() -> None:
    shape = disc(34, 15, 12, 8)
    assert len(objects(pieces_of([(0, shape, 0, 0.9), (1, shape, 1, 0.9)]))) == 2


def test_no_pieces_are_no_objects() -> None:
    assert objects(pieces_of([])) == []
