"""DarkNet-53 against timm's own, and MobileNetV2's feature maps against torchvision's, at YOLACT's places."""

import copy

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from maskwright.errors import ConfigError
from maskwright.fast.accelerate import FastForm, accelerate
from maskwright.nn.backbones import backbone, norm_layer
from maskwright.nn.darknet import DarkNet
from maskwright.nn.mobilenet import MobileNetV2


def shaken(model: nn.Module) -> nn.Module:
    """With norms that do something."""
    torch.manual_seed(0)
    for module in model.modules():
        if hasattr(module, "running_var"):
            module.weight.data.uniform_(0.5, 1.0)
            for name in ("bias", "running_mean"):
                getattr(module, name).data.normal_(std=0.1)
            module.running_var.data.uniform_(0.8, 1.2)
    return model.eval()


def renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """timm's names of DarkNet-53 as ours."""
    out = {}
    for name, value in state.items():
        if name.startswith("head"):
            continue
        parts = name.replace(".bn.", ".1.").replace(".conv.", ".0.").split(".")
        if parts[0] == "stages":
            kind = [parts[1], "0"] if parts[2] == "conv_down" else [parts[1], str(int(parts[3]) + 1), parts[4]]
            parts = ["stages", *kind, *parts[-2:]]
        else:
            parts = ["stem", *parts[-2:]]
        out[".".join(parts)] = value
    return out


def test_darknet53_equals_timms() -> None:
    theirs = shaken(timm.create_model("darknet53", num_classes=0))
    for module in theirs.modules():
        if isinstance(module, nn.LeakyReLU):
            module.negative_slope = 0.1  # timm's is 0.01
    ours = DarkNet(norm_layer("live"), strides=(2, 4, 8, 16, 32)).eval()
    ours.load_state_dict(renamed(theirs.state_dict()))
    x, y, expected = torch.randn(1, 3, 64, 96), None, []
    with torch.inference_mode():
        y = theirs.stem(x)
        for stage in theirs.stages:
            y = stage(y)
            expected.append(y)
        for a, b in zip(ours(x), expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
    assert ours.channels == (64, 128, 256, 512, 1024)


def test_mobilenetv2_reads_torchvisions_blocks() -> None:
    theirs = shaken(torchvision.models.mobilenet_v2(weights=None)).features
    ours = backbone("mobilenetv2", "live", 1e-5, strides=(8, 16, 32)).eval()
    assert isinstance(ours, MobileNetV2)
    state = {n: t for n, t in theirs.state_dict(prefix="features.").items() if int(n.split(".")[1]) < 17}
    ours.load_state_dict(state)
    x = torch.randn(2, 3, 64, 96)
    with torch.inference_mode():
        for a, end in zip(ours(x), (6, 10, 16), strict=True):
            torch.testing.assert_close(a, theirs[: end + 1](x), rtol=1e-5, atol=1e-5)
    assert (ours.channels, ours.strides) == ((32, 64, 160), (8, 16, 32))


@pytest.mark.parametrize("name", ["darknet53", "mobilenetv2"])
@pytest.mark.parametrize("strides", [(4, 8, 16, 32), (16,), (4, 8), (32, 8)])
def test_the_wanted_maps_and_no_later_stage(name: str, strides: tuple[int, ...]) -> None:
    with torch.device("meta"):
        body = backbone(name, "frozen", 1e-5, strides=strides).eval()
        whole = backbone(name, "frozen", 1e-5, strides=(32,))
        maps = body(torch.empty(1, 3, 75, 97))
    assert body.strides == tuple(sorted(strides))
    assert [m.shape[1] for m in maps] == list(body.channels)
    assert [tuple(m.shape[2:]) for m in maps] == [(-(-75 // s), -(-97 // s)) for s in body.strides]
    assert (len(body.state_dict()) < len(whole.state_dict())) == (max(strides) < 32)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in body.modules())


@pytest.mark.parametrize(("name", "who"), [("darknet53", "DarkNet-53"), ("mobilenetv2", "'mobilenetv2'")])
@pytest.mark.parametrize("strides", [(64,), (8, 24), ()])
def test_strides_they_do_not_have(name: str, who: str, strides: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=rf"{who} has feature maps at the strides 2, 4, 8, 16 and 32, got \("):
        backbone(name, "frozen", 1e-5, strides=strides)


@pytest.mark.parametrize("name", ["darknet53", "mobilenetv2"])
@pytest.mark.parametrize("kind", ["frozen", "live"])
def test_the_form_for_prediction_gives_the_same(name: str, kind: str) -> None:
    body = shaken(backbone(name, kind, 1e-5, strides=(4, 8)))
    x = torch.randn(1, 3, 64, 96).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        wanted = body(x)
        fast = accelerate(copy.deepcopy(body).to(memory_format=torch.channels_last), FastForm())
        for a, b in zip(fast(x), wanted, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3 * float(b.abs().max()))


def test_initial_values_keep_the_signal() -> None:
    torch.manual_seed(0)
    for name in ("darknet53", "mobilenetv2"):
        maps = backbone(name, "live", 1e-5, strides=(8, 16, 32)).train()(torch.randn(2, 3, 96, 96))
        assert all(0.05 < m.std() < 50 for m in maps), [float(m.std()) for m in maps]
