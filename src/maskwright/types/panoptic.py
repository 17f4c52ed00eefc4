"""Panoptic maps: a segment for every pixel of an image, things and stuff.

Letters: H W image, K values of a map.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskwright.errors import DataError
from maskwright.types.image import Classes, ImageArray, Instances, IntArray, Masks, Size

THINGS = "things"
"""The name of the first class of semantic maps, which stands for all things; the others are kinds of stuff."""


def ranked(values: NDArray[Any]) -> tuple[IntArray, NDArray[np.int32], IntArray]:
    """The values (K,) of a map (H, W) in rising order, the place of each pixel's among them, and the pixels of each.

    Sorts runs of equal pixels instead of the pixels, so the values may be any.
    """
    flat = np.ascontiguousarray(values).reshape(-1)
    starts = np.flatnonzero(np.concatenate((np.ones(min(1, flat.size), np.bool_), flat[1:] != flat[:-1])))
    lengths = np.diff(starts, append=flat.size)
    found, places = np.unique(flat[starts], return_inverse=True)
    areas = np.bincount(places, weights=lengths, minlength=len(found)).astype(np.int64)
    return found.astype(np.int64), np.repeat(places.astype(np.int32), lengths).reshape(values.shape), areas


@dataclass(frozen=True)
class Segment:
    """One region of a panoptic map. id: its value in the map, above 0. label: 0..Q-1. crowd: many objects in one."""

    id: int
    label: int
    score: float = 1.0
    crowd: bool = False


@dataclass(eq=False, repr=False)
class Panoptic:
    """An image divided into segments: each pixel belongs to one thing, to a kind of stuff, or to no segment.

    ids: (H, W) int32, the segment of each pixel; 0 is no segment. segments: one row for each id in the map.
    classes: things and stuff. things: by label, whether the class has countable objects.
    Raises DataError where the map and the table disagree.
    """

    ids: NDArray[np.int32]
    segments: tuple[Segment, ...]
    classes: Classes
    things: tuple[bool, ...]

    def __post_init__(self) -> None:
        self.ids, self.segments = np.asarray(self.ids), tuple(self.segments)
        self.things = tuple(bool(t) for t in self.things)
        if self.ids.ndim != 2 or self.ids.dtype != np.int32:
            raise DataError(f"Panoptic: ids are int32 (H, W), got {self.ids.dtype} {self.ids.shape}.")
        if len(self.things) != len(self.classes):
            raise DataError(f"Panoptic: {len(self.classes)} classes but things has {len(self.things)} rows.")
        table = sorted(s.id for s in self.segments)
        found = [i for i in ranked(self.ids)[0].tolist() if i != 0]
        if table != found or (table and table[0] < 1):
            odd = sorted(set(table) ^ set(found))[:5] or table[:5]
            raise DataError(f"Panoptic: map and table need the same ids, each once and above 0; look at {odd}.")
        if any(not 0 <= s.label < len(self.classes) for s in self.segments):
            raise DataError(f"Panoptic: labels lie in 0..{len(self.classes) - 1}.")

    def __repr__(self) -> str:
        return f"Panoptic({len(self.segments)} segments on {self.size[0]}x{self.size[1]} (height x width))"

    @property
    def size(self) -> Size:
        """(H, W)."""
        return int(self.ids.shape[0]), int(self.ids.shape[1])

    @property
    def instances(self) -> Instances:
        """The things, crowds left out, with their masks; labels count the classes of things alone."""
        labels = [label for label, thing in enumerate(self.things) if thing]
        found = self.regions()
        found = found[[self.things[s.label] and not s.crowd for s in self.segments]]
        marks = [self.classes.landmarks[label] for label in labels]
        classes = Classes([self.classes[i] for i in labels], [self.classes.ids[i] for i in labels], marks)
        return replace(found, labels=np.array([labels.index(k) for k in found.labels], np.int64), classes=classes)

    def regions(self) -> Instances:
        """All segments in their order, stuff and crowds too, as instances with masks."""
        every = self._windows()
        windows = [every[s.id] for s in self.segments]
        corners = np.array([(y.start, x.start) for y, x in windows], np.int64).reshape(-1, 2)
        crops = tuple(self.ids[window] == s.id for s, window in zip(self.segments, windows, strict=True))
        masks = Masks(self.size, corners, crops)
        scores, labels = [s.score for s in self.segments], [s.label for s in self.segments]
        return Instances(masks.boxes(), np.array(scores), np.array(labels), self.classes, self.size, masks)

    def to_coco(self) -> list[dict[str, Any]]:
        """The `segments_info` of COCO's panoptic format: id, category_id, area, bbox (x, y, width, height), iscrowd."""
        windows, rows = self._windows(), list[dict[str, Any]]()
        for s in self.segments:
            y, x = windows[s.id]
            row = {"id": s.id, "category_id": self.classes.ids[s.label], "area": int((self.ids[y, x] == s.id).sum())}
            box = [x.start, y.start, x.stop - x.start, y.stop - y.start]
            rows.append({**row, "bbox": box, "iscrowd": int(s.crowd)})
        return rows

    def to_rgb(self) -> ImageArray:
        """(H, W, 3) uint8, the map as COCO's PNG files hold it: id = R + 256 G + 65536 B.

        Raises DataError for an id of 2^24 and more.
        """
        if int(self.ids.max(initial=0)) >= 1 << 24:
            raise DataError(f"COCO's panoptic images hold ids below 2^24, the largest here is {self.ids.max()}.")
        return np.stack([self.ids & 255, self.ids >> 8 & 255, self.ids >> 16], axis=-1).astype(np.uint8)

    def semantic(self) -> IntArray:
        """(H, W) the class of each pixel: 0 all things, 1, 2, ... the kinds of stuff in their order, -1 none."""
        stuff = [label for label, thing in enumerate(self.things) if not thing]
        own = {s.id: 0 if self.things[s.label] else 1 + stuff.index(s.label) for s in self.segments}
        found, ranks, _ = ranked(self.ids)
        return np.array([own.get(i, -1) for i in found.tolist()], np.int64)[ranks]

    def _windows(self) -> dict[int, tuple[slice, slice]]:
        """The rows and columns in which each segment lies, by its id."""
        from scipy.ndimage import find_objects

        found, ranks, _ = ranked(self.ids)
        return dict(zip(found.tolist(), find_objects(ranks + 1), strict=True))
