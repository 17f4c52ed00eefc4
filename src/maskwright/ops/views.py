"""One set of instances from what a model finds in several views of an image, such as its mirror images.

Letters: N instances, V views. Boxes are xyxy in pixels of the image.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from maskwright.ops import boxes as box_ops
from maskwright.ops import masks as mask_ops
from maskwright.ops.seams import union
from maskwright.types import FloatArray, IntArray, Masks

SAME = 0.5
"""IoU of masks (of boxes where there are none) from which instances of two views are one object."""


@dataclass(frozen=True, eq=False)
class Seen:
    """What the views show, all in the image's own pixels.

    view (N,): which of the V each instance is of. boxes (N, 4); scores, labels (N,). masks: N, or None.
    """

    views: int
    view: IntArray
    boxes: FloatArray
    scores: FloatArray
    labels: IntArray
    masks: Masks | None = None


def objects(seen: Seen) -> list[list[int]]:
    """The instances of each object, at most one of each view, the best first.

    By descending score each instance goes to the object of its label whose best instance it overlaps most, by an IoU of
    at least `SAME`, where its view is not there yet; else it is a new object.
    """
    ious = np.where(seen.labels[:, None] == seen.labels, _ious(seen), 0.0)
    groups: dict[int, list[int]] = {}  # by their best instance
    for i in np.argsort(-seen.scores, kind="stable").tolist():
        rivals = [k for k in np.flatnonzero(ious[i] >= SAME).tolist() if k in groups]
        free = [k for k in rivals if seen.view[i] not in seen.view[groups[k]]]
        if free:
            groups[max(free, key=lambda k: (ious[i, k], -k))].append(i)
        else:
            groups[i] = [i]
    return list(groups.values())


def fused(seen: Seen) -> tuple[list[int], FloatArray, FloatArray, Masks | None]:
    """For each object its best instance (G rows), boxes (G, 4), scores (G,) and masks.

    The score is the mean over all V views, 0 where a view does not show the object; the box is the mean, and the mask
    has the pixels of more than half, each view counted by its score.
    """
    groups = objects(seen)
    weights = [seen.scores[rows].astype(np.float64) for rows in groups]
    scores = np.array([w.sum() / seen.views for w in weights], np.float32)
    boxes = [np.average(seen.boxes[rows], axis=0, weights=w + 1e-9) for rows, w in zip(groups, weights, strict=True)]
    masks = None
    if seen.masks is not None:
        voted = [_vote(seen.masks, rows, w) for rows, w in zip(groups, weights, strict=True)]
        corners = np.array([m.corners[0] for m in voted], np.int64).reshape(-1, 2)
        masks = Masks(seen.masks.size, corners, tuple(m.bitmaps[0] for m in voted))
    return [rows[0] for rows in groups], np.array(boxes, np.float32).reshape(-1, 4), scores, masks


def _vote(masks: Masks, rows: list[int], weights: NDArray[np.float64]) -> Masks:
    """One mask of the pixels that more than half of the weights have; the first one's where none has."""
    if len(rows) == 1:
        return masks[rows]
    around = union(masks, rows)
    (top, left), votes = around.corners[0].tolist(), np.zeros(around.bitmaps[0].shape)
    for r, weight in zip(rows, weights.tolist(), strict=True):
        (y, x), bitmap = masks.corners[r] - (top, left), masks.bitmaps[r]
        votes[y : y + bitmap.shape[0], x : x + bitmap.shape[1]] += weight * bitmap
    kept = votes > weights.sum() / 2
    return Masks(masks.size, around.corners, (kept,)) if kept.any() else masks[rows[:1]]


def _ious(seen: Seen) -> NDArray[np.float64]:
    """(N, N) of the masks, or of the boxes where there are none."""
    if seen.masks is None:
        boxes = torch.from_numpy(seen.boxes)
        return np.asarray(box_ops.iou(boxes, boxes).double().numpy())
    areas = seen.masks.areas().astype(np.float64)
    common = mask_ops.intersections(seen.masks, seen.masks)
    return np.asarray(common / np.maximum(areas[:, None] + areas - common, 1))
