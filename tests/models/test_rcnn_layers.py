"""Poolers, heads and pyramid: levels against torchvision, the mask head against its all-classes form, no rows."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torchvision.models.detection.roi_heads import maskrcnn_inference
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.poolers import LevelMapper

from maskwright.models.rcnn.fpn import FPN
from maskwright.models.rcnn.layers import BoxHead, BoxPredictor, MaskHead, MeanHead
from maskwright.models.rcnn.reader import Pooler
from maskwright.nn.backbones import norm_layer

SCALES = (1 / 4, 1 / 8, 1 / 16, 1 / 32)


def boxes_of(sides: torch.Tensor) -> torch.Tensor:
    return torch.stack([torch.zeros_like(sides), torch.zeros_like(sides), sides, sides], 1)


@pytest.mark.parametrize("outer", [True, False])
def test_levels_follow_the_paper(outer: bool) -> None:
    pooler = Pooler(SCALES, 7, 2, aligned=True, outer_epsilon=outer)
    sides = torch.tensor([1.0, 111.9, 112.1, 223.9, 224.1, 447.9, 448.1, 895.9, 896.1, 1e5])
    assert pooler.levels(boxes_of(sides)).tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 3, 3]


def test_levels_equal_torchvisions_on_the_borders_too() -> None:
    borders = torch.tensor([112.0, 224.0, 448.0, 896.0])
    hair = borders * (1 - 5e-7)  # torchvision's guard takes these for the border
    boxes = boxes_of(torch.cat([torch.linspace(0.5, 1200, 4000), borders, hair]))
    theirs = LevelMapper(2, 5)([boxes])
    assert torch.equal(Pooler(SCALES, 7, 2, aligned=False, outer_epsilon=True).levels(boxes), theirs)
    assert theirs[-4:].tolist() == [1, 2, 3, 3]


@pytest.mark.parametrize("scales", [(1 / 4, 1 / 8, 1 / 16), (1 / 8, 1 / 16, 1 / 32)])
def test_levels_stay_inside_shorter_pyramids(scales: tuple[float, ...]) -> None:
    pooler = Pooler(scales, 7, 2, aligned=True)
    found = pooler.levels(boxes_of(torch.tensor([2.0, 60, 150, 300, 600, 3000])))
    absolute = (found + round(-torch.tensor(scales[0]).log2().item())).tolist()
    lowest = round(-torch.tensor(scales[0]).log2().item())
    assert absolute == [min(max(v, lowest), lowest + 2) for v in (2, 2, 3, 4, 5, 5)]


def test_a_box_without_area_goes_to_the_finest_level() -> None:
    for outer in (True, False):
        pooler = Pooler(SCALES, 7, 2, aligned=True, outer_epsilon=outer)
        assert pooler.levels(torch.tensor([[3.0, 3, 3, 3], [5, 5, 5, 9]])).tolist() == [0, 0]


def test_pooling_equals_torchvisions() -> None:
    generator = torch.Generator().manual_seed(0)
    features = [torch.randn(2, 3, 128 // s, 160 // s, generator=generator) for s in (4, 8, 16, 32)]
    corner = torch.rand(30, 2, generator=generator) * 80
    boxes = torch.cat([corner, corner + 4 + torch.rand(30, 2, generator=generator) * 400], 1)
    index = torch.arange(30) // 15
    theirs = MultiScaleRoIAlign([str(i) for i in range(4)], 7, 2)
    expected = theirs({str(i): f for i, f in enumerate(features)}, [boxes[:15], boxes[15:]], [(128, 160)] * 2)
    pooler = Pooler(SCALES, 7, 2, aligned=False, outer_epsilon=True)
    extra = torch.randn(2, 3, 2, 3)  # the pyramid's last map, which no box is read from
    torch.testing.assert_close(pooler([*features, extra], boxes, index), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("convs", [0, 2])
@pytest.mark.parametrize("rows", [0, 1, 5])
def test_the_mask_head_computes_the_wanted_class_alone(convs: int, rows: int) -> None:
    torch.manual_seed(0)
    head = MaskHead(6, 8, 4, convs).eval()
    torch.nn.init.normal_(head.logits.weight)
    torch.nn.init.normal_(head.logits.bias)
    torch.nn.init.normal_(head.deconv.bias)
    x, labels = torch.randn(rows, 6, 7, 7), torch.randint(0, 4, (rows,))
    every = head.all_classes(x)
    assert every.shape == (rows, 4, 14, 14)
    found = head(x, labels)
    assert found.shape == (rows, 14, 14)
    torch.testing.assert_close(found, every[torch.arange(rows), labels], rtol=1e-4, atol=1e-5)
    if rows:
        theirs = torch.cat(maskrcnn_inference(every, [labels]))[:, 0]
        torch.testing.assert_close(found.sigmoid(), theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rows", [0, 3])
def test_box_heads(rows: int) -> None:
    x = torch.randn(rows, 6, 7, 7)
    for convs, fcs in ((0, 2), (2, 1)):
        head = BoxHead(6, 7, fcs, 10, convs, norm_layer("live") if convs else None).eval()
        assert head(x).shape == (rows, 10)
        assert head(x.to(memory_format=torch.channels_last)).allclose(head(x), atol=1e-5)
    assert torch.equal(MeanHead()(x), x.mean((2, 3)))
    logits, deltas = BoxPredictor(10, 4)(torch.randn(rows, 10))
    assert logits.shape == (rows, 5)
    assert deltas.shape == (rows, 4, 4)


def test_offsets_lie_class_by_class() -> None:
    predictor = BoxPredictor(5, 3)
    x = torch.randn(2, 5)
    assert torch.equal(predictor(x)[1].flatten(1), predictor.deltas(x))


def test_pyramid_equals_its_definition() -> None:
    torch.manual_seed(0)
    fpn = FPN((4, 6, 8), 5)
    maps = [torch.randn(2, 4, 16, 12), torch.randn(2, 6, 8, 6), torch.randn(2, 8, 4, 3)]
    coarse = fpn.lateral[2](maps[2])
    middle = fpn.lateral[1](maps[1]) + coarse.repeat_interleave(2, 2).repeat_interleave(2, 3)
    fine = fpn.lateral[0](maps[0]) + middle.repeat_interleave(2, 2).repeat_interleave(2, 3)
    expected = [fpn.output[i](m) for i, m in enumerate((fine, middle, coarse))]
    expected.append(F.max_pool2d(expected[2], 1, stride=2))
    found = fpn(maps)
    assert [tuple(f.shape) for f in found] == [(2, 5, 16, 12), (2, 5, 8, 6), (2, 5, 4, 3), (2, 5, 2, 2)]
    for ours, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, wanted)


def test_pyramid_takes_odd_sizes_and_leaves_its_inputs_alone() -> None:
    fpn = FPN((4, 6), 5, norm_layer("live")).eval()
    maps = [torch.randn(1, 4, 7, 9), torch.randn(1, 6, 4, 5)]
    before = copy.deepcopy(maps)
    assert [tuple(f.shape[2:]) for f in fpn(maps)] == [(7, 9), (4, 5), (2, 3)]
    assert all(torch.equal(a, b) for a, b in zip(maps, before, strict=True))
