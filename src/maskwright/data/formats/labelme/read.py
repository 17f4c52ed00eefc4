"""LabelMe: a folder with one JSON file for each image, usually beside it.

A shape is a polygon, rectangle, oriented rectangle, circle, bitmap ("mask") or point. Shapes of one label and one
`group_id` are the parts of one object, points of that group its landmarks, named by their labels. A hole is joined to
the polygon by a seam (see `ops.polygons.with_seams`). Fields that LabelMe does not have are written where it keeps
unknown ones: `track_id` and `box_only` in a shape, `landmarks` (by class: names, links, mirrored) at the top of the
file, the flag `crowd` of a shape and the flag `hidden` of a point.
Letters: H W image, n points. Coordinates are continuous pixels.
"""

import base64
import binascii
import math
import os
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np

from maskwright import media
from maskwright.atomic import replacing
from maskwright.data.dataset import RLE, Dataset, ImageRecord, Polygons
from maskwright.data.formats.shared.fields import (
    Faults,
    Record,
    Row,
    json_keys,
    noted,
    read_classes,
    read_json,
    short,
    split_frame,
    whole,
)
from maskwright.data.formats.shared.image_files import image_files, relative_names, require_folder, size_of
from maskwright.data.formats.shared.losses import sentence
from maskwright.data.formats.shared.outlines import FileObject, box_corners, collect, ellipse, extent, rle_of
from maskwright.data.formats.shared.shapes import (
    LoosePoints,
    ShapeGroup,
    assembled,
    completed,
    file_objects,
    left_out_notes,
)
from maskwright.errors import ConfigError, DataError, ImageError, suggest
from maskwright.types import Classes, Landmarks, Size

LABELS = "labels.txt"
"""The file with the classes in their order, one name a line; without it the labels are sorted."""

NO_CLASS = ("__ignore__", "_background_")  # LabelMe's own tools write them into labels.txt beside the classes
_AREAS = ("polygon", "rectangle", "oriented_rectangle", "rotation", "circle", "mask")
_POINTS = ("point", "points")
_LINES = ("line", "linestrip")
FILE_KEYS = frozenset(("version", "shapes", "imagePath", "imageData", "imageHeight", "imageWidth", "landmarks"))
SHAPE_KEYS = frozenset(("label", "points", "group_id", "shape_type", "mask", "track_id", "box_only"))


@dataclass
class _Sheet:
    """One file, read. guessed: whether its imagePath is no image. extra: its fields that have no place of their own."""

    at: Record
    image: Path
    guessed: bool
    size: Size
    objects: list[ShapeGroup]
    extra: Row
    landmarks: dict[str, Landmarks]


def recognise(place: Path) -> bool:
    """A folder in which the first JSON file has shapes and the name of an image."""
    files = (sorted(place.glob("*.json"))[:1] or _json_files(place)) if place.is_dir() else []
    return any(len(json_keys(first, ("shapes", "imagePath"))) == 2 for first in islice(files, 1))


def load(place: Path, images: Path | None = None, faults: Faults = None) -> Dataset:
    """Read a folder of LabelMe files, those in folders below too, or one such file.

    Without `images`, images are where the files say, or beside them. Rectangles are boxes without a mask where the
    whole set has nothing else, and outlines otherwise. Lines, and points that belong to no object, are left out and
    counted in `Dataset.notes`. Raises DataError for any fault. faults: gets those of files and shapes, left out then.
    """
    base = place if place.is_dir() else place.parent
    files = sorted(_json_files(place)) if place.is_dir() else [place]
    if not files:
        raise DataError(f"{place}: no JSON file in this folder. LabelMe writes one for each image.")
    require_folder(images, place)
    left_out: Counter[str] = Counter()
    sheets: list[_Sheet] = []
    for file in files:
        with noted(faults):
            sheets.append(_sheet(file, base, images, left_out, faults))
    classes = _classes(base / LABELS, [o for sheet in sheets for o in sheet.objects], left_out, faults)
    for sheet in sheets:
        sheet.objects = [o for o in sheet.objects if o.label in classes.names]
    objects = [o for sheet in sheets for o in sheet.objects]
    classes = Classes(classes.names, classes.ids, _landmarks(classes, sheets))
    boxes_only = all(o.boxes and not o.outlines for o in objects)
    root = _root([sheet.image for sheet in sheets], base) if images is None else images
    names = relative_names([sheet.image for sheet in sheets], root)

    def stated(k: int, sheet: _Sheet) -> tuple[ImageRecord, list[FileObject]]:
        frame, extra = split_frame(sheet.extra)
        record = ImageRecord(k + 1, names[k], sheet.size, extra, frame)
        return record, file_objects(sheet.objects, classes, sheet.size, faults, boxes=boxes_only)

    records, rows = collect((stated(k, sheet) for k, sheet in enumerate(sheets)), faults)
    notes = _notes(sheets, left_out, len(objects) if boxes_only else 0)
    return Dataset(classes, records, rows, root, place, notes)


def unpack(place: Path) -> tuple[Path, ...]:
    """Write the images that exist only inside their JSON files (imageData) beside these; gives their paths.

    Raises DataError where the data is not an image. Existing images are never touched.
    """
    written = []
    for file in sorted(_json_files(place)) if place.is_dir() else [place]:
        document, at = Record(file, "the file").table(read_json(file)), Record(file, "imageData")
        data, image = document.get("imageData"), _image(file, document, file.parent, None)
        target = file.parent / image.name
        if data and not image.is_file():
            content = _base64(at, data)
            _header(at, content)
            with replacing(target) as part:
                part.write_bytes(content)
            written.append(target)
    return tuple(written)


# ---- reading --------------------------------------------------------------------------------------------------------


def _json_files(folder: Path) -> Iterator[Path]:
    """The JSON files in a folder and those below it, hidden ones left out."""
    visible = (p for p in folder.rglob("*.json") if not any(n.startswith(".") for n in p.relative_to(folder).parts))
    return filter(Path.is_file, visible)


def _sheet(file: Path, base: Path, images: Path | None, left_out: Counter[str], faults: Faults) -> _Sheet:
    at = Record(file, "the file")
    document = at.table(read_json(file))
    shapes = document.get("shapes")
    if not isinstance(shapes, list):
        raise at.fault(f"a LabelMe file has the list 'shapes', found {short(sorted(document))}. Move other files away.")
    image = _image(file, document, base, images)
    size = _size(at, document, image)
    extra = {k: v for k, v in document.items() if k not in FILE_KEYS and not (k == "flags" and not v)}
    if not image.is_file() and document.get("imageData"):
        left_out["embedded"] += 1
    objects = _objects(file, shapes, size, left_out, faults)
    landmarks = _named_landmarks(at, document.get("landmarks"))
    return _Sheet(at, image, _name(document) is None, size, objects, extra, landmarks)


def _name(document: Row) -> PurePosixPath | None:
    """The path of the image, of any operating system, with /; of an absolute one the file name alone.

    None where it cannot be an image: missing, a folder, or a JSON file.
    """
    value = document.get("imagePath")
    path = PureWindowsPath(value if isinstance(value, str) else "")
    if path.name in ("", "..") or path.suffix.lower() == ".json":
        return None
    return PurePosixPath(path.name if path.anchor else path.as_posix())


def _image(file: Path, document: Row, base: Path, images: Path | None) -> Path:
    """The first of the possible places that has the image, else the first of them.

    Where `imagePath` is no image it is the one called like the JSON file, in the folder or inside the file.
    """
    name = _name(document)
    below = file.parent if images is None else images / file.parent.relative_to(base)
    if name is None:
        twins = [p for f in dict.fromkeys((below, images or below)) for p in image_files(f) if p.stem == file.stem]
        if not twins and not document.get("imageData"):
            text = f"'imagePath' must name the image, got {short(document.get('imagePath'))}"
            raise Record(file, "the file").fault(f"{text}, and {below} has no image called '{file.stem}'. Correct it.")
        return twins[0] if twins else below / f"{file.stem}.png"
    if images is None:
        places = [file.parent / name, file.parent / document["imagePath"], file.parent / name.name]
    else:
        places = [below / name.name, images / name, images / name.name]
    return Path(next((p for p in places if p.is_file()), places[0]))


def _root(images: Sequence[Path], base: Path) -> Path:
    """The folder of the files, or where that holds none of the images, the folder that they have in common."""
    full = [Path(os.path.abspath(p)) for p in images]
    own = Path(os.path.abspath(base))
    if any(p.is_relative_to(own) for p in full):
        return base
    try:
        return Path(os.path.commonpath([p.parent for p in full]))
    except ValueError:  # on several drives
        return base


def _size(at: Record, document: Row, image: Path) -> Size:
    if document.get("imageHeight") is not None and document.get("imageWidth") is not None:
        return at.size(document, "imageHeight", "imageWidth")
    if image.is_file():
        return size_of(image, at.source)
    if document.get("imageData"):
        return _header(at, _base64(at, document["imageData"]))
    raise at.fault(
        f"it has no imageHeight and imageWidth, and the image {image}, which would give them, "
        f"does not exist. Give the images' folder."
    )


def _header(at: Record, content: bytes) -> Size:
    try:
        return media.read_size(content)
    except ImageError as error:
        raise at.fault(f"'imageData' is not an image: {error}") from error


def _base64(at: Record, value: Any) -> bytes:
    if not isinstance(value, str):
        raise at.fault(f"expected an image as base64 text, got {short(value)}.")
    try:
        return base64.b64decode("".join(value.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise at.fault(f"the image is not base64 text ({error}): {short(value)}. Was the file cut off?") from error


def _objects(file: Path, shapes: Sequence[Any], size: Size, left_out: Counter[str], faults: Faults) -> list[ShapeGroup]:
    objects: list[tuple[ShapeGroup, Hashable]] = []
    points: list[LoosePoints] = []
    for k, row in enumerate(shapes):
        with noted(faults):
            at, name, kind, group = _kind(file, k, row)
            if name in NO_CLASS:
                left_out[f"shape{{s}} labelled {name}"] += 1
            elif kind in _POINTS:
                flags = row.get("flags") if isinstance(row.get("flags"), dict) else {}
                hidden = bool(flags and flags.get("hidden"))
                points.append(LoosePoints(f"{file}: {at.name}", group, name, _corners(at, row, 1), hidden))
            elif kind in _AREAS:
                objects.append((_shape(at, name, row, kind, size), group))
            else:
                left_out["line{s}"] += 1
    return assembled(objects, points, left_out, faults)


def _kind(file: Path, k: int, row: Any) -> tuple[Record, str, str, str | None]:
    """What messages call a shape, its label, its type and its group."""
    at = Record(file, f"shape {k}")
    row = at.table(row)
    name = row.get("label")
    if not isinstance(name, str) or not name.strip():
        raise at.fault(f"'label' must be the name of the class, got {short(name)}.")
    at = Record(file, f"shape {k} ('{name}')")
    kind, group = row.get("shape_type") or "polygon", row.get("group_id")
    if group is not None and not isinstance(group, (int, str)) and whole(group) is None:
        raise at.fault(f"'group_id' must be a number or text, got {short(group)}.")
    group = None if group is None else str(group if isinstance(group, str) else whole(group)).strip() or None
    if kind not in (*_AREAS, *_POINTS, *_LINES):
        raise at.fault(f"the shape type {short(kind)} is not known.{suggest(str(kind), (*_AREAS, *_POINTS))}")
    return at, name, kind, group


def _shape(at: Record, name: str, row: Row, kind: str, size: Size) -> ShapeGroup:
    """A shape as an object of its own."""
    own = ShapeGroup(f"{at.source}: {at.name}", name)
    outline = _outline(at, row, kind, size)
    if kind == "rectangle" and isinstance(outline, tuple):
        own.boxes, own.box_only = list(outline), bool(row.get("box_only"))
    else:
        own.outlines = [outline]
    if row.get("track_id") is not None:
        own.track_id = at.whole(row, "track_id")
    flags = dict(row["flags"]) if isinstance(row.get("flags"), dict) else {}
    own.crowd = bool(flags.pop("crowd", False))
    own.extra = {k: v for k, v in {**row, "flags": flags}.items() if k not in SHAPE_KEYS and v not in (None, "", {})}
    return own


def _outline(at: Record, row: Row, kind: str, size: Size) -> Polygons | RLE:
    if kind == "mask":
        return _bitmap(at, row, size)
    points = np.array(_corners(at, row, 3 if kind == "polygon" else 2), np.float64)
    if kind == "polygon" or (kind in ("rectangle", "oriented_rectangle", "rotation") and len(points) == 4):
        return (points.reshape(-1),)
    if len(points) != 2 or kind not in ("rectangle", "circle"):
        raise at.fault(f"a {kind} has {'2' if kind == 'circle' else '2 or 4'} points, got {len(points)}.")
    if kind == "circle":
        radius = math.dist(*points.tolist())
        return (ellipse(points[0, 0], points[0, 1], radius, radius),)
    return (box_corners(extent((points,))).reshape(-1),)


def _corners(at: Record, row: Row, least: int) -> list[list[float]]:
    points = row.get("points")
    if not isinstance(points, list) or len(points) < least:
        found = len(points) if isinstance(points, list) else short(points)
        raise at.fault(f"it needs at least {least} points, got {found}. Draw it again, or remove it.")
    return [at.numbers(p, 2, f"point {k}") for k, p in enumerate(points)]


def _bitmap(at: Record, row: Row, size: Size) -> RLE:
    """The pixels of a mask, cut at the image's border.

    Its points are the first and the last pixel; of fractions, which moving it leaves, the first is rounded, as in
    LabelMe, and the mask keeps its own extent.
    """
    corners = _corners(at, row, 2)
    content = _base64(at, row.get("mask"))
    try:
        crop = np.asarray(media.read_image(content).any(axis=2))
    except ImageError as error:
        raise at.fault(f"its mask is not an image: {error}") from error
    (left, top), (right, bottom) = [(round(x), round(y)) for x, y in corners[:2]]
    stated = (bottom - top + 1, right - left + 1)
    whole_corners = all(float(v).is_integer() for corner in corners for v in corner)
    if len(corners) != 2 or (whole_corners and crop.shape != stated):
        raise at.fault(
            f"its mask is {crop.shape[0]}x{crop.shape[1]} (height x width), and its points {corners} say "
            f"{stated[0]}x{stated[1]}: the first and last pixel, both counted. Draw it again."
        )
    return rle_of(crop, top, left, size)


# ---- classes and landmarks ------------------------------------------------------------------------------------------


def _classes(labels: Path, objects: Sequence[ShapeGroup], left_out: Counter[str], faults: Faults) -> Classes:
    used = dict.fromkeys(o.label for o in objects)
    if not labels.is_file():
        if not used:
            others = Counter({what: count for what, count in left_out.items() if what != "embedded"})
            found = "".join(f" {note}" for note in left_out_notes(others))
            raise DataError(
                f"{labels.parent}: no object in any file, so no class.{found} Draw areas, or name the classes in "
                f"{labels.name}."
            )
        return Classes(sorted(used))
    names = read_classes(labels, others=NO_CLASS)
    for unknown in (o for o in objects if o.label not in names):
        with noted(faults):
            raise DataError(
                f"{unknown.where}: the label '{unknown.label}' is not in {labels}.{suggest(unknown.label, names)} "
                f"Add it there or correct it."
            )
    return Classes(names)


def _named_landmarks(at: Record, value: Any) -> dict[str, Landmarks]:
    if value is None:
        return {}
    out = {}
    for name, row in at.table(value).items():
        row = at.table(row)
        points, links = row.get("names"), row.get("links", [])
        if not isinstance(points, list) or not all(isinstance(p, str) for p in points) or not isinstance(links, list):
            raise at.fault(f"'landmarks' of '{name}' must have the lists 'names' and 'links', got {short(row)}.")
        pairs = tuple(at.pair(pair, f"'links' of '{name}'") for pair in links)
        mirrored = row.get("mirrored")
        try:
            out[name] = Landmarks(tuple(points), pairs, None if mirrored is None else tuple(mirrored))
        except (ConfigError, TypeError) as error:
            raise at.fault(f"'landmarks' of '{name}': {error}") from error
    return out


def _landmarks(classes: Classes, sheets: Sequence[_Sheet]) -> tuple[Landmarks | None, ...]:
    """By label: the landmarks stated at the top of the files, then other names in order of appearance."""
    stated: dict[str, Landmarks] = {}
    for sheet in sheets:
        for name, marks in sheet.landmarks.items():
            if stated.setdefault(name, marks) != marks:
                raise sheet.at.fault(f"its landmarks of '{name}' differ from those of a file before. Make them equal.")
    points: dict[str, list[str]] = {name: [] for name in classes.names}
    for o in (o for sheet in sheets for o in sheet.objects):
        points[o.label] += o.points
    return tuple(completed(stated.get(name), own) for name, own in points.items())


def _notes(sheets: Sequence[_Sheet], left_out: Counter[str], boxes: int) -> tuple[str, ...]:
    embedded = left_out.pop("embedded", 0)
    notes = [*left_out_notes(left_out)]
    if boxes:
        notes.append(f"All objects ({boxes}) are rectangles: they are taken as boxes without masks.")
    guessed = [sheet.at.source.name for sheet in sheets if sheet.guessed]
    notes += sentence(len(guessed), "file{s} whose imagePath is no image; the image of the same name is taken", guessed)
    if embedded:
        notes.append(
            f"{embedded} of {len(sheets)} images exist only inside their JSON files. Unpack them first (the option "
            f"`unpack` of convert): this writes them beside these files."
        )
    return tuple(notes)
