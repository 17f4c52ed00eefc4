"""RoIAlign against torchvision's kernel and a twin of plain loops."""

from functools import partial

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.reference.roi_align import roi_align as twin
from torch.testing import assert_close

from maskwright.errors import ConfigError
from maskwright.ops.roi_align import by_torchvision, roi_align

FORMS = [(sampling, aligned) for sampling in (2, 0, 1, 3) for aligned in (True, False)]
forms = pytest.mark.parametrize(("sampling", "aligned"), FORMS)


def kernel(sampling, aligned):
    return partial(torchvision.ops.roi_align, sampling_ratio=sampling, aligned=aligned)


def make_maps(*sizes, batch=2, channels=8, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    maps = [torch.randn(batch, channels, *size, generator=generator, dtype=dtype) for size in sizes]
    return [m.contiguous(memory_format=torch.channels_last) for m in maps]


def make_boxes(count, reach, seed=0):
    """Boxes of all sizes, some partly and some wholly outside of 0..reach, some of no or negative size."""
    generator = torch.Generator().manual_seed(seed)
    start = torch.rand(count, 2, generator=generator) * reach * 1.4 - reach * 0.2
    side = torch.rand(count, 2, generator=generator) ** 3 * reach * 1.2
    side[::7] = 0
    side[3::11] *= -1
    return torch.cat([start, start + side], 1)


def theirs(feature, boxes, batch_index, scale, size, sampling, aligned):
    rois = torch.cat([batch_index[:, None].to(feature.dtype), boxes.to(feature.dtype)], 1)
    return torchvision.ops.roi_align(feature.contiguous(), rois, size, scale, sampling, aligned)


@forms
@pytest.mark.parametrize("size", [1, 7, 14])
@pytest.mark.parametrize("cells", [(1, 1), (1, 40), (23, 17), (50, 76)])
def test_equals_torchvision(sampling, aligned, size, cells):
    (feature,) = make_maps(cells)
    boxes = make_boxes(60, 16.0 * max(cells))
    batch_index = torch.arange(60) % 2
    ours = roi_align([feature], boxes, batch_index, None, [1 / 16], size, sampling, aligned)
    assert ours.shape == (60, 8, size, size)
    assert ours.is_contiguous(memory_format=torch.channels_last)
    assert_close(ours, theirs(feature, boxes, batch_index, 1 / 16, size, sampling, aligned), rtol=1e-4, atol=1e-5)


edge = st.one_of(st.floats(-80, 160, width=32), st.integers(-10, 20).map(lambda v: v * 4.0))


@settings(max_examples=50, deadline=None)
@given(
    boxes=st.lists(st.tuples(edge, edge, edge, edge), max_size=4),
    cells=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    form=st.sampled_from(FORMS),
    size=st.integers(1, 5),
)
def test_any_boxes_equal_torchvision_and_the_twin(boxes, cells, form, size):
    (feature,) = make_maps(cells, batch=1, channels=3, dtype=torch.float64)
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    batch_index = torch.zeros(len(boxes), dtype=torch.int64)
    ours = roi_align([feature], boxes, batch_index, None, [0.25], size, *form)
    if form != (0, True) or (boxes[:, 2:] >= boxes[:, :2]).all():  # torchvision fails on one negative side there
        assert_close(ours, theirs(feature, boxes, batch_index, 0.25, size, *form), rtol=1e-9, atol=1e-9)
    assert_close(ours, twin([feature], boxes, batch_index, None, [0.25], size, *form), rtol=1e-9, atol=1e-9)


@forms
def test_many_levels_equal_level_by_level(sampling, aligned):
    scales = [1 / 4, 1 / 8, 1 / 16]
    maps = make_maps((40, 52), (20, 26), (10, 13), channels=5)
    boxes, batch_index, levels = make_boxes(100, 200.0), torch.arange(100) % 2, torch.arange(100) * 7 % 3
    ours = roi_align(maps, boxes, batch_index, levels, scales, 7, sampling, aligned)
    for level in range(3):
        own = levels == level
        expected = theirs(maps[level], boxes[own], batch_index[own], scales[level], 7, sampling, aligned)
        assert_close(ours[own], expected, rtol=1e-4, atol=1e-5)
    other = by_torchvision(kernel(sampling, aligned), maps, boxes, batch_index, levels, scales, 7)
    assert_close(ours, other, rtol=1e-4, atol=1e-5)


@forms
def test_gradients_equal_torchvisions(sampling, aligned):
    scales = [1 / 4, 1 / 8, 1 / 16]  # no box is for the last map: its gradient is zero
    maps = [m.requires_grad_() for m in make_maps((40, 52), (20, 26), (10, 13))]
    boxes, batch_index, levels = make_boxes(80, 200.0), torch.arange(80) % 2, torch.arange(80) % 2
    ours = roi_align(maps, boxes, batch_index, levels, scales, 7, sampling, aligned)
    expected = by_torchvision(kernel(sampling, aligned), maps, boxes, batch_index, levels, scales, 7)
    weight = torch.randn(ours.shape, generator=torch.Generator().manual_seed(1))
    mine = torch.autograd.grad((ours * weight).sum(), maps)
    for got, want in zip(mine, torch.autograd.grad((expected * weight).sum(), maps), strict=True):
        assert got.is_contiguous(memory_format=torch.channels_last)
        assert_close(got, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("sampling", [0, 2])
def test_gradient_is_the_derivative(sampling):
    maps = [m.requires_grad_() for m in make_maps((6, 5), (3, 3), channels=2, dtype=torch.float64)]
    boxes, batch_index = make_boxes(6, 24.0), torch.arange(6) % 2
    torch.autograd.gradcheck(
        lambda *m: roi_align(m, boxes, batch_index, torch.arange(6) // 3, [0.25, 0.125], 3, sampling), maps
    )


def test_only_the_maps_that_need_a_gradient_get_one():
    maps = make_maps((8, 8), (4, 4))
    maps[1].requires_grad_()
    boxes = make_boxes(6, 32.0).requires_grad_()
    roi_align(maps, boxes, torch.zeros(6).long(), torch.arange(6) % 2, [1 / 4, 1 / 8], 7).sum().backward()
    assert maps[0].grad is None
    assert boxes.grad is None
    assert maps[1].grad.abs().sum() > 0


def test_no_boxes():
    (feature,) = make_maps((9, 9))
    feature.requires_grad_()
    for sampling in (0, 2):
        out = roi_align([feature], torch.zeros(0, 4), torch.zeros(0).long(), None, [0.25], 7, sampling)
        assert out.shape == (0, 8, 7, 7)
        assert torch.autograd.grad(out.sum(), feature)[0].count_nonzero() == 0


@pytest.mark.parametrize(("dtype", "unit"), [(torch.bfloat16, 2**-8), (torch.float16, 2**-11)])
def test_half_precision_is_float32_but_for_its_rounding(dtype, unit):
    (feature,) = make_maps((50, 76), channels=32)
    feature = feature.to(dtype).requires_grad_()
    exact = feature.detach().float().requires_grad_()
    boxes, batch_index = make_boxes(200, 800.0), torch.arange(200) % 2
    ours = roi_align([feature], boxes, batch_index, None, [1 / 16], 7)
    expected = roi_align([exact], boxes, batch_index, None, [1 / 16], 7)
    size = roi_align([exact.abs()], boxes, batch_index, None, [1 / 16], 7)  # what the roundings are relative to
    assert ours.dtype == dtype
    assert ((ours.float() - expected).abs() <= 2 * unit * size + 1e-6).all()  # the weights' and the result's
    ours.float().sum().backward()
    expected.sum().backward()
    assert_close(feature.grad.float(), exact.grad, rtol=4 * unit, atol=4 * unit)


def test_memory_format_and_channel_count_do_not_matter():
    (feature,) = make_maps((23, 17), channels=3)  # 3 * 9 numbers a box: not a multiple of 16 bytes
    boxes, batch_index = make_boxes(40, 90.0), torch.arange(40) % 2
    ours = roi_align([feature], boxes, batch_index, None, [0.25], 3)
    assert torch.equal(ours, roi_align([feature.contiguous()], boxes, batch_index, None, [0.25], 3))
    assert_close(ours, theirs(feature, boxes, batch_index, 0.25, 3, 2, True), rtol=1e-4, atol=1e-5)


def test_a_large_result_and_boxes_with_very_many_samples():
    (feature,) = make_maps((60, 80), batch=1, channels=256)
    boxes = torch.tensor([[-3000.0, -2000, 9000, 7000], [0, 0, 320, 240]]).repeat(50, 1)  # 429 x 322 samples per bin
    boxes[2:, 2] -= torch.rand(98, generator=torch.Generator().manual_seed(0)) * 100
    boxes[4::2, :] /= 40
    batch_index = torch.zeros(100).long()
    ours = roi_align([feature], boxes[:8], batch_index[:8], None, [0.25], 7, 0)
    assert_close(
        ours[:, :4], theirs(feature[:, :4], boxes[:8], batch_index[:8], 0.25, 7, 0, True), rtol=1e-4, atol=1e-4
    )
    ours = roi_align([feature], boxes[1::2], batch_index[1::2], None, [0.25], 14, 2)
    assert_close(ours, theirs(feature, boxes[1::2], batch_index[1::2], 0.25, 14, 2, True), rtol=1e-4, atol=1e-5)


WHOLE = [torch.uint8, torch.int8, torch.int16, torch.uint16, torch.int32, torch.uint32, torch.int64, torch.uint64]


@pytest.mark.parametrize("dtype", WHOLE)
def test_any_whole_numbers_say_image_and_level(dtype):
    """uint8 would be taken for a Boolean mask, and boxes would vanish."""
    maps, boxes = [torch.randn(2, 4, 8, 8), torch.randn(2, 4, 4, 4)], torch.tensor([[0.0, 0, 4, 4], [1, 1, 6, 7]])
    image, level = torch.tensor([0, 1]), torch.tensor([1, 0])
    wanted = roi_align(maps, boxes, image, level, [1.0, 0.5], 2)
    assert torch.equal(roi_align(maps, boxes, image.to(dtype), level.to(dtype), [1.0, 0.5], 2), wanted)
    assert roi_align(maps[:1], boxes, image.to(dtype), None, [1.0], 2).shape == (2, 4, 2, 2)


def test_arguments_that_do_not_fit_are_named():
    maps, boxes, index = make_maps((8, 8), (4, 4)), torch.zeros(3, 4), torch.zeros(3).long()
    scales = [1 / 4, 1 / 8]
    with pytest.raises(ConfigError, match="one scale per feature map"):
        roi_align(maps, boxes, index, index, [0.25], 7)
    with pytest.raises(ConfigError, match="levels"):
        roi_align(maps, boxes, index, None, scales, 7)
    with pytest.raises(ConfigError, match=r"levels must be in 0\.\.1, got 2\.\.2"):
        roi_align(maps, boxes, index, index + 2, scales, 7)
    with pytest.raises(ConfigError, match=r"batch_index must be in 0\.\.1"):
        roi_align(maps, boxes, index - 1, index, scales, 7)
    with pytest.raises(ConfigError, match="finite"):
        roi_align(maps, boxes + torch.tensor([0, 0, 0, torch.nan]), index, index, scales, 7)
    with pytest.raises(ConfigError, match=r"\(R, 4\)"):
        roi_align(maps, boxes[:, :3], index, index, scales, 7)
    with pytest.raises(ConfigError, match="output_size"):
        roi_align(maps, boxes, index, index, scales, 0)
    with pytest.raises(ConfigError, match="equal B and C"):
        roi_align([maps[0], maps[1][:1]], boxes, index, index, scales, 7)
    with pytest.raises(ConfigError, match="equal B and C"):
        roi_align([maps[0][:, :0]], boxes, index, None, scales[:1], 7)
    for wrong in (torch.zeros(3), torch.zeros(3, dtype=torch.bool)):
        with pytest.raises(ConfigError, match="batch_index must be whole numbers"):
            roi_align(maps, boxes, wrong, index, scales, 7)
