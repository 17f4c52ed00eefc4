"""What a run leaves and says at its end: the last row of its log, its result, and nothing where it was refused."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.training.test_train import make_config, make_model, read

from maskwright.data.dataset import Dataset
from maskwright.data.formats import coco
from maskwright.data.synthetic import coco_fixture
from maskwright.errors import ConfigError, DataError, TrainingError
from maskwright.models import rcnn
from maskwright.models.rcnn import RCNN
from maskwright.training import train as training
from maskwright.training.config import TrainConfig
from maskwright.training.fit import History, fit
from maskwright.training.resolved import Resolved
from maskwright.training.train import ending, train

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    """Seven images: with batches of 3 three steps an epoch."""
    coco_fixture(tmp_path / "data", 0, images=7, size=(32, 40), objects=2, classes=1)
    return coco.load(tmp_path / "data" / "annotations.json", tmp_path / "data" / "images")


# ---- the log --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "rows"),
    [
        ({"epochs": 1}, [3]),
        ({"epochs": 4}, [5, 10, 12]),
        ({"epochs": 5, "log_every": 15}, [15]),
        ({"epochs": 9, "patience": 1}, [5, 6]),  # the second evaluation is no better than the first
        ({"epochs": None, "max_minutes": 1e-6}, [1]),
    ],
)
def test_the_last_steps_have_a_row_too(
    data: Dataset, tmp_path: Path, settings: dict[str, int], rows: list[int]
) -> None:
    config = make_config(tmp_path / "run", **{"log_every": 5, **settings})
    history = fit(make_model(), data, data, config, lambda *_: {"AP": 0.5})
    assert [int(r["iteration"]) for r in read(tmp_path / "run" / "log.csv")] == rows
    assert [row["iteration"] for row in history.losses] == rows


def test_a_run_that_was_stopped_and_goes_on_has_the_rows_of_one_that_was_not(data: Dataset, tmp_path: Path) -> None:
    class Killed(BaseException):
        """Nothing catches it."""

    def die(*_: object) -> dict[str, float]:
        raise Killed

    config = make_config(tmp_path / "run", log_every=5, epochs=4, evaluate_every=4)
    with pytest.raises(Killed):
        fit(make_model(), data, data, config, die)
    fit(make_model(), data, data, make_config(tmp_path / "run", log_every=5, epochs=4, evaluate_every=4, resume=True))
    assert [int(r["iteration"]) for r in read(tmp_path / "run" / "log.csv")] == [5, 10, 12]


# ---- what is told ---------------------------------------------------------------------------------------------------

METRICS = [
    {"iteration": 3, "epoch": 1, "segm/AP": 0.25, "segm/AP50": 0.5},
    {"iteration": 6, "epoch": 2, "segm/AP": 0.125, "segm/AP50": 0.25},
]
DONE = History(6, 2, 200.0, metrics=METRICS, best=0.25, best_iteration=3)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "The run ended, all epochs are done: 6 steps, 2 epochs in 3 min."),
        ({}, "Best segm/AP 0.250 at iteration 3 (epoch 1)."),
        ({"stopped": "time", "iterations": 1, "seconds": 5.0}, "the time is used up: 1 step, 2 epochs in under a min"),
        ({"stopped": "no progress"}, "ended, no gain in 1 evaluation: 6 steps"),
        ({"stopped": "SIGINT"}, "To go on, train again with resume and out 'my runs/leaf'."),
        ({"metrics": METRICS[1:]}, "Best segm/AP 0.250 at iteration 3.\n"),  # measured before it was resumed
        ({"metrics": []}, "Best AP 0.250 at iteration 3.\n"),
        ({}, "Report: page.html\nWeights: best.safetensors"),
    ],
)
def test_the_end_of_a_run_is_told(changes: dict[str, Any], said: str) -> None:
    config = Resolved(out="my runs/leaf", patience=1)
    assert said in ending(replace(DONE, **changes), config, Path("best.safetensors"), Path("page.html"))


def test_what_was_not_measured_is_not_reported() -> None:
    said = ending(History(1, 0, 9.0), Resolved(), Path("last.safetensors"), None)
    assert said.splitlines() == [
        "The run ended, all epochs are done: 1 step, 0 epochs in under a minute.", "Weights: last.safetensors",
    ]  # fmt: skip


def tiny_run(folder: Path, **changes: Any) -> Path:
    source = folder / "data" / "annotations.json"
    config = TrainConfig(
        data=str(source), images=str(source.parent / "images"), out=str(folder / "run"), batch_size=3, epochs=1,
        size=32, device="cpu", augment=None, val_fraction=0.4, log_every=10, evaluate_every=1, warmup=1,
    )  # fmt: skip
    torch.manual_seed(0)
    return train(replace(config, **changes), RCNN(rcnn.tiny("compact", 1)))


def test_a_run_reports_its_end_and_has_all_its_files(
    data: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    best = tiny_run(tmp_path)
    said = capsys.readouterr().err.splitlines()
    assert said[-2:] == [f"Report: {tmp_path / 'run' / 'report.html'}", f"Weights: {best}"]
    assert said[-4].startswith("The run ended, all epochs are done: ")
    assert said[-3].startswith("Best segm/AP ")
    assert "Nothing to draw yet" not in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert (tmp_path / "run" / training.SETTINGS).exists()


# ---- a run that is refused ------------------------------------------------------------------------------------------


def without_objects(content: dict[str, Any]) -> None:
    content["annotations"] = []


def without_outlines(content: dict[str, Any]) -> None:
    for annotation in content["annotations"]:
        del annotation["segmentation"]


@pytest.mark.parametrize("damage", [without_objects, without_outlines])
def test_a_refused_run_leaves_nothing(data: Dataset, tmp_path: Path, damage: Any) -> None:
    source = tmp_path / "data" / "annotations.json"
    content = json.loads(source.read_text())
    damage(content)
    source.write_text(json.dumps(content))
    with pytest.raises((ConfigError, DataError)):
        tiny_run(tmp_path)
    assert not (tmp_path / "run").exists()


# ---- what can be gone on from ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bad_at", "said"), [(2, r"There is no .*run.last\.state yet.*anew"), (5, r"last\.state was saved.*resume")]
)
def test_a_run_that_failed_says_whether_it_can_go_on(data: Dataset, tmp_path: Path, bad_at: int, said: str) -> None:
    model = make_model()
    model.bad_at = bad_at
    with pytest.raises(TrainingError, match=said):
        fit(model, data, data, make_config(tmp_path / "run"), lambda *_: {"AP": 0.0})
    assert (tmp_path / "run" / "last.state").exists() == (bad_at == 5)
