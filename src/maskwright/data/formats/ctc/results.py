"""Results of the Cell Tracking Challenge: 01_RES/mask000.tif ... and 01_RES/res_track.txt, see `tracks`."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from maskwright.data.dataset import Dataset
from maskwright.data.formats.ctc.tracks import frames_of, numbered, read_table
from maskwright.data.formats.shared.video_results import FoundTracks
from maskwright.errors import DataError
from maskwright.types import Clip, Instances, TrackFacts

RESULTS, TABLE = "_RES", "res_track.txt"


def read_results(place: Path, dataset: Dataset) -> FoundTracks:
    """The tracks found in the videos of a data set; images are read when they are asked for.

    place: the folder with 01_RES for each video, named as its clip is, or for one video that folder itself. Objects
    have the class of the data set, which has one, and the score 1. Raises DataError where a video or frame is missing
    and, naming the file, where images and table disagree.
    """
    if len(dataset.classes) != 1:
        raise DataError(
            f"{place}: results of the Cell Tracking Challenge have no class, and {dataset.source} has several."
        )
    folders = {clip: _folder(place, clip, len(dataset.clips)) for clip in dataset.clips}
    facts = {
        clip.id: {label: TrackFacts(parent=span.parent or None) for label, span in read_table(folder / TABLE).items()}
        for clip, folder in folders.items()
    }
    return FoundTracks(lambda clip: _frames(folders[clip], dataset, clip), facts)


def _folder(place: Path, clip: Clip, clips: int) -> Path:
    named = place / f"{clip.name}{RESULTS}"
    options = [named, place] if clips == 1 else [named]
    for folder in options:
        if (folder / TABLE).is_file():
            return folder
    raise DataError(
        f"{place}: found no results of video '{clip.name}', {' or '.join(str(o / TABLE) for o in options)}."
    )


def _frames(folder: Path, dataset: Dataset, clip: Clip) -> Iterator[tuple[int, Instances]]:
    """The position of each frame of a video and what was found in it."""
    files, spans = numbered(folder, "mask"), read_table(folder / TABLE)
    wanted = dict(dataset.clips[clip])
    missing = [index for index in wanted if index not in files]
    if missing:
        raise DataError(
            f"{folder}: {len(missing)} of {len(wanted)} frames of video '{clip.name}' have no image of results; the "
            f"first is mask{missing[0]:03d}.tif."
        )
    for number, labels, masks in frames_of(files, spans, folder / TABLE):
        if number not in wanted:
            continue
        size = dataset.images[wanted[number]].size
        if masks.size != size:
            raise DataError(f"{files[number]}: is {masks.size} (H, W), the image is {size}.")
        ones, zeros = np.ones(len(labels), np.float32), np.zeros(len(labels), np.int64)
        yield wanted[number], Instances(masks.boxes(), ones, zeros, dataset.classes, size, masks, track_ids=labels)
