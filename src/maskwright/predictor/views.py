"""Test-time augmentation: an image and its mirror images through the model, and what is found in all of them as one.

Letters: N instances, V views, P landmarks, H W image.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from maskwright.errors import ConfigError
from maskwright.ops import views
from maskwright.predictor.given import GivenBoxes
from maskwright.predictor.options import FindOptions, FindPlan
from maskwright.predictor.timing import StageTimer, stage
from maskwright.results.prediction import MAX_INSTANCES, Prediction
from maskwright.types import FloatArray, ImageArray, Masks, Semantic, Size, sides

if TYPE_CHECKING:
    from maskwright.predictor.predictor import Predictor

View = tuple[bool, bool]
"""Whether an image is mirrored left-right, and up-down."""

VIEWS: dict[str, tuple[View, ...]] = {
    "off": ((False, False),),
    "horizontal": ((False, False), (True, False)),
    "both": ((False, False), (True, False), (False, True), (True, True)),
}
"""By the value of `FindOptions.tta`."""

LOWER = 0.5
"""Each view is asked for instances of this share of the score threshold, as the mean score of all views decides."""


def passes(
    predictor: "Predictor",
    images: Sequence[ImageArray],
    options: FindOptions,
    plan: FindPlan,
    given: list[GivenBoxes] | None = None,
    timer: StageTimer | None = None,
) -> list[Prediction]:
    """As `Predictor.passes`, of all views that the options ask for."""
    mirrors = VIEWS[options.tta or "off"]
    if len(mirrors) == 1:
        return predictor.passes(images, options, plan, given, timer)
    _check(predictor, given)
    least = plan.output.score_threshold
    lower = replace(plan.output, score_threshold=max(LOWER * least, predictor.lowest_score))
    asked = replace(plan, output=lower)
    seen = []
    for view in mirrors:
        found = predictor.passes([_turned(image, view) for image in images], options, asked, None, timer)
        seen.append([_back(one, view) for one in found])
    with stage(timer, "join"):
        return [_fused(of_image, least, plan.output.max_instances) for of_image in zip(*seen, strict=True)]


def _check(predictor: "Predictor", given: list[GivenBoxes] | None) -> None:
    """Raises ConfigError where mirror images do not show what the model was trained for."""
    fault, classes = "", predictor.classes
    if given is not None:
        fault = "Boxes that are given are looked at as they are, not in mirror images"
    elif Semantic in predictor.detector.parts:
        fault = f"'{predictor.name}' names the class of every pixel, which mirror images cannot join"
    elif alone := sides.one_sided(tuple(classes.names)):
        fault = f"The class '{classes[alone[0]]}' says a side, and none says the other, so no mirror image shows it"
    if fault:
        raise ConfigError(f"{fault}: leave tta out.", options=("tta",))


def _turned(image: ImageArray, view: View) -> ImageArray:
    """The image (H, W, 3), mirrored."""
    across, down = view
    return np.ascontiguousarray(image[:: -1 if down else 1, :: -1 if across else 1])


def _back(found: Prediction, view: View) -> Prediction:
    """What was found in a mirror image, on the image itself. Left and right change places where it is mirrored once:
    upside down and mirrored is turned, in which a left hand stays one."""
    (across, down), (height, width) = view, found.size
    if not (across or down):
        return found
    boxes, labels, marks = found.boxes.copy(), found.labels, found.keypoints
    for turned, first, length in ((across, 0, width), (down, 1, height)):
        if turned:
            boxes[:, [first, first + 2]] = length - boxes[:, [first + 2, first]]
    if marks is not None:
        marks = _landmarks_back(found, marks, view)
    if across != down:
        labels = np.array(sides.mirrored(tuple(found.classes.names)), np.int64)[labels]
    crops = None if found.crops is None else _masks_back(found.crops, view)
    return replace(found, boxes=boxes, labels=labels, keypoints=marks, crops=crops)


def _masks_back(masks: Masks, view: View) -> Masks:
    (across, down), (height, width) = view, masks.size
    corners = [
        (height - top - bitmap.shape[0] if down else top, width - left - bitmap.shape[1] if across else left)
        for (top, left), bitmap in zip(masks.corners.tolist(), masks.bitmaps, strict=True)
    ]
    turned = tuple(bitmap[:: -1 if down else 1, :: -1 if across else 1] for bitmap in masks.bitmaps)
    return Masks(masks.size, np.array(corners, np.int64).reshape(-1, 2), turned)


def _landmarks_back(found: Prediction, marks: FloatArray, view: View) -> FloatArray:
    """(N, P, 3) with the points of left and right exchanged as their classes say."""
    (across, down), (height, width) = view, found.size
    out = marks.copy()
    for turned, axis, length in ((across, 0, width), (down, 1, height)):
        if turned:
            out[:, :, axis] = np.where(marks[:, :, 2] > 0, length - marks[:, :, axis], marks[:, :, axis])
    for row, label in enumerate(found.labels.tolist()) if across != down else ():
        own = found.classes.landmarks[label]
        if own is not None and own.mirrored is not None:
            out[row, : len(own)] = out[row, list(own.mirrored)]
    return out


def _fused(seen: Sequence[Prediction], least: float, most: int) -> Prediction:
    """One prediction of the views of an image: instances of a mean score of at least `least`, the best `most`."""
    first, fields = seen[0], dict[str, Any]()
    masks = None if first.crops is None else _together([one.crops for one in seen if one.crops is not None], first.size)
    of_views = views.Seen(
        len(seen),
        np.repeat(np.arange(len(seen)), [len(one) for one in seen]),
        np.concatenate([one.boxes for one in seen]),
        np.concatenate([one.scores for one in seen]),
        np.concatenate([one.labels for one in seen]),
        masks,
    )
    best, boxes, scores, joined = views.fused(of_views)
    order = np.argsort(-scores, kind="stable")
    order = order[scores[order] >= least]
    limits = dict[str, float]()
    for name, score in (pair for one in seen for pair in one.limits.items()):
        if score >= least:
            limits[name] = max(score, limits.get(name, 0.0))
    if len(order) > most > 0:
        limits[MAX_INSTANCES] = float(scores[order[most]])
    order = order[:most]
    rows = np.array(best, np.int64)[order]
    for name in ("keypoints", "box_scores"):  # as the best view shows them
        if getattr(first, name) is not None:
            fields[name] = np.concatenate([getattr(one, name) for one in seen])[rows]
    return Prediction(
        boxes=boxes[order],
        scores=scores[order],
        labels=of_views.labels[rows],
        classes=first.classes,
        size=first.size,
        crops=None if joined is None else joined[order],
        limits=limits,
        **fields,
    )


def _together(every: Sequence[Masks], size: Size) -> Masks:
    """The masks of all views."""
    corners = np.concatenate([masks.corners for masks in every])
    return Masks(size, corners, tuple(bitmap for masks in every for bitmap in masks.bitmaps))
