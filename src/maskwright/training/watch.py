"""Watching a training run, and stopping it: the CSV files, the progress bar, the signals."""

import csv
import io
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self

from maskwright.atomic import reason, replacing
from maskwright.codec import Section, ranged
from maskwright.errors import MissingExtraError, TrainingError
from maskwright.training.position import Position
from maskwright.training.processes import is_one_of_several


@dataclass(frozen=True)
class RunSettings(Section):
    """A run's files and messages; none of them changes what is learnt.

    out: the run's folder. resume: continue the run in it; it starts where there is none. checkpoint_minutes: between
    saved states. log_every: iterations. tensorboard: write events for it as well. report: write report.html at the
    end, which costs one more evaluation. progress: a bar on stderr.
    """

    out: str = "runs/train"
    resume: bool = False
    checkpoint_minutes: float = ranged(10.0, low=0)
    log_every: int = ranged(10, low=1)
    tensorboard: bool = False
    report: bool = True
    progress: bool = True


class Stopped(Exception):
    """A signal came inside `StopRequest.at_once`."""


class StopRequest:
    """Turns SIGTERM and the first Ctrl-C into a request that the loop reads; a second Ctrl-C interrupts at once.

    Inside `at_once`, for work that may be given up, the first signal raises Stopped instead of waiting.
    name: the signal that came, or None. heeded: whether the loop has begun; until then signals do what they did before.
    Outside the main thread signals cannot be caught, and nothing is changed.

    torchrun ends all processes as soon as one has ended: an error of one of several would be lost where SIGTERM comes
    before it is printed. So the first SIGTERM after an error is ignored.
    """

    def __init__(self) -> None:
        self.name: str | None = None
        self.heeded = self._at_once = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {s: signal.signal(s, self._note) for s in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, kind: object, value: object, trace: object) -> None:
        failing = isinstance(value, Exception) and is_one_of_several()
        for which, handler in self._before.items():
            signal.signal(which, self._pass_over if failing and which == signal.SIGTERM else handler)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Inside, a signal raises Stopped, also one that came before. Only in the main thread, where signals arrive."""
        if self.name is not None:
            raise Stopped
        self._at_once = True
        try:
            yield
        finally:
            self._at_once = False

    def _note(self, number: int, frame: object) -> None:
        if not self.heeded:
            self._pass_over(number, frame)
            signal.raise_signal(number)
        elif self.name == "SIGINT" and number == signal.SIGINT:
            raise KeyboardInterrupt
        else:
            if self.name is None:  # not print: the signal may have come while something was printed
                os.write(2, b"\nStopping after this step, with everything saved. Ctrl-C again stops at once.\n")
            self.name = signal.Signals(number).name
            if self._at_once:
                self._at_once = False
                raise Stopped

    def _pass_over(self, number: int, frame: object) -> None:
        signal.signal(number, self._before[number])


class LogTable:
    """A CSV file that grows row by row and is complete after each. The first row decides the columns."""

    def __init__(self, path: Path | None, *, upto: int | None) -> None:
        """upto: keep the rows of a file that is there up to this iteration; None starts anew. path None: no file."""
        self.path = path
        self._columns: list[str] | None = None
        self._stream: IO[str] = io.StringIO()
        if path is None:
            return
        kept = _rows_upto(path, upto) if upto is not None and path.exists() else []
        self._columns = kept[0] if kept else None
        with replacing(path) as part, part.open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows(kept)
        self._stream = path.open("a", newline="", encoding="utf-8")

    def add(self, row: Mapping[str, float]) -> None:
        """Write one row; numbers keep seven digits. Raises TrainingError where it cannot be written."""
        writer = csv.writer(self._stream)
        try:
            if self._columns is None:
                self._columns = list(row)
                writer.writerow(self._columns)
            writer.writerow([_short(row.get(name)) for name in self._columns])
            self._stream.flush()
        except OSError as error:
            with suppress(OSError):  # what is left in its buffer cannot be written either
                self._stream.close()
            raise TrainingError(
                f"{self.path} could not be written: {reason(error) or error}. Free some space, then start again, with "
                f"resume if there is a last.state beside it."
            ) from error

    def close(self) -> None:
        """Close the file."""
        self._stream.close()


def _rows_upto(path: Path, iteration: int) -> list[list[str]]:
    """Header and rows whose iteration is not later; a row that was cut off while it was written is left out."""
    with path.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.reader(stream))
    if not rows or "iteration" not in rows[0]:
        return []
    column, width = rows[0].index("iteration"), len(rows[0])
    kept = [r for r in rows[1:] if len(r) == width and r[column].isdigit() and int(r[column]) <= iteration]
    return [rows[0], *kept]


def _short(value: float | None) -> str:
    return "" if value is None else str(value) if isinstance(value, int) else f"{value:.7g}"


def _events(folder: Path, iteration: int) -> Any:
    """TensorBoard's writer. What was written for later steps, before the run was stopped, is not shown any more.

    Raises MissingExtraError where TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingExtraError("tensorboard", "tensorboard", "Writing events for TensorBoard") from error
    return SummaryWriter(str(folder), purge_step=iteration + 1 if iteration else None)


class Log(AbstractContextManager["Log"]):
    """`log.csv`: iteration, epoch, lr, mean of each loss, gradient norm, images per second, share of the time spent
    waiting for data, one row for every `every` iterations and one for what is left of them at the end of the run.
    `metrics.csv`: one row per evaluation.

    folder: None keeps no files. tensorboard: write the same numbers for TensorBoard too, into its subfolder of that
    name. rate: images per second in the last row, or of the first steps before there is one.
    """

    def __init__(self, folder: Path | None, position: Position, every: int, *, tensorboard: bool = False) -> None:
        upto = position.iteration or None
        self.rate, self._every, self._events = 0.0, every, None
        with ExitStack() as stack:
            self._steps = LogTable(folder and folder / "log.csv", upto=upto)
            stack.callback(self._steps.close)
            self._metrics = LogTable(folder and folder / "metrics.csv", upto=position.validated if upto else None)
            stack.callback(self._metrics.close)
            if tensorboard and folder is not None:
                self._events = _events(folder / "tensorboard", position.iteration)
                stack.callback(self._events.close)
            self._closing = stack.pop_all()
        self._begin_row()

    def _begin_row(self) -> None:
        self._sums: dict[str, float] = {}
        self._lr = 0.0
        self._done = self._images = 0
        self._seconds = self._waited = 0.0
        self._mark = time.perf_counter()

    def __exit__(self, kind: object, value: object, trace: object) -> None:
        self._closing.close()

    def step(
        self, position: Position, losses: Mapping[str, float], images: int, waited: float, *, last: bool = False
    ) -> list[dict[str, float]]:
        """Note one step, the last of the run or not; gives the row that was written, if one was."""
        now = time.perf_counter()
        self._seconds, self._mark = self._seconds + now - self._mark, now
        self._done, self._images, self._waited = self._done + 1, self._images + images, self._waited + waited
        for name, value in losses.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._lr = losses["lr"]
        if self.rate == 0.0:
            self.rate = self._images / max(self._seconds, 1e-9)
        return self.rest(position) if last or position.iteration % self._every == 0 else []

    def rest(self, position: Position) -> list[dict[str, float]]:
        """Write the row of the steps since the last row; gives it, if there were any."""
        if not self._done:
            return []
        self.rate = self._images / max(self._seconds, 1e-9)
        means = {name: total / self._done for name, total in self._sums.items() if name != "lr"}
        waiting = min(1.0, self._waited / max(self._seconds, 1e-9))
        row = {"lr": self._lr, **means, "images_per_second": self.rate, "waiting_share": waiting}
        written = self._write(self._steps, "train/", position, row)
        self._begin_row()
        return [written]

    def metrics(self, position: Position, values: Mapping[str, float]) -> dict[str, float]:
        """Write the row of an evaluation; its time does not count for the rate."""
        row = self._write(self._metrics, "validation/", position, values)
        self._mark = time.perf_counter()
        return row

    def _write(self, table: LogTable, prefix: str, position: Position, values: Mapping[str, float]) -> dict[str, float]:
        table.add(row := {"iteration": position.iteration, "epoch": position.epoch, **values})
        if self._events is not None:
            for name in row.keys() - {"iteration"}:
                self._events.add_scalar(prefix + name, row[name], position.iteration)
            self._events.flush()
        return row


class TrainingBar:
    """Progress on stderr: a bar on a terminal, a line every half minute in a file, nothing when switched off."""

    LINE_SECONDS = 30.0

    def __init__(self, wanted: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
        from rich.table import Column

        self._wanted, self._bar, self._line_at = wanted, None, 0.0
        if wanted and sys.stderr.isatty():
            rest = Column(ratio=1, no_wrap=True, overflow="ellipsis")  # what does not fit is cut, never the time left
            columns = (TimeRemainingColumn(), TaskProgressColumn(), BarColumn(12))
            text = TextColumn("{task.description}", table_column=rest, markup=False)
            self._bar = Progress(*columns, text, console=Console(stderr=True), expand=True)
            self._task = self._bar.add_task("training", total=1.0)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, kind: object, value: object, trace: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, position: Position, losses: Mapping[str, float], progress: float, rate: float) -> None:
        """Say how far the run is."""
        if not self._wanted:
            return
        terms = " ".join(f"{n} {v:.3f}" for n, v in losses.items() if n not in ("lr", "grad_norm", "loss"))
        loss = f"loss {losses['loss']:.3f} | " if "loss" in losses else ""
        text = f"epoch {position.epoch} iteration {position.iteration} | {loss}{_rate(rate)} | {terms}"
        now = time.perf_counter()
        if self._bar is not None:
            self._bar.update(self._task, completed=progress, description=text)
        elif now - self._line_at >= self.LINE_SECONDS:
            self._line_at = now
            print(f"{text} | {progress:.1%}{_left(position.seconds, progress)}", file=sys.stderr, flush=True)

    def say(self, text: str) -> None:
        """Print a line that stays, above the bar where there is one."""
        if self._bar is not None:
            self._bar.console.print(text, highlight=False, markup=False, soft_wrap=True)
        elif self._wanted:
            print(text, file=sys.stderr, flush=True)


def _rate(rate: float) -> str:
    """Images a second; of less than one, the seconds of each. rate: 0 before a step was timed."""
    if rate <= 0:
        return "first step"
    return f"{rate:.1f} images/s" if rate >= 1 else f"{1 / rate:.1f} s an image"


def _left(seconds: float, progress: float) -> str:
    """What a line says of the time that is left; nothing at the end, no number before a step was timed."""
    if progress >= 1:
        return ""
    if progress <= 0 or seconds <= 0:
        return ", estimating the time left"
    left = seconds * (1 / progress - 1)
    return ", under a minute left" if left < 60 else f", {left / 60:.0f} min left"
