"""Instances of several views of an image joined: as the slow twin does it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.reference import views as twin

from maskwright.ops.views import Seen, fused, objects
from maskwright.types import Masks

SIZE = (12, 16)


def seen_of(rows: list[tuple[int, int, float, tuple[int, int, int, int]]], views: int, with_masks: bool = True) -> Seen:
    """Rectangles x0, y0, x1, y1 that views show, with labels and scores."""
    dense = np.zeros((len(rows), *SIZE), bool)
    for mask, (_, _, _, (x0, y0, x1, y1)) in zip(dense, rows, strict=True):
        mask[y0:y1, x0:x1] = True
    masks = Masks.from_dense(dense, SIZE)
    view, labels = (np.array([row[k] for row in rows], np.int64) for k in (0, 1))
    boxes = np.array([row[3] for row in rows], np.float32).reshape(-1, 4)
    scores = np.array([row[2] for row in rows], np.float32)
    return Seen(views, view, boxes, scores, labels, masks if with_masks else None)


rectangles = st.tuples(st.integers(0, 6), st.integers(0, 5), st.integers(2, 9), st.integers(2, 6)).map(
    lambda r: (r[0], r[1], r[0] + r[2], r[1] + r[3])
)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1), rectangles), max_size=9))
@settings(max_examples=200)
def test_equal_to_the_twin(drawn: list[tuple[int, int, tuple[int, int, int, int]]]) -> None:
    rows = [(view, label, 0.95 - 0.0625 * k, where) for k, (view, label, where) in enumerate(drawn)]
    seen = seen_of(rows, 3)
    best, _, scores, masks = fused(seen)
    pixels = [
        frozenset((y, x) for y in range(where[1], where[3]) for x in range(where[0], where[2])) for *_, where in rows
    ]
    twins = twin.fused(
        [
            (view, label, float(np.float32(score)), own)
            for (view, label, score, _), own in zip(rows, pixels, strict=True)
        ],
        3,
    )
    assert masks is not None
    found = [frozenset(map(tuple, np.argwhere(mask).tolist())) for mask in masks.dense()]
    assert seen.labels[best].tolist() == [label for _, label, _ in twins]
    np.testing.assert_allclose(scores, [score for score, _, _ in twins], rtol=1e-6)
    assert found == [own for _, _, own in twins]


def test_an_object_that_all_views_show_keeps_its_score_and_one_of_a_single_view_loses() -> None:
    where = (2, 2, 8, 8)
    seen = seen_of([(0, 0, 0.8, where), (1, 0, 0.6, where), (1, 0, 0.9, (10, 2, 15, 8))], 2)
    best, boxes, scores, masks = fused(seen)
    assert best == [2, 0]
    assert scores.tolist() == pytest.approx([0.45, 0.7])
    np.testing.assert_allclose(boxes, [(10, 2, 15, 8), where])
    assert masks is not None
    assert masks.areas().tolist() == [30, 36]


def test_two_instances_of_one_view_are_two_objects() -> None:
    seen = seen_of([(0, 0, 0.8, (2, 2, 8, 8)), (0, 0, 0.7, (2, 2, 8, 9)), (1, 1, 0.6, (2, 2, 8, 8))], 2)
    assert objects(seen) == [[0], [1], [2]]


@pytest.mark.parametrize("with_masks", [True, False])
def test_nothing(with_masks: bool) -> None:
    best, boxes, scores, masks = fused(seen_of([], 4, with_masks))
    assert (best, boxes.shape, scores.shape) == ([], (0, 4), (0,))
    assert (masks is None) is not with_masks


def test_boxes_alone_are_compared() -> None:
    rows = [(0, 0, 0.8, (2, 2, 8, 8)), (1, 0, 0.4, (2, 2, 8, 10))]
    best, boxes, scores, masks = fused(seen_of(rows, 2, with_masks=False))
    assert (best, masks) == ([0], None)
    np.testing.assert_allclose(boxes, [(2, 2, 8, 8 + 2 / 3)], rtol=1e-5)
    assert scores.tolist() == pytest.approx([0.6])
