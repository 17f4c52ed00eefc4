"""Which weights have rows for each class, and how many classes weights are for. Each family has a table of its own."""

from collections.abc import Mapping
from typing import NamedTuple

import torch


class ClassRows(NamedTuple):
    """Layout of a tensor's rows: `each` rows for every class, then `background` rows.

    blocks: the tensor consists of several such blocks, one for each prior. counts: one block, so that the length of
    its bias gives the number of classes.
    """

    each: int
    background: int = 0
    blocks: bool = False
    counts: bool = False

    def count(self, classes: int) -> int:
        """Number of rows of a block for that many classes."""
        return classes * self.each + self.background


RowTable = Mapping[str, ClassRows]
"""Layouts by the beginning of the tensors' names; names are ours."""


def class_rows(name: str, table: RowTable) -> ClassRows | None:
    """The layout of the tensor of that name; None if it has no rows for classes."""
    return next((rows for start, rows in table.items() if name.startswith(start)), None)


def class_count(shapes: Mapping[str, torch.Size], table: RowTable) -> int | None:
    """The number of classes that weights of these shapes are for; None if they have no head that shows it."""
    counted = ((rows, shapes.get(f"{start}bias")) for start, rows in table.items() if rows.counts)
    return next(((shape[0] - rows.background) // rows.each for rows, shape in counted if shape is not None), None)
