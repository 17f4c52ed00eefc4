"""Videos in and out, through PyAV: frames one by one, in the order in which they are shown, upright, as RGB.

Memory does not grow with the length of a video: a reader holds one frame.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import av
import av.error
import numpy as np
from av.stream import Disposition
from numpy.typing import NDArray

from maskwright.atomic import replacing
from maskwright.errors import ConfigError, ImageError
from maskwright.media.frame import depth, stored
from maskwright.media.intensity import Readings, measured, rgb_of
from maskwright.types import FULL, ImageArray, Intensity, Size
from maskwright.wording import counted, message_of

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.video.frame import VideoFrame as AvFrame
    from av.video.stream import VideoStream

VIDEO_SUFFIXES = (
    ".mp4",
    ".mov",
    ".mkv",
    ".webm",
    ".avi",
    ".m4v",
    ".mpg",
    ".mpeg",
    ".ts",
    ".wmv",
    ".flv",
    ".3gp",
    ".ogv",
)
"""Suffixes by which a file is taken for a video; reading goes by content."""

TICKS = 720_000
"""Parts of a second in which times are written: a frame of a usual rate, also of 30000 / 1001, has a whole number."""

JUMP = 10.0
"""A gap between two frames of at least as many seconds is told."""


@dataclass(frozen=True, eq=False)
class VideoFrame:
    """One frame. image: (H, W, 3) uint8 RGB. index: from 0, of the frames that were decoded. time: seconds from the
    first frame, None where the video does not say. name: of the image file that holds it, if one does."""

    image: ImageArray
    index: int
    time: float | None = None
    name: str = ""


@dataclass(frozen=True)
class Moment:
    """A place in a video: a number of frames, or seconds, from its beginning."""

    frames: int | None = None
    seconds: float | None = None

    @classmethod
    def of(cls, text: str) -> Self:
        """`250` are frames; `12.5s`, `1:30` and `0:01:30.5` are seconds. Raises ConfigError for another text."""
        if re.fullmatch(r"\d{1,12}", text):
            return cls(frames=int(text))
        if re.fullmatch(r"\d{1,9}(\.\d+)?s", text):
            return cls(seconds=float(text[:-1]))
        if re.fullmatch(r"(\d{1,6}:)?\d{1,6}:\d\d(\.\d+)?", text):
            parts = [float(part) for part in text.split(":")]
            return cls(seconds=sum(part * 60**k for k, part in enumerate(reversed(parts))))
        raise ConfigError(f"A place in a video is a number of frames (250) or a time (12.5s, 1:30), got {text!r}.")

    def reached(self, index: int, time: float | None) -> bool:
        """Whether this frame is at this place or after it. Raises ConfigError for seconds where there are no times."""
        if self.frames is not None:
            return index >= self.frames
        if time is None:
            raise ConfigError("The frames of this source have no times: give a number of frames, not seconds.")
        return time >= (self.seconds or 0) - 1e-6


@dataclass(frozen=True)
class Span:
    """Which frames of a source are taken: of those from `start` to before `end` each `every`-th, and of these the ones
    after the number `after`."""

    every: int = 1
    start: Moment = Moment(frames=0)
    end: Moment | None = None
    after: int = -1

    def chosen(self, frames: Iterator[Any]) -> Iterator[Any]:
        """Those of the frames (anything with an `index` and a `time`) that are taken; ends where the span does."""
        first = None
        for frame in frames:
            if self.end is not None and self.end.reached(frame.index, frame.time):
                return
            if first is None and self.start.reached(frame.index, frame.time):
                first = frame.index
            if first is not None and (frame.index - first) % self.every == 0 and frame.index > self.after:
                yield frame

    def count(self, frames: int | None, rate: float | None) -> int | None:
        """How many frames are taken of a source of `frames`; None where that is not known."""
        if frames is None:
            return None
        ends = [0.0, float(frames)]
        for k, moment in enumerate((self.start, self.end)):
            if moment is not None and moment.frames is None and rate is None:
                return None
            if moment is not None:
                place = moment.frames if moment.frames is not None else (moment.seconds or 0) * (rate or 0)
                ends[k] = min(max(place, 0), frames)
        return max(0, -int(-(ends[1] - ends[0]) // self.every))


WHOLE = Span()


class Clock:
    """Times of frames, in seconds from the first, each later than the one before.

    A frame without a time, or with one that is not later, comes one frame after the one before; without a known rate a
    frame without a time has none. wrong: how many there were. jumps: those `JUMP` seconds or more after another.
    """

    def __init__(self, rate: float | None) -> None:
        self.step = 1 / rate if rate else None
        self.start: float | None = None
        self.last: float | None = None
        self.wrong = self.jumps = 0

    def at(self, time: float | None) -> float | None:
        """The time of the next frame, given what the video says."""
        if self.start is None and time is not None:
            self.start = time - (0.0 if self.last is None else self.last + (self.step or 0))
        own = None if time is None or self.start is None else time - self.start
        if own is None or (self.last is not None and own <= self.last):
            self.wrong += 1
            if own is None and self.step is None:
                return None
            own = 0.0 if self.last is None else self.last + (self.step or 1 / TICKS)
            if time is not None:
                self.start = time - own  # later times are counted from here
        elif self.last is not None and own - self.last >= JUMP:
            self.jumps += 1
        self.last = own
        return own


@dataclass(frozen=True, eq=False)
class Decoded:
    """A frame that is decoded and not yet an image; index and time as of `VideoFrame`."""

    frame: "AvFrame"
    index: int
    time: float | None


class Video:
    """A video file, to be iterated over; each iteration begins at its first frame.

    size: (H, W) of the upright frames. rate: frames per second on average, None where the file does not say. frames:
    how many the file says it has, None where it does not; some files are wrong. undecoded: after an iteration how many
    packets held no frame that could be decoded, which are counted and passed over. `remarks` has what else is told.
    intensity: of frames with more than 8 bits; where it is of the whole video, that is decoded twice before. told:
    collects what was done to them.
    Raises ImageError where the file cannot be opened, is no video, or ends before its first frame.
    """

    def __init__(self, path: str | os.PathLike[str], intensity: Intensity = FULL, told: Readings | None = None) -> None:
        self.path, self.told = os.fspath(path), told
        self.intensity = self.applied = intensity
        self._reset(None)
        with self._opened() as (container, stream):
            self._describe(container, stream)
        first = next(self.decode(), None)
        if first is None:
            raise ImageError(f"{self.path}: the video has no frame that can be decoded.")
        self.deep = depth(first.frame.format) > 8
        self.size: Size = stored(first.frame).size

    def __iter__(self) -> Iterator[VideoFrame]:
        return self.read()

    def read(self, span: Span = WHOLE) -> Iterator[VideoFrame]:
        """The frames of a span; the others are decoded alone."""
        self.applied = self._measured()
        for decoded in self.decode(span):
            yield self.shown(decoded)

    def _measured(self) -> Intensity:
        """The intensity, the same for every frame."""
        if not self.deep:
            return self.intensity
        return measured(lambda: (stored(decoded.frame) for decoded in self.decode()), self.intensity)

    def shown(self, decoded: Decoded) -> VideoFrame:
        """The frame as uint8 RGB, over white where it is transparent."""
        image = rgb_of(stored(decoded.frame), self.applied, f"{self.path} frame {decoded.index}", self.told)
        return VideoFrame(image, decoded.index, decoded.time)

    def decode(self, span: Span = WHOLE) -> Iterator[Decoded]:
        """The same frames before they become images."""
        with self._opened() as (container, stream):
            self._reset(self.rate)
            yield from span.chosen(self._timed(container, stream))

    def remarks(self) -> list[str]:
        """What the last iteration found beside its frames, each in some words; empty where all is well."""
        count = [
            (self.undecoded, "packet", " that could not be decoded"),
            (self.corrupt, "frame", " with damaged parts"),
            (self.clock.wrong, "frame", " without a time, or with one before that of an earlier frame"),
            (self.clock.jumps, "gap", f" of {JUMP:g} seconds or more between two frames"),
            (self.interlaced, "interlaced frame", ": both fields are in one image"),
            (self.resized, "change", " of the frame size"),
            (self.others, "other video stream", " in the file"),
        ]
        broken = [f"the end, as it broke off ({self.broken})"] if self.broken else []
        return [f"{counted(number, noun)}{rest}" for number, noun, rest in count if number] + broken

    def _reset(self, rate: float | None) -> None:
        self.undecoded = self.corrupt = self.interlaced = self.resized = 0
        self.broken = ""
        self.clock = Clock(rate)

    def _describe(self, container: Any, stream: "VideoStream") -> None:
        rate = stream.average_rate or stream.guessed_rate
        self.rate = float(rate) if rate else None
        self.frames = stream.frames or None
        if self.frames is None and self.rate and container.duration:
            self.frames = max(1, round(container.duration / av.time_base * self.rate))

    @contextmanager
    def _opened(self) -> Iterator[tuple[Any, "VideoStream"]]:
        with self._container() as container:
            yield container, self._stream(container)

    def _stream(self, container: Any) -> "VideoStream":
        """The first video stream that is no cover image."""
        streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
        if not streams:
            cover = " It has a cover image alone." if container.streams.video else ""
            raise ImageError(f"{self.path}: there is no video in this file.{cover}")
        self.others = len(streams) - 1
        stream: VideoStream = streams[0]
        stream.thread_type = "AUTO"
        return stream

    def _container(self) -> Any:
        if not os.path.isfile(self.path):
            raise ImageError(f"{self.path}: no such video (working folder: {os.getcwd()}).")
        return self._open(self.path)

    def _open(self, place: Any, **options: Any) -> Any:
        try:
            return av.open(place, **options)
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise ImageError(f"{self.path}: cannot be opened as a video ({message_of(error)}).") from error

    def _timed(self, container: Any, stream: "VideoStream") -> Iterator[Decoded]:
        size = None
        for index, frame in enumerate(self._decoded(container, stream)):
            self.corrupt += frame.is_corrupt
            self.interlaced += frame.interlaced_frame
            self.resized += size is not None and size != (frame.height, frame.width)
            size = (frame.height, frame.width)
            yield Decoded(frame, index, self.clock.at(frame.time))

    def _decoded(self, container: Any, stream: "VideoStream") -> Iterator["AvFrame"]:
        """Frames of the packets that can be decoded; a file that is cut off ends where it is cut."""
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets, None)
            except av.error.FFmpegError as error:
                self.undecoded, self.broken = self.undecoded + 1, message_of(error)
                yield from self._rest(stream)
                return
            if packet is None:
                return
            try:
                yield from packet.decode()
            except av.error.FFmpegError:
                self.undecoded += 1

    def _rest(self, stream: "VideoStream") -> Iterator["AvFrame"]:
        """The frames that the decoder still holds."""
        try:
            for frame in stream.codec_context.decode(None):
                frame.time_base = frame.time_base or stream.time_base
                yield frame
        except av.error.FFmpegError:
            self.undecoded += 1


class VideoWriter:
    """Writes frames of one size into a video (H.264 in MP4 by default); see `write_video`."""

    def __init__(self, container: "OutputContainer", rate: float, codec: str, options: dict[str, str]) -> None:
        self.container = container
        self.rate, self.codec, self.options = Fraction(rate).limit_denominator(100_000), codec, options
        self.stream: Any = None
        self.size: Size | None = None
        self.last = -1

    def write(self, image: NDArray[np.uint8], time: float | None = None) -> None:
        """Append one (H, W, 3) uint8 RGB frame. Odd sides are extended by one row or column, which the codec needs.

        time: seconds at which it is shown, later than the frame before; None: as the rate says.
        """
        size = (image.shape[0], image.shape[1])
        if self.stream is None:
            self.size = size
            self.stream = self.container.add_stream(self.codec, rate=self.rate, options=self.options)
            self.stream.height, self.stream.width = (side + side % 2 for side in size)
            self.stream.pix_fmt = "yuv420p"
            if time is not None:
                self.stream.codec_context.time_base = Fraction(1, TICKS)
        if size != self.size:
            raise ImageError(f"A video has frames of one size; it began with {self.size}, got {size}.")
        if size[0] % 2 or size[1] % 2:
            image = np.pad(image, ((0, size[0] % 2), (0, size[1] % 2), (0, 0)), mode="edge")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        if time is not None:
            self.last = max(self.last + 1, round(time * TICKS))
            frame.pts, frame.time_base = self.last, Fraction(1, TICKS)
        self.container.mux(self.stream.encode(frame))

    def close(self) -> None:
        """Write what the encoder still holds."""
        if self.stream is not None:
            self.container.mux(self.stream.encode())


@contextmanager
def write_video(
    path: str | os.PathLike[str], rate: float = 25.0, codec: str = "libx264", options: dict[str, str] | None = None
) -> Iterator[VideoWriter]:
    """A writer of a video that replaces `path` when the block ends without error; its suffix chooses the container.

    rate: frames per second. options: of the encoder, in FFmpeg's words. Raises ImageError where the container or the
    codec is unknown.
    """
    with replacing(path) as part:
        try:
            container = av.open(str(part), "w", format=_container(Path(path)))
        except (av.error.FFmpegError, ValueError) as error:
            raise ImageError(f"{path}: no video can be written there ({message_of(error)}).") from error
        with container:
            writer = VideoWriter(container, rate, codec, options or {})
            yield writer
            writer.close()


def join_videos(parts: list[Path], path: str | os.PathLike[str]) -> None:
    """One video of several of the same form, one after the other; packets are copied, so that nothing is lost.

    The times of the parts are those of the whole: each begins after the end of the one before.
    """
    with replacing(path) as whole, av.open(str(whole), "w", format=_container(Path(path))) as container:
        stream = None
        for part in parts:
            with av.open(str(part)) as source:
                own = source.streams.video[0]
                stream = stream or container.add_stream_from_template(own)
                for packet in source.demux(own):
                    if packet.dts is not None:  # the last of a file is empty
                        packet.stream = stream
                        container.mux(packet)


def _container(path: Path) -> str:
    known = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska", ".avi": "avi"}
    if path.suffix.lower() not in known:
        raise ImageError(f"{path}: a video is written as {', '.join(known)}, got '{path.suffix}'.")
    return known[path.suffix.lower()]
