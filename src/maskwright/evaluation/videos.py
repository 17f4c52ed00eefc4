"""Videos of a data set through a model, and files of results of videos."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from maskwright.data.dataset import Dataset
from maskwright.data.formats import coco, coco_panoptic, ctc, youtube_vis
from maskwright.data.formats.shared.fields import read_json
from maskwright.data.formats.shared.video_results import FoundTracks
from maskwright.errors import ConfigError, DataError
from maskwright.media.video import VideoFrame
from maskwright.metrics import table
from maskwright.metrics.maps import panoptic_classes
from maskwright.predictor.link import Linker
from maskwright.predictor.options import FindOptions
from maskwright.predictor.predictor import Predictor
from maskwright.predictor.session import VideoSession
from maskwright.predictor.timing import StageTimer
from maskwright.predictor.track_options import TrackOptions
from maskwright.results.prediction import Prediction
from maskwright.types import ImageArray


def why_not(dataset: Dataset) -> str:
    """Why the tracks of a data set cannot be measured; empty where they can."""
    stills = sum(record.frame is None for record in dataset.images)
    if stills:
        return f"{stills} of {len(dataset)} images are no frames of videos"
    objects = [a for own in dataset.annotations.values() for a in own if not a.crowd]
    if all(a.track_id is None for a in objects):
        return "no annotation has a track id"
    if len(dataset) == len(dataset.clips):
        return "each video has one frame"
    return ""


def metrics_of(dataset: Dataset, names: Sequence[str] | None, tracked: bool = True) -> tuple[tuple[str, ...], bool]:
    """The names of the metrics that are meant, and whether they need tracks.

    names: those asked for; None: AP of images and, where the data set is one of videos and they can be `tracked`, those
    of videos. Raises ConfigError where metrics of videos are asked for and the data set is none.
    """
    reason = why_not(dataset)
    if names is None:
        video = not reason and tracked and dataset.has_masks
        return (table.of_videos(dataset) if video else table.ALWAYS), video
    asked = [name for name in names if name in table.METRICS and table.METRICS[name].video]
    if asked and reason:
        raise ConfigError(
            f"{dataset.source}: {reason}, and {' and '.join(asked)} measure tracks.", options=("metrics",)
        )
    return tuple(names), bool(asked)


@dataclass(frozen=True, eq=False)
class Pass:
    """An image and what was found in it.

    position: in the data set. shown: what counts for metrics that need one decision for every object. since_key: frames
    between it and its key frame, where there are such.
    """

    position: int
    image: ImageArray
    found: Prediction
    shown: Prediction
    since_key: int | None = None


def followed(
    predictor: Predictor,
    dataset: Dataset,
    options: FindOptions,
    track: TrackOptions | None,
    timer: StageTimer,
    read: Callable[[int], ImageArray | None],
    score: float,
) -> Iterator[Pass]:
    """All frames of each video.

    read: gives the image at a position, None where it is left out; the video then goes on with the next frame. score:
    of the instances that make the tracks of `Pass.shown`, which are those of `Predictor.track` from this score on.
    """
    track = track or TrackOptions()
    unvoted = replace(track, link=replace(track.link, vote=False))  # each linker sees the classes as they were found
    for frames in dataset.clips.values():
        waiting: deque[tuple[int, ImageArray]] = deque()

        def images(frames: Sequence[tuple[int, int]] = frames, waiting: Any = waiting) -> Iterator[VideoFrame]:
            for index, position in frames:
                image = read(position)
                if image is not None:
                    waiting.append((position, image))
                    yield VideoFrame(image, index)

        every, counted = Linker(track.link), Linker(track.link)
        for tracked in VideoSession(predictor, options, unvoted, timer).run(images()):
            with timer.stage("link"):
                found = every.update(tracked.found)
                shown = counted.update(tracked.found[tracked.found.scores >= score])
            yield Pass(*waiting.popleft(), found, shown, tracked.distance)


def opened_results(
    path: str | os.PathLike[str], dataset: Dataset
) -> FoundTracks | coco_panoptic.FoundMaps | dict[int, tuple[coco.ResultRow, ...]]:
    """What a file or folder of results says of the data set: tracks, panoptic maps, or objects by image id."""
    source = Path(path)
    if source.is_dir():
        return ctc.read_results(source, dataset)
    rows = read_json(source)
    if youtube_vis.are_results(rows):
        return youtube_vis.read_results(source, rows, dataset)
    if coco_panoptic.are_results(rows):
        if dataset.panoptic_maps is None:
            text = f"{source}: has panoptic maps, and {dataset.source} has none to compare them with. Give the data set"
            raise DataError(f"{text} in the format 'coco_panoptic'.", options=("data_format",))
        return coco_panoptic.read_results(source, rows, dataset, panoptic_classes(dataset)[0])
    return coco.results_of(source, rows, dataset)
