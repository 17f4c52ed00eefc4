"""Renaming by explicit rules: what published weights are turned into, and how. The rules are in `keymaps*`."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from torch import Tensor

from maskwright.errors import WeightsError

Publisher = Literal["torchvision", "detectron2", "yolact"]

END = r"(weight|bias)"
NORM = r"(weight|bias|running_mean|running_var|num_batches_tracked)"


@dataclass(frozen=True)
class Converted:
    """Weights under our names.

    publisher: whose names the file had, None if they were ours (or nobody's we know). unknown: names no rule covers;
    they stay in `state` as they are, so that loading can name them. ignored: names known to be of no use here.
    """

    state: dict[str, Tensor]
    publisher: Publisher | None = None
    unknown: tuple[str, ...] = field(default=())
    ignored: tuple[str, ...] = field(default=())


class Rule(NamedTuple):
    """A whole name that matches `pattern` becomes `target` (None: ignored) and its value `edit(value)`."""

    pattern: str
    target: str | Callable[[re.Match[str]], str] | None
    edit: Callable[[Tensor], Tensor] | None = None


def apply(rules: tuple[Rule, ...], state: Mapping[str, Tensor], who: Publisher) -> Converted:
    """Every name by the first rule that matches it. WeightsError where two names become one."""
    out: dict[str, Tensor] = {}
    origin: dict[str, str] = {}
    unknown, ignored = [], []
    for name, value in state.items():
        rule, match = next(((r, m) for r in rules if (m := re.fullmatch(r.pattern, name))), (None, None))
        if rule is None or match is None:
            unknown.append(name)
            target = name
        elif rule.target is None:
            ignored.append(name)
            continue
        else:
            target = match.expand(rule.target) if isinstance(rule.target, str) else rule.target(match)
            value = rule.edit(value) if rule.edit and value.ndim else value
        if target in out:
            raise WeightsError(f"'{origin[target]}' and '{name}' are both '{target}' here; expected one of them.")
        out[target], origin[target] = value, name
    return Converted(out, who, tuple(unknown), tuple(ignored))
