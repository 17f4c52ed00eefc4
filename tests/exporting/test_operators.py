"""Operators of exported graphs against the eager ones."""

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from maskwright.exporting.graph import quiet
from maskwright.exporting.operators import OPSET, translations
from maskwright.ops import nms
from maskwright.ops.rows import with_room

ROWS = 60


class Suppression(nn.Module):
    def __init__(self, inclusive: bool) -> None:
        super().__init__()
        self.inclusive = inclusive

    def forward(self, boxes: Tensor, scores: Tensor, groups: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        survives = nms.survivors(boxes, scores, groups, 0.5, inclusive=self.inclusive)
        ranked, order = scores.sort(stable=True, descending=True)
        return survives, ranked, order


def rows(seed: int, groups: int) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes that overlap often, scores of both signs with ties, empty boxes."""
    draw = torch.Generator().manual_seed(seed)
    corner, side = torch.rand(ROWS, 2, generator=draw) * 60, torch.rand(ROWS, 2, generator=draw) * 60 + 1
    boxes = torch.cat([corner, corner + side], 1)
    boxes[::7] = 0
    boxes[1::9] = boxes[0]
    scores = (torch.randn(ROWS, generator=draw) * 4).round() / 4
    scores[::11] = -torch.inf
    return boxes, scores, torch.randint(0, groups, (ROWS,), generator=draw)


@pytest.mark.parametrize("inclusive", [False, True])
def test_suppression_and_sorting_in_onnx(inclusive: bool) -> None:
    """Half of two boxes overlap exactly, so that the threshold itself is met."""
    with quiet(), torch.no_grad():
        program = torch.export.export(Suppression(inclusive), rows(0, 3), strict=False)
        written = torch.onnx.export(
            program, dynamo=True, custom_translation_table=translations(), opset_version=OPSET, verbose=False
        )
    assert written is not None
    session = onnxruntime.InferenceSession(written.model_proto.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]
    for seed in range(8):
        given = rows(seed, 1 if seed == 7 else 4)
        given[0][2:4] = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5]])
        given[2][2:4] = 0
        got = session.run(None, {name: value.numpy() for name, value in zip(names, given, strict=True)})
        wanted = Suppression(inclusive)(*given)
        for ours, theirs in zip(got, wanted, strict=True):
            np.testing.assert_array_equal(ours, theirs.numpy())


def test_the_operator_has_the_shape_of_its_groups() -> None:
    boxes, scores, groups = rows(1, 2)
    torch.library.opcheck(torch.ops.maskwright.survivors.default, (boxes, scores, groups, 0.5, False))


def test_room_is_made_in_graphs_alone() -> None:
    values = torch.ones(3, 2)
    assert with_room(values, 5) is values

    class Roomy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return with_room(x, 5, -1.0)

    made = torch.export.export(Roomy(), (values,)).module()(values)
    assert made.shape == (8, 2)
    assert bool((made[3:] == -1).all())
