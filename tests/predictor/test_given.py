"""Boxes that are given with an image: each becomes an instance, as it is."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maskwright.data.synthetic import clip
from maskwright.errors import ConfigError, DataError
from maskwright.models import rcnn, yolact
from maskwright.models.family import build
from maskwright.predictor.given import GivenBoxes
from maskwright.predictor.predictor import Predictor
from maskwright.types import Classes, ImageArray, Inputs

pytestmark = pytest.mark.usefixtures("one_thread")

CLASSES = Classes(["a", "b", "c"])
STYLES = ("detectron2", "torchvision_v1", "c4", "detectron2_boxes", "fast_masks", "crops")


def image(size: tuple[int, int] = (64, 96), seed: int = 1) -> ImageArray:
    return next(iter(clip(seed, 1, size, 4, 3))).image


@pytest.fixture(scope="module", params=STYLES)
def predictor(request: pytest.FixtureRequest) -> Predictor:
    torch.manual_seed(0)
    return Predictor(build(rcnn.tiny_variants()[request.param]), CLASSES, name=request.param)


@settings(max_examples=15, deadline=None)
@given(
    corners=st.lists(st.tuples(st.floats(-5, 90), st.floats(-5, 60)), max_size=6),
    sides=st.tuples(st.floats(6, 60), st.floats(6, 60)),
)
def test_each_box_becomes_an_instance_in_its_order(predictor: Predictor, corners: list, sides: tuple) -> None:
    boxes = np.array([(x, y, x + sides[0], y + sides[1]) for x, y in corners], np.float32).reshape(-1, 4)
    found = predictor.predict(image(), boxes=boxes)
    assert np.array_equal(found.boxes, boxes.clip(0, [96, 64, 96, 64]))
    assert not found.limits
    assert (found.masks is not None) == predictor.draws_masks
    if found.crops is not None:
        for box, corner, bits in zip(found.boxes, found.crops.corners, found.crops.bitmaps, strict=True):
            top, left = corner
            cell = np.ceil(max(box[2] - box[0], box[3] - box[1]) / 28)  # by which torchvision enlarges the box
            assert top >= np.floor(box[1]) - 1 - cell
            assert left >= np.floor(box[0]) - 1 - cell
            assert top + bits.shape[0] <= np.ceil(box[3]) + 1 + cell
            assert left + bits.shape[1] <= np.ceil(box[2]) + 1 + cell


def test_classes_and_scores_are_those_of_the_box_head(predictor: Predictor) -> None:
    """What the head says of a region does not depend on who proposed it."""
    boxes = np.array([[10, 10, 40, 50], [30, 5, 90, 60]], np.float32)
    tensor, geometry = predictor.prepare(image())
    inputs: Inputs = predictor.batch([tensor])
    network = predictor.model
    assert isinstance(network, rcnn.RCNN)
    with torch.inference_mode():
        regions = torch.from_numpy(geometry.boxes(boxes))
        logits, _ = network.box_branch.classify(network.features(inputs.images), regions, torch.zeros(2).long())
    wanted = logits.softmax(1)[:, :-1]
    found = predictor.predict(image(), boxes=boxes)
    assert found.labels.tolist() == wanted.argmax(1).tolist()
    np.testing.assert_allclose(found.scores, wanted.amax(1).numpy(), rtol=1e-4)
    told = predictor.predict(image(), boxes=GivenBoxes.of(boxes, [2, -1]))
    assert told.labels.tolist() == [2, int(wanted[1].argmax())]
    np.testing.assert_allclose(told.scores[0], float(wanted[0, 2]), rtol=1e-4, atol=1e-6)


def test_masks_are_those_of_found_instances() -> None:
    """The boxes of what was found, given again with their classes, have the same masks."""
    torch.manual_seed(0)
    p = Predictor(build(rcnn.tiny_variants()["detectron2"]), CLASSES, name="masks")
    found = p.predict(image(), score_threshold=0.06)
    assert len(found) > 3
    again = p.predict(image(), boxes=GivenBoxes.of(found.boxes, found.labels))
    assert found.masks is not None
    assert again.masks is not None
    both, either = (found.masks & again.masks).sum((1, 2)), (found.masks | again.masks).sum((1, 2))
    assert (both / np.maximum(either, 1)).min() > 0.98


def test_many_images_and_none(predictor: Predictor) -> None:
    images = [image(), image((80, 64), 2), image(seed=3)]
    boxes = [np.array([[1, 2, 30, 40]]), np.zeros((0, 4)), np.array([[5, 5, 50, 60], [0, 0, 96, 64]])]
    together = predictor.predict(images, boxes=boxes, batch_size=3)
    assert [len(found) for found in together] == [1, 0, 2]
    for found, one, own in zip(together, images, boxes, strict=True):
        np.testing.assert_allclose(found.scores, predictor.predict(one, boxes=own).scores, rtol=1e-4)


def test_more_boxes_than_the_model_reports(predictor: Predictor) -> None:
    boxes = np.array([[x, y, x + 12, y + 12] for x in range(0, 80, 2) for y in range(0, 50, 5)], np.float32)
    assert len(boxes) > predictor.max_instances
    assert np.array_equal(predictor.predict(image(), boxes=boxes).boxes, boxes)


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ([[1, 2, 3]], r"boxes are \(N, 4\)"),
        ([[1, 2, 3, float("nan")]], "row 0 is"),
        ([[0, 0, 5, 5], [10, 2, 3, 40]], "row 1 is"),
        ([[100, 2, 130, 40]], "row 0, .* lies outside the image of 96 x 64 pixels"),
    ],
)
def test_what_are_no_boxes(predictor: Predictor, boxes: list, message: str) -> None:
    with pytest.raises(DataError, match=message):
        predictor.predict(image(), boxes=boxes)


def test_what_boxes_cannot_be_combined_with(predictor: Predictor) -> None:
    with pytest.raises(ConfigError, match="no use for score_threshold"):
        predictor.predict(image(), boxes=[[1, 2, 30, 40]], score_threshold=0.5)
    with pytest.raises(ConfigError, match="2 images, 1 arrays"):
        predictor.predict([image(), image()], boxes=[[[1, 2, 30, 40]]])
    other = Predictor(build(next(iter(yolact.tiny_variants().values()))), CLASSES, name="prototypes")
    with pytest.raises(ConfigError, match="'prototypes' finds its own boxes"):
        other.predict(image(), boxes=[[1, 2, 30, 40]])
