"""Every metric by name. A new one is a file beside this and a row here."""

from collections.abc import Iterable

from maskwright.data.dataset import Dataset
from maskwright.errors import ConfigError, DataError, suggest
from maskwright.metrics.coco import CocoMetric
from maskwright.metrics.ctc import PARENT, CtcMetric
from maskwright.metrics.hota import HotaMetric
from maskwright.metrics.key_frames import KeyFrameMetric
from maskwright.metrics.keypoints import KeypointMetric
from maskwright.metrics.metric import Metric, MetricKind, MetricOptions
from maskwright.metrics.nuclei import NucleiMetric
from maskwright.metrics.panoptic import PanopticMetric
from maskwright.metrics.semantic import SemanticMetric
from maskwright.metrics.youtube_vis import YoutubeVisMetric

METRICS: dict[str, MetricKind] = {
    "coco": MetricKind(lambda data, chosen: CocoMetric(data, chosen.max_detections)),
    "nuclei": MetricKind(
        lambda data, chosen: NucleiMetric(data.classes, chosen), needs_masks=True, uses_score=True, best_score=True
    ),
    "keypoints": MetricKind(KeypointMetric, uses_score=True),
    "panoptic": MetricKind(PanopticMetric, needs_masks=True, uses_score=True),
    "semantic": MetricKind(lambda data, chosen: SemanticMetric(data)),
    "youtube_vis": MetricKind(
        lambda data, chosen: YoutubeVisMetric(data.classes, chosen.tracks, chosen.max_detections),
        needs_masks=True,
        video=True,
    ),
    "hota": MetricKind(
        lambda data, chosen: HotaMetric(data.classes, chosen.score), needs_masks=True, uses_score=True, video=True
    ),
    "ctc": MetricKind(
        lambda data, chosen: CtcMetric(data.classes, chosen.score, chosen.tracks),
        needs_masks=True,
        uses_score=True,
        video=True,
    ),
    "key_frames": MetricKind(
        lambda data, chosen: KeyFrameMetric(data, chosen.max_detections), needs_masks=True, video=True
    ),
}
"""The order is that of tables and pages."""

ALWAYS = ("coco",)
"""Measured whether asked for or not."""

OF_VIDEOS = ("youtube_vis", "hota")
"""Measured on videos as well, unless others are asked for."""


def of_videos(dataset: Dataset) -> tuple[str, ...]:
    """What is measured on videos unless names are given; `ctc` where divisions or outlines of cells are told."""
    rows = (a for own in dataset.annotations.values() for a in own)
    cells = dataset.outline_maps is not None or any(PARENT in a.extra for a in rows)
    return (*ALWAYS, *OF_VIDEOS, *(("ctc",) if cells else ()))


def make(names: Iterable[str], dataset: Dataset, options: MetricOptions) -> dict[str, Metric]:
    """The metrics of these names and those of `ALWAYS`, in the order of the table.

    Raises ConfigError for an unknown name, DataError where a metric needs masks that the data set does not have.
    """
    asked = {*ALWAYS, *names}
    for name in sorted(asked - METRICS.keys()):
        raise ConfigError(f"There is no metric '{name}'.{suggest(name, METRICS)}", options=("metrics",))
    kinds = {name: kind for name, kind in METRICS.items() if name in asked}
    for name, kind in kinds.items():
        if kind.needs_masks and not dataset.has_masks:
            raise DataError(f"{dataset.source}: some annotations have only a box, and the {name} metric needs masks.")
    return {name: kind.make(dataset, options) for name, kind in kinds.items()}
