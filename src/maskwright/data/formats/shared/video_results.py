"""What a file of results says of videos."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from maskwright.types import Clip, Instances, TrackFacts


@dataclass(frozen=True, eq=False)
class FoundTracks:
    """The tracks found in the videos of a data set.

    frames: of a clip the position of each image in the data set and what was found in it, with track ids, in order.
    tracks: what is said of whole tracks, by the id of the clip and that of the track.
    """

    frames: Callable[[Clip], Iterable[tuple[int, Instances]]]
    tracks: Mapping[int, Mapping[int, TrackFacts]]
