"""Suppression against plain loops and torchvision; the forms of fixed length against the free one, and exported."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.reference import nms as twin
from torch import Tensor, nn

from maskwright.ops import nms as nms_module
from maskwright.ops.nms import _limit, batched_nms, fast_nms, greedy_nms_by_class, nms_by_class, nms_by_level

PROPERTY = settings(max_examples=50, deadline=None)


def random_rows(count: int, seed: int, groups: int = 3, low: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes on quarter pixels, distinct scores."""
    generator = torch.Generator().manual_seed(seed)
    corner = low + torch.randint(0, 160, (count, 2), generator=generator) / 4
    boxes = torch.cat([corner, corner + 1 + torch.randint(0, 80, (count, 2), generator=generator) / 4], 1)
    scores = (1 + torch.randperm(count, generator=generator)).float() / (count + 1)
    return boxes, scores, torch.randint(0, groups, (count,), generator=generator)


@PROPERTY
@given(st.integers(0, 40), st.integers(0, 10**6), st.integers(1, 4), st.sampled_from([0.0, -30.0, -60.0]))
def test_equal_to_the_twin(count: int, seed: int, groups: int, low: float) -> None:
    """Also where coordinates are negative."""
    rows = random_rows(count, seed, groups, low)
    assert batched_nms(*rows, 0.5).tolist() == twin.batched_nms(*(r.tolist() for r in rows), 0.5)


def test_equal_to_torchvision() -> None:
    """At a threshold that no IoU of boxes on quarter pixels reaches exactly, where it is right too."""
    boxes, scores, groups = random_rows(3000, 5, 20)
    wanted = torchvision.ops.batched_nms(boxes, scores, groups, 0.40001)
    assert torch.equal(batched_nms(boxes, scores, groups, 0.40001), wanted)
    one = batched_nms(boxes, scores, torch.zeros_like(groups), 0.40001)
    assert torch.equal(one, torchvision.ops.nms(boxes, scores, 0.40001))


def test_shifted_groups_never_meet() -> None:
    """Two boxes that a shift by the largest coordinate would lay on each other."""
    boxes = torch.tensor([[0.0, 0, 10, 10], [-10, -10, 0, 0], [-5, -5, 5, 5]])
    scores, groups = torch.tensor([0.9, 0.8, 0.7]), torch.tensor([0, 1, 2])
    assert batched_nms(boxes, scores, groups, 0.1).tolist() == [0, 1, 2]
    row, alive = nms_by_class(boxes, scores, groups, 0.1, 3)
    assert row[alive].tolist() == [0, 1, 2]


def test_the_threshold_itself_does_not_suppress() -> None:
    boxes, scores = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5]]), torch.tensor([0.9, 0.8])
    zeros = torch.zeros(2, dtype=torch.int64)
    assert batched_nms(boxes, scores, zeros, 0.5).tolist() == [0, 1]
    assert batched_nms(boxes, scores, zeros, 0.49).tolist() == [0]


@pytest.mark.parametrize("label", [0, 79, 4000])
def test_the_number_of_the_class_does_not_matter(label: int) -> None:
    """Shifts in float32 would take the bits of these coordinates: the IoU is 0.50045."""
    boxes = torch.tensor([[435.24588, 1040.7258, 447.24588, 1052.7258], [439.24106, 1040.7258, 451.24106, 1052.7258],
                          [1332.0, 1332.0, 1333.0, 1333.0]])  # fmt: skip
    scores = torch.tensor([0.9, 0.8, 0.7])
    assert batched_nms(boxes, scores, torch.full((3,), label), 0.5).tolist() == [0, 2]


@PROPERTY
@given(st.integers(1, 12), st.integers(0, 10**6), st.sampled_from([1, 80, 5000, 10**9]),
       st.sampled_from([1333, 20_000]), st.sampled_from([0, 1000]))  # fmt: skip
def test_small_boxes_near_the_threshold_equal_the_twin(
    pairs: int, seed: int, groups: int, extent: int, together: int
) -> None:
    """Pairs of 12-pixel boxes whose IoU is within 0.001 of the threshold, anywhere on a large image; whether all groups
    are compared in one call or not."""
    generator = torch.Generator().manual_seed(seed)
    first = torch.rand(pairs, 2, generator=generator) * extent
    moved = first + torch.stack([3.99 + 0.02 * torch.rand(pairs, generator=generator), torch.zeros(pairs)], 1)
    corner = torch.cat([first, moved])
    boxes, scores = torch.cat([corner, corner + 12], 1), torch.rand(2 * pairs, generator=generator)
    rows = boxes, scores, torch.randint(0, groups, (pairs,), generator=generator).repeat(2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nms_module, "TOGETHER", together)
        assert batched_nms(*rows, 0.5).tolist() == twin.batched_nms(*(r.tolist() for r in rows), 0.5)


@PROPERTY
@given(st.integers(1, 9), st.integers(2, 10), st.integers(0, 5000), st.integers(0, 20_000))
def test_an_iou_of_exactly_the_threshold(common: int, union: int, label: int, x: int) -> None:
    """It does not suppress, except in the greedy suppression of YOLACT, by its definition."""
    common = min(common, union - 1)
    boxes = torch.tensor([[x, 0, x + union, 1], [x, 0, x + common, 1]], dtype=torch.float32)
    scores, threshold = torch.tensor([0.9, 0.8]), common / union
    groups = torch.full((2,), label)
    assert batched_nms(boxes, scores, groups, threshold).tolist() == [0, 1]
    assert batched_nms(boxes, scores, groups, threshold, inclusive=True).tolist() == [0]
    row, _, score = fast_nms(boxes, scores[:, None], threshold, 5, 2)
    assert row[score > 0].tolist() == [0, 1]
    ends = boxes - boxes.new_tensor([0.0, 0, 1, 1])
    row, _, score = greedy_nms_by_class(ends, scores[:, None], 0.05, threshold, 2)
    assert row[score > 0].tolist() == [0]
    row, _, score = greedy_nms_by_class(ends, scores[:, None], 0.05, math.nextafter(threshold, 1), 2)
    assert row[score > 0].tolist() == [0, 1]


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("threshold", [0.5, 0.6, 0.7])
def test_the_limit_separates_the_threshold_from_its_neighbours(kind: type[np.floating], threshold: float) -> None:
    """IoU > limit, with a limit of the kernel's own type."""
    strict, inclusive = (_limit(threshold, inclusive, kind) for inclusive in (False, True))
    assert inclusive < threshold <= strict
    assert float(np.nextafter(kind(strict), kind(0))) < threshold <= float(np.nextafter(kind(inclusive), kind(1)))


def test_groups_never_meet_in_half_precision_either() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 10]], dtype=torch.bfloat16)
    scores = torch.tensor([0.5, 0.25], dtype=torch.bfloat16)
    assert batched_nms(boxes, scores, torch.tensor([0, 1]), 0.5).tolist() == [0, 1]
    assert batched_nms(boxes, scores, torch.tensor([1, 1]), 0.5).tolist() == [0]


@PROPERTY
@given(st.integers(0, 40), st.integers(0, 10**6), st.integers(0, 50), st.sampled_from([0.0, -30.0, -60.0]))
def test_fixed_length_makes_the_same_choice(count: int, seed: int, rows: int, low: float) -> None:
    boxes, scores, groups = random_rows(count, seed, low=low)
    row, alive = nms_by_class(boxes, scores, groups, 0.5, rows)
    kept = batched_nms(boxes, scores, groups, 0.5)[:rows]
    assert row.tolist() == kept.tolist() + [0] * (rows - len(kept))
    assert alive.tolist() == [True] * len(kept) + [False] * (rows - len(kept))


@PROPERTY
@given(st.lists(st.integers(0, 15), max_size=4), st.integers(0, 10**6), st.integers(0, 50))
def test_levels_make_the_same_choice(counts: list[int], seed: int, keep: int) -> None:
    """Logits of any sign; rows that are not valid neither stay nor suppress."""
    count = sum(counts)
    boxes, scores, valid = random_rows(count, seed, 2)
    groups = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts, dtype=torch.int64))
    row, alive = nms_by_level(boxes, scores - 0.5, valid.bool(), counts, 0.5, keep)
    rows = torch.nonzero(valid).flatten()
    kept = rows[batched_nms(boxes[rows], scores[rows], groups[rows], 0.5)][:keep]
    assert len(row) == len(alive) == min(keep, count)
    assert row[alive].tolist() == kept.tolist()
    assert row[~alive].tolist() == [0] * (len(row) - len(kept))
    assert alive.tolist() == sorted(alive.tolist(), reverse=True)


def test_rows_of_score_zero_never_survive() -> None:
    boxes, scores, groups = random_rows(30, 1)
    row, alive = nms_by_class(boxes, torch.zeros(30), groups, 0.5, 10)
    assert (row.tolist(), alive.tolist()) == ([0] * 10, [False] * 10)
    scores[::2] = 0
    row, alive = nms_by_class(boxes, scores, groups, 0.5, 30)
    assert row[alive].tolist() == [i for i in batched_nms(boxes, scores, groups, 0.5).tolist() if scores[i] > 0]


def test_no_rows() -> None:
    nothing = torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64)
    assert batched_nms(*nothing, 0.5).tolist() == []
    row, alive = nms_by_class(*nothing, 0.5, 3)
    assert (row.tolist(), alive.tolist()) == ([0] * 3, [False] * 3)
    assert (row.dtype, alive.dtype) == (torch.int64, torch.bool)
    row, alive = nms_by_level(nothing[0], nothing[1], nothing[2].bool(), [0, 0], 0.5, 3)
    assert (row.tolist(), alive.tolist()) == ([], [])
    for row, label, score in (
        fast_nms(nothing[0], torch.zeros(0, 2), 0.5, 5, 3),
        fast_nms(nothing[0], torch.zeros(0, 2), 0.5, 5, 3, across=True),
        fast_nms(random_rows(4, 0)[0], torch.zeros(4, 0), 0.5, 5, 3),
        fast_nms(random_rows(4, 0)[0], torch.zeros(4, 0), 0.5, 5, 3, across=True),
        greedy_nms_by_class(random_rows(4, 0)[0], torch.zeros(4, 0), 0.05, 0.5, 3),
        greedy_nms_by_class(nothing[0], torch.zeros(0, 2), 0.05, 0.5, 3),
    ):
        assert (row.tolist(), label.tolist(), score.tolist()) == ([0] * 3, [0] * 3, [0.0] * 3)


def test_equal_scores_keep_the_earlier_box() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [1, 0, 11, 10], [40, 0, 50, 10]])
    scores, groups = torch.full((3,), 0.5), torch.zeros(3, dtype=torch.int64)
    assert batched_nms(boxes, scores, groups, 0.5).tolist() == [0, 2]
    row, alive = nms_by_class(boxes, scores, groups, 0.5, 3)
    assert row[alive].tolist() == [0, 2]


class Select(nn.Module):
    """What a fixed-shape detector does at its end."""

    def forward(self, boxes: Tensor, scores: Tensor, groups: Tensor) -> tuple[Tensor, Tensor]:
        row, alive = nms_by_class(boxes, scores, groups, 0.5, 12)
        return boxes[row] * alive[:, None], scores[row] * alive


@pytest.mark.filterwarnings("ignore:.create_unbacked_symint. is deprecated:FutureWarning")
@pytest.mark.parametrize("seed", [0, 1])
def test_exported_program_gives_the_same_rows(seed: int) -> None:
    program = torch.export.export(Select(), random_rows(40, 9)).module()
    for given_rows in (
        random_rows(40, seed),
        (*random_rows(40, seed)[:1], torch.zeros(40), *random_rows(40, seed)[2:]),
    ):
        for ours, exported in zip(Select()(*given_rows), program(*given_rows), strict=True):
            assert torch.equal(ours, exported)
            assert ours.shape[0] == 12


# ---- boxes that are no boxes ----------------------------------------------------------------------------------------


def _batched(boxes: Tensor, scores: Tensor) -> list[int]:
    return batched_nms(boxes, scores, torch.zeros(len(boxes), dtype=torch.int64), 0.5).tolist()


def _fast(boxes: Tensor, scores: Tensor) -> list[int]:
    row, _, score = fast_nms(boxes, scores[:, None], 0.5, 4, 4)
    return row[score > 0].tolist()


def _across(boxes: Tensor, scores: Tensor) -> list[int]:
    row, label, score = fast_nms(boxes, torch.stack([scores, scores / 2], 1), 0.5, 4, 4, across=True)
    assert label.tolist() == [0] * len(row)
    return row[score > 0].tolist()


def _exact(boxes: Tensor, scores: Tensor) -> list[int]:
    row, _, score = greedy_nms_by_class(boxes, scores[:, None], 0.05, 0.5, 10)
    return row[score > 0].tolist()


@pytest.mark.parametrize("suppress", [_batched, _fast, _across, _exact])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("side", range(4))
@pytest.mark.parametrize("place", [0, 2, 5])
def test_a_box_that_is_not_finite_falls_and_suppresses_nothing(
    suppress: Callable[[Tensor, Tensor], list[int]], bad: float, side: int, place: int
) -> None:
    """Nor does it take a place among the best rows: the others fare as if it were not there."""
    boxes = torch.tensor([[0.0, 0, 10, 10], [1, 0, 11, 10], [40, 0, 50, 10], [60, 0, 70, 10], [61, 1, 70, 11]])
    scores = torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5])
    assert suppress(boxes, scores) == [0, 2, 3]
    broken = torch.tensor([[3.0, 0, 13, 10]])
    broken[0, side] = bad
    at = min(place, len(boxes))
    score = torch.tensor([0.95 if at == 0 else scores[at - 1] - 0.05])
    more = torch.cat([boxes[:at], broken, boxes[at:]])
    found = suppress(more, torch.cat([scores[:at], score, scores[at:]]))
    assert found == [row + (row >= at) for row in suppress(boxes, scores)]


@pytest.mark.parametrize("suppress", [_batched, _fast, _across, _exact])
def test_no_box_that_is_one(suppress: Callable[[Tensor, Tensor], list[int]]) -> None:
    assert suppress(torch.full((3, 4), float("nan")), torch.tensor([0.9, 0.8, 0.7])) == []
