"""The labels of a CVAT file: which of them are classes, and the landmarks of each class.

A skeleton is a label of its own. It is a class unless it only gives landmarks to objects of another label, or is called
"NAME landmarks" beside a label NAME: then it is part of that class.
"""

from collections.abc import Sequence
from pathlib import Path
from xml.etree.ElementTree import Element

from maskwright.data.formats.shared.shapes import ShapeGroup, completed
from maskwright.data.formats.shared.xml_tree import line, parse_xml, text_of
from maskwright.errors import DataError, suggest
from maskwright.types import Classes, Landmarks

_NO_CLASS = ("tag", "points", "polyline", "cuboid")  # label types whose shapes are no objects


class Labels:
    """The labels in the head of a file, in its order; without any, those that its shapes use."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.types: dict[str, str] = {}
        self.skeletons: dict[str, list[str]] = {}
        self.stated = False
        self._svg: dict[str, str] = {}

    def read(self, path: Path, tree: Element) -> None:
        """Take the labels in the head of a file. Raises DataError where they are not those of the files before."""
        before = set(self.types)
        own = set[str]()
        meta = tree.find("meta")
        for element in () if meta is None else meta.iter("label"):
            name, parent = text_of(element, "name"), text_of(element, "parent")
            if name is None:
                raise DataError(f"{path}: line {line(element)}: the label has no name.")
            if parent is not None:
                self.skeletons.setdefault(parent, []).append(name)
                continue
            own.add(name)
            if self.types.setdefault(name, text_of(element, "type") or "any") == "skeleton":
                self.skeletons.setdefault(name, [])
                self._svg[name] = text_of(element, "svg") or ""
        if before and own != before:
            raise DataError(
                f"{path}: it belongs to one data set with other files of {self.path}, but their labels differ "
                f"({', '.join(sorted(own ^ before))}). Make them equal, or give one of the files instead of the folder."
            )
        self.stated = bool(own)

    def fault(self, name: str) -> str | None:
        """What is wrong with the label of a shape; None for nothing."""
        if not name:
            return "the shape has no label."
        if not self.stated:
            self.types.setdefault(name, "any")
        elif name not in self.types:
            return f"the label '{name}' is not in the head of the file.{suggest(name, self.types)} Correct it."
        return None

    def owner(self, skeleton: str) -> str | None:
        """The class that a skeleton called "NAME landmarks" belongs to."""
        own = skeleton.removesuffix(" landmarks")
        return own if own != skeleton and own in self.types else None

    def classes(self, things: Sequence[ShapeGroup]) -> Classes:
        """The classes, in the order of the file."""
        used, lent = {t.label for t in things}, {t.skeleton for t in things if t.skeleton not in (None, t.label)}
        names = [
            name
            for name, kind in self.types.items()
            if name in used or not (kind in _NO_CLASS or name in lent or (kind == "skeleton" and self.owner(name)))
        ]
        if not names:
            raise DataError(f"{self.path}: no label of this file is a class: its head has none, and no shape has one.")
        return Classes(names)

    def landmarks(self, skeleton: str) -> Landmarks:
        """The points of a skeleton, and the lines that its drawing has between them."""
        names = tuple(dict.fromkeys(self.skeletons.get(skeleton, ())))
        if not self._svg.get(skeleton):
            return Landmarks(names)
        where = f"{self.path}: the drawing of the skeleton '{skeleton}'"
        drawing = parse_xml(f"<svg>{self._svg[skeleton]}</svg>".encode(), where)
        nodes = {e.get("data-node-id"): e.get("data-label-name") for e in drawing.iter("circle")}
        ends = [(nodes.get(e.get("data-node-from")), nodes.get(e.get("data-node-to"))) for e in drawing.iter("line")]
        links = tuple((names.index(a), names.index(b)) for a, b in ends if a in names and b in names)
        return Landmarks(names, links)


def landmark_sets(classes: Classes, labels: Labels, things: Sequence[ShapeGroup]) -> tuple[Landmarks | None, ...]:
    """By label of `classes`: the points of the skeleton, then others in order of appearance; None without points."""
    out: list[Landmarks | None] = []
    for name in classes.names:
        own = [t for t in things if t.label == name]
        lent = [t.skeleton for t in own if t.skeleton is not None]
        stated = [s for s in labels.skeletons if s == name or labels.owner(s) == name]
        skeletons = list(dict.fromkeys([*lent, *stated]))
        first = labels.landmarks(skeletons[0]) if skeletons else None
        further = [p for other in skeletons[1:] for p in labels.skeletons.get(other, ())]
        out.append(completed(first, [*further, *(p for t in own for p in t.points)]))
    return tuple(out)
