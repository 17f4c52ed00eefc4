"""Bitmaps to polygons with holes and several parts, and back, exact on the pixel grid.

Letters: N instances, h w crop, C corners of outlines, S spans (horizontal runs of pixel centres inside a ring).
Coordinates are continuous pixels: outlines run along pixel borders, so a single pixel is a unit square.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from maskwright.errors import DataError
from maskwright.types import BoolArray, IntArray, Masks, Size

Ring = NDArray[np.float64]
"""(n, 2) x, y; closed, the first point is not repeated."""


class PolygonPart(NamedTuple):
    """One connected component of an object: its outer ring and the rings of its holes."""

    outer: Ring
    holes: tuple[Ring, ...] = ()


def to_polygons(masks: Masks) -> list[list[PolygonPart]]:
    """Exact outlines on pixel borders, a list of parts per instance; `from_polygons` inverts it.

    A part is a 4-connected component; components that touch only in a corner are separate parts, and no ring visits a
    point twice, so every part is a valid polygon. Outer rings run clockwise on screen, holes counter-clockwise; points
    inside a straight edge are left out.
    """
    return [
        _parts(crop, np.array([left, top], np.float64))
        for crop, (top, left) in zip(masks.bitmaps, masks.corners, strict=True)
    ]


def with_seams(part: PolygonPart) -> Ring:
    """(n, 2) a single ring for a part with holes, for formats without holes: each hole is joined by its shortest seam.

    A seam is traversed once in each direction, so it has no area: filled by the even-odd rule, as in the COCO API and
    `from_polygons`, the ring covers exactly the pixels of the part.
    """
    ring = part.outer
    for hole in part.holes:
        distance, nearest = cKDTree(ring).query(hole)
        at_hole = int(np.argmin(distance))
        at_ring = int(nearest[at_hole])
        loop = np.roll(hole, -at_hole, axis=0)
        ring = np.concatenate([ring[: at_ring + 1], loop, loop[:1], ring[at_ring:]])
    return ring


def _parts(crop: BoolArray, origin: Ring) -> list[PolygonPart]:
    if not crop.any():
        return []
    points, pixels, successor = _corners(crop)
    walks = _rings(points, successor)
    rings = [points[walk].astype(np.float64) for walk in walks]
    outward = [signed_area(ring) > 0 for ring in rings]
    placed = [ring + origin for ring in rings]
    if sum(outward) == 1:
        holes = tuple(ring for ring, out in zip(placed, outward, strict=True) if not out)
        return [PolygonPart(placed[outward.index(True)], holes)]
    pieces, count = ndimage.label(crop)
    outers: dict[int, Ring] = {}
    inside: list[list[Ring]] = [[] for _ in range(count + 1)]
    for walk, ring, out in zip(walks, placed, outward, strict=True):
        piece = int(pieces[tuple(pixels[walk[0]])])
        if out:
            outers[piece] = ring
        else:
            inside[piece].append(ring)
    return [PolygonPart(outers[piece], tuple(inside[piece])) for piece in range(1, count + 1)]


def _corners(crop: BoolArray) -> tuple[IntArray, IntArray, IntArray]:
    """Corners of all outlines of a bitmap, and the next corner of each with the mask on the right-hand side.

    Returns points (C, 2) x, y; pixels (C, 2) row, column of a mask pixel at each corner; successor (C,).
    The four pixels around a lattice point decide: one or three of them set give one corner, two set diagonally give
    two corners, one for each pixel.
    """
    p = np.pad(crop, 1)
    nw, ne, sw, se = p[:-1, :-1], p[:-1, 1:], p[1:, :-1], p[1:, 1:]
    found = []
    # Convex corners have one pixel of the 2 x 2 set, or two diagonally; concave corners have exactly one not set.
    # Columns: the pixel whose corner it is, its side neighbours, horizontal edge to the east?, vertical edge to the
    # south?, does the outline leave horizontally?, offset of a mask pixel (row, column).
    for own, beside, above, east, south, leaves, offset in (
        (se, sw, ne, True, True, True, (0, 0)),
        (sw, se, nw, False, True, False, (0, -1)),
        (nw, ne, sw, False, False, True, (-1, -1)),
        (ne, nw, se, True, False, False, (-1, 0)),
    ):
        y, x = np.nonzero(own & ~beside & ~above)
        found.append(_describe(x, y, east, south, leaves, offset))
    for own, far, beside, above, east, south, leaves, offset in (
        (se, nw, sw, ne, True, True, False, (0, -1)),
        (sw, ne, se, nw, False, True, True, (0, 0)),
        (nw, se, ne, sw, False, False, False, (-1, 0)),
        (ne, sw, nw, se, True, False, True, (-1, -1)),
    ):
        y, x = np.nonzero(~own & far & beside & above)
        found.append(_describe(x, y, east, south, leaves, offset))
    table = np.concatenate(found, axis=1)  # (7, C)
    x, y, east, south, leaves = table[:5]
    across = _partners(np.lexsort((east, x, y)))
    along = _partners(np.lexsort((south, y, x)))
    successor = np.where(leaves == 1, across, along)
    return np.stack([x, y], axis=1), table[5:].T, successor


def _describe(x: IntArray, y: IntArray, east: bool, south: bool, leaves: bool, offset: tuple[int, int]) -> IntArray:
    flags = [np.full_like(x, flag) for flag in (east, south, leaves)]
    return np.stack([x, y, *flags, y + offset[0], x + offset[1]])


def _partners(order: IntArray) -> IntArray:
    """(C,) the corner at the other end of each edge: corners sorted along a line are the ends of edges, in pairs."""
    out = np.empty_like(order)
    out[order[0::2]], out[order[1::2]] = order[1::2], order[0::2]
    return out


def _rings(points: IntArray, successor: IntArray) -> list[list[int]]:
    """The cycles of `successor`, split where one visits a point twice."""
    nexts = successor.tolist()
    seen = bytearray(len(nexts))
    where = (points[:, 1] * (points[:, 0].max() + 1) + points[:, 0]).tolist()
    rings: list[list[int]] = []
    for start in range(len(nexts)):
        if seen[start]:
            continue
        ring, corner = [], start
        while not seen[corner]:
            seen[corner] = 1
            ring.append(corner)
            corner = nexts[corner]
        if len(ring) < 8 or len({where[c] for c in ring}) == len(ring):
            rings.append(ring)
        else:
            rings.extend(_simple(ring, where))
    return rings


def _simple(ring: list[int], where: list[int]) -> Iterator[list[int]]:
    """Split a cycle at the points that it visits twice."""
    path: list[int] = []
    at: dict[int, int] = {}
    for corner in ring:
        place = where[corner]
        if place in at:
            begin = at[place]
            loop = path[begin:]
            yield loop
            for c in loop:
                del at[where[c]]
            del path[begin:]
        at[place] = len(path)
        path.append(corner)
    yield path


def signed_area(ring: Ring) -> float:
    """Of a ring (n, 2); positive where it runs clockwise on screen (y down)."""
    x, y = ring[:, 0], ring[:, 1]
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


def from_polygons(parts_per_instance: Sequence[Sequence[PolygonPart]], size: Size) -> Masks:
    """Masks of polygons with holes: a pixel is set if its centre lies in a part and not in one of its holes.

    Rings are filled by the even-odd rule; parts are united; the holes of a part must lie inside it and not overlap.
    size: (H, W), to which everything is clipped. Exact inverse of `to_polygons`.
    Raises DataError for a ring that is not (n, 2) or not finite.
    """
    filled = [_fill(parts, size, index) for index, parts in enumerate(parts_per_instance)]
    corners = np.array([corner for corner, _ in filled], np.int64).reshape(-1, 2)
    return Masks(size, corners, tuple(crop for _, crop in filled))


def _fill(parts: Sequence[PolygonPart], size: Size, index: int) -> tuple[tuple[int, int], BoolArray]:
    rings: list[Ring] = []
    signs: list[int] = []
    for outer, holes in parts:
        for given, sign in ((outer, 1), *((hole, -1) for hole in holes)):
            ring = np.asarray(given, dtype=np.float64)
            if ring.ndim != 2 or ring.shape[1] != 2 or not np.isfinite(ring).all():
                raise DataError(f"Polygon of instance {index}: a ring is finite points (n, 2), got shape {ring.shape}.")
            if len(ring) >= 3:
                rings.append(ring)
                signs.append(sign)
    nothing = ((0, 0), np.zeros((0, 0), np.bool_))
    row, begin, end, owner = _spans(rings, size)
    if len(row) == 0:
        return nothing
    top, left, bottom, right = int(row.min()), int(begin.min()), int(row.max()) + 1, int(end.max())
    h, w = bottom - top, right - left
    steps = np.zeros((h, w + 1), np.int32)
    change = np.asarray(signs, np.int32)[owner]
    np.add.at(steps, (row - top, begin - left), change)
    np.add.at(steps, (row - top, end - left), -change)
    crop = np.cumsum(steps, axis=1, out=steps)[:, :w] > 0
    return ((top, left), crop) if crop.any() else nothing


def _spans(rings: Sequence[Ring], size: Size) -> tuple[IntArray, IntArray, IntArray, IntArray]:
    """Row, first column, column after the last, and ring of every span of pixel centres inside a ring; (S,) each."""
    none = np.zeros(0, np.int64)
    if not rings:
        return none, none, none, none
    here = np.concatenate(rings)
    there = np.concatenate([np.roll(ring, -1, axis=0) for ring in rings])
    owner = np.repeat(np.arange(len(rings)), [len(ring) for ring in rings])
    down = here[:, 1] <= there[:, 1]
    low, high = np.where(down[:, None], here, there), np.where(down[:, None], there, here)
    first = np.ceil(np.clip(low[:, 1], 0, size[0]) - 0.5).astype(np.int64)  # rows whose centre lies in [low, high)
    count = np.ceil(np.clip(high[:, 1], 0, size[0]) - 0.5).astype(np.int64) - first
    edge = np.repeat(np.arange(len(count)), count)
    if len(edge) == 0:
        return none, none, none, none
    row = first[edge] + np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count)
    slope = (high[edge, 0] - low[edge, 0]) / (high[edge, 1] - low[edge, 1])
    x = low[edge, 0] + (row + 0.5 - low[edge, 1]) * slope
    order = np.lexsort((x, row, owner[edge]))  # a ring crosses a row an even number of times
    column = np.ceil(np.clip(x[order], 0, size[1]) - 0.5).astype(np.int64)
    begin, end = column[0::2], column[1::2]
    keep = end > begin
    return row[order][0::2][keep], begin[keep], end[keep], owner[edge][order][0::2][keep]
