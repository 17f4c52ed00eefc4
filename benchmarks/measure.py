"""Shared by the speed benchmarks: alternating runs, stage times, arithmetic, the machine's peak, peak memory."""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from maskwright.predictor.timing import StageTimer

THREADS = 2

Stages = Callable[[StageTimer], None]
"""Runs a network stage by stage with the given timer."""


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def best(call: Callable[[], object], runs: int = 7) -> float:
    """Seconds of the fastest run."""
    return min(seconds(call) for _ in range(runs))


def in_turn(peer: Callable[[], object], ours: Callable[[], object], turns: int) -> dict[str, float]:
    """Median seconds of both, and the median over the turns of the ratio between a turn's medians.

    In a turn the slower one runs once, then the other repeatedly for about the same time, so that each is measured in
    steady state. (A single short run after a long one of the other took half as long again in a virtual machine, which
    had reclaimed its memory.) best_ratio: of the fastest run of each.
    """
    longest = max(seconds(peer), seconds(ours))
    times = [(_about_as_long(peer, longest), _about_as_long(ours, longest)) for _ in range(turns)]
    theirs, own = ([t for turn in times for t in turn[side]] for side in (0, 1))
    return {
        "peer_s": statistics.median(theirs),
        "ours_s": statistics.median(own),
        "ratio": statistics.median(statistics.median(p) / statistics.median(o) for p, o in times),
        "best_ratio": min(theirs) / min(own),
    }


def _about_as_long(call: Callable[[], object], span: float) -> list[float]:
    """Seconds of consecutive runs that last about `span` in all; at least one run."""
    times = [seconds(call)]
    while sum(times) + times[-1] / 2 < span:
        times.append(seconds(call))
    return times


def stage_seconds(run: Stages, runs: int) -> dict[str, float]:
    """Median seconds of each stage."""
    times: dict[str, list[float]] = {}
    for _ in range(runs):
        timer = StageTimer()
        run(timer)
        for name, value in timer.totals.items():
            times.setdefault(name, []).append(value)
    return {name: statistics.median(values) for name, values in times.items()}


def stage_gflop(run: Stages) -> dict[str, float]:
    """GFLOP of each stage as direct convolutions; `run` must run the model without acceleration."""
    counter = FlopCounterMode(display=False)

    class Counting(StageTimer):
        open: tuple[str, int] | None = None

        def stage(self, name: str) -> Any:
            self.close()
            self.open = (name, counter.get_total_flops())
            return super().stage(name)

        def close(self) -> None:
            if self.open is not None:
                self.totals[self.open[0]] = (counter.get_total_flops() - self.open[1]) / 1e9
                self.open = None

    timer = Counting()
    with counter:
        run(timer)
        timer.close()
    return timer.totals


class CpuTimer(StageTimer):
    """Counts the processor's time, whatever else the machine does."""

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.process_time()
        yield
        self.totals[name] = self.totals.get(name, 0.0) + time.process_time() - start


def matrix_peak(dtype: torch.dtype) -> float:
    """GFLOP/s of the faster of a matrix product of 2048 x 2048 and a 256-channel 3x3 convolution, best of 7 runs."""
    a, b = (torch.randn(2048, 2048).to(dtype) for _ in range(2))
    x = torch.randn(1, 256, 100, 152).to(dtype).to(memory_format=torch.channels_last)
    w = torch.randn(256, 256, 3, 3).to(dtype).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        product = 2 * 2048**3 / best(lambda: a @ b)
        convolution = 2 * 100 * 152 * 256 * 256 * 9 / best(lambda: torch.conv2d(x, w, padding=1))
    return max(product, convolution) / 1e9


def peak_memory(module: str, *arguments: str) -> float:
    """Peak memory of `python -m module arguments` in MB; it must end with `print_peak_memory`. Linux only."""
    command = [sys.executable, "-m", module, *arguments]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def print_peak_memory() -> None:
    """Print this process's peak memory in MB. Not by getrusage, whose figure for a child starts with its parent's."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    print(int(status["VmHWM"].split()[0]) / 1024)


def print_stages(stages: dict[str, float], gflop: dict[str, float], peak: float) -> None:
    """Print time, share of the sum, arithmetic, rate and share of the peak of each stage."""
    total = sum(stages.values())
    print(f"  {'stage':<26}{'ms':>8}{'share':>8}{'GFLOP':>9}{'GFLOP/s':>9}{'of peak':>9}")
    for name, value in stages.items():
        work = gflop.get(name, 0.0)
        rate = f"{work:9.1f}{work / value:9.0f}{work / value / peak:9.2f}" if work > 0.5 else ""
        print(f"  {name:<26}{1000 * value:8.1f}{100 * value / total:7.1f}%{rate}")
    print(f"  {'sum':<26}{1000 * total:8.1f}{'':8}{sum(gflop.values()):9.1f}")
