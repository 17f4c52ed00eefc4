"""Fields of annotation files, checked one by one, so that every error says where it is and what to do.

Letters: H W image. In the files boxes are x, y, width, height; in memory xyxy.
"""

import json
import math
import mmap
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskwright.atomic import replacing
from maskwright.data.dataset import RLE, Polygons
from maskwright.errors import DataError
from maskwright.errors import short as short
from maskwright.types import Clip, Frame, Size

Box = tuple[float, float, float, float]
Row = dict[str, Any]

MOST_DIGITS, MOST_LEVELS = 300, 64
"""Of a whole number, which then is a float too; of lists and objects inside each other."""

LARGEST = 1e30
"""Of a number of a file: areas and float32 stay finite. Where a coordinate would be drawn, a nearer limit holds."""

MOST_PIXELS = 2**32 - 1
"""Of an image: what run lengths can count."""

_WHOLE = re.compile(rf"\s*[+-]?\d{{1,{MOST_DIGITS}}}\s*")
_LONG_NUMBER = re.compile(rb"\d{%d}" % MOST_DIGITS)
_NO_STRUCTURE = bytes(set(range(256)) - set(b'[]{}"'))
_FRAME = frozenset(("video_id", "video", "frame_index"))


def whole(value: Any) -> int | None:
    """7, "7" and 7.0 as 7; None for anything else."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    text = isinstance(value, str) and _WHOLE.fullmatch(value) is not None
    return int(value) if text or (isinstance(value, float) and value.is_integer()) else None


class RecordError(DataError):
    """A fault of one record of a file. place: of the record. problem: what is wrong, without the place."""

    def __init__(self, place: str, problem: str) -> None:
        super().__init__(f"{place}: {problem}")
        self.place, self.problem = place, problem


Faults = list[DataError] | None
"""What a reader leaves out and goes on, where there is a list; None where it stops at the first fault."""


@dataclass(frozen=True)
class noted(AbstractContextManager[None]):
    """Inside, a DataError is appended to `faults`; it is raised where that is None."""

    faults: Faults

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if self.faults is None or not isinstance(error, DataError):
            return False
        self.faults.append(error)
        return True


@dataclass(frozen=True)
class Record:
    """One record of a file. name: what messages call it ("annotation id 7")."""

    source: Path
    name: str

    def fault(self, problem: str) -> RecordError:
        """The error to raise: where, and what is wrong."""
        return RecordError(f"{self.source}: {self.name}", problem)

    def table(self, row: Any) -> Row:
        """The row itself, if it is a JSON object."""
        if not isinstance(row, dict):
            raise self.fault(f"expected a JSON object, got {short(row)}.")
        return row

    def whole(self, row: Row, key: str) -> int:
        """An integer field; 7, "7" and 7.0 are all 7."""
        value = row.get(key)
        number = whole(value)
        if number is not None:
            return number
        if value is None:
            there = "is null" if key in row else f"is missing; the fields here are {short(sorted(row))}"
            raise self.fault(f"'{key}' {there}. Write it as an integer.")
        raise self.fault(f"'{key}' must be an integer, got {short(value)}. Number the records instead of naming them.")

    def size(self, row: Row, height: str = "height", width: str = "width") -> Size:
        """(H, W) from the two fields of these names."""
        size = self.whole(row, height), self.whole(row, width)
        if problem := size_problem(size, height, width):
            raise self.fault(problem)
        return size

    def number(self, row: Row, key: str) -> float:
        """A finite number field."""
        return self.numbers([row.get(key)], 1, f"'{key}'")[0]

    def numbers(self, values: Any, count: int, what: str) -> list[float]:
        """`count` finite numbers."""
        if isinstance(values, (list, tuple)) and len(values) == count:
            good = [float(v) for v in values if isinstance(v, (int, float)) and abs(v) < LARGEST]  # false for NaN
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
        return box_from_xywh(self.box_xywh(value))

    def listed(self, value: Any, what: str) -> list[Any]:
        """The value itself, if it is a list."""
        if not isinstance(value, list):
            raise self.fault(f"{what} must be a list, got {short(value)}.")
        return value

    def pair(self, value: Any, what: str) -> tuple[int, int]:
        """Two whole numbers."""
        if isinstance(value, (list, tuple)) and len(value) == 2 and all(type(v) is int for v in value):
            return value[0], value[1]
        raise self.fault(f"{what} must be pairs of whole numbers, got {short(value)}.")

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
        try:
            points = np.array(part if isinstance(part, list) else None, np.float64)
        except (TypeError, ValueError, OverflowError):
            points = np.array(np.nan)
        if points.ndim != 1 or not np.isfinite(points).all():
            raise self.fault(
                f"an outline is a list of polygons, and a polygon a flat list of numbers x0, y0, x1, y1, ..., all of "
                f"them finite, not a pair for each point; got {short(part)}."
            )
        if len(part) % 2 or len(part) < 6:
            one_point = "If it is one point of several, write all of them in one flat list x0, y0, x1, y1, ..."
            hint = one_point if len(part) == 2 else "Remove this part or draw it again."
            raise self.fault(
                f"a polygon needs an even number of coordinates, at least 6 (three corners), got {len(part)}: "
                f"{short(part)}. {hint}"
            )
        return points

    def _lengths(self, value: Row, size: Size) -> RLE:
        counts, stated = value.get("counts"), value.get("size")
        if not isinstance(stated, list) or stated != list(size):
            raise self.fault(
                f"the run lengths are for an image of size {short(stated)}, the image is {list(size)} "
                f"(height, width). Correct the size, or make the mask again for this image."
            )
        if isinstance(counts, list):
            total = sum(counts) if all(isinstance(n, int) and n >= 0 for n in counts) else "not all whole numbers"
            if total != size[0] * size[1]:
                raise self.fault(f"uncompressed run lengths must add up to {size[0] * size[1]} pixels, got {total}.")
        elif not isinstance(counts, str):
            raise self.fault(f"'counts' must be a string (compressed) or a list of whole numbers, got {short(counts)}.")
        return {"size": list(size), "counts": counts}


def size_problem(size: Size, height: str = "height", width: str = "width") -> str | None:
    """What is wrong with the (H, W) of an image, in words; None for nothing. height, width: the names of the fields."""
    if min(size) < 1:
        return f"{height} and {width} must be at least 1, got {size[0]} and {size[1]}."
    if size[0] * size[1] > MOST_PIXELS:
        pixels = f"more pixels than run lengths can count ({MOST_PIXELS})"
        return f"{height} {size[0]} and {width} {size[1]} make {pixels}; correct the size."
    return None


def identified(source: Path, rows: list[Any], kind: str, faults: Faults = None) -> Iterator[tuple[Record, int, Row]]:
    """Each row of a list with its id, and what messages call it ("annotation id 7"); ids must differ.

    Frees each row once it is read: parsed JSON is ten times larger than the result.
    """
    names: dict[int, object] = {}
    for position, row in enumerate(rows):
        with noted(faults):
            at = Record(source, f"{kind} {position} of the list")
            row = at.table(row)
            number, name = at.whole(row, "id"), row.get("file_name", row.get("name"))
            if number in names:
                owners = "" if name is None else f", for {short(names[number])} and {short(name)}"
                raise at.fault(f"the {kind} id {number} is used twice{owners}. Ids must differ.")
            names[number] = name
            rows[position] = None
            yield Record(source, f"{kind} id {number}"), number, row


def split_frame(row: Mapping[str, Any], index: int | None = None) -> tuple[Frame | None, Row]:
    """The frame that "video_id", "frame_index" and "video" (the clip's name) state, and the other fields.

    index: the frame's number where the row has none; without either there is no frame and all fields stay.
    """
    video, stated, name = row.get("video_id"), row.get("frame_index", index), row.get("video", "")
    if type(video) is not int or type(stated) is not int or not isinstance(name, str):
        return None, dict(row)
    return Frame(Clip(video, name), stated), {k: v for k, v in row.items() if k not in _FRAME}


def frame_fields(frame: Frame | None) -> Row:
    """The fields that `split_frame` reads."""
    if frame is None:
        return {}
    name = {"video": frame.clip.name} if frame.clip.name else {}
    return {"video_id": frame.clip.id, **name, "frame_index": frame.index}


def read_bytes(source: Path) -> bytes:
    """The content of a file. Raises DataError, naming the file, where it cannot be read."""
    try:
        return source.read_bytes()
    except OSError as error:
        raise DataError(f"{source}: cannot be read ({error.strerror}). Check the path.") from error


def read_json(source: Path) -> Any:
    """The parsed file. Raises DataError, naming line and column, where it is not JSON.

    More than `MOST_LEVELS` levels are refused, and a whole number of more than `MOST_DIGITS` digits is a float, mostly
    infinite like 1e999: what checks, copies and writes records need not defend itself against either.
    """
    content = read_bytes(source)
    too_deep = f"lists and objects lie in each other on more than {MOST_LEVELS} levels; no annotation tool writes this"
    try:
        parsed = json.loads(content, parse_int=_number if _LONG_NUMBER.search(content) else None)
        if not _is_shallow(content):
            raise ValueError(too_deep)
        return parsed
    except RecursionError as error:
        raise DataError(f"{source}: not JSON text ({too_deep}).") from error
    except json.JSONDecodeError as error:
        raise DataError(
            f"{source}: not valid JSON at line {error.lineno}, column {error.colno} ({error.msg}). "
            f"Was the file cut off or edited by hand?"
        ) from error
    except ValueError as error:  # text that is not UTF-8 among them
        raise DataError(f"{source}: not JSON text ({error}).") from error


def _number(digits: str) -> int | float:
    return int(digits) if len(digits) <= MOST_DIGITS else float(digits)


def _is_shallow(content: bytes) -> bool:
    """Whether valid JSON has at most `MOST_LEVELS` levels. Each round below takes the innermost level away."""
    if not json.detect_encoding(content).startswith("utf-8"):
        content = content.decode(json.detect_encoding(content)).encode()
    if b"\\" in content:
        content = re.sub(rb"\\.", b"", content, flags=re.DOTALL)  # escaped quotes
    outside = b"".join(content.translate(None, _NO_STRUCTURE).split(b'"')[::2])
    for _ in range(MOST_LEVELS):
        outside = outside.replace(b"[]", b"").replace(b"{}", b"")
    return not outside


def read_text(source: Path) -> str:
    """The text of a UTF-8 file, with or without byte order mark. Raises DataError, naming line and file."""
    content = read_bytes(source)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(f"{source}: line {line}: not UTF-8 text ({error.reason}). Save it as UTF-8.") from error


def read_names(source: Path) -> list[str]:
    """The lines of a text file, without empty ones and the spaces around them."""
    return [line.strip() for line in read_text(source).splitlines() if line.strip()]


def read_classes(source: Path, others: Collection[str] = ()) -> list[str]:
    """The class names in a text file, one a line and each once. others: lines that are no classes."""
    names = [name for name in read_names(source) if name not in others]
    if not names or len(set(names)) < len(names):
        raise DataError(f"{source}: needs at least one class name, one a line and each once; got {short(names)}.")
    return names


def box_tuple(values: NDArray[Any]) -> Box:
    """Four array elements as plain floats."""
    return float(values[0]), float(values[1]), float(values[2]), float(values[3])


def box_area(box: Box) -> float:
    """Width times height."""
    return (box[2] - box[0]) * (box[3] - box[1])


def box_from_xywh(box: Box) -> Box:
    """xyxy of x, y, width, height."""
    return box[0], box[1], box[0] + box[2], box[1] + box[3]


def box_to_xywh(box: Sequence[float]) -> list[float]:
    """x, y, width, height of an xyxy box, such that x + width gives x2 again to the last bit.

    Where no width does (rounding to even can skip x2), x + width is a neighbour of x2. Of several widths the one with
    the fewest digits is taken: 254.88, which the file may have had, not 254.88000000000002.
    """
    return [box[0], box[1], _extent(box[0], box[2]), _extent(box[1], box[3])]


def _extent(low: float, high: float) -> float:
    exact = float(high - low)
    rounded = (round(exact, digits) for digits in (1, 2, 3, 4, 6, 8, 10, 12))
    close = (exact, math.nextafter(exact, -math.inf), math.nextafter(exact, math.inf))
    return next((width for width in (*rounded, *close) if low + width == high), exact)


def json_keys(path: Path, names: Iterable[str]) -> frozenset[str]:
    """Those of `names` that occur as a key anywhere in a JSON file, found without parsing it; none if unreadable."""
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
            return frozenset(n for n in names if re.search(rb'"%s"\s*:' % n.encode(), text))
    except (OSError, ValueError):
        return frozenset()


def write_sections(path: Path, sections: Mapping[str, Any]) -> None:
    """Write a JSON object of sections, one line a row; a single section without a name becomes a bare list.

    The file is written beside the target and renamed. Numbers of NumPy become numbers. Raises DataError where a value
    is NaN, infinite or of another type that JSON does not have.
    """
    with replacing(path) as part, open(part, "w", encoding="utf-8") as out:
        _write_sections(path, out.write, sections)


def json_text(path: Path, value: Any, **options: Any) -> str:
    """JSON of a value, numbers and arrays of NumPy as numbers and lists. path: for messages; see `write_sections`."""
    try:
        return json.dumps(value, allow_nan=False, default=_of_numpy, **options)
    except ValueError as error:
        raise DataError(f"{path}: cannot be written, a number is NaN or infinite ({error}).") from error
    except TypeError as error:
        raise DataError(f"{path}: cannot be written as JSON ({error}). Convert it, or remove the field.") from error


def _of_numpy(value: object) -> Any:
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    raise TypeError(f"{short(value)} is of the type {type(value).__name__}")


def _write_sections(path: Path, write: Callable[[str], Any], sections: Mapping[str, Any]) -> None:
    bare = list(sections) == [""]
    for k, (name, rows) in enumerate(sections.items()):
        if not bare:
            write(f"{'{' if k == 0 else ','}\n{json.dumps(name)}: ")
        if isinstance(rows, (str, int, float, dict)) or rows is None:
            write(json_text(path, rows))
        else:
            write("[")
            for n, row in enumerate(rows):
                write((",\n" if n else "\n") + json_text(path, row))
            write("]")
    write("\n" if bare else "}\n")
