"""`maskwright data convert`, `stats` and `formats` as a user meets them."""

import base64
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from maskwright.cli import app
from maskwright.data import formats, synthetic
from maskwright.data.formats import coco


def command(*words: str | Path) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(app, ["data", *(str(word) for word in words)])


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A COCO data set of three images with rings, a crowd region and an empty image."""
    return synthetic.coco_fixture(tmp_path / "coco ü", 3, images=3)


EXACT = ("coco", "labelme", "cvat")


@pytest.mark.parametrize("name", ["coco", "labelme", "voc", "cvat", "yolo"])
def test_convert_writes_what_reads_back(source: Path, tmp_path: Path, name: str) -> None:
    done = command("convert", source, "--to", name, "--out", tmp_path / "out")
    assert done.exit_code == 0, done.stderr
    crowds = ", 1 crowd region" if name in EXACT else ""
    first = f"{tmp_path / 'out'} ({name}): 3 images (1 empty), 9 objects{crowds}, 3 classes.\n"
    assert done.stdout.startswith(first)
    assert ("crowd" in done.stdout.removeprefix(first)) == (name not in EXACT)
    before, back = coco.load(source, source.parent / "images"), formats.load(tmp_path / "out")
    assert back.classes.names == before.classes.names
    assert back.missing_files() == ()
    for i in range(3):
        keep = np.flatnonzero(~before.crowd(i) | (name in EXACT))
        rows = [k for k in range(len(back.of(i))) if name in EXACT or not back.crowd(i)[k]]
        np.testing.assert_array_equal(before.masks(i).dense()[keep], back.masks(i).dense()[rows])


def test_convert_through_every_format_keeps_the_pixels(source: Path, tmp_path: Path) -> None:
    """coco -> cvat -> labelme -> voc -> coco: the crowd is lost at voc alone, where it is said."""
    place, lost = source, []
    for k, name in enumerate(("cvat", "labelme", "voc", "coco")):
        done = command("convert", place, "--to", name, "--out", tmp_path / str(k))
        assert done.exit_code == 0, done.stderr
        lost += [line for line in done.stdout.splitlines() if line.startswith("Not kept")]
        place = tmp_path / str(k)
    assert lost == ["Not kept: 1 crowd region turned into void, which names no class (0000.png)."]
    before, after = formats.load(source), formats.load(place)
    for i in range(3):
        keep = ~before.crowd(i)
        np.testing.assert_array_equal(before.masks(i).dense()[keep], after.masks(i).dense())
        np.testing.assert_array_equal(before.image(i), after.image(i))


def test_convert_leaves_the_images_where_they_are(source: Path, tmp_path: Path) -> None:
    for name, out in (("cvat", "new.xml"), ("coco", "new.json")):
        done = command("convert", source, "--to", name, "--out", tmp_path / out)
        assert done.exit_code == 0, done.stderr
        assert done.stderr == f"The images stay where they are: {source.parent / 'images'}\n"
        assert formats.load(tmp_path / out, source.parent / "images").missing_files() == ()
    done = command("convert", source, "--to", "voc", "--out", tmp_path / "voc", "--no-copy-images")
    assert "The images stay where they are" in done.stderr
    assert not (tmp_path / "voc/JPEGImages").exists()


def test_convert_says_what_is_wrong(source: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there/mine.txt").write_text("x")
    for words, message in (
        (("--to", "voc", "--out", tmp_path / "there"), "there exists already. Nothing is overwritten"),
        (("--to", "vok", "--out", tmp_path / "x"), "There is no format 'vok'. Did you mean 'voc'"),
        (("--to", "voc", "--from", "labelm", "--out", tmp_path / "x"), "no format 'labelm'. Did you mean 'labelme'"),
        (("--to", "voc", "--images", tmp_path / "gone", "--out", tmp_path / "x"), "gone"),
    ):
        done = command("convert", source, *words)
        assert done.exit_code == 2
        assert message in done.stderr.replace("\n", "")
        assert done.stdout == ""
    assert [p.name for p in (tmp_path / "there").iterdir()] == ["mine.txt"]
    assert not (tmp_path / "x").exists()
    (source.parent / "images/0001.png").unlink()
    done = command("convert", source, "--to", "voc", "--out", tmp_path / "x")
    assert (done.exit_code, "1 of 3 image files are missing" in done.stderr) == (2, True)
    assert command("convert", tmp_path / "none", "--to", "voc", "--out", tmp_path / "x").exit_code == 2
    done = command("convert", tmp_path / "none", "--to", "lableme", "--out", tmp_path / "x")
    assert "no format 'lableme'. Did you mean 'labelme'" in done.stderr  # before anything is read


def test_convert_names_what_it_cannot_write(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(*_: object) -> None:
        raise OSError(28, "No space left on device")

    def refuse(self: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr("maskwright.data.formats.shared.fields._write_sections", fill)
    for place in (tmp_path / "new.json", tmp_path / "new"):
        done = command("convert", source, "--to", "coco", "--out", place)
        assert done.exit_code == 2
        assert done.stderr.startswith(f"error: {place} cannot be written: the disk is full. Free some space")
    monkeypatch.setattr(Path, "mkdir", refuse)
    done = command("convert", source, "--to", "coco", "--out", tmp_path / "new")
    assert done.stderr.startswith(f"error: {tmp_path / 'new'} cannot be written: you have no permission to write there")
    assert not any("new" in p.name for p in tmp_path.iterdir())


def test_convert_unpacks_images_inside_labelme_files(tmp_path: Path) -> None:
    image = tmp_path / "a.png"
    Image.new("RGB", (30, 20), "red").save(image)
    content = base64.b64encode(image.read_bytes()).decode()
    image.unlink()
    shapes = [{"label": "a", "points": [[1, 1], [9, 1], [9, 9]], "shape_type": "polygon"}]
    document = {"shapes": shapes, "imagePath": "a.png", "imageData": content, "imageHeight": 20, "imageWidth": 30}
    (tmp_path / "lm").mkdir()
    (tmp_path / "lm/a.json").write_text(json.dumps(document))
    done = command("convert", tmp_path / "lm", "--to", "coco", "--out", tmp_path / "x")
    assert (done.exit_code, "Unpack them" in done.stderr) == (2, True)
    done = command("convert", tmp_path / "lm", "--to", "coco", "--out", tmp_path / "x", "--unpack")
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith("Images unpacked: 1\n")
    assert formats.load(tmp_path / "x").image(0)[0, 0].tolist() == [255, 0, 0]


def test_stats_prints_a_table_or_json(source: Path) -> None:
    done = command("stats", source)
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith("3 images (1 empty), 9 objects, 1 crowd region, 3 classes.\n")
    assert "object, root of its area (pixels)" in done.stdout
    drawn = command("stats", source, "--draw", "--json")
    values = json.loads(drawn.stdout)
    assert (values["objects"], values["drawn"], values["has_masks"]) == (9, True, True)
    assert values["overlap"]["masks"]["maximum"] == 0


def test_notes_of_a_data_set_go_to_stderr(source: Path, tmp_path: Path) -> None:
    command("convert", source, "--to", "voc", "--out", tmp_path / "voc")
    done = command("stats", tmp_path / "voc")
    assert done.stderr.startswith("Void, ")
    assert "Void" not in done.stdout


def test_formats_lists_the_table() -> None:
    done = command("formats")
    assert done.exit_code == 0
    for name in formats.FORMATS:
        assert f"\n{name:13}" in "\n" + done.stdout


@pytest.mark.parametrize("name", ["convert", "stats"])
def test_help_has_examples(name: str) -> None:
    done = command(name, "--help")
    assert done.exit_code == 0
    assert f"maskwright data {name} " in done.stdout


def test_check_writes_no_findings_over_a_file(source: Path, tmp_path: Path) -> None:
    place = tmp_path / "found.json"
    place.write_text("mine")
    done = command("check", source, "--json", place)
    assert (done.exit_code, place.read_text()) == (2, "mine")
    assert f"{place} exists already. Add --overwrite" in done.stderr
    command("check", source, "--json", place, "--overwrite")
    assert place.read_text().startswith("{")
