"""YolactEdge's video model gives the recorded answers, frame by frame, and learns from the recorded losses.

Needs the whole recording in ../shared: its frames are parts of an image that no package carries.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.golden.compare import mask_ious
from tests.golden.test_yolact import (
    MASK_IOU,
    RELATIVE,
    THRESHOLD,
    match_kept,
    match_shown,
    recorded_rows,
    relative,
)
from tests.golden.test_yolact_training import LOSS, TERMS
from tests.golden.yolact_recorded import SIZE, Recording, steps, unpacked
from torch import Tensor

from maskwright.models import yolact_edge, zoo
from maskwright.models.family import accelerated
from maskwright.models.yolact_edge import KeyFrame, YolactEdge
from maskwright.models.yolact_edge.loss import end_point_error, matching
from maskwright.models.yolact_edge.network import CarriedLevels, PyramidLevels
from maskwright.ops import masks as mask_ops
from maskwright.ops.flow import warp
from maskwright.ops.warp import resize_normalise
from maskwright.predictor.finish import finish
from maskwright.predictor.prepare import prepare
from maskwright.results.prediction import Prediction
from maskwright.types import Classes, Inputs, Masks, Target
from maskwright.weights.keyrules import convert
from maskwright.weights.load import load_into

pytestmark = pytest.mark.golden

CLASSES = Classes([f"class {i}" for i in range(40)])
"""As many as YouTube-VIS 2019 has."""

FRAMES = range(6)

ROWS = {"loc": 23, "conf": 89, "coef": 41}
"""Every so many priors of the raw answers were recorded."""


@pytest.fixture(scope="module")
def recording(shared: Path) -> Recording:
    return Recording(shared / "golden" / "yolact" / "yolact_edge_vid_resnet50")


@pytest.fixture(scope="module")
def model(recording: Recording) -> YolactEdge:
    found = convert(recording.weights(), zoo.known().names)
    model = YolactEdge(yolact_edge.published()).eval()
    load_into(model, found, recording.name, zoo.known())
    return model


def image_of(recording: Recording, number: int) -> np.ndarray:
    (y, x), (height, width) = recording["offsets_yx"][number], recording["frame_hw"]
    return np.ascontiguousarray(recording["canvas_bgr"][y : y + height, x : x + width, ::-1])


class Frame:
    """What one frame gives on the way; of every frame the key frame is the last one before it."""

    def __init__(self, model: YolactEdge, recording: Recording, number: int) -> None:
        self.input = resize_normalise(image_of(recording, number), model.config.spec)
        self.carried: CarriedLevels | None = None
        with torch.inference_mode():
            if recording["is_key"][number]:
                maps = model.backbone(self.input[None])
                own = model.own(self.input[None])
                merged, features = model.fpn.merge(maps), model.maps(own)
                self.values = {f"C{i}": t[0] for i, t in enumerate(maps, 3)} | {"L3": own.lateral[0]}
            else:
                key = model.keep(model.own(resize_normalise(image_of(recording, 0), model.config.spec)[None]))
                lateral = model.lateral(self.input[None])
                self.carried = carried = model.carry(lateral, key, first=0)
                merged, features = carried.merged, carried.features
                finest = model.backbone(self.input[None], levels=1)
                seen = model.flow.look(lateral)
                self.values = {"C3": finest[0][0], "pre_cur": seen[0], "pre_key": key.seen[0]}
                self.values |= _motion(carried)
            trace = model.read(features, (SIZE, SIZE), model.config.limits_for("fast"))
        self.values |= {f"M{i}": t[0] for i, t in enumerate(merged, 3)}
        self.values |= {f"P{i}": t[0] for i, t in enumerate(features, 3)}
        raw = trace.outputs
        self.values |= {"in": self.input, "proto": trace.prototypes[0], "loc": raw.deltas[0]}
        self.values |= {"conf": raw.logits[0].softmax(dim=1).roll(1, dims=1)}  # theirs has the background first
        coefficients = raw.coefficients
        assert isinstance(coefficients, Tensor)
        self.values["coef"] = coefficients[0]
        alive = trace.found.scores > 0
        found = trace.found
        self.kept = (found.boxes[alive], found.scores[alive], found.labels[alive], trace.coefficients[alive])


def _motion(carried: CarriedLevels) -> dict[str, Tensor]:
    """Recorded flows are in the network's units, the same share of the side at every level."""
    out = {}
    for level, motion in enumerate(carried.motion, 3):
        h, w = motion.flow.shape[-2:]
        out[f"flow{level}"] = motion.flow[0] * 16 / torch.tensor([w - 1, h - 1])[:, None, None]
        if motion.scale is not None and motion.bias is not None:
            out[f"scale{level}"], out[f"bias{level}"] = motion.scale[0], motion.bias[0]
            out[f"spa{level}"] = carried.merged[level - 3][0]
    return out


@pytest.fixture(scope="module")
def frames(model: YolactEdge, recording: Recording) -> Mapping[int, Frame]:
    return {number: Frame(model, recording, number) for number in FRAMES}


def cut_of(value: Tensor, name: str) -> Tensor:
    if name in ("flow4", "flow5"):
        return value
    kind = name if name in ("in", "proto") else "map"
    strides = (ROWS[name], 1) if name in ROWS else steps(kind, tuple(value.shape))
    return value[tuple(slice(None, None, step) for step in strides)]


def test_which_frames_are_key_frames(recording: Recording, model: YolactEdge) -> None:
    assert np.flatnonzero(recording["is_key"]).tolist() == [0, model.config.interval]


@pytest.mark.parametrize("number", FRAMES)
def test_values_on_the_way(recording: Recording, frames: Mapping[int, Frame], number: int) -> None:
    values = frames[number].values
    recorded = {"in", "C3", "M3", "M4", "M5", "P3", "P4", "P5", "P6", "P7", "loc", "conf", "coef", "proto"}
    recorded |= {"C4", "C5", "L3"} if recording["is_key"][number] else {"flow3", "flow4", "flow5", "scale4", "bias5"}
    assert recorded <= values.keys()
    for name, value in values.items():
        key = f"{name}{number}" if name in ("in", "proto", *ROWS) else f"{name}_{number}"
        assert relative(cut_of(value, name), recording[key]) <= RELATIVE, key


@pytest.mark.parametrize("number", FRAMES)
def test_what_suppression_leaves(recording: Recording, frames: Mapping[int, Frame], number: int) -> None:
    match_kept(recorded_rows(recording, f"det{number}"), frames[number].kept)


def test_frames_end_to_end(recording: Recording, model: YolactEdge) -> None:
    """With the network as it predicts, through `start` and `step`."""
    fast, state = accelerated(model), None
    assert isinstance(fast, YolactEdge)
    for number in FRAMES:
        image = image_of(recording, number)
        tensor, geometry = prepare(image, model.config.spec)
        inputs = Inputs(tensor[None])
        with torch.inference_mode():
            if recording["is_key"][number]:
                raw, state = fast.start(inputs)
            else:
                assert isinstance(state, KeyFrame)
                raw, state = fast.step(inputs, state)
        found = finish(raw, 0, geometry, CLASSES, replace(model.config.output, score_threshold=THRESHOLD))
        shown_as_recorded(recording, f"pp{number}", found)


def shown_as_recorded(recording: Recording, key: str, found: Prediction) -> None:
    pairs = match_shown(recorded_rows(recording, key), found)
    assert found.crops is not None
    own = mask_ops.encode(found.crops[pairs.own])
    recorded = mask_ops.encode(Masks.from_dense(recording.masks(key)[pairs.recorded]))
    assert mask_ious([rle["counts"] for rle in recorded], own).min() >= MASK_IOU


def test_the_motion_of_a_map(recording: Recording) -> None:
    loss = {name: torch.from_numpy(recording.loss[name]) for name in ("warp_x", "warp_flow", "warp_y")}
    h, w = loss["warp_x"].shape[-2:]
    cells = loss["warp_flow"] * torch.tensor([w - 1, h - 1])[:, None, None] / 16
    assert relative(warp(loss["warp_x"], cells), loss["warp_y"].numpy()) <= 1e-6


@pytest.fixture(scope="module")
def learnt(recording: Recording, model: YolactEdge) -> Mapping[str, float]:
    """The terms of frame 3 with frame 0 before it."""
    loss = recording.loss
    before, image = (resize_normalise(image_of(recording, int(n)), model.config.spec)[None] for n in loss["frames"])
    rows = torch.from_numpy(loss["target0"])
    target = Target(rows[:, :4] * SIZE, rows[:, 4].long(), Masks.from_dense(unpacked(loss, "gtmask0")))
    with torch.no_grad():
        return {name: float(v) for name, v in model.loss(Inputs(image, earlier=before), [target]).items()}


@pytest.mark.parametrize(("path", "start"), [("compute", ""), ("warp", "carried_")])
def test_losses_of_both_paths(recording: Recording, learnt: Mapping[str, float], path: str, start: str) -> None:
    names, values = recording.loss[f"{path}_names"].tolist(), recording.loss[f"{path}_values"].tolist()
    wanted = {start + TERMS[n]: value for n, value in zip(names, values, strict=True) if n in TERMS}
    assert len(wanted) == 4
    assert {name: learnt[name] for name in wanted} == pytest.approx(wanted, rel=LOSS)


def test_how_far_carried_levels_are_from_their_own(recording: Recording, learnt: Mapping[str, float]) -> None:
    """The second recorded value has the coarsest level behind its own convolution, the first behind the finest's."""
    assert learnt["match"] == pytest.approx(recording.loss["w_own"][1], rel=LOSS)


def test_the_published_matching_term(recording: Recording, model: YolactEdge) -> None:
    published = recording.loss["warp_values"][recording.loss["warp_names"].tolist().index("W")]
    before, image = (
        resize_normalise(image_of(recording, int(n)), model.config.spec)[None] for n in recording.loss["frames"]
    )
    with torch.no_grad():
        own: PyramidLevels = model.own(image)
        carried = model.carry(own.lateral, model.keep(model.own(before)))
        outputs = list(model.fpn.output)
        found = matching(own.levels, carried.merged[1:], [outputs[1], outputs[0]]).mean()
    assert float(found) == pytest.approx(published, rel=LOSS)


def test_the_loss_of_the_motion(recording: Recording, frames: Mapping[int, Frame], model: YolactEdge) -> None:
    """Of a constant true flow; recorded in the network's units."""
    carried = frames[int(recording.loss["frames"][1])].carried
    assert carried is not None
    truth = torch.from_numpy(recording.loss["flow_gt_xy"]).view(1, 2, 1, 1) / (2 * model.config.flow.reach)
    found = end_point_error(carried.motion, truth, model.config.flow.reach).mean()
    assert float(found) == pytest.approx(float(recording.loss["flow_loss"][0]), rel=LOSS)
