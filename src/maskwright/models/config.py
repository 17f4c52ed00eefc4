"""Configs from plain values, so that a checkpoint can describe its network and a TOML file can name its parts."""

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from maskwright.errors import ConfigError, suggest

C = TypeVar("C")


def from_dict(kind: type[C], values: Mapping[str, Any]) -> C:
    """The dataclass `kind` from a mapping of plain values, as `dataclasses.asdict` and JSON give them.

    Fields that are dataclasses are built in turn; lists become tuples. Raises ConfigError for an unknown key, with a
    suggestion, for a missing one, and for a plain value where a dataclass is wanted.
    """
    assert dataclasses.is_dataclass(kind)
    fields = {f.name: f for f in dataclasses.fields(kind)}
    for key in values:
        if key not in fields:
            raise ConfigError(f"{kind.__name__} has no field '{key}'.{suggest(key, fields)}")
    required = [n for n, f in fields.items() if f.default is f.default_factory is dataclasses.MISSING]
    if missing := [n for n in required if n not in values]:
        raise ConfigError(f"{kind.__name__} needs {', '.join(missing)}.")
    types = typing.get_type_hints(kind)
    built: Any = kind(**{key: _value(types[key], value, f"{kind.__name__}: '{key}'") for key, value in values.items()})
    result: C = built
    return result


def _value(wanted: Any, value: Any, where: str) -> Any:
    if not isinstance(wanted, type) or not dataclasses.is_dataclass(wanted) or isinstance(value, wanted):
        return _frozen(value)
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where} holds the fields of {wanted.__name__}, got {value!r}.")
    return from_dict(wanted, value)


def _frozen(value: Any) -> Any:
    return tuple(_frozen(v) for v in value) if isinstance(value, list) else value
