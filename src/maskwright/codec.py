"""Dataclasses to and from plain values: one set of rules for checkpoint headers, configs and settings files.

`UNSET` is the one value for a setting that was not chosen. A field made with `open_field` begins with it, and
names the fallback that it has where nothing else decides either.
"""

import dataclasses
import enum
import math
import numbers
import sys
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, TypeVar

from maskwright.errors import ConfigError, suggest

C = TypeVar("C")
T = TypeVar("T")


_LONGEST = 200  # characters of a value in a message


class Unset(enum.Enum):
    """The type of `UNSET`."""

    UNSET = "unset"

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Final = Unset.UNSET


class FieldError(ConfigError):
    """A value that does not fit its field. path: the names of the fields that lead to it, outermost first; the last one
    is the option that the error names."""

    def __init__(self, message: str, path: Sequence[str]) -> None:
        super().__init__(message, options=path[-1:])
        self.path = tuple(path)


# ---- open fields ----------------------------------------------------------------------------------------------------


def open_field(fallback: T, **bounds: float) -> T:
    """A dataclass field that is UNSET unless it is given. Its type does not say so: read it after `filled`.

    bounds: of its `Range`, where it has one.
    """
    known = {"fallback": fallback, **({"range": Range(**bounds)} if bounds else {})}  # type: ignore[arg-type]
    field: T = dataclasses.field(default=UNSET, metadata=known)  # type: ignore[assignment]
    return field


def ranged(default: T, **bounds: float) -> T:
    """A dataclass field for numbers with a `Range` of these bounds."""
    field: T = dataclasses.field(default=default, metadata={"range": Range(**bounds)})  # type: ignore[arg-type]
    return field


def unset(section: Any) -> tuple[str, ...]:
    """The names of the fields of a dataclass that are UNSET."""
    return tuple(f.name for f in dataclasses.fields(section) if getattr(section, f.name) is UNSET)


def is_unset(value: object) -> bool:
    """Whether a value is UNSET, which the types of open fields do not show."""
    return value is UNSET


def filled(section: C) -> C:
    """The dataclass with the fallback of each field that is UNSET."""
    fields = {f.name: f for f in dataclasses.fields(section)}  # type: ignore[arg-type]
    changes: dict[str, Any] = {name: fields[name].metadata["fallback"] for name in unset(section)}
    return dataclasses.replace(section, **changes)  # type: ignore[type-var]


# ---- to plain values ------------------------------------------------------------------------------------------------


def encode(value: Any) -> dict[str, Any]:
    """The fields of a dataclass and of those in it as plain values; what is UNSET is left out."""

    def plain(inner: Any) -> Any:
        return encode(inner) if dataclasses.is_dataclass(inner) else inner

    values = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    return {name: plain(inner) for name, inner in values.items() if inner is not UNSET}


# ---- from plain values ----------------------------------------------------------------------------------------------


def decode(kind: type[C], values: Mapping[str, Any], *, off: bool = False, path: Sequence[str] = ()) -> C:
    """The dataclass `kind` from a mapping of plain values, as `encode`, JSON and TOML give them.

    Dataclasses in it are built in turn, lists become tuples and whole numbers of a field for any number become floats.
    off: False stands for None, which TOML lacks, in fields that may be None and are not booleans. path: of `values`.
    Raises FieldError for an unknown field, with a suggestion, for one that is missing or of another type, and
    ConfigError where `kind` itself refuses the values.
    """
    assert dataclasses.is_dataclass(kind)
    fields = {f.name: f for f in dataclasses.fields(kind)}
    for key in values:
        if key not in fields:
            known = f"{kind.__name__} has no field {_shown(key)}.{suggest(str(key)[:_LONGEST], fields)}"
            raise FieldError(known, (*path, key))
    required = [n for n, f in fields.items() if f.default is f.default_factory is dataclasses.MISSING]
    if missing := [n for n in required if n not in values]:
        raise FieldError(f"{kind.__name__} needs {', '.join(missing)}.", path)
    hints = typing.get_type_hints(kind)
    built: dict[str, Any] = {}
    for key, value in values.items():
        try:
            built[key] = _value(hints[key], value, off, (*path, key))
        except TypeError:
            raise FieldError(f"{key} is {named(hints[key], off)}, got {_shown(value)}.", (*path, key)) from None
    try:
        return kind(**built)
    except ConfigError as error:
        inner = error.path if isinstance(error, FieldError) else ()
        raise FieldError(str(error), (*path, *inner)) from None


def _value(hint: Any, value: Any, off: bool, path: Sequence[str]) -> Any:
    """`value` as a field's type; TypeError where it is of another."""
    hint, optional = _optional(hint)
    if optional and (value is None or (off and value is False and hint is not bool)):
        return None
    if dataclasses.is_dataclass(hint):
        if isinstance(value, Mapping):
            return decode(typing.cast(type[Any], hint), value, off=off, path=path)
        return _exactly(typing.cast(type[Any], hint), value)
    if typing.get_origin(hint) is Literal:
        if value not in typing.get_args(hint):
            raise TypeError
        return value
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list | tuple):
            raise TypeError
        parts = typing.get_args(hint)
        parts = (parts[0],) * len(value) if parts[1:] == (...,) else parts
        if len(parts) != len(value):
            raise TypeError
        return tuple(_value(kind, inner, off, path) for kind, inner in zip(parts, value, strict=True))
    return _exactly(hint, value)


def _exactly(kind: type[Any], value: Any) -> Any:
    if kind is float and type(value) is int and abs(value) <= sys.float_info.max:
        return float(value)
    if type(value) is not kind:
        raise TypeError
    return value


def _optional(hint: Any) -> tuple[Any, bool]:
    """The type beside None in `int | None` or `Literal[...] | None`, and True; other types, and False."""
    if typing.get_origin(hint) not in (types.UnionType, typing.Union):
        return hint, False
    return next(a for a in typing.get_args(hint) if a is not types.NoneType), True


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."


def named(hint: Any, off: bool = False) -> str:
    """A field's type in words, for messages."""
    hint, optional = _optional(hint)
    if optional:
        none = "" if hint is bool and off else f", or {'false for none' if off else 'None'}"
        return named(hint, off) + none
    if dataclasses.is_dataclass(hint):
        return f"a table with the fields of {typing.cast(type[Any], hint).__name__}"
    if typing.get_origin(hint) is Literal:
        *first, last = (f"'{value}'" for value in typing.get_args(hint))
        return f"{', '.join(first)} or {last}" if first else last
    if typing.get_origin(hint) is tuple:
        parts = typing.get_args(hint)
        what = {int: "whole numbers", float: "numbers"}.get(parts[0], "lists")
        return f"a list of {what}" if parts[1:] == (...,) else f"a list of {len(parts)} {what}"
    return {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}[hint]


NUMBERS: Mapping[Any, type[Any]] = types.MappingProxyType({int: numbers.Integral, float: numbers.Real})
"""What is a number of each type: NumPy's as well, but neither True nor False."""


def check_number(name: str, kind: type[int] | type[float], value: object) -> None:
    """Raises FieldError where the value of this name is no number of this type."""
    if isinstance(value, bool) or not isinstance(value, NUMBERS[kind]):
        raise FieldError(f"{name} is {named(kind)}, got {value!r}.", (name,))


# ---- sections of settings -------------------------------------------------------------------------------------------


class Section:
    """Base of dataclasses of choices: numbers, their ranges and fields of a few names are checked as one is made."""

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self))
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            value, (hint, optional) = getattr(self, field.name), _optional(hints[field.name])
            if value is UNSET or (value is None and optional):
                continue
            known = typing.get_args(hint)
            if typing.get_origin(hint) is Literal and value not in known:
                near = suggest(str(value), known, listing=False)  # `named` lists them
                raise FieldError(f"{field.name} is {named(hint)}, got {value!r}.{near}", (field.name,))
            if typing.get_origin(hint) is tuple and not isinstance(value, tuple | list):
                raise FieldError(f"{field.name} is {named(hint)}, got {value!r}.", (field.name,))
            if hint in NUMBERS:
                check_number(field.name, hint, value)
            if "range" in field.metadata:
                field.metadata["range"].check(field.name, value)


@dataclasses.dataclass(frozen=True)
class Range:
    """The finite numbers from `low` to `high`; open_low, open_high: without `low`, `high` itself."""

    low: float
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    def check(self, name: str, value: Any) -> None:
        """Raises FieldError where the value of this field, or one in it, is no number or out of range."""
        if isinstance(value, tuple | list):
            for one in value:
                self.check(name, one)
            return
        check_number(name, float, value)
        inside = self.low <= value <= self.high and value < math.inf
        if inside and not (self.open_low and value == self.low) and not (self.open_high and value == self.high):
            return
        above = f"above {self.low:g}" if self.open_low else f"at least {self.low:g}"
        high = self.high if isinstance(self.high, int) else f"{self.high:g}"
        most = "finite" if high == "inf" else f"below {high}" if self.open_high else f"at most {high}"
        raise FieldError(f"{name} is {above} and {most}, got {value}.", (name,))
