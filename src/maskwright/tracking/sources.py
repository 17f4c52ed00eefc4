"""What the sources of a run are: each is one video, whatever it is stored as."""

import glob
import os
from collections.abc import Generator, Iterable, Sequence
from pathlib import Path
from typing import Protocol

from maskwright import media
from maskwright.media.live import Stream, is_stream
from maskwright.media.video import VIDEO_SUFFIXES, Decoded, Span, Video, VideoFrame
from maskwright.predictor.frames import ImageFrames
from maskwright.tracking.pipeline import Latest, ahead
from maskwright.types import Intensity


def videos_of(sources: Iterable[str | os.PathLike[str]]) -> list[str]:
    """The videos that are meant: a folder and a pattern mean each video in them, and where there is none their images
    as the frames of one; anything else is one."""
    found: list[str] = []
    for given in sources:
        source = os.fspath(given)
        inside: Sequence[str] = ()
        if not is_stream(source):
            if os.path.isdir(source):
                inside = sorted(str(path) for path in Path(source).iterdir())
            elif not os.path.exists(source) and glob.has_magic(source):
                inside = sorted(glob.glob(source, recursive=True))
        videos = [name for name in inside if name.lower().endswith(VIDEO_SUFFIXES)]
        found += videos or [source]
    return list(dict.fromkeys(found))


class FrameSource(Protocol):
    """One video to be read once. live: its frames do not wait. rate: frames per second, where that is known. frames:
    how many there are, where that is known; `dropped`, `unread` and `remarks`: after reading."""

    live: bool
    rate: float | None
    frames: int | None
    dropped: int

    @property
    def unread(self) -> list[str]:
        """Names of what could not be read."""

    def read(self, span: Span) -> Generator[VideoFrame]:
        """The frames of a span, read ahead; of a live source those that are the newest when they are asked for."""

    def remarks(self) -> list[str]:
        """What a reader of the results should know."""


class VideoSource:
    """A video file, a camera, a stream or a pipe."""

    def __init__(self, video: Video) -> None:
        self.video = video
        self.live = isinstance(video, Stream) and video.live
        self.rate, self.frames, self.dropped = video.rate, video.frames, 0
        self.unread: list[str] = []

    def read(self, span: Span) -> Generator[VideoFrame]:
        if not self.live:
            yield from ahead(self.video.read(span))
        else:
            latest: Latest[Decoded] = Latest(self.video.decode(span))
            for decoded in latest:
                self.dropped = latest.dropped
                yield self.video.shown(decoded)
            self.dropped = latest.dropped
        if self.video.undecoded and not self.live:
            self.unread = [self.video.path]

    def remarks(self) -> list[str]:
        told = self.video.remarks()
        dropped = [f"{self.dropped} frames that came while others were computed, left out"] if self.dropped else []
        deep = self.video.told.notes(self.video.intensity) if self.video.told is not None else ()
        return [*dropped, *told, *deep]


class ImageSequence:
    """Image files as frames."""

    live, dropped = False, 0
    rate: float | None = None

    def __init__(self, source: str, intensity: Intensity) -> None:
        self.told, self.intensity = media.Readings(), intensity
        self.failed: dict[str, str] = {}
        self.images = ImageFrames(source, intensity, self.told, self.failed)
        self.frames: int | None = self.images.frames

    @property
    def unread(self) -> list[str]:
        return list(self.failed)

    def read(self, span: Span) -> Generator[VideoFrame]:
        return ahead(self.images.read(span))

    def remarks(self) -> list[str]:
        return [
            *(f"{name} could not be read: {why}" for name, why in self.failed.items()),
            *self.told.notes(self.intensity),
        ]


def opened(source: str, intensity: Intensity) -> FrameSource:
    """A source ready to be read. Raises ImageError where it cannot be opened."""
    if is_stream(source):
        return VideoSource(Stream(source, intensity=intensity, told=media.Readings()))
    suffix = Path(source).suffix.lower()
    images = (*media.SUFFIXES, ".txt")
    if suffix in VIDEO_SUFFIXES or (os.path.isfile(source) and suffix not in images):
        return VideoSource(Video(source, intensity, media.Readings()))
    return ImageSequence(source, intensity)
