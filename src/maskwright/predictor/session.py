"""A video through a predictor: what is carried from frame to frame, and what each frame gave."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from maskwright.errors import ConfigError
from maskwright.media.video import VideoFrame
from maskwright.predictor.detector import NetworkDetector
from maskwright.predictor.link import Linker
from maskwright.predictor.options import FindOptions
from maskwright.predictor.timing import StageTimer, stage
from maskwright.predictor.track_options import TrackOptions
from maskwright.results.prediction import Prediction
from maskwright.types import Semantic, Size
from maskwright.video.carry import Key, carry
from maskwright.video.keys import KeyRule, Why, is_cut, misfit, thumbnail, travel
from maskwright.video.motion import Field, compared, small

if TYPE_CHECKING:
    from maskwright.predictor.predictor import Predictor

FAST_INTERVAL, ADAPTIVE_INTERVAL = 5, 20
"""Frames between key frames of the mode "fast"; at most, where key frames are adaptive."""


@dataclass(frozen=True, eq=False)
class TrackedFrame:
    """A frame and its instances, with `track_ids`. key: whether the whole network looked at it. why: it is a key frame,
    see `video.keys.Why`. parents: of tracks that begin here by division, see `Linker`."""

    frame: VideoFrame
    found: Prediction
    key: bool
    why: Why = ""
    parents: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class _Carried:
    """What the fast mode keeps of the last key frame, and of the frame before: its motion and its maps."""

    key: Key
    motion: Field | None = None
    maps: NDArray[np.float64] | None = None


class VideoSession:
    """One video through a predictor, to be given its frames in order; see `Predictor.track` for the options.

    Raises ConfigError for options that the model has no use for.
    """

    def __init__(
        self,
        predictor: "Predictor",
        options: FindOptions | None = None,
        track: TrackOptions | None = None,
        timer: StageTimer | None = None,
    ) -> None:
        track = track or TrackOptions()
        self.predictor, self.timer = predictor, timer
        self.plan, self.mode = predictor.plan(options or FindOptions()), _mode(predictor, track)
        self.rule = _rule(predictor, self.mode, track)
        self.linker = Linker(track.link)
        self._state: Any = None
        self._carried: _Carried | None = None
        self._seen: Tensor | None = None
        self._since, self._size = 0, (0, 0)

    def run(self, frames: Iterable[VideoFrame]) -> Iterator[TrackedFrame]:
        """Each frame as soon as it is asked for."""
        source = iter(frames)
        while True:
            with stage(self.timer, "read"):
                frame = next(source, None)
            if frame is None:
                return
            yield self.step(frame)

    def restart(self) -> None:
        """Make the next frame a key frame: nothing but the tracks is carried on to it."""
        self._since = 0

    def step(self, frame: VideoFrame) -> TrackedFrame:
        """The instances of the next frame."""
        image, now = frame.image, None
        size = (image.shape[0], image.shape[1])
        if self.mode != "frames":
            with stage(self.timer, "motion"):
                now = small(image)
        why, found = self._first(size, now), None
        if not why and self.mode == "fast":
            assert now is not None
            why, found = self._moved(now, size)
        if why:
            self._state, self._since, self._size = None, 0, size
        if found is None:
            found = self._found(image)
        if why and self.mode == "fast":
            assert now is not None
            self._carried = _Carried(Key(found, now))
        self._since += 1
        with stage(self.timer, "link"):
            found = self.linker.update(found)
        return TrackedFrame(frame, found, bool(why), why, self.linker.parents)

    def _first(self, size: Size, now: Tensor | None) -> Why:
        """Why the next frame, of this size, is a key frame whatever is carried. now: its small image."""
        seen, self._seen = self._seen, None if now is None else thumbnail(now)
        if self._since == 0:
            return "first"
        if size != self._size:
            return "size"
        if seen is not None and self._seen is not None and is_cut(self._seen, seen):
            return "cut"
        return self.rule.by_count(self._since)

    def _found(self, image: NDArray[np.uint8]) -> Prediction:
        """The instances that the network finds in a frame, a key frame if nothing is carried."""
        predictor = self.predictor
        with stage(self.timer, "prepare"):
            prepared, geometry = predictor.prepare(image)
            inputs = predictor.batch([prepared])
        with stage(self.timer, "network"):
            raw, self._state = predictor.follow(inputs, self._state, self.plan)
        with stage(self.timer, "finish"):
            return predictor.finish(raw, 0, geometry, self.plan)

    def _moved(self, now: Tensor, size: Size) -> tuple[Why, Prediction | None]:
        """The key frame's instances on the frame of a small image; or why it is a key frame."""
        assert self._carried is not None
        key = self._carried.key
        with stage(self.timer, "motion"):
            motion = compared(now, key.small, size, self._carried.motion)
        with stage(self.timer, "carry"):
            moved = carry(key, now, motion, self._carried.maps)
        why = self.rule.by_fit(motion, travel(key.found, moved.maps), misfit(key.found, moved.rest))
        if why:
            return why, None
        self._carried = _Carried(key, motion, moved.maps)
        return "", moved.found


def _mode(predictor: "Predictor", options: TrackOptions) -> str:
    """The mode that is meant; ConfigError for one that the model does not have."""
    carries = _own_interval(predictor) is not None
    if options.mode == "auto":
        mode = "faithful" if carries else "frames"
    else:
        mode = options.mode
    if mode == "faithful" and not carries:
        raise ConfigError(
            f"'{predictor.name}' carries no features from frame to frame, so mode 'faithful' is not possible with it; "
            "choose 'fast' or 'frames'.",
            options=("mode",),
        )
    if mode == "fast" and Semantic in predictor.detector.parts:
        raise ConfigError(
            f"'{predictor.name}' names the class of every pixel, which mode 'fast' cannot carry; choose 'frames'.",
            options=("mode",),
        )
    return mode


def _own_interval(predictor: "Predictor") -> int | None:
    return predictor.detector.interval if isinstance(predictor.detector, NetworkDetector) else None


def _rule(predictor: "Predictor", mode: str, options: TrackOptions) -> KeyRule:
    """When frames are key frames; ConfigError for options that the mode has no use for."""
    adaptive = options.key_frames == "adaptive"
    if mode == "frames" and options.interval not in (None, 1):
        raise ConfigError(
            f"'{predictor.name}' carries nothing from frame to frame, so it has no use for an interval of "
            f"{options.interval}; mode 'fast' has.",
            options=("interval",),
        )
    if adaptive and mode != "fast":
        raise ConfigError(
            f"Key frames are adaptive in mode 'fast' alone, the mode is '{mode}'.", options=("key_frames",)
        )
    if mode == "fast":
        return KeyRule(options.interval or (ADAPTIVE_INTERVAL if adaptive else FAST_INTERVAL), adaptive)
    return KeyRule(1 if mode == "frames" else options.interval or _own_interval(predictor) or 1)
