"""The elements of a CVAT file: labels, numbers and shapes.

Letters: H W image, h w window of a mask, n points. Coordinates are continuous pixels.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

from maskwright.data.dataset import RLE
from maskwright.data.formats.cvat.labels import Labels
from maskwright.data.formats.shared.fields import LARGEST, Faults, Record, RecordError, short
from maskwright.data.formats.shared.outlines import box_corners, ellipse, rle_of, turned
from maskwright.data.formats.shared.shapes import LoosePoints, ShapeGroup
from maskwright.data.formats.shared.xml_tree import line
from maskwright.ops import masks as mask_ops
from maskwright.types import Size

OWN = frozenset(("is_crowd", "track_id"))
"""The attributes that are fields here."""


@dataclass
class ElementReader:
    """Reads the shapes of one file."""

    path: Path
    labels: Labels
    left_out: Counter[str]
    faults: Faults = None

    def fault(self, element: Element, problem: str) -> RecordError:
        return Record(self.path, f"line {line(element)}").fault(problem)

    def label(self, element: Element, known: bool = True) -> str:
        """The label of a shape; known: it must be one of the file's."""
        name = element.attrib.get("label", "")
        problem = self.labels.fault(name) if known else (None if name else "the shape has no label.")
        if problem is not None:
            raise self.fault(element, problem)
        return name

    def whole(self, element: Element, key: str) -> int:
        text = element.attrib.get(key, "").strip()
        if not text.removeprefix("-").isdecimal() or len(text) > 18:
            raise self.fault(element, f"'{key}' must be a whole number, got {short(text)}.")
        return int(text)

    def number(self, element: Element, key: str, default: str = "") -> float:
        return float(self._floats(element, [element.attrib.get(key, default)], f"'{key}'")[0])

    def _floats(self, element: Element, words: Sequence[str], what: str) -> NDArray[np.float64]:
        try:
            values = np.array([float(w) for w in words], np.float64)
        except ValueError:
            values = np.array([np.nan])
        if not (np.abs(values) < LARGEST).all():
            raise self.fault(element, f"{what} must be finite numbers, got {short(' '.join(words))}.")
        return values

    def points(self, element: Element, least: int) -> NDArray[np.float64]:
        """(n, 2) of the attribute points, "x,y;x,y;...", at least `least` of them."""
        pairs = [pair.split(",") for pair in element.attrib.get("points", "").split(";") if pair.strip()]
        if len(pairs) < least or any(len(pair) != 2 for pair in pairs):
            text = short(element.attrib.get("points", ""))
            raise self.fault(element, f"a {element.tag} needs at least {least} points 'x,y;x,y;...', got {text}.")
        return self._floats(element, [v for pair in pairs for v in pair], "points").reshape(-1, 2)

    def loose(self, element: Element, group: str | None) -> LoosePoints:
        """A <points> element."""
        where, name = f"{self.path}: line {line(element)}", self.label(element, known=False)
        hidden = element.attrib.get("occluded") == "1"
        return LoosePoints(where, group, name, self.points(element, 1).tolist(), hidden)

    def thing(self, element: Element, label: str, size: Size) -> ShapeGroup | None:
        """A shape as an object of its own; None for a skeleton of which no point is inside."""
        thing = ShapeGroup(f"{self.path}: line {line(element)}", label, box_only=True)
        if element.tag == "polygon":
            thing.outlines.append((self.points(element, 3).reshape(-1),))
        elif element.tag == "mask":
            thing.outlines.append(self._mask(element, size))
        elif element.tag == "ellipse":
            x, y, rx, ry = (self.number(element, key) for key in ("cx", "cy", "rx", "ry"))
            thing.outlines.append((ellipse(x, y, rx, ry, self.number(element, "rotation", "0")),))
        elif element.tag == "box":
            self._box(element, thing)
        else:
            thing.skeleton = label
            thing.points = {self.label(p, known=False): self._landmark(p) for p in element.iterfind("points")}
            if not any(v for _, _, v in thing.points.values()):
                self.left_out["skeleton{s} without a point inside"] += element.attrib.get("frame") is None
                return None
        self._remarks(element, thing)
        return thing

    def _box(self, element: Element, thing: ShapeGroup) -> None:
        """A box; a rotated one is an outline."""
        x0, y0, x1, y1 = (self.number(element, key) for key in ("xtl", "ytl", "xbr", "ybr"))
        if x1 < x0 or y1 < y0:
            raise self.fault(element, f"the box {short([x0, y0, x1, y1])} ends before it begins.")
        corners, degrees = box_corners((x0, y0, x1, y1)), self.number(element, "rotation", "0")
        if degrees % 360 == 0:
            thing.boxes.append(corners.reshape(-1))
        else:
            thing.outlines.append((turned(corners, (x0 + x1) / 2, (y0 + y1) / 2, degrees).reshape(-1),))

    def _landmark(self, element: Element) -> tuple[float, float, float]:
        if element.attrib.get("outside") == "1":
            return 0.0, 0.0, 0.0
        x, y = self.points(element, 1)[0].tolist()
        return x, y, 1.0 if element.attrib.get("occluded") == "1" else 2.0

    def _mask(self, element: Element, size: Size) -> RLE:
        """Run lengths row by row inside a window, background first."""
        left, top, width, height = (self.whole(element, key) for key in ("left", "top", "width", "height"))
        words = element.attrib.get("rle", "").replace(",", " ").split()
        runs = [int(w) for w in words if w.isdecimal() and len(w) < 12]
        if width < 1 or height < 1 or len(runs) < max(len(words), 1) or sum(runs) != width * height:
            total = sum(runs) if len(runs) == len(words) else "not all whole numbers"
            area = f"{width}x{height} = {width * height}"
            raise self.fault(element, f"the mask's rle must add up to its window of {area} pixels, got {total}.")
        if left + width > size[1] or top + height > size[0] or left < 0 or top < 0:
            window = f"left {left}, top {top}, width {width}, height {height}"
            image = f"{size[0]}x{size[1]} (height x width)"
            raise self.fault(element, f"the mask's window ({window}) leaves the image of {image}.")
        if width * height > mask_ops.MOST_DRAWN:
            raise self.fault(element, f"the mask's window has more than {mask_ops.MOST_DRAWN} pixels.")
        flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
        return rle_of(flat.reshape(height, width), top, left, size)

    def _remarks(self, element: Element, thing: ShapeGroup) -> None:
        """Set occlusion, depth and attributes."""
        if element.attrib.get("occluded") == "1":
            thing.extra["occluded"] = True
        if element.attrib.get("z_order", "0") != "0":
            thing.extra["z_order"] = self.whole(element, "z_order")
        own = {e.attrib.get("name", ""): (e.text or "").strip() for e in element.iterfind("attribute")}
        thing.crowd = own.get("is_crowd", "").lower() in ("true", "1")
        if own.get("track_id", "").isdecimal():
            thing.track_id = int(own["track_id"])
        others = {k: v for k, v in own.items() if k not in OWN}
        if others:
            thing.extra["attributes"] = others
