"""What the checks read: image records with their annotations, and annotations with their geometry parsed.

Letters: H W image, n corners of a polygon. Boxes are xyxy in the image's continuous pixels.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskwright.data.dataset import RLE, draw_segmentations, usual_part
from maskwright.data.faults.raw_rows import GONE, RawRows, finite, stated_size
from maskwright.data.faults.table import FAULTS, Finding
from maskwright.data.formats.coco.rows import is_ignored
from maskwright.data.formats.shared.fields import Box, Row, box_tuple, whole
from maskwright.types import Masks, Size

Points = NDArray[np.float64]


@dataclass(eq=False)
class CheckedImage:
    """An image record. at: its position in the file's list. objects: positions of its annotations.

    found: the faults named so far.
    """

    at: int
    row: Row
    id: int
    name: str
    size: Size | None
    objects: list[int] = field(default_factory=list)
    found: set[str] = field(default_factory=set)

    @property
    def where(self) -> str:
        return f"image {self.id} ({self.name})"

    def finding(self, fault: str, message: str, detail: Any = None) -> Finding | None:
        """The finding, unless a fault of the image that was found already explains it."""
        if FAULTS[fault].after & self.found:
            return None
        self.found.add(fault)
        return Finding(fault, self.where, message, "images", self.at, detail)


@dataclass(eq=False)
class CheckedObject:
    """An annotation.

    where: what messages call it. box, polygons, rle: what could be parsed. found: the faults named so far.
    """

    at: int
    row: Row
    image: CheckedImage
    size: Size
    category: int | None
    where: str = ""
    box: Box | None = None
    polygons: tuple[Points, ...] = ()  # (n, 2) each
    rle: RLE | None = None
    found: set[str] = field(default_factory=set)

    @property
    def crowd(self) -> bool:
        return marks_crowd(self.row)

    def finding(self, fault: str, message: str, detail: Any = None) -> Finding | None:
        """The finding, unless a fault of the annotation or its image that was found already explains it."""
        if FAULTS[fault].after & (self.found | self.image.found):
            return None
        self.found.add(fault)
        return Finding(fault, self.where, message, "annotations", self.at, detail)

    @property
    def has_outline(self) -> bool:
        return bool(self.polygons) or self.rle is not None

    @cached_property
    def extent(self) -> Box | None:
        """The box of the outline: of the corners of polygons, of the pixels of run lengths."""
        if self.polygons:
            points = np.concatenate(self.polygons)
            return box_tuple(np.concatenate([points.min(axis=0), points.max(axis=0)]))
        if self.rle is not None and self.mask is not None and self.mask.areas()[0]:
            return box_tuple(self.mask.boxes()[0])
        return None

    @cached_property
    def mask(self) -> Masks | None:
        """The one mask, drawn as the COCO API does; None without an outline."""
        if self.rle is not None:
            return draw_segmentations([self.rle], self.size)
        if self.polygons:
            return draw_segmentations([tuple(p.reshape(-1) for p in self.polygons)], self.size)
        return None

    @property
    def place(self) -> Box | None:
        """The box of the outline, or the stated one."""
        return self.extent or self.box


def marks_crowd(row: Row) -> bool:
    """Whether a record says that it is a crowd region, or one to ignore, in whatever spelling."""
    return row.get("iscrowd") in (1, "1") or is_ignored(row)


@dataclass(eq=False)
class RecordIndex:
    """The usable records of a data set and how they refer to each other.

    categories: id to record position (the first, where ids clash). landmarks: category id to its keypoint count.
    """

    rows: RawRows
    images: list[CheckedImage] = field(default_factory=list)
    by_id: dict[int, CheckedImage] = field(default_factory=dict)
    by_position: dict[int, CheckedImage] = field(default_factory=dict)
    categories: dict[int, int] = field(default_factory=dict)
    landmarks: dict[int, int] = field(default_factory=dict)
    counts: Counter[int] = field(default_factory=Counter)
    boxes_are_corners: bool = False

    def where(self, at: int, image: CheckedImage) -> str:
        """What messages call an annotation."""
        return self.rows.places.get(at) or f"{self.rows.where(at)} of {image.name}"

    def name(self, category: int | None) -> str:
        """The name of a category, for messages."""
        at = None if category is None else self.categories.get(category)
        return f"class {category}" if at is None else str(self.rows.categories[at].get("name"))

    def annotations(self) -> Iterator[tuple[int, Row]]:
        """Position and record of every annotation that is a JSON object."""
        return ((k, row) for k, row in enumerate(self.rows.annotations) if isinstance(row, dict))


def sides_of(view: RecordIndex) -> tuple[list[CheckedImage], list[CheckedImage]]:
    """The images of the training part of a data set, and those of the parts that are held out (val, test)."""
    parts = [(image, str(image.row.get("split"))) for image in view.images]
    learnt = [image for image, name in parts if usual_part(name) == "train" or name.lower() == "trainval"]
    return learnt, [image for image, name in parts if usual_part(name) in ("val", "test")]


def index(rows: RawRows) -> RecordIndex:
    """The index of the well-formed records."""
    out = RecordIndex(rows)
    for k, row in enumerate(rows.categories):
        number = whole(row.get("id")) if isinstance(row, dict) else None
        if number is not None and out.categories.setdefault(number, k) == k:
            points = row.get("keypoints")
            out.landmarks[number] = len(points) if isinstance(points, list) else 0
    for k, row in enumerate(rows.images):
        if row is GONE or not isinstance(row, dict):
            continue
        number, name = whole(row.get("id")), row.get("file_name")
        if number is None or not isinstance(name, str) or not name:
            continue
        image = CheckedImage(k, row, number, name, stated_size(row))
        out.images.append(image)
        out.by_position[k] = image
        out.by_id.setdefault(number, image)
    for k, row in out.annotations():
        owner = out.by_id.get(whole(row.get("image_id")))  # type: ignore[arg-type]
        if owner is not None:
            owner.objects.append(k)
        category = whole(row.get("category_id"))
        if category is not None and not marks_crowd(row):
            out.counts[category] += 1
    out.boxes_are_corners = _corners(out)
    return out


def _corners(view: RecordIndex) -> bool:
    """Whether the boxes without outline are two corners: all are valid so, many leave their image otherwise."""
    seen = beyond = 0
    for image in view.images:
        if image.size is None:
            continue
        height, width = image.size
        for k in image.objects:
            row = view.rows.annotations[k]
            box = row.get("bbox")
            if row.get("segmentation") or not (isinstance(box, list) and len(box) == 4 and all(map(finite, box))):
                continue
            x, y, right, bottom = box
            if right <= x or bottom <= y or right > width + 1 or bottom > height + 1:
                return False
            seen += 1
            beyond += x + right > width + 1 or y + bottom > height + 1
    return seen >= 3 and beyond > 0.2 * seen
