"""`maskwright explain` as a user meets it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner, Result

from maskwright.cli import app
from maskwright.data.synthetic import scene
from maskwright.media import read_image, write_image
from maskwright.models import rcnn, zoo
from maskwright.types import Classes
from maskwright.weights.files import save_checkpoint


def command(*words: str | Path) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(app, ["explain", *(str(word) for word in words)])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a model of random weights and an image."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    model = rcnn.RCNN(rcnn.tiny("compact"))
    with torch.no_grad():
        model.box_predictor.classes.weight.mul_(60)
    names = Classes(["leaf", "stem", "root"])
    save_checkpoint("leaf.safetensors", model.state_dict(), zoo.describe(model.config, names, "leaf"))
    write_image("my photo é.jpg", scene(0, (60, 90), objects=3)[0])
    return tmp_path


def test_writes_beside_nothing_but_the_named_file(folder: Path) -> None:
    before = {p.name for p in folder.iterdir()}
    done = command("my photo é.jpg", "--model", "leaf.safetensors", "--score", "0.2")
    assert done.exit_code == 0, done.stderr
    assert done.stdout == "my photo é_explained.png\n"
    assert {p.name for p in folder.iterdir()} - before == {"my photo é_explained.png"}
    assert read_image("my photo é_explained.png").shape[1] > 1000


def test_writes_a_page_about_the_instance_that_was_asked_for(folder: Path) -> None:
    done = command("my photo é.jpg", "-m", "leaf.safetensors", "--score", "0.2", "--instance", "1", "-o", "a/why.html")
    assert done.exit_code == 0, done.stderr
    assert done.stdout == f"{Path('a/why.html')}\n"
    assert "instance 1 of " in Path("a/why.html").read_text(encoding="utf-8")


def test_what_is_there_is_not_written_over(folder: Path) -> None:
    Path("why.png").write_bytes(b"mine")
    done = command("my photo é.jpg", "--model", "leaf.safetensors", "--out", "why.png")
    assert done.exit_code == 2
    assert "why.png is there already" in done.stderr
    assert Path("why.png").read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--out", "why.pdf"], "written as .png, .jpg, .jpeg, .html, got '.pdf'"),
        (["--score", "1"], "found nothing with a score of 1 or more; the best candidate has"),
        (["--score", "0.2", "--instance", "999"], "best score first), got 999"),
    ],
)
def test_errors_say_what_to_do(folder: Path, words: list[str], said: str) -> None:
    before = {p.name for p in folder.iterdir()}
    done = command("my photo é.jpg", "--model", "leaf.safetensors", *words)
    assert done.exit_code == 2
    assert said in done.stderr.replace("\n", " ")
    assert done.stdout == ""
    assert {p.name for p in folder.iterdir()} == before


def test_an_image_that_cannot_be_read_is_named(folder: Path) -> None:
    Path("broken.png").write_bytes(b"no image")
    done = command("broken.png", "--model", "leaf.safetensors")
    assert done.exit_code == 2
    assert "broken.png" in done.stderr


def test_the_default_model_explains_a_nucleus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    y, x = np.mgrid[:48, :64]
    blob = 230 * np.exp(-((((y - 22) / 9.0) ** 2 + ((x - 30) / 11.0) ** 2) ** 2)) + 8
    write_image("cell.png", np.repeat(blob.astype(np.uint8)[..., None], 3, axis=2))
    done = command("cell.png")
    assert done.exit_code == 0, done.stderr
    assert done.stdout == "cell_explained.png\n"
