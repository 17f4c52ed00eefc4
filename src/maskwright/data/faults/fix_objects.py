"""Repairs of boxes, outlines and keypoints.

Letters: H W image, P landmarks. A repair changes the records of the draft, never a file, and returns what it did.
"""

import copy
from typing import Any

import numpy as np

from maskwright.data.faults import object_checks
from maskwright.data.faults.draft import Draft, NeedsPerson
from maskwright.data.faults.fix_records import drop_annotation, scale
from maskwright.data.faults.raw_rows import finite
from maskwright.data.faults.table import FAULTS, Finding
from maskwright.data.faults.view import CheckedObject
from maskwright.data.formats.shared.fields import Box, box_to_xywh
from maskwright.ops import masks as mask_ops
from maskwright.types import Masks, Size

# ---- boxes and outlines ---------------------------------------------------------------------------------------------


def box_of_outline(draft: Draft, finding: Finding) -> str:
    """The box of the outline; without one, its corners sorted or cut at the border; else remove the annotation."""
    obj = draft.obj(finding)
    row, box = obj.row, obj.row.get("bbox")
    if obj.extent is not None:
        row["bbox"] = box_to_xywh(obj.extent)
        return "box computed from the outline"
    if finding.fault == "box-beyond" and obj.box is not None:
        row["bbox"] = box_to_xywh(_cut(obj.box, obj.size))
        return "box cut at the border"
    if finding.fault == "bad-box" and isinstance(box, list) and len(box) == 4 and all(map(finite, box)):
        x, y, w, h = box
        row["bbox"] = [min(x, x + w), min(y, y + h), abs(w), abs(h)]
        return "corners put in order"
    return drop_annotation(draft, finding)


def _cut(box: Box, size: Size) -> Box:
    height, width = size
    x1, x2 = (min(max(v, 0.0), float(width)) for v in (box[0], box[2]))
    y1, y2 = (min(max(v, 0.0), float(height)) for v in (box[1], box[3]))
    return x1, y1, x2, y2


def write_numbers(draft: Draft, finding: Finding) -> str:
    draft.row(finding).update(copy.deepcopy(finding.detail))
    return f"{', '.join(finding.detail)} written as numbers"


def corners_to_box(draft: Draft, finding: Finding) -> str:
    row = draft.row(finding)
    x1, y1, x2, y2 = row["bbox"]
    row["bbox"] = [x1, y1, x2 - x1, y2 - y1]
    return "written as x, y, width, height"


def to_pixels(draft: Draft, finding: Finding) -> str:
    obj = draft.obj(finding)
    height, width = obj.size
    area: Any = obj.row.get("area")
    fields = [*finding.detail, *(["area"] if finite(area) and area <= 1.0001 else [])]
    scale(obj.row, width, height, fields)
    return f"{', '.join(fields)} multiplied by {width} and {height}"


def drop_polygons(draft: Draft, finding: Finding) -> str:
    """Remove unusable parts of the outline; an object without another part becomes a crowd region over its box."""
    row = draft.row(finding)
    outline: Any = row.get("segmentation")
    if finding.detail == "bbox":
        if not outline:
            return drop_annotation(draft, finding)
        obj = draft.obj(finding)
        if obj.extent is None:
            raise NeedsPerson("neither the box nor the outline can be used yet")
        row["bbox"] = box_to_xywh(obj.extent)
        return "box computed from the outline"
    plain = object_checks.flattened(outline)
    if plain is not None:
        row["segmentation"] = plain
        return "written as flat rows x0, y0, x1, y1, ..."
    if finding.fault == "odd-count" and _even(draft, finding, outline[finding.detail]):
        return "the last number dropped: the rest fits the box"
    if finding.fault == "non-finite-coordinate":
        points = list(zip(outline[finding.detail][0::2], outline[finding.detail][1::2], strict=False))
        sound = [p for p in points if all(finite(v) and abs(v) <= mask_ops.FARTHEST for v in p)]
        if len(sound) >= 3:
            outline[finding.detail] = [v for p in sound for v in p]
            return f"{len(points) - len(sound)} of {len(points)} points removed"
    if isinstance(outline, list) and isinstance(finding.detail, int) and len(outline) > 1:
        del outline[finding.detail]
        return "polygon removed"
    return crowd_region(draft, finding)


def _even(draft: Draft, finding: Finding, part: list[Any]) -> bool:
    last = part.pop()
    obj = draft.obj(finding)
    fits = obj.box is not None and obj.extent is not None and not object_checks.differs(obj.box, obj.extent)
    if not fits:
        part.append(last)
    return fits


def crowd_region(draft: Draft, finding: Finding) -> str:
    """An object whose outline is lost: its box becomes neither object nor background."""
    obj = draft.obj(finding)
    if obj.box is None:
        return drop_annotation(draft, finding)
    x1, y1, x2, y2 = (round(v) for v in _cut(obj.box, obj.size))
    if x2 <= x1 or y2 <= y1:
        return drop_annotation(draft, finding)
    draft.lose(obj.row)
    mask = Masks(obj.size, np.array([[y1, x1]]), (np.ones((y2 - y1, x2 - x1), np.bool_),))
    obj.row.update(segmentation=mask_ops.encode(mask)[0], iscrowd=1, area=(y2 - y1) * (x2 - x1))
    obj.row["bbox"] = [x1, y1, x2 - x1, y2 - y1]
    return "became a crowd region over its box"


def region_of_box(draft: Draft, finding: Finding) -> str:
    """A crowd region without outline gets its box as outline; an object does not."""
    obj = draft.obj(finding)
    if not obj.crowd:
        raise NeedsPerson(FAULTS[finding.fault].advice)
    return crowd_region(draft, finding)


def mend_lengths(draft: Draft, finding: Finding) -> str:
    """Run lengths with a wrong size or a missing end, if the mask then fits the box."""
    obj = draft.obj(finding)
    value = obj.row["segmentation"]
    counts = value["counts"]
    tries: list[tuple[str, Any]] = [("the size was corrected", counts)]
    if isinstance(counts, list) and all(isinstance(n, int) and n >= 0 for n in counts):
        rest = obj.size[0] * obj.size[1] - sum(counts)
        if rest > 0:
            longer = [*counts, rest] if len(counts) % 2 == 0 else [*counts[:-1], counts[-1] + rest]
            tries.append(("the missing end was filled with background", longer))
    before = dict(value)
    for what, candidate in tries:
        obj.row["segmentation"] = {"size": list(obj.size), "counts": candidate}
        mended = draft.obj(finding)
        if mended.extent and obj.box and not object_checks.differs(obj.box, mended.extent):
            return f"{what}; the mask fits the box"
    obj.row["segmentation"] = before
    return crowd_region(draft, finding)


def redraw(draft: Draft, finding: Finding) -> str:
    """The outline of the mask that the polygons draw, so that the mask stays the same; box and area follow."""
    obj = draft.obj(finding)
    if obj.mask is None:
        raise NeedsPerson("the outline cannot be drawn")
    obj.row["segmentation"] = outline_of(obj.mask, lengths=finding.fault == "crowd-as-polygon")
    if finding.fault == "outline-beyond":
        obj.row["bbox"] = box_to_xywh([float(v) for v in obj.mask.boxes()[0]])
        obj.row["area"] = int(obj.mask.areas()[0])
    return "replaced by the exact outline of the mask" if finding.fault != "crowd-as-polygon" else "run lengths"


def outline_of(mask: Masks, *, lengths: bool = False) -> Any:
    """COCO polygons that draw exactly this one mask, else (holes) or with `lengths` its run lengths."""
    parts = mask_ops.to_polygons(mask)[0]
    if not lengths and not any(part.holes for part in parts):
        polygons = [part.outer.reshape(-1).tolist() for part in parts]
        again = mask_ops.from_coco_polygons([polygons], mask.size)
        if mask_ops.encode(again) == mask_ops.encode(mask):
            return polygons
    return mask_ops.encode(mask)[0]


def without_repeats(draft: Draft, finding: Finding) -> str:
    obj = draft.obj(finding)
    shorter = [p[(p != np.roll(p, 1, axis=0)).any(axis=1)] for p in obj.polygons]
    if not shorter or obj.mask is None or min(map(len, shorter)) < 3:
        raise NeedsPerson("too few points would be left")
    flat = [p.reshape(-1).tolist() for p in shorter]
    again = mask_ops.from_coco_polygons([flat], obj.size)
    if mask_ops.encode(again) != mask_ops.encode(obj.mask):
        raise NeedsPerson("the mask would change")
    obj.row["segmentation"] = flat
    return "repeated points removed"


def count_area(draft: Draft, finding: Finding) -> str:
    obj = draft.obj(finding)
    if obj.place is None or (obj.mask is None and obj.row.get("segmentation")):
        raise NeedsPerson("neither box nor outline can be used yet")
    obj.row["area"] = _area(obj, obj.place)
    return f"set to {obj.row['area']}"


def fill_in(draft: Draft, finding: Finding) -> str:
    obj = draft.obj(finding)
    if obj.place is None:
        raise NeedsPerson("neither box nor outline can be used yet")
    values = {"bbox": box_to_xywh(obj.place), "area": _area(obj, obj.place), "iscrowd": 0}
    obj.row.update({key: values[key] for key in finding.detail})
    return f"{', '.join(finding.detail)} filled in"


def _area(obj: CheckedObject, box: Box) -> float:
    """The pixels of the mask; without one the area of the box."""
    return (box[2] - box[0]) * (box[3] - box[1]) if obj.mask is None else int(obj.mask.areas()[0])


def plain_crowd(draft: Draft, finding: Finding) -> str:
    row = draft.row(finding)
    value = str(row["iscrowd"]).strip().lower()
    meaning = {"true": 1, "false": 0, "1": 1, "0": 0, "1.0": 1, "0.0": 0, "none": 0}.get(value)
    if meaning is None:
        raise NeedsPerson("the value is ambiguous")
    row["iscrowd"] = meaning
    return f"became {meaning}"


def mend_keypoints(draft: Draft, finding: Finding) -> str:
    row = draft.row(finding)
    values = row["keypoints"]
    for k in finding.detail if isinstance(finding.detail, list) else ():
        x, y, v = values[3 * k : 3 * k + 3]
        placed = finite(x) and finite(y) and (x, y) != (0, 0) and finding.fault == "keypoint-visibility"
        values[3 * k : 3 * k + 3] = [x, y, 2] if placed and v != 0 else [0, 0, 0]
    row["num_keypoints"] = sum(v > 0 for v in values[2::3])
    return f"{row['num_keypoints']} annotated keypoints"
