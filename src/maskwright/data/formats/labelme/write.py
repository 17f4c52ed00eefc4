"""Writing LabelMe folders; `read` says how fields that LabelMe does not have are written.

Letters: H W image. Coordinates are continuous pixels.
"""

import base64
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maskwright import media
from maskwright.atomic import new_folder
from maskwright.data.dataset import Annotation, Dataset, Polygons, draw_segmentations
from maskwright.data.formats.labelme.read import FILE_KEYS, LABELS, NO_CLASS, SHAPE_KEYS
from maskwright.data.formats.shared.fields import Row, frame_fields, json_text
from maskwright.data.formats.shared.image_files import copy_images, inner_names, require_distinct
from maskwright.data.formats.shared.losses import check_names, sentence
from maskwright.data.formats.shared.outlines import in_form, polygons_of, tight
from maskwright.data.formats.shared.saving import write_text
from maskwright.types import Landmarks, Size


def save(place: Path, dataset: Dataset, copy: bool = True, segmentation: str | None = None) -> tuple[str, ...]:
    """Write a new folder: a JSON file for each image, `labels.txt`, and with `copy` the images beside the files.

    Without `copy` the files point at the images where they are. Objects of no pixels are left out and counted.
    segmentation: "rle" writes every outline as a bitmap (a `mask` shape), which LabelMe reads to the same pixels; else
    they are polygons.
    """
    dataset = dataset if segmentation is None else in_form(dataset, segmentation)
    check_names(dataset, place, reserved=NO_CLASS)
    if copy:
        dataset.require_files()
    names = inner_names(dataset)
    sheets = [PurePosixPath(name).with_suffix(".json").as_posix() for name in names]
    require_distinct(dataset, sheets, "the file")
    empty: list[str] = []
    with new_folder(place) as folder:
        if copy:
            copy_images(dataset, folder, names)
        write_text(folder / LABELS, "".join(f"{n}\n" for n in (*NO_CLASS, *dataset.classes.names)))
        for i, (name, sheet) in enumerate(zip(names, sheets, strict=True)):
            path = PurePosixPath(name).name if copy else _path_from(place / sheet, dataset, i)
            document = _document(dataset, i, path, empty, bitmaps=segmentation == "rle")
            write_text(folder / sheet, json_text(place / sheet, document, ensure_ascii=False, indent=1) + "\n")
    return sentence(len(empty), "object{s} without a single pixel left out", empty)


def _path_from(sheet: Path, dataset: Dataset, i: int) -> str:
    """The path of the image as the JSON file `sheet` names it."""
    if dataset.root is None:
        return dataset.images[i].file_name
    try:
        return Path(os.path.relpath(dataset.path(i), sheet.parent)).as_posix()
    except ValueError:  # another drive
        return Path(os.path.abspath(dataset.path(i))).as_posix()


def _document(dataset: Dataset, i: int, path: str, empty: list[str], *, bitmaps: bool) -> Row:
    record, rows, shapes, group = dataset.images[i], dataset.of(i), [], 0
    for row, outline in zip(rows, (_bitmaps if bitmaps else polygons_of)(rows, record.size), strict=True):
        marks = dataset.classes.landmarks[row.label]
        points = [] if marks is None or row.keypoints is None else list(zip(marks.names, row.keypoints, strict=True))
        if outline == ():
            empty.append(f"annotation {row.id} of {record.file_name}")
            continue
        joined = (isinstance(outline, tuple) and len(outline) > 1) or bool(points)
        group += joined
        shapes += _shapes(dataset, row, outline, group if joined else None)
        shapes += [_point(name, p, group) for name, p in points if p[2] > 0]
    extra = {k: v for k, v in record.extra.items() if k not in FILE_KEYS}
    return sheet(shapes, path, record.size, dataset.marked, {**extra, **frame_fields(record.frame)})


def sheet(
    shapes: Sequence[Row],
    path: str,
    size: Size,
    marked: Iterable[tuple[str, Landmarks]] = (),
    fields: Mapping[str, Any] = MappingProxyType({}),
) -> Row:
    """A file of LabelMe. path: of the image, of `size` (H, W). marked: classes with landmarks. fields: of the file."""
    named = {name: _landmark_row(marks) for name, marks in marked}
    return {
        "version": "5.5.0",
        "flags": {},
        **fields,
        **({"landmarks": named} if named else {}),
        "shapes": shapes,
        "imagePath": path,
        "imageData": None,
        "imageHeight": size[0],
        "imageWidth": size[1],
    }


def _landmark_row(marks: Landmarks) -> Row:
    own = {"names": list(marks.names), "links": [list(pair) for pair in marks.links]}
    plain = replace(marks, mirrored=None) == marks
    return own if plain else {**own, "mirrored": list(marks.mirrored or ())}


def _bitmaps(rows: Sequence[Annotation], size: Size) -> list[Row | tuple[()] | None]:
    """The fields of a `mask` shape for each annotation; None where there is only a box, () where there is no pixel."""
    drawn = iter(draw_segmentations([a.segmentation for a in rows if a.segmentation is not None], size))
    out: list[Row | tuple[()] | None] = []
    for row in rows:
        found = None if row.segmentation is None else tight(next(drawn))
        if found is None:
            out.append(None if row.segmentation is None else ())
            continue
        crop, top, left = found
        png = media.encoded(Image.fromarray(crop.astype(np.uint8)), "PNG")
        corners = [[left, top], [left + crop.shape[1] - 1, top + crop.shape[0] - 1]]
        out.append({"shape_type": "mask", "points": corners, "mask": base64.b64encode(png).decode()})
    return out


def _shapes(dataset: Dataset, row: Annotation, outline: Polygons | Row | None, group: int | None) -> list[Row]:
    flags = dict(row.extra["flags"]) if isinstance(row.extra.get("flags"), dict) else {}
    extra: Mapping[str, Any] = {k: v for k, v in row.extra.items() if k not in SHAPE_KEYS and k != "flags"}
    common: Row = {
        "label": dataset.classes.names[row.label],
        "group_id": group,
        "description": "",
        "flags": {**flags, "crowd": True} if row.crowd else flags,
        "mask": None,
        **extra,
    }
    if row.track_id is not None:
        common["track_id"] = row.track_id
    if outline is None:
        x0, y0, x1, y1 = row.box
        return [{**common, "shape_type": "rectangle", "points": [[x0, y0], [x1, y1]], "box_only": True}]
    if isinstance(outline, dict):
        return [{**common, **outline}]
    return [{**common, "shape_type": "polygon", "points": part.reshape(-1, 2).tolist()} for part in outline]


def _point(name: str, point: NDArray[np.float64], group: int) -> Row:
    x, y, visibility = (float(v) for v in point)
    flags = {"hidden": True} if visibility == 1 else {}
    place = {"points": [[x, y]], "group_id": group, "shape_type": "point"}
    return {"label": name, **place, "description": "", "flags": flags, "mask": None}
