"""Loss terms against their formulas; nothing to learn from gives a zero that still has a gradient."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maskwright.ops import losses

values = st.lists(st.floats(-5, 5, width=32), min_size=1, max_size=8)


@settings(max_examples=50, deadline=None)
@given(values, st.sampled_from([0.0, 1 / 9, 1.0]))
def test_smooth_l1_is_its_formula(differences: list[float], beta: float) -> None:
    found = losses.smooth_l1_sum(torch.tensor(differences), torch.zeros(len(differences)), beta)
    expected = sum(0.5 * d * d / beta if abs(d) < beta else abs(d) - beta / 2 for d in differences)
    assert float(found) == pytest.approx(expected, rel=1e-5, abs=1e-6)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_binary_terms_are_their_formula() -> None:
    logits, wanted = [0.3, -2.0, 4.0], [1.0, 0.0, 0.25]
    terms = [
        -t * math.log(sigmoid(x)) - (1 - t) * math.log(1 - sigmoid(x)) for x, t in zip(logits, wanted, strict=True)
    ]
    masks = torch.tensor(logits).view(1, 1, 3), torch.tensor(wanted).view(1, 1, 3)
    assert float(losses.mask_bce_sum(*masks)) == pytest.approx(sum(terms))
    labels = torch.tensor([1, 0, 0])
    terms = [-math.log(sigmoid(0.3)), -math.log(1 - sigmoid(-2.0)), -math.log(1 - sigmoid(4.0))]
    assert float(losses.objectness_bce_sum(torch.tensor(logits), labels)) == pytest.approx(sum(terms))


def test_class_term_is_its_formula() -> None:
    logits = torch.tensor([[1.0, 2.0, 0.5], [0.0, 0.0, 3.0]])
    expected = [-math.log(math.exp(2) / sum(map(math.exp, (1, 2, 0.5)))), -math.log(1 / (2 + math.exp(3)))]
    assert float(losses.class_cross_entropy_sum(logits, torch.tensor([1, 0]))) == pytest.approx(sum(expected))


def test_losses_of_no_rows_are_zero_with_a_gradient() -> None:
    rows = torch.zeros(0, 28, 28, requires_grad=True)
    flat = torch.zeros(0, 4, requires_grad=True)
    for loss in (
        losses.mask_bce_sum(rows, torch.zeros(0, 28, 28)),
        losses.class_cross_entropy_sum(flat, torch.zeros(0, dtype=torch.int64)),
        losses.smooth_l1_sum(flat, torch.zeros(0, 4), 0.0),
        losses.smooth_l1_sum(flat, torch.zeros(0, 4), 1.0),
        losses.objectness_bce_sum(flat[:, 0], torch.zeros(0)),
    ):
        assert loss.item() == 0
        loss.backward()


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_is_summed_in_float32(kind: torch.dtype) -> None:
    many = torch.full((5000,), 1.0, dtype=kind)
    assert float(losses.smooth_l1_sum(many, torch.zeros(5000), 0.0)) == 5000
    assert losses.mask_bce_sum(many.view(1, 50, 100), torch.ones(1, 50, 100)).dtype == torch.float32
    assert (
        losses.class_cross_entropy_sum(many.view(1000, 5), torch.zeros(1000, dtype=torch.int64)).dtype == torch.float32
    )


def test_parts_of_a_term_add_up_before_they_are_divided() -> None:
    term = losses.Term(torch.tensor(6.0), 4)
    assert float(term.mean()) == 1.5
    assert float(losses.Term(torch.tensor(0.0), 0).mean()) == 0
