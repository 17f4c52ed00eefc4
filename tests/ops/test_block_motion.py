"""Motion by matching blocks: the search equals its slow twin; whole pixels are found, and fractions."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.reference import block_motion as slow

from maskwright.ops import block_motion as fast
from maskwright.ops.align import sampled

pytestmark = pytest.mark.usefixtures("one_thread")


def texture(height: int, width: int, seed: int = 0) -> torch.Tensor:
    """Soft spots of about twelve pixels, which the coarsest level of the search still shows."""
    noise = torch.rand(1, 1, height // 12 + 2, width // 12 + 2, generator=torch.Generator().manual_seed(seed))
    return 255 * F.interpolate(noise, (height, width), mode="bicubic", align_corners=False)[0, 0].clamp(0, 1)


@settings(max_examples=12, deadline=None)
@given(height=st.integers(4, 14), width=st.integers(4, 14), reach=st.integers(0, 2), seed=st.integers(0, 99))
def test_the_search_is_that_of_the_twin(height: int, width: int, reach: int, seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    now, before = (255 * torch.rand(height, width, generator=g) for _ in range(2))
    start = torch.randint(-3, 4, (*fast.cells(height, width), 2), generator=g).float()
    found = fast.searched(now, before, start, reach)
    least = slow.searched(now.numpy(), before.numpy(), start.numpy(), reach, fast.CELL, fast.PREFER)
    assert (found - start).abs().max() <= reach
    step = (found - start).numpy()
    for i, j in np.ndindex(*least.shape):  # the cost of what was found is the least one, whichever of equal ones it is
        shifted = start.numpy() + step[i, j]
        own = slow.searched(now.numpy(), before.numpy(), shifted, 0, fast.CELL, 0.0)[i, j]
        assert own + fast.PREFER * np.hypot(*step[i, j]) == pytest.approx(least[i, j], abs=1e-3)


@settings(max_examples=20, deadline=None)
@given(dx=st.integers(-15, 15), dy=st.integers(-15, 15), seed=st.integers(0, 99))
def test_a_translation_is_found_exactly(dx: int, dy: int, seed: int) -> None:
    image = texture(140, 180, seed)
    before, now = image[20:-20, 20:-20], image[20 + dy : 120 + dy, 20 + dx : 160 + dx]
    flow, rest = fast.block_motion(now, before)
    error = (flow - torch.tensor([float(dx), float(dy)])).norm(dim=2)[6:-6, 6:-6]  # what came in from outside is near
    assert error.median() < 1e-3
    assert (error < 0.1).float().mean() > 0.8
    assert rest[6:-6, 6:-6].median() < 0.1


def test_fractions_of_a_pixel() -> None:
    image = texture(96, 128)
    x, y = torch.arange(128) + 0.5, torch.arange(96) + 0.5
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=2)
    flow, _ = fast.block_motion(sampled(image, grid + torch.tensor([0.4, -1.7])), image)
    error = (flow - torch.tensor([0.4, -1.7])).norm(dim=2)[2:-2, 2:-2]
    assert error.median() < 0.25  # whole pixels alone would be off by 0.5
    assert (error < 0.5).float().mean() > 0.8


def test_what_does_not_change_does_not_move() -> None:
    flat, image = torch.full((40, 60), 90.0), texture(40, 60)
    for one in (flat, image):
        flow, rest = fast.block_motion(one, one)
        assert flow.abs().max() < 1e-3
        assert rest.max() < 1e-2


def test_a_good_guess_reaches_farther_than_the_search() -> None:
    image = texture(100, 260)
    before, now = image[:, :200], image[:, 60:]
    guess = torch.tensor([60.0, 0.0]).expand(*fast.cells(100, 200), 2)
    flow, _ = fast.block_motion(now, before, guess)
    assert torch.allclose(flow[:, 3:30], guess[:, 3:30], atol=1e-2)


@pytest.mark.parametrize("size", [(1, 1), (3, 50), (23, 7)])
def test_small_images(size: tuple[int, int]) -> None:
    flow, rest = fast.block_motion(torch.rand(size) * 255, torch.rand(size) * 255)
    assert flow.shape[:2] == rest.shape == fast.cells(*size)
    assert flow.isfinite().all()
