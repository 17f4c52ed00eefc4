"""Two processes under torchrun learn what one learns, end together, and leave what one can go on from."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.training.workers import STYLES, lesson_config, lesson_data, lesson_model, stop_after_first_epoch
from torch import Tensor, nn

from maskwright.data.synthetic import coco_fixture
from maskwright.errors import ConfigError
from maskwright.nn.sync_norm import synchronised_norms
from maskwright.ops.losses import Term
from maskwright.training import checkpoint
from maskwright.training.fit import fit
from maskwright.training.processes import Team

pytestmark = pytest.mark.usefixtures("one_thread")

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two processes")
    coco_fixture(folder / "data", 0, images=7, size=(64, 72), objects=3, classes=2)
    return folder


@pytest.fixture(scope="module")
def ran(folder: Path) -> subprocess.CompletedProcess[str]:
    """Two processes that learn the lesson `equal` and then `killed`, which ends them; torchrun finds a free port.

    The run that two go on with is begun here by one.
    """
    begun = lesson_config(folder / "begun_by_one", epochs=2)
    fit(lesson_model("compact"), lesson_data(folder), lesson_data(folder), begun, stop_after_first_epoch)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2",
        str(ROOT / "tests/training/workers.py"), str(folder), "equal", "killed",
    ]  # fmt: skip
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def found(folder: Path, ran: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    """What each of two processes saw."""
    places = [folder / f"equal_{rank}.json" for rank in (0, 1)]
    assert all(place.exists() for place in places), ran.stderr
    return [json.loads(place.read_text()) for place in places]


def assert_close(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert a.keys() == b.keys()
    for name, value in a.items():
        torch.testing.assert_close(value, b[name], rtol=1e-3, atol=1e-4, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("style", STYLES)
def test_two_processes_give_the_losses_and_weights_of_one(
    style: str, found: list[dict[str, Any]], folder: Path
) -> None:
    model = lesson_model(style)
    start = {name: value.clone() for name, value in model.state_dict().items()}
    history = fit(model, lesson_data(folder), None, lesson_config(folder / f"one_{style}"))
    names = [n for n in history.losses[0] if n not in ("grad_norm", "images_per_second", "waiting_share")]
    for process in found:
        assert len(process[style]) == 3
        for ours, theirs in zip(history.losses, process[style], strict=True):
            assert [theirs[n] for n in names] == pytest.approx([ours[n] for n in names], rel=1e-4, abs=1e-6)
            assert theirs["grad_norm"] == pytest.approx(ours["grad_norm"], rel=2e-3)
    assert_close(model.state_dict(), torch.load(folder / f"two_{style}.pt"))
    moved = [n for n, p in model.named_parameters() if not torch.equal(p, start[n])]
    assert len(moved) > 10


def test_a_shared_norm_is_torchs_over_all_images(found: list[dict[str, Any]]) -> None:
    """Shares of 3 and 2, of 1 and 4, of 5 and none."""
    for process in found:
        assert all(error < 1e-5 for errors in process["norms"] for error in errors)


def test_a_signal_to_one_process_stops_all_at_the_same_step(found: list[dict[str, Any]]) -> None:
    assert found[0]["stopped"] == found[1]["stopped"] == ["SIGTERM", 3, 0]


def test_a_run_goes_on_with_another_number_of_processes(found: list[dict[str, Any]], folder: Path) -> None:
    straight = lesson_model("compact")
    fit(straight, lesson_data(folder), None, lesson_config(folder / "straight", epochs=2))
    assert_close(straight.state_dict(), torch.load(folder / "begun_by_one.pt"))
    ended_by_one = lesson_model("compact")
    fit(ended_by_one, lesson_data(folder), None, lesson_config(folder / "begun_by_two", epochs=2, resume=True))
    assert_close(straight.state_dict(), ended_by_one.state_dict())


def test_all_processes_end_with_a_reason(found: list[dict[str, Any]]) -> None:
    first, second = (process["errors"] for process in found)
    assert first["not finite"] == second["not finite"]
    assert "mask is nan" in first["not finite"]
    assert first["not finite"].count(".png") == 3
    assert first["in evaluation"] == "DataError: the annotations cannot be read"
    assert second["in evaluation"] == "TrainingError: Process 0 of 2 ended the run: the annotations cannot be read"
    assert first["occupied"].startswith("ConfigError")
    assert "holds a run" in second["occupied"]


def test_a_killed_process_ends_the_run_and_is_named(
    folder: Path, ran: subprocess.CompletedProcess[str], found: list[dict[str, Any]]
) -> None:
    assert found  # nothing had gone wrong before
    assert ran.returncode != 0
    assert not list(folder.glob("killed_*.json"))
    assert "Training stopped in process 0 of 2: process 1 (pid " in ran.stderr
    assert f"{folder / 'killed' / 'last.state'} was saved before; start the run again with resume" in ran.stderr
    state = checkpoint.load(folder / "killed" / "last.state")
    assert state["position"]["iteration"] == 2
    resumed, straight = lesson_model("compact"), lesson_model("compact")
    fit(resumed, lesson_data(folder), None, lesson_config(folder / "killed", epochs=2, resume=True))
    fit(straight, lesson_data(folder), None, lesson_config(folder / "never killed", epochs=2))
    assert_close(straight.state_dict(), resumed.state_dict())


# ---- alone ----------------------------------------------------------------------------------------------------------


def test_one_process_changes_nothing() -> None:
    team = Team()
    assert (team.rank, team.count, team.first) == (0, 1, True)
    assert team.from_first(lambda: 3) == 3
    assert team.gather("x") == ["x"]
    assert team.largest(1.5, 2.0) == [1.5, 2.0]
    parts, values = team.divide({"a": Term(torch.tensor(6.0), 4), "b": Term(torch.tensor(0.0), 0)})
    assert values == {"a": 1.5, "b": 0.0}
    assert [float(v) for v in parts.values()] == [1.5, 0.0]


def test_norms_that_cannot_be_shared_are_refused() -> None:
    model = nn.Sequential(nn.BatchNorm2d(3), nn.BatchNorm1d(3))
    with pytest.raises(ConfigError, match=r"BatchNorm1d.*frozen"), synchronised_norms(model):
        pass
    assert [type(m) for m in model] == [nn.BatchNorm2d, nn.BatchNorm1d]
