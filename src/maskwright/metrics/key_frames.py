"""How AP depends on the distance to the key frame: what a video model carries from it fits less and less."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from maskwright.data.dataset import Dataset
from maskwright.errors import DataError
from maskwright.metrics.coco import CocoMetric
from maskwright.metrics.metric import GroundTruth, PageSection, measured, shown
from maskwright.report import charts
from maskwright.report.charts import Series
from maskwright.types import Instances
from maskwright.wording import counted


@dataclass(frozen=True)
class AtDistance:
    """Mask AP of the frames that are `distance` frames after their key frame, 0 the key frames themselves."""

    distance: int
    frames: int
    ap: float
    ap50: float


@dataclass(frozen=True, eq=False)
class KeyFrameResult:
    """A row for each distance that occurred. unknown: frames whose key frame is not stated."""

    rows: tuple[AtDistance, ...]
    unknown: int = 0

    @property
    def notes(self) -> Sequence[str]:
        """What was left out."""
        frames = counted(self.unknown, "frame")
        return (f"{frames} without a stated distance to the key frame.",) if self.unknown else ()

    def values(self) -> dict[str, float]:
        """Mask AP by distance: `key_frames/AP@0` of the key frames, `key_frames/AP@1` of those after them ..."""
        return {f"key_frames/AP@{row.distance}": row.ap for row in self.rows}

    def table(self) -> str:
        """A line for each distance."""
        lines = ["key_frames: mask AP by frames since the key frame", "  distance  frames     AP   AP50"]
        lines += [f"  {r.distance:8d}  {r.frames:6d}  {shown(r.ap):>5}  {shown(r.ap50):>5}" for r in self.rows]
        return "\n".join([*lines, *(f"Note: {note}" for note in self.notes)])

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, under `key_frames`."""
        return {"key_frames": [asdict(row) for row in self.rows]}

    def section(self) -> PageSection:
        """AP over the distance."""
        points = [(float(r.distance), value) for r in self.rows if (value := measured(r.ap)) is not None]
        title = "Mask AP by frames since the key frame"
        chart = charts.line_chart(title, [Series("AP", points)], x_label="frames", y_label="AP", y_range=(0, 1))
        return PageSection((), [chart] if len(points) > 1 else ())


class KeyFrameMetric:
    """Collects frames, and measures those of each distance to their key frame by themselves.

    metric = KeyFrameMetric(dataset)
    metric.update(found, GroundTruth(dataset, 0, since_key=0))
    print(metric.result().table())
    """

    def __init__(self, dataset: Dataset, max_detections: int | None = None) -> None:
        self._dataset, self._max_detections = dataset, max_detections
        self._at: dict[int, CocoMetric] = {}
        self._unknown = 0

    def update(self, found: Instances, truth: GroundTruth) -> None:
        """Add a frame; one that does not say its distance is counted. Raises DataError where masks are missing."""
        if truth.since_key is None:
            self._unknown += 1
            return
        if found.crops is None and len(found):
            raise DataError(f"KeyFrameMetric: the result of {truth.record.file_name} has boxes only.")
        if truth.since_key not in self._at:
            self._at[truth.since_key] = CocoMetric(self._dataset, self._max_detections)
        self._at[truth.since_key].update(found, truth)

    def result(self) -> KeyFrameResult:
        """Measure the frames given so far."""
        rows = []
        for distance, meter in sorted(self._at.items()):
            numbers = meter.result()
            assert numbers.masks is not None
            rows.append(AtDistance(distance, numbers.images, numbers.masks["AP"], numbers.masks["AP50"]))
        return KeyFrameResult(tuple(rows), self._unknown)
