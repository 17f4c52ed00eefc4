"""The command as a user meets it: what it prints where, what it writes, and how it ends."""

import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.reference.brightness import Brightness
from typer.testing import CliRunner, Result

from maskwright import __version__, demo, draw, media
from maskwright.cli import app
from maskwright.data.formats import coco
from maskwright.data.synthetic import coco_fixture
from maskwright.errors import WeightsError
from maskwright.metrics.table import METRICS
from maskwright.models.zoo import ZOO
from maskwright.predictor.options import FindOptions
from maskwright.results.outputs import WRITERS
from maskwright.results.prediction import Prediction
from maskwright.types import Intensity


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Replaces `load` by the stand-in; gives the arguments it was called with."""
    calls: list[dict[str, Any]] = []

    def load(name: str, **options: Any) -> Brightness:
        calls.append({"name": name, **options})
        if name == "gone":
            raise WeightsError("There is no model\nor file 'gone'.")
        return Brightness()

    importlib.import_module("maskwright.evaluation.report")  # keeps the real one, which it takes when it is imported
    monkeypatch.setattr("maskwright.predictor.load.load", load)
    return calls


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder with two images: two instances in one, none in the other."""
    folder = tmp_path / "in"
    folder.mkdir()
    pixels = np.zeros((20, 30, 3), np.uint8)
    pixels[2:10, 3:12] = 1
    pixels[10:19, 14:29] = 2
    Image.fromarray(pixels).save(folder / "größe.png")
    Image.fromarray(pixels * 0).save(folder / "none.png")
    return folder


def command(*words: str | Path) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(app, [str(word) for word in words])


def test_a_gpu_that_is_used_is_told_once(
    loaded: list[dict[str, Any]], images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Brightness, "device", torch.device("cuda:0"))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "A GPU")
    done = command("predict", images, "--out", tmp_path / "a")
    assert done.stderr.count("computing on cuda:0 (A GPU); --device cpu uses the processor\n") == 1
    assert "computing on" not in command("predict", images, "--out", tmp_path / "b", "--device", "cuda").stderr


def test_predict_colours_the_overlay(loaded: list[dict[str, Any]], images: Path, tmp_path: Path) -> None:
    for colour in ("class", "score"):
        out = tmp_path / colour
        assert command("predict", images, "--out", out, "--color", colour).exit_code == 0
        pixels, found = media.read_image(images / "größe.png"), Prediction.load(out / "json/größe.json")
        drawn = draw.overlay(pixels, found, colour=colour)
        np.testing.assert_array_equal(media.read_image(out / "overlay/größe.png"), drawn)
    wrong = command("predict", images, "--out", tmp_path / "x", "--colour", "rainbow")
    assert wrong.exit_code == 2
    tracks = command("predict", images, "--out", tmp_path / "x", "--colour", "track")
    assert tracks.exit_code == 2
    assert "no track ids" in tracks.stderr
    assert not (tmp_path / "x").exists()


def test_predict_prints_a_line_an_image_and_writes_overlay_and_json(
    loaded: list[dict[str, Any]], images: Path, tmp_path: Path
) -> None:
    done = command("predict", images, "--out", tmp_path / "out")
    assert done.exit_code == 0, done.stderr
    assert done.stdout == f"{images / 'größe.png'}\t2\n{images / 'none.png'}\t0\n"
    assert re.match(r"2 instances in 2 images, [\d.]+ s, [\d.]+ a second. Results: .*out\n$", done.stderr)
    assert len(Prediction.load(tmp_path / "out/json/größe.json")) == 2
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["json", "overlay"]
    defaults = {
        "weights": None,
        "classes": None,
        "size": None,
        "fit": None,
        "nms": None,
        "intensity": None,
        "device": "auto",
        "precision": "float32",
    }
    assert loaded == [{"name": "nuclei", **defaults}]


def test_predict_takes_every_option(loaded: list[dict[str, Any]], images: Path, tmp_path: Path) -> None:
    words = ["--model", "x", "--weights", "w.pth", "--size", "320", "--device", "cuda:1", "--precision", "bf16"]
    words += ["--save", "csv,json", "--save", "coco", "--score", "0.5", "--classes", "cell", "--max", "3"]
    words += ["--batch", "2", "--max-pixels", "0", "--bits", "12", "--overwrite", "--fit", "letterbox"]
    words += ["--nms", "exact", "--crop-margin", "inf", "--upsample", "logits", "--largest-component"]
    words += ["--class-names", "cell, nucleus"]
    done = command("predict", images / "*.png", "--out", tmp_path / "out", *words)
    assert done.exit_code == 0, done.stderr
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["json", "measurements.csv", "results.json"]
    expected = {
        "weights": Path("w.pth"),
        "classes": ["cell", "nucleus"],
        "size": 320,
        "fit": "letterbox",
        "nms": "exact",
        "intensity": Intensity.of_bits(12),
        "device": "cuda:1",
    }
    assert loaded == [{"name": "x", **expected, "precision": "bf16"}]


def test_predict_names_what_it_could_not_read_and_exits_with_1(
    loaded: list[dict[str, Any]], images: Path, tmp_path: Path
) -> None:
    (images / "cut.png").write_bytes((images / "none.png").read_bytes()[:50])
    done = command("predict", images, tmp_path / "gone.jpg", "--out", tmp_path / "out")
    assert done.exit_code == 1
    assert len(done.stdout.splitlines()) == 2
    lines = done.stderr.splitlines()
    assert lines[1] == "2 images could not be read:"
    assert lines[2].startswith(f"  {tmp_path / 'gone.jpg'}: no such file")
    assert lines[3].startswith(f"  {images / 'cut.png'}: ")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--save", "overlya"], "error: There is no output kind 'overlya'. Did you mean 'overlay'?"),
        (["--classes", "cel"], "Did you mean 'cell'?"),
        (["--model", "gone"], "error: There is no model\nor file 'gone'."),
        (["--max-pixels", "5"], "the limit is 5"),
        (["--score", "2"], "--score"),
        (["--fit", "squeeze"], "letterbox"),
        (["--nms", "soft"], "fast_cross"),
        (["--upsample", "mask"], "logits"),
        (["--bogus"], "No such option"),
    ],
)
def test_errors_are_told_without_a_traceback(
    loaded: list[dict[str, Any]], images: Path, tmp_path: Path, words: list[str], message: str
) -> None:
    done = command("predict", images / "none.png", "--out", tmp_path / "out", *words)
    assert done.exit_code == (1 if "limit" in message else 2)
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (
            OSError(28, "No space left on device"),
            "The disk is full, and something could not be written. Free some space",
        ),
        (OSError(28, "No space left on device", "a.csv"), "a.csv: the disk is full. Free some space"),
        (PermissionError(13, "Permission denied", "a b.csv"), "a b.csv: Permission denied. Change its permissions"),
        (OSError(30, "Read-only file system", "run"), "run: Read-only file system. Name another place."),
        (OSError(5, "Input/output error"), "Input/output error"),
        (OSError("in words"), "in words"),
    ],
)
def test_errors_of_the_system_are_told_in_words(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: OSError, message: str
) -> None:
    def load(name: str, **_: Any) -> None:
        raise fault

    monkeypatch.setattr("maskwright.predictor.load.load", load)
    done = command("predict", images, "--out", tmp_path / "out")
    assert done.exit_code == 2
    assert done.stderr.startswith(f"error: {message}")
    assert "Errno" not in done.stderr


def test_debug_shows_where_an_error_came_from(loaded: list[dict[str, Any]], images: Path, tmp_path: Path) -> None:
    done = command("predict", images, "--out", tmp_path / "out", "--model", "gone", "--debug")
    assert isinstance(done.exception, WeightsError)


def test_evaluate_passes_its_options_on(
    loaded: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    class Found(SimpleNamespace):
        def report(self) -> str:
            return "AP 12.3"

        def save(self, path: Path) -> None:
            path.write_text("{}")

    def evaluate(predictor: Any, data: Path, images: Path | None, find: FindOptions, **options: Any) -> Found:
        assert find == FindOptions()
        asked.append((data, images, options))
        return Found(failed=(("a.png", "gone"),) if options["skip"] else ())

    monkeypatch.setattr("maskwright.evaluation.evaluate.evaluate", evaluate)
    words = ["--data", "a.json", "--images", "b", "--format", "coco", "--limit", "3"]
    done = command("evaluate", *words, "--rename", "cell=Zelle", "--rename", "b=c=d", "--out", tmp_path / "n.json")
    assert (done.exit_code, done.stdout) == (0, "AP 12.3\n")
    assert (tmp_path / "n.json").read_text() == "{}"
    names = {"cell": "Zelle", "b": "c=d"}
    options = {"data_format": "coco", "limit": 3, "skip": False, "class_names": names, "progress": False}
    assert asked == [(Path("a.json"), Path("b"), options)]
    assert command("evaluate", *words, "--out", tmp_path / "n.json", "--overwrite").exit_code == 0
    assert command("evaluate", "--data", "a.json", "--skip").exit_code == 1
    wrong = command("evaluate", "--data", "a.json", "--rename", "cell")
    assert wrong.exit_code == 2
    assert "--rename takes MODEL=DATA" in wrong.stderr


def test_evaluate_measures_a_result_file(images: Path, tmp_path: Path) -> None:
    """Without a model; ids of other images, and options that concern a model, are refused."""
    data = coco.load(coco_fixture(tmp_path / "scenes", 3, images=2))
    rows = [
        {**row, "file_name": record.file_name}
        for i, record in enumerate(data.images)
        for row in Prediction(**vars(data.truth(i))).to_coco(record.id)
    ]
    place, words = (
        tmp_path / "results.json",
        ["evaluate", "--data", data.source, "--results", tmp_path / "results.json"],
    )
    place.write_text(json.dumps(rows))
    done = command(*words, "--metric", "nuclei", "--out", tmp_path / "n.json", "--report", tmp_path / "r.html")
    assert done.exit_code == 0
    assert "nuclei: AP = TP / (TP + FP + FN) at score 0.50 and more" in done.stdout
    assert json.loads((tmp_path / "n.json").read_text())["bbox"]["AP"] == pytest.approx(1.0)
    assert "Precision and recall of masks" in (tmp_path / "r.html").read_text()
    done = command(*words, "--model", "nuclei", "--size", "100")
    assert (done.exit_code, done.stderr) == (2, "error: A result file is measured without a model: leave out what "
                                                "concerns a model. (--model, --size)\n")  # fmt: skip
    ids = [record.id for record in data.images]
    place.write_text(json.dumps([{**row, "image_id": ids[row["image_id"] == ids[0]]} for row in rows]))
    done = command(*words)
    assert done.exit_code == 2
    assert "but the result is of" in done.stderr
    done = command(*words, "--score", "0.5")
    assert "belongs to --metric nuclei" in done.stderr


def test_evaluate_refuses_to_write_over_files_before_it_begins(
    loaded: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def evaluate(*_: Any, **__: Any) -> None:
        pytest.fail("nothing is measured")

    monkeypatch.setattr("maskwright.evaluation.evaluate.evaluate", evaluate)
    monkeypatch.setattr("maskwright.evaluation.report.evaluate", evaluate)
    mine, folder, pipe = tmp_path / "mine.html", tmp_path / "folder.html", tmp_path / "pipe.html"
    mine.write_text("mine")
    folder.mkdir()
    os.mkfifo(pipe)
    for option in ("--out", "--report"):
        for place, message in (
            (mine, f"{mine} exists already. Add --overwrite to replace it, or give another {option}."),
            (folder, f"{option}: {folder} is a folder, expected"),
            (pipe, f"{option}: {pipe} is a device or a pipe, expected"),
        ):
            for more in ([], ["--overwrite"]) if place != mine else ([],):
                done = command("evaluate", "--data", "a.json", option, place, *more)
                assert done.exit_code == 2
                assert done.stderr.startswith(f"error: {message}")
    done = command("evaluate", "--data", "a.json", "--out", tmp_path / "a.html", "--report", tmp_path / "a.html")
    assert "--out and --report are one file" in done.stderr
    assert loaded == []
    assert mine.read_text() == "mine"
    assert pipe.is_fifo()


def test_models_are_listed_for_people_and_programs() -> None:
    table = command("models").stdout
    assert re.search(r"mask_rcnn_r50_fpn\[\.detectron2\] +44\.\d M +17\d\.\d MB +41\.0 +37\.2  CC-BY-SA-3\.0\n", table)
    assert max(map(len, (line for line in table.splitlines() if "://" not in line))) <= 110
    rows = json.loads(command("models", "--json").stdout)
    assert {row["name"] for row in rows} == set(ZOO)


def test_help_is_enough_to_use_each_command() -> None:
    plain = {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}
    for name in ("predict", "evaluate", "train", "explain", "models"):
        text = CliRunner(env=plain).invoke(app, [name, "--help"]).stdout
        assert "Examples:" in text
        assert f"maskwright {name}" in text
    text = CliRunner(env=plain).invoke(app, ["predict", "--help"]).stdout
    assert all(kind in text for kind in WRITERS)
    text = CliRunner(env=plain).invoke(app, ["evaluate", "--help"]).stdout
    assert re.search(rf"--metric.*{'.*'.join(METRICS)}", text)


def test_the_command_starts_quickly_and_says_its_version(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise SystemExit('torch was imported')")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    for words in (["--version"], ["predict", "--help"]):
        run = [sys.executable, "-m", "maskwright", *words]
        done = subprocess.run(run, capture_output=True, text=True, env=environment, check=False)
        assert done.returncode == 0, done.stderr
        assert __version__ in done.stdout or "SOURCE" in done.stdout


def test_the_demo_writes_an_overlay_and_a_json_and_says_what_it_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("skimage")
    stand_in = SimpleNamespace(predict=lambda image, score_threshold: Brightness().predict([image])[0])
    monkeypatch.setattr("maskwright.predictor.load.load", lambda name: stand_in)
    demo.main(["--out", str(tmp_path / "new/demo")])
    printed = capsys.readouterr().out
    found = Prediction.load(tmp_path / "new/demo/nuclei.json")
    assert found.size == (512, 512)
    assert re.match(rf"Found {len(found)} nuclei in a 512 x 512 image, mean area \d+ pixels, in [\d.]+ s\.\n", printed)
    assert str(tmp_path / "new/demo/nuclei_overlay.png") in printed
    with Image.open(tmp_path / "new/demo/nuclei_overlay.png") as overlay:
        assert overlay.size == (512, 512)


def test_the_demo_tells_errors_in_a_line(
    loaded: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(SystemExit) as caught:
        demo.main([])
    assert caught.value.code == 2
    assert re.match(r"error: .*pip install 'maskwright\[demo\]'\n$", capsys.readouterr().err)
