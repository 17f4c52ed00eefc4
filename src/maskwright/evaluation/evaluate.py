"""How good a model is on an annotated data set, and how long each stage took.

Letters: N instances, Q classes.
"""

import json
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, Unpack

import numpy as np
from numpy.typing import NDArray

from maskwright.atomic import replacing
from maskwright.data import formats
from maskwright.data.dataset import Dataset
from maskwright.data.formats import coco
from maskwright.errors import ConfigError, DataError, ImageError, suggest
from maskwright.metrics.coco import CocoMetric, CocoResult
from maskwright.metrics.nuclei import NucleiMetric, NucleiResult
from maskwright.predictor.predictor import MaskOptions
from maskwright.predictor.timing import StageTimer
from maskwright.types import Classes, Instances, IntArray

Data = Dataset | str | os.PathLike[str]

METRICS = ("coco", "nuclei")
"""What can be measured; "coco" always is."""

Watch = Callable[[int, NDArray[np.uint8], Instances], None]
"""Sees each image of the data set: its position, its pixels, and what was found with the data set's labels."""


class Predicts(Protocol):
    """What is evaluated; `predictor.Predictor` is one. It enters its stages in `timer`."""

    classes: Classes

    @property
    def floor(self) -> float: ...

    @property
    def score_threshold(self) -> float: ...

    def predict(
        self,
        source: Any,
        *,
        score_threshold: float | None = None,
        max_instances: int | None = None,
        timer: StageTimer | None = None,
        **masks: Unpack[MaskOptions],
    ) -> Any: ...


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What an evaluation found.

    result: the accuracy. seconds: by stage, in order (read, prepare, network, finish, metric). wall_seconds: from the
    first image to the result. images: how many were measured. failed: (file name, reason) of the images left
    out because `skip` was asked for. notes: what a reader of the numbers should know. nuclei: the nuclei metric, where
    it was asked for; nuclei_best: the same at the score threshold that suits it best.
    """

    result: CocoResult
    seconds: Mapping[str, float]
    wall_seconds: float
    images: int
    failed: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    nuclei: NucleiResult | None = None
    nuclei_best: NucleiResult | None = None

    @property
    def images_per_second(self) -> float:
        """From file to finished instances; the metric's own time is left out."""
        work = sum(s for name, s in self.seconds.items() if name != "metric")
        return self.images / work if work else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "format": "maskwright.evaluation",
            "version": 1,
            **self.result.to_dict(),
            **({} if self.nuclei is None else {"nuclei": self.nuclei.to_dict()}),
            **({} if self.nuclei_best is None else {"nuclei_best": self.nuclei_best.to_dict()}),
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
        """The accuracy tables, the time of each stage, and everything that was left out, as plain text."""
        timer = StageTimer()
        timer.totals, timer.count = dict(self.seconds), self.images
        lines = [self.result.table(), ""]
        if self.nuclei is not None:
            lines += [self.nuclei.table(), ""]
        if self.nuclei_best is not None:
            lines += ["At the score threshold that suits these images best:", self.nuclei_best.table(), ""]
        lines.append(timer.report())
        lines.append(
            f"{self.images} images in {self.wall_seconds:.1f} s; {self.images_per_second:.2f} images per "
            f"second from file to instances"
        )
        lines += [f"Note: {note}" for note in self.notes]
        lines += [f"Left out: {name}: {reason}" for name, reason in self.failed]
        return "\n".join(lines)


def evaluate(
    predictor: Predicts,
    data: Data,
    images: str | os.PathLike[str] | None = None,
    *,
    data_format: str | None = None,
    limit: int | None = None,
    skip: bool = False,
    class_names: Mapping[str, str] | None = None,
    score_threshold: float | None = None,
    max_instances: int | None = None,
    metrics: Sequence[str] = ("coco",),
    nuclei_score: float | None = None,
    best_threshold: bool = False,
    watch: Watch | None = None,
    progress: bool = True,
    **masks: Unpack[MaskOptions],
) -> Evaluation:
    """Measure a model on an annotated data set.

    data: a `Dataset`, or a file or folder of annotations. images: its images' folder, where it is not the format's
    own. data_format: a name of `data.formats.FORMATS`; None recognises it. limit: only the first images.
    skip: leave out images that cannot be read, and list them in the result, instead of raising.
    class_names: the data set's name for a model's class, where they differ. score_threshold: None takes the model's
    floor, the lowest score it reports, as AP needs low scores too. max_instances: as in `Predictor.predict`.
    metrics: "coco", which is always measured, and "nuclei". nuclei_score: the lowest score that counts for the latter;
    None takes the one that predictions show by default. best_threshold: measure it at the best one as well.
    watch: is called with each image and what was found on it. progress: a bar on stderr. masks: see `MaskOptions`.
    Boxes are ranked by `Instances.box_scores` where there are such, masks by `scores`.
    Raises DataError where the classes do not match, ImageError or DataError for an image that cannot be used.
    """
    dataset = opened(data, images, limit, data_format)
    score_threshold = predictor.floor if score_threshold is None else score_threshold
    translation = match_classes(predictor.classes, dataset, class_names)
    if not skip:
        dataset.require_files()
    meters, timer, start = _Meters(dataset, metrics), StageTimer(), time.perf_counter()
    if meters.nuclei is not None:
        nuclei_score = _nuclei_score(predictor, score_threshold, nuclei_score)
    failed: list[tuple[str, str]] = []
    foreign = 0
    for i in _watched(range(len(dataset)), progress):
        record = dataset.images[i]
        try:
            with timer.stage("read"):
                image = dataset.image(i)
        except (ImageError, DataError, OSError) as error:
            if not skip:
                raise
            failed.append((record.file_name, str(error)))
            continue
        found = predictor.predict(
            image, score_threshold=score_threshold, max_instances=max_instances, timer=timer, **masks
        )
        with timer.stage("metric"):
            known = translated(found, translation, dataset.classes)
            meters.update(i, known)
        if watch is not None:
            watch(i, image, known)
        foreign += len(found) - len(known)
    if len(failed) == len(dataset):
        raise DataError(f"{dataset.source}: none of its {len(dataset)} images could be read. First: {failed[0][1]}")
    with timer.stage("metric"):
        result = meters.coco.result(partial=bool(failed))
        nuclei = None if meters.nuclei is None or nuclei_score is None else meters.nuclei.result(nuclei_score)
        best = meters.best(score_threshold) if best_threshold else None
    notes = (*dataset.notes, *_class_notes(predictor.classes, translation, foreign))
    wall, count = time.perf_counter() - start, len(dataset) - len(failed)
    return Evaluation(result, dict(timer.totals), wall, count, tuple(failed), notes, nuclei, best)


class _Meters:
    """The metrics that were asked for, fed with the same results."""

    def __init__(self, dataset: Dataset, metrics: Sequence[str]) -> None:
        for name in metrics:
            if name not in METRICS:
                raise ConfigError(f"There is no metric '{name}'.{suggest(name, METRICS)}")
        self.dataset, self.coco = dataset, CocoMetric(dataset)
        self.nuclei = NucleiMetric(dataset.classes) if "nuclei" in metrics else None
        if self.nuclei is not None and not dataset.has_masks:
            raise DataError(f"{dataset.source}: some annotations have only a box, and the nuclei metric needs masks.")

    def update(self, i: int, found: Instances) -> None:
        record = self.dataset.images[i]
        self.coco.update(record.id, found)
        if self.nuclei is not None:
            every, crowd = self.dataset.truth(i, crowd=True), self.dataset.crowd(i)
            self.nuclei.update(found, every[~crowd], every[crowd], name=record.file_name)

    def best(self, lowest: float) -> NucleiResult | None:
        """The nuclei metric at its best score threshold, not below the lowest score that was asked of the model."""
        if self.nuclei is None:
            return None
        steps = [lowest, *(k / 100 for k in range(100) if k / 100 > lowest)]
        return self.nuclei.result(self.nuclei.best_threshold(steps))


def _nuclei_score(predictor: Predicts, lowest: float, asked: float | None) -> float:
    score = max(lowest, predictor.score_threshold) if asked is None else asked
    if not lowest <= score <= 1:
        raise ConfigError(f"nuclei_score lies between the lowest score measured, {lowest:g}, and 1, got {score:g}.")
    return score


def evaluate_results(results: str | os.PathLike[str], data: Data) -> CocoResult:
    """Measure a COCO result file against the data set it belongs to; no model, no images."""
    dataset = opened(data, None, None, None)
    metric = CocoMetric(dataset)
    for image_id, rows in coco.read_results(results, dataset).items():
        metric.update_rows(image_id, rows)
    return metric.result()


# ---- classes --------------------------------------------------------------------------------------------------------


def match_classes(model: Classes, dataset: Dataset, class_names: Mapping[str, str] | None = None) -> IntArray:
    """(Q,) the data set's label of each of the model's labels, -1 where the data set does not have the class.

    Classes match by name; where a name occurs twice, by name and category id. class_names translates the model's
    names first. Raises DataError, with both lists and near misses, if an annotated class has no counterpart.
    """
    data, renamed = dataset.classes, dict(class_names or {})
    for old, new in renamed.items():
        if old not in model.names:
            raise ConfigError(f"class_names: the model has no class '{old}'.{suggest(old, model.names)}")
        if new not in data.names:
            raise ConfigError(f"class_names: {dataset.source} has no class '{new}'.{suggest(new, data.names)}")
    names = [renamed.get(name, name) for name in model.names]
    translation = np.full(len(model), -1, np.int64)
    for label, (name, category) in enumerate(zip(names, model.ids, strict=True)):
        same = [k for k, n in enumerate(data.names) if n == name]
        if len(same) > 1 or names.count(name) > 1:
            same = [k for k in same if data.ids[k] == category]
        if same:
            translation[label] = same[0]
    annotated = {a.label for i in range(len(dataset)) for a in dataset.of(i)}
    lost = sorted(annotated - set(translation.tolist()))
    if lost or (translation < 0).all():
        _refuse(model, dataset, lost)
    return translation


def _refuse(model: Classes, dataset: Dataset, lost: list[int]) -> None:
    data = dataset.classes
    missing = [data.names[k] for k in lost] or list(data.names)
    hints = {name: suggest(name, model.names) for name in missing[:5]}
    near = "".join(f" '{name}':{hint}" for name, hint in hints.items() if "Did you mean" in hint)
    raise DataError(
        f"{dataset.source}: the model has no class for {len(missing)} of the data set's classes ({_listed(missing)}), "
        f"so their AP would be 0 whatever it finds.{near}\n"
        f"  model ({len(model)}): {_listed(model.names)}\n"
        f"  data  ({len(data)}): {_listed(data.names)}\n"
        f"If two names mean the same, say so: --rename 'MODEL=DATA', or class_names={{model's name: data set's name}}."
    )


def translated(found: Instances, translation: IntArray, classes: Classes) -> Instances:
    """`found` with the data set's labels; rows of classes it does not have are left out."""
    known = found[translation[found.labels] >= 0]
    return replace(known, labels=translation[known.labels], classes=classes)


def _class_notes(model: Classes, translation: IntArray, foreign: int) -> tuple[str, ...]:
    absent = [name for name, k in zip(model.names, translation, strict=True) if k < 0]
    if not absent:
        return ()
    return (
        f"{len(absent)} of the model's classes are not in the data set ({_listed(absent[:10])}"
        f"{', ...' if len(absent) > 10 else ''}); {foreign} detections of them were left out.",
    )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)


# ---- data and progress ----------------------------------------------------------------------------------------------


def opened(data: Data, images: str | os.PathLike[str] | None, limit: int | None, data_format: str | None) -> Dataset:
    """The data set that `evaluate` measures on; arguments as there. Raises DataError where it has no images."""
    if not isinstance(data, Dataset):
        data = formats.load(data, images, data_format)
    elif images is not None:
        data = replace(data, root=Path(images))
    if limit is not None:
        if limit < 1:
            raise ConfigError(f"limit: at least 1 image, got {limit}.")
        data = data.subset(range(min(limit, len(data))))
    if not len(data):
        raise DataError(f"{data.source}: the data set has no images, so there is nothing to evaluate.")
    return data


def _watched(positions: Iterable[int], progress: bool) -> Iterable[int]:
    """The same positions, with a bar on stderr if asked for."""
    if not progress:
        return positions
    from rich.console import Console
    from rich.progress import track

    return track(positions, description="evaluate", console=Console(stderr=True), transient=True)
