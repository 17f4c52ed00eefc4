"""Models side by side: the same images through each in turn, from the file to the drawn overlay, stage by stage."""

import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from maskwright import draw, media
from maskwright.errors import ConfigError
from maskwright.predictor.load import load
from maskwright.predictor.options import FindOptions, intensity_of
from maskwright.predictor.predictor import Predictor
from maskwright.predictor.timing import StageTimer

PRECISIONS = ("float32", "bf16", "auto")

STAGES = ("read", "prepare", "search", "network", "finish", "join", "draw")
"""In this order in tables; `join` is of tiles and mirror images alone."""


@dataclass(frozen=True)
class Candidate:
    """What is measured. name: of the zoo, or a file. precision: as in `LoadOptions`; shown: the words of the user."""

    name: str
    precision: str
    shown: str

    @classmethod
    def of(cls, text: str) -> "Candidate":
        """From "nuclei", "nuclei@bf16" or "leaf.onnx"."""
        name, _, precision = text.rpartition("@")
        return cls(name, precision, text) if name and precision in PRECISIONS else cls(text, "float32", text)

    def load(self, device: str = "cpu") -> Predictor:
        """The model, ready to predict."""
        return load(self.name, precision=self.precision, device=device)


@dataclass(frozen=True)
class Measured:
    """One candidate. Times are milliseconds of an image, from its file to the drawn overlay.

    p50, p95: of all runs. stages: the median of each. instances: mean number found in an image. times: how many times
    as fast as the first candidate, the median over the images of the ratio of medians. memory: peak of a process of its
    own that predicts the first image, in MB, with Python and what it imports; None where that cannot be told.
    """

    name: str
    p50: float
    p95: float
    stages: Mapping[str, float]
    instances: float
    times: float
    memory: float | None

    @property
    def per_second(self) -> float:
        """Images a second, at the median."""
        return 1000 / self.p50


@dataclass(frozen=True)
class Comparison:
    """All candidates, in the order they were given. images: how many; turns: how often each was predicted."""

    rows: tuple[Measured, ...]
    images: int
    turns: int
    threads: int

    def text(self) -> str:
        """A table."""
        stages = [name for name in STAGES if any(name in row.stages for row in self.rows)]
        heads = ["p50 ms", "p95 ms", "a second", "times", *stages, "instances", "memory MB"]
        wide = max(len("model"), *(len(row.name) for row in self.rows))
        lines = [f"{'model':<{wide}}" + "".join(f"{head:>11}" for head in heads)]
        for row in self.rows:
            parts = (f"{row.stages[name]:.1f}" if name in row.stages else "-" for name in stages)
            memory = "-" if row.memory is None else f"{row.memory:.0f}"
            values = [f"{row.p50:.1f}", f"{row.p95:.1f}", f"{row.per_second:.2f}", f"{row.times:.2f}", *parts]
            values += [f"{row.instances:.1f}", memory]
            lines.append(f"{row.name:<{wide}}" + "".join(f"{value:>11}" for value in values))
        return "\n".join(lines)

    def document(self) -> dict[str, object]:
        """The same for JSON."""
        rows = [{**vars(row), "stages": dict(row.stages), "per_second": row.per_second} for row in self.rows]
        return {"images": self.images, "turns": self.turns, "threads": self.threads, "models": rows}


@dataclass(eq=False)
class _Runs:
    """What was measured of one candidate. seconds: by image; stages: by name, a value for each run."""

    seconds: dict[int, list[float]] = field(default_factory=dict)
    stages: dict[str, list[float]] = field(default_factory=dict)
    instances: dict[int, int] = field(default_factory=dict)

    def add(self, image: int, timer: StageTimer, count: int) -> None:
        self.seconds.setdefault(image, []).append(sum(timer.totals.values()))
        for name, value in timer.totals.items():
            self.stages.setdefault(name, []).append(value)
        self.instances[image] = count

    def median(self, image: int) -> float:
        return statistics.median(self.seconds[image])


def compare(
    candidates: Sequence[Candidate],
    sources: Sequence[str | Path],
    *,
    turns: int = 5,
    find: FindOptions | None = None,
    device: str = "cpu",
    on_run: Callable[[int, int], None] | None = None,
) -> Comparison:
    """Measure the candidates on images, in turns: one image through each, beginning with another each time.

    sources: files, see `media.find_images`. find: which instances are found, the same for all. on_run: sees how many
    of all runs are done. A run of each on the first image comes before, and is not counted.
    Raises ConfigError where a candidate is named twice, ImageError for an image that cannot be read, and what `load`
    raises.
    """
    import torch

    names = [candidate.shown for candidate in candidates]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ConfigError(f"'{twice[0]}' is named twice.", options=("models",))
    if turns < 1:
        raise ConfigError(f"turns is at least 1, got {turns}.", options=("turns",))
    paths, options = media.find_images([str(source) for source in sources]), find or FindOptions()
    predictors = [candidate.load(device) for candidate in candidates]
    for predictor in predictors:
        _run(predictor, paths[0], options)
    memory = [_peak(candidate, paths[0], device) for candidate in candidates]
    runs, done = [_Runs() for _ in candidates], 0
    for turn in range(turns):
        for i, path in enumerate(paths):
            for k in np.roll(np.arange(len(candidates)), turn + i).tolist():
                runs[k].add(i, *_run(predictors[k], path, options))
                done += 1
                if on_run is not None:
                    on_run(done, turns * len(paths) * len(candidates))
    rows = tuple(_row(*row, runs[0]) for row in zip(names, runs, memory, strict=True))
    return Comparison(rows, len(paths), turns, torch.get_num_threads())


def _run(predictor: Predictor, path: str | Path, options: FindOptions) -> tuple[StageTimer, int]:
    """One image from its file to the overlay."""
    timer = StageTimer()
    with timer.stage("read"):
        image = media.read_image(path, intensity=intensity_of(predictor, options))
    found = predictor.predict(image, options, timer=timer)
    with timer.stage("draw"):
        draw.overlay(image, found)
    return timer, len(found)


def _row(name: str, runs: _Runs, memory: float | None, first: _Runs) -> Measured:
    every = 1000 * np.array([value for own in runs.seconds.values() for value in own])
    stages = {name: 1000 * statistics.median(runs.stages[name]) for name in STAGES if name in runs.stages}
    times = statistics.median(first.median(i) / runs.median(i) for i in runs.seconds)
    p50, p95 = np.percentile(every, [50, 95]).tolist()
    return Measured(name, p50, p95, stages, statistics.mean(runs.instances.values()), times, memory)


# ---- memory ---------------------------------------------------------------------------------------------------------


def _peak(candidate: Candidate, path: str | Path, device: str) -> float | None:
    """Peak memory in MB of a process that predicts one image; None on systems but Linux."""
    if not Path("/proc/self/status").is_file():
        return None
    import torch

    asked = json.dumps([candidate.shown, str(path), device, torch.get_num_threads()])
    ended = subprocess.run([sys.executable, "-m", __name__, asked], capture_output=True, text=True, check=False)
    if ended.returncode:
        why = (ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}"])[-1]
        raise ConfigError(f"'{candidate.shown}' failed in a process of its own, which measures its memory: {why}")
    return float(ended.stdout)


def main(asked: str) -> None:
    """Predict one image and print the peak memory of this process in MB."""
    import torch

    name, path, device, threads = json.loads(asked)
    torch.set_num_threads(threads)
    _run(Candidate.of(name).load(device), path, FindOptions())
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    print(int(status["VmHWM"].split()[0]) / 1024)  # getrusage's figure for a child begins with its parent's


if __name__ == "__main__":
    main(sys.argv[1])
