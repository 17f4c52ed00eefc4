"""The settings of a training run as a TOML file: a table for each section of `TrainConfig`, `[augment]` among them.

`false` switches off what can be off (epochs, clip, ema, augment). What is not there is not chosen. A setting may also
stand above the tables by its name alone, as in files of versions without sections.
"""

import json
import math
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from maskwright.atomic import replacing
from maskwright.codec import FieldError, decode, is_unset
from maskwright.errors import ConfigError
from maskwright.training.config import AUGMENT, PATHS, SECTIONS, TrainConfig, arranged
from maskwright.training.resolved import Resolved

NOT_WRITTEN = ("resume",)
"""How a run is started, not what it is."""


# ---- reading --------------------------------------------------------------------------------------------------------


def read(path: str | os.PathLike[str], **given: Any) -> TrainConfig:
    """The settings of a file; what is `given`, by name alone, takes precedence.

    Raises ConfigError, with the file and the line, for an unknown key (with a suggestion) and for a value of another
    type than the setting's.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
        content = tomllib.loads(text)
    except FileNotFoundError:
        raise ConfigError(f"There is no settings file at {path}. Write one first.", options=("write_config",)) from None
    except (ValueError, RecursionError) as error:  # not UTF-8 or TOML, numbers of thousands of digits, deep lists
        raise ConfigError(f"{path} is not a TOML file: {error}") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be read as settings: {error.strerror or error}.") from error
    try:
        config = decode(TrainConfig, _by_section(content), off=True)
    except FieldError as error:
        raise ConfigError(f"{_place(path, text, error.path)}: {error}") from error
    try:
        return config.changed(**given)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def _by_section(content: Mapping[str, Any]) -> dict[str, Any]:
    """The tables of a file, with the settings above them put where they belong."""
    alone = arranged(content)
    tables = {name: content[name] for name in (*SECTIONS, AUGMENT) if name in content}
    for section, table in tables.items():
        for name in table if isinstance(table, Mapping) and section != AUGMENT else ():
            home = PATHS.get(name, section).partition(".")[0]
            if home != section:
                raise FieldError(f"'{name}' belongs in [{home}], not in [{section}].", (section, name))
    for section, values in alone.items():
        table = tables.get(section, {})
        tables[section] = {**values, **table} if isinstance(table, Mapping) else table
    return tables


def _place(path: Path, text: str, names: tuple[str, ...]) -> str:
    """The file and, where it is found, the line of a setting."""
    table = ""
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[\s*([^\[\]]+?)\s*\]", line):
            table = header[1].strip("\"'")
            if (table,) == names:
                return f"{path}, line {number}"
        elif table in ("", *names[:-1]):
            key = re.match(r"\s*(['\"]?)([^'\"=.\s]+)\1\s*[=.]", line)
            if key is not None and key[2] in names[-1:]:
                return f"{path}, line {number}"
    return str(path)


# ---- writing --------------------------------------------------------------------------------------------------------


def text(config: TrainConfig) -> str:
    """The settings as TOML, the reasons of decided ones beside them; `read` gives the same settings back."""
    reasons = config.reasons if isinstance(config, Resolved) else {}
    tables = ["# Settings of maskwright train; options of the command line take precedence.\n"]
    for name in (*SECTIONS, AUGMENT):
        section, comment = getattr(config, name), _comment(reasons.get(name))
        if section is None:
            tables.insert(1, f"{name} = false{comment}\n")
        elif not is_unset(section):
            lines = [f"{k} = {_toml(v)}{_comment(reasons.get(f'{name}.{k}'))}" for k, v in _written(section).items()]
            tables.append("\n".join([f"[{name}]{comment}", *lines, ""]))
    return "\n".join(tables)


def _written(section: Any) -> dict[str, Any]:
    """The fields that a file holds: all that were chosen, but those that are None where nothing else was chosen."""
    values = {f.name: (getattr(section, f.name), f.metadata.get("fallback", f.default)) for f in fields(section)}
    return {
        k: v
        for k, (v, usual) in values.items()
        if k not in NOT_WRITTEN and not is_unset(v) and not (v is None and usual is None)
    }


def write(path: str | os.PathLike[str], config: TrainConfig, *, over: bool = False) -> Path:
    """Write the settings to a new file, or `over` the one that is there. Raises ConfigError where there is one."""
    path = Path(path)
    if path.exists() and not over:
        raise ConfigError(f"{path} is there already; settings are not written over it. Choose another name.")
    content = text(config)
    with replacing(path) as part:
        part.write_text(content, encoding="utf-8")
    return path


def _comment(why: str | None) -> str:
    """The reason as one line that TOML allows."""
    return "" if why is None else "  # " + "".join(c if c.isprintable() else " " for c in why)


def _toml(value: Any) -> str:
    """A value as TOML. Raises ConfigError for a text that no file can hold."""
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
    """The settings of a run that is resumed: what is left open is as the run was started, as in `path`."""
    if not path.exists():
        return config
    then = Resolved.of(read(path))  # what the version that wrote it did not know has its fallback
    return config.changed(**{name: then.value(name) for name in PATHS if config.is_open(name)})
