"""Matching of priors against a loop over lists, and what must hold of every object."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.reference import prior_matching as twin
from torch import Tensor

from maskwright.ops import boxes as box_ops
from maskwright.ops import prior_matching
from maskwright.ops.anchors import cell_anchors, level_priors
from maskwright.ops.matching import BACKGROUND, IGNORED
from maskwright.ops.prior_matching import leave_out_crowds, match_priors

PROPERTY = settings(max_examples=50, deadline=None)


@st.composite
def boxes(draw: st.DrawFn, most: int = 7) -> list[list[float]]:
    """On a coarse grid, so that ties are common."""
    corner, side = st.integers(0, 6), st.integers(1, 4)
    rows = draw(st.lists(st.tuples(corner, corner, side, side), max_size=most))
    return [[x, y, x + w, y + h] for x, y, w, h in rows]


def tensor(rows: list[list[float]]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64).reshape(-1, 4)


def grid(side: int = 128) -> Tensor:
    """Priors of three levels, each with three shapes."""
    levels = ((12.0, side // 4), (24.0, side // 8), (48.0, side // 16))
    cells = (cell_anchors([s], [1, 2, 0.5]) for s, _ in levels)
    return torch.cat([level_priors(cell, (n, n), (side, side)) for cell, (_, n) in zip(cells, levels, strict=True)])


@PROPERTY
@given(boxes(9), boxes(14), st.sampled_from([(0.3, 0.7), (0.5, 0.5), (0.4, 0.5)]), st.booleans())
def test_equal_to_the_twin(
    truth: list[list[float]], priors: list[list[float]], limits: tuple[float, float], chunked: bool
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        if chunked:
            patch.setattr(prior_matching, "CHUNK", 2 * max(1, len(priors)))
        found = match_priors(tensor(truth), tensor(priors), low=limits[0], high=limits[1])
    assert found.dtype == torch.int64
    assert found.tolist() == twin.match_priors(truth, priors, *limits)


@PROPERTY
@given(st.integers(0, 10**6), st.integers(1, 12), st.floats(1, 30))
def test_crowded_objects_equal_the_twin(seed: int, count: int, side: float) -> None:
    """Chains of conflicts: who is pushed off a prior may push off another."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator, dtype=torch.float64) * 6
    truth = torch.cat([corner, corner + 1 + torch.rand(count, 2, generator=generator, dtype=torch.float64) * side], 1)
    priors = grid(16).double()
    found = match_priors(truth, priors, low=0.4, high=0.5)
    assert found.tolist() == twin.match_priors(truth.tolist(), priors.tolist(), 0.4, 0.5)


def test_an_object_that_loses_its_prior_displaces_a_third_one() -> None:
    """Object 1 loses prior 0, takes prior 1 from object 2 though that is 2's best; 2 is left with prior 2."""
    priors = tensor([[0, 0, 10, 10], [2, 0, 12, 10], [6, 0, 16, 10]])
    truth = tensor([[0, 0, 10, 10], [1, 0, 11, 10.5], [3, 0, 14, 10]])
    assert match_priors(truth, priors, low=0.99, high=0.99).tolist() == [0, 1, 2]
    assert twin.match_priors(truth.tolist(), priors.tolist(), 0.99, 0.99) == [0, 1, 2]


@pytest.mark.parametrize("count", [1, 60, 500])
@pytest.mark.parametrize("side", [1.5, 20.0])
def test_every_object_gets_a_prior(count: int, side: float) -> None:
    generator, priors = torch.Generator().manual_seed(count), grid()
    corner = torch.rand(count, 2, generator=generator) * (128 - side)
    found = match_priors(torch.cat([corner, corner + side], 1), priors, low=0.4, high=0.5)
    assert set(found[found >= 0].tolist()) == set(range(count))


def test_equal_objects_get_different_priors() -> None:
    priors = grid(64)
    truth = torch.tensor([[20.0, 20, 40, 40]]).repeat(40, 1)
    found = match_priors(truth, priors, low=0.4, high=0.5)
    overlap = box_ops.iou(truth[:1], priors)[0]
    assert sorted(found[found >= 0].unique().tolist()) == list(range(40))
    best = overlap.argsort(descending=True, stable=True)[:40]
    assert found[best].tolist() == list(range(40))  # the earlier object has the better prior
    rest = torch.ones(len(priors), dtype=torch.bool)
    rest[best] = False
    assert bool((found[rest & (overlap >= 0.5)] == 0).all())


def test_more_objects_than_priors() -> None:
    """Each prior goes to the object that fits it best; the others have none, and nothing is an error."""
    priors, truth = (
        tensor([[0, 0, 4, 4], [4, 0, 8, 4]]),
        tensor([[0, 0, 4, 4], [0, 0, 4, 3], [3, 0, 8, 4], [0, 0, 3, 3]]),
    )
    assert match_priors(truth, priors, low=0.4, high=0.5).tolist() == [0, 2]


@pytest.mark.parametrize(
    "box",
    [
        [3.0, 3, 3, 8],
        [3, 3, 3, 3],
        [8, 8, 3, 3],
        [3, 3, 3.001, 8],
        [900, 900, 910, 910],
        [math.nan, 0, 4, 4],
        [0, 0, math.inf, 4],
    ],
)
def test_invalid_and_distant_objects_get_no_prior(box: list[float]) -> None:
    priors = torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 30], [5, 5, 6, 6]])
    assert match_priors(torch.tensor([box]), priors, low=0.4, high=0.5).tolist() == [BACKGROUND] * 3
    good = torch.tensor([box, [20.0, 20, 30, 30]])
    assert match_priors(good, priors, low=0.4, high=0.5).tolist() == [BACKGROUND, 1, BACKGROUND]


def test_priors_between_the_thresholds_are_ignored() -> None:
    priors = tensor([[0, 0, 10, 10], [0, 0, 10, 22], [0, 0, 10, 20], [0, 0, 10, 30]])
    assert match_priors(tensor([[0, 0, 10, 10]]), priors, low=0.4, high=0.5).tolist() == [0, IGNORED, 0, BACKGROUND]


def test_no_objects_and_no_priors() -> None:
    some, none = tensor([[0, 0, 4, 4], [1, 1, 3, 3]]), tensor([])
    assert match_priors(none, some, low=0.4, high=0.5).tolist() == [BACKGROUND] * 2
    assert match_priors(some, none, low=0.4, high=0.5).tolist() == []
    assert match_priors(none, none, low=0.4, high=0.5).tolist() == []
    assert leave_out_crowds(match_priors(none, none, low=0.4, high=0.5), none, some, 0.7).tolist() == []


@PROPERTY
@given(boxes(4), boxes(12), boxes(3), st.sampled_from([0.5, 0.7]))
def test_crowds_equal_the_twin(
    truth: list[list[float]], priors: list[list[float]], crowds: list[list[float]], share: float
) -> None:
    matches = match_priors(tensor(truth), tensor(priors), low=0.4, high=0.5)
    found = leave_out_crowds(matches, tensor(priors), tensor(crowds), share)
    assert found.tolist() == twin.leave_out_crowds(matches.tolist(), priors, crowds, share)


def test_a_prior_with_exactly_the_share_in_a_crowd_is_not_ignored() -> None:
    priors, crowd = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9]]), torch.tensor([[0.0, 0, 20, 7]])
    found = leave_out_crowds(torch.tensor([BACKGROUND, BACKGROUND]), priors, crowd, 0.7)
    assert found.tolist() == [BACKGROUND, IGNORED]
