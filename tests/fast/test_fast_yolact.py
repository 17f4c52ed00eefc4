"""YOLACT's fast form against the plain network: same pyramid, prototypes and rows of priors, whatever the backbone."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from maskwright.fast.accelerate import FastForm, accelerate
from maskwright.fast.blocks import FastDeformable, FastResidual
from maskwright.fast.fused import FusedConv
from maskwright.models import yolact
from maskwright.models.family import accelerated
from maskwright.models.yolact import Yolact
from maskwright.models.yolact.fast import FastHead, FastPyramid
from maskwright.nn.backbones import norm_layer
from maskwright.nn.darknet import DarkNet
from maskwright.nn.deform import DeformableConv2d
from maskwright.types import Inputs

STYLES = {
    "yolact": yolact.tiny("yolact"),
    "plus": yolact.tiny("plus"),
    "compact": yolact.tiny("compact"),
    "wide": replace(yolact.tiny("yolact"), channels=128, proto_channels=128, proto_convs=2, head_convs=2),
    "bare": replace(yolact.tiny("yolact"), head_convs=0, proto_convs=0, proto_upsample=False),
    "resnet18_half": replace(yolact.tiny("compact"), backbone="resnet18_half", norm="live"),
    "resnet26t": replace(yolact.tiny("yolact"), backbone="resnet26t", norm="live"),
    "mobilenetv2": replace(yolact.tiny("yolact"), backbone="mobilenetv2"),
    "mobilenetv3": replace(yolact.tiny("yolact"), backbone="mobilenetv3_small_050", norm="live"),
}


def unsettled(model: nn.Module) -> nn.Module:
    """With norms that do something and biases that are not zero."""
    g = torch.Generator().manual_seed(0)
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if name.endswith(("bias", "running_mean")):
            tensor.data.copy_(torch.rand(tensor.shape, generator=g) * 0.2 - 0.1)
        elif name.endswith("running_var"):
            tensor.data.copy_(torch.rand(tensor.shape, generator=g) * 0.2 + 0.9)
    return model


@pytest.fixture(scope="module", params=STYLES)
def pair(request) -> tuple[Yolact, Yolact]:
    torch.manual_seed(0)
    plain = unsettled(Yolact(STYLES[request.param])).eval()
    return plain, accelerated(plain)


def close(fast: torch.Tensor, plain: torch.Tensor, limit: float) -> None:
    assert fast.shape == plain.shape
    assert (fast.float() - plain).norm() <= limit * plain.norm()


def test_every_value_is_that_of_the_plain_network(pair):
    plain, fast = pair
    x = torch.randn((2, 3, 65, 99), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        wanted, found = plain.features(x), fast.features(x.to(memory_format=torch.channels_last))
        for a, b in zip(found, wanted, strict=True):
            close(a, b, 1e-4)
        close(fast.protonet(found[0]), plain.protonet(wanted[0]), 1e-4)
        a, b = fast.head(found), plain.head(wanted)
        close(a.deltas, b.deltas, 1e-4)
        close(a.logits, b.logits, 1e-4)
        image, prior = torch.ones(b.logits.shape[:2], dtype=torch.bool).nonzero(as_tuple=True)
        close(a.coefficients[image, prior], b.coefficients[image, prior], 1e-4)
        close(a.coefficients[image[:0], prior[:0]], b.coefficients[image[:0], prior[:0]], 1e-4)
        close(a.coefficients[image[[7, 2, 7]], prior[[7, 2, 7]]], b.coefficients[image, prior][[7, 2, 7]], 1e-4)


def test_darknet_gives_the_same_maps():
    torch.manual_seed(0)
    plain = unsettled(DarkNet(norm_layer("frozen"), width=4)).eval()
    fast = accelerate(copy.deepcopy(plain).to(memory_format=torch.channels_last), FastForm())
    x = torch.randn((2, 3, 64, 97), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        for a, b in zip(fast(x.to(memory_format=torch.channels_last)), plain(x), strict=True):
            close(a, b, 1e-4)
    kinds = {type(m) for m in fast.modules()}
    assert FastResidual in kinds
    assert not any("Norm" in kind.__name__ for kind in kinds)


def test_bf16_is_near(pair):
    plain, fast = pair
    fast = copy.deepcopy(fast).to(torch.bfloat16)
    x = torch.randn((1, 3, 64, 96), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        wanted, found = plain.features(x), fast.features(x.to(torch.bfloat16))
        assert all(f.dtype == torch.bfloat16 for f in found)
        close(fast.protonet(found[0]), plain.protonet(wanted[0]), 0.1)
        a, b = fast.head(found), plain.head(wanted)
        close(a.logits, b.logits, 0.1)
        image, prior = torch.zeros(20, dtype=torch.int64), torch.arange(20)
        close(a.coefficients[image, prior], b.coefficients[image, prior], 0.1)


def test_a_map_that_was_given_out_is_not_written_over(pair):
    _, fast = pair
    kept = []
    hook = fast.fpn.register_forward_pre_hook(lambda _, args: kept.extend((m, m.clone()) for m in args[0]))
    with torch.inference_mode():
        fast.detect(Inputs(torch.randn(1, 3, 64, 64)))
    hook.remove()
    assert kept
    for given, copied in kept:
        assert torch.equal(given, copied)


def test_no_norm_is_left_and_the_fast_forms_are_in_place():
    torch.manual_seed(0)
    for name, forms in {
        "plus": {FastHead, FastPyramid, FastDeformable},
        "mobilenetv2": {FastHead, FastPyramid, FusedConv},
        "resnet18_half": {FastHead, FastPyramid, FusedConv},
    }.items():
        fast = accelerated(Yolact(STYLES[name]))
        kinds = {type(m) for m in fast.modules()}
        assert forms <= kinds, name
        assert not any("Norm" in kind.__name__ for kind in kinds), (name, kinds)


def test_a_fast_network_can_be_copied_and_accelerated_again(pair):
    _, fast = pair
    inputs = Inputs(torch.randn(1, 3, 64, 64))
    with torch.inference_mode():
        wanted, again = (net.detect(inputs).tensors() for net in (fast, accelerated(fast)))
    assert all(torch.equal(value, again[name]) for name, value in wanted.items())


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16, torch.float64])
def test_deformed_taps_anywhere_read_what_the_plain_convolution_reads(stride, kind):
    """Offsets of many cells: inside, across the border, far outside, and whole ones, which lie exactly on cells."""
    g = torch.Generator().manual_seed(stride)
    plain = DeformableConv2d(16, 8, stride=stride)
    for tensor in (plain.sampling.weight, plain.sampling.bias, plain.bias):
        tensor.data.copy_(torch.randn(tensor.shape, generator=g))
    plain.sampling.bias.data[:4] = torch.tensor([30.0, -30.0, 0.0, 1.0])
    plain.sampling.weight.data[2:6] = 0
    x = torch.randn((2, 16, 9, 13), generator=g)
    norm = nn.BatchNorm2d(8).eval()
    norm.running_var.mul_(0.5)
    with torch.inference_mode():
        wanted = norm(plain(x)).relu()
        found = FastDeformable(plain, norm).to(kind)(x.to(kind).to(memory_format=torch.channels_last))
    assert found.dtype == kind
    if kind != torch.bfloat16:  # there the places themselves are rounded by whole pixels
        close(found, wanted, 1e-4)
