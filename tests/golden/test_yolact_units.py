"""Single operations of the official YOLACT code: coding of boxes, crops, and what suppression leaves."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.golden.match import Rows, match
from tests.golden.yolact_recorded import SIZE
from torch import Tensor

from maskwright.models.yolact.loss import BOX_WEIGHTS
from maskwright.ops.boxes import decode, encode
from maskwright.ops.nms import fast_nms, greedy_nms_by_class
from maskwright.ops.prototypes import window

pytestmark = pytest.mark.golden


@pytest.fixture(scope="module")
def units(shared: Path) -> dict[str, NDArray[Any]]:
    with np.load(shared / "golden" / "yolact" / "units" / "units.npz") as arrays:
        return dict(arrays)


def corners(boxes: NDArray[Any]) -> Tensor:
    """Centre form to xyxy."""
    c = torch.from_numpy(boxes)
    return torch.cat([c[:, :2] - c[:, 2:] / 2, c[:, :2] + c[:, 2:] / 2], dim=1)


def test_boxes_are_coded_alike(units: dict[str, NDArray[Any]]) -> None:
    priors = corners(units["dec_priors"])
    boxes = decode(torch.from_numpy(units["dec_loc"]), priors, BOX_WEIGHTS)
    np.testing.assert_allclose(boxes.numpy(), units["dec_boxes"], rtol=1e-5, atol=1e-6)
    offsets = encode(torch.from_numpy(units["dec_boxes"]), priors, BOX_WEIGHTS)
    np.testing.assert_allclose(offsets.numpy(), units["enc_loc"], rtol=1e-4, atol=1e-5)


def test_masks_are_cropped_alike(units: dict[str, NDArray[Any]]) -> None:
    """Also by boxes outside the map and by reversed ones."""
    masks = torch.from_numpy(units["crop_in"]).permute(2, 0, 1)
    boxes = torch.from_numpy(units["crop_boxes"]) * SIZE
    inside = window(boxes, (masks.shape[1], masks.shape[2]), (SIZE, SIZE))
    np.testing.assert_array_equal((masks * inside).permute(1, 2, 0).numpy(), units["crop_out"])


@pytest.mark.parametrize("boxes", ["nms", "nmsb"])
@pytest.mark.parametrize("kind", ["fast", "cc", "trad"])
def test_suppression_leaves_the_same(units: dict[str, NDArray[Any]], boxes: str, kind: str) -> None:
    """`nmsb` has so many boxes that the limits of 200 a class and of 100 in all are reached."""
    near = units[f"{boxes}_conf"][:, 1:].max(axis=1) > 0.05
    assert near.tolist() == units[f"{boxes}_keep"].tolist()
    scores = torch.from_numpy(units[f"{boxes}_conf"][near, 1:])
    places = torch.from_numpy(units[f"{boxes}_boxes"][near])
    if kind == "trad":
        row, label, value = greedy_nms_by_class(places * SIZE, scores, 0.05, 0.5, 100)
    else:
        keep = 200 if kind == "cc" else 100  # the latter is none of cross-class suppression
        row, label, value = fast_nms(places, scores, 0.5, 200, keep, across=kind == "cc")
    row, label, value = row[value > 0], label[value > 0], value[value > 0]
    recorded = {part: units[f"{boxes}_{kind}_{part}"] for part in ("box", "class", "score", "coef")}
    own = Rows(places[row].numpy(), label.numpy(), value.numpy())
    pairs = match(Rows(recorded["box"], recorded["class"], recorded["score"]), own, box=1e-6, score=0)
    np.testing.assert_array_equal(units[f"{boxes}_coef"][near][row.numpy()[pairs.own]], recorded["coef"])
