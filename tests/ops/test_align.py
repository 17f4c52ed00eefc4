"""Parts of an image found again: affine maps are recovered, exactly where nothing moved."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.ops.test_block_motion import texture

from maskwright.ops.align import align, nearest_start, sampled

pytestmark = pytest.mark.usefixtures("one_thread")

IMAGE = texture(90, 120)


def points(x0: float, y0: float, x1: float, y1: float) -> torch.Tensor:
    x, y = torch.linspace(x0, x1, 24), torch.linspace(y0, y1, 24)
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=2).reshape(1, -1, 2)


def seen_after(move: torch.Tensor) -> torch.Tensor:
    """The image after every point moved by a map (2, 3)."""
    whole = torch.cat([move, torch.tensor([[0.0, 0.0, 1.0]])])
    back = torch.linalg.inv(whole)[:2]
    x, y = torch.arange(120) + 0.5, torch.arange(90) + 0.5
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=2)
    return sampled(IMAGE, grid @ back[:, :2].T + back[:, 2])


STILL = torch.eye(3)[None, :2]


@settings(max_examples=20, deadline=None)
@given(
    shift=st.tuples(st.floats(-1.5, 1.5), st.floats(-1.5, 1.5)),
    linear=st.tuples(*[st.floats(-0.04, 0.04)] * 4),
    brighter=st.floats(-8, 8),
)
def test_an_affine_map_is_recovered(
    shift: tuple[float, float], linear: tuple[float, float, float, float], brighter: float
) -> None:
    part, middle = points(40, 30, 80, 60), torch.tensor([60.0, 45.0])
    turn = torch.eye(2) + torch.tensor(linear).view(2, 2)
    move = torch.cat([turn, (middle + torch.tensor(shift) - turn @ middle)[:, None]], dim=1)
    maps, rest = align(IMAGE, seen_after(move) + brighter, part, torch.ones(1, part.shape[1]), STILL)
    wanted = part @ move[:, :2].T + move[:, 2]
    error = (part @ maps[0, :, :2].T + maps[0, :, 2] - wanted).norm(dim=2)
    assert error.mean() < 0.15
    assert rest[0] < 3


def test_what_does_not_move_stays_exactly() -> None:
    part = points(40, 30, 80, 60)
    maps, rest = align(IMAGE, IMAGE, part, torch.ones(1, part.shape[1]), STILL)
    assert torch.equal(maps, STILL)
    assert rest[0] == 0


def test_something_in_front_counts_little() -> None:
    part = points(40, 30, 80, 60)
    move = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, -0.5]])
    now = seen_after(move)
    now[25:40, 35:60] = 0.0
    maps, _ = align(IMAGE, now, part, torch.ones(1, part.shape[1]), STILL)
    assert (maps[0, :, 2] + maps[0, :, :2] @ torch.tensor([60.0, 45.0]) - torch.tensor([61.0, 44.5])).norm() < 0.2


def test_parts_do_not_depend_on_each_other() -> None:
    parts = torch.cat([points(10, 10, 40, 40), points(60, 30, 100, 70)])
    now, weights = seen_after(torch.tensor([[1.0, 0.0, 1.2], [0.0, 1.0, 0.6]])), torch.ones(2, parts.shape[1])
    together, rest = align(IMAGE, now, parts, weights, STILL.expand(2, 2, 3))
    for i in range(2):
        alone, own = align(IMAGE, now, parts[i : i + 1], weights[:1], STILL)
        torch.testing.assert_close(together[i], alone[0], rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(rest[i], own[0], rtol=1e-3, atol=1e-3)


def test_a_start_is_searched_around_several() -> None:
    part = points(40, 30, 80, 60)
    now, weights = seen_after(torch.tensor([[1.0, 0.0, 10.0], [0.0, 1.0, -4.0]])), torch.ones(1, part.shape[1])
    far, near = STILL + 0, STILL + 0
    far[..., 2], near[..., 2] = torch.tensor([-20.0, 20.0]), torch.tensor([6.0, 0.0])
    assert torch.equal(
        nearest_start(IMAGE, now, part, weights, torch.stack([far, near]))[0, :, 2], torch.tensor([10.0, -4.0])
    )
    assert torch.equal(nearest_start(IMAGE, IMAGE, part, weights, STILL[None]), STILL)
