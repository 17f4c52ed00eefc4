"""Instances as an annotation of LabelMe 5.

Letters: N instances.
"""

from typing import Any

from maskwright.data.formats import labelme
from maskwright.ops import masks as mask_ops
from maskwright.types import Instances

Row = dict[str, Any]


def document(found: Instances, image_path: str) -> Row:
    """The annotation of the image at `image_path`; see `Prediction.to_labelme`."""
    shapes: list[Row] = []
    parts = [None] * len(found) if found.crops is None else mask_ops.to_polygons(found.crops)
    for i, own in enumerate(parts):
        (x0, y0, x1, y1), points = found.boxes[i].tolist(), named_points(found, i)
        kind = "rectangle" if own is None else "polygon"
        rings = [[[x0, y0], [x1, y1]]] if own is None else [mask_ops.with_seams(part).tolist() for part in own]
        group = i if len(rings) > 1 or points else None
        name, score = found.classes[int(found.labels[i])], float(found.scores[i])
        shapes += [_shape(name, kind, ring, group, score) for ring in rings]
        shapes += [_shape(mark, "point", [[x, y]], group, sure) for mark, (x, y, sure) in points]
    pairs = zip(found.classes, found.classes.landmarks, strict=True)
    marked = [(name, marks) for name, marks in pairs if marks is not None and found.keypoints is not None]
    return labelme.sheet(shapes, image_path, found.size, marked)


def named_points(found: Instances, row: int) -> list[tuple[str, list[float]]]:
    """The landmarks x, y, score of an instance that have a score, each with its name."""
    points = [] if found.keypoints is None else found.keypoints[row].tolist()
    marks = found.classes.landmarks[int(found.labels[row])]
    names = [f"landmark {k + 1}" for k in range(len(points))] if marks is None else marks.names
    return [(name, point) for name, point in zip(names, points, strict=False) if point[2] > 0]


def _shape(label: str, kind: str, points: list[list[float]], group: int | None, score: float) -> Row:
    return {
        "label": label,
        "points": points,
        "group_id": group,
        "description": f"score {score:.3f}",
        "shape_type": kind,
        "flags": {},
        "mask": None,
    }
