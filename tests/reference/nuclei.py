"""The nuclei metric, slow and obvious: dense label images, every pair of objects, an optimal assignment.

Letters: N annotated, M found, H W image. Bitmaps are (N, H, W) bool.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

Bitmaps = NDArray[np.bool_]


def found_image(bitmaps: Bitmaps, scores: NDArray[Any], keep: float, score: float) -> NDArray[np.int64]:
    """Label image (H, W) of what was found at `score` and more, i + 1 for row i."""
    out = np.zeros(bitmaps.shape[1:], np.int64)
    for i in sorted(range(len(bitmaps)), key=lambda i: (-scores[i], i)):
        free = bitmaps[i] & (out == 0)
        if scores[i] >= np.float32(score) and free.sum() > 0 and free.sum() >= keep * bitmaps[i].sum():
            out[free] = i + 1
    return out


def truth_image(bitmaps: Bitmaps) -> NDArray[np.int64]:
    """Label image (H, W) of the annotation, the smallest on top."""
    out = np.zeros(bitmaps.shape[1:], np.int64)
    for i in sorted(range(len(bitmaps)), key=lambda i: (bitmaps[i].sum(), i)):
        out[bitmaps[i] & (out == 0)] = i + 1
    return out


def iou_table(truth: NDArray[np.int64], found: NDArray[np.int64], n: int, m: int) -> NDArray[np.float64]:
    """IoU (N, M) of every pair."""
    out = np.zeros((n, m))
    for i in range(n):
        for j in range(m):
            both = ((truth == i + 1) & (found == j + 1)).sum()
            either = ((truth == i + 1) | (found == j + 1)).sum()
            out[i, j] = both / either if either else 0.0
    return out


def assigned(table: NDArray[np.float64], threshold: float) -> list[tuple[int, int]]:
    """The pairs of the one-to-one assignment with most pairs of `threshold` and more; of equals the largest IoU."""
    if table.size == 0:
        return []
    rows, columns = linear_sum_assignment(-((table >= threshold) + table / (2 * min(table.shape))))
    return [(i, j) for i, j in zip(rows.tolist(), columns.tolist(), strict=True) if table[i, j] >= threshold]


def counts(
    found: Bitmaps,
    scores: NDArray[Any],
    labels: NDArray[Any],
    truth: Bitmaps,
    truth_labels: NDArray[Any],
    threshold: float,
    *,
    keep: float,
    score: float,
    label: int | None = None,
    crowds: Bitmaps | None = None,
    crowd_labels: NDArray[Any] | None = None,
) -> tuple[int, int, int, float]:
    """TP, FP, FN and the summed IoU of one image at one threshold, of one class or with the class ignored."""
    drawn, ground = found_image(found, scores, keep, score), truth_image(truth)
    table = iou_table(ground, drawn, len(truth), len(found))
    mine = [j for j in range(len(found)) if (drawn == j + 1).any() and label in (None, labels[j])]
    theirs = [i for i in range(len(truth)) if (ground == i + 1).any() and label in (None, truth_labels[i])]
    pairs = assigned(table[np.ix_(theirs, mine)], threshold)
    matched = {mine[j] for _, j in pairs}
    ignored = 0
    for j in set(mine) - matched:
        region = np.zeros(drawn.shape, bool)
        for k in range(0 if crowds is None else len(crowds)):
            if label is None or crowd_labels[k] == label:  # type: ignore[index]
                region |= crowds[k]  # type: ignore[index]
        ignored += bool(2 * (region & (drawn == j + 1)).sum() >= (drawn == j + 1).sum())
    total = sum(table[theirs[i], mine[j]] for i, j in pairs)
    return len(pairs), len(mine) - len(pairs) - ignored, len(theirs) - len(pairs), float(total)


def average(tp: int, fp: int, fn: int) -> float:
    """AP of one image."""
    return tp / (tp + fp + fn) if tp + fp + fn else 1.0
