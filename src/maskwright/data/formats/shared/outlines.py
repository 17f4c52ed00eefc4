"""From what annotation formats say of an object to an `Annotation`, and back to plain polygons.

Letters: N objects of one image, n points of a ring. Boxes are xyxy in the image's continuous pixels.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskwright.data.dataset import RLE, Annotation, Dataset, ImageRecord, Polygons, draw_segmentations
from maskwright.data.formats.shared.fields import Box, box_tuple
from maskwright.errors import DataError
from maskwright.ops import masks as mask_ops
from maskwright.types import BoolArray, Masks, Size

_CIRCLE_ERROR = 0.05  # pixels by which the polygon of a circle may miss it
_MOST_LOST = 5  # examples that a sentence names


@dataclass(frozen=True, slots=True, eq=False)
class Found:
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


def annotations(record: ImageRecord, found: Sequence[Found], first_id: int) -> tuple[Annotation, ...]:
    """The annotations of one image, numbered from `first_id`; a missing box is the extent, the area is that drawn.

    Raises DataError, beginning with the object's `where`, for an outline that cannot be drawn.
    """
    drawn = _drawn(record.size, [f for f in found if f.segmentation is not None])
    areas = iter(drawn.areas().tolist())
    tight = iter(drawn.boxes())
    rows = []
    for k, f in enumerate(found):
        if f.segmentation is None:
            box = _box_of_points(f) if f.box is None else f.box
            area = (box[2] - box[0]) * (box[3] - box[1])
        else:
            own, area = next(tight), float(next(areas))
            box = f.box or (box_tuple(own) if isinstance(f.segmentation, dict) else extent(f.segmentation))
        rows.append(
            Annotation(
                id=first_id + k,
                image_id=record.id,
                label=f.label,
                box=box,
                segmentation=f.segmentation,
                area=area,
                crowd=f.crowd,
                keypoints=f.keypoints,
                track_id=f.track_id,
                extra=f.extra,
            )
        )
    return tuple(rows)


def _drawn(size: Size, found: Sequence[Found]) -> Masks:
    outlines = [f.segmentation for f in found if f.segmentation is not None]
    try:
        return draw_segmentations(outlines, size)
    except DataError:
        for f, outline in zip(found, outlines, strict=True):  # once more, one by one, to say which it is
            try:
                draw_segmentations([outline], size)
            except DataError as error:
                raise DataError(f"{f.where}: {error}") from error
        raise


def _box_of_points(found: Found) -> Box:
    seen = found.keypoints[found.keypoints[:, 2] > 0, :2] if found.keypoints is not None else np.zeros((0, 2))
    if not len(seen):
        raise DataError(f"{found.where}: has no outline, no box and no visible landmark. Remove it or draw it again.")
    return box_tuple(np.concatenate([seen.min(axis=0), seen.max(axis=0)]))


def extent(polygons: Polygons) -> Box:
    """The box around all points of some polygons."""
    points = np.concatenate(polygons).reshape(-1, 2)
    return box_tuple(np.concatenate([points.min(axis=0), points.max(axis=0)]))


def polygons_of(rows: Sequence[Annotation], size: Size) -> list[Polygons | None]:
    """The outline of each annotation as polygons, one a part; None where there is only a box.

    Polygons stay as they are. Run lengths become exact outlines, holes joined by seams: drawn again they give the same
    pixels; a mask without a pixel has no polygon.
    """
    out: list[Polygons | None] = [None if a.segmentation is None else () for a in rows]
    lengths = [k for k, a in enumerate(rows) if isinstance(a.segmentation, dict)]
    masks = draw_segmentations([rows[k].segmentation or {} for k in lengths], size)
    for k, parts in zip(lengths, mask_ops.to_polygons(masks), strict=True):
        out[k] = tuple(mask_ops.with_seams(part).reshape(-1) for part in parts)
    return [a.segmentation if isinstance(a.segmentation, tuple) else p for a, p in zip(rows, out, strict=True)]


def rle_of(crop: BoolArray, top: int, left: int, size: Size) -> RLE:
    """COCO run lengths of a bitmap whose corner lies at (top, left); what lies outside the image is cut."""
    y0, x0 = max(0, -top), max(0, -left)
    inside = crop[y0 : max(y0, size[0] - top), x0 : max(x0, size[1] - left)]
    corner = (top + y0, left + x0) if inside.size else (0, 0)
    inside = inside if inside.size else np.zeros((0, 0), np.bool_)
    return mask_ops.encode(Masks(size, np.array([corner], np.int64), (inside,)))[0]


def union(outlines: Sequence[Polygons | RLE], size: Size) -> Polygons | RLE:
    """The parts of one object as one outline; polygons stay polygons where all of them are."""
    if len(outlines) == 1:
        return outlines[0]
    if all(isinstance(o, tuple) for o in outlines):
        return tuple(p for o in outlines for p in o)  # type: ignore[misc]
    masks = draw_segmentations(list(outlines), size)
    low = masks.corners.min(axis=0)
    high = np.max([c + crop.shape for c, crop in zip(masks.corners, masks.bitmaps, strict=True)], axis=0)
    out = np.zeros(high - low, np.bool_)
    for (top, left), crop in zip(masks.corners - low, masks.bitmaps, strict=True):
        out[top : top + crop.shape[0], left : left + crop.shape[1]] |= crop
    return rle_of(out, int(low[0]), int(low[1]), size)


def ellipse(x: float, y: float, rx: float, ry: float, degrees: float = 0.0) -> NDArray[np.float64]:
    """A flat polygon within 0.05 pixels of an ellipse; turned clockwise on screen."""
    most = max(rx, ry, _CIRCLE_ERROR)
    count = max(12, math.ceil(math.pi / math.acos(1 - min(_CIRCLE_ERROR / most, 1.0))))
    at = 2 * np.pi * np.arange(count) / count
    return turned(np.stack([x + rx * np.cos(at), y + ry * np.sin(at)], axis=1), x, y, degrees).reshape(-1)


def turned(points: NDArray[np.float64], x: float, y: float, degrees: float) -> NDArray[np.float64]:
    """(n, 2) points turned around (x, y), clockwise on screen."""
    if degrees % 360 == 0:
        return points
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.asarray((points - [x, y]) @ np.array([[c, s], [-s, c]]) + [x, y])


# ---- what a format cannot hold --------------------------------------------------------------------------------------


def check_names(dataset: Dataset, place: Path) -> None:
    """Raises DataError where two classes have one name: formats that know classes by name would merge them."""
    twice = sorted(n for n, count in Counter(dataset.classes.names).items() if count > 1)
    if twice:
        raise DataError(
            f"{place}: {dataset.source} has several classes called '{twice[0]}', and this format knows classes by "
            f"name. Rename them, or write COCO, which keeps them apart by their ids."
        )


def lost_frames(dataset: Dataset) -> tuple[str, ...]:
    """The sentence about images that are frames of a clip, for formats that have no place for it."""
    frames = sum(r.frame is not None for r in dataset.images)
    return sentence(frames, "image{s} without the clip and the place in it that they had")


def sentence(count: int, what: str, examples: Sequence[str] = ()) -> tuple[str, ...]:
    """`("3 crowd regions ... (a.png, b.png).",)`, or nothing where the count is 0. what: with {s}, {es} for plurals."""
    if count == 0:
        return ()
    shown = list(dict.fromkeys(examples))
    more = ", ..." if len(shown) > _MOST_LOST else ""
    where = f" ({', '.join(shown[:_MOST_LOST])}{more})" if shown else ""
    return (f"{count} {what.format(s='' if count == 1 else 's', es='' if count == 1 else 'es')}{where}.",)
