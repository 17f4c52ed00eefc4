"""YouTube-VIS results: one row for each track, with its outline in every frame of the video, or null.

    [{"video_id": 1, "score": 0.93, "category_id": 1, "segmentations": [null, {"size": [H, W], "counts": "..."}, ...]},
     ...]

Frames come one by one and rows hold all of them, so the outlines are kept by track: in memory up to `KEPT` characters,
the others in a file. Memory follows the tracks, not the objects of all frames.
"""

import json
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, Any

from maskwright.results.prediction import text_file
from maskwright.results.video import FrameResult
from maskwright.tracking.writing import FrameWriter, VideoRun
from maskwright.wording import counted

KEPT = 32 * 2**20
"""Characters of outlines that are kept in memory."""


@dataclass
class _Track:
    """waiting: frames and outlines that are in memory. stored: places and lengths in the file of the earlier ones.
    votes: sums of scores by label. scores: their sum and number."""

    waiting: list[tuple[int, str]] = field(default_factory=list)
    stored: list[tuple[int, int]] = field(default_factory=list)
    votes: dict[int, float] = field(default_factory=lambda: defaultdict(float))
    score: float = 0.0
    count: int = 0


class _Spool:
    """The outlines of all tracks."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.size = file, 0
        self.tracks: dict[int, _Track] = {}

    def add(self, frame: int, row: dict[str, Any]) -> None:
        track, text = self.tracks.setdefault(int(row["track_id"]), _Track()), json.dumps(row["segmentation"])
        track.waiting.append((frame, text))
        track.votes[int(row["label"])] += row["score"]
        track.score, track.count = track.score + row["score"], track.count + 1
        self.size += len(text)
        if self.size > KEPT:
            self._store()

    def _store(self) -> None:
        for track in self.tracks.values():
            if track.waiting:
                content = json.dumps(track.waiting).encode()
                track.stored.append((self.file.tell(), self.file.write(content)))
                track.waiting = []
        self.size = 0

    def outlines(self, track: _Track) -> Iterator[tuple[int, str]]:
        """Frames and outlines of a track, in order. Nothing may be added after the first is asked for."""
        for place, length in track.stored:
            self.file.seek(place)
            yield from json.loads(self.file.read(length))
        yield from track.waiting


@contextmanager
def track_rows(run: VideoRun) -> Iterator[FrameWriter]:
    """The list of results of one video. The score of a track is the mean of its instances', its class the one that they
    had most, by the sum of scores. An instance without a pixel is null, as is an object that is not seen."""
    sizes: set[tuple[int, int]] = set()
    with tempfile.TemporaryFile(dir=run.place.parent) as file:
        spool = _Spool(file)

        def write(result: FrameResult) -> None:
            sizes.add(result.found.size)
            assert result.found.crops is not None
            for row, area in zip(result.rows, result.found.crops.areas(), strict=True):
                if area:
                    spool.add(result.frame, row)

        yield write
        if len(sizes) > 1:
            run.notes.append(
                f"The video has frames of {counted(len(sizes), 'size')}; readers of {run.place.name} expect one."
            )
        with text_file(run.place) as out:
            out.write("[")
            for i, (_, track) in enumerate(sorted(spool.tracks.items())):
                label = max(track.votes, key=lambda k: (track.votes[k], -k))
                head = {"video_id": run.video, "score": round(track.score / track.count, 6)}
                head |= {"category_id": run.classes.ids[label]}
                out.write(("\n" if i == 0 else ",\n") + json.dumps(head)[:-1] + ', "segmentations": [')
                _write_frames(out, spool.outlines(track), run.frames)
                out.write("]}")
            out.write("\n]\n")


def _write_frames(out: IO[str], outlines: Iterator[tuple[int, str]], frames: int) -> None:
    following = next(outlines, None)
    for frame in range(frames):
        shown = following is not None and following[0] == frame
        out.write((", " if frame else "") + (following[1] if shown and following is not None else "null"))
        if shown:
            following = next(outlines, None)
