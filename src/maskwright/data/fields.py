"""Fields of JSON annotation files, checked one by one, so that every fault says where it is and what to do.

Letters: H W picture. In the files boxes are x, y, width, height; in memory xyxy.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskwright.atomic import replacing
from maskwright.data.dataset import RLE, Polygons
from maskwright.errors import DataError
from maskwright.types import Size

Box = tuple[float, float, float, float]
Row = dict[str, Any]


@dataclass(frozen=True)
class Record:
    """A place in a file, so that every fault says where it is."""

    source: Path
    name: str

    def fault(self, problem: str) -> DataError:
        """The error to raise: where, and what is wrong."""
        return DataError(f"{self.source}: {self.name}: {problem}")

    def table(self, row: Any) -> Row:
        """The row itself, if it is a JSON object."""
        if not isinstance(row, dict):
            raise self.fault(f"expected a JSON object, got {short(row)}.")
        return row

    def whole(self, row: Row, key: str) -> int:
        """An integer field; 7, "7" and 7.0 are all 7."""
        value = row.get(key)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        if isinstance(value, float) and value.is_integer():
            return int(value)
        if isinstance(value, str) and value.strip().lstrip("+-").isdecimal():
            return int(value)
        if value is None:
            raise self.fault(f"'{key}' is missing. Add it as an integer; the fields here are {short(sorted(row))}.")
        raise self.fault(f"'{key}' must be an integer, got {short(value)}. Number the records instead of naming them.")

    def number(self, row: Row, key: str) -> float:
        """A finite number field."""
        return self.numbers([row.get(key)], 1, f"'{key}'")[0]

    def numbers(self, values: Any, count: int, what: str) -> list[float]:
        """`count` finite numbers."""
        if isinstance(values, (list, tuple)) and len(values) == count:
            good = [float(v) for v in values if isinstance(v, (int, float)) and abs(v) < 1e300]  # false for NaN
            if len(good) == count:
                return good
        wanted = "a finite number" if count == 1 else f"{count} finite numbers"
        raise self.fault(f"{what} must be {wanted}, got {short(values[0] if count == 1 else values)}.")

    def box_xywh(self, value: Any) -> Box:
        """x, y, width, height, as they stand in the file."""
        x, y, width, height = self.numbers(value, 4, "'bbox'")
        if width < 0 or height < 0:
            raise self.fault(
                f"'bbox' is x, y, width, height, and width and height are not negative; got {short(value)}."
            )
        return x, y, width, height

    def box(self, value: Any) -> Box:
        """x, y, width, height of the file as xyxy."""
        x, y, width, height = self.box_xywh(value)
        return x, y, x + width, y + height

    def segmentation(self, value: Any, size: Size) -> Polygons | RLE | None:
        """Checked polygons or run lengths; None where there is none (absent or an empty list)."""
        if value is None or (isinstance(value, list) and not value):
            return None
        if isinstance(value, dict):
            return self._lengths(value, size)
        if not isinstance(value, list):
            raise self.fault(f"'segmentation' must be a list of polygons or a run-length object, got {short(value)}.")
        return tuple(self._polygon(part) for part in value)

    def _polygon(self, part: Any) -> NDArray[np.float64]:
        if not isinstance(part, list):
            raise self.fault(
                f"a polygon must be a list x0, y0, x1, y1, ..., got {short(part)}: the outline is a list of these."
            )
        if len(part) % 2 or len(part) < 6:
            raise self.fault(
                f"a polygon needs an even number of coordinates, at least 6 (three corners), got {len(part)}: "
                f"{short(part)}. Remove this part or draw it again."
            )
        try:
            points = np.array(part, np.float64)
        except (TypeError, ValueError, OverflowError) as error:
            raise self.fault(f"a polygon must be a flat list of numbers, got {short(part)}.") from error
        if points.ndim != 1 or not np.isfinite(points).all():
            raise self.fault(f"a polygon must be a flat list of finite numbers, got {short(part)}.")
        return points

    def _lengths(self, value: Row, size: Size) -> RLE:
        counts, stated = value.get("counts"), value.get("size")
        if not isinstance(stated, list) or stated != list(size):
            raise self.fault(
                f"the run lengths are for a picture of size {short(stated)}, the picture is {list(size)} "
                f"(height, width). Correct the size, or make the mask again for this picture."
            )
        if isinstance(counts, list):
            whole = all(isinstance(n, int) and n >= 0 for n in counts)
            if not whole or sum(counts) != size[0] * size[1]:
                total = sum(counts) if whole else "not all whole numbers"
                raise self.fault(f"uncompressed run lengths must add up to {size[0] * size[1]} pixels, got {total}.")
        elif not isinstance(counts, str):
            raise self.fault(f"'counts' must be a string (compressed) or a list of whole numbers, got {short(counts)}.")
        return {"size": list(size), "counts": counts}


def short(value: Any) -> str:
    """How a value is shown in a message: its repr, cut at 80 characters."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def read_json(source: Path) -> Any:
    """The parsed file; a fault of the text is a DataError that says where it is."""
    try:
        return json.loads(source.read_bytes())
    except OSError as error:
        raise DataError(f"{source}: cannot be read ({error.strerror}). Check the path.") from error
    except json.JSONDecodeError as error:
        raise DataError(
            f"{source}: not valid JSON at line {error.lineno}, column {error.colno} ({error.msg}). "
            f"Was the file cut off or edited by hand?"
        ) from error
    except (UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"{source}: not JSON text ({error}).") from error


def box_tuple(values: NDArray[Any]) -> Box:
    """Four array elements as plain floats."""
    return float(values[0]), float(values[1]), float(values[2]), float(values[3])


def box_to_xywh(box: Sequence[float]) -> list[float]:
    """x, y, width, height of an xyxy box."""
    return [box[0], box[1], box[2] - box[0], box[3] - box[1]]


def write_sections(path: Path, sections: Mapping[str, Iterable[Row]]) -> None:
    """A JSON object of lists, row by row, or one list if its name is empty; beside the target, then renamed."""
    with replacing(path) as part, open(part, "w", encoding="utf-8") as out:
        bare = list(sections) == [""]
        for k, (name, rows) in enumerate(sections.items()):
            opening = "[" if bare else f'{"{" if k == 0 else ","}\n"{name}": ['
            out.write(opening)
            _write_rows(out.write, rows)
            out.write("]")
        out.write("\n" if bare else "}\n")


def _write_rows(write: Callable[[str], Any], rows: Iterable[Row]) -> None:
    for k, row in enumerate(rows):
        write((",\n" if k else "\n") + json.dumps(row, allow_nan=False))
