"""What the writers of tracks are given, and what they share."""

import shutil
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from maskwright.atomic import new_folder
from maskwright.media.video import VideoFrame
from maskwright.results.video import FrameResult, VideoResults
from maskwright.types import Classes


@dataclass(frozen=True)
class VideoRun:
    """What the writers of one video share. place: of the file. video: its number in the run, from 1. frames: how many
    there are. notes: get a sentence about what a form could not hold. read: the frames of the source once more, None
    where it can be read only once."""

    place: Path
    results: VideoResults
    video: int
    frames: int
    notes: list[str]
    read: Callable[[], Generator[VideoFrame]] | None = None

    @property
    def classes(self) -> Classes:
        return self.results.classes


FrameWriter = Callable[[FrameResult], None]
"""Takes the frames of a video one after the other."""


@contextmanager
def folder_anew(place: Path) -> Iterator[Path]:
    """A folder to fill that is in its place when it is complete; an older one is replaced."""
    shutil.rmtree(place, ignore_errors=True)
    with new_folder(place) as folder:
        yield folder
