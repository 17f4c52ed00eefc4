"""Training steps against the recorded ones: what is sampled, what it is compared with, every loss, every gradient.

Two images, seven objects. Random sampling is made repeatable as it was for the recording: `torch.randperm(n)`
counts 0, 1, 2, ... Cases: `all...` samples everything, `firstk...` the first of each kind up to the usual numbers;
`polygon` and `bitmask` are detectron2's two kinds of annotation.

Limits. Losses: 1e-4 of the value. Gradient norms: 5e-3 of the value, where the official code itself shows 5e-4 between
two ways of computing its convolutions. torchvision's `all` is looser (losses 1e-3, gradients 2e-2): there one of 2000
proposals lies so near a decision that the official code itself shows 2e-4 and 4e-3.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from tests.golden.compare import BOX_PX
from tests.golden.match import Rows, match
from tests.golden.recorded import ZOO_NAMES, Extract, publisher
from torch import Tensor

from maskwright.models import zoo
from maskwright.models.rcnn import RCNN
from maskwright.models.rcnn.heads import sample
from maskwright.models.rcnn.keys import from_detectron2, from_torchvision
from maskwright.models.rcnn.proposer import Anchored, Proposals
from maskwright.ops import boxes as box_ops
from maskwright.ops import masks as mask_ops
from maskwright.ops import matching
from maskwright.ops.warp import pad_batch, resize_normalise
from maskwright.types import Inputs, Masks, Target
from maskwright.weights.load import load_file

pytestmark = pytest.mark.golden

CASES = {
    "mask_rcnn_R_50_FPN_3x": ("all_polygon", "all_bitmask", "firstk_polygon"),
    "tv_maskrcnn_resnet50_fpn": ("all", "firstk"),
    "panoptic_fpn_R_50_3x": ("all_polygon", "all_bitmask", "firstk_polygon"),
    "keypoint_rcnn_R_50_FPN_3x": ("all_polygon", "firstk_polygon"),
}
LOSSES = {
    "detectron2": {
        "rpn_class": "loss_rpn_cls",
        "rpn_box": "loss_rpn_loc",
        "class": "loss_cls",
        "box": "loss_box_reg",
        "mask": "loss_mask",
        "keypoint": "loss_keypoint",
        "semantic": "loss_sem_seg",
    },
    "torchvision": {
        "rpn_class": "loss_objectness",
        "rpn_box": "loss_rpn_box_reg",
        "class": "loss_classifier",
        "box": "loss_box_reg",
        "mask": "loss_mask",
    },
}
SHORT_EDGE = 320
EVERYTHING = 2**20
SIDE = 28


class Lesson:
    """A model and the two recorded images."""

    def __init__(self, name: str, path: Path) -> None:
        self.golden, self.publisher = Extract(f"train_{name}"), publisher(name)
        model = zoo.build(zoo.resolve(ZOO_NAMES[name]))
        assert isinstance(model, RCNN)
        load_file(model, path, zoo.known())
        self.model = model.requires_grad_(False)
        self.names = self._own_names(self.golden.meta["gradients"])
        for own in self.names.values():
            model.get_parameter(own).requires_grad_(True)
        spec = replace(model.config.spec, size=SHORT_EDGE)
        images = [self.golden.image(f"image{i}") for i in (0, 1)]
        self.originals = [image.shape[:2] for image in images]
        pixels = [resize_normalise(image, spec) for image in images]
        self.sizes = [(p.shape[1], p.shape[2]) for p in pixels]
        self.inputs = Inputs(pad_batch(pixels, spec.multiple), self.sizes)
        self.results: dict[str, tuple[dict[str, float], dict[str, Tensor]]] = {}

    def _own_names(self, published: list[str]) -> dict[str, str]:
        """Published parameter names to ours."""
        convert = from_torchvision if self.publisher == "torchvision" else from_detectron2
        return {name: next(iter(convert({name: torch.zeros(())}).state)) for name in published}

    def set_case(self, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Sample as the recorded case did."""
        monkeypatch.setattr(torch, "randperm", lambda n, **_: torch.arange(n))
        if case.startswith("all"):
            config = self.model.config
            monkeypatch.setattr(self.model, "config", replace(config, roi=replace(config.roi, samples=EVERYTHING)))
            monkeypatch.setattr(self.model.rpn, "config", replace(self.model.rpn.config, samples=EVERYTHING))

    def step(self, case: str, monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, float], dict[str, Tensor]]:
        """Losses, and the gradient of their sum for every parameter that learns, under the published names."""
        if case not in self.results:
            self.set_case(case, monkeypatch)
            maps = self.features
            monkeypatch.setattr(self.model, "features", lambda images: maps)
            losses = self.model.loss(self.inputs, self.targets(case))
            parameters = [self.model.get_parameter(own) for own in self.names.values()]
            total = torch.stack(list(losses.values())).sum()
            gradients = torch.autograd.grad(total, parameters, retain_graph=True)
            values = {name: loss.item() for name, loss in losses.items()}
            self.results[case] = values, dict(zip(self.names, gradients, strict=True))
        return self.results[case]

    def targets(self, case: str) -> list[Target]:
        return [self.target(case, i) for i in (0, 1)]

    def target(self, case: str, i: int) -> Target:
        boxes = torch.from_numpy(self.golden[f"gt_boxes{i}"])
        if self.publisher == "torchvision":
            (height, width), (h, w) = self.originals[i], self.sizes[i]
            boxes = boxes * torch.tensor([w / width, h / height] * 2)
            return Target(boxes, torch.from_numpy(self.golden[f"gt_labels{i}"]).long(), self._resized_masks(i))
        polygons = self._polygons(i)
        masks = mask_ops.from_coco_polygons(polygons, self.sizes[i]) if case.endswith("bitmask") else polygons
        points, semantic = self.golden.arrays.get(f"gt_keypoints{i}"), None
        if f"gt_sem_seg{i}" in self.golden.arrays:
            semantic = torch.from_numpy(self.golden[f"gt_sem_seg{i}"]).long()
        return Target(
            boxes,
            torch.tensor(self.golden.meta["labels"][i]),
            masks,
            keypoints=None if points is None else torch.from_numpy(points),
            semantic=None if semantic is None else torch.where(semantic == 255, -1, semantic),
        )

    def _polygons(self, i: int) -> list[list[NDArray[np.float64]]]:
        return [[np.asarray(part, np.float64) for part in parts] for parts in self.golden.meta["polygons"][i]]

    def _resized_masks(self, i: int) -> Masks:
        """Annotated bitmaps in the input's frame: nearest neighbours, as torchvision resizes them."""
        size = list(self.originals[i])
        masks = mask_ops.decode([{"size": size, "counts": bytes(r)} for r in self.golden[f"gt_rles{i}"]])
        dense = torch.from_numpy(masks.dense())[:, None].float()
        return Masks.from_dense(F.interpolate(dense, self.sizes[i])[:, 0].numpy() > 0)

    @cached_property
    def features(self) -> list[Tensor]:
        """The images' maps, from which every case's gradients go back: the cases differ in what comes after."""
        with torch.enable_grad():
            return self.model.features(self.inputs.images)

    @cached_property
    def answers(self) -> Anchored:
        """Logits, offsets and anchors of the proposal network."""
        with torch.no_grad():
            return self.model.rpn.anchored(self.features, self.inputs.padded)

    @cached_property
    def proposals(self) -> Proposals:
        config = self.model.rpn.config
        return self.model.rpn.best(self.answers, self.sizes, config.train_before, config.train_after)


@pytest.fixture(scope="module")
def lessons(checkpoint: Callable[[str], Path]) -> Iterator[Callable[[str], Lesson]]:
    """Gives the lesson of a model; keeps the last one."""
    kept: dict[str, Lesson] = {}

    def lesson(name: str) -> Lesson:
        if name not in kept:
            kept.clear()
            kept[name] = Lesson(name, checkpoint(name))
        return kept[name]

    yield lesson
    kept.clear()


@pytest.fixture(scope="module", params=[(name, case) for name, cases in CASES.items() for case in cases], ids="-".join)
def case(request: pytest.FixtureRequest, lessons: Any) -> tuple[Lesson, str]:
    name, case = request.param
    return lessons(name), case


def limits(lesson: Lesson, case: str) -> tuple[float, float]:
    """Relative limits of losses and of gradient norms."""
    return (1e-3, 2e-2) if lesson.publisher == "torchvision" and case == "all" else (1e-4, 5e-3)


def test_losses(case: tuple[Lesson, str], monkeypatch: pytest.MonkeyPatch) -> None:
    lesson, which = case
    values, _ = lesson.step(which, monkeypatch)
    recorded = lesson.golden.meta["losses"][which]
    names = LOSSES[lesson.publisher]
    assert {names[own] for own in values} == recorded.keys()
    wanted = {own: recorded[names[own]] for own in values}
    assert values == pytest.approx(wanted, rel=limits(lesson, which)[0])


def test_gradients(case: tuple[Lesson, str], monkeypatch: pytest.MonkeyPatch) -> None:
    lesson, which = case
    _, gradients = lesson.step(which, monkeypatch)
    limit = limits(lesson, which)[1]
    single = 20 if lesson.model.config.landmarks else 10  # the softmax over a map's places sharpens what is rounded
    norms = np.array([gradient.double().norm().item() for gradient in gradients.values()])
    recorded = lesson.golden[f"{which}/grad_l2"]
    off = dict(zip(gradients, np.abs(norms - recorded) / recorded, strict=True))
    off.pop("roi_heads.keypoint_head.score_lowres.bias", None)  # zero but for rounding: a softmax does not see it
    assert max(off.values()) <= limit, max(off.items(), key=lambda item: item[1])
    for gradient, (name, own), first in zip(
        gradients.values(), lesson.names.items(), lesson.golden[f"{which}/grad_first8"], strict=True
    ):
        if lesson.publisher == "torchvision" and ("box_predictor" in own or "mask_head.logits" in own):
            continue  # their first rows belong to the background
        if own == "keypoint_head.deconv.bias":
            continue
        values = gradient.flatten()[:8].numpy()
        deviation = gradient.square().mean().sqrt().item()
        assert np.abs(values - first[: len(values)]).max() <= single * limit * deviation, name


def test_anchors_that_answer_for_an_object(case: tuple[Lesson, str], monkeypatch: pytest.MonkeyPatch) -> None:
    lesson, which = case
    if lesson.publisher == "torchvision":
        pytest.skip("recorded of detectron2 only")
    lesson.set_case(which, monkeypatch)
    config = lesson.model.rpn.config
    anchors = torch.cat(lesson.answers.anchors)
    for i, target in enumerate(lesson.targets(which)):
        matches, _ = matching.match(target.boxes, anchors, low=config.low, high=config.high, keep_best=True)
        positive, negative = matching.sample(matches, config.samples, config.foreground)
        assert positive.tolist() == lesson.golden[f"{which}/anchors{i}"].tolist()
        counts = [len(positive), len(negative), len(anchors) - len(positive) - len(negative)]
        assert counts == lesson.golden[f"{which}/anchor_counts{i}"].tolist()


def test_sampled_regions(case: tuple[Lesson, str], monkeypatch: pytest.MonkeyPatch) -> None:
    lesson, which = case
    lesson.set_case(which, monkeypatch)
    config = lesson.model.config
    background = config.num_classes
    sampled = sample(lesson.proposals, lesson.targets(which), [None, None], config.roi, background)
    for i, own in enumerate(sampled):
        recorded = lesson.golden[f"{which}/labels{i}"]
        assert len(own.labels) == len(recorded)
        foreground = recorded[recorded < background]
        boxes, labels = lesson.golden[f"{which}/boxes{i}"], own.labels[: len(own.truth)].numpy()
        sampled = Rows(own.boxes[: len(own.truth)].numpy(), labels)
        pairs = match(Rows(boxes, foreground), sampled, box=BOX_PX, score=0)
        if f"{which}/offsets{i}" in lesson.golden.arrays:
            offsets = box_ops.encode(own.truth, own.boxes[: len(own.truth)], (10.0, 10.0, 5.0, 5.0))
            wanted = lesson.golden[f"{which}/offsets{i}"]
            assert np.abs(offsets[pairs.own].numpy() - wanted).max() <= BOX_PX


def test_mask_targets(case: tuple[Lesson, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Polygons are drawn to the very bit; of resampled bitmaps one bit in a thousand may lie on the threshold."""
    lesson, which = case
    if lesson.publisher == "torchvision":
        pytest.skip("recorded of detectron2 only")
    if lesson.model.mask_branch is None:
        pytest.skip("a model without masks")
    for i, target in enumerate(lesson.targets(which)):
        objects = torch.from_numpy(lesson.golden[f"{which}/objects{i}"]).long()
        boxes = torch.from_numpy(lesson.golden[f"{which}/boxes{i}"])
        own = lesson.model.mask_branch.target_of(target, objects, boxes, SIDE).numpy()
        bits = np.unpackbits(lesson.golden[f"{which}/mask_targets{i}"])[: own.size].reshape(own.shape)
        wrong = (own != bits).mean()
        assert wrong <= (0 if which.endswith("polygon") else 1e-3)
