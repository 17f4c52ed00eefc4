"""What the pairing of recorded and own rows accepts, and above all what it refuses."""

from dataclasses import replace

import numpy as np
import pytest
from tests.golden.match import Cut, Rows, match

BOX, SCORE = 0.05, 1e-3

RECORDED = Rows(
    np.array([[0, 0, 10, 10], [20, 20, 40, 40], [0, 0, 10, 10], [50, 5, 60, 15], [70, 0, 90, 30]], np.float32),
    np.array([3, 3, 7, 1, 1]),
    np.array([0.9, 0.7, 0.5002, 0.5, 0.3], np.float32),
)


def taken(rows: Rows, *order: int) -> Rows:
    """Those rows in that order, with their scores."""
    which = list(order)
    assert rows.labels is not None
    assert rows.scores is not None
    return Rows(rows.boxes[which], rows.labels[which], rows.scores[which])


def scored(rows: Rows, *scores: float) -> Rows:
    return replace(rows, scores=np.array(scores, np.float32))


def test_equal_rows_are_paired_in_order() -> None:
    pairs = match(RECORDED, RECORDED, box=BOX, score=SCORE)
    assert pairs.recorded.tolist() == pairs.own.tolist() == [0, 1, 2, 3, 4]


def test_rows_within_the_tolerances_are_paired() -> None:
    own = Rows(RECORDED.boxes + 0.04, RECORDED.labels, RECORDED.scores - np.float32(0.0008))
    assert len(match(RECORDED, own, box=BOX, score=SCORE)) == 5


def test_near_equal_scores_may_change_places() -> None:
    own = scored(taken(RECORDED, 0, 1, 3, 2, 4), 0.9, 0.7, 0.5003, 0.5, 0.3)
    pairs = match(RECORDED, own, box=BOX, score=SCORE)
    assert pairs.recorded.tolist() == [0, 1, 2, 3, 4]
    assert pairs.own.tolist() == [0, 1, 3, 2, 4]


def test_different_scores_may_not_change_places() -> None:
    """Also where the own scores were swapped with them, which makes their order fall."""
    swapped = taken(RECORDED, 1, 0, 2, 3, 4)
    with pytest.raises(AssertionError, match="do not fall"):
        match(RECORDED, swapped, box=BOX, score=SCORE)
    with pytest.raises(AssertionError, match=r"recorded rows are missing: \[0, 1\]"):
        match(RECORDED, scored(swapped, 0.9, 0.7, 0.5002, 0.5, 0.3), box=BOX, score=SCORE)


@pytest.mark.parametrize("known", ["recorded", "own"])
def test_the_order_is_checked_where_only_one_side_has_scores(known: str) -> None:
    def pair(own: Rows) -> tuple[Rows, Rows]:
        blind = replace(own, scores=None)
        return (RECORDED, blind) if known == "recorded" else (blind, RECORDED)

    with pytest.raises(AssertionError, match=r"the order differs by 0\.2"):
        match(*pair(taken(RECORDED, 1, 0, 2, 3, 4)), box=BOX, score=SCORE)
    assert len(match(*pair(taken(RECORDED, 0, 1, 3, 2, 4)), box=BOX, score=SCORE)) == 5


def test_without_scores_the_order_is_free() -> None:
    first, second = (replace(taken(RECORDED, *order), scores=None) for order in ((0, 1, 2, 3, 4), (4, 3, 2, 1, 0)))
    assert match(first, second, box=BOX, score=SCORE).own.tolist() == [4, 3, 2, 1, 0]


@pytest.mark.parametrize("row", range(5))
def test_a_missing_row_is_named(row: int) -> None:
    own = taken(RECORDED, *(i for i in range(5) if i != row))
    with pytest.raises(AssertionError, match=rf"recorded rows are missing: \[{row}\]"):
        match(RECORDED, own, box=BOX, score=SCORE)


@pytest.mark.parametrize("row", range(5))
def test_an_extra_row_is_named(row: int) -> None:
    """Even where it is the copy of another."""
    own = taken(RECORDED, *sorted([0, 1, 2, 3, 4, row]))
    with pytest.raises(AssertionError, match="rows were not recorded"):
        match(RECORDED, own, box=BOX, score=SCORE)


@pytest.mark.parametrize("column", range(4))
def test_a_wrong_box_is_refused(column: int) -> None:
    boxes = RECORDED.boxes.copy()
    boxes[3, column] += 0.06
    with pytest.raises(AssertionError, match=r"missing: \[3\]"):
        match(RECORDED, replace(RECORDED, boxes=boxes), box=BOX, score=SCORE)


def test_a_wrong_class_is_refused() -> None:
    assert RECORDED.labels is not None
    with pytest.raises(AssertionError, match=r"missing: \[2\]"):
        match(RECORDED, replace(RECORDED, labels=np.array([3, 3, 3, 1, 1])), box=BOX, score=SCORE)


def test_a_wrong_score_is_refused() -> None:
    with pytest.raises(AssertionError, match=r"missing: \[1\]"):
        match(RECORDED, scored(RECORDED, 0.9, 0.702, 0.5002, 0.5, 0.3), box=BOX, score=SCORE)


def test_the_most_rows_find_a_partner() -> None:
    """Where the nearest partner of one row is the only one of another, each gets one."""
    recorded = Rows(np.array([[0, 0, 10, 10], [0, 0, 10, 10.04]]))
    own = Rows(np.array([[0, 0, 10, 10.03], [0, 0, 10, 10.08]]))
    assert match(recorded, own, box=BOX, score=SCORE).own.tolist() == [0, 1]


def test_a_row_at_the_cut_may_differ() -> None:
    """The last rank: one row here, another there, both within the tolerance of the cut."""
    boxes = RECORDED.boxes.copy()
    boxes[4] = [1, 2, 3, 4]
    own = scored(replace(RECORDED, boxes=boxes), 0.9, 0.7, 0.5002, 0.5, 0.2995)
    with pytest.raises(AssertionError, match=r"missing: \[4\]"):
        match(RECORDED, own, box=BOX, score=SCORE)
    assert match(RECORDED, own, box=BOX, score=SCORE, cut=Cut((0.3,))).own.tolist() == [0, 1, 2, 3]
    for cut in (Cut((0.31,)), Cut((0.3,), rows=0)):
        with pytest.raises(AssertionError, match="missing"):
            match(RECORDED, own, box=BOX, score=SCORE, cut=cut)


def test_a_row_may_be_on_one_side_of_a_threshold_only() -> None:
    cut = Cut((0.25, 0.3005))
    assert len(match(RECORDED, taken(RECORDED, 0, 1, 2, 3), box=BOX, score=SCORE, cut=cut)) == 4
    assert len(match(taken(RECORDED, 0, 1, 2, 3), RECORDED, box=BOX, score=SCORE, cut=cut)) == 4
    with pytest.raises(AssertionError, match=r"missing: \[3\]"):
        match(RECORDED, taken(RECORDED, 0, 1, 2), box=BOX, score=SCORE, cut=cut)


@pytest.mark.parametrize("recorded", [0, 5])
@pytest.mark.parametrize("own", [0, 5])
def test_no_rows_are_rows_too(recorded: int, own: int) -> None:
    first, second = taken(RECORDED, *range(recorded)), taken(RECORDED, *range(own))
    if recorded == own:
        assert len(match(first, second, box=BOX, score=SCORE)) == own
        return
    with pytest.raises(AssertionError):
        match(first, second, box=BOX, score=SCORE)
