"""Box arithmetic against plain floats and torchvision, and the offset code there and back."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.reference import boxes as twin
from torchvision.models.detection._utils import BoxCoder
from torchvision.ops import box_area, box_iou, clip_boxes_to_image

from maskwright.ops import boxes as ops

PROPERTY = settings(max_examples=50, deadline=None)
number = st.floats(-200, 200, width=32)
side = st.floats(0.25, 300, width=32)
RCNN = (10.0, 10.0, 5.0, 5.0)


@st.composite
def box(draw: st.DrawFn, smallest: float = 0.25) -> list[float]:
    x, y = draw(number), draw(number)
    return [x, y, x + smallest + draw(side), y + smallest + draw(side)]


def random_boxes(count: int, seed: int, low: float = 1.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * 200 - 50
    return torch.cat([corner, corner + low + torch.rand(count, 2, generator=generator) * 80], 1)


@PROPERTY
@given(st.lists(box(), max_size=6), st.lists(box(), max_size=6))
def test_iou_and_intersection_equal_the_twin(a: list[list[float]], b: list[list[float]]) -> None:
    first, second = (torch.tensor(v, dtype=torch.float64).reshape(-1, 4) for v in (a, b))
    overlap = ops.iou(first, second)
    assert overlap.shape == (len(a), len(b))
    for i in range(len(a)):
        assert ops.area(first)[i] == pytest.approx(twin.area(a[i]))
        for j in range(len(b)):
            assert float(overlap[i, j]) == pytest.approx(twin.iou(a[i], b[j]), abs=1e-12)


def test_matched_iou_is_the_diagonal_of_the_table() -> None:
    a, b = random_boxes(50, 5), random_boxes(50, 6)
    torch.testing.assert_close(ops.matched_iou(a, b), ops.iou(a, b).diagonal(), rtol=0, atol=0)
    empty = torch.tensor([[3.0, 3, 3, 9]])
    assert ops.matched_iou(empty, empty).tolist() == [0]
    assert ops.matched_iou(torch.tensor([[0.0, 0, 1, 1]]), torch.tensor([[2.0, 2, 3, 3]])).tolist() == [0]


def test_iou_and_area_equal_torchvision() -> None:
    a, b = random_boxes(200, 0), random_boxes(150, 1)
    torch.testing.assert_close(ops.iou(a, b), box_iou(a, b), rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(ops.area(a), box_area(a))


def test_the_iou_of_empty_boxes_is_zero() -> None:
    boxes = torch.tensor([[5.0, 5, 5, 5], [5, 5, 5, 9], [0, 0, 10, 10], [7, 3, 3, 7]])  # point, line, box, inside out
    overlap = ops.iou(boxes, boxes)
    assert torch.equal(overlap, torch.diag(torch.tensor([0.0, 0, 1, 0])))
    assert ops.iou(boxes[:0], boxes).shape == (0, 4)
    assert ops.iou(boxes, boxes[:0]).shape == (4, 0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.uint8, torch.int8, torch.int16, torch.int64])
def test_narrow_types_neither_overflow_nor_wrap(dtype: torch.dtype) -> None:
    """Areas of 14,400 and 7,200; float16 ends at 65,504, with 300 pixels below."""
    boxes = torch.tensor([[0, 0, 120, 120], [0, 0, 120, 60]]).to(dtype)
    assert ops.area(boxes).tolist() == [14400, 7200]
    assert ops.iou(boxes, boxes).tolist() == [[1, 0.5], [0.5, 1]]
    assert ops.matched_iou(boxes, boxes.flip(0)).tolist() == [0.5, 0.5]
    wide = torch.tensor([[0.0, 0, 300, 300]], dtype=torch.float16)
    assert (ops.iou(wide, wide).item(), ops.area(wide).item()) == (1, 90_000)


def test_touching_boxes_do_not_overlap() -> None:
    a, b = torch.tensor([[0.0, 0, 4, 4]]), torch.tensor([[4.0, 0, 8, 4], [0, 4, 4, 8], [2, 2, 6, 6]])
    assert ops.iou(a, b)[0].tolist() == pytest.approx([0, 0, 4 / 28])


@PROPERTY
@given(st.lists(box(), max_size=5), st.tuples(st.integers(1, 150), st.integers(1, 150)))
def test_clip_equals_the_twin_and_torchvision(rows: list[list[float]], size: tuple[int, int]) -> None:
    boxes = torch.tensor(rows, dtype=torch.float32).reshape(-1, 4)
    clipped = ops.clip(boxes, size)
    assert clipped.tolist() == [twin.clip(row, size) for row in boxes.tolist()]
    assert torch.equal(clipped, clip_boxes_to_image(boxes, size))
    assert torch.equal(ops.clip(clipped, size), clipped)


def test_clip_takes_any_leading_shape() -> None:
    boxes = random_boxes(12, 3)
    assert torch.equal(ops.clip(boxes.view(3, 4, 4), (60, 70)), ops.clip(boxes, (60, 70)).view(3, 4, 4))


@pytest.mark.parametrize(
    ("shortest", "kept"),
    [(0.0, [True, True, True, False, False, False]), (1.0, [False, True, True, False, False, False])],
)
def test_sides_at_least(shortest: float, kept: list[bool]) -> None:
    boxes = torch.tensor(
        [[0.0, 0, 0.5, 9], [0, 0, 1, 1], [2, 2, 9, 8], [3, 3, 3, 9], [3, 3, 9, 3], [5, 0, 4, 9]], dtype=torch.float32
    )
    assert ops.sides_at_least(boxes, shortest).tolist() == kept
    assert ops.sides_at_least(boxes[:0], shortest).tolist() == []


@PROPERTY
@given(box(), box(), st.sampled_from([(1.0, 1.0, 1.0, 1.0), RCNN]))
def test_encode_equals_the_twin_and_decode_inverts_it(a: list[float], b: list[float], weights: ops.Weights) -> None:
    truth, anchor = torch.tensor([a], dtype=torch.float64), torch.tensor([b], dtype=torch.float64)
    deltas = ops.encode(truth, anchor, weights)
    assert deltas[0].tolist() == pytest.approx(twin.encode(a, b, weights), rel=1e-9, abs=1e-9)
    back = ops.decode(deltas, anchor, weights)
    assert back[0].tolist() == pytest.approx(twin.decode(deltas[0].tolist(), b, weights), rel=1e-9, abs=1e-9)
    limit = 1000 / 16
    if a[2] - a[0] < limit * (b[2] - b[0]) and a[3] - a[1] < limit * (b[3] - b[1]):
        assert back[0].tolist() == pytest.approx(a, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0, 1.0), RCNN])
def test_encode_and_decode_equal_torchvision(weights: ops.Weights) -> None:
    truth, anchors = random_boxes(300, 4), random_boxes(300, 5)
    coder = BoxCoder(weights)
    torch.testing.assert_close(ops.encode(truth, anchors, weights), coder.encode_single(truth, anchors))
    deltas = torch.randn(300, 4, generator=torch.Generator().manual_seed(6)) * 8
    torch.testing.assert_close(ops.decode(deltas, anchors, weights), coder.decode_single(deltas, anchors)[:, :4])


def test_extreme_offsets_stay_finite_and_half_precision_is_computed_in_float32() -> None:
    anchor = torch.tensor([[0.0, 0, 16, 16]])
    wild = torch.tensor([[0.0, 0.0, 1e4, 1e4]])
    decoded = ops.decode(wild, anchor)
    assert (decoded[0, 2:] - decoded[0, :2]).tolist() == pytest.approx([1000, 1000], rel=1e-5)
    half = ops.decode(torch.tensor([[0.5, 0.5, 0.1, 0.1]], dtype=torch.bfloat16), anchor)
    assert half.dtype == torch.float32
    assert ops.decode(wild[:0], anchor[:0]).shape == (0, 4)
