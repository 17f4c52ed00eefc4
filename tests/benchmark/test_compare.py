"""Models side by side: what is measured, and how it is told."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from tests.reference.page_checker import checked
from tests.reference.painted import canvas, painted, scattered
from typer.testing import CliRunner

from maskwright.benchmark import compare as module
from maskwright.benchmark.compare import Candidate, Comparison, Measured, compare
from maskwright.benchmark.page import page
from maskwright.cli import app
from maskwright.errors import ConfigError, ImageError, MaskwrightError
from maskwright.media import write_image
from maskwright.predictor.predictor import Predictor

SIZE = (60, 80)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for k in range(2):
        write_image(tmp_path / f"in/{k}.png", canvas(SIZE, scattered(SIZE, seed=k)))
    return tmp_path / "in"


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Candidates are stand-ins; the names in the order in which they were loaded."""
    names: list[str] = []

    def load(self: Candidate, device: str = "cpu") -> Predictor:
        names.append(f"{self.name} {self.precision} {device}")
        return painted()

    monkeypatch.setattr(Candidate, "load", load)
    monkeypatch.setattr(module, "_peak", lambda candidate, path, device: 123.0)
    return names


def test_names_and_precisions() -> None:
    assert Candidate.of("nuclei@bf16") == Candidate("nuclei", "bf16", "nuclei@bf16")
    assert Candidate.of("runs/me@home/best.safetensors").precision == "float32"
    assert Candidate.of("@bf16").name == "@bf16"


def test_every_candidate_predicts_every_image_in_turn(images: Path, loaded: list[str]) -> None:
    seen: list[tuple[int, int]] = []
    candidates = [Candidate.of(name) for name in ("a", "b@bf16")]
    found = compare(candidates, [images], turns=3, on_run=lambda done, total: seen.append((done, total)))
    assert loaded == ["a float32 cpu", "b bf16 cpu"]
    assert seen == [(k + 1, 12) for k in range(12)]
    assert (found.images, found.turns) == (2, 3)
    for row in found.rows:
        assert list(row.stages) == ["read", "prepare", "network", "finish", "draw"]
        assert 0 < row.p50 <= row.p95
        assert row.per_second == pytest.approx(1000 / row.p50)
        assert row.instances > 5
    assert found.rows[0].times == 1
    assert found.rows[1].times > 0


def test_what_cannot_be_compared(images: Path, loaded: list[str], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'a' is named twice"):
        compare([Candidate.of("a"), Candidate.of("a")], [images])
    with pytest.raises(ConfigError, match="turns is at least 1"):
        compare([Candidate.of("a")], [images], turns=0)
    with pytest.raises(ImageError):
        compare([Candidate.of("a")], [tmp_path / "none"])


def test_the_first_models_speed_is_the_measure() -> None:
    runs = [module._Runs({0: [2.0, 4.0, 3.0], 1: [10.0]}, {"network": [1.0]}, {0: 2, 1: 4}) for _ in range(2)]
    runs[1].seconds = {0: [1.0], 1: [5.0]}
    slow, fast = (module._row(str(k), one, None, runs[0]) for k, one in enumerate(runs))
    assert (slow.times, fast.times) == (1, pytest.approx(2.5))
    assert (slow.instances, slow.p50) == (3, 3500)


def comparison() -> Comparison:
    stages = {"read": 1.0, "network": 20.0}
    return Comparison(
        (Measured("a<b>", 25, 40, stages, 3, 1, 900.0), Measured("b", 12.5, 14, {**stages, "join": 2.0}, 3, 2, None)),
        images=1, turns=5, threads=2,
    )  # fmt: skip


def test_the_table_and_the_page() -> None:
    head, first, second = comparison().text().splitlines()
    assert " ".join(head.split()) == ("model p50 ms p95 ms a second times read network join instances memory MB")
    assert first.split() == ["a<b>", "25.0", "40.0", "40.00", "1.00", "1.0", "20.0", "-", "3.0", "900"]
    assert second.split()[-4:] == ["20.0", "2.0", "3.0", "-"]
    html = page(comparison())
    checked(html)
    assert "a&lt;b&gt;" in html
    assert "1 image, 5 turns, 2 threads" in html


def test_every_stage_of_a_prediction_has_its_column() -> None:
    """`predictor` enters stages by name; one that the table does not know would be missing without a word."""
    source = Path(module.__file__).parents[1]
    code = "".join(file.read_text() for folder in ("predictor", "media") for file in (source / folder).rglob("*.py"))
    assert set(re.findall(r'stage\((?:timer, )?"(\w+)"', code)) <= set(module.STAGES)


def test_the_command_prints_and_writes_a_page(images: Path, loaded: list[str], tmp_path: Path) -> None:
    words = ["benchmark", "a", "b@auto", "--images", str(images), "--turns", "1"]
    ended = CliRunner().invoke(app, [*words, "--device", "cpu", "--page", str(tmp_path / "p.html")])
    assert ended.exit_code == 0, ended.output
    assert (tmp_path / "p.html").is_file()
    told = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    assert [row["name"] for row in told["models"]] == ["a", "b@auto"]
    assert told["models"][0]["memory"] == 123


def test_memory_is_that_of_a_process_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    write_image(path, np.zeros((40, 40, 3), np.uint8))
    peak = module._peak(Candidate.of("nuclei_fast"), path, "cpu")
    assert peak is None or 100 < peak < 5000
    if peak is not None:
        with pytest.raises(MaskwrightError, match=r"'none_such' failed in a process of its own.*none_such"):
            module._peak(Candidate.of("none_such"), path, "cpu")
