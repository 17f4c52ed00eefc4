"""The folder `unfinished` of a run: what is done so far, valid at any moment, from which the run can be resumed.

    settings.json      what the results depend on; a run is resumed with the same alone
    frames.jsonl       the results of all frames so far, see `results.video`
    overlay/           the overlay video so far, in pieces of `SEGMENT` frames
    state.json         how far the last piece reached, and what is carried on from there

A run is cut into segments. The first frame of each is a key frame, so that nothing but the tracks is carried into it;
at its end all files are brought to the disk, then `state.json` is replaced. What lies behind that state is done again.
"""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from maskwright.atomic import replacing
from maskwright.errors import ConfigError, DataError

SEGMENT = 100
"""Frames of a segment: what has to be done again after a kill is less."""


class Work:
    """The folder of one run. state: of the end of its last segment; empty at the beginning."""

    def __init__(self, out: Path) -> None:
        self.folder = out / "unfinished"
        self.frames = self.folder / "frames.jsonl"
        self.pieces = self.folder / "overlay"
        self.state: dict[str, Any] = {}
        self._file: IO[bytes] | None = None

    @property
    def done(self) -> bool:
        """Whether all frames are done, so that the other files can be made."""
        return bool(self.state.get("done"))

    def begin(self, settings: Mapping[str, Any]) -> None:
        """An empty folder."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        _write(self.folder / "settings.json", settings)

    def resume(self, settings: Mapping[str, Any]) -> None:
        """The folder as it was at the end of the last segment. Raises ConfigError for other settings."""
        known = _read(self.folder / "settings.json")
        asked = json.loads(json.dumps(settings))
        if other := [name for name in {**known, **asked} if known.get(name) != asked.get(name)]:
            one = other[0]
            raise ConfigError(
                f"The run in {self.folder} was begun with {one} {known.get(one)}, not {asked.get(one)}. Resume it with "
                "the same options, or begin anew with another folder.",
                options=("resume", "overwrite"),
            )
        state = self.folder / "state.json"
        self.state = _read(state) if state.exists() else {}
        if self.done and not self.frames.exists():  # it was moved to its place, and nothing is left to do
            return
        size = self.state.get("bytes", 0)
        if size and (not self.frames.exists() or self.frames.stat().st_size < size):
            raise DataError(f"{self.frames} is shorter than the {size} bytes that were written. Begin anew.")
        if self.frames.exists():
            os.truncate(self.frames, size)
        for piece in self.piece_files():
            if int(piece.stem) >= self.state.get("pieces", 0):
                piece.unlink()
        for part in self.pieces.glob(".*.part"):
            part.unlink()
        if len(self.piece_files()) != self.state.get("pieces", 0):
            raise DataError(f"{self.pieces} lacks pieces of the overlay video that were written. Begin anew.")

    def piece_files(self) -> list[Path]:
        """The pieces of the overlay video, in order."""
        return sorted(self.pieces.glob("[0-9]*.mp4"))

    def write(self, line: str) -> None:
        """Append a line to the results."""
        if self._file is None:
            self._file = self.frames.open("ab")
        self._file.write(line.encode())
        self._file.flush()

    def save(self, state: dict[str, Any]) -> None:
        """The end of a segment: all that was written reaches the disk, then the state does."""
        if self._file is not None:
            os.fsync(self._file.fileno())
        size = self.frames.stat().st_size if self.frames.exists() else 0
        self.state = {**state, "bytes": size, "pieces": len(self.piece_files())}
        _write(self.folder / "state.json", self.state)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def remove(self) -> None:
        """All results are in their places."""
        self.close()
        shutil.rmtree(self.folder)


def _write(path: Path, content: Mapping[str, Any]) -> None:
    with replacing(path, durable=True) as part:
        part.write_text(json.dumps(content), encoding="utf-8")


def _read(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}). The run cannot be resumed, begin anew.") from error
    return content
