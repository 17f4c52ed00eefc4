"""An annotated data set as raw records, so that sets that strict readers refuse can be checked as a whole.

Letters: H W image.
"""

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from maskwright.data import formats
from maskwright.data.dataset import Dataset
from maskwright.data.faults.table import FileSection, Finding
from maskwright.data.formats.coco.ids import number_names
from maskwright.data.formats.coco.layout import parts_of
from maskwright.data.formats.coco.rows import annotation_row, category_rows, image_row
from maskwright.data.formats.shared.fields import (
    LARGEST,
    RecordError,
    Row,
    read_json,
    short,
    size_problem,
    whole,
    write_sections,
)
from maskwright.data.formats.shared.foreign import named_tool, panoptic
from maskwright.data.formats.shared.image_files import found_name
from maskwright.errors import DataError
from maskwright.types import Size

SECTIONS: tuple[FileSection, ...] = ("images", "annotations", "categories")

GONE = object()
"""Takes the place of a removed record in its list, so that the positions of the others do not change."""


@dataclass(frozen=True)
class RawRows:
    """The three lists of a COCO file; sets of other formats are converted to them.

    path: the annotation file or folder. root: the images' folder. extra: the file's other sections.
    problems: what kept the file, or a section of it, from being read. native: whether it is a COCO file.
    named: how many ids of each section were names, which became numbers. places: by position, where an annotation is
    stated in a format without ids. mapped: whether the data set has semantic maps, which are no records.
    """

    path: Path
    root: Path | None
    images: list[Any] = field(default_factory=list)
    annotations: list[Any] = field(default_factory=list)
    categories: list[Any] = field(default_factory=list)
    extra: Mapping[str, Any] = field(default_factory=dict)
    problems: tuple[Finding, ...] = ()
    native: bool = True
    named: Mapping[FileSection, int] = field(default_factory=dict)
    places: Mapping[int, str] = field(default_factory=dict)
    mapped: bool = False

    def section(self, name: FileSection) -> list[Any]:
        """One of the three lists."""
        rows: list[Any] = getattr(self, name)
        return rows

    def where(self, at: int) -> str:
        """What messages call an annotation."""
        return self.places.get(at) or f"annotation {self.annotations[at].get('id')}"

    def copy(self) -> "RawRows":
        """A copy that shares no record with this one."""
        lists: dict[str, Any] = {s: copy.deepcopy(self.section(s)) for s in SECTIONS}
        return replace(self, **lists)


def read(path: Path, images: Path | None = None, format: str | None = None) -> RawRows:
    """The records of a data set of any format; what cannot be read at all is in `problems`.

    images: the folder of the images; None: that of the format, for COCO JSON one near the file.
    Raises DataError where there is no such file or folder, ConfigError for an unknown format.
    """
    for place in (path, *(() if images is None else (images,))):
        if not place.exists():
            raise DataError(f"{place}: there is no such file or folder.")
    if images is not None and not images.is_dir():
        raise DataError(f"{images}: expected the folder of the images, found a file.")
    if format is not None:
        formats.find(format)
    faults: list[DataError] = []
    try:
        parts = parts_of(path)
        file = parts[0].file if len(parts) == 1 else path
        if format in (None, "coco") and file.is_file() and (format == "coco" or file.suffix.lower() == ".json"):
            content = read_json(file)
            if format == "coco" or _looks_like_coco(content):
                return _of_json(file, _root(parts[0].folders, content) if images is None else images, content)
        chosen = formats.recognise(path) if format is None else formats.find(format)
        dataset = chosen.read(path, images, faults)  # not formats.load, which corrects the names of images
        return of_dataset(dataset, faults)
    except DataError as error:
        problem = str(error).removeprefix(f"{path}: ")  # the finding names the file itself
        others = (Finding("malformed-record", *_placed(fault)) for fault in faults)
        return RawRows(path, images, problems=(Finding("unreadable-annotations", path.name, problem), *others))


class Unread(NamedTuple):
    """What a reader left out, in the list of the annotations: where it is, and what is wrong."""

    place: str
    problem: str


def _placed(fault: DataError) -> Unread:
    if isinstance(fault, RecordError):
        return Unread(fault.place, fault.problem)
    place, _, problem = str(fault).partition(": ")
    return Unread(place, problem)


def of_dataset(dataset: Dataset, faults: Sequence[DataError] = ()) -> RawRows:
    """A data set as the records of a COCO file. faults: what its reader left out."""
    places = dict(enumerate(a.place for i in range(len(dataset)) for a in dataset.of(i) if a.place))
    images = [image_row(r, r.file_name) for r in dataset.images]
    annotations: list[Any] = [
        annotation_row(a, dataset.classes.ids) for i in range(len(dataset)) for a in dataset.of(i)
    ]
    annotations += map(_placed, faults)
    categories = list(category_rows(dataset))
    return RawRows(
        dataset.source,
        dataset.root,
        images,
        annotations,
        categories,
        dataset.extra,
        native=False,
        places=places,
        mapped=dataset.semantic_maps is not None,
    )


def finite(value: Any) -> bool:
    """Whether a JSON value is a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < LARGEST


def stated_size(row: Row) -> Size | None:
    """(H, W) of an image record; None where it is missing or impossible."""
    height, width = whole(row.get("height")), whole(row.get("width"))
    if height is None or width is None or size_problem((height, width)):
        return None
    return height, width


def write(path: Path, rows: RawRows) -> int:
    """Write the remaining records as a COCO file; returns how many NaN and infinite numbers became null."""
    content: dict[str, Any] = dict(rows.extra)
    content.update((s, [r for r in rows.section(s) if r is not GONE]) for s in SECTIONS)
    cleared: list[str] = []
    try:
        write_sections(path, content)
    except DataError:  # JSON has no NaN; the parser calls append, which returns None, for each of them
        write_sections(path, json.loads(json.dumps(content), parse_constant=cleared.append))
    return len(cleared)


def _looks_like_coco(content: Any) -> bool:
    sections = (
        isinstance(content, dict) and "images" in content and ("annotations" in content or "categories" in content)
    )
    return sections and panoptic(content) is None


def _of_json(path: Path, root: Path, content: Any) -> RawRows:
    if not isinstance(content, dict):
        hint = " A list is a result file, not an annotation file." if isinstance(content, list) else ""
        text = f"{path}: expected an object of images, annotations and categories, got {type(content).__name__}.{hint}"
        return RawRows(path, root, problems=(Finding("unreadable-annotations", path.name, text),))
    if (tool := named_tool(content) or panoptic(content)) is not None:
        return RawRows(path, root, problems=(Finding("unreadable-annotations", path.name, tool),))
    given = {name: content.pop(name, None) for name in SECTIONS}
    lists: dict[str, Any] = {name: value for name, value in given.items() if isinstance(value, list)}
    problems = []
    for name in [s for s in SECTIONS if s not in lists]:
        found = "is missing" if given[name] is None else f"must be a list, got {short(given[name])}"
        problems.append(Finding("unreadable-annotations", path.name, f"the section '{name}' {found}", detail=name))
    named: Any = number_names(lists)
    return RawRows(path, root, extra=content, problems=tuple(problems), named=named, **lists)


def _root(folders: Sequence[Path], content: Any) -> Path:
    """The first of the folders that has one of the first images, else the first folder."""
    images = content.get("images") if isinstance(content, dict) else None
    some = [r.get("file_name") for r in (images if isinstance(images, list) else [])[:50] if isinstance(r, dict)]
    names = [name for name in some if isinstance(name, str) and name and "\0" not in name]
    return next((f for f in folders if any(found_name(f, name) for name in names)), folders[0])
