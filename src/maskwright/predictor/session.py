"""A video through a predictor: what is carried from frame to frame, and what each frame gave."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from maskwright.errors import ConfigError
from maskwright.media.video import VideoFrame
from maskwright.predictor.detector import NetworkDetector
from maskwright.predictor.link import Linker
from maskwright.predictor.options import FindOptions
from maskwright.predictor.timing import StageTimer, stage
from maskwright.predictor.track_options import TrackOptions
from maskwright.results.prediction import Prediction
from maskwright.types import Size

if TYPE_CHECKING:
    from maskwright.predictor.predictor import Predictor


@dataclass(frozen=True, eq=False)
class TrackedFrame:
    """A frame and its instances, with `track_ids`. key: whether the whole network looked at it. parents: of tracks that
    begin here by division, see `Linker`."""

    frame: VideoFrame
    found: Prediction
    key: bool
    parents: Mapping[int, int] = field(default_factory=dict)


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
        self.plan, self.interval = predictor.plan(options or FindOptions()), _interval(predictor, track)
        self.linker = Linker(track.link)
        self._state: Any = None
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

    def step(self, frame: VideoFrame) -> TrackedFrame:
        """The instances of the next frame."""
        predictor, size = self.predictor, (frame.image.shape[0], frame.image.shape[1])
        with stage(self.timer, "prepare"):
            prepared, geometry = predictor.prepare(frame.image)
            inputs = predictor.batch([prepared])
        key = self._is_key(size)
        if key:
            self._state, self._since, self._size = None, 0, size
        with stage(self.timer, "network"):
            raw, self._state = predictor.follow(inputs, self._state, self.plan)
        self._since += 1
        with stage(self.timer, "finish"):
            found = predictor.finish(raw, 0, geometry, self.plan)
        with stage(self.timer, "link"):
            found = self.linker.update(found)
        return TrackedFrame(frame, found, key, self.linker.parents)

    def restart(self) -> None:
        """Make the next frame a key frame: nothing but the tracks is carried on to it."""
        self._since = 0

    def _is_key(self, size: Size) -> bool:
        """Whether the next frame, of this size, is a key frame: what is carried fits frames of one size alone."""
        return self._since == 0 or self._since == self.interval or size != self._size


def _interval(predictor: "Predictor", options: TrackOptions) -> int:
    """Every so many frames one is a key frame."""
    own = predictor.detector.interval if isinstance(predictor.detector, NetworkDetector) else None
    if own is None and options.interval not in (None, 1):
        raise ConfigError(
            f"'{predictor.name}' carries nothing from frame to frame, so it has no use for an interval of "
            f"{options.interval}.",
            options=("interval",),
        )
    return options.interval or own or 1
