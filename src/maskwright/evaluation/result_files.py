"""Measuring results that come as files: the tracks of videos, and panoptic maps."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from maskwright.data.dataset import Dataset
from maskwright.data.formats.coco_panoptic import FoundMaps
from maskwright.data.formats.shared.video_results import FoundTracks
from maskwright.evaluation.outcome import Evaluation
from maskwright.evaluation.videos import metrics_of
from maskwright.metrics import table
from maskwright.metrics.metric import GroundTruth, MetricOptions
from maskwright.metrics.panoptic import PanopticMetric
from maskwright.metrics.semantic import SemanticMetric
from maskwright.predictor.timing import StageTimer
from maskwright.types import Instances, Panoptic
from maskwright.wording import counted


def of_tracks(
    place: str,
    results: FoundTracks,
    whole: Dataset,
    dataset: Dataset,
    metrics: Sequence[str] | None,
    options: MetricOptions,
    watch: Callable[[int, Instances], None] | None,
) -> Evaluation:
    """Measure tracks; dataset: the first images of the whole."""
    names = metrics_of(dataset, metrics)[0]
    meters = table.make(names, dataset, replace(options, tracks=results.tracks))
    timer, start, empty = StageTimer(), time.perf_counter(), 0
    with timer.stage("metric"):
        for clip in dataset.clips:
            for i, found in results.frames(clip):
                if i >= len(dataset):
                    continue
                for meter in meters.values():
                    meter.update(found, GroundTruth(dataset, i))
                if watch is not None:
                    watch(i, found)
                empty += not len(found)
        measured = {name: meter.result() for name, meter in meters.items()}
    notes = [f"{counted(empty, 'frame')} have no object in {place}."] if empty else []
    seconds, wall = dict(timer.totals), time.perf_counter() - start
    return Evaluation(measured, seconds, wall, len(dataset), (), (*dataset.notes, *notes))


def of_maps(
    place: str,
    results: FoundMaps,
    dataset: Dataset,
    metrics: Sequence[str] | None,
    options: MetricOptions,
    watch: Callable[[int, Instances], None] | None,
) -> Evaluation:
    """Measure panoptic maps; their things are the instances for the other metrics."""
    meters = table.make(("panoptic",) if metrics is None else metrics_of(dataset, metrics)[0], dataset, options)
    timer, start, empty = StageTimer(), time.perf_counter(), 0
    with timer.stage("metric"):
        for i, record in enumerate(dataset.images):
            maps, truth = results(record), GroundTruth(dataset, i)
            empty += maps is None
            maps = maps or Panoptic(np.zeros(record.size, np.int32), (), results.classes, results.things)
            found = replace(maps.instances, classes=dataset.classes)
            for meter in meters.values():
                if isinstance(meter, (PanopticMetric, SemanticMetric)):
                    meter.update_map(maps, truth)
                else:
                    meter.update(found, truth)
            if watch is not None:
                watch(i, found)
        measured = {name: meter.result() for name, meter in meters.items()}
    notes = [f"{counted(empty, 'image')} without a map in {place}: nothing was found there."] if empty else []
    seconds, wall = dict(timer.totals), time.perf_counter() - start
    return Evaluation(measured, seconds, wall, len(dataset), (), (*dataset.notes, *notes))
