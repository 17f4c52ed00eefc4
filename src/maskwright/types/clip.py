"""Where an image stands in a video."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Clip:
    """One video of a data set. id: unique in the data set. name: as its file calls it, or empty."""

    id: int
    name: str = ""


@dataclass(frozen=True, slots=True)
class Frame:
    """The place of an image in a clip. index: its number among the clip's frames, from 0."""

    clip: Clip
    index: int
