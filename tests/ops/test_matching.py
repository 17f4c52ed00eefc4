"""Matching against plain loops and torchvision's matcher; sampling by its counts and its generator."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.reference import matching as twin
from torchvision.models.detection._utils import Matcher
from torchvision.ops import box_iou

from maskwright.ops.matching import BACKGROUND, IGNORED, ignore_crowds, match, sample

PROPERTY = settings(max_examples=50, deadline=None)


@st.composite
def boxes(draw: st.DrawFn, most: int = 7) -> list[list[float]]:
    """On a coarse grid, so that ties are common."""
    corner, side = st.integers(0, 6), st.integers(1, 4)
    rows = draw(st.lists(st.tuples(corner, corner, side, side), max_size=most))
    return [[x, y, x + w, y + h] for x, y, w, h in rows]


def tensor(rows: list[list[float]]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64).reshape(-1, 4)


@PROPERTY
@given(boxes(), boxes(12), st.sampled_from([(0.3, 0.7), (0.5, 0.5)]), st.booleans())
def test_equal_to_the_twin(
    truth: list[list[float]], candidates: list[list[float]], limits: tuple[float, float], keep_best: bool
) -> None:
    low, high = limits
    matches, best = match(tensor(truth), tensor(candidates), low=low, high=high, keep_best=keep_best)
    assert matches.tolist() == twin.match(truth, candidates, low, high, keep_best)
    assert best.dtype == matches.dtype == torch.int64
    if truth:
        assert all(b == m for b, m in zip(best.tolist(), matches.tolist(), strict=True) if m >= 0)
    else:
        assert best.tolist() == [0] * len(candidates)


@pytest.mark.parametrize(("low", "high", "keep_best"), [(0.3, 0.7, True), (0.5, 0.5, False), (0.1, 0.4, True)])
def test_equal_to_torchvision(low: float, high: float, keep_best: bool) -> None:
    generator = torch.Generator().manual_seed(3)
    corner = torch.rand(400, 2, generator=generator) * 60
    candidates = torch.cat([corner, corner + 4 + torch.rand(400, 2, generator=generator) * 30], 1).round()
    truth = candidates[torch.randperm(400, generator=generator)[:9]] + 1
    theirs = Matcher(high, low, allow_low_quality_matches=keep_best)(box_iou(truth, candidates))
    ours, best = match(truth, candidates, low=low, high=high, keep_best=keep_best)
    assert torch.equal(ours, theirs)
    assert torch.equal(best, box_iou(truth, candidates).argmax(0))
    assert {-2, -1} <= set(ours.tolist()) or low == high


def test_forced_candidates_are_matched_to_their_own_best_ground_truth() -> None:
    """Both candidates tie as the best of truth 1, and one of them overlaps truth 0 more."""
    truth = tensor([[0, 0, 10, 10], [8, 0, 12, 10]])
    candidates = tensor([[0, 0, 10, 10], [10, 0, 12, 20], [40, 40, 41, 41]])
    matches, _ = match(truth, candidates, low=0.3, high=0.7, keep_best=True)
    assert matches.tolist() == twin.match(truth.tolist(), candidates.tolist(), 0.3, 0.7, True)
    tied = tensor([[5, 0, 15, 10], [5, 0, 15, 10]])
    assert match(tensor([[0, 0, 10, 10]]), tied, low=0.35, high=0.7, keep_best=True)[0].tolist() == [0, 0]
    assert match(tensor([[0, 0, 10, 10]]), tied, low=0.35, high=0.7, keep_best=False)[0].tolist() == [BACKGROUND] * 2


def test_a_ground_truth_without_overlap_makes_no_candidate_foreground() -> None:
    """An empty box overlaps nothing: its best overlap, 0, is not one."""
    candidates = tensor([[0, 0, 10, 10], [20, 20, 30, 30], [5, 5, 6, 6]])
    for truth in (tensor([[3, 3, 3, 8]]), tensor([[90, 90, 95, 95]])):
        matches, _ = match(truth, candidates, low=0.3, high=0.7, keep_best=True)
        assert matches.tolist() == [BACKGROUND] * 3


def test_no_ground_truth_and_no_candidates() -> None:
    some, none = tensor([[0, 0, 4, 4], [1, 1, 3, 3]]), tensor([])
    matches, best = match(none, some, low=0.3, high=0.7, keep_best=True)
    assert (matches.tolist(), best.tolist()) == ([BACKGROUND] * 2, [0, 0])
    for truth in (some, none):
        matches, best = match(truth, none, low=0.3, high=0.7, keep_best=False)
        assert (matches.tolist(), best.tolist()) == ([], [])


@PROPERTY
@given(boxes(4), boxes(12), boxes(3), st.sampled_from([0.5, 0.9]))
def test_crowds_equal_the_twin(
    truth: list[list[float]], candidates: list[list[float]], crowds: list[list[float]], share: float
) -> None:
    matches, _ = match(tensor(truth), tensor(candidates), low=0.5, high=0.5, keep_best=False)
    ignored = ignore_crowds(matches, tensor(candidates), tensor(crowds), share)
    assert ignored.tolist() == twin.ignore_crowds(matches.tolist(), candidates, crowds, share)


def test_a_candidate_without_area_lies_in_no_crowd() -> None:
    candidates, crowd = torch.tensor([[90.0, 90, 90, 95], [2, 2, 2, 4], [2, 2, 4, 4]]), torch.tensor([[0.0, 0, 10, 10]])
    background = torch.full((3,), BACKGROUND)
    assert ignore_crowds(background, candidates, crowd).tolist() == [BACKGROUND, BACKGROUND, IGNORED]


def test_crowds_do_not_change_foreground_matches() -> None:
    candidates = tensor([[0, 0, 4, 4], [1, 1, 3, 3], [20, 20, 24, 24]])
    ignored = ignore_crowds(torch.tensor([0, -1, -1]), candidates, tensor([[0, 0, 10, 10]]))
    assert ignored.tolist() == [0, IGNORED, BACKGROUND]


@PROPERTY
@given(st.lists(st.integers(-2, 3), max_size=60), st.integers(0, 40), st.floats(0, 1), st.integers(0, 2**31))
def test_sample_counts(matches: list[int], count: int, foreground: float, seed: int) -> None:
    rows = torch.tensor(matches, dtype=torch.int64)
    positive, negative = sample(rows, count, foreground, torch.Generator().manual_seed(seed))
    objects, background = sum(m >= 0 for m in matches), matches.count(BACKGROUND)
    assert len(positive) == min(objects, int(count * foreground))
    assert len(negative) == min(background, count - len(positive))
    assert bool((rows[positive] >= 0).all())
    assert bool((rows[negative] == BACKGROUND).all())
    assert len(set(positive.tolist())) == len(positive)
    assert len(set(negative.tolist())) == len(negative)


def test_sample_follows_its_generator() -> None:
    rows = torch.tensor([0, -1] * 200)

    def draw(seed: int) -> list[int]:
        return torch.cat(sample(rows, 40, 0.5, torch.Generator().manual_seed(seed))).tolist()

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)
    torch.manual_seed(7)
    first = torch.cat(sample(rows, 40, 0.5))
    torch.manual_seed(7)
    assert torch.equal(first, torch.cat(sample(rows, 40, 0.5)))


def test_sample_reaches_every_row() -> None:
    generator, rows = torch.Generator().manual_seed(0), torch.tensor([0] * 10 + [-1] * 10)
    seen = {i for _ in range(60) for i in torch.cat(sample(rows, 6, 0.5, generator)).tolist()}
    assert seen == set(range(20))
