"""Writing CVAT XML 1.1 "for images"; `read` says how fields that it does not have are written.

Run lengths become masks, polygons polygons (the parts of one object share a group), boxes boxes; landmarks a skeleton
labelled "NAME landmarks" in the object's group. Letters: H W image. Coordinates are continuous pixels.
"""

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import TextIO

import numpy as np

from maskwright.atomic import replacing
from maskwright.data.dataset import Annotation, Dataset
from maskwright.data.formats.cvat.elements import OWN
from maskwright.data.formats.cvat.read import LAYOUT
from maskwright.data.formats.shared.losses import check_names, lost_frames, sentence
from maskwright.data.formats.shared.outlines import in_form, tight
from maskwright.data.formats.shared.xml_tree import node, plain, tag
from maskwright.errors import DataError
from maskwright.types import Landmarks, Masks

_SUFFIX = " landmarks"


def save(place: Path, dataset: Dataset, copy: bool = True, segmentation: str | None = None) -> tuple[str, ...]:
    """Write a new .xml file (annotations alone), or a new folder of annotations.xml and, with `copy`, images/.

    Objects of no pixels are left out and counted. segmentation: the form of all outlines, see `in_form`.
    """
    _check(place, dataset)
    dataset = dataset if segmentation is None else in_form(dataset, segmentation)
    return LAYOUT.save(place, dataset, copy, lambda path, names: _write(path, dataset, names))


def _check(place: Path, dataset: Dataset) -> None:
    check_names(dataset, place)
    for name, marks in dataset.marked:
        if name + _SUFFIX in dataset.classes.names:
            text = f"the class '{name}{_SUFFIX}' would clash with the skeleton of '{name}'. Rename it."
            raise DataError(f"{place}: {text}")
        if len(set(marks.names)) < len(marks):
            text = f"two landmarks of '{name}' have one name, and CVAT knows them by name. Rename one."
            raise DataError(f"{place}: {text}")


def _write(path: Path, dataset: Dataset, names: list[str]) -> tuple[str, ...]:
    groups, empty = count(1), list[str]()
    with replacing(path) as part, open(part, "w", encoding="utf-8", newline="\n") as out:
        out.write('<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n')
        _write_head(out, dataset)
        for i, name in enumerate(names):
            record = dataset.images[i]
            split = record.extra.get("split")
            subset = {"subset": split} if isinstance(split, str) else {}
            values = {"id": i, "name": name, **subset, "width": record.size[1], "height": record.size[0]}
            out.write(f"  {tag('image', values)}\n")
            out.writelines(f"    {text}\n" for text in _shapes(dataset, i, groups, empty))
            out.write("  </image>\n")
        out.write("</annotations>\n")
    mirrored = [name for name, marks in dataset.marked if replace(marks, mirrored=None) != marks]
    return (
        *sentence(len(empty), "object{s} without a single pixel left out", empty),
        *sentence(len(mirrored), "class{es} lost the pairs that change places in a mirror", mirrored),
        *lost_frames(dataset),
    )


# ---- the head -------------------------------------------------------------------------------------------------------


def _write_head(out: TextIO, dataset: Dataset) -> None:
    named = _attribute_names(dataset)
    out.write(f"  <meta><task>{node('size', len(dataset))}{node('mode', 'annotation')}<labels>\n")
    for name, marks in zip(dataset.classes, dataset.classes.landmarks, strict=True):
        out.write(f"    {_label(name, 'any', ''.join(_attribute(a) for a in named))}\n")
        if marks is not None:
            out.write(f"    {_label(name + _SUFFIX, 'skeleton', '', node('svg', _svg(marks)))}\n")
            for point in marks.names:
                out.write(f"    {_label(point, 'points', '', node('parent', name + _SUFFIX))}\n")
    out.write("  </labels></task></meta>\n")


def _label(name: str, kind: str, attributes: str, rest: str = "") -> str:
    return f"<label>{node('name', name)}{node('type', kind)}<attributes>{attributes}</attributes>{rest}</label>"


def _attribute_names(dataset: Dataset) -> list[str]:
    rows = [a for own in dataset.annotations.values() for a in own]
    used = {k: None for a in rows if isinstance(a.extra.get("attributes"), dict) for k in a.extra["attributes"]}
    own = {"is_crowd": any(a.crowd for a in rows), "track_id": any(a.track_id is not None for a in rows)}
    return [*(name for name, there in own.items() if there), *(name for name in used if name not in OWN)]


def _attribute(name: str) -> str:
    kind, default, values = {
        "is_crowd": ("checkbox", "false", "false"),
        "track_id": ("number", "-1", f"-1\n{2**53}\n1"),
    }.get(name, ("text", "", ""))
    rest = f"{node('input_type', kind)}{node('default_value', default)}{node('values', values)}"
    return f"<attribute>{node('name', name)}{node('mutable', 'False')}{rest}</attribute>"


def _svg(marks: Landmarks) -> str:
    """A drawing of the skeleton with its points on a circle, from which CVAT reads the lines."""
    at = [2 * math.pi * k / max(len(marks), 1) for k in range(len(marks))]
    places = [(round(50 + 40 * math.sin(a), 2), round(50 - 40 * math.cos(a), 2)) for a in at]
    lines = []
    for a, b in marks.links:
        (x1, y1), (x2, y2) = places[a], places[b]
        ends = {"x1": x1, "y1": y1, "x2": x2, "y2": y2, "data-node-from": a + 1, "data-node-to": b + 1}
        lines.append(tag("line", {**ends, "data-type": "edge"}, "></line>"))
    points = []
    for k, ((x, y), name) in enumerate(zip(places, marks.names, strict=True)):
        own = {"r": 0.75, "cx": x, "cy": y, "data-node-id": k + 1, "data-element-id": k + 1, "data-label-name": name}
        points.append(tag("circle", {**own, "data-type": "element node"}, "></circle>"))
    return "".join(lines + points)


# ---- shapes ---------------------------------------------------------------------------------------------------------


def _shapes(dataset: Dataset, i: int, groups: Iterator[int], empty: list[str]) -> Iterator[str]:
    """The elements of one image. groups: numbers for new groups. empty: gets the objects that are left out."""
    rows = dataset.of(i)
    drawn = [k for k, a in enumerate(rows) if isinstance(a.segmentation, dict)]
    masks = dict(zip(drawn, dataset.draw(i, [rows[k] for k in drawn]), strict=True))
    for k, row in enumerate(rows):
        body = _mask(masks[k]) if k in masks else _outline(row)
        if not body:
            empty.append(f"annotation {row.id} of {dataset.images[i].file_name}")
            continue
        pose = _points(row, dataset.classes.landmarks[row.label])
        common: dict[str, object] = {"label": dataset.classes.names[row.label], "source": "manual"}
        common["occluded"] = int(bool(row.extra.get("occluded")))
        last: dict[str, object] = {"z_order": row.extra.get("z_order", 0)}
        if pose or len(body) > 1:
            last["group_id"] = next(groups)
        remarks = _remarks(row)
        for name, values in body:
            yield f"{tag(name, {**common, **values, **last})}{remarks}</{name}>"
        if pose:
            label = {"label": f"{common['label']}{_SUFFIX}", "source": "manual"}
            yield f"{tag('skeleton', {**label, **last})}{pose}</skeleton>"


def _outline(row: Annotation) -> list[tuple[str, dict[str, object]]]:
    """Polygons, or a box where there is no outline."""
    if row.segmentation is None:
        return [("box", dict(zip(("xtl", "ytl", "xbr", "ybr"), row.box, strict=True)))]
    parts = [np.asarray(part).reshape(-1, 2).tolist() for part in row.segmentation]
    return [("polygon", {"points": ";".join(f"{x},{y}" for x, y in part)}) for part in parts]


def _mask(masks: Masks) -> list[tuple[str, dict[str, object]]]:
    """The run lengths of the only mask of `masks`, row by row inside its tight window, background first."""
    found = tight(masks)
    if found is None:
        return []
    crop, top, left = found
    edges = np.flatnonzero(np.diff(crop.reshape(-1), prepend=False))  # runs alternate, and the first is background
    runs = np.diff([0, *edges.tolist(), crop.size])
    window = {"left": left, "top": top, "width": crop.shape[1], "height": crop.shape[0]}
    return [("mask", {"rle": ", ".join(map(str, runs.tolist())), **window})]


def _points(row: Annotation, marks: Landmarks | None) -> str:
    """The points of a skeleton; empty where none is annotated."""
    if marks is None or row.keypoints is None or not row.has_landmarks:
        return ""
    out = []
    for name, (x, y, visibility) in zip(marks.names, row.keypoints.tolist(), strict=True):
        state = {"outside": int(visibility == 0), "occluded": int(visibility == 1)}
        out.append(tag("points", {"label": name, "source": "manual", **state, "points": f"{x},{y}"}, "/>"))
    return "".join(out)


def _remarks(row: Annotation) -> str:
    values: dict[str, object] = {"is_crowd": "true"} if row.crowd else {}
    if row.track_id is not None:
        values["track_id"] = row.track_id
    others = row.extra.get("attributes")
    if isinstance(others, dict):
        values |= {k: v for k, v in others.items() if k not in OWN}
    return "".join(f"{tag('attribute', {'name': k})}{plain(v)}</attribute>" for k, v in values.items())
