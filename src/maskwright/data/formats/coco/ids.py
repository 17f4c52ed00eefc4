"""Ids that are names: the API of COCO takes any value as an id, a data set in memory has numbers."""

from collections.abc import Mapping
from typing import Any

from maskwright.data.formats.shared.fields import whole

NAME = "original_id"
"""The field of a record that keeps its id where that was a name."""

_REFERENCES = {"images": "image_id", "videos": "video_id", "categories": "category_id"}


def notes_of(named: Mapping[str, int]) -> tuple[str, ...]:
    """The sentences about what `number_names` did."""
    return tuple(
        f"The ids of the {count} '{section}' are names; here they have the numbers 1 to {count} in the file's order, "
        f"and what is written for them has these (the names are kept as '{NAME}')."
        for section, count in named.items()
    )


def number_names(lists: Mapping[str, list[Any]]) -> dict[str, int]:
    """Number the records of each list whose ids are all text and not all numbers, 1, 2, ... in the file's order.

    The references to them follow, and the names are kept in the field `NAME`. Changes the records. Gives the number of
    records by the name of the list.
    """
    changed = {}
    for section, rows in lists.items():
        ids = [row["id"] for row in rows if isinstance(row, dict) and "id" in row]
        if not ids or not all(isinstance(i, str) for i in ids) or all(whole(i) is not None for i in ids):
            continue
        numbers = {name: k for k, name in enumerate(dict.fromkeys(ids), start=1)}
        for row in rows:
            if isinstance(row, dict) and "id" in row:
                row[NAME], row["id"] = row["id"], numbers[row["id"]]
        key = _REFERENCES.get(section)
        for row in lists.get("annotations", ()) if key else ():
            if isinstance(row, dict) and isinstance(row.get(key), str):
                row[key] = numbers.get(row[key], row[key])
        changed[section] = len(ids)
    return changed
