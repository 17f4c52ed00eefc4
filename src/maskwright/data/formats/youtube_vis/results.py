"""YouTube-VIS result lists: for each track its video, class and score, and its outline in every frame, or null."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from maskwright.data.dataset import RLE, Dataset
from maskwright.data.formats.coco.results import ResultLabels, read_outline, read_score
from maskwright.data.formats.shared.fields import Record
from maskwright.data.formats.shared.video_results import FoundTracks
from maskwright.errors import DataError
from maskwright.ops import masks as mask_ops
from maskwright.types import Clip, Instances, TrackFacts


@dataclass(frozen=True)
class _Track:
    """A row. rles: by the position of the image, where it is seen."""

    id: int
    label: int
    score: float
    rles: Mapping[int, RLE]


def are_results(rows: object) -> bool:
    """Whether the content of a JSON file is a list of tracks, not of objects in single images."""
    return isinstance(rows, list) and bool(rows) and isinstance(rows[0], dict) and "video_id" in rows[0]


def read_results(source: Path, rows: Sequence[Any], dataset: Dataset) -> FoundTracks:
    """The tracks of a result list, the parsed content of `source`; the id of a track is the number of its row, from 1.

    Scores keep all their digits. Raises DataError, naming the row, for a video or category that the data set does not
    have, a missing or impossible field, and outlines for another number of frames.
    """
    clips = {clip.id: clip for clip in dataset.clips}
    labels = ResultLabels(dataset)
    tracks: dict[int, list[_Track]] = {number: [] for number in clips}
    for position, row in enumerate(rows):
        at = Record(source, f"result {position}")
        row = at.table(row)
        clip = clips.get(at.whole(row, "video_id"))
        if clip is None:
            raise at.fault(
                f"video_id {row['video_id']} is not a video of {dataset.source}. Do the files belong together?"
            )
        label, score = labels.read(at, row), read_score(at, row)
        tracks[clip.id].append(_Track(position + 1, label, score, _outlines(at, row, dataset, clip)))
    facts = {number: {t.id: TrackFacts(t.score, t.label) for t in own} for number, own in tracks.items()}
    return FoundTracks(lambda clip: _frames(tracks[clip.id], dataset, clip), facts)


def _outlines(at: Record, row: Mapping[str, Any], dataset: Dataset, clip: Clip) -> dict[int, RLE]:
    frames, outlines = dataset.clips[clip], row.get("segmentations")
    if not isinstance(outlines, list) or len(outlines) != len(frames):
        found = f"{len(outlines)} of them" if isinstance(outlines, list) else type(outlines).__name__
        raise at.fault(
            f"'segmentations' must have one entry for each of the {len(frames)} frames of video {clip.id} (null where "
            f"the object is not seen), got {found}."
        )
    out: dict[int, RLE] = {}
    for (_, position), value in zip(frames, outlines, strict=True):
        if (outline := read_outline(at, value, dataset.images[position])) is not None:
            out[position] = outline
    return out


def _frames(tracks: Sequence[_Track], dataset: Dataset, clip: Clip) -> Iterator[tuple[int, Instances]]:
    for _, position in dataset.clips[clip]:
        record = dataset.images[position]
        own = [t for t in tracks if position in t.rles]
        try:
            masks = mask_ops.decode([t.rles[position] for t in own], record.size)
        except DataError as error:
            raise DataError(f"The results of {record.file_name}: {error}") from error
        yield (
            position,
            Instances(
                boxes=masks.boxes(),
                scores=np.array([t.score for t in own], np.float32),
                labels=np.array([t.label for t in own], np.int64),
                classes=dataset.classes,
                size=record.size,
                crops=masks,
                track_ids=np.array([t.id for t in own], np.int64),
            ),
        )
