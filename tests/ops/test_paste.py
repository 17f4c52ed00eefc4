"""Pasting inside boxes against pasting on whole images."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.reference import paste as twin

from maskwright.errors import ConfigError
from maskwright.ops.paste import PasteRule, paste

HAIR = 1e-4
RULES: tuple[PasteRule, PasteRule] = ("sampled", "integer")


def draw(seed: int, count: int, size: tuple[int, int], side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Soft masks and boxes that overlap the image, many of them only in part."""
    generator = torch.Generator().manual_seed(seed)
    height, width = size
    probs = torch.rand(count, side, side, generator=generator)
    centre = torch.rand(count, 2, generator=generator) * torch.tensor([width, height])
    half = 0.3 + torch.rand(count, 2, generator=generator) * torch.tensor([width, height]) * 0.8
    return probs, torch.cat([centre - half, centre + half], 1)


def assert_as_dense(found: np.ndarray, values: torch.Tensor, threshold: float) -> None:
    """Equal to the thresholded values, but for pixels a hair from the threshold."""
    expected = (values >= threshold).numpy()
    near = ((values - threshold).abs() < HAIR).numpy()
    assert found.shape == expected.shape
    assert not ((found != expected) & ~near).any()
    assert found.size < 10**5 or near.mean() < 0.01


@settings(max_examples=50, deadline=None)
@given(
    st.integers(0, 10**6), st.tuples(st.integers(1, 60), st.integers(1, 60)), st.sampled_from(RULES),
    st.sampled_from([1, 14, 28]), st.sampled_from([0.5, 0.7]),
)  # fmt: skip
def test_equal_to_the_dense_twin(
    seed: int, size: tuple[int, int], rule: PasteRule, side: int, threshold: float
) -> None:
    probs, boxes = draw(seed, 5, size, side)
    dense = twin.sampled if rule == "sampled" else twin.integer
    assert_as_dense(
        paste(probs, boxes, size, rule=rule, threshold=threshold).dense(), dense(probs, boxes, size), threshold
    )


@pytest.mark.parametrize("rule", RULES)
def test_large_images(rule: PasteRule) -> None:
    probs, boxes = draw(3, 4, (700, 900), 28)
    dense = twin.sampled if rule == "sampled" else twin.integer
    assert_as_dense(
        paste(probs, boxes, (700, 900), rule=rule, threshold=0.5).dense(), dense(probs, boxes, (700, 900)), 0.5
    )


def test_a_full_mask_covers_the_pixels_whose_centres_its_box_holds() -> None:
    boxes = torch.tensor([[3.0, 2.0, 9.0, 6.0], [3.4, 2.4, 9.6, 6.6], [3.6, 2.6, 9.4, 6.4]])
    masks = paste(torch.ones(3, 28, 28), boxes, (20, 20), rule="sampled", threshold=0.5)
    assert masks.boxes().tolist() == [[3, 2, 9, 6], [3, 2, 10, 7], [4, 3, 9, 6]]
    assert masks.areas().tolist() == [24, 35, 15]


@pytest.mark.parametrize("rule", RULES)
def test_boxes_outside_the_image_give_empty_masks(rule: PasteRule) -> None:
    boxes = torch.tensor([[-50.0, -50, -20, -20], [90, 5, 99, 9], [5, 300, 9, 400], [-30, 5, -20, 9]])
    masks = paste(torch.ones(4, 28, 28), boxes, (40, 60), rule=rule, threshold=0.5)
    assert masks.areas().tolist() == [0, 0, 0, 0]
    assert masks.size == (40, 60)


@pytest.mark.parametrize("rule", RULES)
def test_degenerate_boxes_do_not_fail(rule: PasteRule) -> None:
    boxes = torch.tensor([[5.0, 5, 5, 5], [5, 5, 5, 9], [9, 9, 5, 5], [5.5, 5.5, 5.5001, 5.5001]])
    masks = paste(torch.ones(4, 28, 28), boxes, (40, 60), rule=rule, threshold=0.5)
    assert len(masks) == 4
    assert masks.areas().max() <= 5 * 5


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("rule", RULES)
def test_a_box_that_is_not_finite_is_an_error(rule: PasteRule, bad: float) -> None:
    boxes = torch.tensor([[0.0, 0, 4, 4], [0, bad, 4, 4]])
    with pytest.raises(ConfigError, match="row 1 is"):
        paste(torch.ones(2, 4, 4), boxes, (8, 8), rule=rule, threshold=0.5)


@pytest.mark.parametrize("rule", RULES)
def test_one_pixel_images(rule: PasteRule) -> None:
    masks = paste(torch.ones(1, 28, 28), torch.tensor([[0.0, 0, 1, 1]]), (1, 1), rule=rule, threshold=0.5)
    assert masks.dense().tolist() == [[[True]]]
    masks = paste(torch.zeros(1, 28, 28), torch.tensor([[0.0, 0, 1, 1]]), (1, 1), rule=rule, threshold=0.5)
    assert masks.dense().tolist() == [[[False]]]


@pytest.mark.parametrize("rule", RULES)
def test_no_instances_and_half_precision(rule: PasteRule) -> None:
    assert len(paste(torch.zeros(0, 28, 28), torch.zeros(0, 4), (4, 5), rule=rule, threshold=0.5)) == 0
    masks = paste(
        torch.ones(1, 28, 28, dtype=torch.bfloat16), torch.tensor([[1.0, 1, 4, 4]]), (6, 6), rule=rule, threshold=0.5
    )
    assert masks.areas()[0] >= 9


SCRIPT = """
import re, torch
from maskwright.ops.paste import paste
torch.set_num_threads(1)
def peak():  # not ru_maxrss, which begins with what the process that started this one had
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024
generator = torch.Generator().manual_seed(0)
corner = torch.rand(1000, 2, generator=generator) * torch.tensor([5700.0, 3700.0])
boxes = torch.cat([corner, corner + 20 + 280 * torch.rand(1000, 2, generator=generator)], 1)
before = peak()
for rule in ("sampled", "integer"):
    masks = paste(torch.ones(1000, 28, 28), boxes, (4000, 6000), rule=rule, threshold=0.5)
    assert len(masks) == 1000 and masks.areas().min() > 100
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read in Linux's unit")
def test_a_thousand_instances_on_a_large_image_take_little_memory() -> None:
    """Whole images would be 24 GB; the pixels of the objects are some 35 MB."""
    run = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert float(run.stdout) < 300
