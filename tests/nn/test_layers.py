"""The brick of necks and heads, and the frozen norm."""

import pytest
import torch
import torchvision
from torch import nn

from maskwright.nn.backbones import norm_layer
from maskwright.nn.layers import FrozenBatchNorm2d, conv


@pytest.mark.parametrize("eps", [0.0, 1e-5, 1e-3])
def test_frozen_norm_equals_torchvision_and_a_live_norm_in_eval_mode(eps: float) -> None:
    torch.manual_seed(0)
    live = nn.BatchNorm2d(6, eps)
    for value in live.state_dict().values():
        if value.is_floating_point():
            value.copy_(torch.rand(6) + 0.2)
    frozen, theirs = FrozenBatchNorm2d(6, eps), torchvision.ops.FrozenBatchNorm2d(6, eps)
    state = {k: v for k, v in live.state_dict().items() if v.ndim}
    frozen.load_state_dict(state)
    theirs.load_state_dict(state)
    x = torch.randn(2, 6, 5, 4)
    torch.testing.assert_close(frozen(x), theirs(x), rtol=1e-5, atol=1e-6)
    live.eps = max(eps, 1e-30)  # torch 2.11 takes no live norm with 0
    torch.testing.assert_close(frozen.train()(x), live.eval()(x), rtol=1e-5, atol=1e-6)
    assert list(frozen.parameters()) == []
    assert torch.equal(frozen.running_mean, state["running_mean"])


def test_frozen_norm_keeps_half_precision_close() -> None:
    norm = FrozenBatchNorm2d(3)
    x = torch.randn(1, 3, 8, 8)
    half = norm(x.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), norm(x), rtol=1e-2, atol=1e-2)


def test_norm_layer_makes_what_it_says() -> None:
    frozen, live = norm_layer("frozen", 0.0)(4), norm_layer("live", 1e-3)(4)
    assert isinstance(frozen, FrozenBatchNorm2d)
    assert isinstance(live, nn.BatchNorm2d)
    assert (frozen.eps, live.eps) == (0.0, 1e-3)


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("normed", [True, False])
def test_conv_keeps_the_size_and_has_a_bias_only_without_norm(kernel: int, normed: bool) -> None:
    layer = conv(3, 5, kernel, norm_layer("live") if normed else None, relu=True)
    assert layer(torch.randn(2, 3, 9, 7)).shape == (2, 5, 9, 7)
    assert (layer[0].bias is None) == normed
    assert layer(torch.randn(2, 3, 9, 7)).min().item() >= 0
    assert [type(m).__name__ for m in layer] == ["Conv2d", *(["BatchNorm2d"] if normed else []), "ReLU"]


def test_conv_starts_as_asked() -> None:
    torch.manual_seed(0)
    assert conv(64, 64, 3, std=0.01)[0].weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert conv(64, 64, 3)[0].weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.02)
    assert not conv(4, 4, 3)[0].bias.any()
