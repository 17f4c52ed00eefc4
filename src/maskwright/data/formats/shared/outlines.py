"""From the objects that a file states to annotations, and from annotations back to polygons.

Letters: N objects of one image, n points of a ring. Boxes are xyxy in the image's continuous pixels.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from maskwright.data.dataset import RLE, Annotation, Dataset, ImageRecord, Polygons, draw_named
from maskwright.data.formats.shared.fields import Box, Faults, box_area, box_tuple, noted
from maskwright.errors import ConfigError, DataError, suggest
from maskwright.ops import masks as mask_ops
from maskwright.types import BoolArray, IntArray, Landmarks, Masks, Size

FORMS = ("polygon", "rle")
"""The forms of an outline, as `in_form` knows them."""

_COUNTABLE = 1 << 16  # values up to which a table with an entry for each is made
_CIRCLE_ERROR = 0.05  # pixels by which the polygon of a circle may miss it


@dataclass(frozen=True, slots=True, eq=False)
class FileObject:
    """One object as a file states it. where: the record, for messages. The fields are those of `Annotation`.

    box: None where it follows from the outline, or from the landmarks where there is no outline.
    """

    where: str
    label: int
    segmentation: Polygons | RLE | None
    box: Box | None = None
    crowd: bool = False
    keypoints: NDArray[np.float64] | None = None
    track_id: int | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


def collect(
    images: Iterable[tuple[ImageRecord, Sequence[FileObject]]], faults: Faults = None
) -> tuple[tuple[ImageRecord, ...], dict[int, tuple[Annotation, ...]]]:
    """The records, and their annotations by image id, numbered from 1 through all images.

    faults: gets those of outlines that cannot be drawn, whose objects are then left out.
    """
    records, rows, first = [], {}, 1
    for record, objects in images:
        records.append(record)
        rows[record.id] = _drawable(record, objects, first, faults)
        first += len(rows[record.id])
    return tuple(records), rows


def _drawable(
    record: ImageRecord, objects: Sequence[FileObject], first_id: int, faults: Faults
) -> tuple[Annotation, ...]:
    """`annotations`; where there is a list of faults, of the objects that can be drawn."""
    try:
        return annotations(record, objects, first_id)
    except DataError:
        if faults is None:
            raise
    rows: list[Annotation] = []
    for one in objects:
        with noted(faults):
            rows += annotations(record, (one,), first_id + len(rows))
    return tuple(rows)


def annotations(record: ImageRecord, objects: Sequence[FileObject], first_id: int) -> tuple[Annotation, ...]:
    """The annotations of one image, numbered from `first_id`; a missing box is the extent, the area that of the mask.

    Raises DataError, beginning with the object's `where`, for an outline that cannot be drawn.
    """
    outlined = [(o.segmentation, o.where) for o in objects if o.segmentation is not None]
    masks = draw_named(outlined, record.size)
    areas, tight = iter(masks.areas().tolist()), iter(masks.boxes())
    rows = []
    for k, o in enumerate(objects):
        if o.segmentation is None:
            box = o.box or _box_of_points(o)
            area = box_area(box)
        else:
            around, area = next(tight), float(next(areas))
            box = o.box or (box_tuple(around) if isinstance(o.segmentation, dict) else extent(o.segmentation))
        own = (o.crowd, o.keypoints, o.track_id, o.extra, o.where)
        rows.append(Annotation(first_id + k, record.id, o.label, box, o.segmentation, area, *own))
    return tuple(rows)


def _box_of_points(o: FileObject) -> Box:
    seen = o.keypoints[o.keypoints[:, 2] > 0, :2] if o.keypoints is not None else np.zeros((0, 2))
    if not len(seen):
        raise DataError(f"{o.where}: has no outline, no box and no visible landmark. Remove it or draw it again.")
    return extent((seen,))


def keypoints_of(
    marks: Landmarks | None, points: Mapping[str, tuple[float, float, float]]
) -> NDArray[np.float64] | None:
    """(P, 3) the named points in the order of the class's landmarks, zeros for those that are missing."""
    if marks is None or not points:
        return None
    return np.array([points.get(name, (0.0, 0.0, 0.0)) for name in marks.names], np.float64)


def extent(polygons: Sequence[NDArray[np.float64]]) -> Box:
    """The box around all points of some polygons."""
    points = np.concatenate(polygons).reshape(-1, 2)
    return box_tuple(np.concatenate([points.min(axis=0), points.max(axis=0)]))


def box_corners(box: Box) -> NDArray[np.float64]:
    """(4, 2) the corners of a box, clockwise on screen from the upper left."""
    x0, y0, x1, y1 = box
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], np.float64)


def _label_windows(values: NDArray[np.integer[Any]]) -> list[tuple[int, tuple[slice, slice]]]:
    """Each value but 0 of a label image (H, W) with the rectangle it lies in, in rising order."""
    if values.max() < _COUNTABLE:
        found = enumerate(ndimage.find_objects(values.astype(np.int32)), start=1)
        return [(value, window) for value, window in found if window is not None]
    present, places = np.unique(values, return_inverse=True)  # a table of all values up to the last would be too large
    windows = ndimage.find_objects(places.reshape(values.shape).astype(np.int32) + 1)
    return [(value, window) for value, window in zip(present.tolist(), windows, strict=True) if value]


def label_masks(values: NDArray[np.integer[Any]], without: int = 0) -> tuple[IntArray, Masks]:
    """The values (N,) of a label image (H, W) but 0 and `without` in rising order, and the mask of each."""
    found = [(value, window) for value, window in _label_windows(values) if value != without]
    corners = np.array([(w[0].start, w[1].start) for _, w in found], np.int64).reshape(-1, 2)
    crops = tuple(values[window] == value for value, window in found)
    labels = np.array([value for value, _ in found], np.int64)
    return labels, Masks((values.shape[0], values.shape[1]), corners, crops)


def polygons_of(rows: Sequence[Annotation], size: Size) -> list[Polygons | None]:
    """The outline of each annotation as polygons, one a part; None where there is only a box.

    Polygons stay as they are. Run lengths become exact outlines, holes joined by seams: drawn again they give the same
    pixels. A mask without pixels has no polygon.
    """
    out: list[Polygons | None] = [None if a.segmentation is None else () for a in rows]
    lengths = [k for k, a in enumerate(rows) if isinstance(a.segmentation, dict)]
    masks = draw_named([(rows[k].segmentation or {}, f"annotation {rows[k].id}") for k in lengths], size)
    for k, parts in zip(lengths, mask_ops.to_polygons(masks), strict=True):
        out[k] = tuple(mask_ops.with_seams(part).reshape(-1) for part in parts)
    return [a.segmentation if isinstance(a.segmentation, tuple) else p for a, p in zip(rows, out, strict=True)]


def in_form(dataset: Dataset, form: str | None) -> Dataset:
    """The data set with outlines as polygons ("polygon") or run lengths ("rle"), which fill the same pixels.

    None: as they are, and crowd regions as run lengths, which COCO has for them. A mask without a pixel stays as it is.
    """
    if form not in (None, *FORMS):
        raise ConfigError(f"segmentation is one of {', '.join(FORMS)}, got '{form}'.{suggest(str(form), FORMS)}")
    out = {}
    for record in dataset.images:
        rows = list(dataset.annotations[record.id])
        if form == "polygon":
            pairs = zip(rows, polygons_of(rows, record.size), strict=True)
            out[record.id] = tuple(replace(a, segmentation=outline or a.segmentation) for a, outline in pairs)
            continue
        chosen = [k for k, a in enumerate(rows) if isinstance(a.segmentation, tuple) and (form == "rle" or a.crowd)]
        named = [(rows[k].segmentation or (), f"{dataset.source}: annotation {rows[k].id}") for k in chosen]
        for k, lengths in zip(chosen, mask_ops.encode(draw_named(named, record.size)), strict=True):
            rows[k] = replace(rows[k], segmentation=lengths)
        out[record.id] = tuple(rows)
    return replace(dataset, annotations=out)


def painting_order(rows: Sequence[Annotation], areas: Sequence[float]) -> list[int]:
    """Positions of annotations in the order in which they are painted where a pixel has one object; the last is on top.

    Crowd regions lie below all objects. An object with a higher `z_order` (CVAT) lies on top; of equal ones the
    smaller, and of equally large ones the later.
    """
    depth = [(not a.crowd, a.extra.get("z_order") or 0, -area) for a, area in zip(rows, areas, strict=True)]
    return sorted(range(len(rows)), key=depth.__getitem__)


def rle_of(crop: BoolArray, top: int, left: int, size: Size) -> RLE:
    """COCO run lengths of a bitmap whose corner lies at (top, left), cut at the image's border."""
    y0, x0 = max(0, -top), max(0, -left)
    inside = crop[y0 : max(y0, size[0] - top), x0 : max(x0, size[1] - left)]
    corner = (top + y0, left + x0) if inside.size else (0, 0)
    inside = inside if inside.size else np.zeros((0, 0), np.bool_)
    return mask_ops.encode(Masks(size, np.array([corner], np.int64), (inside,)))[0]


def tight(masks: Masks) -> tuple[BoolArray, int, int] | None:
    """The bitmap of the only mask of `masks` without empty rows and columns around it, and its top and left.

    None where it has no pixel.
    """
    crop: BoolArray = masks.bitmaps[0]
    rows, columns = np.flatnonzero(crop.any(axis=1)), np.flatnonzero(crop.any(axis=0))
    if not len(rows):
        return None
    top, left = (masks.corners[0] + (rows[0], columns[0])).tolist()
    return crop[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], top, left


def union(outlines: Sequence[Polygons | RLE], size: Size, where: str) -> Polygons | RLE:
    """The parts of one object as one outline; polygons stay polygons where all of them are. where: for messages."""
    if len(outlines) == 1:
        return outlines[0]
    if all(isinstance(o, tuple) for o in outlines):
        return tuple(p for o in outlines for p in o)  # type: ignore[misc]
    masks = draw_named([(outline, where) for outline in outlines], size)
    low = masks.corners.min(axis=0)
    high = np.max([c + crop.shape for c, crop in zip(masks.corners, masks.bitmaps, strict=True)], axis=0)
    out = np.zeros(high - low, np.bool_)
    for (top, left), crop in zip(masks.corners - low, masks.bitmaps, strict=True):
        out[top : top + crop.shape[0], left : left + crop.shape[1]] |= crop
    return rle_of(out, int(low[0]), int(low[1]), size)


def ellipse(x: float, y: float, rx: float, ry: float, degrees: float = 0.0) -> NDArray[np.float64]:
    """A flat polygon within 0.05 pixels of an ellipse; turned clockwise on screen."""
    most = min(max(rx, ry, _CIRCLE_ERROR), mask_ops.FARTHEST)
    count = max(12, math.ceil(math.pi / math.acos(1 - min(_CIRCLE_ERROR / most, 1.0))))
    at = 2 * np.pi * np.arange(count) / count
    return turned(np.stack([x + rx * np.cos(at), y + ry * np.sin(at)], axis=1), x, y, degrees).reshape(-1)


def turned(points: NDArray[np.float64], x: float, y: float, degrees: float) -> NDArray[np.float64]:
    """(n, 2) points turned around (x, y), clockwise on screen."""
    if degrees % 360 == 0:
        return points
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.asarray((points - [x, y]) @ np.array([[c, s], [-s, c]]) + [x, y])
