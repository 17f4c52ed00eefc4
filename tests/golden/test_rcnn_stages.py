"""Every stage of Mask and Keypoint R-CNN against the recorded one, each fed with the recorded output of that before.

So no rounding before a discrete choice is carried on, and the first test that fails names the stage that is wrong.
`plain` is the network as it is trained, `fast` the one users predict with. Needs ../shared.
"""

import json
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.golden.compare import (
    BOX_PX,
    MASK_IOU,
    SCORE,
    VALUES,
    assert_stats,
    assert_values,
    mask_ious,
    rows_as_recorded,
)
from tests.golden.match import Rows, match
from tests.golden.recorded import ZOO_NAMES, Recording, publisher, strided
from torch import Tensor

from maskwright.geometry import Geometry
from maskwright.models import zoo
from maskwright.models.base import Detections
from maskwright.models.family import accelerated
from maskwright.models.rcnn import RCNN
from maskwright.models.rcnn.proposer import Anchored, Proposals
from maskwright.ops import masks as mask_ops
from maskwright.ops.paste import paste
from maskwright.ops.warp import input_size, pad_batch, resize_normalise
from maskwright.predictor.finish import finish
from maskwright.results.prediction import Prediction
from maskwright.types import BoxMasks, HeatMaps, InputSpec, RawDetections
from maskwright.weights.load import load_file

pytestmark = pytest.mark.golden

VARIANTS = [(name, *which) for name in ZOO_NAMES for which in (("plain", "s320"), ("plain", "s800"), ("fast", "s320"))]


class Stages:
    """A model on one recorded image, its stages worked out when asked for."""

    def __init__(self, golden: Recording, model: RCNN, name: str, kind: str, key: str) -> None:
        self.golden, self.model, self.name, self.kind, self.key = golden, model, name, kind, key
        self.tv = publisher(name) == "torchvision"
        self.spec = InputSpec(**{**vars(model.config.spec), "size": int(key[1:])})
        self.whole = "C4" not in name or kind == "fast" or key == "s320"  # a thousand RoIs are slow unfused

    def __getitem__(self, key: str) -> NDArray[Any]:
        return self.golden[f"{self.key}/{key}"]

    def __contains__(self, key: str) -> bool:
        return f"{self.key}/{key}" in self.golden

    def tensor(self, key: str) -> Tensor:
        return torch.from_numpy(self[key])

    def check(self, key: str, own: Tensor, *, stats: bool = True) -> None:
        """Hold a whole tensor against the stored subset and the statistics of the recorded one."""
        key = f"{self.key}/{key}"
        recorded = self.golden[f"stats/{key}"]
        if key in self.golden:
            assert_values(strided(own, self.golden.steps(key)), self.golden[key], recorded[1], key)
        if stats:
            assert_stats(own, recorded, key)

    @cached_property
    def pixels(self) -> Tensor:
        return resize_normalise(self["image"], self.spec)

    @property
    def size(self) -> tuple[int, int]:
        return self.pixels.shape[1], self.pixels.shape[2]

    @cached_property
    def images(self) -> Tensor:
        return pad_batch([self.pixels], self.spec.multiple)

    @cached_property
    def body(self) -> list[Tensor]:
        return self.model.backbone(self.images)

    @cached_property
    def features(self) -> list[Tensor]:
        return self.model.fpn(self.body)

    @cached_property
    def anchors(self) -> list[Tensor]:
        return self.model.rpn.anchors(self.features, (self.images.shape[-2], self.images.shape[-1]))

    @cached_property
    def rpn(self) -> tuple[list[Tensor], list[Tensor]]:
        return self.model.rpn(self.features)

    @property
    def rows(self) -> slice:
        """Which of the recorded proposals go through the heads."""
        return slice(None) if self.whole else slice(None, None, 20)

    def pooled(self, boxes: Tensor) -> Tensor:
        pooler = self.model.box_branch.reader.pooler
        return pooler(self.features, boxes, torch.zeros(len(boxes), dtype=torch.int64))

    @cached_property
    def heads(self) -> tuple[Tensor, Tensor, Tensor]:
        """Box vector, class logits and offsets of the recorded proposals."""
        branch, pooled = self.model.box_branch, self.pooled(self.tensor("proposal_boxes")[self.rows])
        vector = branch.head(branch.reader.stage(pooled))
        return vector, *branch.predictor(vector)

    @cached_property
    def detections(self) -> tuple[Tensor, Tensor, Tensor]:
        """The recorded detections in the input's frame: boxes, scores, labels."""
        if not self.tv:
            return self.tensor("det_boxes"), self.tensor("det_scores"), self.tensor("det_classes").long()
        boxes = torch.from_numpy(self.geometry.boxes(self["final_boxes"]))
        return boxes, self.tensor("final_scores"), self.tensor("final_labels").long() - 1

    @cached_property
    def masks(self) -> Tensor:
        assert self.model.mask_branch is not None
        boxes, scores, labels = (value[None] for value in self.detections)
        found = Detections(boxes, scores, labels, torch.zeros_like(labels))
        return self.model.mask_branch.detect(self.features, found).probs[0]

    @cached_property
    def heat_maps(self) -> HeatMaps:
        """Of the recorded detections."""
        assert self.model.keypoint_branch is not None
        boxes, scores, labels = (value[None] for value in self.detections)
        return self.model.keypoint_branch.detect(
            self.features, Detections(boxes, scores, labels, torch.zeros_like(labels))
        )

    @cached_property
    def geometry(self) -> Geometry:
        return Geometry.resize(self["image"].shape[:2], self.size)

    def finished(self) -> Prediction:
        """The recorded detections, with our masks or landmarks, on the image."""
        boxes, scores, labels = self.detections
        part = BoxMasks(self.masks[None]) if self.model.mask_branch else self.heat_maps
        raw = RawDetections(boxes[None], scores[None], labels[None], (part,))
        return finish(raw, 0, self.geometry, zoo.ZOO[ZOO_NAMES[self.name]].classes, self.model.config.output)


@pytest.fixture(scope="module")
def models(shared: Path, checkpoint: Any) -> Any:
    """Gives the network of a name, plain or fast; keeps the last plain one."""
    kept: dict[str, RCNN] = {}

    def model(name: str, kind: str) -> RCNN:
        if name not in kept:
            kept.clear()
            built = zoo.build(zoo.resolve(ZOO_NAMES[name]))
            assert isinstance(built, RCNN)
            load_file(built, checkpoint(name), zoo.known())
            kept[name] = built.eval()
        if kind == "plain":
            return kept[name]
        fast = accelerated(kept[name])
        assert isinstance(fast, RCNN)
        return fast

    return model


@pytest.fixture(scope="module", params=VARIANTS, ids="-".join)
def run(request: pytest.FixtureRequest, shared: Path, models: Any) -> Iterator[Stages]:
    name, kind, key = request.param
    with torch.inference_mode():
        yield Stages(Recording(shared / "golden" / "rcnn" / name), models(name, kind), name, kind, key)


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


def test_input(run: Stages) -> None:
    assert list(run.size) == run["image_size"].tolist()
    if not run.tv:  # Pillow resizes: not a grey level off
        step = 1 if run.key == "s320" else 8
        grey = run.pixels.permute(1, 2, 0) + torch.tensor(run.spec.mean)
        assert np.abs(grey.numpy()[::step, ::step] - run["resized"]).max() < 1e-3
    run.check("input", run.images)


def test_features(run: Stages) -> None:
    if run.model.config.neck == "c4":
        run.check("res4", run.features[0])
        return
    if not run.tv:
        for i, values in enumerate(run.body):
            run.check(f"res{i + 2}", values)
    for i, values in enumerate(run.features):
        name = f"p{i + 2}" if not run.tv else f"fpn_{i}" if i < 4 else "fpn_pool"
        run.check(name, values)


def test_anchors(run: Stages) -> None:
    if run.tv:
        step = run.golden.steps(f"{run.key}/anchors")[0]
        assert np.abs(torch.cat(run.anchors).numpy()[::step] - run["anchors"]).max() == 0
        return
    for i, own in enumerate(run.anchors):
        level = "res4" if run.model.config.neck == "c4" else f"p{i + 2}"
        step = run.golden.steps(f"{run.key}/anchors/{level}")[0]
        assert np.abs(own.numpy()[::step] - run[f"anchors/{level}"]).max() < 1e-4
        if run.key == "s320":
            assert np.abs(run.model.rpn.cell(i).numpy() - run[f"cell_anchors/{level}"]).max() < 1e-4


def test_proposal_network(run: Stages) -> None:
    for i, (logits, deltas) in enumerate(zip(*run.rpn, strict=True)):
        level = str(i) if run.tv else "res4" if run.model.config.neck == "c4" else f"p{i + 2}"
        run.check(f"rpn_logits/{level}", logits[0, :, None])
        run.check(f"rpn_deltas/{level}", deltas[0])


def test_proposals(run: Stages) -> None:
    rpn = run.model.rpn
    found = rpn.best(Anchored(*run.rpn, run.anchors), [run.size], rpn.config.before, rpn.config.after)
    boxes, scores = found.of(0), found.scores[0][found.alive[0]]
    recorded = Rows(run["proposal_boxes"], scores=None if run.tv else run["proposal_logits"])
    match(recorded, Rows(boxes.numpy(), scores=scores.numpy()), box=BOX_PX, score=VALUES)


def test_levels(run: Stages) -> None:
    if "proposal_level" not in run:
        pytest.skip("levels were recorded of detectron2's pyramid only")
    levels = run.model.box_branch.reader.pooler.levels(run.tensor("proposal_boxes")) + 2
    assert levels.tolist() == run["proposal_level"].tolist()


def test_pooling(run: Stages) -> None:
    if run.tv:
        pytest.skip("pooled features were recorded of detectron2 only")
    step, *others = run.golden.steps(f"{run.key}/roi_pooled")
    pooled = run.pooled(run.tensor("proposal_boxes")[::step])
    deviation = run.golden[f"stats/{run.key}/roi_pooled"][1]
    assert_values(strided(pooled, [1, *others]), run["roi_pooled"], deviation, "roi_pooled")
    if run.model.config.neck == "c4":
        step, *others = run.golden.steps(f"{run.key}/roi_res5")
        assert_values(
            strided(run.model.res5(pooled), [1, *others]),
            run["roi_res5"],
            run.golden[f"stats/{run.key}/roi_res5"][1],
            "roi_res5",
        )


def test_heads(run: Stages) -> None:
    vector, logits, deltas = run.heads
    flat = deltas.flatten(1)
    if run.tv:  # their first four columns belong to the background
        flat = torch.cat([torch.zeros(len(flat), 4), flat], dim=1)
    found = {"cls_logits": rows_as_recorded(logits, run.tv), "box_deltas": flat, "box_feat": vector}
    for name, own in found.items():
        if name not in run:
            continue
        step, *others = run.golden.steps(f"{run.key}/{name}")
        stats = run.golden[f"stats/{run.key}/{name}"]
        recorded = run[name] if run.whole else run[name][:: 20 // step]
        if run.tv and name == "box_deltas":
            recorded = recorded * (np.arange(recorded.shape[1]) >= 4)
        assert_values(strided(own, [step if run.whole else 1, *others]), recorded, stats[1], name)
        if run.whole and not (run.tv and name == "box_deltas"):
            assert_stats(own, stats, name)


def test_selection(run: Stages) -> None:
    if not run.whole:
        pytest.skip("needs the logits of all proposals")
    _, logits, deltas = run.heads
    proposed = run.tensor("proposal_boxes")[None]
    proposals = Proposals(proposed, torch.zeros(proposed.shape[:2]), torch.ones(proposed.shape[:2], dtype=torch.bool))
    limits = run.model.config.limits_for()
    found = run.model.box_branch.detect(logits.softmax(dim=1)[None], deltas[None], proposals, [run.size], limits)
    own = [value[found.alive] for value in (found.boxes, found.scores, found.labels)]
    boxes, scores, labels = run.detections
    recorded = Rows(boxes.numpy(), labels.numpy(), scores.numpy())
    match(recorded, Rows(own[0].numpy(), own[2].numpy(), own[1].numpy()), box=BOX_PX, score=SCORE)


def test_heat_maps(run: Stages) -> None:
    if run.model.keypoint_branch is None:
        pytest.skip("a model without landmarks")
    run.check("kp_heatmaps", run.heat_maps.logits[0], stats=not run.tv)  # tv: boxes went to the image and back


def test_masks(run: Stages) -> None:
    if run.model.mask_branch is None:
        pytest.skip("a model without masks")
    if not run.tv:
        step = run.golden.steps(f"{run.key}/mask_probs")[0]
        assert (run.masks[::step] - run.tensor("mask_probs")).abs().max() <= VALUES
        return
    boxes, soft = run.tensor("final_boxes"), run["final_masks_soft"]
    a, b, c = run.golden.steps(f"{run.key}/final_masks_soft")
    for threshold in (0.3, 0.5, 0.7):
        pasted = paste(run.masks[::a], boxes[::a], run["image"].shape[:2], rule="integer", threshold=threshold)
        agree = pasted.dense()[:, ::b, ::c] == (soft >= threshold)
        assert agree.mean() >= 0.9999


def test_finish(run: Stages) -> None:
    found = run.finished()
    assert len(found) == len(run["final_boxes"])
    assert np.abs(found.boxes - run["final_boxes"]).max() <= BOX_PX / 10
    if found.keypoints is not None:
        apart = np.abs(found.keypoints[..., :2] - run["final_keypoints"][..., :2]).max(axis=2)
        assert (apart <= BOX_PX).mean() >= 0.995
        return
    assert found.crops is not None
    ious = mask_ious([bytes(r) for r in run["final_mask_rle"]], mask_ops.encode(found.crops))
    assert ious.min() >= MASK_IOU
    assert np.abs(found.crops.areas() - run["final_mask_area"]).max() <= 0.01 * run["final_mask_area"].max()


def test_size_rules(shared: Path) -> None:
    table = json.loads((shared / "golden" / "rcnn" / "resize_table.json").read_text())
    assert len(table) == 46
    for row in table:
        for rule, who in (("pillow", "detectron2"), ("float", "torchvision")):
            spec = InputSpec(size=row["short"], max_size=row["max"], resize=rule)
            assert list(input_size(tuple(row["hw"]), spec)) == row[who], (row, who)
