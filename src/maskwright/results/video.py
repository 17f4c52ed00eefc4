"""What was found in the frames of a video: a file of JSON lines, a head and then one line for each frame.

    {"format": "maskwright.video", "version": 1, "source": "cells.mp4", "rate": 25.0,
     "classes": [{"id": 1, "name": "nucleus"}, ...], "masks": true, "keypoints": null, "track_ids": true,
     "box_scores": false}
    {"frame": 0, "index": 0, "time": 0.0, "size": [H, W], "key": true, "instances": [{"label": 0, "name": "nucleus",
     "score": 0.93, "box": [x0, y0, x1, y1], "track_id": 1, "segmentation": {"size": [H, W], "counts": "..."}}, ...]}

The head is that of `results.prediction` without the image's own fields; `rate` are frames per second, null where the
source does not say. `frame` counts the lines from 0, `index` the frames of the source; `time` are seconds from the
first frame of the source, null where it has none; `key`: whether the whole network looked at this frame; then `why`
(see `video.keys.Why`), else `key_frame`, the index of the one from which something was carried. Where instances were
carried `fit` (see `video.keys.CarriedFit`) and `shifts`, the pixels (x, y) that each has moved since then. A frame that
is an image file has its `name`; one in which objects divided has `parents`, by the id of a new track the id of the one
that it came from. `semantic` and `limits`, where there are any, are those of the frame.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from maskwright.errors import DataError
from maskwright.results.prediction import Prediction
from maskwright.types import Classes

FORMAT = "maskwright.video"
VERSION = 1


@dataclass(frozen=True, eq=False)
class FrameResult:
    """The line of one frame, see the head of this module. found: its instances."""

    document: dict[str, Any]
    where: str

    @property
    def frame(self) -> int:
        return int(self.document["frame"])

    @property
    def time(self) -> float | None:
        time: float | None = self.document["time"]
        return time

    @property
    def name(self) -> str:
        """Of the image file; empty where the source is none."""
        return str(self.document.get("name", ""))

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The instances as they are in the file."""
        rows: list[dict[str, Any]] = self.document["instances"]
        return rows

    @property
    def parents(self) -> dict[int, int]:
        """By the id of a track that begins here the id of the one that it came from by division."""
        return {int(child): int(parent) for child, parent in self.document.get("parents", {}).items()}

    @cached_property
    def found(self) -> Prediction:
        return Prediction.of_document(self.document, self.where)


@dataclass(frozen=True, eq=False)
class VideoResults:
    """A file of frames' results, to be iterated over; memory does not grow with its length.

    head: its first line. Raises DataError, naming the file and the line, for anything else.
    """

    path: Path
    head: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "VideoResults":
        """The results in a file."""
        with _lines(Path(path)) as lines:
            head = _line(next(lines, ""), f"{os.fspath(path)}, line 1")
        if head.get("format") != FORMAT or head.get("version") != VERSION:
            raise DataError(
                f'{os.fspath(path)}: not results of a video: expected "format": "{FORMAT}", "version": {VERSION} in '
                f"the first line, got {str(head)[:80]}."
            )
        return cls(Path(path), head)

    @property
    def classes(self) -> Classes:
        return Classes([c["name"] for c in self.head["classes"]], [c["id"] for c in self.head["classes"]])

    def __iter__(self) -> Iterator[FrameResult]:
        with _lines(self.path) as lines:
            for number, text in enumerate(lines, 1):
                where = f"{self.path}, line {number}"
                if number > 1:
                    yield FrameResult({**self.head, **_line(text, where)}, where)


def head_line(found: Prediction, source: str, rate: float | None) -> str:
    """The first line of a file whose frames have instances like these."""
    head = {"format": FORMAT, "version": VERSION, "source": source, "rate": rate, **found.columns()}
    return json.dumps(head, ensure_ascii=False) + "\n"


def frame_line(found: Prediction, about: Mapping[str, Any]) -> str:
    """The line of one frame. about: `frame`, `index`, `time`, `key`, and where it applies `name` and `parents`."""
    rows = found.rows(f"frame {about['index']}")
    line = {**about, "size": list(found.size), **found.beside(), "instances": rows}
    return json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n"


@contextmanager
def _lines(path: Path) -> Iterator[Iterator[str]]:
    if not path.is_file():
        raise DataError(f"{path}: there is no such file.")
    with open(path, encoding="utf-8", errors="replace", newline="\n") as file:
        yield file


def _line(text: str, where: str) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not JSON: {error}. The file may be cut off.") from error
    if not isinstance(document, dict):
        raise DataError(f"{where}: expected an object, got {text[:60]!r}.")
    return document
