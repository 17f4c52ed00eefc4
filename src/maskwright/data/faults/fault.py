"""What a fault is: its name, how bad it is, what it means and what repairs it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
"""error: training or evaluation fails or is wrong. warning: probably a mistake. note: good to know."""


@dataclass(frozen=True)
class Fault:
    """One kind of fault.

    summary: what is wrong. repair: what a repair does, empty where only a person can decide. advice: what a person can
    do. after: faults of the same record that explain this one, so that it is not reported beside them.
    """

    name: str
    severity: Severity
    summary: str
    repair: str = ""
    advice: str = ""
    after: frozenset[str] = frozenset()


def _of(severity: Severity) -> Callable[..., Fault]:
    def fault(name: str, summary: str, *, repair: str = "", advice: str = "", after: str = "") -> Fault:
        """after: names with spaces between them."""
        return Fault(name, severity, summary, repair, advice, frozenset(after.split()))

    return fault


error, warning, note = map(_of, SEVERITIES)
