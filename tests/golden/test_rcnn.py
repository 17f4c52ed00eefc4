"""Published Mask R-CNN weights give the published answers: from the publisher's file to the masks on the image.

The weights are filled by name (`fill.py`) and written in the publisher's own file format; the answers were recorded
from detectron2 and torchvision with the same weights. What runs is what users run: `maskwright.load(...).predict`,
norms folded, convolutions fused. The limits are at least ten times the differences that the official code shows
between two ways of computing its convolutions; every discrete choice must be the same: no detection more or less.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.golden.compare import BOX_PX, MASK_IOU, SCORE, assert_stats, assert_values, mask_ious, rows_as_recorded
from tests.golden.match import Rows, match
from tests.golden.recorded import IMAGES, ZOO_NAMES, Extract, publisher, strided

import maskwright
from maskwright.models.rcnn import RCNN
from maskwright.ops import boxes as box_ops
from maskwright.ops import masks as mask_ops
from maskwright.ops.warp import pad_batch, resize_normalise
from maskwright.predictor.detector import NetworkDetector
from maskwright.predictor.predictor import Predictor

pytestmark = pytest.mark.golden

KEYPOINT_PX, KEYPOINTS = 0.05, 0.995
PIXELS = 0.999
BF16_SCORE = 0.1
BF16_FOUND = 0.85
CROWDED, BF16_FOUND_CROWDED = 100, 0.65  # all places are taken, so that rounding decides which rows get the last


class Loaded:
    """A recorded model: its extract, its file, and the predictor that `load` makes of the file."""

    def __init__(self, name: str, path: Path) -> None:
        self.golden, self.name, self.path = Extract(name), ZOO_NAMES[name], path
        self.predictor = self.load()

    def load(self, **options: str) -> Predictor:
        return maskwright.load(self.name, weights=self.path, **options)

    def at(self, key: str) -> Predictor:
        """The predictor, set to the input size of a recorded variant."""
        return at(self.predictor, key)


def at(predictor: Predictor, key: str) -> Predictor:
    assert isinstance(predictor.detector, NetworkDetector)
    spec = replace(predictor.spec, size=int(key[1:]))
    return Predictor(replace(predictor.detector, spec=spec), name=predictor.name)


@pytest.fixture(scope="module", params=ZOO_NAMES)
def loaded(request: pytest.FixtureRequest, checkpoint: Callable[[str], Path]) -> Loaded:
    return Loaded(request.param, checkpoint(request.param))


@pytest.mark.parametrize("key", IMAGES)
def test_images_end_to_end(loaded: Loaded, key: str) -> None:
    golden = loaded.golden
    found = loaded.at(key).predict(golden.image(key))
    recorded = Rows(golden[f"{key}/boxes"], golden[f"{key}/labels"], golden[f"{key}/scores"])
    pairs = match(recorded, Rows(found.boxes, found.labels, found.scores), box=BOX_PX, score=SCORE)
    if found.keypoints is not None:
        points, wanted = found.keypoints[pairs.own], golden[f"{key}/keypoints"]
        apart = np.abs(points[..., :2] - wanted[..., :2]).max(axis=2)
        assert (apart <= KEYPOINT_PX).mean() >= KEYPOINTS  # a map may have two peaks that rounding exchanges
        if wanted.shape[2] == 3:  # which then are as high; ours are at most 1
            assert np.abs(points[..., 2] - np.minimum(wanted[..., 2], 1)).max() <= SCORE
        return
    assert found.crops is not None
    crops = found.crops[pairs.own]
    own = mask_ops.encode(crops[golden[f"{key}/rle_rows"]])
    assert mask_ious([bytes(r) for r in golden[f"{key}/rles"]], own).min() >= MASK_IOU
    areas = golden[f"{key}/areas"]
    assert (np.abs(crops.areas() - areas) <= 2 + (1 - MASK_IOU) * areas).all()


@pytest.mark.parametrize("key", IMAGES)
def test_segments_end_to_end(loaded: Loaded, key: str) -> None:
    """Every pixel has the recorded class, and lies in the recorded segment, but for one in a thousand."""
    golden = loaded.golden
    if f"{key}/panoptic_seg" not in golden.arrays:
        pytest.skip("a model without a semantic branch")
    found = loaded.at(key).predict(golden.image(key))
    assert found.semantic is not None
    assert (found.semantic == golden[f"{key}/semantic"]).mean() >= PIXELS
    segments, recorded = found.panoptic(), golden[f"{key}/panoptic_seg"]
    rows = json.loads(bytes(golden[f"{key}/panoptic_info_json"]))
    assert (segments.ids == recorded).mean() >= PIXELS
    for own, row in zip(segments.segments, rows, strict=True):
        assert own.id == row["id"]
        assert segments.things[own.label] == row["isthing"]
        assert own.label == row["category_id"] if row["isthing"] else own.label - 79 == row["category_id"]


@torch.inference_mode()
def test_values_on_the_way(loaded: Loaded) -> None:
    golden, model, spec = loaded.golden, loaded.predictor.model, loaded.at("s320").spec
    assert isinstance(model, RCNN)
    pixels = resize_normalise(golden.image("s320"), spec)
    images = pad_batch([pixels], spec.multiple)
    features = model.features(images)
    logits, deltas = model.rpn(features)
    tv = publisher(golden.name) == "torchvision"
    levels = _levels(golden.name)
    for i, level in enumerate(levels):
        _check(golden, f"s320/{level}", features[i])
        short = ("0", "1", "2", "3", "4")[i] if tv else level
        _check(golden, f"s320/rpn_logits/{short}", logits[i][0, :, None])
        _check(golden, f"s320/rpn_deltas/{short}", deltas[i][0])
    boxes = torch.from_numpy(golden["s320/proposals"])
    classes, _ = model.box_branch.classify(features, boxes, torch.zeros(len(boxes), dtype=torch.int64))
    recorded = rows_as_recorded(classes, tv)
    assert_values(recorded, golden["s320/cls_logits"], golden["stats/s320/cls_logits"][1], "class logits")


def _levels(name: str) -> tuple[str, ...]:
    if "C4" in name:
        return ("res4",)
    if publisher(name) == "torchvision":
        return ("fpn_0", "fpn_1", "fpn_2", "fpn_3", "fpn_pool")
    return ("p2", "p3", "p4", "p5", "p6")


def _check(golden: Extract, key: str, own: torch.Tensor) -> None:
    """What was kept of a tensor: some of its values, and its mean, deviation and norm."""
    stats = golden[f"stats/{key}"]
    assert_stats(own, stats, key)
    if key in golden.meta["raw"]:
        assert_values(strided(own, golden.meta["raw"][key]), golden[key], stats[1], key)


@pytest.mark.usefixtures("bf16")
def test_bf16_finds_what_float32_finds(loaded: Loaded) -> None:
    """Of the recorded detections with a score of 0.1 and more, 85 in 100 and more are found at IoU 0.9.

    Measured: 9 of 9, 59 of 61, 11 of 11 and 47 of 50 in the order of the models. Filled weights are a hard case:
    their scores are nowhere sharp, so that suppression and the choice of the best hundred turn on rounding. On the
    large image, where a thousand rows and more compete for the hundred places, 70 to 85 in 100 are found.
    The landmark model fills all hundred places on the small image too: 81 in 100.
    torchvision's own code under bf16 autocast finds 8 of 11 and 34 of 50 here, on the large image 51 and 39 in 100.
    """
    golden = loaded.golden
    found = at(loaded.load(precision="bf16"), "s320").predict(golden.image("s320"))
    sure = np.flatnonzero(golden["s320/scores"] >= BF16_SCORE)
    boxes = torch.from_numpy(golden["s320/boxes"][sure])
    overlap = box_ops.iou(boxes, torch.from_numpy(found.boxes)).numpy()
    overlap[golden["s320/labels"][sure][:, None] != found.labels[None]] = 0
    best = overlap.argmax(axis=1)
    hits = overlap.max(axis=1) >= 0.9
    assert hits.mean() >= (BF16_FOUND if len(sure) < CROWDED else BF16_FOUND_CROWDED)
    off = np.abs(found.scores[best] - golden["s320/scores"][sure])[hits]
    assert off.mean() <= 0.04


def test_the_names_of_the_labels(loaded: Loaded) -> None:
    """Label 0 is the person and the last one the toothbrush, whose category id is 90, at both publishers."""
    classes = loaded.predictor.classes
    last, number = ("person", 1) if len(classes) == 1 else ("toothbrush", 90)
    assert (classes[0], classes[-1]) == ("person", last)
    assert (classes.ids[0], classes.ids[-1]) == (1, number)
