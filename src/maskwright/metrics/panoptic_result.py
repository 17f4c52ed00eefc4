"""What the panoptic metric measured: the numbers, as text, as plain values and as a part of a page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from maskwright.metrics.metric import PageSection, mean, measured, shown, table_lines
from maskwright.report import charts
from maskwright.report.charts import Bars
from maskwright.report.page import Column

STATS = ("PQ", "SQ", "RQ")


@dataclass(frozen=True)
class PanopticScore:
    """One class. thing: whether its objects are counted. iou: summed over the matches (tp)."""

    name: str
    thing: bool
    tp: int
    fp: int
    fn: int
    iou: float

    @property
    def counted(self) -> bool:
        """Whether a segment of the class is annotated or found."""
        return self.tp + self.fp + self.fn > 0

    @property
    def stats(self) -> tuple[float, float, float]:
        """PQ, SQ, RQ; -1 where nothing is annotated or found. SQ without a match is 0, as in COCO's program."""
        if not self.counted:
            return -1.0, -1.0, -1.0
        whole = self.tp + self.fp / 2 + self.fn / 2
        return self.iou / whole, self.iou / self.tp if self.tp else 0.0, self.tp / whole


@dataclass(frozen=True, eq=False)
class PanopticResult:
    """By class. score: instances from it on became segments."""

    classes: tuple[PanopticScore, ...]
    score: float
    notes: tuple[str, ...]

    def of(self, thing: bool | None = None) -> tuple[float, float, float]:
        """PQ, SQ, RQ as means over the classes of things, of stuff, or (None) of all; -1: none was measured."""
        rows = [row.stats for row in self.classes if thing is None or row.thing == thing]
        first, second, third = (mean([row[k] for row in rows]) for k in range(3))
        return first, second, third

    def _groups(self) -> Mapping[str, tuple[float, float, float]]:
        return {"all": self.of(), "things": self.of(thing=True), "stuff": self.of(thing=False)}

    def values(self) -> dict[str, float]:
        """`panoptic/PQ`, `panoptic/SQ`, `panoptic/RQ`, and with `_things` and `_stuff` those of these classes."""
        return {
            f"panoptic/{name}{'' if group == 'all' else f'_{group}'}": value
            for group, stats in self._groups().items()
            for name, value in zip(STATS, stats, strict=True)
        }

    def table(self) -> str:
        """The means, then each class that is annotated or found."""
        heads = tuple(f"{name:>5}" for name in STATS)
        counts = {group: [r for r in self.classes if r.counted and (group == "all" or r.thing == (group == "things"))]
                  for group in self._groups()}  # fmt: skip
        groups = [(name, len(counts[name]), *map(shown, stats)) for name, stats in self._groups().items()]
        lines = ["panoptic: quality of the segments of all pixels; PQ = SQ (mean IoU of matches) x RQ (their F1)"]
        lines += [*table_lines(("", "classes", *heads), groups), ""]
        rows = [
            (r.name, "thing" if r.thing else "stuff", r.tp, r.fp, r.fn, *map(shown, r.stats)) for r in counts["all"]
        ]
        lines += table_lines(("class", " kind", " right", " false", "missed", *heads), rows)
        return "\n".join([*lines, *(f"Note: {note}" for note in self.notes)])

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, under `panoptic`."""
        by_class = [
            {"name": r.name, "isthing": int(r.thing), "tp": r.tp, "fp": r.fp, "fn": r.fn,
             **dict(zip(STATS, r.stats, strict=True))}
            for r in self.classes
        ]  # fmt: skip
        numbers = {name.partition("/")[2]: value for name, value in self.values().items()}
        return {"panoptic": {**numbers, "score": self.score, "per_class": by_class, "notes": list(self.notes)}}

    def section(self) -> PageSection:
        """PQ of each class; those of things in the table of classes as well."""
        tiles = [("PQ" if group == "all" else f"PQ {group}", shown(stats[0], "–"))
                 for group, stats in self._groups().items()]  # fmt: skip
        out = []
        for thing in (True, False):
            rows = [r for r in self.classes if r.thing == thing and r.counted]
            if rows:
                bars = [Bars(name, [measured(r.stats[k]) for r in rows]) for k, name in enumerate(STATS)]
                title = f"Panoptic quality of {'things' if thing else 'stuff'}"
                out.append(charts.bar_chart(title, [r.name for r in rows], bars, y_label="quality"))
        things: Sequence[float | None] = [measured(r.stats[0]) for r in self.classes if r.thing]
        return PageSection(tiles, out, [(Column("PQ", "segments of all pixels", share=True), things)])
