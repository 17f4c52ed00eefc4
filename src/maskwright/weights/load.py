"""Put named tensors into a model: all of them or none, and say which model a file fits where it is another."""

import math
import os
import re
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from maskwright.errors import WeightsError
from maskwright.weights.files import WeightsFile, read
from maskwright.weights.keymaps import Converted, convert

Shapes = Mapping[str, torch.Size]
Candidates = Mapping[str, Callable[[], Shapes]]
"""For each model's name a function that gives the names and shapes of its weights."""

ANY = "any"
"""Stands for a publisher where conventions are not compared."""

_COUNTER = "num_batches_tracked"  # bookkeeping of live norms; frozen norms and old files have none
_BY_CLASS = ("box_predictor.", "mask_head.logits.", "head.logits.", "semantic.", "scorer.conv.")
"""Begin names of tensors with rows for each class; other tensors under them have equal shapes for all classes."""
_CLASSES = {"box_predictor.classes.bias": 1, "semantic.bias": 0}
"""Tensors that tell the number of classes: each has a row for every class and so many for the background."""
_SHOWN = 4


def load_file(
    model: nn.Module,
    path: str | os.PathLike[str],
    candidates: Candidates | None = None,
    publisher: str | None = ANY,
) -> WeightsFile:
    """Read the weights file at `path`, whosever names it has, into `model`; see `load_into`.

    publisher: whose conventions the model follows, None: ours. A file with the names of another publisher is refused
    even if every shape fits: stride, channel order and priors would be wrong without a sign of it.
    """
    file = read(path)
    load_into(model, converted(file, candidates, publisher), str(file.path), candidates)
    return file


def converted(file: WeightsFile, candidates: Candidates | None = None, publisher: str | None = ANY) -> Converted:
    """The file's weights under our names. Raises WeightsError where they are another publisher's; see `load_file`."""
    try:
        found = convert(file.tensors) if file.header is None else Converted(file.tensors)
    except WeightsError as error:
        raise WeightsError(f"{file.path}: {error}") from error
    if publisher != ANY and found.publisher not in (None, publisher):
        hint = _which_fits({n: t.shape for n, t in found.state.items()}, candidates or {}, found.publisher)
        whose = f"{publisher}'s" if publisher else "maskwright's own"
        raise WeightsError(f"{file.path} is {found.publisher}'s, this model follows {whose} conventions.{hint}")
    return found


def load_into(
    model: nn.Module, weights: Converted | Mapping[str, Tensor], source: str, candidates: Candidates | None = None
) -> None:
    """Copy `weights` into `model`, strictly: every name, every shape, only finite numbers.

    Values take the model's number type and device. Batch counters of live norms may be missing (they become 0) or too
    many. On any other difference the model is unchanged and a WeightsError names `source`, the differences (the first
    few and how many), and which of `candidates` the file does fit.
    """
    weights = weights if isinstance(weights, Converted) else Converted(dict(weights))
    state = weights.state
    own = model.state_dict()
    faults = _differences(state, own, weights.unknown)
    if faults:
        hint = _which_fits({n: t.shape for n, t in state.items()}, candidates or {}, weights.publisher)
        raise WeightsError(f"{source} does not fit this {type(model).__name__}: {'; '.join(faults)}.{hint}")
    check_finite(state, source)
    with torch.no_grad():
        for name, tensor in own.items():
            if name in state:
                tensor.copy_(state[name])
            else:
                tensor.zero_()


def check_finite(state: Mapping[str, Tensor], source: str) -> None:
    """Raises WeightsError, naming the tensors, where a value is not finite."""
    bad = [n for n, t in state.items() if t.is_floating_point() and not bool(torch.isfinite(t).all())]
    if bad:
        raise WeightsError(
            f"{source} holds values that are not finite, in {listed(bad)}: its training diverged or the file is "
            "damaged. Use an earlier checkpoint or fetch it again."
        )


def _differences(state: Mapping[str, Tensor], own: Mapping[str, Tensor], unknown: tuple[str, ...]) -> list[str]:
    """What keeps `state` from being loaded, in words, `unknown` names first; empty if nothing does."""
    missing = [n for n in own if n not in state and not n.endswith(_COUNTER)]
    extra = [n for n in state if n not in own and not n.endswith(_COUNTER)]
    extra.sort(key=lambda n: n not in unknown)
    shapes = [
        f"{n} ({_sides(state[n])}, expected {_sides(own[n])})"
        for n in own
        if n in state and state[n].shape != own[n].shape
    ]
    kinds = [
        f"{n} ({state[n].dtype}, expected {own[n].dtype})"
        for n in own
        if n in state and state[n].is_floating_point() != own[n].is_floating_point()
    ]
    named = (("lacks", missing), ("has besides", extra), ("has other shapes in", shapes), ("other types in", kinds))
    return [f"it {verb} {listed(names)}" for verb, names in named if names]


def listed(names: Sequence[str]) -> str:
    """All of a few names; of many the first of each part of the model and how many more it has."""
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


def _which_fits(found: Shapes, candidates: Candidates, publisher: str | None) -> str:
    """Which of `candidates` these weights are of: exactly, but for the number of classes, or most nearly.

    A candidate `name.tag` with another publisher's tag is none.
    """
    found = {n: s for n, s in found.items() if not n.endswith(_COUNTER)}
    exact, by_class, shares = [], [], {}
    for name, shapes in candidates.items():
        if publisher and name.partition(".")[2] not in ("", publisher):
            continue
        expected = {n: s for n, s in shapes().items() if not n.endswith(_COUNTER)}
        same = sum(expected.get(n) == s for n, s in found.items())
        shares[name] = same / max(len(expected.keys() | found.keys()), 1)
        if same == len(found) == len(expected):
            exact.append(name)
        elif found.keys() == expected.keys() and _only_classes_differ(found, expected):
            by_class.append(name)
    if exact:
        return f" The file fits: {', '.join(exact)}."
    if by_class:
        classes = next((found[n].numel() - extra for n, extra in _CLASSES.items() if n in found), 0)
        return (
            f" But for its number of classes ({classes}) the file fits: {', '.join(by_class)}. Give the names of its "
            f"{classes} classes: --class-names NAME,... or load(..., classes=[...])."
        )
    best = max(shares, key=lambda n: shares[n], default=None)
    if best is None or shares[best] < 0.5:
        return " It fits no model of the zoo." if candidates else ""
    return f" Nearest is {best}: {math.floor(100 * shares[best])}% of all names and shapes agree."


def which_fits(file: WeightsFile, candidates: Candidates) -> str:
    """A sentence that says which of `candidates` the file's weights are of; empty for weights that nobody knows."""
    try:
        found = converted(file)
    except WeightsError:
        return ""
    return _which_fits({n: t.shape for n, t in found.state.items()}, candidates, found.publisher)


def _only_classes_differ(found: Shapes, expected: Shapes) -> bool:
    return all(s == expected[n] or n.startswith(_BY_CLASS) for n, s in found.items())


def shapes_of(build: Callable[[], nn.Module]) -> Shapes:
    """Names and shapes of the weights of the model that `build` makes, without memory for them."""
    with torch.device("meta"):
        model = build()
    return {name: tensor.shape for name, tensor in model.state_dict().items()}
