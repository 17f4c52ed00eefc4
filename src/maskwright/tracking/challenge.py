"""Results as the Cell Tracking Challenge wants them: 01_RES/mask000.tif ... and 01_RES/res_track.txt.

A line of the table is "L B E P": a label of the images, its first and last frame, and its parent, or 0. A label is in
all frames from its first to its last, so a track that is not seen for some frames, or is hidden by others, goes on
after that under a new label whose parent is its own earlier one.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from maskwright import draw, media
from maskwright.errors import DataError
from maskwright.results.video import FrameResult
from maskwright.tracking.writing import FrameWriter, VideoRun, folder_anew
from maskwright.wording import counted


@dataclass
class _Piece:
    """A line of the table."""

    label: int
    first: int
    last: int
    parent: int


class _Table:
    """The labels so far. last: of each track its last piece."""

    def __init__(self) -> None:
        self.pieces: list[_Piece] = []
        self.last: dict[int, _Piece] = {}
        self.gaps = 0

    def label(self, track: int, frame: int, mother: int | None) -> int:
        """The label of a track in a frame that shows it. mother: the track that it came from."""
        piece = self.last.get(track)
        if piece is None or piece.last < frame - 1:
            before = piece or (None if mother is None else self.last.get(mother))
            self.gaps += piece is not None
            parent = before.label if before is not None and before.last < frame else 0
            piece = _Piece(len(self.pieces) + 1, frame, frame, parent)
            self.pieces.append(piece)
            self.last[track] = piece
        piece.last = frame
        return piece.label


@contextmanager
def challenge_folder(run: VideoRun) -> Iterator[FrameWriter]:
    """The folder of one video. Images are of 16 bits; where objects overlap the one with the higher score is on top."""
    table = _Table()
    mothers: dict[int, int] = {}
    digits = max(3, len(str(run.frames - 1)))
    with folder_anew(run.place) as folder:

        def write(result: FrameResult) -> None:
            mothers.update(result.parents)
            shown = draw.label_map(result.found)  # rows + 1; a track that others hide is not in it
            labels = np.zeros(len(result.rows) + 1, np.int64)
            for row in np.unique(shown[shown > 0]).tolist():
                track = int(result.rows[row - 1]["track_id"])
                labels[row] = table.label(track, result.frame, mothers.get(track))
            if labels.max() > draw.MOST_LABELS:
                raise DataError(
                    f"{run.place}: more than {draw.MOST_LABELS} labels, which 16 bits do not hold. Resume the run "
                    "without this kind of results.",
                    options=("save",),
                )
            media.write_image(folder / f"mask{result.frame:0{digits}}.tif", labels[shown].astype(np.uint16))

        yield write
        lines = [f"{p.label} {p.first} {p.last} {p.parent}\n" for p in table.pieces]
        (folder / "res_track.txt").write_text("".join(lines))
    if table.gaps:
        run.notes.append(
            f"{counted(table.gaps, 'gap')} in tracks: the challenge has none, so after each the track is a new one in "
            f"{run.place.name}, whose parent is what it was before."
        )
