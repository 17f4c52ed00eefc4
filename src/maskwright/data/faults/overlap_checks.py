"""Faults of the objects of one image, of each and between them.

Letters: N objects, H W image. Boxes are xyxy.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from maskwright.data.doubt import Tally, pieces
from maskwright.data.faults import object_checks
from maskwright.data.faults.table import Finding
from maskwright.data.faults.view import CheckedImage, CheckedObject, RecordIndex
from maskwright.types import IntArray, Masks, Size
from maskwright.wording import of_size

Findings = Iterator[Finding | None]
Floats = NDArray[np.float64]
_MANY = 4  # pieces of one object that are worth a note
_SAME = 0.95  # IoU above which two objects are the same


class Examined(NamedTuple):
    """The faults of an image's annotations, and what was seen of its objects."""

    findings: list[Finding]
    tally: Tally


def examine(view: RecordIndex, image: CheckedImage, size: Size | None) -> Examined:
    """All faults of an image's annotations. size: (H, W) they are drawn on; None (unknown): of their flags alone."""
    found: list[Finding | None] = []
    tally = Tally()
    if size is None:
        for at in image.objects:
            row, where = view.rows.annotations[at], view.where(at, image)
            found += object_checks.flags(view, CheckedObject(at, row, image, (0, 0), None, where))
        return Examined([f for f in found if f is not None], tally)
    objects = []
    for at in image.objects:
        obj, problems = object_checks.read(view, image, at, size)
        found += problems
        objects.append(obj)
    found += exchanged(image, objects, size)
    for obj in objects:
        for check in object_checks.CHECKS:
            found += check(view, obj)
    sound = [t for t in objects if not t.found & _BROKEN and t.mask is not None and not t.crowd]
    pairs = _overlaps(sound)
    for among in CHECKS:
        found += among(view, sound, pairs)
    masks = [mask for t in sound if (mask := t.mask) is not None]
    corners = np.concatenate([np.zeros((0, 2), np.int64), *(mask.corners for mask in masks)])
    tally.add(Masks(size, corners, tuple(mask.bitmaps[0] for mask in masks)))
    tally.add_crowds(mask.bitmaps[0] for t in objects if t.crowd and (mask := t.mask) is not None)
    return Examined([f for f in found if f is not None], tally)


class ObjectPairs(NamedTuple):
    """Objects that may share pixels. first, second: positions, first < second; shared: common pixels; areas: (N,)."""

    first: IntArray
    second: IntArray
    shared: Floats
    areas: Floats


_BROKEN = {"normalised-coordinates", "box-as-corners", "outline-outside", "zero-area", "exchanged-axes"}


def exchanged(image: CheckedImage, objects: list[CheckedObject], size: Size) -> Findings:
    """Objects that lie mostly outside, and all fit once x and y are exchanged."""
    height, width = size
    boxes = np.array([b for t in objects if t.rle is None and (b := t.place)], np.float64).reshape(-1, 4)
    if height == width or len(boxes) == 0:
        return
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    outside = int(((centre[:, 0] >= width) | (centre[:, 1] >= height)).sum())
    fits = (boxes[:, 2] <= height + 1) & (boxes[:, 3] <= width + 1) & (boxes[:, :2] >= -1).all(axis=1)
    if outside and fits.all():
        where = f"outside {of_size(size)}"
        text = f"{outside} of {len(boxes)} objects lie {where} and fit once x and y are exchanged"
        yield image.finding("exchanged-axes", text)


def duplicates(view: RecordIndex, objects: list[CheckedObject], pairs: ObjectPairs) -> Findings:
    """Pairs that cover the same pixels, reported at the later one; of many copies each once."""
    first, second, overlap, areas = pairs
    union = areas[first] + areas[second] - overlap
    for i, j in zip(first[overlap > _SAME * union], second[overlap > _SAME * union], strict=True):
        one, other = objects[i], objects[j]
        if "duplicate-object" in other.found:
            continue
        text = f"the same pixels as {view.rows.where(one.at)}"
        if one.category == other.category:
            yield other.finding("duplicate-object", text)
        else:
            names = f"{view.name(other.category)} and {view.name(one.category)}"
            yield other.finding("two-classes-one-object", f"{text}: {names}")


def covered(view: RecordIndex, objects: list[CheckedObject], pairs: ObjectPairs) -> Findings:
    first, second, overlap, areas = pairs
    for small, large in ((first, second), (second, first)):
        inside = (overlap == areas[small]) & (areas[small] <= _SAME * areas[large])
        for i, j in zip(small[inside], large[inside], strict=True):
            if "covered-object" not in objects[i].found:
                text = f"inside {view.rows.where(objects[j].at)} ({view.name(objects[j].category)})"
                yield objects[i].finding("covered-object", text)


def whole(view: RecordIndex, objects: list[CheckedObject], pairs: ObjectPairs) -> Findings:
    for obj in objects:
        share = 0.0 if obj.mask is None else float(obj.mask.areas()[0]) / (obj.size[0] * obj.size[1])
        if share >= 0.99:
            yield obj.finding("whole-image-mask", f"covers {share:.1%} of the image")


def scattered(view: RecordIndex, objects: list[CheckedObject], pairs: ObjectPairs) -> Findings:
    for obj in objects:
        count = 0 if obj.mask is None else max(map(pieces, obj.mask.bitmaps))
        if count >= _MANY:
            yield obj.finding("separate-pieces", f"{count} pieces")


CHECKS: tuple[Callable[[RecordIndex, list[CheckedObject], ObjectPairs], Findings], ...] = (
    duplicates,
    covered,
    whole,
    scattered,
)


def _overlaps(objects: list[CheckedObject]) -> ObjectPairs:
    """Pairs whose rectangles share at least the area of the smaller object."""
    masks = [t.mask for t in objects if t.mask is not None]
    areas = np.array([mask.areas()[0] for mask in masks], np.float64)
    box = np.array([(*m.corners[0], *_end(m)) for m in masks], np.int64).reshape(-1, 4)  # top, left, bottom, right
    first, second = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for i in range(len(objects) - 1):  # row by row: 5000 objects need no table of 25 million
        rest = box[i + 1 :]
        sides = np.minimum(rest[:, 2:], box[i, 2:]) - np.maximum(rest[:, :2], box[i, :2])
        enough = sides.clip(0).prod(axis=1) >= _SAME * np.minimum(areas[i + 1 :], areas[i])
        near = np.flatnonzero(enough & (sides > 0).all(axis=1)) + i + 1
        first.append(np.full(len(near), i))
        second.append(near)
    i_all, j_all = np.concatenate(first), np.concatenate(second)
    shared = [_common(masks[i], masks[j]) for i, j in zip(i_all, j_all, strict=True)]
    return ObjectPairs(i_all, j_all, np.array(shared, np.float64), areas)


def _end(mask: Masks) -> IntArray:
    """Bottom and right of the window of one mask."""
    end: IntArray = mask.corners[0] + mask.bitmaps[0].shape
    return end


def _common(one: Masks, other: Masks) -> int:
    """The pixels that two masks share."""
    top, left = np.maximum(one.corners[0], other.corners[0])
    bottom, right = np.minimum(_end(one), _end(other))
    crops = [m.bitmaps[0][top - y : bottom - y, left - x : right - x] for m in (one, other) for y, x in m.corners]
    return int((crops[0] & crops[1]).sum())
