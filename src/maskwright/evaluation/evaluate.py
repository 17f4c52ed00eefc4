"""How good a model is on an annotated data set, and how long each stage took; or how good a file of results is."""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from maskwright import media
from maskwright.codec import check_number
from maskwright.data import formats
from maskwright.data.dataset import Dataset
from maskwright.data.formats import coco
from maskwright.data.formats.coco_panoptic import FoundMaps
from maskwright.data.formats.shared.video_results import FoundTracks
from maskwright.data.stats import most_objects, room
from maskwright.errors import ConfigError, DataError, ImageError
from maskwright.evaluation.classes import class_notes, match_classes, of_stuff, translated, with_landmarks
from maskwright.evaluation.outcome import Evaluation
from maskwright.evaluation.reached import Reached
from maskwright.evaluation.result_files import of_maps, of_tracks
from maskwright.evaluation.videos import Pass, followed, metrics_of, opened_results, why_not
from maskwright.metrics import table
from maskwright.metrics.coco import CocoMetric
from maskwright.metrics.keypoints import KeypointMetric
from maskwright.metrics.metric import GroundTruth, MetricOptions
from maskwright.predictor.options import FindOptions, given, intensity_of
from maskwright.predictor.predictor import Predictor
from maskwright.predictor.timing import StageTimer
from maskwright.predictor.track_options import TrackOptions
from maskwright.results.prediction import Prediction
from maskwright.types import Classes, ImageArray, Instances, IntArray
from maskwright.wording import counted

Data = Dataset | str | os.PathLike[str]

Watch = Callable[[int, NDArray[np.uint8], Instances], None]
"""Sees each image of the data set: its position, its pixels, and what was found with the data set's labels."""

SCORE = 0.5
"""The lowest score that counts, where it matters, in a file of results: such a file does not say."""


class Predicts(Protocol):
    """What is evaluated; `predictor.Predictor` is one. It enters its stages in `timer`.

    max_instances: the most instances of an image that it reports; more are asked for if an image has more objects.
    """

    @property
    def classes(self) -> Classes: ...

    @property
    def lowest_score(self) -> float: ...

    @property
    def score_threshold(self) -> float: ...

    @property
    def max_instances(self) -> int: ...

    def predict(
        self, source: Any, options: FindOptions | None = None, *, timer: StageTimer | None = None
    ) -> Prediction: ...


def evaluate(
    predictor: Predicts,
    data: Data,
    images: str | os.PathLike[str] | None = None,
    options: FindOptions | None = None,
    *,
    data_format: str | None = None,
    limit: int | None = None,
    skip: bool = False,
    class_names: Mapping[str, str] | None = None,
    metrics: Sequence[str] | None = None,
    metric_score: float | None = None,
    best_threshold: bool = False,
    max_detections: int | None = None,
    sigmas: float | Mapping[str, float] | None = None,
    track: TrackOptions | None = None,
    watch: Watch | None = None,
    progress: bool = True,
    **changes: Any,
) -> Evaluation:
    """Measure a model on an annotated data set.

    data: a `Dataset`, or a file or folder of annotations. images: its images' folder, where it is not the format's
    own. data_format: a name of `data.formats.FORMATS`; None recognises it. limit: only the first images.
    skip: leave out images that cannot be read, and list them in the result, instead of raising.
    class_names: the data set's name for a model's class, where they differ. options, or `changes` as keywords: see
    `FindOptions`; score_threshold None takes the lowest score that the model reports, as AP needs low scores too, and
    max_instances None as many as the model reports, or more where an image has more objects than that.
    metrics: names of `metrics.table.METRICS`; "coco" is always measured, and without names also landmarks, segments of
    all pixels, and in videos tracks, where the data set and the model have them. Where metrics of videos are measured,
    the model follows the objects through each video as `Predictor.track` does, with the options `track`. metric_score:
    the lowest score that counts for metrics that need one decision for every object; None takes the one that
    predictions show by default.
    best_threshold: measure these at the best score as well. max_detections: of an image and class that count in AP;
    None is COCO's 100, or more where an image has more objects; COCO's own AP then stands beside it.
    sigmas: of landmarks for OKS, one for all or by name; None takes COCO's for people and a usual one for others.
    watch: is called with each image and what was found in it. progress: a bar on stderr.
    Boxes are ranked by `Instances.box_scores` where there are such, masks by `scores`.
    Raises DataError where the classes do not match, ImageError or DataError for an image that cannot be used.
    """
    dataset = opened(data, images, limit, data_format)
    options = given(FindOptions, options, changes, "evaluate")
    lowest = predictor.lowest_score if options.score_threshold is None else options.score_threshold
    most = _most(predictor, dataset, options, max_detections)
    options = replace(options, score_threshold=lowest, max_instances=most or options.max_instances)
    dataset, told = replace(dataset, intensity=intensity_of(predictor, options)), media.Readings(annotated=True)
    translation = match_classes(predictor.classes, dataset, class_names)
    if not skip:
        dataset.require_files()
    usual = max(lowest, predictor.score_threshold)
    names, video, unmeasured = _metrics(predictor, dataset, metrics, translation)
    settings = _options(lowest, usual, metric_score, best_threshold, max_detections, sigmas)
    meters = table.make(names, dataset, settings)
    timer, start = StageTimer(), time.perf_counter()
    failed: list[tuple[str, str]] = []
    foreign, seen = 0, Reached(usual)

    def read(i: int) -> ImageArray | None:
        try:
            return dataset.image(i, told)
        except (ImageError, DataError, OSError) as error:
            if not skip:
                raise
            failed.append((dataset.images[i].file_name, str(error)))
            return None

    if isinstance(predictor, Predictor) and video:
        passes = followed(predictor, dataset, options, track, timer, read, settings.score)
    else:
        passes = _found(predictor, dataset, options, timer, read)
    for one in _watched(passes, len(dataset), progress):
        with timer.stage("metric"):
            known = translated(one.found, translation, dataset.classes)
            shown = known if one.shown is one.found else translated(one.shown, translation, dataset.classes)
            truth = GroundTruth(dataset, one.position, one.since_key)
            for name, meter in meters.items():
                meter.update(shown if table.METRICS[name].decided else known, truth)
        if watch is not None:
            watch(one.position, one.image, known)
        foreign += len(one.found) - len(known)
        seen.look(one.found)
    if len(failed) == len(dataset):
        raise DataError(f"{dataset.source}: none of its {len(dataset)} images could be read. First: {failed[0][1]}")
    with timer.stage("metric"):
        results = {name: meter.result() for name, meter in meters.items()}
    wall, notes = time.perf_counter() - start, class_notes(predictor.classes, translation, foreign)
    if metrics is None and not video and not why_not(dataset):
        notes += ("The tracks of these videos were not measured: that needs masks, annotated and found.",)
    count = len(dataset) - len(failed)
    notes += unmeasured + seen.notes(predictor.max_instances, most)
    said = (*dataset.notes, *told.notes(dataset.intensity), *notes)
    return Evaluation(results, dict(timer.totals), wall, count, tuple(failed), said)


def _metrics(
    predictor: Predicts, dataset: Dataset, asked: Sequence[str] | None, translation: IntArray
) -> tuple[tuple[str, ...], bool, tuple[str, ...]]:
    """The names of the metrics that are measured, whether they need tracks, and notes on what is not measured."""
    names, video = metrics_of(dataset, asked, isinstance(predictor, Predictor) and predictor.draws_masks)
    unmeasured: tuple[str, ...] = ()
    if not isinstance(predictor, Predictor) or predictor.finds_landmarks:
        names, unmeasured = with_landmarks(names, asked is None, predictor.classes, dataset, translation)
    if asked is None and isinstance(predictor, Predictor):
        names = (*names, *of_stuff(dataset, predictor.detector.parts))
    if video and not isinstance(predictor, Predictor):
        raise ConfigError(f"{type(predictor).__name__} predicts single images; metrics of videos need a Predictor.")
    return names, video, unmeasured


def _found(
    predictor: Predicts,
    dataset: Dataset,
    options: FindOptions,
    timer: StageTimer,
    read: Callable[[int], ImageArray | None],
) -> Iterator[Pass]:
    """Each image by itself."""
    for i in range(len(dataset)):
        with timer.stage("read"):
            image = read(i)
        if image is not None:
            found = predictor.predict(image, options, timer=timer)
            if isinstance(found, Prediction):
                found.image = None  # the pixels of all images would stay in memory with the metrics
            yield Pass(i, image, found, found)


def evaluate_results(
    results: str | os.PathLike[str],
    data: Data,
    images: str | os.PathLike[str] | None = None,
    *,
    data_format: str | None = None,
    limit: int | None = None,
    metrics: Sequence[str] | None = None,
    metric_score: float | None = None,
    best_threshold: bool = False,
    max_detections: int | None = None,
    sigmas: float | Mapping[str, float] | None = None,
    watch: Callable[[int, Instances], None] | None = None,
) -> Evaluation:
    """Measure a COCO result file, of whatever program, on the data set it belongs to: no model, and no image is read.

    results: or a panoptic JSON file with the folder of its maps, on a data set that has such; or tracks, a YouTube-VIS
    result file or a folder of the Cell Tracking Challenge (01_RES), on a data set of videos. An image without results
    is one in which nothing was found. metric_score: None takes `SCORE`. watch: is called with the position of each
    image and what was found in it. The rest is as in `evaluate`; the numbers of the file are measured with all their
    digits. Raises DataError, naming the row, for results that cannot belong to the data set.
    """
    whole = opened(data, images, None, data_format)
    dataset = opened(whole, None, limit, None)
    options = _options(0.0, SCORE, metric_score, best_threshold, max_detections, sigmas)
    timer, start = StageTimer(), time.perf_counter()
    with timer.stage("metric"):
        every = opened_results(results, whole)
    if isinstance(every, FoundTracks):
        return of_tracks(os.fspath(results), every, whole, dataset, metrics, options, watch)
    if isinstance(every, FoundMaps):
        return of_maps(os.fspath(results), every, dataset, metrics, options, watch)
    names, video = metrics_of(dataset, metrics, tracked=False)
    if video:
        raise DataError(f"{results}: has objects of single images, and metrics of videos need tracks.")
    meters = table.make(names, dataset, options)
    with timer.stage("metric"):
        for i, record in enumerate(dataset.images):
            rows, truth = every[record.id], GroundTruth(dataset, i)
            found = coco.instances_of(rows, record, dataset.classes) if watch or len(meters) > 1 else None
            for meter in meters.values():
                if isinstance(meter, CocoMetric):
                    meter.update_rows(record.id, rows)
                elif isinstance(meter, KeypointMetric):
                    meter.update_rows(truth, rows)
                elif found is not None:
                    meter.update(found, truth)
            if watch is not None and found is not None:
                watch(i, found)
        measured = {name: meter.result() for name, meter in meters.items()}
    empty = sum(not every[record.id] for record in dataset.images)
    notes = [f"{counted(empty, 'image')} without a result in {os.fspath(results)}: nothing was found there."]
    seconds, wall = dict(timer.totals), time.perf_counter() - start
    return Evaluation(measured, seconds, wall, len(dataset), (), (*dataset.notes, *(notes if empty else ())))


def _most(predictor: Predicts, dataset: Dataset, options: FindOptions, max_detections: int | None) -> int | None:
    """How many instances of an image are asked for beyond what the model reports: room for those of the fullest image,
    and as many as count in AP (max_detections). None: as many as were asked for, or as the model reports."""
    if options.max_instances is not None:
        return None
    own, objects = predictor.max_instances, most_objects(dataset)
    wanted = max(room(objects) if objects > own else 0, max_detections or 0)
    return wanted if wanted > own else None


def _options(
    lowest: float,
    usual: float,
    asked: float | None,
    best_threshold: bool,
    max_detections: int | None,
    sigmas: float | Mapping[str, float] | None,
) -> MetricOptions:
    score = usual if asked is None else asked
    check_number("metric_score", float, score)
    if not lowest <= score <= 1:
        raise ConfigError(
            f"The lowest score that counts lies between the lowest one measured, {lowest:g}, and 1, got {score:g}.",
            options=("metric_score",),
        )
    return MetricOptions(lowest, score, best_threshold, max_detections, sigmas)


def opened(data: Data, images: str | os.PathLike[str] | None, limit: int | None, data_format: str | None) -> Dataset:
    """The data set that `evaluate` measures on; arguments as there. Raises DataError where it has no images."""
    if not isinstance(data, Dataset):
        data = formats.load(data, images, data_format)
    elif images is not None:
        data = replace(data, root=Path(images))
    if limit is not None:
        check_number("limit", int, limit)
        if limit < 1:
            raise ConfigError(f"limit: at least 1 image, got {limit}.")
        data = data.subset(range(min(limit, len(data))))
    if not len(data):
        raise DataError(f"{data.source}: the data set has no images, so there is nothing to evaluate.")
    return data


def _watched(passes: Iterator[Pass], count: int, progress: bool) -> Iterator[Pass]:
    """The same, with a bar on stderr if asked for."""
    if not progress:
        yield from passes
        return
    from rich.console import Console
    from rich.progress import track

    yield from track(passes, total=count, description="evaluate", console=Console(stderr=True), transient=True)
