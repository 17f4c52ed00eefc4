"""Load named tensors into a model, all of them or none; on a mismatch, say which model of the zoo the file fits."""

import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from maskwright.errors import WeightsError
from maskwright.weights.class_rows import RowTable, class_count, class_rows
from maskwright.weights.files import WeightsFile, read
from maskwright.weights.keyrules import Converted, NamingScheme, convert

Shapes = Mapping[str, torch.Size]

ANY = "any"
"""In place of a publisher: conventions are not compared."""

COUNTER = "num_batches_tracked"
"""Ends the names of batch norm's counters. Frozen norms and old files have none, so they are optional."""

_SHOWN = 4


@dataclass(frozen=True)
class Known:
    """The published networks: to convert their files, and to say which of them a file is of.

    shapes: by a network's name, a function that gives the names and shapes of its weights. names: the publishers'
    naming schemes. class_rows: tensors with rows for classes, of all families.
    """

    shapes: Mapping[str, Callable[[], Shapes]] = field(default_factory=dict)
    names: tuple[NamingScheme, ...] = ()
    class_rows: RowTable = field(default_factory=dict)


NOTHING = Known()


def load_file(
    model: nn.Module,
    path: str | os.PathLike[str],
    known: Known = NOTHING,
    publisher: str | None = ANY,
) -> WeightsFile:
    """Load the weights file at `path`, with our names or any known publisher's, into `model`; see `load_into`.

    publisher: whose conventions the model follows; None: ours. A file with another publisher's names is refused even
    if every shape fits, because stride, channel order or priors would be wrong without any error.
    """
    file = read(path)
    load_into(model, converted(file, known, publisher), str(file.path), known)
    return file


def converted(file: WeightsFile, known: Known = NOTHING, publisher: str | None = ANY) -> Converted:
    """The file's weights under our names. Raises WeightsError if they are another publisher's; see `load_file`."""
    try:
        found = convert(file.tensors, known.names) if file.header is None else Converted(file.tensors)
    except WeightsError as error:
        raise WeightsError(f"{file.path}: {error}") from error
    if publisher != ANY and found.publisher not in (None, publisher):
        whose, (hint, _) = f"{publisher}'s" if publisher else "maskwright's own", _fits(found, known)
        raise WeightsError(f"{file.path} is {found.publisher}'s, this model follows {whose} conventions.{hint}")
    return found


def load_into(model: nn.Module, weights: Converted | Mapping[str, Tensor], source: str, known: Known = NOTHING) -> None:
    """Copy `weights` into `model`, strictly: every name, every shape, finite values only.

    Values are converted to the model's dtype and device. Batch counters may be missing (they become 0) or superfluous.
    On any other difference the model is unchanged and a WeightsError names `source`, the differences (the first few
    and their number), and which of the known networks the weights do fit.
    """
    weights = Converted.of(weights)
    state, own = weights.state, model.state_dict()
    check_fits(model, weights, source, known)
    check_finite(state, source)
    with torch.no_grad():
        for name, tensor in own.items():
            if name in state:
                tensor.copy_(state[name])
            else:
                tensor.zero_()


def check_fits(
    model: nn.Module, weights: Converted | Mapping[str, Tensor], source: str, known: Known = NOTHING
) -> None:
    """Raises WeightsError, see `load_into`, where names, shapes or types differ; also of a model without memory."""
    weights = Converted.of(weights)
    faults = differences(weights.state, model.state_dict(), weights.unknown)
    if faults:
        hint, options = _fits(weights, known)
        message = f"{source} does not fit this {type(model).__name__}: {'; '.join(faults)}.{hint}"
        raise WeightsError(message, options=options)


def check_finite(state: Mapping[str, Tensor], source: str) -> None:
    """Raises WeightsError, naming `source` and the tensors, if a value is not finite."""
    bad = [n for n, t in state.items() if t.is_floating_point() and not bool(torch.isfinite(t).all())]
    if bad:
        raise WeightsError(
            f"{source} has values that are not finite, in {listed(bad)}: its training diverged or the file is "
            "damaged. Use an earlier checkpoint or fetch it again."
        )


def differences(state: Mapping[str, Tensor], own: Mapping[str, Tensor], unknown: tuple[str, ...] = ()) -> list[str]:
    """The differences between `state` and a model's `own` tensors, in words; `unknown` names come first."""
    missing = [n for n in own if n not in state and not n.endswith(COUNTER)]
    extra = [n for n in state if n not in own and not n.endswith(COUNTER)]
    extra.sort(key=lambda n: n not in unknown)
    pairs = [(n, state[n], own[n]) for n in own if n in state]
    shapes = [f"{n} ({_sides(a)}, expected {_sides(b)})" for n, a, b in pairs if a.shape != b.shape]
    kinds = [
        f"{n} ({a.dtype}, expected {b.dtype})" for n, a, b in pairs if a.is_floating_point() != b.is_floating_point()
    ]
    named = (("lacks", missing), ("has besides", extra), ("has other shapes in", shapes), ("other types in", kinds))
    return [f"it {verb} {listed(names)}" for verb, names in named if names]


def listed(names: Sequence[str]) -> str:
    """The names, comma-separated; of many only the first of each part of the model, with the number of others."""
    names = [name[:100] for name in names]
    if len(names) <= _SHOWN:
        return ", ".join(names)
    parts: dict[str, list[str]] = {}
    for name in names:
        part = re.match(r"(roi_heads\.)?[^.]*", name)
        parts.setdefault(part[0] if part else name, []).append(name)
    shown = list(parts.items())[:_SHOWN]
    words = [group[0] + (f" and {len(group) - 1} more in {part}" if len(group) > 1 else "") for part, group in shown]
    rest = len(names) - sum(len(group) for _, group in shown)
    return ", ".join(words) + (f" and {rest} others" if rest else "") + f" ({len(names)} in all)"


def _sides(tensor: Tensor) -> str:
    return "x".join(str(s) for s in tensor.shape) or "one number"


def _fits(weights: Converted, known: Known) -> tuple[str, tuple[str, ...]]:
    """A sentence: which known networks fit the weights exactly, except for the number of classes, or most closely.

    Networks `name.tag` with the tag of another publisher are skipped. Also the options that the sentence is about.
    """
    found = {n: t.shape for n, t in weights.state.items() if not n.endswith(COUNTER)}
    exact, by_class, shares = [], [], {}
    for name, shapes in known.shapes.items():
        if weights.publisher and name.partition(".")[2] not in ("", weights.publisher):
            continue
        expected = {n: s for n, s in shapes().items() if not n.endswith(COUNTER)}
        same = sum(expected.get(n) == s for n, s in found.items())
        shares[name] = same / max(len(expected.keys() | found.keys()), 1)
        if same == len(found) == len(expected):
            exact.append(name)
        elif found.keys() == expected.keys() and all(
            s == expected[n] or class_rows(n, known.class_rows) for n, s in found.items()
        ):
            by_class.append(name)
    if exact:
        return f" The file fits: {', '.join(exact)}.", ()
    if by_class:
        classes = class_count(weights.shapes, known.class_rows)
        hint = f" Except for its number of classes ({classes}) the file fits: {', '.join(by_class)}."
        return f"{hint} Give the names of its {classes} classes.", ("classes",)
    best = max(shares, key=lambda n: shares[n], default=None)
    if best is None or shares[best] < 0.5:
        return " It fits no model of the zoo." if known.shapes else "", ()
    return f" Nearest is {best}: {math.floor(100 * shares[best])}% of all names and shapes agree.", ()


def which_fits(file: WeightsFile, known: Known) -> str:
    """A sentence that says which of the known networks the file's weights fit; empty where the names are ambiguous."""
    try:
        return _fits(converted(file, known), known)[0]
    except WeightsError:
        return ""


def shapes_of(build: Callable[[], nn.Module]) -> Shapes:
    """Names and shapes of the weights of the model that `build` makes, without allocating them."""
    with torch.device("meta"):
        model = build()
    return {name: tensor.shape for name, tensor in model.state_dict().items()}
