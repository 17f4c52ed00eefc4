"""Instances and the class of every pixel, merged to one segment for each pixel: the rule of Panoptic FPN.

Letters: N instances, H W image.
"""

import numpy as np

from maskwright.errors import DataError
from maskwright.types import Classes, Instances, IntArray, Panoptic, Segment

OVERLAP, STUFF_AREA, SCORE = 0.5, 4096, 0.5
"""As detectron2 has them."""


def combine(
    instances: Instances,
    semantic: IntArray,
    semantic_classes: Classes,
    *,
    overlap: float = OVERLAP,
    stuff_area: int = STUFF_AREA,
    score: float = SCORE,
) -> Panoptic:
    """Divide the image into segments: instances by descending score, then stuff on the pixels that are left.

    semantic: (H, W) labels of `semantic_classes`, whose first class stands for all things; -1 is none.
    overlap: an instance of which a larger share is taken already is left out. stuff_area: kinds of stuff with fewer
    pixels are left out. score: of instances, at least. Raises DataError for instances without masks.
    """
    if instances.crops is None:
        raise DataError("Segments are made of masks, and these instances have none.")
    ids, segments = np.zeros(instances.size, np.int32), list[Segment]()
    for i in np.argsort(-instances.scores, kind="stable"):
        if instances.scores[i] < score:
            break
        crop, (top, left) = instances.crops.bitmaps[i], instances.crops.corners[i]
        place = ids[top : top + crop.shape[0], left : left + crop.shape[1]]
        free, area = crop & (place == 0), int(crop.sum())
        if area and free.any() and area - int(free.sum()) <= overlap * area:
            segments.append(Segment(len(segments) + 1, int(instances.labels[i]), float(instances.scores[i])))
            place[free] = len(segments)
    things = len(instances.classes)
    for label in np.unique(semantic[semantic > 0]).tolist():
        free = (semantic == label) & (ids == 0)
        if free.any() and int(free.sum()) >= stuff_area:
            segments.append(Segment(len(segments) + 1, things + label - 1))
            ids[free] = len(segments)
    return Panoptic(ids, tuple(segments), *panoptic_classes(instances.classes, semantic_classes))


def panoptic_classes(things: Classes, semantic_classes: Classes) -> tuple[Classes, tuple[bool, ...]]:
    """The classes of things, then of stuff, and by label whether it is a thing."""
    stuff = len(semantic_classes) - 1
    names, ids = [*things.names, *semantic_classes.names[1:]], [*things.ids, *semantic_classes.ids[1:]]
    if taken := set(things.ids) & set(semantic_classes.ids[1:]):
        raise DataError(f"The id {min(taken)} is that of a thing and of stuff, so segments cannot tell them apart.")
    return Classes(names, ids), (True,) * len(things) + (False,) * stuff
