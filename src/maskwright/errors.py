"""Every error this package raises on purpose.

    MaskwrightError
    ├── ImageError        an image cannot be read, or an array is not an image      (also ValueError)
    ├── DataError         an annotation or result file has wrong or missing content (also ValueError)
    ├── ConfigError       an option, name or combination of options is wrong        (also ValueError)
    ├── WeightsError      a checkpoint does not fit, is damaged or is unsafe        (also ValueError)
    │   └── DownloadError a file could not be fetched or its hash is wrong          (also OSError)
    ├── TrainingError     training cannot continue                                  (also RuntimeError)
    └── MissingExtraError an optional package is needed                             (also ImportError)

A message says what failed, what was expected, what was found, where, and what to do.
"""

import difflib
import re
from collections.abc import Iterable


class MaskwrightError(Exception):
    """Root of all errors raised on purpose by maskwright.

    message: what a file may have made long in it is shortened (`shortened`).
    options: names of the parameters with which the caller can avoid the error, e.g. ("images",). The message names
    none in the spelling of one front end: the command line shows `--images`, Python code reads `images=`.
    code: a short fixed name of the fault where a caller reacts to it ("nothing-to-learn"), so that no caller parses the
    message. Empty for most errors.
    """

    def __init__(self, message: str = "", *, options: Iterable[str] = (), code: str = "") -> None:
        super().__init__(shortened(message))
        self.options = tuple(options)
        self.code = code


class ImageError(MaskwrightError, ValueError):
    """An image could not be read or an array is not an image."""


class DataError(MaskwrightError, ValueError):
    """An annotation or result file has wrong or missing content."""


class ConfigError(MaskwrightError, ValueError):
    """An option, a name, or a combination of options is wrong."""


class WeightsError(MaskwrightError, ValueError):
    """A checkpoint does not fit the model, is damaged, or has content other than tensors."""


class DownloadError(WeightsError, OSError):
    """A file could not be fetched, or has the wrong hash."""


class TrainingError(MaskwrightError, RuntimeError):
    """Training cannot continue: the loss is not finite, or there is nothing to learn from."""


class MissingExtraError(MaskwrightError, ImportError):
    """An optional package is needed; the message names the extra that installs it."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs the package '{package}'. Install it with: pip install 'maskwright[{extra}]'")


NOTHING_TO_LEARN = "nothing-to-learn"
"""Code of the DataError of a data set in which no image has an object to learn from."""

MOST_NAMED = 60
"""Largest number of names that a message lists."""


LONGEST_WORD, LONGEST_MESSAGE = 300, 3000


def shortened(text: str) -> str:
    """A text for a message: of a very long word in it, and of the whole where it is very long, the two ends."""
    if len(text) > LONGEST_WORD:
        text = re.sub(rf"\S{{{LONGEST_WORD},}}", lambda word: f"{word[0][:200]}...{word[0][-50:]}", text)
    return text if len(text) <= LONGEST_MESSAGE else f"{text[:2000]} ... {text[-800:]}"


def short(value: object) -> str:
    """A value for a message: its repr, cut at 80 characters."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def suggest(name: str, known: Iterable[str], *, listing: bool = True) -> str:
    """`" Did you mean 'x' or 'y'?"` for near misses of `name` among `known`; without any, a list of `known`.

    The list is left out where it is long or `listing` is False.
    """
    options = sorted(known)
    near = difflib.get_close_matches(name, options, n=3, cutoff=0.5)
    if near:
        return " Did you mean " + " or ".join(f"'{n}'" for n in near) + "?"
    return f" Known: {', '.join(options)}." if listing and 0 < len(options) <= MOST_NAMED else ""
