"""Faults of one annotation: its box, outline, area, crowd flag and keypoints.

Letters: H W image, n corners of a polygon, P landmarks. Boxes are xyxy. `read` parses the geometry and reports
what cannot be parsed; the functions of `CHECKS` then check the rest, causes before their consequences.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskwright.data.faults.crossing import crosses_itself
from maskwright.data.faults.raw_rows import finite
from maskwright.data.faults.table import Finding
from maskwright.data.faults.texts import as_numbers
from maskwright.data.faults.view import CheckedImage, CheckedObject, RecordIndex
from maskwright.data.formats.shared.fields import Box, box_tuple, short, whole
from maskwright.errors import DataError
from maskwright.ops import masks as mask_ops
from maskwright.ops.polygons import signed_area
from maskwright.types import Size
from maskwright.wording import counted, of_size

Findings = Iterator[Finding | None]
BEYOND = 1.0  # pixels beyond the image that rounding in tools explains
TINY = 4  # pixels of an object that can hardly be learned


# ---- parsing --------------------------------------------------------------------------------------------------------


def read(view: RecordIndex, image: CheckedImage, at: int, size: Size) -> tuple[CheckedObject, list[Finding]]:
    """The annotation at this position, and the faults of its notation. size: (H, W) it is drawn on."""
    row = view.rows.annotations[at]
    obj = CheckedObject(at, row, image, size, whole(row.get("category_id")), view.where(at, image))
    found = [*_text(obj), *_box(obj), *_segmentation(obj)]
    if row.get("bbox") is None and not row.get("segmentation"):
        found.append(obj.finding("no-geometry", "has neither 'bbox' nor 'segmentation'"))
    return obj, [f for f in found if f is not None]


def _text(obj: CheckedObject) -> Findings:
    plain = as_numbers(obj.row)
    if plain:
        some = next(iter(plain))
        yield obj.finding("number-as-text", f"'{some}' is {short(obj.row[some])}", plain)


def _box(obj: CheckedObject) -> Findings:
    value = obj.row.get("bbox")
    if value is None:
        return
    if not isinstance(value, list) or len(value) != 4:
        yield obj.finding("bad-box", f"'bbox' must be x, y, width, height, got {short(value)}")
    elif not all(finite(v) and abs(v) <= mask_ops.FARTHEST for v in value):
        yield obj.finding("non-finite-coordinate", f"'bbox' is {short(value)}", "bbox")
    elif min(value[2:]) < 0:
        yield obj.finding("bad-box", f"width and height must not be negative, got {short(value)}")
    else:
        x, y, width, height = map(float, value)
        obj.box = (x, y, x + width, y + height)


def _segmentation(obj: CheckedObject) -> Findings:
    value = obj.row.get("segmentation")
    if value is None or value == []:
        return
    if isinstance(value, dict):
        yield from _lengths(obj, value)
    elif isinstance(value, list) and all(isinstance(part, list) for part in value):
        good = []
        for k, part in enumerate(value):
            problem = _polygon_problem(part)
            if problem is None:
                good.append(np.array(part, np.float64).reshape(-1, 2))
            else:
                yield obj.finding(problem[0], f"polygon {k}: {problem[1]}", k)
        obj.polygons = tuple(good) if len(good) == len(value) else ()
    else:
        yield obj.finding("bad-outline", f"expected a list of polygons or run lengths, got {short(value)}")


def _polygon_problem(part: list[object]) -> tuple[str, str] | None:
    if any(isinstance(v, (list, dict, str, bool)) for v in part):
        return "bad-outline", f"expected numbers x0, y0, x1, y1, ..., got {short(part)}"
    bad = [v for v in part if not finite(v) or abs(v) > mask_ops.FARTHEST]  # type: ignore[arg-type]
    if bad:
        return "non-finite-coordinate", f"holds {short(bad[0])}"
    if len(part) < 5:
        return "few-points", f"{len(part) // 2} points: {short(part)}"
    if len(part) % 2:
        return "odd-count", f"{len(part)} coordinates"
    return None


def flattened(outline: Any) -> list[Any] | None:
    """The polygons as flat rows where the mistake is clear: points as pairs, or one row that is not in a list."""
    if not isinstance(outline, list):
        return None
    if len(outline) >= 6 and all(map(_number, outline)):
        return [outline]
    if len(outline) >= 3 and all(map(_pair, outline)):
        return [[v for point in outline for v in point]]
    paired = [isinstance(part, list) and all(map(_pair, part)) for part in outline]
    plain = [[v for p in part for v in p] if pairs else part for part, pairs in zip(outline, paired, strict=True)]
    return plain if plain != outline else None


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _pair(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_number, value))


def _lengths(obj: CheckedObject, value: dict[str, object]) -> Findings:
    stated, counts = value.get("size"), value.get("counts")
    if not isinstance(counts, (str, list)) or not isinstance(stated, list) or len(stated) != 2:
        yield obj.finding("bad-outline", f"expected run lengths with 'size' and 'counts', got {short(value)}")
        return
    if stated != list(obj.size):
        yield obj.finding("rle-size", f"the run lengths are for {short(stated)}, the image is {list(obj.size)}")
        obj.found.add("rle-size")
        return
    lengths = {"size": stated, "counts": counts}
    try:
        obj.mask = mask_ops.decode([lengths])
    except DataError as error:
        yield obj.finding("rle-length", str(error).removeprefix("RLE 0: "))
        return
    obj.rle = lengths


# ---- checks of what was parsed --------------------------------------------------------------------------------------


def normalised(view: RecordIndex, obj: CheckedObject) -> Findings:
    """Fractions of the image in place of pixels; box, outline and keypoints each by itself. detail: which of them."""
    if min(obj.size) < 8:
        return
    outline, found = np.concatenate([np.zeros((0, 2)), *obj.polygons]), []
    if obj.box is not None and _fractions(np.asarray(obj.box)):
        height, width = obj.size
        scaled = box_tuple(np.asarray(obj.box) * [width, height, width, height])
        if obj.extent is None or _fractions(outline) or not differs(scaled, obj.extent):
            found.append("bbox")
    found += ["segmentation"] if _fractions(outline) else []
    points = obj.row.get("keypoints")
    if isinstance(points, list) and len(points) % 3 == 0 and all(map(finite, points)):
        seen = np.array(points, np.float64).reshape(-1, 3)
        seen = seen[seen[:, 2] > 0, :2]
        found += ["keypoints"] if _fractions(seen) and (found or len(seen) > 1) else []
    if found:
        text = f"all coordinates of {' and '.join(found)} lie in 0..1, the image is {of_size(obj.size)}"
        yield obj.finding("normalised-coordinates", text, found)


def _fractions(values: NDArray[np.float64]) -> bool:
    """Whether there are values, all of them in 0..1 and some of them between."""
    return values.size > 0 and values.min() >= 0 and values.max() <= 1.0001 and bool((values % 1 != 0).any())


def corners(view: RecordIndex, obj: CheckedObject) -> Findings:
    if obj.box is None or "normalised-coordinates" in obj.found:
        return
    x, y, right, bottom = obj.row["bbox"]
    if obj.extent is None:
        if view.boxes_are_corners and not obj.has_outline:
            yield obj.finding("box-as-corners", f"{short(obj.row['bbox'])}, as the other boxes of the file")
    elif differs(obj.box, obj.extent) and right > x and bottom > y:
        as_corners = (float(x), float(y), float(right), float(bottom))
        if not differs(as_corners, obj.extent):
            yield obj.finding("box-as-corners", f"{short(obj.row['bbox'])} are the corners of the outline")


def place(view: RecordIndex, obj: CheckedObject) -> Findings:
    """Outlines and boxes outside their image, or beyond its border."""
    if obj.found & {"normalised-coordinates", "box-as-corners"}:
        return
    for what, box in (("outline", obj.extent if obj.polygons else None), ("box", obj.box)):
        if box is None:
            continue
        text = f"x {box[0]:g} to {box[2]:g}, y {box[1]:g} to {box[3]:g}; the image is {of_size(obj.size)}"
        height, width = obj.size
        if box[0] >= width or box[1] >= height or box[2] <= 0 or box[3] <= 0:
            yield obj.finding(f"{what}-outside", text)
        elif overhang(box, obj.size) > BEYOND:
            yield obj.finding(f"{what}-beyond", text)


def area(view: RecordIndex, obj: CheckedObject) -> Findings:
    """No area, a tiny one, or one that differs from what the file states."""
    if obj.found & {"normalised-coordinates", "box-as-corners"}:
        return
    box = obj.box
    empty_box = box is not None and (box[2] == box[0] or box[3] == box[1])
    if obj.mask is None:
        if empty_box and not obj.row.get("segmentation"):
            yield obj.finding("zero-area", f"the box is {short(obj.row['bbox'])}")
        return
    pixels = int(obj.mask.areas()[0])
    if pixels == 0:
        yield obj.finding("zero-area", "the mask has no pixel")
        return
    if pixels < TINY:
        yield obj.finding("tiny-object", counted(pixels, "pixel"))
    stated: Any = obj.row.get("area")
    if finite(stated) and stated >= 0:
        outline = float(sum(abs(signed_area(p)) for p in obj.polygons)) if obj.polygons else pixels
        if min(abs(stated - v) for v in (pixels, outline)) > max(4.0, 0.1 * pixels):
            yield obj.finding("area-disagrees", f"stated {short(stated)}, the mask has {pixels} pixels")


def agreement(view: RecordIndex, obj: CheckedObject) -> Findings:
    """The box against the outline."""
    if obj.found & {"normalised-coordinates", "box-as-corners"} or obj.box is None or obj.extent is None:
        return
    if differs(obj.box, obj.extent):
        stated, own = ([round(v, 1) for v in box] for box in (obj.box, obj.extent))
        yield obj.finding("box-mask-disagree", f"the box is {stated}, that of the outline {own} (x1, y1, x2, y2)")


def shape(view: RecordIndex, obj: CheckedObject) -> Findings:
    """Polygons that cross themselves or repeat points; crowd regions of polygons."""
    if "normalised-coordinates" in obj.found:
        return
    crossing = [k for k, p in enumerate(obj.polygons) if crosses_itself(p)]
    if crossing:
        yield obj.finding("self-crossing", f"polygon {crossing[0]} of {len(obj.polygons)}", crossing)
    repeats = sum(int((p[1:] == p[:-1]).all(axis=1).sum()) for p in obj.polygons)  # the end may repeat the beginning
    if repeats:
        yield obj.finding("repeated-points", f"{repeats} of {sum(map(len, obj.polygons))} points")
    if obj.crowd and obj.polygons and view.rows.native:
        yield obj.finding("crowd-as-polygon", f"polygons: {len(obj.polygons)}")


def flags(view: RecordIndex, obj: CheckedObject) -> Findings:
    area = obj.row.get("area", 0)
    if area is not None and not (finite(area) and area >= 0):
        yield obj.finding("bad-area", f"'area' is {short(area)}")
    crowd = obj.row.get("iscrowd", 0)
    if crowd is not None and (crowd not in (0, 1) or isinstance(crowd, bool)):
        yield obj.finding("bad-crowd", f"'iscrowd' is {short(crowd)}")
    missing = [k for k in ("bbox", "area", "iscrowd") if obj.row.get(k) is None]
    if missing and obj.place is not None:
        yield obj.finding("missing-field", f"without {', '.join(missing)}", missing)


def keypoints(view: RecordIndex, obj: CheckedObject) -> Findings:
    values = obj.row.get("keypoints")
    if values is None or obj.category is None:
        return
    count = view.landmarks.get(obj.category, 0)
    if not isinstance(values, list) or len(values) != 3 * count:
        got = f"{len(values)} numbers" if isinstance(values, list) else short(values)
        text = f"{view.name(obj.category)} has {count} keypoints, so {3 * count} numbers; got {got}"
        yield obj.finding("keypoint-count", text)
        return
    points = [values[k : k + 3] for k in range(0, len(values), 3)]
    odd = [k for k, p in enumerate(points) if not all(map(finite, p)) or p[2] not in (0, 1, 2)]
    if odd:
        yield obj.finding("keypoint-visibility", f"keypoint {odd[0]} is {short(points[odd[0]])}", odd)
        return
    outside = [k for k, (x, y, v) in enumerate(points) if v > 0 and overhang((x, y, x, y), obj.size) > BEYOND]
    if outside:
        text = f"keypoint {outside[0]} is {short(points[outside[0]])}; the image is {of_size(obj.size)}"
        yield obj.finding("keypoint-outside", text, outside)
    number = sum(p[2] > 0 for p in points)
    if obj.row.get("num_keypoints", number) != number:
        yield obj.finding("keypoint-number", f"stated {short(obj.row['num_keypoints'])}, annotated {number}")


ObjectCheck = Callable[[RecordIndex, CheckedObject], Findings]
CHECKS: tuple[ObjectCheck, ...] = (normalised, corners, place, area, agreement, shape, flags, keypoints)
"""Each checks one annotation; causes come before their consequences."""


def overhang(box: Box, size: Size) -> float:
    """The most pixels by which a box reaches beyond a side of its image."""
    return max(-box[0], -box[1], box[2] - size[1], box[3] - size[0])


def differs(box: Box, other: Box) -> bool:
    """Whether they differ by more than rounding and spikes explain: 2 pixels, or a tenth of the side."""
    a, b = np.asarray(box), np.asarray(other)
    side = (b[2:] - b[:2])[[0, 1, 0, 1]]
    return bool((np.abs(a - b) > np.maximum(2.0, 0.1 * side)).any())
