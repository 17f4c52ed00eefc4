"""The forms for prediction against the plain ones: Winograd against direct convolution, folded against separate."""

import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from maskwright.fast.accelerate import FastForm, accelerate
from maskwright.fast.bf16 import takes_bf16
from maskwright.fast.fused import WINOGRAD_CELLS, WINOGRAD_CHANNELS, WINOGRAD_FEW_CELLS, FusedConv, folded
from maskwright.fast.packed import KEPT, SIZES, GroupedProduct
from maskwright.fast.winograd import TILES, Winograd
from maskwright.models import rcnn, yolact
from maskwright.models.family import accelerated, build
from maskwright.nn.layers import FrozenBatchNorm2d


@settings(max_examples=40, deadline=None)
@given(
    batch=st.integers(1, 5), height=st.integers(1, 21), width=st.integers(1, 40), inputs=st.integers(1, 9),
    outputs=st.integers(1, 9), relu=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
def test_winograd_is_the_direct_convolution(batch, height, width, inputs, outputs, relu, seed):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn((batch, inputs, height, width), generator=g).to(memory_format=torch.channels_last)
    weight, bias = torch.randn((outputs, inputs, 3, 3), generator=g), torch.randn(outputs, generator=g)
    wanted = F.conv2d(x, weight, bias, padding=1)
    wanted = wanted.relu() if relu else wanted
    torch.testing.assert_close(Winograd(weight, bias, slope=0.0 if relu else 1.0)(x), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(40, 4, 14, 14), (1, 4, 4 * TILES + 1, 9), (3, 4, 70, 90)])
def test_winograd_strips_and_groups_of_maps_meet(shape):
    x, weight, bias = torch.randn(shape), torch.randn(6, 4, 3, 3), torch.randn(6)
    wanted = F.conv2d(x, weight, bias, padding=1)
    torch.testing.assert_close(Winograd(weight, bias)(x), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("norm", [FrozenBatchNorm2d, nn.BatchNorm2d, None])
def test_folding_a_norm_changes_nothing_but_rounding(norm):
    conv = nn.Conv2d(5, 7, 3, padding=1, bias=norm is None)
    layer = None if norm is None else norm(7).eval()
    if layer is not None:
        for name in ("weight", "bias", "running_mean", "running_var"):
            getattr(layer, name).data.uniform_(0.5, 1.5)
    weight, bias = folded(conv, layer)
    x = torch.randn(2, 5, 9, 8)
    wanted = conv(x) if layer is None else layer(conv(x))
    torch.testing.assert_close(F.conv2d(x, weight, bias, padding=1), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16, torch.float64])
def test_a_sum_is_fused_and_written_over_the_other_term(relu, kind):
    conv = nn.Conv2d(4, 6, 1)
    fused = FusedConv(conv, after=nn.ReLU() if relu else None).to(kind)
    x = torch.randn(2, 4, 5, 6).to(kind).to(memory_format=torch.channels_last)
    other = torch.randn(2, 6, 5, 6).to(kind).to(memory_format=torch.channels_last)
    wanted = F.conv2d(x.double(), fused.weight.double(), fused.bias.double()) + other.double()
    wanted = wanted.relu() if relu else wanted
    with torch.no_grad():
        result = fused(x, other)
    loose = {"rtol": 2e-2, "atol": 2e-2} if kind == torch.bfloat16 else {"rtol": 1e-5, "atol": 1e-5}
    torch.testing.assert_close(result.double(), wanted, **loose)
    assert result.data_ptr() == other.data_ptr()


@pytest.mark.parametrize("after", [None, nn.ReLU(), nn.LeakyReLU(0.1), nn.LeakyReLU(0.3), nn.ReLU6()])
def test_wide_float32_maps_take_winograds_form_and_others_do_not(after):
    torch.manual_seed(0)
    conv = nn.Conv2d(WINOGRAD_CHANNELS, WINOGRAD_CHANNELS, 3, padding=1)
    side = int(WINOGRAD_FEW_CELLS**0.5) + 1
    x = torch.randn(1, WINOGRAD_CHANNELS, side, side).to(memory_format=torch.channels_last)
    with torch.no_grad():
        for kind, cut, takes in ((torch.float32, side, True), (torch.float32, 8, False), (torch.bfloat16, side, False)):
            fused = FusedConv(conv, after=after).to(kind)
            fused.winograd_cells = WINOGRAD_FEW_CELLS
            y = fused(x[..., :cut, :cut].to(kind))
            assert (fused.winograd is not None) == (takes and not isinstance(after, nn.ReLU6))
            wanted = conv(x[..., :cut, :cut])
            wanted = wanted if after is None else after(wanted)
            limit = 1e-4 if kind == torch.float32 else 2e-2
            torch.testing.assert_close(y.float(), wanted, rtol=limit, atol=limit)


def test_maps_worked_on_together_are_worked_on_one_by_one():
    torch.manual_seed(0)
    weight, bias = torch.randn(21, 16, 3, 3), torch.randn(21)  # 21: no whole number of vectors
    maps = [torch.randn(2, 16, *size) for size in ((75, 81), (9, 9), (1, 1), (30, 3), (5, 160))]
    winograd = Winograd(weight, bias, slope=0.0)
    for found, x in zip(winograd.each(maps), maps, strict=True):
        assert torch.equal(found, winograd(x))
        torch.testing.assert_close(found, F.conv2d(x, weight, bias, padding=1).relu(), rtol=1e-4, atol=5e-4)


def test_kernels_in_every_order_give_the_same_products():
    """Numbers of rows for which the processor wants different orders, more of them than are kept."""
    torch.manual_seed(0)
    kernel, bias = torch.randn(4, 512, 32), torch.randn(4, 512)
    product = GroupedProduct(lambda: kernel, bias)
    for count in (1, 25, 81, 300, 336, 25, 1):
        rows = torch.randn(count, 4, 32)
        wanted = torch.einsum("tgc,goc->tgo", rows, kernel) + bias
        torch.testing.assert_close(product(rows), wanted, rtol=1e-4, atol=1e-4)
        assert len(product.packed) <= KEPT


def test_bf16_kernels_lie_ready_for_inputs_of_every_size():
    torch.manual_seed(0)
    for conv in (nn.Conv2d(48, 32, 1), nn.Conv2d(32, 40, 3, stride=2, padding=1), nn.Conv2d(3, 16, 7, padding=3)):
        fused = FusedConv(conv).to(torch.bfloat16)
        for side in (1, 5, 9, 18, 35, 9, 40, 7, *range(10, 10 + SIZES)):
            x = torch.randn(2, conv.in_channels, side, side + 1).to(torch.bfloat16)
            wanted = F.conv2d(x.float(), fused.weight.float(), fused.bias.float(), conv.stride, conv.padding)
            torch.testing.assert_close(fused(x).float(), wanted, rtol=2e-2, atol=2e-2)
            assert (fused.packed is not None) == takes_bf16()
            assert fused.packed is None or len(fused.packed.packed) <= SIZES
        if fused.packed is None:
            continue
        kernels = {id(kernel) for kernel in fused.packed.packed.values()}
        assert len(kernels) <= 3 or conv.in_channels == 3  # most sizes share one; of three channels not in every oneDNN


def test_bf16_kernels_are_kept_for_each_number_of_threads_and_dropped_with_the_type(one_thread):
    conv = FusedConv(nn.Conv2d(8, 8, 3, padding=1)).to(torch.bfloat16)
    x = torch.randn(1, 8, 6, 6).to(torch.bfloat16)
    with torch.no_grad():
        first = conv(x)
        copied = copy.deepcopy(conv)
        assert copied.packed is None
        torch.set_num_threads(2)
        assert torch.equal(conv(x), first)
        torch.set_num_threads(1)
        assert takes_bf16() == (conv.packed is not None)
        assert conv.packed is None or {key[0] for key in conv.packed.packed} == {1, 2}
        assert conv.to(torch.float32).packed is None
        conv(x.float())
        assert conv.packed is None  # one copy of the weight is enough there
    assert torch.equal(copied(x), first)


def test_a_norm_that_does_more_than_normalise_is_left_alone():
    class NormAndMore(nn.BatchNorm2d):
        def forward(self, x):
            return super().forward(x) + 1

    torch.manual_seed(0)
    plain = nn.ModuleList([nn.Sequential(nn.Conv2d(3, 4, 1), NormAndMore(4)), nn.Sequential(nn.Conv2d(3, 4, 1))]).eval()
    x = torch.randn(1, 3, 5, 5)
    with torch.inference_mode():
        wanted = plain[0](x)
        fast = accelerate(copy.deepcopy(plain), FastForm())
        torch.testing.assert_close(fast[0](x), wanted)
    assert isinstance(fast[1], FusedConv)


def test_a_fused_convolution_forgets_what_it_made_when_it_is_moved_or_copied():
    conv = FusedConv(nn.Conv2d(WINOGRAD_CHANNELS, WINOGRAD_CHANNELS, 3, padding=1))
    conv.winograd_cells = WINOGRAD_FEW_CELLS
    x = torch.randn(1, WINOGRAD_CHANNELS, 20, 20).to(memory_format=torch.channels_last)
    with torch.no_grad():
        wanted = conv(x)
        assert conv.winograd is not None
        copied = copy.deepcopy(conv)
        assert copied.winograd is None
        conv.weight.data.mul_(2)
        assert torch.equal(copied(x), wanted)
        assert conv.to(torch.float64).winograd is None


@pytest.mark.parametrize("style", ["detectron2", "torchvision_v2", "c4"])
def test_accelerating_twice_is_accelerating_once(style):
    torch.manual_seed(0)
    once = accelerated(build(rcnn.tiny(style)))
    twice = accelerated(once)
    x = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        for a, b in zip(once.features(x), twice.features(x), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("config", "cells"), [(rcnn.tiny(), WINOGRAD_CELLS), (yolact.tiny(), WINOGRAD_FEW_CELLS)], ids=["rcnn", "yolact"]
)
def test_small_maps_take_winograds_form_where_all_maps_are_small(config, cells):
    fast = accelerated(build(config))
    assert {m.winograd_cells for m in fast.modules() if isinstance(m, FusedConv)} == {cells}
