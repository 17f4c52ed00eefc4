"""Objects that a file states as a group of shapes, with loose points as their landmarks (LabelMe, CVAT)."""

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskwright.data.dataset import RLE, Polygons
from maskwright.data.formats.shared.fields import Faults, noted
from maskwright.data.formats.shared.losses import sentences
from maskwright.data.formats.shared.outlines import FileObject, extent, keypoints_of, union
from maskwright.errors import DataError
from maskwright.types import Classes, Landmarks, Size

Point = tuple[float, float, float]
"""x, y, visibility (0 not annotated, 1 hidden, 2 seen)."""


@dataclass
class ShapeGroup:
    """The shapes of one object of one image.

    where: the first of them, for messages. boxes: four corners each. box_only: boxes alone are no outline.
    points: landmarks by name. skeleton: the label that they come from, where that is another one.
    """

    where: str
    label: str
    outlines: list[Polygons | RLE] = field(default_factory=list)
    boxes: list[NDArray[np.float64]] = field(default_factory=list)
    box_only: bool = False
    points: dict[str, Point] = field(default_factory=dict)
    skeleton: str | None = None
    crowd: bool = False
    track_id: int | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    def join(self, part: "ShapeGroup") -> None:
        """Add another part of the same object."""
        self.outlines += part.outlines
        self.boxes += part.boxes
        self.box_only |= part.box_only
        self.add_points(part.points, part.where)
        self.skeleton = self.skeleton or part.skeleton
        self.crowd |= part.crowd
        self.track_id = part.track_id if self.track_id is None else self.track_id
        self.extra = {**part.extra, **self.extra}

    def add_points(self, points: Mapping[str, Point], where: str) -> None:
        """Add landmarks; only annotated ones can clash."""
        for name, point in points.items():
            before = self.points.get(name)
            if before is None or not before[2]:
                self.points[name] = point
            elif point[2]:
                raise DataError(f"{where}: the group has two points called '{name}'. Rename one, or group them apart.")

    def stated(self, classes: Classes, size: Size, *, boxes: bool = False) -> FileObject:
        """The object with its label and landmarks. boxes: an object of boxes alone has no outline, only a box."""
        label = classes.names.index(self.label)
        only_box = bool(self.boxes) and not self.outlines and (boxes or self.box_only)
        outlines = [*self.outlines, *((box,) for box in self.boxes)]
        return FileObject(
            where=self.where,
            label=label,
            segmentation=None if only_box or not outlines else union(outlines, size, self.where),
            box=extent(self.boxes) if only_box else None,
            crowd=self.crowd,
            keypoints=keypoints_of(classes.landmarks[label], self.points),
            track_id=self.track_id,
            extra=self.extra,
        )


@dataclass(frozen=True)
class LoosePoints:
    """One or several points of a label. group: that of the object they belong to; None: no object's."""

    where: str
    group: Hashable
    name: str
    places: Sequence[Sequence[float]]
    hidden: bool


def assembled(
    shapes: Iterable[tuple[ShapeGroup, Hashable]],
    loose: Iterable[LoosePoints],
    left_out: Counter[str],
    faults: Faults = None,
) -> list[ShapeGroup]:
    """The objects of an image: shapes of one label and one group are one; without a group (None) each is its own.

    Skeletons and points in the group of exactly one other object are its landmarks; points without one are counted.
    faults: gets landmarks that clash, of which the first is kept.
    """
    objects: dict[tuple[str, Hashable], ShapeGroup] = {}
    owners: dict[Hashable, list[ShapeGroup]] = {}
    for k, (shape, group) in enumerate(shapes):
        key = ("alone", k) if group is None else group
        if (shape.label, key) in objects:
            with noted(faults):
                objects[shape.label, key].join(shape)
        else:
            objects[shape.label, key] = shape
            owners.setdefault(key, []).append(shape)
    for group, members in owners.items():
        bodies = [t for t in members if t.outlines or t.boxes]
        if len(bodies) == 1:
            for t in members:
                if t is not bodies[0]:
                    with noted(faults):
                        bodies[0].join(t)
            owners[group] = bodies
    _give_points(loose, owners, left_out, faults)
    kept = {id(t) for members in owners.values() for t in members}
    return [t for t in objects.values() if id(t) in kept]


def _give_points(
    loose: Iterable[LoosePoints],
    owners: Mapping[Hashable, Sequence[ShapeGroup]],
    left_out: Counter[str],
    faults: Faults,
) -> None:
    """Add the points to the only object of their group; those without one are counted. owners: objects by group."""
    for one in loose:
        own = owners.get(one.group, ()) if one.group is not None else ()
        if len(own) != 1:
            left_out["point{s} of a group with several objects" if own else "point{s} without an object"] += 1
            continue
        for k, (x, y) in enumerate(one.places):
            name = one.name if len(one.places) == 1 else f"{one.name} {k + 1}"
            with noted(faults):
                own[0].add_points({name: (x, y, 1.0 if one.hidden else 2.0)}, one.where)


def file_objects(
    groups: Iterable[ShapeGroup], classes: Classes, size: Size, faults: Faults = None, *, boxes: bool = False
) -> list[FileObject]:
    """`ShapeGroup.stated` of each; faults: gets those of outlines that cannot be joined."""
    out = []
    for group in groups:
        with noted(faults):
            out.append(group.stated(classes, size, boxes=boxes))
    return out


def completed(marks: Landmarks | None, points: Iterable[str]) -> Landmarks | None:
    """The landmarks and, after them, other points in order of appearance; None where there is no point at all."""
    known = Landmarks(()) if marks is None else marks
    names = tuple(dict.fromkeys([*known.names, *points]))
    if names == known.names:
        return known or None
    return Landmarks(names, known.links)


def left_out_notes(left_out: Counter[str]) -> tuple[str, ...]:
    """A sentence for each kind of shape that is no object; see `sentence`."""
    return tuple(f"Left out, being no objects: {text}" for text in sentences(left_out))
