"""Settings that nobody chose: they work as they are, and `training.defaults` may replace them by what fits the data."""

from typing import TypeVar

T = TypeVar("T")


class Undecided:
    """Marks a value that is a plain default, not a choice. Calculating with it gives an ordinary value."""


class _Int(int, Undecided):
    pass


class _Float(float, Undecided):
    pass


class _Str(str, Undecided):
    pass


_MARKED = {int: _Int, float: _Float, str: _Str}


def undecided(value: T) -> T:
    """The same int, float or str, marked: equal to it, and of its type for all who read it."""
    marked: T = _MARKED[type(value)](value)
    return marked


def plain(value: T) -> T:
    """The value without its mark: now it counts as chosen."""
    for kind, marked in _MARKED.items():
        if isinstance(value, marked):
            chosen: T = kind(value)
            return chosen
    return value
