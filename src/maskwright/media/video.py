"""Videos in and out, through PyAV: frames one by one, in the order in which they are shown, upright, as RGB.

Memory does not grow with the length of a video: a reader holds one frame.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import av.error
import numpy as np
from numpy.typing import NDArray

from maskwright.atomic import replacing
from maskwright.errors import ImageError
from maskwright.media.sources import one_line
from maskwright.types import Size

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


@dataclass(frozen=True, eq=False)
class VideoFrame:
    """One frame. image: (H, W, 3) uint8 RGB. index: from 0, of the frames that were decoded. time: seconds from the
    first frame, None where the video does not say. name: of the image file that holds it, if one does."""

    image: NDArray[np.uint8]
    index: int
    time: float | None = None
    name: str = ""


class Video:
    """A video file, to be iterated over; each iteration begins at its first frame.

    size: (H, W) of the upright frames. rate: frames per second on average, None where the file does not say. frames:
    how many the file says it has, None where it does not; some files are wrong. undecoded: after an iteration how many
    packets held no frame that could be decoded, which are counted and passed over.
    Raises ImageError where the file cannot be opened, is no video, or ends before its first frame.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self.undecoded = 0
        with self._opened() as (_, stream):
            rate, count = stream.average_rate or stream.guessed_rate, stream.frames
            self.rate = float(rate) if rate else None
            self.frames = count or None
        first = next(iter(self), None)
        if first is None:
            raise ImageError(f"{self.path}: the video has no frame that can be decoded.")
        self.size: Size = (first.image.shape[0], first.image.shape[1])

    def __iter__(self) -> Iterator[VideoFrame]:
        self.undecoded, index = 0, 0
        with self._opened() as (container, stream):
            start = None
            for frame in self._decoded(container, stream):
                time = frame.time
                start = time if start is None else start
                yield VideoFrame(_upright(frame), index, None if time is None or start is None else time - start)
                index += 1

    @contextmanager
    def _opened(self) -> Iterator[tuple[Any, "VideoStream"]]:
        if not os.path.isfile(self.path):
            raise ImageError(f"{self.path}: no such video (working folder: {os.getcwd()}).")
        try:
            container = av.open(self.path)
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise ImageError(f"{self.path}: cannot be opened as a video ({one_line(error)}).") from error
        with container:
            if not container.streams.video:
                raise ImageError(f"{self.path}: there is no video in this file.")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            yield container, stream

    def _decoded(self, container: Any, stream: "VideoStream") -> Iterator["AvFrame"]:
        """Frames of the packets that can be decoded; a file that is cut off ends where it is cut."""
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets, None)
            except av.error.FFmpegError:
                self.undecoded += 1
                return
            if packet is None:
                return
            try:
                yield from packet.decode()
            except av.error.FFmpegError:
                self.undecoded += 1


def _upright(frame: "AvFrame") -> NDArray[np.uint8]:
    """(H, W, 3) RGB, turned as the video says it is to be shown; quarter turns alone exist."""
    image = frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)
    turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(image, turns)) if turns else image


class VideoWriter:
    """Writes frames of one size into a video (H.264 in MP4 by default); see `write_video`."""

    def __init__(self, container: "OutputContainer", rate: float, codec: str) -> None:
        self.container = container
        self.rate, self.codec = Fraction(rate).limit_denominator(100_000), codec
        self.stream: Any = None
        self.size: Size | None = None

    def write(self, image: NDArray[np.uint8]) -> None:
        """Append one (H, W, 3) uint8 RGB frame. Odd sides are extended by one row or column, which the codec needs."""
        size = (image.shape[0], image.shape[1])
        if self.stream is None:
            self.size = size
            self.stream = self.container.add_stream(self.codec, rate=self.rate)
            self.stream.height, self.stream.width = (side + side % 2 for side in size)
            self.stream.pix_fmt = "yuv420p"
        if size != self.size:
            raise ImageError(f"A video has frames of one size; it began with {self.size}, got {size}.")
        if size[0] % 2 or size[1] % 2:
            image = np.pad(image, ((0, size[0] % 2), (0, size[1] % 2), (0, 0)), mode="edge")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        self.container.mux(self.stream.encode(frame))

    def close(self) -> None:
        """Write what the encoder still holds."""
        if self.stream is not None:
            self.container.mux(self.stream.encode())


@contextmanager
def write_video(path: str | os.PathLike[str], rate: float = 25.0, codec: str = "libx264") -> Iterator[VideoWriter]:
    """A writer of a video that replaces `path` when the block ends without error; its suffix chooses the container.

    rate: frames per second. Raises ImageError where the container or the codec is unknown.
    """
    with replacing(path) as part:
        try:
            container = av.open(str(part), "w", format=_container(Path(path)))
        except (av.error.FFmpegError, ValueError) as error:
            raise ImageError(f"{path}: no video can be written there ({one_line(error)}).") from error
        with container:
            writer = VideoWriter(container, rate, codec)
            yield writer
            writer.close()


def _container(path: Path) -> str:
    known = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska", ".avi": "avi"}
    if path.suffix.lower() not in known:
        raise ImageError(f"{path}: a video is written as {', '.join(known)}, got '{path.suffix}'.")
    return known[path.suffix.lower()]
