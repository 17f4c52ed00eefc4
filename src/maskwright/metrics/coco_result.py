"""What the COCO metric measured: the numbers, as text, as plain values and as a part of a page.

Letters: T IoU thresholds (10: 0.50 to 0.95), R recall levels (101), Q classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from maskwright.metrics.metric import PageSection, measured, shown, table_lines
from maskwright.report import charts
from maskwright.report.charts import Bars, Series
from maskwright.report.page import Column, Html

Array = NDArray[np.float64]

STATS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
"""The twelve numbers in their usual order; s, m, l: small (under 32² pixels), medium, large (over 96²) objects."""

AREAS = {"s": "small", "m": "medium", "l": "large"}

LIMIT = 100
"""Detections of an image and class that count at most by COCO's rule."""

CURVES = 100
"""Precision-recall curves of single classes drawn at most, those with most objects first."""

NAMES = {"bbox": ("box", "boxes"), "segm": ("mask", "masks")}

COLUMNS = (
    ("{} AP", "mean over IoU 0.50 to 0.95", "ap"),
    ("AP50", "", "ap50"),
    ("AP75", "", "ap75"),
    ("AR", "recall", "ar"),
)
"""Columns of the table of classes on a page: (name, hint, field of `ClassScore`)."""


@dataclass(frozen=True)
class ClassScore:
    """One row of the per-class table. objects: annotated, crowds not counted. found: detections, or tracks."""

    name: str
    objects: int
    found: int
    ap: float
    ap50: float
    ap75: float
    ar: float


@dataclass(frozen=True, eq=False)
class CocoScores:
    """The numbers of one kind of outline.

    stats: (12,) in the order of `STATS`, with the best `limit` detections of each image and class (AR1, AR10, AR100
    with as many as they say). precision: (T, R, Q), recall: (T, Q), thresholds: (T, R, Q) the score at which each
    precision is reached; all at any area. at_100: (12,) by COCO's rule, where `limit` is another; else None.
    """

    kind: Literal["bbox", "segm"]
    stats: Array
    per_class: tuple[ClassScore, ...]
    precision: Array
    recall: Array
    thresholds: Array
    limit: int = LIMIT
    at_100: Array | None = None

    def __getitem__(self, name: str) -> float:
        """A number by its name: `scores["AP50"]`."""
        return float(self.stats[STATS.index(name)])

    def curve(self, iou: float, label: int | None = None) -> Array:
        """Precision (R,) at recall 0, 0.01 ... 1 of one class, or the mean of all that were measured; -1: none were."""
        rows = self.precision[round((iou - 0.5) / 0.05)]  # (R, Q)
        rows = rows[:, rows[0] > -1] if label is None else rows[:, [label]]
        return rows.mean(axis=1) if rows.shape[1] else np.full(len(rows), -1.0)

    def values(self, names: Sequence[str]) -> dict[str, float]:
        """Numbers of these names with the kind before them, and AP at COCO's 100 where another limit was used."""
        own = {} if self.at_100 is None else {f"{self.kind}/AP@{LIMIT}": float(self.at_100[0])}
        return {f"{self.kind}/{name}": self[name] for name in names} | own

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON, without the curves."""
        return {
            **_named(self.stats),
            "max_detections": self.limit,
            **({} if self.at_100 is None else {f"at_{LIMIT}": _named(self.at_100)}),
            "per_class": [vars(row) for row in self.per_class],
        }

    def table(self) -> str:
        """The twelve lines as the COCO API prints them, then one line per class."""
        lines = [f"{self.kind}:"]
        for name, value in zip(STATS, self.stats, strict=True):
            long = "Average Precision" if name.startswith("AP") else "Average Recall   "
            tail = name[2:]
            iou = f"0.{tail}" if tail in ("50", "75") else "0.50:0.95"
            limit = int(tail) if name.startswith("AR") and tail.isdecimal() else self.limit
            lines.append(
                f" {long}  ({name[:2]}) @[ IoU={iou:<9} | area={AREAS.get(tail, 'all'):>6} | maxDets={limit:>3} ]"
                f" = {value:0.3f}"
            )
        if self.at_100 is not None:
            own = ", ".join(f"{name} {shown(v)}" for name, v in list(_named(self.at_100).items())[:6])
            lines.append(f" COCO's own, maxDets={LIMIT}: {own}")
        return "\n".join([*lines, "", *class_lines(self.per_class)])


@dataclass(frozen=True, eq=False)
class CocoResult:
    """COCO's numbers of a data set.

    masks: None where masks could not be measured. notes: why not, and what else a reader of the numbers should know.
    """

    boxes: CocoScores
    masks: CocoScores | None
    images: int
    notes: tuple[str, ...]

    def table(self) -> str:
        """Both tables and the notes as plain text."""
        parts = [s.table() for s in (self.boxes, self.masks) if s is not None]
        return "\n\n".join([*parts, *(["\n".join(f"Note: {n}" for n in self.notes)] if self.notes else [])])

    def values(self) -> dict[str, float]:
        """The twelve numbers of masks and boxes: `segm/AP`, `bbox/AR100`; and where more detections than COCO's 100
        count, AP at 100: `segm/AP@100`."""
        return {name: value for s in self._measured() for name, value in s.values(STATS).items()}

    def _measured(self) -> tuple[CocoScores, ...]:
        return (self.boxes,) if self.masks is None else (self.masks, self.boxes)

    def section(self) -> PageSection:
        """Curves of precision and recall, AP by size of the objects, and the numbers of each class."""
        scores = self._measured()
        tiles = [
            (f"{NAMES[s.kind][0]} {name}", shown(s[name], "–"))
            for s in scores
            for name in ("AP", "AP50", "AP75")[: 3 if s is scores[0] else 1]
        ]
        tiles += [
            (f"{NAMES[s.kind][0]} AP at COCO's {LIMIT}", shown(s.at_100[0], "–"))
            for s in scores
            if s.at_100 is not None
        ]
        bars = [Bars(NAMES[s.kind][1], [measured(s[f"AP{size}"]) for size in "sml"]) for s in scores]
        sizes = charts.bar_chart(
            "AP by size of the objects", ("under 32²", "32² to 96²", "over 96² px"), bars, y_label="AP"
        )
        curves = [_precision_recall(scores[0], iou) for iou in (0.5, 0.75)]
        return PageSection(tiles, [*curves, sizes], self._columns())

    def _columns(self) -> list[tuple[Column, list[float | None]]]:
        rows = self.boxes.per_class
        out: list[tuple[Column, list[float | None]]] = [
            (Column("objects", "annotated, crowds not counted"), [row.objects for row in rows]),
            (Column("found", "at any score"), [row.found for row in rows]),
        ]
        for s in self._measured():
            for name, hint, key in COLUMNS:
                column = Column(name.format(NAMES[s.kind][0]), hint, share=True)
                out.append((column, [measured(getattr(row, key)) for row in s.per_class]))
        return out

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "images": self.images,
            "bbox": self.boxes.to_dict(),
            "segm": None if self.masks is None else self.masks.to_dict(),
            "notes": list(self.notes),
        }


def class_lines(rows: Sequence[ClassScore]) -> list[str]:
    """The numbers of each class as text."""
    header = ("class", "objects", "  found", "   AP", " AP50", " AP75", "   AR")
    return table_lines(header, [(r.name, r.objects, r.found, *map(shown, (r.ap, r.ap50, r.ap75, r.ar))) for r in rows])


def _named(stats: Array) -> dict[str, float]:
    return {name: float(value) for name, value in zip(STATS, stats, strict=True)}


def _precision_recall(scores: CocoScores, iou: float) -> Html:
    recall = np.linspace(0, 1, scores.precision.shape[1]).tolist()

    def points(label: int | None) -> list[tuple[float, float]]:
        reached = [(r, float(p)) for r, p in zip(recall, scores.curve(iou, label), strict=True) if p >= 0]
        return [p for p in reached if p[1] > 0] or reached

    several = len(scores.per_class) > 1
    annotated = sorted(
        ((k, row) for k, row in enumerate(scores.per_class) if row.objects), key=lambda pair: -pair[1].objects
    )[:CURVES]
    thin = len(annotated) >= charts.COLORS
    series = [Series("all classes" if several else scores.per_class[0].name, points(None))]
    series += [Series(row.name, points(k), thin=thin) for k, row in annotated] if several else []
    return charts.line_chart(
        f"Precision and recall of {NAMES[scores.kind][1]} at IoU {iou:g}",
        series,
        x_label="recall",
        y_label="precision",
        x_range=(0, 1),
        y_range=(0, 1),
    )
