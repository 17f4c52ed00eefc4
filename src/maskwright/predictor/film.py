"""The frames of a film, one after the other: where they come from, which are key frames, which objects are the same."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from maskwright import media
from maskwright.errors import ConfigError
from maskwright.media.video import FILM_SUFFIXES, Film
from maskwright.predictor.link import LinkOptions
from maskwright.types import ImageArray, Intensity


@dataclass(frozen=True)
class TrackOptions:
    """How the frames of a film are worked on.

    interval: every so many frames one is a key frame, which goes through the whole network; None: as the model has it.
    Models that carry nothing from frame to frame have key frames alone. link: how instances become tracks.
    """

    interval: int | None = None
    link: LinkOptions = field(default_factory=LinkOptions)

    def __post_init__(self) -> None:
        if self.interval is not None and self.interval < 1:
            raise ConfigError(f"interval is at least 1, got {self.interval}.", options=("interval",))


def frames_of(source: Any, intensity: Intensity, told: media.Readings) -> Iterator[ImageArray]:
    """(H, W, 3) uint8 RGB, one frame at a time.

    source: the path of a film, a folder, pattern or list of images (see `media.find_images`) or a stack of pages, each
    page a frame; or anything that gives images one by one, as `Predictor.predict` takes them.
    """
    if isinstance(source, (str, os.PathLike)):
        if Path(source).suffix.lower() in FILM_SUFFIXES:
            yield from (frame.image for frame in Film(source))
            return
        for file in media.find_images(source):
            with media.opened(file) as stored:
                for page in range(1, stored.pages + 1):
                    yield media.rgb_of(stored.decode(page, media.MAX_PIXELS), intensity, stored.name, told)
                told.look_beside(stored)
        return
    if not isinstance(source, Iterable):
        raise ConfigError(f"A film is a path or gives images one by one, got {type(source).__name__}.")
    for image in source:
        yield media.as_image(image, intensity=intensity, told=told)
