"""Conversion of published weights to our names by explicit rules; the rules of a family are in its `keys`."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from maskwright.errors import WeightsError

END = r"(weight|bias)"
NORM = r"(weight|bias|running_mean|running_var|num_batches_tracked)"


@dataclass(frozen=True)
class Converted:
    """Weights under our names.

    publisher: whose names the file had; None if they were ours or unknown. unknown: names that no rule covers; they are
    kept in `state` unchanged, so that loading can report them. ignored: names of tensors that are not needed.
    """

    state: dict[str, Tensor]
    publisher: str | None = None
    unknown: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()

    @property
    def shapes(self) -> dict[str, torch.Size]:
        """The shapes of the weights."""
        return {name: tensor.shape for name, tensor in self.state.items()}

    @classmethod
    def of(cls, weights: "Converted | Mapping[str, Tensor]") -> "Converted":
        """The weights themselves; a plain mapping is taken to have our names."""
        return weights if isinstance(weights, Converted) else cls(dict(weights))


def unwrapped(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The tensors without the prefixes that DataParallel, torch.compile and YOLACT's trainer add to all names."""
    for prefix in ("module.", "_orig_mod.", "net."):
        if tensors and all(name.startswith(prefix) for name in tensors):
            return unwrapped({name.removeprefix(prefix): tensor for name, tensor in tensors.items()})
    return tensors


class NameRule(NamedTuple):
    """A name that `pattern` matches as a whole becomes `target` (None: ignored), and its value `edit(value)`."""

    pattern: str
    target: str | Callable[[re.Match[str]], str] | None
    edit: Callable[[Tensor], Tensor] | None = None


def apply(rules: tuple[NameRule, ...], state: Mapping[str, Tensor], who: str) -> Converted:
    """Convert every name by the first rule that matches it. WeightsError if two names become the same one."""
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
            raise WeightsError(f"'{origin[target]}' and '{name}' both become '{target}'; expected one of them.")
        out[target], origin[target] = value, name
    return Converted(out, who, tuple(unknown), tuple(ignored))


class NamingScheme(NamedTuple):
    """The naming scheme of a publisher's files. sign: pattern of beginnings that only its names have."""

    publisher: str
    sign: str
    convert: Callable[[Mapping[str, Tensor]], Converted]


def naming(state: Mapping[str, Tensor], known: Iterable[NamingScheme]) -> NamingScheme | None:
    """The naming scheme of weights; None if it is none of the known ones."""
    return next((names for names in known if any(re.match(names.sign, name) for name in state)), None)


def convert(state: Mapping[str, Tensor], known: Iterable[NamingScheme]) -> Converted:
    """Weights of any known publisher under our names; others are kept unchanged."""
    names = naming(state, known)
    return Converted(dict(state)) if names is None else names.convert(state)
