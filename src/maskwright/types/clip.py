"""The place of an image in a video, and facts about a whole track."""

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


@dataclass(frozen=True, slots=True)
class TrackFacts:
    """Facts about a whole track in a result file; None where the file does not state them.

    score, label: where all its instances share them. parent: the track that it came from when that divided.
    """

    score: float | None = None
    label: int | None = None
    parent: int | None = None
