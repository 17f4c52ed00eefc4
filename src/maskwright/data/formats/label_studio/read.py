"""Label Studio's own JSON ("JSON" in its export), read: a list of tasks, each an image and its annotations.

    {"data": {"image": "/data/upload/1/ab12cd34-a.png"},
     "annotations": [{"result": [{"type": "polygonlabels", "original_width": 80, "original_height": 60,
                                  "value": {"points": [[25, 16.6], ...], "polygonlabels": ["leaf"]}}]}]}

Rectangles, polygons, ellipses and brush strokes are objects, in percent of the image; with a separate list of labels, a
shape and its label are two results of one id. Objects may overlap and keep their pixels; none lies on top.
Letters: H W image. Coordinates are continuous pixels.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from maskwright.data.dataset import RLE, Dataset, ImageRecord, Polygons
from maskwright.data.formats.label_studio.brush import decode
from maskwright.data.formats.shared.fields import Faults, Record, Row, json_keys, noted, read_json, short
from maskwright.data.formats.shared.image_files import found_name, require_folder, size_of
from maskwright.data.formats.shared.losses import sentence
from maskwright.data.formats.shared.outlines import FileObject, box_corners, collect, ellipse, extent, rle_of, turned
from maskwright.data.formats.shared.shapes import left_out_notes
from maskwright.errors import DataError
from maskwright.types import Classes, Size

_SHAPES = ("rectangle", "polygon", "ellipse", "brush")
_ONE = "the ground truth, else the first, is read"
_UPLOAD = re.compile(r"^[0-9a-f]{2,}-")  # what Label Studio puts before the name of an uploaded file


@dataclass(frozen=True)
class _Task:
    """One task with an annotation. objects: (name of the class, object); their labels are set once all are known."""

    name: str
    size: Size
    objects: list[tuple[str, FileObject]]


@dataclass
class _Reader:
    """Reads the tasks of a file and counts what is unusual."""

    source: Path
    root: Path
    faults: Faults
    left_out: Counter[str] = field(default_factory=Counter)
    several: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)

    def task(self, at: Record, row: Row) -> _Task | None:
        """One task; None where it is not annotated."""
        chosen = self._annotation(at, row)
        if chosen is None:
            return None
        names = _names(at, row)
        name = next((name for name in names if found_name(self.root, name)), names[0])
        shapes: dict[object, list[Row]] = {}
        for k, result in enumerate(_rows(at, chosen, "result")):
            shapes.setdefault(k if result.get("id") is None else str(result["id"]), []).append(result)
        sizes = {s for own in shapes.values() for r in own if (s := self._stated(at, r)) is not None}
        if len(sizes) > 1:
            raise at.fault(f"its results are for images of several sizes (height, width): {sorted(sizes)}.")
        size = sizes.pop() if sizes else size_of(self.root / name, self.source, self.faults)
        objects = []
        for own in shapes.values():
            with noted(self.faults):
                objects.append(self._object(at, own, size))
        return _Task(name, size, [one for one in objects if one is not None])

    def _annotation(self, at: Record, row: Row) -> Row | None:
        """The ground truth, else the first annotation that was not cancelled."""
        rows = [a for a in _rows(at, row, "annotations", "completions") if not a.get("was_cancelled")]
        if len(rows) > 1:
            self.several.append(at.name)
        return next((a for a in rows if a.get("ground_truth")), rows[0] if rows else None)

    def _stated(self, at: Record, result: Row) -> Size | None:
        if result.get("original_width") is None and result.get("original_height") is None:
            return None
        if result.get("image_rotation"):
            turned_by = short(result["image_rotation"])
            raise at.fault(f"the image was turned by {turned_by} degrees while it was annotated. Annotate it upright.")
        return at.size(result, "original_height", "original_width")

    def _object(self, at: Record, results: Sequence[Row], size: Size) -> tuple[str, FileObject] | None:
        """The results of one id as an object; None where they are none."""
        shape: tuple[str, Row] | None = None
        labels: list[str] = []
        for result in results:
            kind, value = str(result.get("type", "")), at.table(result.get("value", {}))
            base = kind.removesuffix("labels")
            if base in _SHAPES:
                shape = shape or (base, value)
            elif kind != "labels":
                self.left_out[f"result{{s}} of the type '{kind}'"] += 1
            given = value.get(kind) if kind.endswith("labels") else None
            labels += [name for name in given if isinstance(name, str)] if isinstance(given, list) else []
        if shape is None or not labels:
            self.left_out["shape{s} without a label"] += shape is not None
            return None
        if len(set(labels)) > 1:
            self.labels.append(f"{labels[0]} of {', '.join(labels)}")
        at = Record(at.source, f"{at.name}, {shape[0]} '{labels[0]}'")
        own = FileObject(f"{at.source}: {at.name}", 0, None)
        if shape[0] == "rectangle" and not _degrees(at, shape[1]):
            return labels[0], replace(own, box=extent((_rectangle(at, shape[1], size),)))
        return labels[0], replace(own, segmentation=_outline(at, *shape, size))

    def notes(self, blank: int) -> tuple[str, ...]:
        """What is unusual, one sentence each. blank: tasks without an annotation."""
        return (
            *sentence(blank, "task{s} without an annotation not read (predictions are none)"),
            *sentence(len(self.several), f"task{{s}} with several annotations; {_ONE}", self.several),
            *sentence(len(self.labels), "object{s} with several labels, of which the first is the class", self.labels),
            *left_out_notes(self.left_out),
        )


def recognise(place: Path) -> bool:
    """A JSON file with data, annotations and results, or a folder whose only JSON file is one."""
    keys = ("data", "annotations", "completions", "result", "categories")
    found = json_keys(_file_of(place), keys)
    return {"data", "result"} <= found and "categories" not in found and bool(found & {"annotations", "completions"})


def load(place: Path, images: Path | None = None, faults: Faults = None) -> Dataset:
    """Read a file, or a folder with it. Classes are sorted by name.

    Without `images` the images are in the first of the file's folder and those called images, upload and media in it
    that has the first one. Raises DataError, naming the file and the task, for any fault. faults: gets those of tasks
    and shapes, which are then left out.
    """
    source = _file_of(place)
    require_folder(images, source)
    content = read_json(source)
    rows = content if isinstance(content, list) else [content]
    near = (source.parent, *(source.parent / name for name in ("images", "upload", "media")))
    first = list[str]()
    with noted([]):  # a fault comes again when the task is read
        first = _names(_record(source, 0, rows[0]), rows[0]) if rows else []
    found = [folder for folder in near if any(found_name(folder, name) for name in first)]
    reader = _Reader(source, images or (found or near)[0], faults)
    tasks, blank = list[_Task](), 0
    for k, row in enumerate(rows):
        with noted(faults):
            task = reader.task(_record(source, k, row), row)
            if task is None:
                blank += 1
            else:
                tasks.append(task)
    names = sorted({name for task in tasks for name, _ in task.objects})
    if not names:
        raise DataError(f"{source}: no task has an object, so there is no class. Annotate some, and export again.")
    label = {name: k for k, name in enumerate(names)}
    records, annotations = collect(
        (
            (ImageRecord(k, task.name, task.size), [replace(o, label=label[name]) for name, o in task.objects])
            for k, task in enumerate(tasks, start=1)
        ),
        faults,
    )
    return Dataset(Classes(names), records, annotations, reader.root, source, reader.notes(blank))


def _file_of(place: Path) -> Path:
    """The file itself, or the only JSON file of a folder."""
    files = sorted(place.glob("*.json")) if place.is_dir() else [place]
    return files[0] if len(files) == 1 else place


def _record(source: Path, k: int, row: Any) -> Record:
    at = Record(source, f"task {k} of the list")
    number = at.table(row).get("id")
    return at if number is None else Record(source, f"task id {short(number)}")


def _names(at: Record, row: Row) -> list[str]:
    """What the image's file may be called: the path of the task, its name, and the names before it was uploaded."""
    data = at.table(row.get("data"))
    texts = [text for text in (data.get("image"), *data.values()) if isinstance(text, str)]
    value = texts[0] if texts else ""
    try:
        url = urlsplit(value.replace("\\", "/"))
    except ValueError:
        url = urlsplit("")
    path = PurePosixPath(parse_qs(url.query).get("d", [unquote(url.path)])[0].lstrip("/"))
    if path.name in ("", ".."):
        raise at.fault(f"'data' must name the image, got {short(data)}.")
    uploaded = [row["file_upload"]] if isinstance(row.get("file_upload"), str) else []
    names = [path.name, path.as_posix(), *uploaded]
    names += [_UPLOAD.sub("", name) for name in (path.name, *uploaded)]
    return [name for name in names if name and ".." not in PurePosixPath(name).parts]


def _rows(at: Record, row: Row, *keys: str) -> list[Row]:
    """The objects of the first of these lists that is there."""
    value: Any = next((row[key] for key in keys if row.get(key) is not None), [])
    if not isinstance(value, list):
        raise at.fault(f"'{keys[0]}' must be a list, got {short(value)}.")
    return [at.table(one) for one in value]


# ---- shapes, in percent of the image --------------------------------------------------------------------------------


def _outline(at: Record, kind: str, value: Row, size: Size) -> Polygons | RLE:
    if kind == "brush":
        return rle_of(decode(at, value.get("rle"), size), 0, 0, size)
    if kind == "polygon":
        points = value.get("points")
        if not isinstance(points, list) or len(points) < 3:
            raise at.fault(f"a polygon needs at least 3 points, got {short(points)}. Draw it again, or remove it.")
        corners = np.array([at.numbers(p, 2, f"point {k}") for k, p in enumerate(points)])
        return ((corners * (size[1] / 100, size[0] / 100)).reshape(-1),)
    if kind == "rectangle":
        corners = _rectangle(at, value, size)
        return (turned(corners, corners[0, 0], corners[0, 1], _degrees(at, value)).reshape(-1),)
    x, y, rx, ry = (at.number(value, key) for key in ("x", "y", "radiusX", "radiusY"))
    across, down = size[1] / 100, size[0] / 100
    return (ellipse(x * across, y * down, rx * across, ry * down, _degrees(at, value)),)


def _rectangle(at: Record, value: Row, size: Size) -> np.ndarray[Any, np.dtype[np.float64]]:
    """(4, 2) its corners before it is turned around the first."""
    x, y, width, height = (at.number(value, key) for key in ("x", "y", "width", "height"))
    if width < 0 or height < 0:
        raise at.fault(f"width and height are not negative, got {width} and {height}.")
    return box_corners((x, y, x + width, y + height)) * (size[1] / 100, size[0] / 100)


def _degrees(at: Record, value: Row) -> float:
    """Clockwise on screen, below 360."""
    return at.number(value, "rotation") % 360 if value.get("rotation") is not None else 0.0
