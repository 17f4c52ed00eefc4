"""Numbers that a file has as text: "12.5", lists written as text, and run lengths as Python prints bytes, b'...'."""

import ast
import json
from typing import Any

from maskwright.data.formats.shared.fields import Row

_LONGEST = 1_000_000  # characters that are looked at as a Python literal
_FIELDS = ("bbox", "area", "segmentation", "keypoints", "num_keypoints")


def as_numbers(row: Row) -> Row:
    """The fields of an annotation that hold numbers as text, with the numbers instead; empty where none does."""
    return {key: plain for key in _FIELDS if key in row and (plain := _plain(row[key])) != row[key]}


def _plain(value: Any) -> Any:
    """The value with the numbers and lists that its texts stand for; other text stays as it is."""
    if isinstance(value, list):
        return [_plain(v) for v in value]
    if isinstance(value, dict):  # run lengths: their counts are text of their own, which may look like a number
        read = {"size": _plain, "counts": _counts}
        return {key: read[key](v) if key in read else v for key, v in value.items()}
    if not isinstance(value, str):
        return value
    parsed = _parsed(value)
    if isinstance(parsed, (list, dict)):
        return _plain(parsed)
    return parsed if isinstance(parsed, (int, float)) and not isinstance(parsed, bool) else value


def _counts(value: Any) -> Any:
    """Run lengths without the b'...' around them, and lists of them that are text."""
    if isinstance(value, str) and (value.startswith(("b'", 'b"')) or "," in value):  # neither ' nor , is in run lengths
        parsed = _parsed(value)
        return parsed if isinstance(parsed, str) else _plain(parsed) if isinstance(parsed, list) else value
    return [_plain(v) for v in value] if isinstance(value, list) else value


def _parsed(text: str) -> Any:
    """What the text is as JSON or as a Python literal, bytes as text and tuples as lists; None where it is neither."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        value = ast.literal_eval(text.strip()[:_LONGEST])
        return json.loads(json.dumps(value, default=_text))
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("ascii")
    raise TypeError
