"""What a metric is: made for a data set, updated image by image, then asked for its result. `table` lists them all.

Letters: N objects, Q classes.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike

from maskwright.data.dataset import Annotation, Dataset, ImageRecord
from maskwright.errors import DataError
from maskwright.report.page import Column, Html
from maskwright.types import Classes, Instances, IntArray, Masks, Panoptic, TrackFacts


class GroundTruth:
    """The annotations of one image. Masks are drawn when they are first asked for, once for all metrics.

    since_key: frames since the key frame that was carried to this one; None where it is not stated.
    """

    def __init__(self, dataset: Dataset, position: int, since_key: int | None = None) -> None:
        self._dataset, self._position, self.since_key = dataset, position, since_key

    @property
    def record(self) -> ImageRecord:
        """Id, file name and size of the image."""
        return self._dataset.images[self._position]

    @property
    def annotations(self) -> tuple[Annotation, ...]:
        """As in the file, crowd regions included."""
        return self._dataset.of(self._position)

    @property
    def objects(self) -> Instances:
        """The annotated objects, crowd regions left out."""
        return self._parts[0]

    @property
    def crowd(self) -> Instances:
        """The crowd regions, which are neither object nor background."""
        return self._parts[1]

    @cached_property
    def segmented(self) -> Masks | None:
        """The masks on which the outlines are measured, where the annotated objects are but markers, or these objects'.

        None where this image has none.
        """
        if self._dataset.outline_maps is not None:
            return self._dataset.outline_maps(self.record)
        crops = self.objects.crops
        return Masks.empty(self.record.size) if crops is None else crops

    @cached_property
    def panoptic(self) -> Panoptic | None:
        """The segments of all pixels; None where this image has no map."""
        return self._dataset.panoptic(self._position)

    @cached_property
    def semantic(self) -> IntArray | None:
        """The classes of all pixels, as `Dataset.semantic` has them; None where this image has no map."""
        return self._dataset.semantic(self._position)

    @cached_property
    def _parts(self) -> tuple[Instances, Instances]:
        every, crowd = self._dataset.truth(self._position, crowd=True), self._dataset.crowd(self._position)
        return every[~crowd], every[crowd]


@dataclass(frozen=True)
class MetricOptions:
    """What metrics are made with, beside the data set.

    lowest: the lowest score of the detections that are measured. score: the lowest that counts for a metric that needs
    one decision for every object. best_threshold: such a metric also reports the score threshold that suits it best.
    max_detections: of an image and class that count in average precision; None decides it from the data.
    sigmas: of landmarks for OKS, one for all or by name; None: COCO's for the landmarks of people, else a usual one.
    tracks: what a result file says of whole tracks, by the id of the clip and that of the track.
    """

    lowest: float = 0.0
    score: float = 0.0
    best_threshold: bool = False
    max_detections: int | None = None
    sigmas: float | Mapping[str, float] | None = None
    tracks: Mapping[int, Mapping[int, TrackFacts]] = field(default_factory=dict)


@dataclass(frozen=True)
class PageSection:
    """What a result adds to the page of an evaluation.

    tiles: its main numbers, as (name, text). charts: drawn side by side. columns: for the table of classes, each with
    one value per class; None where there is nothing to measure.
    """

    tiles: Sequence[tuple[str, str]] = ()
    charts: Sequence[Html] = ()
    columns: Sequence[tuple[Column, Sequence[float | None]]] = ()


class Result(Protocol):
    """What a metric measured."""

    @property
    def notes(self) -> Sequence[str]:
        """What a reader of the numbers should know, one sentence each."""

    def values(self) -> Mapping[str, float]:
        """The main numbers by name; -1 where there is nothing to measure. No two metrics share a name."""

    def table(self) -> str:
        """All numbers and notes as plain text."""

    def to_dict(self) -> dict[str, Any]:
        """All numbers as plain values for JSON, under keys that no other metric has."""

    def section(self) -> PageSection:
        """The numbers as a part of an HTML page."""


class Metric(Protocol):
    """Collects detections image by image."""

    def update(self, found: Instances, truth: GroundTruth) -> None:
        """Add an image: what was found in it, with the data set's labels, and its annotations."""

    def result(self) -> Result:
        """Measure the images given so far."""


@dataclass(frozen=True)
class MetricKind:
    """A row of the table of metrics.

    make: the metric for a data set. needs_masks: it cannot be measured with boxes alone. uses_score: it counts the
    detections that reach `MetricOptions.score`. best_score: and can say which score suits it best. video: it measures
    tracks, and gets the frames of each video in order; with uses_score, tracks of the detections that count alone.
    """

    make: Callable[[Dataset, MetricOptions], Metric]
    needs_masks: bool = False
    uses_score: bool = False
    best_score: bool = False
    video: bool = False

    @property
    def decided(self) -> bool:
        """Whether it takes tracks of the detections that count alone."""
        return self.video and self.uses_score


def shown(value: float, none: str = "-") -> str:
    """A number of 0 to 1 with three digits; -1, where there is nothing to measure, is `none`."""
    return f"{value:.3f}" if value >= 0 else none


def table_lines(header: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """A table as text: the first column as wide as it has to be, the others under their headers, on the right."""
    rows = list(rows)
    width = max([len(header[0]), *(len(str(row[0])) for row in rows)])
    lines = [f" {header[0]:<{width}}  " + "  ".join(header[1:])]
    for first, *rest in rows:
        cells = (f"{value!s:>{len(name)}}" for name, value in zip(header[1:], rest, strict=False))
        lines.append(f" {first:<{width}}  " + "  ".join(cells))
    return lines


def check_classes(metric: object, what: str, given: Classes, expected: Classes) -> None:
    """Raises DataError where the instances `what` were not translated to the classes of the data set."""
    if given.names != expected.names:
        raise DataError(
            f"{type(metric).__name__}: {what} has the classes {list(given)}, expected {list(expected)}. Translate the "
            "labels first; `evaluation` does."
        )


def mean(values: ArrayLike) -> float:
    """The mean of what was measured, -1 where nothing was."""
    known = np.asarray(values, np.float64)
    known = known[known > -1]
    return float(known.mean()) if known.size else -1.0


def measured(value: float) -> float | None:
    """The number, or None for -1, where there is nothing to measure."""
    return value if value >= 0 else None
