"""The settings of a training run as a TOML file: keys are the fields of `TrainConfig`, `[augment]` holds those of
`Augment`, and `false` switches off what can be off (epochs, clip, ema, augment). A key that is not there is not chosen.
"""

import dataclasses
import json
import math
import os
import re
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from maskwright.atomic import replacing
from maskwright.errors import ConfigError, suggest
from maskwright.samples.augment import Augment
from maskwright.training.config import TrainConfig
from maskwright.training.defaults import Reason, is_open
from maskwright.training.undecided import plain

NOT_WRITTEN = ("resume",)
"""How a run is started, not what it is."""


# ---- reading --------------------------------------------------------------------------------------------------------


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The chosen fields of a settings file, checked one by one: `TrainConfig(**read(path))`.

    Raises ConfigError, with the file and the line, for an unknown key (with a suggestion) and for a value of another
    type than the field's.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
        content = tomllib.loads(text)
    except FileNotFoundError:
        raise ConfigError(f"There is no settings file at {path}. Write one with --write-config.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not a TOML file: {error}") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be read as settings: {error.strerror or error}.") from error
    return _fields(TrainConfig, content, _Place(path, text))


def config_of(path: str | os.PathLike[str], **given: Any) -> TrainConfig:
    """The run of a settings file; what is `given` goes before the file. Errors name the file."""
    values = {**read(path), **given}
    try:
        return TrainConfig(**values)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


@dataclasses.dataclass(frozen=True)
class _Place:
    """Where in the file: for messages."""

    path: Path
    text: str
    table: str = ""

    def line(self, key: str) -> str:
        table = ""
        for number, line in enumerate(self.text.splitlines(), 1):
            if header := re.match(r"\s*\[\s*([^\[\]]+?)\s*\]", line):
                table = header[1].strip("\"'")
                if not self.table and table == key:
                    return f"{self.path}, line {number}"
            elif table == self.table and re.match(rf"\s*(['\"]?){re.escape(key)}\1\s*[=.]", line):
                return f"{self.path}, line {number}"
        return str(self.path)


def _fields(kind: type[Any], values: Mapping[str, Any], place: _Place) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    out = {}
    for key, value in values.items():
        if key not in hints:
            raise ConfigError(f"{place.line(key)}: there is no setting '{key}'.{suggest(key, hints)}")
        try:
            out[key] = _value(hints[key], value, key, place)
        except TypeError:
            wanted = _named(hints[key])
            raise ConfigError(f"{place.line(key)}: {key} is {wanted}, got {_toml(value)}.") from None
    return out


def _value(hint: Any, value: Any, key: str, place: _Place) -> Any:
    """`value` as the type of the field; TypeError where it is of another."""
    if _is_union(hint):
        inner = [a for a in typing.get_args(hint) if a is not types.NoneType]
        if value is False and bool not in inner:
            return None
        return _value(inner[0], value, key, place)
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise TypeError
        inside = dataclasses.replace(place, table=key)
        try:
            return hint(**_fields(typing.cast(type[Any], hint), value, inside))  # type: ignore[operator]
        except ConfigError as error:
            raise error if str(place.path) in str(error) else ConfigError(f"{place.line(key)}: {error}") from error
    if typing.get_origin(hint) is Literal:
        return _plain(str, value)
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list):
            raise TypeError
        parts = typing.get_args(hint)
        parts = (parts[0],) * len(value) if parts[1:] == (...,) else parts
        if len(parts) != len(value):
            raise TypeError
        return tuple(_plain(kind, v) for kind, v in zip(parts, value, strict=True))
    return _plain(hint, value)


def _is_union(hint: Any) -> bool:
    """Written `int | None`, or, as Python makes it of choices, `Literal[...] | None`."""
    return typing.get_origin(hint) in (types.UnionType, typing.Union)


def _plain(kind: type[Any], value: Any) -> Any:
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise TypeError
    return value


def _named(hint: Any) -> str:
    """A field's type in a person's words."""
    if _is_union(hint):
        inner = [a for a in typing.get_args(hint) if a is not types.NoneType]
        return _named(inner[0]) + ("" if bool in inner else ", or false for none")
    if dataclasses.is_dataclass(hint):
        return "a table of its own"
    if typing.get_origin(hint) is Literal:
        return " or ".join(json.dumps(v) for v in typing.get_args(hint))
    if typing.get_origin(hint) is tuple:
        parts = typing.get_args(hint)
        what = {"int": "whole numbers", "float": "numbers"}[parts[0].__name__]
        return f"a list of {what}" if parts[1:] == (...,) else f"a list of {len(parts)} {what}"
    return {int: "a whole number", float: "a number", str: "a text in quotes", bool: "true or false"}[hint]


# ---- writing --------------------------------------------------------------------------------------------------------


def text(config: TrainConfig, reasons: Sequence[Reason] = ()) -> str:
    """The settings as TOML, the reasons of decided ones beside them; `read` gives the same settings back."""
    why = {r.field: r.why for r in reasons}
    lines = ["# maskwright train --config THIS_FILE; what is given on the command line goes before it.", ""]
    tables = []
    for name, value in _written(config).items():
        comment = _comment(why.get(name))
        if isinstance(value, Augment):
            inner = [f"{k} = {_toml(v)}" for k, v in _written(value).items()]
            tables.append("\n".join(["", f"[{name}]{comment}", *inner]))
        else:
            lines.append(f"{name} = {_toml(value)}{comment}")
    return "\n".join([*lines, *tables]) + "\n"


def _written(config: Any) -> dict[str, Any]:
    """The fields that a file holds: all but those whose default is None and that are None."""
    values = {f.name: (getattr(config, f.name), f.default) for f in dataclasses.fields(config)}
    return {k: v for k, (v, default) in values.items() if k not in NOT_WRITTEN and not (v is None and default is None)}


def write(
    path: str | os.PathLike[str], config: TrainConfig, reasons: Sequence[Reason] = (), *, over: bool = False
) -> Path:
    """Write the settings to a new file, or `over` the one that is there. Raises ConfigError where there is one."""
    path = Path(path)
    if path.exists() and not over:
        raise ConfigError(f"{path} is there already; settings are not written over it. Choose another name.")
    content = text(config, reasons)
    with replacing(path) as part:
        part.write_text(content, encoding="utf-8")
    return path


def _comment(why: str | None) -> str:
    """The reason as one line that TOML allows."""
    return "" if why is None else "  # " + "".join(c if c.isprintable() else " " for c in why)


def _toml(value: Any) -> str:
    """A value as TOML. Raises ConfigError for a text that no file can hold."""
    value = plain(value)
    if value is None or isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise ConfigError(f"{value!r} is not valid text, so a settings file cannot hold it.") from error
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list | tuple):
        return f"[{', '.join(_toml(v) for v in value)}]"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return repr(value)


# ---- resuming -------------------------------------------------------------------------------------------------------


def as_started(config: TrainConfig, path: Path) -> TrainConfig:
    """The settings of a run that is resumed: what nobody chose now is what the run was started with, as in `path`."""
    if not path.exists():
        return config
    return replace(config, **{k: v for k, v in read(path).items() if is_open(config, k)})
