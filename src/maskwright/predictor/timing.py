"""How long each stage of a job takes, measured by a value that is passed along: no globals."""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext


class StageTimer:
    """Adds up seconds by stage name. Stages may be entered many times and in any order.

    timer = StageTimer()
    with timer.stage("network"):
        ...
    totals: seconds by stage, in the order of first use. counts: how often each stage was entered.
    count: what was processed, set by the caller (images); 0 means unknown, and then no rate is reported.
    """

    def __init__(self) -> None:
        self.totals: dict[str, float] = {}
        self.counts: dict[str, int] = {}
        self.count = 0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time what happens inside; also when it raises. On a GPU the caller synchronises before leaving."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.totals[name] = self.totals.get(name, 0.0) + time.perf_counter() - start
            self.counts[name] = self.counts.get(name, 0) + 1

    def report(self) -> str:
        """One line per stage: seconds, share of the sum, and milliseconds per image where `count` is known."""
        everything = sum(self.totals.values())
        width = max((len(name) for name in self.totals), default=0)
        lines = []
        for name, seconds in self.totals.items():
            share = 100 * seconds / everything if everything else 0.0
            each = f"  {1000 * seconds / self.count:9.2f} ms each" if self.count else ""
            lines.append(f"{name:<{width}}  {seconds:9.3f} s  {share:5.1f} %{each}")
        return "\n".join(lines)


def stage(timer: StageTimer | None, name: str) -> AbstractContextManager[None]:
    """Times what happens inside where there is a timer."""
    return nullcontext() if timer is None else timer.stage(name)
