"""Large images in overlapping tiles: where they lie, when they are used, and one prediction made of all of them.

Letters: N instances, T tiles. Tiles are xyxy in pixels of the image, in rows from the top.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from maskwright.errors import ConfigError, DataError
from maskwright.media.windows import Windows
from maskwright.ops import seams
from maskwright.ops.warp import input_size
from maskwright.predictor.detector import NetworkDetector
from maskwright.predictor.given import GivenBoxes
from maskwright.predictor.options import FindOptions
from maskwright.predictor.timing import StageTimer, stage
from maskwright.predictor.views import passes
from maskwright.results.prediction import IN_TILE, MAX_INSTANCES, Prediction
from maskwright.runtimes.detector import RuntimeDetector
from maskwright.types import ImageArray, IntArray, Masks, Semantic, Size
from maskwright.wording import counted

if TYPE_CHECKING:
    from maskwright.predictor.predictor import Predictor

OnTile = Callable[[int, int], None]
"""Sees the number of tiles that are done and of all tiles of the image."""

SIDE, LEAST = 1024, 64
"""The default side of a tile, and the least side, in pixels."""

MARGIN = 32
"""Pixels of the input around an object that a tile should see, to know it as in the whole image."""

ROOM, MOST_ROOM = 2, 8
"""A tile may have as many times more objects than the model reports of an image: by default, and at most where
more are asked for, as the network compares more candidates then, which takes more time."""

SHRUNK = 1.5
"""Images that would be shrunk by more than this factor are computed in tiles where the model never shrinks an image to
reach its size."""


@dataclass(frozen=True)
class Tiling:
    """How images are divided. side, overlap, step: of tiles and between their corners, in pixels. why: in words."""

    side: int
    overlap: int
    step: int
    why: str

    def tiles(self, size: Size) -> IntArray:
        """(T, 4) the tiles of an image of `size` (H, W), all of one size; the last ones end with the image."""
        (tops, height), (lefts, width) = (self._along(length) for length in size)
        corners = [(x, y, x + width, y + height) for y in tops for x in lefts]
        return np.array(corners, np.int64)

    def _along(self, length: int) -> tuple[list[int], int]:
        """The first pixels of the tiles along one side, and how long they are."""
        if length <= self.side:
            return [0], length
        return [*range(0, length - self.side, self.step), length - self.side], self.side

    def words(self, size: Size) -> str:
        """A sentence for the user."""
        tiles = self.tiles(size)
        width, height = tiles[0, 2:] - tiles[0, :2]
        how = f"{counted(len(tiles), 'tile')} of {height}x{width} pixels that overlap by {self.side - self.step}"
        return f"Computed in {how}, {self.why}"


def tiling_of(predictor: "Predictor", options: FindOptions, size: Size) -> Tiling | None:
    """How an image of `size` (H, W) is divided; None where one pass computes it. Raises as `check_tiles` does."""
    check_tiles(predictor, options)
    auto = options.tiles in (None, "auto")
    side = _auto_side(predictor, size) if auto else _asked_side(options)
    if side is None or max(size) <= side:
        return None
    why = f"as was asked (tiles {side})."
    if auto:
        shrunk = max(size) / max(input_size(size, predictor.spec))
        why = f"as one pass would shrink the image {shrunk:.1f} times, and its objects with it; tiles 'off' does that."
    overlap = _overlap(predictor, side) if options.tile_overlap is None else options.tile_overlap
    _check_overlap(side, overlap)
    multiple = predictor.spec.multiple  # corners on cells of the feature maps, where inputs are not resized
    return Tiling(side, overlap, max(multiple, (side - overlap) // multiple * multiple), why)


def check_tiles(predictor: "Predictor", options: FindOptions) -> None:
    """Raises ConfigError for tiles that were asked for and make no sense for the model."""
    side, multiple = _asked_side(options), predictor.spec.multiple
    if side is None:
        return
    least = max(LEAST, 2 * multiple)
    below = side // multiple * multiple
    fault = ""
    if Semantic in predictor.detector.parts:
        fault = f"'{predictor.name}' names the class of every pixel, which tiles cannot join: leave tiles out."
    elif side < least:
        fault = f"tiles are at least {least} pixels wide with '{predictor.name}', got {side}."
    elif side != below:
        fault = f"The side of tiles is a multiple of {multiple} with '{predictor.name}', got {side}: give {below} or "
        fault += f"{below + multiple}."
    if fault:
        raise ConfigError(fault, options=("tiles",))
    _check_overlap(side, options.tile_overlap or 0)


def _check_overlap(side: int, overlap: int) -> None:
    if 2 * overlap > side:
        raise ConfigError(
            f"tile_overlap is at most half a tile, which is {side} pixels wide, got {overlap}.",
            options=("tile_overlap",),
        )


def _asked_side(options: FindOptions) -> int | None:
    return options.tiles if isinstance(options.tiles, int) else None


def _auto_side(predictor: "Predictor", size: Size) -> int | None:
    """The side of tiles where one pass would make the objects too small for the model; None where it would not.

    That is known of models that never shrink an image to reach their size, as objects keep their size in pixels there.
    """
    spec = predictor.spec
    if spec.shrink or Semantic in predictor.detector.parts:
        return None
    if max(size) <= SHRUNK * max(input_size(size, spec)):
        return None
    most = spec.max_size or SIDE
    above = -(-max(spec.size, min(SIDE, most)) // spec.multiple) * spec.multiple
    return above if above <= most else max(2, most // spec.multiple) * spec.multiple


def _overlap(predictor: "Predictor", side: int) -> int:
    """Room for the largest objects that the model looks for and what is around them, at most a quarter of a tile."""
    detector, most = predictor.detector, side // 4
    sides = detector.config.anchor_sides if isinstance(detector, NetworkDetector | RuntimeDetector) else ()
    if sides:
        scale = math.sqrt(math.prod(input_size((side, side), predictor.spec))) / side
        room = (sides[-1] + 2 * MARGIN) / scale
        most = min(most, math.ceil(room))
    return -(-most // predictor.spec.multiple) * predictor.spec.multiple


# ---- one image ------------------------------------------------------------------------------------------------------


def predict_tiles(
    predictor: "Predictor",
    image: ImageArray | Windows,
    tiling: Tiling,
    options: FindOptions,
    given: GivenBoxes | None = None,
    timer: StageTimer | None = None,
    on_tile: OnTile | None = None,
) -> Prediction:
    """The instances of an image (H, W, 3) or of one that is read in windows, joined from those of its tiles.

    Options as of `Predictor.predict`; max_instances is of the whole image. A tile has up to `ROOM` times as many as the
    model reports, up to `MOST_ROOM` times where max_instances is larger. given: boxes that become the instances; each
    is looked at in the tile in which it is farthest from inner borders.
    """
    size = size_of(image)
    tiles = tiling.tiles(size)
    owner = None if given is None else _holding(given, tiles, size)
    asked, own_most = options.max_instances or 0, predictor.max_instances
    in_tile = replace(options, max_instances=min(max(asked, ROOM * own_most), MOST_ROOM * own_most))
    plan = predictor.plan(options if given is not None else in_tile)
    found: list[tuple[int, Prediction]] = []
    together = predictor.together(options.batch_size)
    for first in range(0, len(tiles), together):
        numbers = range(first, min(first + together, len(tiles)))
        with stage(timer, "read"):
            pixels = [window_of(image, tiles[t]) for t in numbers]
        own = None
        if given is not None:
            own = [given.rows(np.flatnonzero(owner == t), tiles[t, :2]) for t in numbers]
        found += zip(numbers, passes(predictor, pixels, options, plan, own, timer), strict=True)
        if on_tile is not None:
            on_tile(numbers[-1] + 1, len(tiles))
    with stage(timer, "join"):
        if given is not None and owner is not None:
            return _in_order(found, tiles, size, owner, tiling)
        return _joined(predictor, found, tiles, size, tiling, options.max_instances)


def size_of(image: ImageArray | Windows) -> Size:
    """(H, W)."""
    return image.size if isinstance(image, Windows) else (image.shape[0], image.shape[1])


def window_of(image: ImageArray | Windows, tile: IntArray | None = None) -> ImageArray:
    """The pixels of a tile; None: of the whole image."""
    if isinstance(image, Windows):
        left, top, right, bottom = (0, 0, image.size[1], image.size[0]) if tile is None else tile.tolist()
        return image.read(top, left, (bottom - top, right - left))
    return image if tile is None else image[tile[1] : tile[3], tile[0] : tile[2]]


def _holding(given: GivenBoxes, tiles: IntArray, size: Size) -> IntArray:
    """(N,) for each box the tile that holds it, with the most room. DataError for a box that none holds."""
    count, best, room = len(given.boxes), np.zeros(len(given.boxes), np.int64), np.full(len(given.boxes), -1.0)
    for t in range(len(tiles)):
        own = seams.Pieces(
            size, tiles, np.full(count, t), given.boxes, np.ones(count, np.float32), given.labels
        ).clearance
        inside = (given.boxes[:, :2] >= tiles[t, :2]).all(axis=1) & (given.boxes[:, 2:] <= tiles[t, 2:]).all(axis=1)
        better = inside & (own > room)
        best[better], room[better] = t, own[better]
    if (room < 0).any():
        row = int(np.argmin(room))
        raise DataError(
            f"boxes: row {row}, {given.boxes[row].tolist()}, lies in no tile as a whole. Take larger tiles, a larger "
            "overlap, or tiles 'off'.",
            options=("tiles", "tile_overlap"),
        )
    return best


# ---- of all tiles ---------------------------------------------------------------------------------------------------


def _placed(found: Sequence[tuple[int, Prediction]], tiles: IntArray, size: Size) -> tuple[dict[str, Any], IntArray]:
    """The fields of all instances in pixels of the image, and (N,) the tile of each."""
    tile = np.repeat([t for t, _ in found], [len(p) for _, p in found]).astype(np.int64)
    shift = tiles[tile, :2]  # (N, 2) x, y
    every = [p for _, p in found]
    fields: dict[str, Any] = {
        name: np.concatenate([getattr(p, name) for p in every])
        for name in ("boxes", "scores", "labels", "keypoints", "box_scores")
        if getattr(every[0], name) is not None
    }
    fields["boxes"] = (fields["boxes"] + np.tile(shift, 2)).astype(np.float32)
    if "keypoints" in fields:
        marks = fields["keypoints"]
        moved = marks[:, :, :2] + shift[:, None]
        placed = np.where(marks[:, :, 2:] > 0, moved, marks[:, :, :2])
        fields["keypoints"] = np.concatenate([placed, marks[:, :, 2:]], axis=2)
    if every[0].crops is not None:
        crops = [p.crops for p in every if p.crops is not None]
        corners = np.concatenate([m.corners for m in crops]) + shift[:, ::-1]
        fields["crops"] = Masks(size, corners, tuple(chain.from_iterable(m.bitmaps for m in crops)))
    return fields, tile


def _joined(
    predictor: "Predictor",
    found: Sequence[tuple[int, Prediction]],
    tiles: IntArray,
    size: Size,
    tiling: Tiling,
    most: int | None,
) -> Prediction:
    """One prediction of all tiles, best first."""
    fields, tile = _placed(found, tiles, size)
    side = tiles[0, 2:] - tiles[0, :2]
    scale = math.sqrt(math.prod(input_size((int(side[1]), int(side[0])), predictor.spec)) / math.prod(side.tolist()))
    masks = fields.get("crops")
    pieces = seams.Pieces(
        size, tiles, tile, fields["boxes"], fields["scores"], fields["labels"], masks, seams.TOUCH / scale
    )
    ranks, scores = fields.get("box_scores", fields["scores"]), fields["scores"]
    groups = sorted(seams.objects(pieces), key=lambda rows: (-ranks[rows[0]], rows[0]))
    limits = {} if most == 0 else _limits(found)
    if most and len(groups) > most:
        limits[MAX_INSTANCES] = float(ranks[groups[most][0]])
    groups = sorted(groups[:most], key=lambda rows: (-scores[rows[0]], rows[0]))
    first = np.array([rows[0] for rows in groups], np.int64)
    chosen = {name: value[first] for name, value in fields.items() if name != "crops"}
    for i, rows in enumerate(groups):
        if len(rows) > 1:
            _join(chosen, i, fields, rows)
    if masks is not None:
        joined = [seams.union(masks, rows) for rows in groups]
        corners = np.array([m.corners[0] for m in joined], np.int64).reshape(-1, 2)
        chosen["crops"] = Masks(size, corners, tuple(m.bitmaps[0] for m in joined))
    return Prediction(classes=predictor.classes, size=size, limits=limits, tiles=_told(tiling, size, found), **chosen)


def _join(chosen: dict[str, Any], row: int, fields: dict[str, Any], rows: list[int]) -> None:
    """Make one row of several pieces: the box around them, and each landmark as it is seen best."""
    boxes = fields["boxes"][rows]
    chosen["boxes"][row] = np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)])
    if "keypoints" in fields:
        marks = fields["keypoints"][rows]  # (pieces, P, 3)
        chosen["keypoints"][row] = marks[marks[:, :, 2].argmax(axis=0), np.arange(marks.shape[1])]


def _in_order(
    found: Sequence[tuple[int, Prediction]], tiles: IntArray, size: Size, owner: IntArray, tiling: Tiling
) -> Prediction:
    """The instances of boxes that were given, in their order."""
    fields, _ = _placed(found, tiles, size)
    back = np.argsort(np.argsort(owner, kind="stable"), kind="stable")
    chosen = {name: value[back] for name, value in fields.items()}
    return Prediction(classes=found[0][1].classes, size=size, tiles=_told(tiling, size, found), **chosen)


def _limits(found: Sequence[tuple[int, Prediction]]) -> dict[str, float]:
    """The limit of tiles where one was reached, with the best score of what it left out."""
    scores = [score for _, one in found for score in one.limits.values()]
    return {IN_TILE: max(scores)} if scores else {}


def _told(tiling: Tiling, size: Size, found: Sequence[tuple[int, Prediction]]) -> str:
    full = [p for _, p in found if p.limits]
    more = f" {len(full)} of them had more objects than a limit of a tile allows." if full else ""
    return tiling.words(size) + more
