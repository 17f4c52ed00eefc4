"""One table of the annotation formats: name -> how to recognise, read and write it.

A format is one file of `data/` and one line of `FORMATS`.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from maskwright.data import coco
from maskwright.data.dataset import Dataset
from maskwright.errors import ConfigError, DataError, suggest


@dataclass(frozen=True)
class Format:
    """How one annotation format is handled.

    recognise: whether a file or folder is probably this format; reads as little as it can and never raises.
    load: (file or folder, the pictures' folder or None) to the data set. save: writes (new place, data set).
    keeps: what a round trip through it keeps, in a person's words.
    """

    name: str
    summary: str
    recognise: Callable[[Path], bool]
    load: Callable[[Path, Path | None], Dataset]
    save: Callable[[Path, Dataset], None]
    keeps: str


def _is_coco(path: Path) -> bool:
    return path.suffix.lower() == ".json" and path.is_file()


FORMATS: Mapping[str, Format] = MappingProxyType(
    {f.name: f for f in (Format("coco", "COCO JSON, one file", _is_coco, coco.load, coco.save, "everything"),)}
)


def load(
    path: str | os.PathLike[str], images: str | os.PathLike[str] | None = None, format: str | None = None
) -> Dataset:
    """Read a data set of any known format; without `format` it is recognised from the files.

    Raises ConfigError for an unknown format name, DataError where nothing or more than one format fits.
    """
    place, folder = Path(path), None if images is None else Path(images)
    if format is not None:
        return find(format).load(place, folder)
    if not place.exists():
        raise DataError(f"{place}: there is no such file or folder.")
    fitting = [f for f in FORMATS.values() if f.recognise(place)]
    if len(fitting) != 1:
        found = " and ".join(f.name for f in fitting) or "none"
        raise DataError(f"{place}: the annotation format is not clear (fits: {found}). Name it: {', '.join(FORMATS)}.")
    return fitting[0].load(place, folder)


def find(name: str) -> Format:
    """The format of this name. Raises ConfigError, with a suggestion, for an unknown one."""
    if name not in FORMATS:
        raise ConfigError(f"There is no format '{name}'; known: {', '.join(FORMATS)}.{suggest(name, list(FORMATS))}")
    return FORMATS[name]
