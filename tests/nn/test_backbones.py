"""Our ResNet against torchvision's, and timm's networks by name: shapes, strides, odd ones, unusable ones."""

import pytest
import torch
import torchvision
from torch import nn

from maskwright.errors import ConfigError
from maskwright.models.rcnn import RCNN
from maskwright.models.zoo import build, resolve
from maskwright.nn.backbones import TimmBackbone, backbone, norm_layer
from maskwright.nn.resnet import Bottleneck, ResNet
from maskwright.types import BoxMasks, Classes, Inputs

pytestmark = pytest.mark.usefixtures("one_thread")


def test_resnet50_equals_torchvisions() -> None:
    torch.manual_seed(0)
    theirs = torchvision.models.resnet50(norm_layer=torchvision.ops.FrozenBatchNorm2d).eval()
    for name, value in theirs.state_dict().items():
        if name.endswith(("running_mean", "running_var")):
            value.copy_(torch.rand(value.shape) + 0.5)
    ours = ResNet(50, norm_layer("frozen")).eval()
    ours.load_state_dict({k: v for k, v in theirs.state_dict().items() if not k.startswith("fc.")})
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        expected, y = [], theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(x))))
        for number in range(1, 5):
            y = theirs.get_submodule(f"layer{number}")(y)
            expected.append(y)
        for a, b in zip(ours(x), expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    assert ours.channels == (256, 512, 1024, 2048)
    assert ours.strides == (4, 8, 16, 32)


def test_the_stride_sits_where_it_was_asked_for() -> None:
    for first, expected in ((True, ((2, 2), (1, 1))), (False, ((1, 1), (2, 2)))):
        block = Bottleneck(8, 4, 2, norm_layer("frozen"), stride_in_1x1=first)
        assert (block.conv1.stride, block.conv2.stride) == expected
        assert block(torch.randn(1, 8, 7, 9)).shape == (1, 16, 4, 5)


@pytest.mark.parametrize("strides", [(4, 8, 16, 32), (16,), (8, 16), (4,)])
def test_ours_gives_the_wanted_maps_and_no_later_stage(strides: tuple[int, ...]) -> None:
    body = backbone("resnet14_narrow", "live", 1e-5, strides=strides).eval()
    maps = body(torch.randn(1, 3, 64, 128))
    assert body.strides == strides
    assert [tuple(m.shape[1:]) for m in maps] == [
        (c, 64 // s, 128 // s) for c, s in zip(body.channels, strides, strict=True)
    ]
    last = max(strides).bit_length() - 1
    assert {n for n, _ in body.named_children() if n.startswith("layer")} == {f"layer{i}" for i in range(1, last)}
    assert any(isinstance(m, nn.BatchNorm2d) for m in body.modules())


@pytest.mark.parametrize(
    "name", ["resnet14_narrow", "mobilenetv2", "darknet53", "resnet18_half", "tf_efficientnet_lite0"]
)
def test_the_finest_maps_alone_are_the_same(name: str) -> None:
    net = backbone(name, "frozen", 1e-5, strides=(8, 16, 32)).eval()
    image = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        every = net(image)
        for levels in (1, 2, 3):
            found = net(image, levels)
            assert len(found) == levels
            assert all(torch.equal(a, b) for a, b in zip(found, every, strict=False))


def test_strides_that_ours_does_not_have() -> None:
    with pytest.raises(ConfigError, match=r"'resnet50' has feature maps at the strides 4, 8, 16 and 32, got \(2, 4\)"):
        backbone("resnet50", "frozen", 0.0, strides=(2, 4))


NAMES = ["test_resnet", "test_convnext", "test_byobnet", "mobilenetv3_small_050", "ghostnet_050"]


@pytest.mark.parametrize("name", NAMES)
def test_timm_maps_are_where_they_say(name: str) -> None:
    body = TimmBackbone(name).eval()
    with torch.no_grad():
        maps = body(torch.randn(1, 3, 96, 64))
    assert body.strides == (4, 8, 16, 32)
    assert [tuple(m.shape[1:]) for m in maps] == [
        (c, 96 // s, 64 // s) for c, s in zip(body.channels, body.strides, strict=True)
    ]


def test_feature_numbers_that_do_not_start_at_zero() -> None:
    """DLA leaves out its first map unless it is asked for by number."""
    body = TimmBackbone("dla46_c", (4, 8, 16, 32)).eval()
    assert body.strides == (4, 8, 16, 32)
    assert [m.shape[2] for m in body(torch.randn(1, 3, 64, 64))] == [16, 8, 4, 2]


def test_of_many_maps_at_one_stride_the_last_is_taken() -> None:
    body = TimmBackbone("test_vit").eval()
    assert (body.strides, body.channels) == ((16,), (64,))
    assert [tuple(m.shape) for m in body(torch.randn(1, 3, 64, 96))] == [(1, 64, 4, 6)]


def test_channels_last_maps_and_any_input_size() -> None:
    """Swin gives (B, h, w, C), and is made for 224 x 224 unless it is told otherwise."""
    body = TimmBackbone("swin_tiny_patch4_window7_224", (4, 8)).eval()
    with torch.no_grad():
        maps = body(torch.randn(1, 3, 64, 96))
    assert [tuple(m.shape) for m in maps] == [(1, 96, 16, 24), (1, 192, 8, 12)]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet_18", r"timm has no model 'resnet_18'\. Did you mean .*'resnet18'"),
        ("no_such_thing_at_all", "timm has no model 'no_such_thing_at_all'"),
        ("maxvit_pico_rw_256", "one size only"),
        ("mixer_s32_224", "'mixer_s32_224'"),
    ],
)
def test_what_cannot_be_a_backbone_is_an_error(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TimmBackbone(name)


def test_a_backbone_without_the_strides_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"feature maps at the strides \[16\], none at \(4, 8\)"):
        TimmBackbone("test_vit", (4, 8))
    with pytest.raises(ConfigError, match=r"each of the 2 levels \(strides \(16, 32\)\) that 'test_vit' gives, got 5"):
        build(resolve("mask_rcnn_fpn.test_vit"))


@pytest.mark.parametrize("name", ["mobilenetv3_small_050", "test_convnext"])
def test_mask_rcnn_over_a_timm_backbone(name: str) -> None:
    torch.manual_seed(0)
    model = build(resolve(f"mask_rcnn_fpn.{name}"), Classes(["leaf", "stem"])).eval()
    assert isinstance(model, RCNN)
    with torch.no_grad():
        raw = model.detect(Inputs(torch.randn(1, 3, 64, 64)))
    assert raw.scores.shape[0] == 1
    masks = raw.part(BoxMasks)
    assert masks is not None
    assert masks.probs.shape[2:] == (28, 28)
    assert int(raw.labels.max()) <= 1


def test_a_large_timm_backbone_is_put_together() -> None:
    with torch.device("meta"):
        model = build(resolve("mask_rcnn_fpn.convnext_tiny"), Classes(["leaf"]))
    assert isinstance(model, RCNN)
    assert model.backbone.channels == (96, 192, 384, 768)
