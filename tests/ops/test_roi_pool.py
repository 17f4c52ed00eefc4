"""RoIPool against torchvision's kernel and a twin of plain loops."""

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.reference.roi_pool import roi_pool as twin
from torch.testing import assert_close

from maskwright.errors import ConfigError
from maskwright.ops.roi_pool import roi_pool


def make_maps(*sizes, channels=6):
    """Maps with many equal values, as after a ReLU, so that ties occur."""
    generator = torch.Generator().manual_seed(0)
    maps = [torch.randn(2, channels, *size, generator=generator).relu() for size in sizes]
    return [m.contiguous(memory_format=torch.channels_last) for m in maps]


def theirs(feature, boxes, batch_index, scale, size):
    return torchvision.ops.roi_pool(
        feature.contiguous(), torch.cat([batch_index[:, None].float(), boxes], 1), size, scale
    )


edge = st.one_of(st.floats(-80, 160, width=32), st.integers(-20, 40).map(lambda v: v * 2.0))


@settings(max_examples=80, deadline=None)
@given(
    boxes=st.lists(st.tuples(edge, edge, edge, edge), max_size=6),
    cells=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    size=st.sampled_from([1, 2, 5, 7]),
)
def test_any_boxes_equal_torchvision_and_the_twin(boxes, cells, size):
    (feature,) = make_maps(cells)
    feature.requires_grad_()
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    batch_index = torch.arange(len(boxes)) % 2
    ours = roi_pool([feature], boxes, batch_index, None, [0.25], size)
    expected = theirs(feature, boxes, batch_index, 0.25, size)
    assert ours.shape == (len(boxes), 6, size, size)
    assert torch.equal(ours, expected)
    if size in (1, 2):  # the kernel divides in float32; whole numbers agree where that is exact
        assert torch.equal(ours.detach(), twin([feature.detach()], boxes, batch_index, None, [0.25], size))
    weight = torch.randn(ours.shape, generator=torch.Generator().manual_seed(1))
    mine = torch.autograd.grad((ours * weight).sum(), feature)[0]
    assert_close(mine, torch.autograd.grad((expected * weight).sum(), feature)[0], rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        assert torch.equal(roi_pool([feature], boxes, batch_index, None, [0.25], size), expected)


def test_many_levels_equal_level_by_level():
    maps, scales = make_maps((40, 52), (20, 26)), [1 / 4, 1 / 8]
    generator = torch.Generator().manual_seed(0)
    start = torch.rand(60, 2, generator=generator) * 220 - 20
    boxes = torch.cat([start, start + torch.rand(60, 2, generator=generator) * 180], 1)
    batch_index, levels = torch.arange(60) % 2, torch.arange(60) * 3 % 2
    ours = roi_pool(maps, boxes, batch_index, levels, scales, 7)
    assert ours.is_contiguous(memory_format=torch.channels_last)
    for level in range(2):
        own = levels == level
        assert torch.equal(ours[own], theirs(maps[level], boxes[own], batch_index[own], scales[level], 7))


def test_half_precision_is_exact():
    (feature,) = make_maps((20, 20))
    feature = feature.bfloat16()
    boxes, index = torch.tensor([[0.0, 0, 60, 70], [10, 10, 30, 30]]), torch.tensor([0, 1])
    ours = roi_pool([feature], boxes, index, None, [0.25], 7)
    assert ours.dtype == torch.bfloat16
    assert torch.equal(ours.float(), theirs(feature.float(), boxes, index, 0.25, 7))


@pytest.mark.parametrize("kind", [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_images_are_named_by_whole_numbers_of_any_type(kind):
    maps, boxes = make_maps((8, 8)), torch.tensor([[0.0, 0, 4, 4], [2, 2, 8, 8]])
    index = torch.tensor([0, 1])
    assert torch.equal(
        roi_pool(maps, boxes, index.to(kind), None, [1.0], 2), roi_pool(maps, boxes, index, None, [1.0], 2)
    )


def test_arguments_that_do_not_fit_are_named():
    (feature,) = make_maps((8, 8))
    with pytest.raises(ConfigError, match="roi_pool: output_size"):
        roi_pool([feature], torch.zeros(1, 4), torch.zeros(1).long(), None, [0.25], 0)
    with pytest.raises(ConfigError, match="roi_pool: batch_index"):
        roi_pool([feature], torch.zeros(1, 4), torch.full((1,), 5), None, [0.25], 7)
