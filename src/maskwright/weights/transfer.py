"""Initialise a model with the weights of one that was trained for other classes.

Tensors of equal name and shape are copied. Of tensors with rows for classes, the rows of classes with equal names are
copied. Everything else keeps its random initialisation. A `Transfer` reports all of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from maskwright.errors import WeightsError
from maskwright.types import Classes
from maskwright.weights.class_rows import ClassRows, RowTable, class_count, class_rows
from maskwright.weights.keyrules import Converted
from maskwright.weights.load import COUNTER, check_finite, listed

BODY = "backbone."
"""Begins the names of tensors that must all fit: without the backbone nothing is worth keeping."""

RowPair = tuple[int, int]
"""A row of the model's tensor and the row of the file's tensor that is copied into it."""

ALL: Sequence[RowPair] = ()
"""In place of a list of pairs: the whole tensor."""


@dataclass(frozen=True)
class Transfer:
    """What was done with each tensor.

    kept: copied whole. by_row: copied for the classes in `classes`; the other rows start from random values. began:
    starts from random values. unused: in the file, but not in the model. of: number of the model's classes. in_order:
    the file does not name its classes but has as many as the model, so that its rows were copied in order. renamed:
    names of the file's classes, and what they are called here.
    """

    source: str
    kept: tuple[str, ...]
    by_row: tuple[str, ...]
    began: tuple[str, ...]
    unused: tuple[str, ...]
    classes: tuple[str, ...]
    of: int
    in_order: bool = False
    renamed: tuple[tuple[str, str], ...] = ()

    @property
    def finds(self) -> bool:
        """Whether it finds objects of some of the model's classes without training."""
        return self.whole or bool(self.by_row) or (bool(self.classes) and not self.began)

    @property
    def whole(self) -> bool:
        """Whether every tensor was copied whole."""
        return not (self.by_row or self.began or self.unused)

    def report(self) -> str:
        """A summary, one line for each kind of tensor."""
        lines = [f"weights: {len(self.kept)} tensors kept of {self.source}"]
        lines += [f"  the head of '{old}' is kept for '{new}'" for old, new in self.renamed]
        if self.by_row:
            some = ", ".join(f"'{name}'" for name in self.classes[:8]) + (", ..." if len(self.classes) > 8 else "")
            lines.append(
                f"  kept for {len(self.classes)} of {self.of} classes ({some}), the other rows start from random "
                f"values: {', '.join(self.by_row)}"
            )
        if self.began:
            lines.append(f"  start from random values, {len(self.began)}: {listed(self.began)}")
        if self.unused:
            lines.append(f"  not used, {len(self.unused)}: {listed(self.unused)}")
        if self.in_order:
            lines.append(f"  the file does not name its {self.of} classes: its rows were copied in order")
        return "\n".join(lines)


def transfer(
    model: nn.Module,
    weights: Converted | Mapping[str, Tensor],
    source: str,
    own: Classes,
    theirs: Classes | None,
    table: RowTable,
) -> Transfer:
    """Copy what fits into `model`; it is unchanged if an error is raised.

    source: the file, for messages. own, theirs: the classes of the model and of the weights (None: not known; if there
    are as many as in `own`, they are taken to be those). table: of the model's family.
    Raises WeightsError if the backbone does not fit entirely, or a value to be copied is not finite.
    """
    weights, mine = Converted.of(weights), model.state_dict()
    state, in_order = weights.state, theirs is None and class_count(weights.shapes, table) == len(own)
    theirs = own if in_order else theirs
    pairs = same_names(own, theirs) if theirs is not None else []
    plan = {
        name: _rows_to_take(class_rows(name, table), tensor, state.get(name), own, theirs, pairs)
        for name, tensor in mine.items()
    }
    began = tuple(n for n, rows in plan.items() if rows is None and not n.endswith(COUNTER))
    _check_body(mine, began, state, source)
    check_finite({n: state[n] for n, rows in plan.items() if rows is not None}, source)
    with torch.no_grad():
        for name, rows in plan.items():
            if rows is not None:
                _copy(mine[name], state[name], rows)
    whole = {n for n, r in plan.items() if r is not None and (r == ALL or len(r) == len(mine[n]) == len(state[n]))}
    return Transfer(
        source,
        kept=tuple(n for n in plan if n in whole),
        by_row=tuple(n for n, rows in plan.items() if rows and n not in whole),
        began=began,
        unused=tuple(n for n in state if n not in mine and not n.endswith(COUNTER)),
        classes=tuple(own.names[a] for a, _ in pairs),
        of=len(own),
        in_order=in_order,
    )


def _rows_to_take(
    by_class: ClassRows | None,
    tensor: Tensor,
    given: Tensor | None,
    own: Classes,
    theirs: Classes | None,
    pairs: Sequence[RowPair],
) -> Sequence[RowPair] | None:
    """The rows of one tensor to copy: pairs, `ALL`, or None for nothing. pairs: of labels with equal names."""
    if given is None or given.is_floating_point() != tensor.is_floating_point():
        return None
    if by_class is None:
        return ALL if given.shape == tensor.shape else None
    if theirs is None or not pairs:
        return None
    mine, others = by_class.count(len(own)), by_class.count(len(theirs))
    blocks = len(tensor) // mine if by_class.blocks else 1
    if given.shape != (blocks * others, *tensor.shape[1:]):
        return None
    each, last = by_class.each, by_class.background
    rows = [(a * each + k, b * each + k) for a, b in pairs for k in range(each)]
    rows += [(len(own) * each + k, len(theirs) * each + k) for k in range(last)]
    return [(block * mine + a, block * others + b) for block in range(blocks) for a, b in rows]


def same_names(own: Classes, theirs: Classes) -> list[RowPair]:
    """(own label, their label) of classes with equal names; a name that occurs twice on one side is ambiguous and left
    out, unless both lists are equal."""
    once = {n: i for i, n in enumerate(theirs.names) if theirs.names.count(n) == 1}
    if own.names == theirs.names:
        return [(i, i) for i in range(len(own))]
    return [(i, once[n]) for i, n in enumerate(own.names) if n in once and own.names.count(n) == 1]


def _copy(tensor: Tensor, given: Tensor, rows: Sequence[RowPair]) -> None:
    if rows == ALL:
        tensor.copy_(given)
        return
    to, start = (torch.tensor(column) for column in zip(*rows, strict=True))
    tensor[to.to(tensor.device)] = given[start].to(tensor)


def _check_body(mine: Mapping[str, Tensor], began: Sequence[str], state: Mapping[str, Tensor], source: str) -> None:
    lost = [n for n in began if n.startswith(BODY)]
    if not lost:
        return
    of = sum(n.startswith(BODY) and not n.endswith(COUNTER) for n in mine)
    shapes = [n for n in lost if n in state]
    why = "has other shapes in" if shapes else "lacks"
    raise WeightsError(
        f"{source} belongs to another network: {len(lost)} of the backbone's {of} tensors do not fit, it {why} "
        f"{listed(shapes or lost)}. Choose the model that the weights belong to; `maskwright models` lists them.",
        options=("model",),
    )
