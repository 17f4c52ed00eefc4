"""A run over large images: computed in tiles, read in windows, told, and written."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from tests.reference.brightness import WITHOUT_STUFF
from tests.reference.painted import canvas, painted, scattered
from typer.testing import CliRunner

from maskwright import draw, media
from maskwright.cli import app
from maskwright.errors import ImageError
from maskwright.evaluation.evaluate import evaluate
from maskwright.prediction.batch import RunOptions, predict_files
from maskwright.predictor.options import FindOptions
from maskwright.predictor.predictor import Predictor
from maskwright.results.prediction import Prediction

tifffile = pytest.importorskip("tifffile", reason="it comes with scikit-image")

SIZE = (160, 260)


@pytest.fixture(scope="module")
def image() -> NDArray[np.uint8]:
    return canvas(SIZE, scattered(SIZE))


def tiled(path: Path, pixels: NDArray[np.uint8]) -> Path:
    tifffile.imwrite(path, pixels, tile=(32, 48), compression="zlib", photometric="rgb")
    return path


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs the command with the stand-in."""
    monkeypatch.setattr("maskwright.predictor.load.load", lambda name, **options: painted(keep=140))
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


def outlines(path: Path) -> list[Any]:
    return [feature["geometry"] for feature in json.loads(path.read_text("utf-8"))["features"]]


def test_the_command_tells_of_tiles_and_writes_what_one_pass_finds(
    command: Any, image: NDArray[np.uint8], tmp_path: Path
) -> None:
    source = tiled(tmp_path / "slide.tif", image)
    done = command("predict", source, "--tiles", "96", "--overlap", "32", "--save", "polygons", "--out", tmp_path / "a")
    assert done.exit_code == 0
    assert done.stdout == f"{source}\t104\n"
    assert "Computed in 8 tiles of 96x96 pixels that overlap by 32, as was asked (tiles 96)." in done.stderr
    whole = command("predict", source, "--tiles", "off", "--save", "polygons", "--out", tmp_path / "b")
    assert "tiles" not in whole.stderr
    found = outlines(tmp_path / "a/polygons/slide.geojson")
    assert len(found) == 104
    assert found == outlines(tmp_path / "b/polygons/slide.geojson")


def test_wrong_tiles_name_the_option(command: Any, tmp_path: Path) -> None:
    Image.new("RGB", (300, 300)).save(tmp_path / "a.png")
    for words, said in (
        (["--tiles", "100"], "give 96 or 128"),
        (["--tiles", "big"], "tiles is 'auto', 'off' or the side of a tile in pixels, got 'big'"),
        (["--tiles", "96", "--overlap", "60"], "at most half a tile"),
    ):
        done = command("predict", tmp_path / "a.png", *words, "--out", tmp_path / "out")
        assert done.exit_code == 2
        assert said in done.stderr
        assert words[-2] in done.stderr  # the option as it is typed
        assert not (tmp_path / "out/json").exists() or not list((tmp_path / "out/json").iterdir())


def test_every_kind_of_result_of_an_image_read_in_windows(
    image: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tiled(tmp_path / "slide.tif", image)
    Image.fromarray(image).save(tmp_path / "slide.png")
    options = RunOptions(WITHOUT_STUFF, find=FindOptions(tiles=96, tile_overlap=32))
    whole = predict_files(painted(keep=140), [tmp_path / "slide.png"], tmp_path / "whole", options)
    monkeypatch.setattr(media, "read_image", None)
    steps: list[tuple[int, int]] = []
    done = predict_files(
        painted(keep=140), [source], tmp_path / "out", options, on_tile=lambda *step: steps.append(step)
    )
    monkeypatch.undo()
    assert steps == [(k, 8) for k in range(1, 9)]
    assert (done.count, done.failed, done.notes) == (whole.count, [], ())
    assert done.done[0].tiles.startswith("Computed in 8 tiles")
    for kind in ("overlay/slide.png", "labels/slide.png", "cutouts/slide/0007_cell.png"):
        mine, theirs = (media.read_image(tmp_path / run / kind) for run in ("out", "whole"))
        assert np.array_equal(mine, theirs)
    assert outlines(tmp_path / "out/polygons/slide.geojson") == outlines(tmp_path / "whole/polygons/slide.geojson")
    assert Prediction.load(tmp_path / "out/json/slide.json").tiles == done.done[0].tiles


def test_the_overlay_of_a_very_large_image_is_reduced_and_told(
    image: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("maskwright.media.windows.OVERVIEW", 100)
    source = tiled(tmp_path / "slide.tif", image)
    options = RunOptions(("overlay", "json"), find=FindOptions(tiles=96))
    done = predict_files(painted(keep=140), [source], tmp_path / "out", options)
    assert done.notes == (f"The overlay of {source} is reduced 3 times.",)
    assert media.read_size(tmp_path / "out/overlay/slide.png") == (54, 87)
    found = Prediction.load(tmp_path / "out/json/slide.json")
    small = draw.reduced(found, 3, (54, 87))
    assert small.size == (54, 87)
    assert np.allclose(small.boxes, found.boxes / 3)
    assert small.crops is not None
    assert found.crops is not None
    assert abs(small.crops.areas().sum() * 9 / found.crops.areas().sum() - 1) < 0.1


def test_the_limit_of_pixels_is_for_what_is_decoded_as_a_whole(image: NDArray[np.uint8], tmp_path: Path) -> None:
    source = tiled(tmp_path / "slide.tif", image)
    Image.fromarray(image).save(tmp_path / "slide.png")
    options = RunOptions(("json",), find=FindOptions(tiles=96), max_pixels=1000, overwrite=True)
    done = predict_files(painted(keep=140), [source, tmp_path / "slide.png"], tmp_path / "out", options)
    assert [d.count for d in done.done] == [104]
    (failed,) = done.failed
    assert failed.reason.startswith("the image has 160x260 = 41600 pixels, the limit is 1000")
    assert "Tiled TIFFs that are computed in tiles are read in windows and have none" in failed.reason
    with pytest.raises(ImageError, match="the limit is 1000"):
        media.read_image(source, max_pixels=1000)


def test_pages_are_read_in_windows_too(image: NDArray[np.uint8], tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "stack.tif") as file:
        for pixels in (image, image[::-1]):
            file.write(np.ascontiguousarray(pixels), tile=(32, 48), photometric="rgb")
    options = RunOptions(("json",), find=FindOptions(tiles=96), max_pixels=1000)
    done = predict_files(painted(keep=140), [tmp_path / "stack.tif"], tmp_path / "out", options)
    assert [(d.source[-6:], d.count) for d in done.done] == [("page 1", 104), ("page 2", 104)]


def test_tracking_computes_in_tiles(image: NDArray[np.uint8]) -> None:
    predictor = painted(keep=140)
    assert isinstance(predictor, Predictor)
    (frame,) = predictor.track([image], tiles=96)
    assert frame.tiles.startswith("Computed in 8 tiles")
    assert len(frame) == 104


def test_evaluation_computes_in_tiles(tmp_path: Path, image: NDArray[np.uint8]) -> None:
    rows = painted(keep=140).predict(image, tiles="off").to_coco(1)
    rows = [{**row, "id": k, "iscrowd": 0} for k, row in enumerate(rows, 1)]
    record = {"id": 1, "file_name": "a.png", "height": SIZE[0], "width": SIZE[1]}
    categories = [{"id": 1, "name": "cell"}, {"id": 2, "name": "dot"}]
    (tmp_path / "a.json").write_text(
        json.dumps({"images": [record], "annotations": rows, "categories": categories}), "utf-8"
    )
    Image.fromarray(image).save(tmp_path / "a.png")
    measured = evaluate(painted(keep=30), tmp_path / "a.json", tmp_path, tiles=96, progress=False)
    assert measured.values["segm/AP"] == pytest.approx(1.0)
    assert "join" in measured.seconds
    assert any(note.startswith("Computed in 8 tiles") for note in measured.notes)
    once = evaluate(painted(keep=30), tmp_path / "a.json", tmp_path, max_instances=30, progress=False)
    assert once.values["segm/AP"] < 0.5


def test_an_image_that_is_damaged_inside_does_not_end_the_run(tmp_path: Path, image: NDArray[np.uint8]) -> None:
    sources = [tiled(tmp_path / "a.tif", image), tiled(tmp_path / "b.tif", image)]
    content = bytearray(sources[0].read_bytes())
    content[-900:] = bytes(900)
    sources[0].write_bytes(content)
    options = RunOptions(("json",), find=FindOptions(tiles=96, batch_size=2))
    done = predict_files(painted(keep=140), sources, tmp_path / "out", options)
    assert [(d.source, d.count) for d in done.done] == [(str(sources[1]), 104)]
    (failed,) = done.failed
    assert failed.source == str(sources[0])
    assert failed.reason.startswith("the TIFF image is damaged")


def test_the_overlay_in_a_notebook_is_reduced_too(
    tmp_path: Path, image: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tiled(tmp_path / "a.tif", image)
    found = painted(keep=140).predict(source, tiles=96)
    whole = found.draw()
    assert whole.shape == image.shape
    monkeypatch.setattr(media, "MAX_PIXELS", 1000)
    assert np.array_equal(found.draw(), whole)  # small enough for an overview of all its pixels
    monkeypatch.setattr("maskwright.media.windows.OVERVIEW", 130)
    assert found.draw().shape == (80, 130, 3)
