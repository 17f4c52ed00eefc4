"""What a server may be told: where it listens, what it takes, who may ask."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from maskwright.codec import Section, ranged
from maskwright.errors import ConfigError
from maskwright.media import MAX_PIXELS

KEY_VARIABLE = "MASKWRIGHT_API_KEY"
"""The variable of the environment that holds an API key."""

SHORTEST_KEY = 16
"""Fewest characters of an API key."""


@dataclass(frozen=True)
class ServeOptions(Section):
    """How a server answers.

    host, port: where it listens; port 0 takes a free one. queue: requests that may wait behind the one that is
    computed; more are refused (429). timeout: seconds from the first byte of a request to its answer. max_bytes: of a
    request's body. max_pixels: of an image, height x width, by its header. max_images: of one request. cors: origins
    whose pages may read answers in a browser. keys: API keys, one of which a request must have; without any, none.
    """

    host: str = "127.0.0.1"
    port: int = ranged(8000, low=0, high=65535)
    queue: int = ranged(16, low=0)
    timeout: float = ranged(60.0, low=0, open_low=True)
    max_bytes: int = ranged(64 * 2**20, low=1)
    max_pixels: int = ranged(MAX_PIXELS, low=1)
    max_images: int = ranged(32, low=1)
    cors: Sequence[str] = ()
    keys: Sequence[str] = field(default=(), repr=False)


def read_keys(path: Path | None) -> tuple[str, ...]:
    """The API keys of a file, one a line, and that of the environment. Empty lines and those with # are left out.

    Raises ConfigError for a file that cannot be read or has no key, and for a key that is short or not plain ASCII.
    """
    keys = {KEY_VARIABLE: os.environ[KEY_VARIABLE].strip()} if os.environ.get(KEY_VARIABLE) else {}
    if path is not None:
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: expected a text file of API keys, one a line ({error}).") from error
        found = {f"{path}, line {n}": line.strip() for n, line in enumerate(lines, 1)}
        found = {where: key for where, key in found.items() if key and not key.startswith("#")}
        if not found:
            raise ConfigError(f"{path}: it has no API key. Write one a line.", options=("api_key_file",))
        keys |= found
    for where, key in keys.items():
        if len(key) < SHORTEST_KEY or not key.isascii() or not key.isprintable() or " " in key:
            raise ConfigError(
                f"{where}: an API key is at least {SHORTEST_KEY} letters, digits and signs of ASCII, no spaces; got "
                f"{len(key)} characters. `python -c 'import secrets; print(secrets.token_urlsafe())'` makes one."
            )
    return tuple(dict.fromkeys(keys.values()))
