"""YOLACT's fast form against the plain network: same pyramid, prototypes and rows of priors, whatever the backbone."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from maskwright.models import yolact
from maskwright.models.yolact import Yolact
from maskwright.nn.fast import accelerate
from maskwright.nn.fast_yolact import FastDeformable, FastHead, FastPyramid, FastResidual
from maskwright.nn.fused import FusedConv

STYLES = {
    "yolact": yolact.tiny("yolact"),
    "plus": yolact.tiny("plus"),
    "compact": yolact.tiny("compact"),
    "wide": replace(yolact.tiny("yolact"), channels=128, proto_channels=128, proto_convs=2, head_convs=2),
    "bare": replace(yolact.tiny("yolact"), head_convs=0, proto_convs=0, proto_upsample=False),
    "resnet18": replace(yolact.tiny("yolact"), backbone="resnet18", norm="live"),
    "resnet18_half": replace(yolact.tiny("compact"), backbone="resnet18_half", norm="live"),
    "resnet26t": replace(yolact.tiny("yolact"), backbone="resnet26t", norm="live"),
    "darknet53": replace(yolact.tiny("yolact"), backbone="darknet53"),
    "mobilenetv2": replace(yolact.tiny("yolact"), backbone="mobilenetv2"),
    "regnetx_002": replace(yolact.tiny("yolact"), backbone="regnetx_002", norm="live"),
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
    return plain, accelerate(copy.deepcopy(plain).to(memory_format=torch.channels_last))


def close(fast: torch.Tensor, plain: torch.Tensor, limit: float) -> None:
    assert fast.shape == plain.shape
    assert (fast.float() - plain).norm() <= limit * plain.norm()


@pytest.mark.parametrize("size", [(64, 64), (97, 131)])
def test_every_value_is_that_of_the_plain_network(pair, size):
    plain, fast = pair
    x = torch.randn((2, 3, *size), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        wanted, found = plain.features(x), fast.features(x.to(memory_format=torch.channels_last))
        for a, b in zip(found, wanted, strict=True):
            close(a, b, 1e-4)
        close(fast.protonet(found[0]), plain.protonet(wanted[0]), 1e-4)
        a, b = fast.head(found), plain.head(wanted)
        for name in ("deltas", "logits", "coefficients"):
            close(getattr(a, name), getattr(b, name), 1e-4)


def test_bf16_is_near(pair):
    plain, fast = pair
    fast = copy.deepcopy(fast).to(torch.bfloat16)
    x = torch.randn((1, 3, 64, 96), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        wanted, found = plain.features(x), fast.features(x.to(torch.bfloat16))
        assert all(f.dtype == torch.bfloat16 for f in found)
        close(fast.protonet(found[0]), plain.protonet(wanted[0]), 0.1)
        close(fast.head(found).logits, plain.head(wanted).logits, 0.1)


def test_a_map_that_was_given_out_is_not_written_over(pair):
    _, fast = pair
    kept = []
    hook = fast.fpn.register_forward_pre_hook(lambda _, args: kept.extend((m, m.clone()) for m in args[0]))
    with torch.inference_mode():
        fast.detect(torch.randn(1, 3, 64, 64))
    hook.remove()
    assert kept
    for given, copied in kept:
        assert torch.equal(given, copied)


def test_no_norm_is_left_and_the_fast_forms_are_in_place():
    torch.manual_seed(0)
    for name, forms in {
        "plus": {FastHead, FastPyramid, FastDeformable},
        "darknet53": {FastHead, FastPyramid, FastResidual},
        "mobilenetv2": {FastHead, FastPyramid, FusedConv},
        "resnet18_half": {FastHead, FastPyramid, FusedConv},
    }.items():
        fast = accelerate(Yolact(STYLES[name]).eval())
        kinds = {type(m) for m in fast.modules()}
        assert forms <= kinds, name
        assert not any("Norm" in kind.__name__ for kind in kinds), (name, kinds)


def test_a_fast_network_can_be_copied_and_accelerated_again(pair):
    _, fast = pair
    x = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        wanted = fast.detect(x)
        again = accelerate(copy.deepcopy(fast)).detect(x)
    assert torch.equal(wanted.scores, again.scores)
    assert torch.equal(wanted.prototypes, again.prototypes)
