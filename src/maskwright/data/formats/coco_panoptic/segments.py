"""The tables of panoptic annotations and results: a row for each segment of an image, and the folder of the maps."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from maskwright.data.formats.coco.layout import PANOPTIC
from maskwright.data.formats.coco.rows import known
from maskwright.data.formats.coco_panoptic.maps import MOST_ID
from maskwright.data.formats.shared.fields import Record, Row, short
from maskwright.errors import DataError
from maskwright.types import Classes
from maskwright.wording import counted

MAPS = "panoptic"
"""The folder of the maps in what is written."""

Info = tuple[int, bool, Row]
"""Of a segment: its label, whether it is a crowd, and its row."""

_MOST_NAMED = 5


def folder_of_maps(source: Path, rows: Sequence[Any]) -> Path:
    """The folder of the maps: the first of the usual ones that has the first map.

    Raises DataError where none has it, as the folder is missing then.
    """
    base = source.parent
    usual = (base / source.stem, base.parent / source.stem, base / MAPS, base.parent / MAPS, base)
    folders = [folder for folder in usual if folder.is_dir()]
    names = [row.get("file_name") for row in rows if isinstance(row, dict)]
    for name in [name for name in names if isinstance(name, str) and name][:_MOST_NAMED]:
        if found := [folder for folder in folders if (folder / name).is_file()]:
            return found[0]
    if not names:
        return base / source.stem
    raise DataError(
        f"{source}: the panoptic maps are not found. The first is {short(names[0])}, looked for in "
        f"{', '.join(map(str, usual))}. Put the folder of the PNG files beside the JSON file, called '{source.stem}'."
    )


def infos_of(at: Record, row: Row, label_of: Mapping[int, int], classes: Classes) -> dict[int, Info]:
    """The segments of an image by their ids. label_of: by the ids of `classes`. Raises DataError for a bad row."""
    out: dict[int, Info] = {}
    for info in at.listed(row.get(PANOPTIC), f"'{PANOPTIC}'"):
        number = at.whole(at.table(info), "id")
        if not 1 <= number <= MOST_ID:
            raise at.fault(f"the ids of segments are 1 to {MOST_ID} (0 is void), got {number}.")
        if number in out:
            raise at.fault(f"the segment id {number} is used twice. Ids must differ within an image.")
        label = label_of.get(at.whole(info, "category_id"))
        if label is None:
            what = f"segment {number}: category_id {info['category_id']} is not in the list 'categories'"
            raise at.fault(f"{what} ({known(classes)}).")
        crowd = 0 if info.get("iscrowd") is None else info["iscrowd"]
        if crowd not in (0, 1):
            raise at.fault(f"segment {number}: 'iscrowd' must be 0 or 1, got {short(crowd)}.")
        out[number] = label, bool(crowd), info
    return out


def require_equal(at: Record, path: Path, inside: Mapping[int, int], infos: Mapping[int, Any]) -> None:
    """Raises DataError where a map and its table have not the same ids. inside: the pixels of each id of the map."""
    spare = [k for k in inside if k not in infos]
    if spare:
        pixels = counted(sum(inside[k] for k in spare), "pixel")
        raise at.fault(
            f"{pixels} of {path} have {_some(spare, 'id')} that '{PANOPTIC}' does not list. Add the segments, or "
            f"make the pixels void (0). Was the map resized with smoothing, or stored with losses?"
        )
    bare = [k for k in infos if k not in inside]
    if bare:
        raise at.fault(f"{_some(bare, 'segment')} {'has' if len(bare) == 1 else 'have'} no pixel in {path}. Remove "
                       f"them from '{PANOPTIC}', or correct the map.")  # fmt: skip


def _some(numbers: Sequence[int], what: str) -> str:
    shown = ", ".join(str(k) for k in numbers[:_MOST_NAMED])
    return f"the {what}{'s' if len(numbers) > 1 else ''} {shown}{', ...' if len(numbers) > _MOST_NAMED else ''}"
