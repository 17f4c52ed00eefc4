"""kill -9, a full disk, an image that vanished: what was saved stays whole, and going on gives the same bits."""

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.training.doomed import WHERE, config_of, data_of, measure, save
from tests.training.test_train import make_config, make_model
from torch import Tensor

from maskwright.data.synthetic import coco_fixture
from maskwright.errors import DataError, ImageError, TrainingError
from maskwright.training import checkpoint
from maskwright.training.fit import fit
from maskwright.training.train import train

pytestmark = pytest.mark.usefixtures("one_thread")

ROOT = Path(__file__).parents[2]


def new_data(folder: Path) -> Path:
    coco_fixture(folder / "data", 0, images=7, size=(32, 40), objects=2, classes=1)
    return folder


def start(folder: Path, *names: str) -> "subprocess.Popen[str]":
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "tests/training/doomed.py"), str(folder), *names]
    return subprocess.Popen(
        command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return new_data(tmp_path_factory.mktemp("kill"))


@pytest.fixture(scope="module")
def straight(folder: Path) -> dict[str, dict[str, Tensor]]:
    """The state of a run that nothing happened to: weights, their mean, the optimiser's memory."""
    data = data_of(folder)
    fit(make_model(), data, data, config_of(folder, "straight"), measure, save)
    return parts(folder / "straight")


def parts(run: Path) -> dict[str, dict[str, Tensor]]:
    state = checkpoint.load(run / "last.state")
    memory = {f"{i} {k}": v for i, row in state["optimizer"]["state"].items() for k, v in row.items()}
    return {
        "weights": state["model"], "mean": state["ema"]["model"], "memory": memory,
        "best": load_file(run / "best.safetensors"), "last": load_file(run / "last.safetensors"),
    }  # fmt: skip


KILLED = [*(f"{where}:0" for where in WHERE), "between steps:2", "between steps:2:forkserver"]


@pytest.fixture(scope="module")
def ended(folder: Path) -> tuple[dict[str, int], str]:
    """Exit codes of all the runs, and what they said on stderr. No worker outlives its run: that would hold stdout."""
    with start(folder, *KILLED, "losing a worker:1") as process:
        try:
            codes, said = process.communicate(timeout=120)
        except subprocess.TimeoutExpired:
            pytest.fail("a process of a run that was killed lives on")
    assert process.returncode == 0, said
    return json.loads(codes), said


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
@pytest.mark.parametrize("name", KILLED)
def test_a_killed_run_goes_on_to_the_same_bits(
    name: str, folder: Path, straight: dict[str, dict[str, Tensor]], ended: tuple[dict[str, int], str]
) -> None:
    assert ended[0][name] == -signal.SIGKILL, ended[1]
    (where, workers, *_), data = name.split(":"), data_of(folder)
    at = checkpoint.load(folder / name / "last.state")["position"]["iteration"]
    assert at == {"in a step": 5, "between steps": 4, "writing the state": 5, "renaming the state": 5}.get(where, 6)
    fit(make_model(), data, data, config_of(folder, name, workers=int(workers), resume=True), measure, save)
    resumed = parts(folder / name)
    for part, values in straight.items():
        assert [n for n, v in values.items() if not torch.equal(v, resumed[part][n])] == [], part
    logs = [(folder / n / "log.csv").read_text().splitlines() for n in ("straight", name)]
    assert [row.split(",")[:7] for row in logs[0]] == [row.split(",")[:7] for row in logs[1]]
    assert (folder / "straight" / "metrics.csv").read_text() == (folder / name / "metrics.csv").read_text()
    assert not list((folder / name).glob(".*"))


def test_a_worker_process_that_is_killed_is_told_of(ended: tuple[dict[str, int], str]) -> None:
    assert ended[0]["losing a worker:1"] == 1
    assert re.search(r"TrainingError: A process that prepares images ended: .*fewer workers", ended[1])


def test_killed_from_outside_at_any_moment(tmp_path: Path, straight: dict[str, dict[str, Tensor]]) -> None:
    process = start(new_data(tmp_path), "nowhere:0")
    log, until = tmp_path / "nowhere:0" / "log.csv", time.monotonic() + 200
    while process.poll() is None and time.monotonic() < until and (not log.exists() or log.read_text().count("\n") < 4):
        time.sleep(0.002)
    for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
        os.kill(int(child), signal.SIGKILL)
    process.communicate(timeout=60)
    data = data_of(tmp_path)
    fit(make_model(), data, data, config_of(tmp_path, "nowhere:0", resume=True), measure, save)
    resumed = parts(tmp_path / "nowhere:0")
    assert [n for n, v in straight["weights"].items() if not torch.equal(v, resumed["weights"][n])] == []


# ---- a full disk ----------------------------------------------------------------------------------------------------


def test_a_disk_that_is_full_leaves_the_state_before(tmp_path: Path) -> None:
    """Files may not grow over a limit that the second state, but not the first, exceeds."""
    data = data_of(new_data(tmp_path))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(model: object, _: object) -> dict[str, float]:
        size = (tmp_path / "run" / "last.state").stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, hard))
        return {"AP": 0.0}

    try:
        with pytest.raises(
            TrainingError,
            match=r"last\.state could not be written: no file may become so large there\. The earlier one .* is intact",
        ):
            fit(make_model(), data, data, make_config(tmp_path / "run"), fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == ["last.state", "log.csv", "metrics.csv"]
    resumed, straight = make_model(), make_model()
    fit(resumed, data, None, make_config(tmp_path / "run", resume=True))
    fit(straight, data, None, make_config(tmp_path / "straight"))
    assert all(torch.equal(v, straight.state_dict()[n]) for n, v in resumed.state_dict().items())


def test_a_log_that_cannot_grow_ends_the_run_with_its_name(tmp_path: Path) -> None:
    data = data_of(new_data(tmp_path))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (150, hard))
    try:
        with pytest.raises(TrainingError, match=r"log\.csv could not be written: no file may become so large"):
            fit(make_model(), data, None, make_config(tmp_path / "run"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# ---- files that change under the run --------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_vanishes_is_named(tmp_path: Path, workers: int) -> None:
    data, copy = data_of(new_data(tmp_path)), tmp_path / "copy.png"
    image = tmp_path / "data" / "images" / "0003.png"

    def vanish(model: object, _: object) -> dict[str, float]:
        if image.exists():
            shutil.move(image, copy)
        return {"AP": 0.0}

    config = make_config(tmp_path / "run", workers=workers, epochs=12, batch_size=2)
    with pytest.raises((ImageError, DataError), match=r"0003\.png") as caught:
        fit(make_model(), data, data, config, vanish)
    assert "Traceback" not in str(caught.value)
    shutil.move(copy, image)
    resumed, straight = make_model(), make_model()
    fit(resumed, data, None, make_config(tmp_path / "run", epochs=12, batch_size=2, resume=True))
    fit(straight, data, None, make_config(tmp_path / "straight", epochs=12, batch_size=2))
    assert all(torch.equal(v, straight.state_dict()[n]) for n, v in resumed.state_dict().items())


def test_an_unreadable_annotation_file_is_named_and_the_state_stays(tmp_path: Path) -> None:
    file = new_data(tmp_path) / "data" / "annotations.json"
    data = data_of(tmp_path)
    fit(make_model(), data, None, make_config(tmp_path / "run", epochs=1))
    before, whole = (tmp_path / "run" / "last.state").read_bytes(), file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    config = make_config(tmp_path / "run", data=str(file), images=str(file.parent / "images"), resume=True)
    with pytest.raises(DataError, match=r"annotations\.json"):
        train(config)
    assert (tmp_path / "run" / "last.state").read_bytes() == before
