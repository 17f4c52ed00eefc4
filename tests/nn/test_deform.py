"""Deformable convolutions against plain loops and the recorded official layer; ResNets that have them."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.reference import deform as twin
from torch import nn

from maskwright.errors import ConfigError
from maskwright.fast.accelerate import FastForm, accelerate
from maskwright.models.rcnn import RCNN, tiny
from maskwright.nn.backbones import backbone
from maskwright.nn.deform import DeformableConv2d
from maskwright.nn.resnet import Bottleneck, ResNet


def moved(inputs: int, outputs: int, stride: int = 1, seed: int = 0, far: float = 1.0) -> DeformableConv2d:
    """One whose taps move by about `far` cells."""
    torch.manual_seed(seed)
    layer = DeformableConv2d(inputs, outputs, stride=stride).eval()
    nn.init.normal_(layer.sampling.weight, std=far / (3 * inputs**0.5))
    nn.init.normal_(layer.sampling.bias, std=far)
    nn.init.normal_(layer.bias)
    return layer


@settings(max_examples=20, deadline=None)
@given(
    height=st.integers(1, 6), width=st.integers(1, 7), inputs=st.integers(1, 3), outputs=st.integers(1, 3),
    stride=st.integers(1, 2), seed=st.integers(0, 999), far=st.sampled_from([0.0, 0.5, 4.0]),
)  # fmt: skip
def test_equal_to_the_twin(height, width, inputs, outputs, stride, seed, far):
    layer = moved(inputs, outputs, stride, seed, far)
    x = torch.randn(1, inputs, height, width)
    with torch.no_grad():
        y, sampling = layer(x)[0], layer.sampling(x)[0]
        arrays = (t.detach().double().numpy() for t in (x[0], sampling, layer.weight, layer.bias))
    np.testing.assert_allclose(y.numpy(), twin.deformed(*arrays, stride), rtol=1e-3, atol=1e-4)


def test_equal_to_the_official_layer(shared: Path) -> None:
    golden = np.load(shared / "golden" / "yolact" / "units" / "units.npz")
    layer = DeformableConv2d(6, 5, stride=2)
    names = {"weight": "weight", "bias": "bias"} | {
        f"sampling.{n}": f"conv_offset_mask.{n}" for n in ("weight", "bias")
    }
    layer.load_state_dict({own: torch.from_numpy(golden[f"dcn_{name}"]) for own, name in names.items()})
    x = torch.from_numpy(golden["dcn_x"])
    with torch.no_grad():
        torch.testing.assert_close(layer.sampling(x), torch.from_numpy(golden["dcn_om"]), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(layer(x), torch.from_numpy(golden["dcn_y"]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("stride", [1, 2])
def test_it_begins_as_half_of_a_plain_convolution(stride: int) -> None:
    layer, x = DeformableConv2d(4, 6, stride=stride), torch.randn(2, 4, 9, 8)
    wanted = F.conv2d(x, layer.weight, stride=stride, padding=1) / 2
    torch.testing.assert_close(layer(x), wanted, rtol=1e-4, atol=1e-5)
    layer(x).sum().backward()
    for parameter in (layer.weight, layer.bias, layer.sampling.weight, layer.sampling.bias):
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0


def test_16_bit_types_are_sampled_in_float32() -> None:
    layer, x = moved(8, 6), torch.randn(1, 8, 9, 8)
    with torch.no_grad():
        wanted = layer(x)
        low = copy.deepcopy(layer).bfloat16()(x.bfloat16())
        with torch.autocast("cpu", torch.bfloat16):
            mixed = layer(x)
    assert low.dtype == torch.bfloat16
    for y in (low, mixed):
        assert (y.float() - wanted).norm() < 0.05 * wanted.norm()


def test_an_empty_batch_passes() -> None:
    assert DeformableConv2d(4, 6, stride=2)(torch.zeros(0, 4, 9, 8)).shape == (0, 6, 5, 4)


def deformable_blocks(model: nn.Module) -> list[str]:
    return [n for n, m in model.named_modules() if isinstance(m, Bottleneck) and isinstance(m.conv2, DeformableConv2d)]


@pytest.mark.parametrize(("every", "third"), [(1, range(6)), (2, (0, 2, 4)), (3, (0, 3)), (9, (0,))])
def test_the_blocks_of_the_last_three_stages_that_are_deformable(every: int, third: tuple[int, ...]) -> None:
    with torch.device("meta"):
        body = backbone("resnet50", "frozen", 1e-5, strides=(8, 16, 32), deformable=every)
    found = deformable_blocks(body)
    assert [n for n in found if n.startswith("layer3")] == [f"layer3.{i}" for i in third]
    assert [n for n in found if n.startswith("layer1")] == []
    assert {"layer2.0", "layer4.0"} <= set(found)
    assert isinstance(body, ResNet)
    assert body.layer3[0].conv2.stride == 2
    plain = body.get_submodule("layer1.0.conv2")
    assert plain.bias is None


def test_new_ones_move_no_tap() -> None:
    body = backbone("resnet14_narrow", "live", 1e-5, strides=(8, 16, 32), deformable=1)
    layers = [m for m in body.modules() if isinstance(m, DeformableConv2d)]
    assert len(layers) == 3
    for layer in layers:
        assert not layer.sampling.weight.any()
        assert not layer.bias.any()
        assert layer.weight.std() > 0.05


@pytest.mark.parametrize(
    ("name", "every"), [("mobilenetv2", 1), ("darknet53", 3), ("test_resnet", 1), ("resnet50", -1)]
)
def test_backbones_that_cannot_be_deformed_say_so(name: str, every: int) -> None:
    with pytest.raises(ConfigError, match=rf"above 0 only with resnet14_narrow, .*got {every} with '{name}'"):
        backbone(name, "frozen", 1e-5, strides=(8, 16), deformable=every)


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("norm", ["frozen", "live"])
def test_the_form_for_prediction_gives_the_same(every: int, norm: str) -> None:
    torch.manual_seed(1)
    body = backbone("resnet14_narrow", norm, 1e-5, strides=(8, 16, 32), deformable=every).eval()
    body.layer3.append(copy.deepcopy(body.layer4[0]))  # a second block, which 2 leaves plain
    body.layer3[1] = Bottleneck(128, 32, 1, type(body.bn1), stride_in_1x1=False, deformable=every == 1).eval()
    for module in body.modules():
        if isinstance(module, DeformableConv2d):
            nn.init.normal_(module.sampling.weight, std=0.2)
            nn.init.normal_(module.bias)
        if hasattr(module, "running_var"):
            for name in ("weight", "bias", "running_mean", "running_var"):
                getattr(module, name).data.uniform_(0.5, 1.5)
    x = torch.randn(2, 3, 64, 96)
    with torch.inference_mode():
        wanted = [y.clone() for y in body(x)]
        fast = accelerate(copy.deepcopy(body).to(memory_format=torch.channels_last), FastForm())
        for _ in range(2):
            for a, b in zip(fast(x.to(memory_format=torch.channels_last)), wanted, strict=True):
                torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3 * float(b.abs().max()))


def test_a_mask_rcnn_without_them_is_as_before() -> None:
    assert not deformable_blocks(RCNN(tiny("detectron2")))
