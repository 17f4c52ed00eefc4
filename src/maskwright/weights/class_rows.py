"""Which weights have rows for each class, and how many classes weights are for. Names are ours: see `keymaps`."""

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor


class ClassRows(NamedTuple):
    """Layout of a tensor's rows: `each` rows for every class, then `background` rows.

    blocks: the tensor consists of several such blocks, one for each prior.
    """

    each: int
    background: int = 0
    blocks: bool = False

    def count(self, classes: int) -> int:
        """Number of rows of a block for that many classes."""
        return classes * self.each + self.background


CLASS_ROWS: Mapping[str, ClassRows] = {
    "box_predictor.classes.": ClassRows(1, 1),
    "box_predictor.deltas.": ClassRows(4),
    "mask_head.logits.": ClassRows(1),
    "head.logits.": ClassRows(1, 1, blocks=True),
    "semantic.": ClassRows(1),
    "scorer.conv.5.": ClassRows(1),
}
"""By the beginning of the tensors' names."""

_COUNTED = ("box_predictor.classes.bias", "semantic.bias")  # one block each, so that their length gives the number


def class_rows(name: str) -> ClassRows | None:
    """The layout of the tensor of that name; None if it has no rows for classes."""
    return next((rows for start, rows in CLASS_ROWS.items() if name.startswith(start)), None)


def class_count(state: Mapping[str, Tensor]) -> int | None:
    """The number of classes that weights under our names are for; None if they have no head that shows it."""
    name = next((n for n in _COUNTED if n in state), None)
    rows = class_rows(name) if name else None
    return (len(state[name]) - rows.background) // rows.each if name and rows else None
