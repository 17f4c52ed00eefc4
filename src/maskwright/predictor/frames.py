"""The frames of a video, one after the other, and how they are worked on."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from maskwright import media
from maskwright.codec import Section, ranged
from maskwright.errors import ConfigError
from maskwright.media.video import VIDEO_SUFFIXES, Video, VideoFrame
from maskwright.predictor.link import LinkOptions
from maskwright.types import ImageArray, Intensity
from maskwright.wording import counted


@dataclass(frozen=True)
class TrackOptions(Section):
    """How the frames of a video are worked on.

    interval: every so many frames one is a key frame, which goes through the whole network; None: as the model has it.
    Models that carry nothing from frame to frame have key frames alone. link: how instances become tracks.
    """

    interval: int | None = ranged(None, low=1, high=10**6)
    link: LinkOptions = field(default_factory=LinkOptions)


def frames_of(source: Any, intensity: Intensity, told: media.Readings) -> Iterator[VideoFrame]:
    """The frames of a source, one at a time.

    source: the path of a video, a folder, pattern or list of images (see `media.find_images`) or a stack of pages, each
    page a frame; or anything that gives images one by one, as `Predictor.predict` takes them.
    Where the intensity is of the whole video, it is read twice before; ConfigError where it can be read only once.
    """
    if isinstance(source, (str, os.PathLike)):
        if Path(source).suffix.lower() in VIDEO_SUFFIXES:
            yield from _of_video(Video(source), told)
        else:
            intensity = media.measured(lambda: (stored for stored, _ in _pages(source)), intensity)
            images = _of_files(source, intensity, told)
            yield from (VideoFrame(image, index, name=name) for index, (image, name) in enumerate(images))
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


def _of_files(
    source: str | os.PathLike[str], intensity: Intensity, told: media.Readings
) -> Iterator[tuple[ImageArray, str]]:
    """Each page of each file, with its name."""
    last: media.ImageFile | None = None
    for stored, file in _pages(source):
        if file is not last:
            told.look_beside(file)
        last = file
        yield media.rgb_of(stored, intensity, file.name, told), file.name


def _pages(source: str | os.PathLike[str]) -> Iterator[tuple[media.Stored, media.ImageFile]]:
    """The pixels of each page of each file."""
    for path in media.find_images(source):
        with media.opened(path) as file:
            for stored in media.all_pages(file):
                yield stored, file
