"""Objects from what overlapping tiles of one image show of them.

A border of a tile is inner where it is not one of the image. A piece is what one tile shows of an object; it is cut
where it reaches an inner border, else it is whole.

Letters: N pieces, T tiles. Boxes and tiles are xyxy in pixels of the image.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskwright.types import BoolArray, FloatArray, IntArray, Masks, Size

SAME, INSIDE, SEEN = 0.5, 0.8, 0.5
"""IoU from which two pieces show one object; share of a piece that lies in another from which it is a part of that one;
the same of a cut piece and a whole one."""

TOUCH, TOUCH_SHARE = 4.0, 0.05
"""A piece is cut where its box ends within this many pixels of an inner border, and this share of its longer side."""


@dataclass(frozen=True, eq=False)
class Pieces:
    """What T tiles of an image of `size` (H, W) show.

    boxes (N, 4); scores, labels (N,); tile (N,): the row of `tiles` (T, 4) that shows each. masks: N of the image, or
    None, where boxes are compared. touch: `TOUCH` in pixels of the image.
    """

    size: Size
    tiles: IntArray
    tile: IntArray
    boxes: FloatArray
    scores: FloatArray
    labels: IntArray
    masks: Masks | None = None
    touch: float = TOUCH

    @property
    def clearance(self) -> NDArray[np.float64]:
        """(N,) distance of each box to the nearest inner border of its tile; infinite where the tile has none."""
        own, (height, width) = self.tiles[self.tile], self.size
        gaps = np.concatenate([self.boxes[:, :2] - own[:, :2], own[:, 2:] - self.boxes[:, 2:]], axis=1)
        inner = np.concatenate([own[:, :2] > 0, own[:, 2:] < [width, height]], axis=1)
        return np.asarray(np.where(inner, gaps.astype(np.float64), np.inf).min(axis=1, initial=np.inf))

    @property
    def cut(self) -> BoolArray:
        """(N,) which pieces an inner border may have cut."""
        longer = (self.boxes[:, 2:] - self.boxes[:, :2]).max(axis=1, initial=0)
        return np.asarray(self.clearance < self.touch + TOUCH_SHARE * longer)


def objects(pieces: Pieces) -> list[list[int]]:
    """The pieces of each object: one where a tile shows it whole, else all that show a part of it.

    Pieces of one label in different tiles are compared. Of whole ones that show the same object the one farthest from
    inner borders is taken, then the better score. Cut ones are dropped where a whole one shows the same; those left
    that show the same in the part that both tiles see are joined, also in chains. The first of a group is its largest.
    """
    cut, clearance = pieces.cut, pieces.clearance
    partners: dict[int, list[int]] = {}
    for a, b in _same(pieces, cut):
        partners.setdefault(a, []).append(b)
        partners.setdefault(b, []).append(a)
    kept: set[int] = set()
    for i in np.lexsort((-pieces.scores, -clearance)).tolist():
        if not cut[i] and kept.isdisjoint(partners.get(i, ())):
            kept.add(i)
    left = [i for i in np.flatnonzero(cut).tolist() if kept.isdisjoint(partners.get(i, ()))]
    return [[i] for i in sorted(kept)] + _chains(left, partners, _areas(pieces))


def union(masks: Masks, rows: list[int]) -> Masks:
    """One mask of the pixels of several; memory for the rectangle around them."""
    if len(rows) == 1:
        return masks[rows]
    ends = np.array([masks.bitmaps[r].shape for r in rows]) + masks.corners[rows]
    top, left = (int(v) for v in masks.corners[rows].min(axis=0))
    bottom, right = (int(v) for v in ends.max(axis=0))
    out = np.zeros((bottom - top, right - left), np.bool_)
    for r in rows:
        (y, x), bitmap = masks.corners[r] - (top, left), masks.bitmaps[r]
        out[y : y + bitmap.shape[0], x : x + bitmap.shape[1]] |= bitmap
    return Masks(masks.size, np.array([[top, left]]), (out,))


def _chains(rows: list[int], partners: dict[int, list[int]], areas: NDArray[np.float64]) -> list[list[int]]:
    """Rows that are partners, or partners of partners, together, the largest first."""
    rest, out = set(rows), []
    for i in rows:
        if i not in rest:
            continue
        rest.discard(i)
        chain, open_ = [i], [i]
        while open_:
            near = [k for k in partners.get(open_.pop(), ()) if k in rest]
            rest.difference_update(near)
            chain += near
            open_ += near
        out.append(sorted(set(chain), key=lambda k: (-areas[k], k)))
    return out


def _same(pieces: Pieces, cut: BoolArray) -> Iterator[tuple[int, int]]:
    """Pairs of pieces that show the same object; two cut ones in what both tiles see, others as they are."""
    areas = _areas(pieces)
    for a, b, common in _near(pieces):
        shared = _shared(pieces, a, b)
        if shared == 0:
            continue
        if cut[a] and cut[b]:
            parts = _inside(pieces, a, common), _inside(pieces, b, common)
            small, own = min((parts[0], areas[a]), (parts[1], areas[b]))
            same = shared >= SAME * (sum(parts) - shared) or (shared >= INSIDE * small and small >= 0.5 * own)
        elif cut[a] or cut[b]:
            same = shared >= SEEN * areas[a if cut[a] else b]
        else:
            small = min(areas[a], areas[b])
            same = shared >= SAME * (areas[a] + areas[b] - shared) or shared >= INSIDE * small
        if same:
            yield a, b


def _near(pieces: Pieces) -> Iterator[tuple[int, int, IntArray]]:
    """Pairs of pieces of one label that meet, of two tiles that overlap, with what both tiles see (4,)."""
    tiles, reach = pieces.tiles, _reach(pieces)
    rows = [np.flatnonzero(pieces.tile == t) for t in range(len(tiles))]
    for a in range(len(tiles)):
        for b in (np.flatnonzero(_meet(tiles[a : a + 1], tiles[a + 1 :])[0]) + a + 1).tolist():
            low, high = np.maximum(tiles[a, :2], tiles[b, :2]), np.minimum(tiles[a, 2:], tiles[b, 2:])
            common = np.concatenate([low, high])
            own, other = (r[_meet(reach[r], common[None])[:, 0]] for r in (rows[a], rows[b]))
            pairs = _meet(reach[own], reach[other]) & (pieces.labels[own, None] == pieces.labels[None, other])
            for i, k in np.argwhere(pairs).tolist():
                yield int(own[i]), int(other[k]), common


def _meet(a: NDArray[Any], b: NDArray[Any]) -> BoolArray:
    """Which of rectangles (A, 4) have pixels in common with which of (B, 4): (A, B)."""
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    return np.asarray((low < high).all(axis=2))


def _reach(pieces: Pieces) -> NDArray[np.float64]:
    """(N, 4) the rectangle of each mask's bitmap, or its box."""
    if pieces.masks is None:
        return pieces.boxes.astype(np.float64)
    corners = pieces.masks.corners[:, ::-1]
    shapes = np.array([bitmap.shape[::-1] for bitmap in pieces.masks.bitmaps], np.int64).reshape(-1, 2)
    return np.concatenate([corners, corners + shapes], axis=1).astype(np.float64)


def _areas(pieces: Pieces) -> NDArray[np.float64]:
    """(N,) pixels of each piece."""
    if pieces.masks is not None:
        return pieces.masks.areas().astype(np.float64)
    boxes = pieces.boxes.astype(np.float64)
    return np.asarray((boxes[:, 2:] - boxes[:, :2]).clip(0).prod(axis=1))


def _shared(pieces: Pieces, a: int, b: int) -> float:
    """Pixels that two pieces have in common."""
    if pieces.masks is None:
        return _inside(pieces, a, pieces.boxes[b].astype(np.float64))
    top, left = np.maximum(pieces.masks.corners[a], pieces.masks.corners[b]).tolist()
    ends = [pieces.masks.corners[r] + pieces.masks.bitmaps[r].shape for r in (a, b)]
    bottom, right = np.minimum(*ends).tolist()
    if top >= bottom or left >= right:
        return 0.0
    own, other = (_cropped(pieces.masks, r, top, left, bottom, right) for r in (a, b))
    return float(np.count_nonzero(own & other))


def _inside(pieces: Pieces, row: int, rectangle: NDArray[Any]) -> float:
    """Pixels of a piece in a rectangle xyxy."""
    if pieces.masks is None:
        box = pieces.boxes[row].astype(np.float64)
        return float((np.minimum(box[2:], rectangle[2:]) - np.maximum(box[:2], rectangle[:2])).clip(0).prod())
    left, top, right, bottom = (int(v) for v in rectangle)
    return float(np.count_nonzero(_cropped(pieces.masks, row, top, left, bottom, right)))


def _cropped(masks: Masks, row: int, top: int, left: int, bottom: int, right: int) -> BoolArray:
    """The part of a bitmap in a rectangle of the image."""
    y, x = masks.corners[row].tolist()
    return masks.bitmaps[row][max(0, top - y) : max(0, bottom - y), max(0, left - x) : max(0, right - x)]
