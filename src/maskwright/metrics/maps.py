"""What the metrics of all pixels share: the classes of a data set's maps, and the labels of a model's among them.

Letters: H W image.
"""

import numpy as np

from maskwright.data.dataset import Dataset
from maskwright.errors import DataError
from maskwright.results.prediction import Prediction
from maskwright.types import Classes, Instances, IntArray


def semantic_of(found: Instances, classes: Classes, where: str) -> IntArray:
    """(H, W) the classes of the pixels of an image among `classes`, whose first stands for all things; -1 is none.

    Kinds of stuff match by name; those that `classes` does not have are none. Raises DataError where nothing was found
    for all pixels.
    """
    if not isinstance(found, Prediction) or found.semantic is None or found.semantic_classes is None:
        raise DataError(
            f"The result for {where} has no class for every pixel, which this metric measures. Use a model such as "
            "'panoptic_fpn_r50'."
        )
    table = np.full(len(found.semantic_classes) + 1, -1, np.int64)
    table[:-1] = found.semantic_classes.match(classes)
    table[0] = 0
    return table[found.semantic]


def panoptic_classes(dataset: Dataset) -> tuple[Classes, tuple[bool, ...]]:
    """The classes of a data set's segments, things and then stuff, and by label whether it is a thing."""
    things, stuff = dataset.classes, dataset.semantic_classes
    names, ids = ((), ()) if stuff is None else (stuff.names[1:], stuff.ids[1:])
    every = Classes([*things.names, *names], [*things.ids, *ids])
    return every, (True,) * len(things) + (False,) * len(names)


def absent_stuff(known: Classes | None, dataset: Dataset) -> tuple[str, ...]:
    """A sentence about the stuff of a data set that a model does not know. known: the model's semantic classes."""
    if known is None or dataset.semantic_classes is None:
        return ()
    lost = [name for name in dataset.semantic_classes.names[1:] if name not in known.names]
    if not lost:
        return ()
    names = ", ".join(lost[:5]) + (", ..." if len(lost) > 5 else "")
    return (f"The model does not have {len(lost)} of the data set's kinds of stuff ({names}).",)
