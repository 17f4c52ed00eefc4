"""Fast NMS against plain loops: one class, many, all together, and where the first look is not enough."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from maskwright.ops import nms
from maskwright.ops.nms import fast_nms


def rows_of(count: int, classes: int, seed: int) -> tuple[Tensor, Tensor]:
    """Boxes, and scores no two of which are equal."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * 60
    boxes = torch.cat([corner, corner + 5 + torch.rand(count, 2, generator=generator) * 40], 1)
    scores = (1 + torch.randperm(count * classes, generator=generator)).view(count, classes) / (count * classes + 1)
    return boxes, scores


def iou(a: list[float], b: list[float]) -> float:
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    common = max(wide, 0) * max(high, 0)
    return common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common)


def loops(boxes: Tensor, scores: Tensor, threshold: float, before: int, keep: int) -> list[tuple[int, int]]:
    """A row of a class stays unless any better one of the `before` best overlaps it, suppressed itself or not."""
    stays = []
    for label in range(scores.shape[1]):
        order = sorted(range(len(boxes)), key=lambda row: -float(scores[row, label]))[:before]
        for place, row in enumerate(order):
            if all(iou(boxes[row].tolist(), boxes[better].tolist()) <= threshold for better in order[:place]):
                stays.append((float(scores[row, label]), row, label))
    return [(row, label) for _, row, label in sorted(stays, reverse=True)[:keep]]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 25), st.integers(1, 4), st.integers(0, 10**6), st.integers(1, 30), st.sampled_from([1, 2, 4, 40]),
       st.sampled_from([1, 2, 3, 48]))  # fmt: skip
def test_equal_to_loops(count: int, classes: int, seed: int, before: int, keep: int, few: int) -> None:
    """Whatever the number of rows that is looked at first."""
    boxes, scores = rows_of(count, classes, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nms, "FEW", few)
        patch.setattr(nms, "BLOCK", 1 + 100 * (seed % 3))
        row, label, score = fast_nms(boxes, scores, 0.4, before, keep)
    assert len(row) == len(label) == len(score) == keep
    wanted = loops(boxes, scores, 0.4, before, keep)
    assert list(zip(row.tolist(), label.tolist(), strict=True)) == wanted + [(0, 0)] * (keep - len(wanted))
    assert score.tolist() == [float(scores[place]) for place in wanted] + [0.0] * (keep - len(wanted))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(0, 10**6), st.integers(1, 40))
def test_across_classes_every_box_counts_for_its_best(count: int, seed: int, before: int) -> None:
    boxes, scores = rows_of(count, 3, seed)
    row, label, score = fast_nms(boxes, scores, 0.4, before, count, across=True)
    best, which = scores.max(dim=1)
    alive = score > 0
    assert row[alive].tolist() == [r for r, _ in loops(boxes, best[:, None], 0.4, before, count)]
    assert label[alive].tolist() == which[row[alive]].tolist()
    assert torch.equal(score[alive], best[row[alive]])
    assert not label[~alive].any()


def test_a_suppressed_box_still_suppresses() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [4, 0, 14, 10], [8, 0, 18, 10]])
    row, _, score = fast_nms(boxes, torch.tensor([[0.9], [0.8], [0.7]]), 0.4, 200, 100)
    assert row[score > 0].tolist() == [0]


def test_rows_not_looked_at_first_may_be_better(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nms, "FEW", 1)
    boxes = torch.tensor([[0.0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]])
    scores = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]])
    row, label, _ = fast_nms(boxes, scores, 0.5, 200, 2)
    assert (row.tolist(), label.tolist()) == ([0, 1], [0, 0])
