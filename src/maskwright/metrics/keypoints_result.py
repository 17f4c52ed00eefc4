"""What the keypoints metric measured: the numbers, as text, as plain values and as a part of a page."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskwright.metrics.metric import PageSection, mean, measured, shown, table_lines
from maskwright.report import charts
from maskwright.report.charts import Bars

Array = NDArray[np.float64]

STATS = ("AP", "AP50", "AP75", "APm", "APl", "AR", "AR50", "AR75", "ARm", "ARl")
"""COCO's ten numbers of landmarks in their usual order; m, l: medium and large (over 96² pixels) objects."""

SHARES = (0.05, 0.1, 0.2)
"""PCK@0.05 ...: a landmark is right within this share of the longer side of the object's box."""


@dataclass(frozen=True, eq=False)
class OksScores:
    """OKS of one class. objects: with annotated landmarks. found: detections. limit: of an image that count at most.

    precision: (T, R, 3), recall: (T, 3), for objects of all sizes, medium and large ones.
    """

    name: str
    objects: int
    found: int
    limit: int
    precision: Array
    recall: Array

    @property
    def stats(self) -> Array:
        """(10,) in the order of `STATS`."""
        p, r = self.precision, self.recall
        ap = (p[..., 0], p[0, :, 0], p[5, :, 0], p[..., 1], p[..., 2])
        ar = (r[:, 0], r[0, 0], r[5, 0], r[:, 1], r[:, 2])
        return np.array([mean(np.ravel(values)) for values in (*ap, *ar)])


@dataclass(frozen=True)
class LandmarkScore:
    """One landmark of one class. annotated: how often. found: of objects that were found. pck: (3,) at `SHARES`, where
    landmarks of objects that were not found are wrong. distances: in pixels, of those that were found."""

    of_class: str
    name: str
    annotated: int
    found: int
    pck: tuple[float, ...]
    distances: tuple[float, ...]

    @property
    def mean_error(self) -> float:
        """The mean distance in pixels of those that were found, or -1."""
        return float(np.mean(self.distances)) if self.distances else -1.0


@dataclass(frozen=True, eq=False)
class KeypointResult:
    """OKS by class, PCK and errors by landmark. score: detections from it on count for the latter two."""

    classes: tuple[OksScores, ...]
    landmarks: tuple[LandmarkScore, ...]
    score: float
    notes: tuple[str, ...]

    def __getitem__(self, name: str) -> float:
        """One of `STATS` as the mean over the classes."""
        at = STATS.index(name)
        return mean(np.array([row.stats[at] for row in self.classes]))

    def pck(self, share: float) -> float:
        """PCK over all annotated landmarks, at one of `SHARES`."""
        count = sum(row.annotated for row in self.landmarks)
        right = sum(row.pck[SHARES.index(share)] * row.annotated for row in self.landmarks if row.annotated)
        return right / count if count else -1.0

    @property
    def _distances(self) -> Array:
        return np.array([d for row in self.landmarks for d in row.distances])

    @property
    def mean_error(self) -> float:
        """In pixels, over all landmarks of objects that were found; -1: there are none."""
        return float(self._distances.mean()) if len(self._distances) else -1.0

    @property
    def median_error(self) -> float:
        """In pixels, as `mean_error`."""
        return float(np.median(self._distances)) if len(self._distances) else -1.0

    def values(self) -> dict[str, float]:
        """`keypoints/AP` and COCO's nine others, `keypoints/PCK@0.1`, `keypoints/mean_error_px`."""
        pck = {f"keypoints/PCK@{share:g}": self.pck(share) for share in SHARES}
        errors = {"keypoints/mean_error_px": self.mean_error, "keypoints/median_error_px": self.median_error}
        return {f"keypoints/{name}": self[name] for name in STATS} | pck | errors

    def table(self) -> str:
        """COCO's numbers for each class, then PCK and errors for each landmark."""
        rows: list[tuple[object, ...]] = [(r.name, r.objects, r.found, *map(shown, r.stats)) for r in self.classes]
        several = len(rows) > 1
        if several:
            rows.append(("mean", "", "", *(shown(self[name]) for name in STATS)))
        lines = ["keypoints: AP and AR by object keypoint similarity (OKS)"]
        lines += table_lines(("class", "objects", "  found", *(f"{name:>5}" for name in STATS)), rows)
        lines += ["", f" PCK within a share of the box's longer side, and error, at score {self.score:.2f} and more"]
        marks: list[tuple[object, ...]] = [
            (f"{m.of_class}: {m.name}" if several else m.name, m.annotated, m.found, *map(shown, m.pck),
             _pixels(m.mean_error))
            for m in self.landmarks
        ]  # fmt: skip
        annotated, found = (sum(getattr(r, n) for r in self.landmarks) for n in ("annotated", "found"))
        every = (shown(self.pck(share)) for share in SHARES)
        marks.append(("all", annotated, found, *every, _pixels(self.mean_error)))
        heads = (f"PCK@{share:<4g}" for share in SHARES)
        lines += table_lines(("landmark", "annotated", "  found", *heads, "mean px"), marks)
        return "\n".join([*lines, *(f"Note: {note}" for note in self.notes)])

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, under `keypoints`."""
        by_class = [
            {"name": r.name, "objects": r.objects, "found": r.found, **dict(zip(STATS, r.stats.tolist(), strict=True))}
            for r in self.classes
        ]
        by_landmark = [
            {"class": r.of_class, "name": r.name, "annotated": r.annotated, "found": r.found,
             "mean_error_px": r.mean_error, **{f"PCK@{s:g}": v for s, v in zip(SHARES, r.pck, strict=True)}}
            for r in self.landmarks
        ]  # fmt: skip
        numbers = {name.partition("/")[2]: value for name, value in self.values().items()}
        own = {**numbers, "score": self.score, "per_class": by_class, "per_landmark": by_landmark}
        return {"keypoints": {**own, "notes": list(self.notes)}}

    def section(self) -> PageSection:
        """PCK of each landmark of each class."""
        tiles = [(f"OKS {name}", shown(self[name], "–")) for name in ("AP", "AP50", "AP75")]
        tiles += [("PCK@0.1", shown(self.pck(0.1), "–")), ("mean error", f"{_pixels(self.mean_error)} px")]
        out = []
        for row in self.classes:
            own = [mark for mark in self.landmarks if mark.of_class == row.name]
            bars = [Bars(f"PCK@{s:g}", [measured(m.pck[k]) for m in own]) for k, s in enumerate(SHARES)]
            title = f"Landmarks of {row.name} within a share of the box's longer side"
            out.append(charts.bar_chart(title, [m.name for m in own], bars, y_label="PCK"))
        return PageSection(tiles, out)


def _pixels(value: float) -> str:
    return f"{value:.2f}" if value >= 0 else "-"
