"""Masks to and from COCO run-length encoding (RLE) and polygons, and measurements of masks.

Letters: N, M instances, H W image, h w crop, R runs.
An RLE lists the lengths of alternating background and mask runs of the image read column by column, beginning with
background; its compressed string is that of the COCO API. Work and memory follow the crops, never H x W per instance.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import numpy as np
from hotcoco import mask as coco_mask
from numpy.typing import NDArray

from maskwright.errors import DataError, short
from maskwright.ops.polygons import PolygonPart, from_polygons, to_polygons, with_seams
from maskwright.types import BoolArray, IntArray, Masks, Size

__all__ = [
    "PolygonPart",
    "decode",
    "encode",
    "from_coco_polygons",
    "from_polygons",
    "intersections",
    "measure",
    "painted",
    "to_polygons",
    "with_seams",
]

Number = TypeVar("Number", bound=np.integer[Any])

FARTHEST = 1e6
"""Polygon coordinates beyond this many pixels are refused as damaged: rasterising costs memory along every edge."""

MOST_DRAWN = 2**29
"""Pixels of the largest rectangle that a mask is drawn in: a few letters may state any number of them."""


# ---- run lengths ------------------------------------------------------------------------------------------------


def encode(masks: Masks) -> list[dict[str, Any]]:
    """COCO compressed RLE of each mask, `{"size": [H, W], "counts": str}`, character for character the COCO API's."""
    height, width = masks.size
    out = []
    for crop, (top, left) in zip(masks.bitmaps, masks.corners, strict=True):
        counts = _runs(crop, int(top), int(left), masks.size).tolist()
        text = coco_mask.rle_to_string({"size": [height, width], "counts": counts})
        out.append({"size": [height, width], "counts": text})
    return out


def decode(rles: Sequence[dict[str, Any]], size: Size | None = None) -> Masks:
    """Masks of COCO RLEs, `counts` compressed (str, bytes) or a list of run lengths.

    size: (H, W) that every RLE must have; required only where `rles` may be empty.
    Raises DataError, naming the index in `rles`, for what is not an RLE, whose runs do not add up to H x W, or whose
    size differs from the first.
    """
    crops, corners = [], []
    for index, rle in enumerate(rles):
        own = _size_of(rle, index)
        size = own if size is None else (int(size[0]), int(size[1]))
        if own != size:
            raise DataError(f"RLE {index}: its size is {list(own)}, expected {list(size)} (H, W) as in the others.")
        corner, crop = _crop_of_runs(_counts_of(rle["counts"], own, index), own, index)
        corners.append(corner)
        crops.append(crop)
    if size is None:
        raise DataError("decode needs at least one RLE to know the image's size; for none, give size=(H, W).")
    return Masks(size, np.array(corners, np.int64).reshape(-1, 2), tuple(crops))


def _runs(crop: BoolArray, top: int, left: int, size: Size) -> IntArray:
    """Run lengths of the whole image, (R,) int64."""
    height, width = size
    h, w = crop.shape
    stride = h if h == height else h + 1  # a background row separates the columns, unless the crop has full height
    line = np.zeros((w, stride), np.bool_)
    line[:, :h] = crop.T
    flat = np.concatenate([[False], line.ravel(), [False]])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    column, row = np.divmod(edges, max(stride, 1))
    stops = (column + left) * height + row + top
    counts = np.diff(np.concatenate([[0], stops, [height * width]]))
    return counts[:-1] if len(counts) > 1 and counts[-1] == 0 else counts


def _size_of(rle: Any, index: int) -> Size:
    if not isinstance(rle, dict) or "size" not in rle or "counts" not in rle:
        raise DataError(f"RLE {index}: expected a dict with 'size' and 'counts', got {short(rle)}.")
    size = rle["size"]
    if not isinstance(size, (list, tuple, np.ndarray)) or len(size) != 2:
        raise DataError(f"RLE {index}: 'size' must be [H, W], got {short(size)}.")
    if not all(isinstance(v, (int, np.integer)) and not isinstance(v, bool) and v >= 0 for v in size):
        raise DataError(f"RLE {index}: 'size' must be two whole numbers [H, W], got {short(size)}.")
    return int(size[0]), int(size[1])


def _counts_of(counts: Any, size: Size, index: int) -> IntArray:
    """Validated run lengths, (R,) int64, that add up to H x W."""
    if isinstance(counts, str):
        if not counts.isascii():
            raise DataError(f"RLE {index}: compressed counts are ASCII text, got {short(counts)}.")
        counts = counts.encode("ascii")
    if isinstance(counts, (bytes, bytearray)):
        runs = _unpack(bytes(counts), index)
    elif isinstance(counts, (list, tuple, np.ndarray)):
        runs = np.asarray(counts if len(counts) else np.zeros(0, np.int64))
        if runs.ndim != 1 or runs.dtype.kind not in "iu":
            raise DataError(f"RLE {index}: run lengths must be whole numbers, got {short(counts)}.")
        runs = runs.astype(np.int64)
    else:
        raise DataError(
            f"RLE {index}: counts must be str, bytes or a list of run lengths, got {type(counts).__name__}."
        )
    if len(runs) and runs.min() < 0:
        raise DataError(f"RLE {index}: run lengths cannot be negative, got {runs.min()}; the RLE is damaged.")
    total = int(runs.sum(dtype=np.float64)) if len(runs) else 0  # float: damaged text may hold sums beyond int64
    if total != size[0] * size[1]:
        raise DataError(
            f"RLE {index}: its runs cover {total} pixels, but the image {size[0]}x{size[1]} has "
            f"{size[0] * size[1]}; either the counts are damaged or the size is (W, H) instead of (H, W)."
        )
    return runs


def _unpack(text: bytes, index: int) -> IntArray:
    """Run lengths of a compressed string.

    Each number is a sequence of base-32 digits, lowest first; bit 5 of a digit says that another one follows, and from
    the third run on the number is the difference to the run two before.
    """
    digits = np.frombuffer(text, np.uint8).astype(np.int64) - 48
    if len(digits) == 0:
        return np.zeros(0, np.int64)
    if digits.min() < 0 or digits.max() > 63:
        raise DataError(f"RLE {index}: a compressed string has characters '0' to 'o' only, got {short(text)}.")
    last = (digits & 32) == 0
    ends = np.flatnonzero(last) + 1
    if not last[-1]:
        raise DataError(f"RLE {index}: the compressed string ends inside a number; it is cut off.")
    starts = np.concatenate([[0], ends[:-1]])
    lengths = ends - starts
    if lengths.max() > 12:
        raise DataError(f"RLE {index}: the compressed string holds a number of {lengths.max()} digits; it is damaged.")
    shifts = 5 * (np.arange(len(digits)) - np.repeat(starts, lengths))
    values = np.add.reduceat((digits & 31) << shifts, starts)
    values -= np.where(digits[ends - 1] & 16, np.int64(1) << (5 * lengths), 0)
    for parity in (1, 2):
        values[parity::2] = np.cumsum(values[parity::2])
    return values


def _crop_of_runs(runs: IntArray, size: Size, index: int) -> tuple[tuple[int, int], BoolArray]:
    """(top, left) and the tight crop of the mask that `runs` encode."""
    height = size[0]
    ends = np.cumsum(runs)
    starts, stops = ends[0::2][: len(ends[1::2])], ends[1::2]
    starts, stops = starts[stops > starts], stops[stops > starts]
    if len(starts) == 0:
        return (0, 0), np.zeros((0, 0), np.bool_)
    column, row = np.divmod(starts, height)
    last_column, last_row = np.divmod(stops - 1, height)
    wraps = bool((column != last_column).any())  # a run over several columns spans the image's full height
    top, bottom = (0, height) if wraps else (int(row.min()), int(last_row.max()) + 1)
    left, right = int(column[0]), int(last_column[-1]) + 1
    h, w = bottom - top, right - left
    if h * w > MOST_DRAWN:
        raise DataError(f"RLE {index}: the mask lies in {h}x{w} pixels; at most {MOST_DRAWN} are drawn.")
    first = (column - left) * h + row - top
    steps = np.zeros(h * w + 1, np.int8)
    steps[first] += 1
    steps[first + (stops - starts)] -= 1
    flat = np.cumsum(steps[:-1], dtype=np.int8).view(np.bool_)
    return (top, left), np.ascontiguousarray(flat.reshape(w, h).T)


# ---- polygons of the COCO API -----------------------------------------------------------------------------------


def from_coco_polygons(polygons_per_instance: Sequence[Sequence[Sequence[float]]], size: Size) -> Masks:
    """Masks of COCO polygons, pixel for pixel equal to the COCO API's `frPyObjects` and `merge`.

    polygons_per_instance: per instance a list of flat lists x0, y0, x1, y1, ...; the mask is their union, empty without
    any. Two points enclose nothing, as in the COCO API; four numbers are two points, never a box. size: (H, W).
    Raises DataError, naming the instance, for a list that is odd, too short, not finite or beyond `FARTHEST`.
    """
    height, width = (int(v) for v in size)
    rles = []
    for index, polygons in enumerate(polygons_per_instance):
        pieces = [coco_mask.fr_poly(_flat(polygon, index), height, width) for polygon in polygons]
        if pieces:
            rles.append(pieces[0] if len(pieces) == 1 else coco_mask.merge(pieces))
        else:
            rles.append({"size": [height, width], "counts": [height * width]})
    return decode(rles, (height, width))


def _flat(polygon: Sequence[float], index: int) -> list[float]:
    try:
        values = np.asarray(polygon, dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError(f"Polygon of instance {index}: expected x0, y0, x1, y1, ..., got {short(polygon)}.") from None
    if values.ndim != 1 or len(values) % 2 or len(values) < 4:
        raise DataError(f"Polygon of instance {index}: expected a flat list of x, y pairs, got shape {values.shape}.")
    if not np.isfinite(values).all() or np.abs(values).max() > FARTHEST:
        raise DataError(f"Polygon of instance {index}: coordinates must be finite and within {FARTHEST:.0f} pixels.")
    return [float(v) for v in values]


# ---- measurements -----------------------------------------------------------------------------------------------


def measure(masks: Masks) -> dict[str, NDArray[np.float64]]:
    """Area, perimeter and centroid of each mask: `area`, `perimeter`, `centroid_x`, `centroid_y`, each (N,) float64.

    area: number of pixels. perimeter: Crofton's estimate in four directions, pi/4 times (chords along rows and columns
    + chords along both diagonals / sqrt(2)), holes included; within some percent for smooth shapes, where the length
    of the pixel outline is up to 27% too long. centroid: continuous pixels, so that the single pixel (i, j) has
    (j + 0.5, i + 0.5). An empty mask has area and perimeter 0 and centroid NaN.
    """
    rows = [_measure(crop, int(t), int(le)) for crop, (t, le) in zip(masks.bitmaps, masks.corners, strict=True)]
    table = np.array(rows, np.float64).reshape(-1, 4)
    names = ("area", "perimeter", "centroid_x", "centroid_y")
    return {name: table[:, i].copy() for i, name in enumerate(names)}


def intersections(a: Masks, b: Masks) -> IntArray:
    """(N, M) int64, the pixels that each of N masks shares with each of M masks of the same image."""
    if a.size != b.size:
        raise DataError(f"Masks of images of two sizes, {a.size} and {b.size} (H, W), have no common pixels.")
    shared = np.zeros((len(a), len(b)), np.int64)
    first, second = (np.hstack([m.corners, m.corners + _shapes(m)]) for m in (a, b))  # top, left, bottom, right
    near = (first[:, None, :2] < second[None, :, 2:]).all(-1) & (second[None, :, :2] < first[:, None, 2:]).all(-1)
    for i, k in np.argwhere(near).tolist():
        top, left = np.maximum(first[i, :2], second[k, :2])
        bottom, right = np.minimum(first[i, 2:], second[k, 2:])
        own = a.bitmaps[i][top - first[i, 0] : bottom - first[i, 0], left - first[i, 1] : right - first[i, 1]]
        other = b.bitmaps[k][top - second[k, 0] : bottom - second[k, 0], left - second[k, 1] : right - second[k, 1]]
        shared[i, k] = np.count_nonzero(own & other)
    return shared


def painted(masks: Masks, order: Iterable[int], values: Sequence[int], kind: type[Number]) -> NDArray[Number]:
    """(H, W): the value of each mask on its pixels, painted in this order, so that a later one lies on top; else 0."""
    out, windows = np.zeros(masks.size, kind), masks.windows
    for i in order:
        out[windows[i]][masks.bitmaps[i]] = values[i]
    return out


def _shapes(masks: Masks) -> IntArray:
    return np.array([crop.shape for crop in masks.bitmaps], np.int64).reshape(-1, 2)


def _measure(crop: BoolArray, top: int, left: int) -> tuple[float, float, float, float]:
    area = int(crop.sum())
    if area == 0:
        return 0.0, 0.0, math.nan, math.nan
    h, w = crop.shape
    x = float(crop.sum(axis=0) @ np.arange(w)) / area + left + 0.5
    y = float(crop.sum(axis=1) @ np.arange(h)) / area + top + 0.5
    p = np.pad(crop, 1)
    straight = np.count_nonzero(p[:, 1:] > p[:, :-1]) + np.count_nonzero(p[1:] > p[:-1])
    oblique = np.count_nonzero(p[1:, 1:] > p[:-1, :-1]) + np.count_nonzero(p[1:, :-1] > p[:-1, 1:])
    return float(area), math.pi / 4 * (straight + oblique / math.sqrt(2)), x, y
