"""Panoptic quality, slow and obvious: every pair of segments, pixel by pixel.

Letters: H W image.
"""

from collections.abc import Iterable
from typing import Any

from maskwright.types import Panoptic


def counts(pairs: Iterable[tuple[Panoptic, Panoptic]]) -> dict[int, dict[str, Any]]:
    """By label: tp, fp, fn and the summed iou, of (truth, found) of each image; both have the same classes."""
    out: dict[int, dict[str, Any]] = {}
    for truth, found in pairs:
        for label in range(len(truth.classes)):
            row = out.setdefault(label, {"tp": 0, "fp": 0, "fn": 0, "iou": 0.0})
            for key, value in _of_class(truth, found, label).items():
                row[key] += value
    return out


def _of_class(truth: Panoptic, found: Panoptic, label: int) -> dict[str, Any]:
    void = truth.ids == 0
    true = [s for s in truth.segments if s.label == label and not s.crowd]
    crowds = [s for s in truth.segments if s.label == label and s.crowd]
    own = [s for s in found.segments if s.label == label]
    tp, iou, matched = 0, 0.0, set()
    for t in true:
        for f in own:
            a, b = truth.ids == t.id, found.ids == f.id
            share = (a & b).sum() / (a | (b & ~void)).sum()
            if share > 0.5:
                tp, iou = tp + 1, iou + float(share)
                matched.add(f.id)
    fp = 0
    for f in own:
        inside = found.ids == f.id
        allowed = void | (truth.ids == crowds[-1].id) if crowds else void
        fp += f.id not in matched and not (inside & allowed).sum() / inside.sum() > 0.5
    return {"tp": tp, "fp": fp, "fn": len(true) - tp, "iou": iou}
