"""The logs of a run, rows that survive being cut off, events for TensorBoard; the signals that stop it."""

import io
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from maskwright.errors import MissingExtraError
from maskwright.evaluation.report import read_columns
from maskwright.training.checkpoint import Position
from maskwright.training.watch import Log, LogTable, StopRequest, TrainingBar


class Writer:
    """Stands in for TensorBoard's."""

    made: list["Writer"] = []

    def __init__(self, folder: str, purge_step: int | None) -> None:
        self.folder, self.purge_step = folder, purge_step
        self.rows: list[tuple[str, float, int]] = []
        self.closed = False
        Writer.made.append(self)

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.rows.append((name, value, step))

    def flush(self) -> None: ...

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def writers(monkeypatch: pytest.MonkeyPatch) -> list[Writer]:
    module = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = Writer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    monkeypatch.setattr(Writer, "made", [])
    return Writer.made


def steps(log: Log, position: Position, upto: int) -> None:
    while position.iteration < upto:
        position.iteration += 1
        log.step(position, {"mask": 1.0 / position.iteration, "lr": 0.1}, images=2, waited=0.0)


def test_the_events_are_those_of_the_tables(tmp_path: Path, writers: list[Writer]) -> None:
    position = Position()
    with Log(tmp_path, position, 5, tensorboard=True) as log:
        steps(log, position, 10)
        log.metrics(position, {"segm/AP": 0.25})
    (writer,) = writers
    assert (writer.folder, writer.purge_step, writer.closed) == (str(tmp_path / "tensorboard"), None, True)
    table = read_columns(tmp_path / "log.csv")
    losses = [(value, step) for name, value, step in writer.rows if name == "train/mask"]
    assert [step for _, step in losses] == table["iteration"] == [5, 10]
    assert [value for value, _ in losses] == pytest.approx(table["mask"], rel=1e-6)
    assert ("validation/segm/AP", 0.25, 10) in writer.rows
    assert not any(name.endswith("/iteration") for name, *_ in writer.rows)


def test_the_steps_after_the_last_full_row_get_one_at_the_end(tmp_path: Path) -> None:
    position = Position()
    with Log(tmp_path, position, 5) as log:
        steps(log, position, 7)
        (row,) = log.rest(position)
        assert (row["iteration"], row["lr"], row["mask"]) == (7, 0.1, pytest.approx((1 / 6 + 1 / 7) / 2))
        assert log.rest(position) == []
        assert log.step(Position(iteration=8), {"lr": 0.5}, images=2, waited=0.0, last=True)[0]["lr"] == 0.5
    assert read_columns(tmp_path / "log.csv")["iteration"] == [5, 7, 8]


def test_a_resumed_run_takes_back_what_came_after_its_state(tmp_path: Path, writers: list[Writer]) -> None:
    position = Position()
    with Log(tmp_path, position, 1) as log:
        steps(log, position, 8)
    assert writers == []  # nobody asked
    with Log(tmp_path, Position(iteration=6), 1, tensorboard=True) as log:
        steps(log, Position(iteration=6), 7)
    assert writers[0].purge_step == 7
    assert read_columns(tmp_path / "log.csv")["iteration"] == [1, 2, 3, 4, 5, 6, 7]


def test_a_process_without_files_writes_no_events(tmp_path: Path, writers: list[Writer]) -> None:
    with Log(None, Position(), 1, tensorboard=True) as log:
        steps(log, Position(), 2)
    assert writers == []
    assert list(tmp_path.iterdir()) == []


def test_without_tensorboard_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingExtraError, match=r"maskwright\[tensorboard\]"):
        Log(tmp_path, Position(), 1, tensorboard=True)
    with Log(tmp_path, Position(), 1) as log:  # the files were closed, and nothing else is needed
        steps(log, Position(), 1)


def test_real_events_can_be_read(tmp_path: Path) -> None:
    """With TensorBoard itself, where it is installed."""
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    position = Position()
    with Log(tmp_path, position, 1, tensorboard=True) as log:
        steps(log, position, 3)
    events = reader.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [e.step for e in events.Scalars("train/mask")] == [1, 2, 3]


@pytest.mark.parametrize("damage", ["4,0.", "4,0.1,7,8", "five,1.0", ""])
def test_a_row_that_was_cut_off_is_left_out(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "log.csv"
    path.write_text(f"iteration,loss\n1,3\n2,2.5\n{damage}", newline="\r\n" if damage == "five,1.0" else "\n")
    table = LogTable(path, upto=3)
    table.add({"iteration": 3, "loss": 0.125, "other": 9.0})
    table.close()
    assert read_columns(path) == {"iteration": [1, 2, 3], "loss": [3, 2.5, 0.125]}
    assert [p.name for p in tmp_path.iterdir()] == ["log.csv"]


def test_numbers_keep_seven_digits_and_missing_ones_stay_empty(tmp_path: Path) -> None:
    table = LogTable(tmp_path / "t.csv", upto=None)
    rows: list[dict[str, Any]] = [{"iteration": 10**9, "a": 1 / 3}, {"iteration": 2, "a": 1e-12}, {"iteration": 3}]
    for row in rows:
        table.add(row)
    table.close()
    assert (tmp_path / "t.csv").read_text().split() == ["iteration,a", "1000000000,0.3333333", "2,1e-12", "3,"]


@pytest.mark.parametrize(
    ("progress", "seconds", "said"),
    [
        (0.0, 3.0, "0.0%, estimating the time left"),
        (0.1, 0.0, "10.0%, estimating the time left"),
        (0.5, 20.0, "50.0%, under a minute left"),
        (0.25, 60.0, "25.0%, 3 min left"),
        (1.0, 60.0, "100.0%"),
    ],
)
def test_the_progress_line_claims_only_what_it_knows(
    capsys: pytest.CaptureFixture[str], progress: float, seconds: float, said: str
) -> None:
    """Before a step is timed nobody knows how long the run takes: neither nan nor nothing."""
    with TrainingBar(True) as bar:
        bar.show(Position(seconds=seconds), {"loss": 1.0}, progress, 2.0)
    assert capsys.readouterr().err.strip().rpartition(" | ")[2] == said


@pytest.mark.parametrize(("rate", "said"), [(0.0, "first step"), (0.04, "25.0 s an image"), (2.0, "2.0 images/s")])
def test_slow_steps_have_a_time_not_a_rate_of_zero(capsys: pytest.CaptureFixture[str], rate: float, said: str) -> None:
    with TrainingBar(True) as bar:
        bar.show(Position(), {"loss": 1.0, "mask": 0.5}, 0.1, rate)
    assert f"| loss 1.000 | {said} | mask 0.500 |" in capsys.readouterr().err


@pytest.mark.parametrize("width", [60, 80, 140])
def test_the_bar_says_the_time_left_at_every_width(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(screen, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    losses = dict.fromkeys(("rpn_class", "rpn_box", "class", "box", "mask", "loss"), 1.0)
    with TrainingBar(True) as bar:
        bar.show(Position(iteration=12345, epoch=120), losses, 0.5, 0.04)
    last = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", screen.getvalue()).strip().splitlines()[-1]
    assert re.match(r"-:--:--|\d+:\d\d:\d\d", last.strip())
    assert " 50% " in last
    assert len(last) <= width
    assert "0.0 images/s" not in last


# ---- signals --------------------------------------------------------------------------------------------------------


@pytest.fixture
def reached() -> Iterator[list[int]]:
    """The SIGTERMs that get as far as the program's own handler."""
    numbers: list[int] = []
    before = {
        signal.SIGTERM: signal.signal(signal.SIGTERM, lambda number, frame: numbers.append(number)),
        signal.SIGINT: signal.signal(signal.SIGINT, signal.default_int_handler),  # background jobs ignore it
    }
    yield numbers
    for number, handler in before.items():
        signal.signal(number, handler)


def test_signals_stop_a_run_that_has_begun_and_nothing_before(
    reached: list[int], capfd: pytest.CaptureFixture[str]
) -> None:
    with StopRequest() as stop, pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    with StopRequest() as stop:
        signal.raise_signal(signal.SIGTERM)
    assert (stop.name, reached) == (None, [signal.SIGTERM])
    with StopRequest() as stop:
        stop.heeded = True
        signal.raise_signal(signal.SIGTERM)
        assert stop.name == "SIGTERM"
        assert "Stopping after this step" in capfd.readouterr().err
        signal.raise_signal(signal.SIGINT)
        assert stop.name == "SIGINT"
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert reached == [signal.SIGTERM]


@pytest.mark.parametrize(("processes", "passed_over"), [("1", 0), ("2", 1)])
def test_one_of_several_processes_prints_its_error_before_it_ends(
    monkeypatch: pytest.MonkeyPatch, reached: list[int], processes: str, passed_over: int
) -> None:
    monkeypatch.setenv("WORLD_SIZE", processes)
    with pytest.raises(OSError), StopRequest():
        raise OSError
    for _ in range(3):
        signal.raise_signal(signal.SIGTERM)
    assert len(reached) == 3 - passed_over
    with StopRequest():
        pass
    signal.raise_signal(signal.SIGTERM)  # after a run that went well nothing is passed over
    assert len(reached) == 4 - passed_over
