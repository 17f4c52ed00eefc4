"""`maskwright train` as a user meets it: settings from files and words, resuming, trying out."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from maskwright.cli import app
from maskwright.data.synthetic import coco_fixture
from maskwright.training import settings
from maskwright.training.config import TrainConfig
from maskwright.training.try_out import Advice


def command(*words: str | Path) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(app, ["train", *[str(word) for word in words]])


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[TrainConfig]:
    """Replaces the training itself; gives the settings it was called with."""
    configs: list[TrainConfig] = []

    def train(config: TrainConfig) -> Path:
        configs.append(config)
        return Path(config.run.out, "best.safetensors")

    monkeypatch.setattr("maskwright.training.train.train", train)
    return configs


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return coco_fixture(tmp_path / "data", 0, images=6, size=(40, 56), objects=3)


def test_it_makes_a_config_and_says_where_the_weights_are(
    runs: list[TrainConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "leaf").mkdir(parents=True)
    (tmp_path / "runs" / "leaf" / "last.state").write_bytes(b"")
    done = command("--data", "d/a.json", "--out", "runs/leaf", "--minutes", "5", "--batch", "2", "--resume")
    assert done.exit_code == 0, done.stderr
    assert done.stdout == f"{Path('runs/leaf/best.safetensors')}\n"
    (config,) = runs
    assert (config.dataset.data, config.dataset.images) == (str(Path("d/a.json")), "")
    assert config.run.out == str(Path("runs/leaf"))
    assert (config.length.max_minutes, config.batches.batch_size, config.run.resume) == (5, 2, True)
    assert not config.is_open("batch_size")
    assert config.is_open("epochs")
    command("--data", "a.json", "--images", "b", "--epochs", "3", "--lr", "0.1", "--precision", "bf16")
    assert [runs[1].value(name) for name in ("epochs", "lr", "precision", "resume")] == [3, 0.1, "bf16", False]
    assert runs[1].run.out == "runs/train"


def test_every_option_is_a_setting(runs: list[TrainConfig]) -> None:
    words = ["--data", "a.json", "--format", "coco", "--model", "nuclei", "--weights", "w.pth", "--orientation", "free"]
    words += ["--val-fraction", "0.3", "--size", "99", "--patience", "4", "--device", "cpu", "--workers", "2"]
    assert command(*words, "--seed", "7").exit_code == 0
    expected = TrainConfig(
        data="a.json", data_format="coco", model="nuclei", weights="w.pth", orientation="free", val_fraction=0.3,
        size=99, patience=4, device="cpu", workers=2, seed=7,
    )  # fmt: skip
    assert runs == [expected]


def test_options_go_before_the_file(runs: list[TrainConfig], tmp_path: Path) -> None:
    file = tmp_path / "leaf.toml"
    file.write_text('data = "a.json"\nlr = 0.25\nseed = 3\n[augment]\nhue = 0.1\n')
    assert command("--config", file, "--lr", "0.5").exit_code == 0
    assert [runs[0].value(name) for name in ("lr", "seed", "data")] == [0.5, 3, "a.json"]
    assert runs[0].augment is not None
    assert runs[0].augment.hue == 0.1
    file.write_text("lrr = 0.25\n")
    wrong = command("--config", file)
    assert wrong.exit_code == 2
    assert re.search(r"leaf\.toml, line 1: There is no setting 'lrr'\. Did you mean 'lr'", wrong.stderr)


def test_a_run_is_resumed_by_its_folder_alone(runs: list[TrainConfig], tmp_path: Path) -> None:
    settings.write(tmp_path / "run" / "train.toml", TrainConfig(data="a.json", seed=5, out="elsewhere"))
    done = command("--out", tmp_path / "run", "--resume")
    assert done.exit_code == 0, done.stderr
    assert [runs[0].value(name) for name in ("data", "seed", "resume")] == ["a.json", 5, True]
    assert runs[0].run.out == str(tmp_path / "run")
    assert command("--out", tmp_path / "run").exit_code == 2


@pytest.mark.parametrize("more", [[], ["--data", "a.json"]])
@pytest.mark.parametrize("killed", [False, True])
def test_a_run_that_is_not_there_is_not_resumed(
    runs: list[TrainConfig], tmp_path: Path, more: list[str], killed: bool
) -> None:
    if killed:  # before its settings were written
        (tmp_path / "none").mkdir()
        (tmp_path / "none" / ".train.toml.0123.part").write_text("data")
    file = tmp_path / "a.toml"
    file.write_text(f'out = "{(tmp_path / "none").as_posix()}"\n')
    for words in (["--out", str(tmp_path / "none")], ["--config", str(file)]):
        done = command(*words, *more, "--resume")
        assert done.exit_code == 2
        assert f"There is no run to resume in {tmp_path / 'none'}: expected its train.toml or last.state" in done.stderr
        assert "begin" in done.stderr
    (tmp_path / "none").mkdir(exist_ok=True)
    (tmp_path / "none" / "last.state").write_bytes(b"")
    done = command("--out", tmp_path / "none", *more, "--resume")
    assert done.exit_code == (0 if more else 2)
    assert more or "has no train.toml" in done.stderr
    assert len(runs) == len(more) // 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give --data PATH, or --config"),
        (["--data", "a.json", "--orientation", "sideways"], "orientation is 'upright' or 'free', got 'sideways'"),
        (["--data", "gone.json"], r"gone\.json"),
        (["--config", "gone.toml"], r"no settings file at gone\.toml"),
    ],
)
def test_wrong_use_is_one_line(words: list[str], message: str) -> None:
    done = command(*words)
    assert done.exit_code == 2
    assert re.search(message, " ".join(done.stderr.split()))
    assert "Traceback" not in done.stderr


def test_settings_are_written_with_their_reasons_and_train_the_same(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "new" / "leaf.toml"
    words = ["--data", data, "--images", data.parent / "images", "--out", tmp_path / "run", "--device", "cpu"]
    done = command(*words, "--lr", "0.125", "--write-config", file)
    assert done.exit_code == 0, done.stderr
    assert done.stdout == f"{file}\n"
    assert "size = " in done.stderr
    assert "lr" not in [line.split()[0] for line in done.stderr.splitlines()]
    assert re.search(r"^size = \d+  # objects are \d+ pixels", file.read_text(), re.MULTILINE)
    config = settings.read(file)
    assert (config.learning.lr, config.dataset.data) == (0.125, str(data))
    assert not (tmp_path / "run").exists()
    again = command(*words, "--write-config", file)
    assert again.exit_code == 2
    assert "there already" in again.stderr


@pytest.mark.parametrize("learns", [True, False])
def test_a_trial_prints_its_verdict_and_gives_the_exit_code(
    learns: bool, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []

    def try_out(plan: Any, seconds: float) -> Any:
        calls.append((plan.settings.run.out, seconds))
        advice = Advice("size", "raise"), Advice("data show", "run")
        return SimpleNamespace(learns=learns, report=lambda spell: ", ".join(map(spell, advice)))

    monkeypatch.setattr("maskwright.training.try_out.try_out", try_out)
    done = command("--data", data, "--images", data.parent / "images", "--out", tmp_path / "run", "--check")
    assert (done.exit_code, done.stdout) == (0 if learns else 1, "raise --size, run `maskwright data show`\n")
    assert "images to learn from" in done.stderr
    command("--data", data, "--images", data.parent / "images", "--check", "--minutes", "5")
    assert [seconds for _, seconds in calls] == [60.0, 300.0]
    assert not (tmp_path / "run").exists()


def test_help_is_enough_to_use_it() -> None:
    text = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}).invoke(app, ["train", "--help"]).stdout
    for word in (
        "Examples:",
        "--check",
        "--write-config",
        "--orientation",
        "train.toml",
        "--weights mask_rcnn_r50_fpn",
    ):
        assert word in text
