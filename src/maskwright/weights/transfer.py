"""Begin with the weights of a model that was trained for other classes.

What both models have is kept. Class rows are kept for classes of equal names; the other rows, and parts that the file
lacks or has in another shape, keep the random values they were built with. Nothing of this happens in silence: a
`Transfer` names and counts it.

Letters: Q classes. Class rows: see `keymaps`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from maskwright.errors import WeightsError
from maskwright.types import Classes
from maskwright.weights.keymaps import Converted
from maskwright.weights.load import check_finite, listed


class Rows(NamedTuple):
    """Rows of a class, and of the background behind all of them. blocks: of these rows in a tensor, one a prior."""

    each: int
    background: int = 0
    blocks: bool = False

    def of(self, classes: int) -> int:
        """Rows of a block for so many classes."""
        return classes * self.each + self.background


CLASS_ROWS: Mapping[str, Rows] = {
    "box_predictor.classes.": Rows(1, 1),
    "box_predictor.deltas.": Rows(4),
    "mask_head.logits.": Rows(1),
    "head.logits.": Rows(1, 1, blocks=True),
    "semantic.": Rows(1),
    "scorer.conv.5.": Rows(1),
}
"""Tensors with rows for classes, by the start of their names."""

COUNTS: Mapping[str, Rows] = {"box_predictor.classes.bias": Rows(1, 1), "semantic.bias": Rows(1)}
"""Tensors whose length tells the number of classes."""

BODY = "backbone."
"""What must fit entirely: without it there is nothing worth keeping."""

Pair = tuple[int, int]
ALL: Sequence[Pair] = ()
"""Every row, in order."""

_COUNTER = "num_batches_tracked"


@dataclass(frozen=True)
class Transfer:
    """What became of each tensor.

    kept: taken over whole. by_row: taken over for the classes in `classes`, the other rows began anew. began: began
    anew whole. unused: in the file, but not in the model. in_order: the file does not name its classes, and has as many
    as the model, so that its rows were taken in their order.
    """

    source: str
    kept: tuple[str, ...]
    by_row: tuple[str, ...]
    began: tuple[str, ...]
    unused: tuple[str, ...]
    classes: tuple[str, ...]
    of: int
    in_order: bool = False

    @property
    def whole(self) -> bool:
        """Whether everything was taken over."""
        return not (self.by_row or self.began or self.unused)

    def report(self) -> str:
        """What a person should know, a line for each kind."""
        lines = [f"weights: {len(self.kept)} tensors kept of {self.source}"]
        if self.by_row:
            some = ", ".join(f"'{name}'" for name in self.classes[:8]) + (", ..." if len(self.classes) > 8 else "")
            lines.append(
                f"  kept for {len(self.classes)} of {self.of} classes ({some}), the other rows began anew: "
                f"{', '.join(self.by_row)}"
            )
        if self.began:
            lines.append(f"  began anew, {len(self.began)}: {listed(self.began)}")
        if self.unused:
            lines.append(f"  not used, {len(self.unused)}: {listed(self.unused)}")
        if self.in_order:
            lines.append(f"  the file does not name its {self.of} classes: its rows were taken in their order")
        return "\n".join(lines)


def transfer(
    model: nn.Module, weights: Converted | Mapping[str, Tensor], source: str, own: Classes, theirs: Classes | None
) -> Transfer:
    """Copy into `model` what fits; the model is unchanged where an error is raised.

    own, theirs: the classes of the model and of the weights (None: the file does not say).
    Raises WeightsError where the backbone does not fit entirely, or a value that would be used is not finite.
    """
    weights = weights if isinstance(weights, Converted) else Converted(dict(weights))
    state, mine = weights.state, model.state_dict()
    theirs, in_order = _named(state, own, theirs)
    pairs = same_names(own, theirs) if theirs is not None else []
    plan = {name: _rows_to_take(name, tensor, state.get(name), own, theirs, pairs) for name, tensor in mine.items()}
    began = tuple(n for n, rows in plan.items() if rows is None and not n.endswith(_COUNTER))
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
        unused=tuple(n for n in state if n not in mine and not n.endswith(_COUNTER)),
        classes=tuple(own.names[a] for a, _ in pairs),
        of=len(own),
        in_order=in_order,
    )


def _rows_to_take(
    name: str, tensor: Tensor, given: Tensor | None, own: Classes, theirs: Classes | None, pairs: Sequence[Pair]
) -> Sequence[Pair] | None:
    """(own row, their row) of what is taken over of a tensor; `ALL`, or None for nothing."""
    if given is None or given.is_floating_point() != tensor.is_floating_point():
        return None
    by_class = next((rows for start, rows in CLASS_ROWS.items() if name.startswith(start)), None)
    if by_class is None:
        return ALL if given.shape == tensor.shape else None
    if theirs is None or not pairs:
        return None
    mine, others = by_class.of(len(own)), by_class.of(len(theirs))
    blocks = len(tensor) // mine if by_class.blocks else 1
    if given.shape != (blocks * others, *tensor.shape[1:]):
        return None
    each, last = by_class.each, by_class.background
    rows = [(a * each + k, b * each + k) for a, b in pairs for k in range(each)]
    rows += [(len(own) * each + k, len(theirs) * each + k) for k in range(last)]
    return [(block * mine + a, block * others + b) for block in range(blocks) for a, b in rows]


def _named(state: Mapping[str, Tensor], own: Classes, theirs: Classes | None) -> tuple[Classes | None, bool]:
    """The classes of the file; where it names none but has as many as the model, they are the model's own."""
    if theirs is not None:
        return theirs, False
    return (own, True) if class_count(state) == len(own) else (None, False)


def class_count(state: Mapping[str, Tensor]) -> int | None:
    """The number of classes that weights under our names are for; None where they have no heads that tell it."""
    found = (((len(state[name]) - rows.background) // rows.each) for name, rows in COUNTS.items() if name in state)
    return next(found, None)


def same_names(own: Classes, theirs: Classes) -> list[Pair]:
    """(own label, their label) of the classes of equal names; a name that occurs twice on one side is left out."""
    once = {n: i for i, n in enumerate(theirs.names) if theirs.names.count(n) == 1}
    if own.names == theirs.names:
        return [(i, i) for i in range(len(own))]
    return [(i, once[n]) for i, n in enumerate(own.names) if n in once and own.names.count(n) == 1]


def _copy(tensor: Tensor, given: Tensor, rows: Sequence[Pair]) -> None:
    if rows == ALL:
        tensor.copy_(given)
        return
    to, start = (torch.tensor(column) for column in zip(*rows, strict=True))
    tensor[to.to(tensor.device)] = given[start].to(tensor)


def _check_body(mine: Mapping[str, Tensor], began: Sequence[str], state: Mapping[str, Tensor], source: str) -> None:
    lost = [n for n in began if n.startswith(BODY)]
    if not lost:
        return
    of = sum(n.startswith(BODY) and not n.endswith(_COUNTER) for n in mine)
    shapes = [n for n in lost if n in state]
    why = "has other shapes in" if shapes else "lacks"
    raise WeightsError(
        f"{source} is of another network: {len(lost)} of the backbone's {of} tensors do not fit, it {why} "
        f"{listed(shapes or lost)}. Choose the --model that the weights are of; `maskwright models` lists them."
    )
