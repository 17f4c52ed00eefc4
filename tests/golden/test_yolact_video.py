"""Key frames of YolactEdge's video model: the image network inside it gives the recorded answers and losses.

Needs the whole recording in ../shared: its frames are parts of an image that no package carries.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.golden.compare import mask_ious
from tests.golden.test_yolact import (
    MASK_IOU,
    RELATIVE,
    THRESHOLD,
    Answers,
    match_kept,
    match_shown,
    recorded_rows,
    relative,
)
from tests.golden.test_yolact_training import LOSS, TERMS
from tests.golden.yolact_recorded import SIZE, Recording, steps, unpacked

from maskwright.models import yolact
from maskwright.models.yolact import Yolact
from maskwright.ops import masks as mask_ops
from maskwright.ops.warp import resize_normalise
from maskwright.predictor.predictor import Predictor
from maskwright.types import Classes, Inputs, Masks, Target
from maskwright.weights.keyrules import convert
from maskwright.weights.load import load_into

pytestmark = pytest.mark.golden

CLASSES = 40
"""Of YouTube-VIS 2019."""

ROWS = {"loc": 23, "conf": 89, "coef": 41}
"""Every so many priors of the raw answers were recorded."""


@pytest.fixture(scope="module")
def recording(shared: Path) -> Recording:
    return Recording(shared / "golden" / "yolact" / "yolact_edge_vid_resnet50")


@pytest.fixture(scope="module")
def model(recording: Recording) -> Yolact:
    found = convert(recording.weights(), yolact.NAMES)
    model = Yolact(yolact.published(CLASSES)).eval()
    load_into(model, {n: t for n, t in found.state.items() if n not in found.unknown}, recording.name)
    return model


def frame(recording: Recording, number: int) -> np.ndarray:
    (y, x), (height, width) = recording["offsets_yx"][number], recording["frame_hw"]
    return np.ascontiguousarray(recording["canvas_bgr"][y : y + height, x : x + width, ::-1])


def test_which_frames_are_key_frames(recording: Recording) -> None:
    assert np.flatnonzero(recording["is_key"]).tolist() == [0, 5]


@pytest.mark.parametrize("number", [0, 5])
def test_key_frames(recording: Recording, model: Yolact, number: int) -> None:
    image = frame(recording, number)
    answers = Answers(model, image)
    for name in ("in", "C3_", "C5_", "M3_", "P3_", "P7_", "loc", "conf", "coef", "proto"):
        key = f"{name}{number}"
        own = answers.value(key)
        kind = name if name in ("in", "proto") else "map"
        strides = (ROWS[name], 1) if name in ROWS else steps(kind, tuple(own.shape))
        cut = own[tuple(slice(None, None, step) for step in strides)]
        assert relative(cut, recording[key]) <= RELATIVE, key
    match_kept(recorded_rows(recording, f"det{number}"), answers.chosen("fast"))


@pytest.mark.parametrize("number", [0, 5])
def test_key_frames_end_to_end(recording: Recording, model: Yolact, number: int) -> None:
    predictor = Predictor(model, Classes([f"class {i}" for i in range(CLASSES)]))
    found = predictor.predict(frame(recording, number), score_threshold=THRESHOLD)
    pairs = match_shown(recorded_rows(recording, f"pp{number}"), found)
    assert found.crops is not None
    own = mask_ops.encode(found.crops[pairs.own])
    recorded = mask_ops.encode(Masks.from_dense(recording.masks(f"pp{number}")[pairs.recorded]))
    assert mask_ious([rle["counts"] for rle in recorded], own).min() >= MASK_IOU


def test_losses_of_a_frame_that_goes_all_the_way(recording: Recording, model: Yolact) -> None:
    """Frame 3 through the whole network, as one of the steps of the video model's training takes it."""
    loss = recording.loss
    image = resize_normalise(frame(recording, int(loss["frames"][1])), model.config.spec)[None]
    rows = torch.from_numpy(loss["target0"])
    target = Target(rows[:, :4] * SIZE, rows[:, 4].long(), Masks.from_dense(unpacked(loss, "gtmask0")))
    with torch.no_grad():
        found = model.loss(Inputs(image), [target])
    wanted = dict(zip(loss["compute_names"].tolist(), loss["compute_values"].tolist(), strict=True))
    assert {name: float(found[TERMS[name]]) for name in wanted} == pytest.approx(wanted, rel=LOSS)
