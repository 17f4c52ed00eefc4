"""Anchors against plain loops and torchvision's generator."""

import pytest
import torch
from tests.reference import anchors as twin
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from maskwright.ops.anchors import cell_anchors, grid_anchors

SIZES = [(32.0,), (12.0, 24.0, 48.0), (7.0,)]
RATIOS = [(0.5, 1.0, 2.0), (1.0,)]


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("ratios", RATIOS)
@pytest.mark.parametrize("stride", [(8.0, 8.0), (16.0, 13.0)])
def test_equal_to_the_twin(sizes: tuple[float, ...], ratios: tuple[float, ...], stride: tuple[float, float]) -> None:
    anchors = grid_anchors(cell_anchors(sizes, ratios), (3, 5), stride)
    expected = torch.tensor(twin.grid(sizes, ratios, (3, 5), stride))
    torch.testing.assert_close(anchors, expected, rtol=1e-6, atol=1e-5)
    assert anchors.dtype == torch.float32


@pytest.mark.parametrize("ratios", RATIOS)
def test_rounded_equal_torchvision_exactly(ratios: tuple[float, ...]) -> None:
    """One size a level, as every published model has it; where there are more, torchvision puts ratios outermost."""
    for size in range(1, 600, 7):
        generator = AnchorGenerator(((size,), (2 * size,)), (ratios, ratios))
        maps = [torch.zeros(1, 1, 6, 9), torch.zeros(1, 1, 3, 4)]
        expected = generator(ImageList(torch.zeros(1, 3, 97, 150), [(97, 150)]), maps)[0]
        first, second = (cell_anchors((float(s),), ratios, rounded=True) for s in (size, 2 * size))
        ours = [grid_anchors(first, (6, 9), (97 // 6, 150 // 9)), grid_anchors(second, (3, 4), (97 // 3, 150 // 4))]
        assert torch.equal(torch.cat(ours), expected)


def test_anchors_have_the_given_areas_and_aspect_ratios() -> None:
    cell = cell_anchors((10.0, 20.0), (0.25, 1.0, 4.0))
    width, height = cell[:, 2] - cell[:, 0], cell[:, 3] - cell[:, 1]
    assert (width * height).tolist() == pytest.approx([100] * 3 + [400] * 3)
    assert (height / width).tolist() == pytest.approx([0.25, 1, 4] * 2)
    assert (cell[:, :2] + cell[:, 2:]).abs().max() == 0


def test_halves_are_rounded_to_even() -> None:
    assert cell_anchors((7.0,), (1.0,), rounded=True).tolist() == [[-4, -4, 4, 4]]
    assert cell_anchors((5.0,), (1.0,), rounded=True).tolist() == [[-2, -2, 2, 2]]


def test_a_map_without_cells_has_no_anchors() -> None:
    assert grid_anchors(cell_anchors((8.0,), (1.0,)), (0, 4), (8, 8)).shape == (0, 4)
