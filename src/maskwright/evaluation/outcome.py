"""What an evaluation measured: the results of all metrics, the time of each stage, and what a reader should know."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from maskwright.atomic import replacing
from maskwright.metrics.coco_result import CocoResult
from maskwright.metrics.metric import Result
from maskwright.predictor.timing import StageTimer


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What was measured.

    results: by name of the metric. seconds: by stage, in order (read, prepare, network, finish, metric). wall_seconds:
    from the first image to the result. images: how many were measured. failed: (file name, reason) of the images that
    were left out because `skip` was given. notes: what a reader of the numbers should know.
    """

    results: Mapping[str, Result]
    seconds: Mapping[str, float]
    wall_seconds: float
    images: int
    failed: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]

    @property
    def result(self) -> CocoResult:
        """COCO's numbers, which are always measured."""
        result = self.results["coco"]
        assert isinstance(result, CocoResult)
        return result

    @property
    def values(self) -> dict[str, float]:
        """The main numbers of all metrics by name; -1 where there is nothing to measure."""
        return {name: value for result in self.results.values() for name, value in result.values().items()}

    @property
    def images_per_second(self) -> float:
        """From file to finished instances, without the time of the metrics; 0 where no model ran."""
        work = sum(s for name, s in self.seconds.items() if name != "metric")
        return self.images / work if work else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        numbers = {key: value for result in self.results.values() for key, value in result.to_dict().items()}
        return {
            "format": "maskwright.evaluation",
            "version": 1,
            **numbers,
            "notes": [*self.result.notes, *self.notes],
            "seconds": dict(self.seconds),
            "wall_seconds": self.wall_seconds,
            "images_per_second": self.images_per_second,
            "failed": [{"file_name": name, "reason": reason} for name, reason in self.failed],
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write `to_dict` as JSON, whole or not at all."""
        with replacing(path) as part:
            part.write_text(json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n", encoding="utf-8")

    def report(self) -> str:
        """The tables of all metrics, the time of each stage, and everything that was left out, as plain text."""
        timer = StageTimer()
        timer.totals, timer.count = dict(self.seconds), self.images
        speed = f"; {self.images_per_second:.2f} images per second from file to instances"
        lines = [line for result in self.results.values() for line in (result.table(), "")]
        lines.append(timer.report())
        lines.append(f"{self.images} images in {self.wall_seconds:.1f} s{speed if self.images_per_second else ''}")
        lines += [f"Note: {note}" for note in self.notes]
        lines += [f"Left out: {name}: {reason}" for name, reason in self.failed]
        return "\n".join(lines)
