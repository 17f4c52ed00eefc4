"""Overlapping masks made disjoint, so that every pixel belongs to one object at most, and matched.

Letters: N annotated objects, M detections that are kept, P matches, H W image. Memory: one label image and one bitmap
of the size of the image; time follows the objects.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from maskwright.types import BoolArray, FloatArray, IntArray, Masks


@dataclass(frozen=True, slots=True)
class Pairs:
    """Matches of IoU 0.5 and more, each object in one at most: truth, found (P,) positions, iou (P,)."""

    truth: IntArray
    found: IntArray
    iou: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Shares:
    """The disjoint objects of one image.

    rows: (M,) the detections that are kept, best first. own: their masks, disjoint. truth_areas: (N,) pixels that the
    annotated objects keep. met: (P, 3) annotation, position in `rows`, IoU of 0.5 and more.
    """

    rows: IntArray
    own: Masks
    truth_areas: IntArray
    met: NDArray[np.float64]

    def pairs(self, truth_labels: IntArray | None = None, found_labels: IntArray | None = None) -> Pairs:
        """The matches; with labels (N,) and (M,) only those of equal class.

        An object matches one other, or two that are exactly half of it each: of those the first detection, or the
        first annotation, counts.
        """
        truth, found = self.met[:, 0].astype(np.int64), self.met[:, 1].astype(np.int64)
        used_truth, used_found, chosen = set[int](), set[int](), []
        for k in np.lexsort((truth, found)).tolist():
            t, f = int(truth[k]), int(found[k])
            agree = truth_labels is None or found_labels is None or truth_labels[t] == found_labels[f]
            if agree and t not in used_truth and f not in used_found:
                used_truth.add(t)
                used_found.add(f)
                chosen.append(k)
        rows = np.array(chosen, np.int64)
        return Pairs(truth[rows], found[rows], self.met[rows, 2])


def disjoint(found: Masks, scores: FloatArray, truth: Masks, keep: float) -> Shares:
    """Give every pixel to one detection and one annotated object at most, and measure the IoU of those that overlap.

    Detections take pixels in order of their scores (equal scores: in the given order); one that would keep less than
    `keep` of its pixels, or none, is dropped and takes none. So the detections above a score do not depend on those
    below it. Annotated objects take pixels smallest first.
    """
    ground, areas = label_image(truth, np.argsort(truth.areas(), kind="stable"))
    taken = np.zeros(truth.size, np.bool_)
    rows: list[int] = []
    crops: list[BoolArray] = []
    met: list[tuple[int, int, float]] = []
    windows = found.windows
    for row in np.argsort(-scores, kind="stable").tolist():
        window, bitmap = windows[row], found.bitmaps[row]
        own = bitmap & ~taken[window]
        area = int(own.sum())
        if area == 0 or area < keep * int(bitmap.sum()):
            continue
        taken[window] |= own
        objects, shared = np.unique(ground[window][own], return_counts=True)
        objects, shared = objects[objects > 0] - 1, shared[objects > 0]
        ious = shared / (area + areas[objects] - shared)
        met += [(int(t), len(rows), float(v)) for t, v in zip(objects, ious, strict=True) if v >= 0.5]
        rows.append(row)
        crops.append(own)
    kept = np.array(rows, np.int64)
    own_masks = Masks(truth.size, found.corners[kept], tuple(crops))
    return Shares(kept, own_masks, areas, np.array(met, np.float64).reshape(-1, 3))


def label_image(masks: Masks, order: IntArray) -> tuple[NDArray[np.int32], IntArray]:
    """int32 (H, W): 0 is background, i + 1 mask i, the first in `order` on top; and the pixels (N,) each mask keeps."""
    out = np.zeros(masks.size, np.int32)
    areas = np.zeros(len(masks), np.int64)
    windows = masks.windows
    for i in order.tolist():
        window = windows[i]
        own = masks.bitmaps[i] & (out[window] == 0)
        out[window][own] = i + 1
        areas[i] = own.sum()
    return out, areas


def half_inside(mask: Masks, regions: Masks) -> bool:
    """Whether at least half of one mask lies in the union of some regions."""
    if not len(regions):
        return False
    own, (top, left) = mask.bitmaps[0], mask.corners[0].tolist()
    union = np.zeros(own.shape, np.bool_)
    for (t, le), crop in zip(regions.corners.tolist(), regions.bitmaps, strict=True):
        y0, x0 = max(top, t), max(left, le)
        y1, x1 = min(top + own.shape[0], t + crop.shape[0]), min(left + own.shape[1], le + crop.shape[1])
        if y1 > y0 and x1 > x0:
            union[y0 - top : y1 - top, x0 - left : x1 - left] |= crop[y0 - t : y1 - t, x0 - le : x1 - le]
    return bool(2 * (own & union).sum() >= own.sum())
