"""The frames of a video, one after the other."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskwright import media
from maskwright.errors import ConfigError, ImageError
from maskwright.media.video import VIDEO_SUFFIXES, WHOLE, Span, Video, VideoFrame
from maskwright.types import Intensity
from maskwright.wording import counted


def frames_of(source: Any, intensity: Intensity, told: media.Readings) -> Iterator[VideoFrame]:
    """The frames of a source, one at a time.

    source: the path of a video, a folder, pattern or list of images (see `media.find_images`) or a stack of pages, each
    page a frame; or anything that gives images one by one, as `Predictor.predict` takes them.
    Where the intensity is of the whole video, it is read twice before; ConfigError where it can be read only once.
    """
    if isinstance(source, (str, os.PathLike)):
        if Path(source).suffix.lower() in VIDEO_SUFFIXES:
            yield from _of_video(Video(source, intensity, told), told)
        else:
            yield from ImageFrames(source, intensity, told).read()
    elif isinstance(source, Iterable):
        if intensity.per == "video" and iter(source) is source:
            raise ConfigError(
                "Percentiles of a whole video need its frames twice, and these are given once: give a list, a folder "
                "or a stack, or the intensity values:LOW..HIGH.",
                options=("intensity",),
            )
        intensity = media.measured(lambda: map(media.stored_of, source), intensity)
        for index, image in enumerate(source):
            yield VideoFrame(media.as_image(image, intensity=intensity, told=told), index)
    else:
        raise ConfigError(f"A video is a path or gives images one by one, got {type(source).__name__}.")


def _of_video(video: Video, told: media.Readings) -> Iterator[VideoFrame]:
    yield from video
    if video.undecoded:
        told.left.append(f"{video.path}, {counted(video.undecoded, 'packet')} that could not be decoded")


@dataclass(frozen=True, eq=False)
class _Page:
    """A page of a file before it is read; index and time as of `VideoFrame`."""

    file: media.ImageFile
    page: int
    index: int
    time: float | None = None

    @property
    def name(self) -> str:
        return self.file.name if self.file.pages == 1 else f"{self.file.name} page {self.page}"


class ImageFrames:
    """Image files as a video: a folder, pattern, list or stack; each page of each file is a frame, and has no time.

    frames: how many; of several files how many files, as the others would have to be opened. failed: gets the files and
    pages that cannot be read, and why; without it the first of them is an ImageError.
    """

    def __init__(
        self,
        source: str | os.PathLike[str],
        intensity: Intensity,
        told: media.Readings,
        failed: dict[str, str] | None = None,
    ) -> None:
        self.intensity, self.told, self.failed = intensity, told, failed
        self.files = media.find_images(source)
        one = len(self.files) == 1 and not isinstance(self.files[0], str)
        self.frames = media.page_count(self.files[0]) if one else len(self.files)

    def __iter__(self) -> Iterator[VideoFrame]:
        return self.read()

    def read(self, span: Span = WHOLE) -> Iterator[VideoFrame]:
        """The frames of a span; the others are decoded only where the intensity is of the whole video."""
        intensity = media.measured(lambda: (stored for _, stored in self._stored(WHOLE)), self.intensity)
        last: media.ImageFile | None = None
        for page, stored in self._stored(span):
            if page.file is not last:
                self.told.look_beside(page.file)
            last = page.file
            yield VideoFrame(media.rgb_of(stored, intensity, page.file.name, self.told), page.index, name=last.name)

    def _stored(self, span: Span) -> Iterator[tuple[_Page, media.Stored]]:
        """The pixels of the pages of a span that can be read."""
        for page in span.chosen(self._pages()):
            try:
                stored = page.file.decode(page.page, media.MAX_PIXELS)
            except ImageError as error:
                self._fail(page.name, error)
            else:
                yield page, stored

    def _pages(self) -> Iterator[_Page]:
        index = 0
        for path in self.files:
            try:
                with media.opened(path) as file:
                    for page in range(1, file.pages + 1):
                        yield _Page(file, page, index)
                        index += 1
            except ImageError as error:
                self._fail(os.fspath(path), error)
                index += 1

    def _fail(self, name: str, error: ImageError) -> None:
        if self.failed is None:
            raise error
        self.failed[name] = str(error).removeprefix(f"{name}: ")
