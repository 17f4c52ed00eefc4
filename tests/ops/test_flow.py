"""Moving a feature map along a flow."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.reference import flow as twin

from maskwright.ops.flow import warp


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 7), st.integers(1, 7), st.floats(0, 5), st.integers(0, 2**31))
def test_it_equals_its_twin(h: int, w: int, far: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(2, 3, h, w, generator=generator)
    flow = far * torch.randn(2, 2, h, w, generator=generator)
    torch.testing.assert_close(warp(features, flow), twin.warp(features, flow), rtol=0, atol=1e-4)


def test_whole_cells_are_taken_as_they_are() -> None:
    features = torch.arange(20.0).view(1, 1, 4, 5)
    flow = torch.tensor([1.0, 2.0]).view(1, 2, 1, 1).expand(1, 2, 4, 5)
    moved = warp(features, flow)
    torch.testing.assert_close(moved[..., :2, :4], features[..., 2:, 1:])
    assert not moved[..., 2:, :].any()


def test_no_images() -> None:
    assert warp(torch.zeros(0, 3, 4, 5), torch.zeros(0, 2, 4, 5)).shape == (0, 3, 4, 5)
