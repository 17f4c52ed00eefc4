"""Runs over files with several images, deep images, and folders with what is not read."""

import base64
import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from tests.reference.brightness import WITHOUT_STUFF, Brightness

from maskwright.errors import ConfigError, ImageError
from maskwright.media import find_images, sources
from maskwright.prediction.batch import BatchResult, RunOptions, predict_files
from maskwright.predictor.options import FindOptions, LoadOptions
from maskwright.results.prediction import Prediction
from maskwright.types import Intensity


def stack(path: Path, pages: int = 3, kind: str = "TIFF") -> Path:
    """Page k has k squares of one level."""
    images = []
    for k in range(1, pages + 1):
        pixels = np.zeros((9, 30, 3), np.uint8)
        for i in range(k):
            pixels[2:6, 6 * i + 1 : 6 * i + 4] = i + 1
        images.append(Image.fromarray(pixels))
    path.parent.mkdir(parents=True, exist_ok=True)
    images[0].save(path, kind, save_all=True, append_images=images[1:])
    return path


def run(sources: list[Path], out: Path, **options: object) -> BatchResult:
    return predict_files(Brightness(), sources, out, RunOptions(**{"save": WITHOUT_STUFF, **options}))  # type: ignore[arg-type]


def test_every_page_is_predicted_and_written(tmp_path: Path) -> None:
    path = stack(tmp_path / "in/stack.tif")
    Image.new("RGB", (9, 8)).save(tmp_path / "in/stack_page1.png")  # its name is that of a page
    done = run([tmp_path / "in"], tmp_path / "out")
    shown = [d.source for d in done.done]
    assert shown == [f"{path} page {k}" for k in (1, 2, 3)] + [str(tmp_path / "in/stack_page1.png")]
    assert [d.count for d in done.done] == [1, 2, 3, 0]
    names = sorted(p.stem for p in (tmp_path / "out/json").iterdir())
    assert names == ["stack_page1", "stack_page1_2", "stack_page2", "stack_page3"]
    rows = json.loads((tmp_path / "out/results.json").read_text("utf-8"))
    assert [(r["image_id"], r["file_name"]) for r in rows][:3] == [(1, shown[0]), (2, shown[1]), (2, shown[1])]
    labelme = json.loads((tmp_path / "out/labelme/stack_page3.json").read_text("utf-8"))
    with Image.open(io.BytesIO(base64.b64decode(labelme["imageData"]))) as image:
        assert image.size == (30, 9)
        assert np.asarray(image)[3, 14].tolist() == [3, 3, 3]


def test_names_of_pages_sort(tmp_path: Path) -> None:
    run([stack(tmp_path / "s.tif", 12)], tmp_path / "out", save=("json",))
    assert sorted(p.stem for p in (tmp_path / "out/json").iterdir()) == [f"s_page{k:02}" for k in range(1, 13)]


def test_damage_of_one_page_is_named(tmp_path: Path) -> None:
    path = stack(tmp_path / "s.tif", 3)
    path.write_bytes(path.read_bytes()[:-200])
    done = run([path], tmp_path / "out", save=("json",))
    assert [d.source for d in done.done] == [f"{path} page {k}" for k in (1, 2)]
    assert [d.source for d in done.failed] == [f"{path} page 3"]
    assert "damaged" in done.failed[0].reason


def test_what_a_folder_holds_and_is_not_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """HEIC as where its package is not installed."""
    monkeypatch.setattr(sources, "SUFFIXES", tuple(s for s in sources.SUFFIXES if s not in sources.HEIC))
    monkeypatch.setattr(sources, "UNREAD", (*sources.UNREAD, *sources.HEIC))
    monkeypatch.setitem(sys.modules, "pillow_heif.as_plugin", None)
    for name in ("b.jfif", "c.jpe", "d.pnm", "e.mpo"):
        Image.new("RGB", (9, 8)).save(tmp_path / name, "PPM" if name == "d.pnm" else "JPEG")
    (tmp_path / "f.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(8))
    done = run([tmp_path], tmp_path / "out", save=("json",))
    assert [Path(d.source).name for d in done.done] == ["b.jfif", "c.jpe", "d.pnm", "e.mpo"]
    assert "Left out of" in done.notes[0]
    assert "1 image of kinds that are not read: f.heic" in done.summary()
    assert "or read HEIC: pip install 'maskwright[heic]'." in done.summary()
    alone = run([tmp_path / "f.heic"], tmp_path / "out2").failed
    assert "pip install 'maskwright[heic]'. Or export the image as JPEG or PNG" in alone[0].reason


def test_a_folder_of_folders_names_the_pattern(tmp_path: Path) -> None:
    stack(tmp_path / "in/a/s.tif")
    with pytest.raises(ImageError, match=r"Its folders have some, such as a: give the pattern '.*in/\*\*/\*'"):
        find_images(tmp_path / "in")
    assert find_images(f"{tmp_path}/in/**/*") == [tmp_path / "in/a/s.tif"]


# ---- intensities ----------------------------------------------------------------------------------------------------


def deep(path: Path) -> Path:
    """Levels 0, 1 and 2 as 1000, 1016 and 1032 of 16 bits."""
    pixels = np.full((9, 30), 1000, np.uint16)
    pixels[2:6, 1:4], pixels[2:6, 7:10] = 1016, 1032
    Image.fromarray(pixels).save(path)
    return path


def test_the_intensity_of_a_run_is_used_and_told(tmp_path: Path) -> None:
    path = deep(tmp_path / "a.png")
    plain = run([path], tmp_path / "out", save=("json",))
    assert "a.png (values 1000..1032)" in plain.notes[0]
    assert "dark or flat" in plain.notes[0]
    find = FindOptions(intensity="values:1000..5080")
    chosen = run([path], tmp_path / "out2", save=("json",), find=find)
    assert [d.count for d in chosen.done] == [2]
    assert "1 image with more than 8 bits (uint16) became 0..255 by the values 1000 to 5080." in chosen.summary()
    assert RunOptions(bits=12).find.intensity == Intensity.of_bits(12)
    with pytest.raises(ConfigError, match="one of the two"):
        RunOptions(bits=12, find=find)


def test_options_take_texts_and_refuse_others() -> None:
    assert LoadOptions(intensity="bits:12").intensity == FindOptions(intensity="values:0..4095").intensity
    for kind in (LoadOptions, FindOptions):
        with pytest.raises(ConfigError, match="is no intensity"):
            kind(intensity="brightest")


def test_frames_of_one_clip_get_names_of_one_pattern(tmp_path: Path) -> None:
    for name in ("a/0001.png", "a/0002.png", "b/0001.png", "b/0003.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (9, 8)).save(tmp_path / name)
    run([tmp_path / "a", tmp_path / "b"], tmp_path / "out", save=("json",))
    names = sorted(p.stem for p in (tmp_path / "out/json").iterdir())
    assert names == ["a__0001", "a__0002", "b__0001", "b__0003"]


def test_a_stack_is_stretched_by_its_own_values_together(tmp_path: Path) -> None:
    """Page by page each would have the same contrast."""
    levels = np.linspace(0, 1, 270).reshape(9, 30)
    pages = [Image.fromarray((1000 + 4000 * share * levels).astype(np.uint16)) for share in (1, 0.5)]
    pages[0].save(tmp_path / "s.tif", save_all=True, append_images=pages[1:])
    seen: list[int] = []

    class Seeing(Brightness):
        def _one(self, pixels: NDArray[np.uint8]) -> Prediction:
            seen.append(int(pixels.max()))
            return super()._one(pixels)

    for text in ("percentiles:0..100", "percentiles:0..100:video"):
        find = FindOptions(intensity=text)
        options = RunOptions(save=("json",), find=find)
        done = predict_files(Seeing(), [tmp_path / "s.tif"], tmp_path / text[-5:], options)  # type: ignore[arg-type]
    assert seen == [255, 255, 255, 128]
    assert any("the percentiles of their whole video, 0 and 100" in note for note in done.notes)
