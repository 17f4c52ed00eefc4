"""File names that may be meant where a record's own file does not exist."""

import unicodedata
from collections.abc import Iterable
from pathlib import PurePosixPath, PureWindowsPath
from urllib.parse import unquote

from maskwright.media import SUFFIXES


class FileNames:
    """The names of files, relative to one folder and with /, found also where a record writes them otherwise."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._folded: dict[str, list[str]] = {}
        self._last: dict[str, list[str]] = {}
        self._stems: dict[str, list[str]] = {}
        for name in sorted(names):
            self._folded.setdefault(_folded(name), []).append(name)
            self._last.setdefault(PurePosixPath(name).name, []).append(name)
            if PurePosixPath(name).suffix.lower() in SUFFIXES:
                self._stems.setdefault(_stem(name), []).append(name)

    def spelled(self, name: str) -> str | None:
        """The only file whose name differs in case, accents, slashes or percent signs alone (%20 is a space)."""
        return _only(self._folded.get(_folded(name), []) or self._folded.get(_folded(unquote(name)), []))

    def elsewhere(self, name: str) -> str | None:
        """The only file with the same last part of the name."""
        return _only(self._last.get(PureWindowsPath(name).name, []))

    def other_suffix(self, name: str) -> str | None:
        """The only image that has this name with another suffix."""
        return _only(self._stems.get(_stem(name), []))


def _only(found: list[str]) -> str | None:
    return found[0] if len(found) == 1 else None


def _stem(name: str) -> str:
    return PurePosixPath(_folded(unquote(name))).with_suffix("").as_posix() if PurePosixPath(name).name else ""


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", str(PurePosixPath(name.replace("\\", "/")))).casefold()
