"""What the metrics of videos share: the frames of a video one after the other, then its numbers.

Letters: N annotated objects of a frame, M detections.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from maskwright.data.dataset import Annotation
from maskwright.errors import DataError
from maskwright.metrics.metric import GroundTruth, check_classes
from maskwright.ops import masks as mask_ops
from maskwright.types import Classes, Clip, Instances, IntArray, Masks


@dataclass(frozen=True, eq=False)
class TrackedObjects:
    """The objects of one frame: ids (N,) of their tracks, each once; labels (N,); masks."""

    ids: IntArray
    labels: IntArray
    masks: Masks

    def __len__(self) -> int:
        return len(self.ids)


class VideoMetric(ABC):
    """Takes the frames of each video in order and all of one video before those of the next: only the numbers of the
    video that is open are in memory.

    A subclass has `begin`, `add` and `end` for each video, and `result`.
    """

    def __init__(self, classes: Classes) -> None:
        self.classes = classes
        self.clip: Clip | None = None
        self._last = -1
        self._closed: set[int] = set()

    def update(self, found: Instances, truth: GroundTruth) -> None:
        """Add the next frame. Raises DataError for a still image, a frame out of order, and tracks that lack ids."""
        frame, name = truth.record.frame, truth.record.file_name
        if frame is None:
            raise DataError(f"{name} is no frame of a video, and {type(self).__name__} measures videos.")
        check_classes(self, f"the result of {name}", found.classes, self.classes)
        if self.clip is None or frame.clip.id != self.clip.id:
            self.close()
            if frame.clip.id in self._closed:
                raise DataError(
                    f"{name}: video {frame.clip.id} was left before its end; give a video's frames together."
                )
            self.clip = frame.clip
            self.begin()
        elif frame.index <= self._last:
            raise DataError(f"{name} is frame {frame.index} of its video, given after frame {self._last}.")
        self._last = frame.index
        self.add(_found(found, name), found, truth)

    def close(self) -> None:
        """End the video that is open, if there is one."""
        if self.clip is not None:
            self.end()
            self._closed.add(self.clip.id)
            self.clip = None

    @abstractmethod
    def begin(self) -> None:
        """A video, `clip`, begins."""

    @abstractmethod
    def add(self, tracked: TrackedObjects, found: Instances, truth: GroundTruth) -> None:
        """The next frame. tracked: what was found in it; found: the same with scores."""

    @abstractmethod
    def end(self) -> None:
        """The video has no more frames."""


def true_tracks(truth: GroundTruth) -> TrackedObjects:
    """The annotated objects, crowds left out. Raises DataError where one has no track id or an id occurs twice."""
    rows = [a for a in truth.annotations if not a.crowd]
    ids = [_track_id(a, truth) for a in rows]
    _check_once(ids, f"The annotations of {truth.record.file_name}")
    objects = truth.objects
    return TrackedObjects(np.array(ids, np.int64), objects.labels, _masks(objects, truth.record.file_name))


def _track_id(annotation: Annotation, truth: GroundTruth) -> int:
    if annotation.track_id is None:
        raise DataError(
            f"{truth.record.file_name}: annotation {annotation.id} has no track id, so it is not known which object of "
            "the video it is."
        )
    return annotation.track_id


def _found(found: Instances, name: str) -> TrackedObjects:
    if found.track_ids is None and len(found):
        raise DataError(f"The result of {name} has no track ids. `Predictor.track` gives them, `predict` does not.")
    ids = np.zeros(0, np.int64) if found.track_ids is None else found.track_ids
    _check_once(ids.tolist(), f"The result of {name}")
    return TrackedObjects(ids, found.labels, _masks(found, name))


def _check_once(ids: list[int], what: str) -> None:
    if len(set(ids)) < len(ids):
        twice = next(i for i in ids if ids.count(i) > 1)
        raise DataError(f"{what}: track {twice} is there twice, and an object is in one place at a time.")


def _masks(instances: Instances, name: str) -> Masks:
    if instances.crops is None:
        if len(instances):
            raise DataError(f"{name} has objects with a box only, and the metrics of videos need masks.")
        return Masks.empty(instances.size)
    return instances.crops


def ious(truth: Masks, found: Masks) -> NDArray[np.float64]:
    """(N, M) IoU of masks."""
    shared = mask_ops.intersections(truth, found)
    union = truth.areas()[:, None] + found.areas()[None] - shared
    iou: NDArray[np.float64] = shared / np.maximum(union, 1)
    return iou
