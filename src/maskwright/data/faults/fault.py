"""What a fault is: its name, how bad it is, what it means and what repairs it."""

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
"""error: training or evaluation fails or is wrong. warning: probably a mistake. note: good to know."""


@dataclass(frozen=True)
class Fault:
    """One kind of fault.

    summary: what is wrong. repair: what --fix does, empty where only a person can decide. advice: what a person does.
    after: faults of the same record that explain this one, so that it is not reported beside them.
    """

    name: str
    severity: Severity
    summary: str
    repair: str
    advice: str
    after: frozenset[str] = frozenset()


def error(name: str, summary: str, repair: str, advice: str, *after: str) -> Fault:
    """A fault that makes training or evaluation fail or be wrong."""
    return Fault(name, "error", summary, repair, advice, frozenset(after))


def warning(name: str, summary: str, repair: str, advice: str, *after: str) -> Fault:
    """A fault that is probably a mistake."""
    return Fault(name, "warning", summary, repair, advice, frozenset(after))


def note(name: str, summary: str, repair: str, advice: str, *after: str) -> Fault:
    """What is good to know."""
    return Fault(name, "note", summary, repair, advice, frozenset(after))
