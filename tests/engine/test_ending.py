"""What a run leaves and says at its end: the last row of its log, its result, and nothing where it was refused."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tests.engine.test_train import make_config, make_model, read

from maskwright.data import coco
from maskwright.data.dataset import Dataset
from maskwright.data.synthetic import coco_fixture
from maskwright.engine.train import fit


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    """Seven pictures: with batches of 3 three steps an epoch."""
    coco_fixture(tmp_path / "data", 0, pictures=7, size=(32, 40), objects=2, classes=1)
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
