"""What a caller may choose of a run over videos, and what the run says of them at its end."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from maskwright.codec import Section, ranged
from maskwright.draw import ColourBy
from maskwright.errors import ConfigError
from maskwright.media.video import Moment, Span
from maskwright.predictor.options import FindOptions
from maskwright.predictor.track_options import TrackOptions
from maskwright.results.outputs import parse_kinds
from maskwright.tracking.outputs import KINDS
from maskwright.wording import counted


@dataclass(frozen=True)
class TrackRunOptions(Section):
    """How a run follows objects and writes.

    save: kinds of results, keys of `outputs.KINDS`. find, track: as of `Predictor.track`. every, start, end: which
    frames are taken, see `Span` and `Moment.of`. colour: of the overlay, see `draw.overlay`. rate: frames per second of
    the overlay where the source has no times. overwrite: replace results that exist. resume: finish what an interrupted
    run began.
    """

    save: Sequence[str] = ("jsonl", "csv", "overlay")
    find: FindOptions = field(default_factory=FindOptions)
    track: TrackOptions = field(default_factory=TrackOptions)
    every: int = ranged(1, low=1, high=10**6)
    start: str | None = None
    end: str | None = None
    colour: ColourBy | None = None
    rate: float = ranged(10.0, low=0, high=1000, open_low=True)
    overwrite: bool = False
    resume: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "save", parse_kinds(self.save, KINDS))
        super().__post_init__()
        _ = self.span  # raises for what is no moment
        if self.overwrite and self.resume:
            raise ConfigError("A run is resumed or replaced, not both.", options=("resume", "overwrite"))

    @property
    def span(self) -> Span:
        """The frames that are taken."""
        start = Moment(frames=0) if self.start is None else Moment.of(self.start)
        return Span(self.every, start, None if self.end is None else Moment.of(self.end))


@dataclass
class VideoDone:
    """What became of one video. frames, tracks: how many. seconds: that its frames took, of this run alone `now` with
    `computed` frames. notes: sentences about it. unread: whether some of it could not be read. stopped: by Ctrl-C."""

    source: str
    out: Path
    frames: int = 0
    tracks: int = 0
    computed: int = 0
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)
    unread: bool = False
    stopped: bool = False

    def summary(self) -> str:
        """Frames, tracks, time and place, then the notes."""
        rate = f", {self.computed / self.seconds:.1f} frames a second" if self.seconds > 0 and self.computed else ""
        lines = [
            f"{counted(self.tracks, 'track')} in {counted(self.frames, 'frame')}, {self.seconds:.1f} s{rate}. "
            f"Results: {self.out}"
        ]
        return "\n".join([*lines, *(f"Note: {note}" for note in self.notes)])


@dataclass
class TrackResult:
    """What a run did. failed: sources that could not be opened or read, and why."""

    done: list[VideoDone] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether everything could be read."""
        return not self.failed and not any(video.unread for video in self.done)

    def summary(self) -> str:
        """A paragraph for each video, then those that failed."""
        many = len(self.done) + len(self.failed) > 1
        lines = [(f"{video.source}: " if many else "") + video.summary() for video in self.done]
        return "\n".join([*lines, *(f"{name}: {why}" for name, why in self.failed)])
