"""A video through a predictor: what is carried from frame to frame, and what each frame gave."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskwright.errors import ConfigError
from maskwright.media.video import VideoFrame
from maskwright.predictor.detector import NetworkDetector
from maskwright.predictor.link import Linker
from maskwright.predictor.options import FindOptions
from maskwright.predictor.tiles import predict_tiles, tiling_of
from maskwright.predictor.timing import StageTimer, stage
from maskwright.predictor.track_options import TrackOptions
from maskwright.results.prediction import Prediction
from maskwright.types import FloatArray, ImageArray, Semantic, Size
from maskwright.video.carry import KeyFrame, carry
from maskwright.video.keys import CarriedFit, KeyRule, Why, is_cut, misfit, thumbnail, travel
from maskwright.video.motion import Field, compared, small

if TYPE_CHECKING:
    from maskwright.predictor.predictor import Predictor

FAST_INTERVAL, ADAPTIVE_INTERVAL = 5, 20
"""Frames from key frame to key frame of the mode "fast"; at most, where key frames are adaptive."""

FIRST_REACH = 2
"""Frames to which the first of adaptive key frames is expected to fit on either side."""

NOTHING = torch.empty(0, 0)
"""The small image of a frame that is not compared."""


@dataclass(frozen=True, eq=False)
class TrackedFrame:
    """A frame and its instances, with `track_ids`.

    key: whether the whole network looked at it. why: it is a key frame, see `video.keys.Why`. distance: frames between
    it and its key frame, whose index in the video is `source`. In mode "fast" fit: how well a key frame's instances fit
    it; of a key frame, those that it was made one for. shifts: (N, 2) pixels that each instance has moved since the key
    frame. parents: of tracks that begin here by division, see `Linker`.
    """

    frame: VideoFrame
    found: Prediction
    key: bool
    why: Why = ""
    distance: int = 0
    source: int = 0
    fit: CarriedFit | None = None
    shifts: FloatArray | None = None
    parents: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class _Waiting:
    """A frame that is read, its small image, and why nothing can be carried to it from the frame before, if so."""

    frame: VideoFrame
    small: Tensor
    why: Why

    @property
    def size(self) -> Size:
        return self.frame.image.shape[0], self.frame.image.shape[1]


@dataclass(frozen=True, eq=False)
class _Carried:
    """What the fast mode keeps of a key frame, and of the last frame it was carried to: its motion and its maps."""

    key: KeyFrame
    index: int
    distance: int = 0
    motion: Field | None = None
    maps: NDArray[np.float64] | None = None


class VideoSession:
    """A video through a predictor; see `Predictor.track` for the options.

    Raises ConfigError for options that the model has no use for.
    """

    def __init__(
        self,
        predictor: "Predictor",
        options: FindOptions | None = None,
        track: TrackOptions | None = None,
        timer: StageTimer | None = None,
    ) -> None:
        track, options = track or TrackOptions(), options or FindOptions()
        self.predictor, self.timer, self.options = predictor, timer, options
        self.plan, self.mode = predictor.plan(options), _mode(predictor, track)
        if self.mode == "faithful" and options.tiles not in (None, "auto", "off"):
            raise ConfigError(
                f"'{predictor.name}' carries features of whole frames, so it has no use for tiles here.",
                options=("tiles",),
            )
        if options.tta not in (None, "off"):
            raise ConfigError("A video's frames are computed as they are: leave tta out.", options=("tta",))
        self.rule = _rule(predictor, self.mode, track)
        self.linker = Linker(track.link)
        self._seen: Tensor | None = None
        self._size: Size | None = None

    def run(self, frames: Iterable[VideoFrame]) -> Iterator[TrackedFrame]:
        """Each frame as soon as it is known, in their order. The first is a key frame or carried from a later one, so
        that nothing but the tracks is carried on from the call before."""
        self._seen = self._size = None
        follow = self._fast if self.mode == "fast" else self._one_by_one
        for tracked in follow(self._read(frames)):
            with stage(self.timer, "link"):
                found = self.linker.update(tracked.found)
            yield replace(tracked, found=found, parents=self.linker.parents)

    def _read(self, frames: Iterable[VideoFrame]) -> Iterator[_Waiting]:
        source = iter(frames)
        while True:
            with stage(self.timer, "read"):
                frame = next(source, None)
            if frame is None:
                return
            with stage(self.timer, "motion"):
                one = self._looked_at(frame)
            yield one

    def _looked_at(self, frame: VideoFrame) -> _Waiting:
        """The frame and whether it goes on from the one before."""
        if self.mode == "frames":
            return _Waiting(frame, NOTHING, "first" if self._size is None else "interval")
        now = small(frame.image)
        size, seen = (frame.image.shape[0], frame.image.shape[1]), thumbnail(now)
        why: Why = ""
        if self._size is None or self._seen is None:
            why = "first"
        elif size != self._size:
            why = "size"
        elif is_cut(self._seen, seen):
            why = "cut"
        self._size, self._seen = size, seen
        return _Waiting(frame, now, why)

    def _one_by_one(self, frames: Iterator[_Waiting]) -> Iterator[TrackedFrame]:
        """Every frame through the network, of those between key frames a part of it."""
        state, since, source = None, 0, 0
        for one in frames:
            why = one.why or self.rule.by_count(since + 1)
            state, since, source = (None, 0, one.frame.index) if why else (state, since + 1, source)
            found, state = self._found(one.frame.image, state)
            yield TrackedFrame(one.frame, found, bool(why), why, since, source)

    def _fast(self, frames: Iterator[_Waiting]) -> Iterator[TrackedFrame]:
        """Key frames through the network; the others have the instances of a key frame before or behind them."""
        waiting: deque[_Waiting] = deque()
        carried: _Carried | None = None
        before, reach = 0, FIRST_REACH
        while waiting or (waiting := deque(islice(frames, 1))):
            why, fit = waiting[0].why, None
            if carried is not None:
                why = why or self.rule.by_count(carried.distance + 1, before)
                if not why:
                    after, tracked = self._moved(waiting[0], carried)
                    why, fit = tracked.why, tracked.fit
                    if not why:
                        carried = after
                        waiting.popleft()
                        yield tracked
                        continue
                reach = carried.distance
            ahead = self.rule.ahead(reach)
            waiting.extend(islice(frames, max(0, ahead + 1 - len(waiting))))
            stretch = [waiting.popleft()]
            while waiting and not waiting[0].why and len(stretch) <= ahead:
                stretch.append(waiting.popleft())
            before = len(stretch) - 1
            carried, done = self._stretch(stretch, why, fit)
            yield from done

    def _stretch(
        self, stretch: Sequence[_Waiting], why: Why, fit: CarriedFit | None
    ) -> tuple[_Carried, list[TrackedFrame]]:
        """Frames of which the last is a key frame, from which those before have their instances; and what goes on."""
        last, tracked = self._keyed(stretch[-1], why, fit)
        carried, done = last, [tracked]
        for one in reversed(stretch[:-1]):
            carried, tracked = self._moved(one, carried)
            if tracked.why:
                carried, tracked = self._keyed(one, tracked.why, tracked.fit)
            done.insert(0, tracked)
        return last, done

    def _keyed(self, one: _Waiting, why: Why, fit: CarriedFit | None) -> tuple[_Carried, TrackedFrame]:
        """A frame through the whole network."""
        found, _ = self._found(one.frame.image, None)
        index = one.frame.index
        return _Carried(KeyFrame(found, one.small), index), TrackedFrame(one.frame, found, True, why, 0, index, fit)

    def _moved(self, one: _Waiting, carried: _Carried) -> tuple[_Carried, TrackedFrame]:
        """The key frame's instances on another frame, which has a `why` if they do not fit it."""
        key = carried.key
        with stage(self.timer, "motion"):
            motion = compared(one.small, key.small, one.size, carried.motion)
        with stage(self.timer, "carry"):
            moved = carry(key, one.small, motion, carried.maps)
        fit = CarriedFit(motion.change, travel(key.found, moved.maps), misfit(key.found, moved.rest))
        distance, why = carried.distance + 1, self.rule.by_fit(fit)
        sure = moved.found.scores >= self.plan.output.score_threshold
        found, source = moved.found[sure], carried.index
        tracked = TrackedFrame(one.frame, found, False, why, distance, source, fit, moved.shifts[sure])
        return _Carried(key, source, distance, motion, moved.maps), tracked

    def _found(self, image: ImageArray, state: Any) -> tuple[Prediction, Any]:
        """The instances that the network finds in a frame, a key frame if the state is None; and the state after it."""
        predictor = self.predictor
        size = image.shape[0], image.shape[1]
        if self.mode != "faithful" and (tiling := tiling_of(predictor, self.options, size)) is not None:
            return predict_tiles(predictor, image, tiling, self.options, timer=self.timer), None
        with stage(self.timer, "prepare"):
            prepared, geometry = predictor.prepare(image)
        searched = predictor.searched([image], [geometry], self.timer)
        with stage(self.timer, "prepare"):
            inputs = predictor.batch([prepared], searched)
        with stage(self.timer, "network"):
            if self.mode == "faithful":
                raw, state = predictor.follow(inputs, state, self.plan)
            else:
                raw, state = predictor.run(inputs, self.plan), None
        with stage(self.timer, "finish"):
            return predictor.finish(raw, 0, geometry, self.plan), state


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
        interval = options.interval or (ADAPTIVE_INTERVAL if adaptive else FAST_INTERVAL)
        return KeyRule(interval, adaptive, options.lookahead)
    return KeyRule(1 if mode == "frames" else options.interval or _own_interval(predictor) or 1)
