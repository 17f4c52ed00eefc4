"""How well the class of every pixel is found: IoU of each class over all images, their mean, and pixel accuracy.

Letters: S classes of the data set's semantic maps, the first of which stands for all things.

Pixels that are not annotated do not count. A pixel for which nothing was found is wrong. -1 stands where there is
nothing to measure.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from maskwright.data.dataset import Dataset
from maskwright.errors import DataError
from maskwright.metrics.maps import absent_stuff, semantic_of
from maskwright.metrics.metric import GroundTruth, PageSection, mean, measured, shown, table_lines
from maskwright.report import charts
from maskwright.report.charts import Bars
from maskwright.results.prediction import Prediction
from maskwright.types import THINGS, Classes, Instances, IntArray, Panoptic
from maskwright.wording import counted


@dataclass(frozen=True)
class SemanticScore:
    """One class. right: pixels; annotated, found: pixels of it, right or not, where something is annotated."""

    name: str
    right: int
    annotated: int
    found: int

    @property
    def iou(self) -> float:
        """Right pixels by those that are annotated or found; -1 where there are none."""
        union = self.annotated + self.found - self.right
        return self.right / union if union else -1.0

    @property
    def recall(self) -> float:
        """The share of the annotated pixels that were found, -1 where none is annotated."""
        return self.right / self.annotated if self.annotated else -1.0


@dataclass(frozen=True, eq=False)
class SemanticResult:
    """By class."""

    classes: tuple[SemanticScore, ...]
    notes: tuple[str, ...]

    @property
    def pixel_accuracy(self) -> float:
        """The share of all annotated pixels whose class was found."""
        total = sum(row.annotated for row in self.classes)
        return sum(row.right for row in self.classes) / total if total else -1.0

    def values(self) -> dict[str, float]:
        """`semantic/mIoU` and `semantic/mean_accuracy`, means over the classes, and `semantic/pixel_accuracy`."""
        return {
            "semantic/mIoU": mean([row.iou for row in self.classes]),
            "semantic/mean_accuracy": mean([row.recall for row in self.classes]),
            "semantic/pixel_accuracy": self.pixel_accuracy,
        }

    def table(self) -> str:
        """The three numbers, then each class."""
        numbers = ", ".join(f"{name.partition('/')[2]} {shown(value)}" for name, value in self.values().items())
        lines = [f"semantic: the class of every pixel; {numbers}"]
        rows = [(r.name, r.annotated, r.found, shown(r.iou), shown(r.recall)) for r in self.classes
                if r.annotated or r.found]  # fmt: skip
        lines += table_lines(("class", "annotated px", "  found px", "  IoU", "recall"), rows)
        return "\n".join([*lines, *(f"Note: {note}" for note in self.notes)])

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, under `semantic`."""
        rows = [
            {"name": r.name, "IoU": r.iou, "recall": r.recall, "annotated": r.annotated, "found": r.found}
            for r in self.classes
        ]
        numbers = {name.partition("/")[2]: value for name, value in self.values().items()}
        return {"semantic": {**numbers, "per_class": rows, "notes": list(self.notes)}}

    def section(self) -> PageSection:
        """IoU of each class."""
        rows = [row for row in self.classes if row.annotated or row.found]
        ious: Sequence[float | None] = [measured(row.iou) for row in rows]
        chart = charts.bar_chart(
            "IoU of the classes of pixels", [r.name for r in rows], [Bars("IoU", ious)], y_label="IoU"
        )
        values = self.values()
        tiles = [("mIoU", shown(values["semantic/mIoU"], "–")), ("pixel accuracy", shown(self.pixel_accuracy, "–"))]
        return PageSection(tiles, [chart] if rows else [])


class SemanticMetric:
    """Collects the classes of pixels image by image and measures them against a data set with semantic maps."""

    def __init__(self, dataset: Dataset) -> None:
        """Raises DataError where the data set has no semantic maps."""
        if dataset.semantic_maps is None or dataset.semantic_classes is None:
            raise DataError(
                f"{dataset.source}: there are no semantic maps, and the semantic metric measures them. COCO's panoptic "
                "files are read as the format 'coco_panoptic'.",
                options=("data_format",),
            )
        self.dataset, self.classes = dataset, dataset.semantic_classes
        count = len(self.classes)
        self._pixels = np.zeros((count, count + 1), np.int64)  # annotated, found; the last column: nothing was found
        self._known: Classes | None = None
        self._bare = 0

    def update(self, found: Instances, truth: GroundTruth) -> None:
        """Add an image. Raises DataError for a result without a class for every pixel."""
        labels = semantic_of(found, self.classes, truth.record.file_name)
        assert isinstance(found, Prediction)
        self._known = found.semantic_classes
        self._add(labels, truth)

    def update_map(self, found: Panoptic, truth: GroundTruth) -> None:
        """Add the segments of an image, of which the classes of pixels follow."""
        kinds = [label for label, thing in enumerate(found.things) if not thing]
        own = Classes(
            [THINGS, *(found.classes[k] for k in kinds)],
            [1 + max(found.classes.ids), *(found.classes.ids[k] for k in kinds)],
        )
        table = np.array([0, *own.match(self.classes)[1:].tolist(), -1])
        self._add(table[found.semantic()], truth)

    def _add(self, labels: IntArray, truth: GroundTruth) -> None:
        wanted = truth.semantic
        if wanted is None:
            self._bare += 1
            return
        if labels.shape != wanted.shape:
            name = truth.record.file_name
            raise DataError(f"The semantic map found for {name} is {labels.shape} (H, W), the image is {wanted.shape}.")
        count = len(self.classes)
        known = wanted >= 0
        pairs = wanted[known] * (count + 1) + np.where(labels < 0, count, labels)[known]
        self._pixels += np.bincount(pairs, minlength=count * (count + 1)).reshape(count, count + 1)

    def result(self) -> SemanticResult:
        """IoU by class, and the means."""
        right, annotated, found = self._pixels.diagonal(), self._pixels.sum(axis=1), self._pixels.sum(axis=0)
        rows = zip(self.classes, right.tolist(), annotated.tolist(), found[:-1].tolist(), strict=True)
        notes = absent_stuff(self._known, self.dataset)
        if self._bare:
            notes += (f"Not measured: {counted(self._bare, 'image')} without a semantic map.",)
        return SemanticResult(tuple(SemanticScore(*row) for row in rows), notes)
