"""Whether an image has the size that its record states, the same in every command."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskwright.data import formats
from maskwright.data.agreement import disagreement
from maskwright.data.faults.check import check
from maskwright.data.formats import FORMATS
from maskwright.errors import DataError, ImageError

POLYGON = [8, 5, 30, 5, 30, 20, 8, 20]


def written(folder: Path, size: tuple[int, int], turn: int = 1) -> Path:
    """A set of one image of 48 x 64 stored pixels, whose record states `size`."""
    tags = Image.Exif()
    tags[0x112] = turn
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)).save(folder / "p.jpg", exif=tags)
    row = {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [POLYGON], "bbox": [8, 5, 22, 15], "area": 330}
    image = {"id": 1, "file_name": "p.jpg", "height": size[0], "width": size[1]}
    content = {"images": [image], "annotations": [{**row, "iscrowd": 0}], "categories": [{"id": 1, "name": "a"}]}
    (folder / "a.json").write_text(json.dumps(content))
    return folder / "a.json"


@pytest.mark.parametrize("turn", [1, 3, 5, 6, 8])
def test_a_size_is_that_of_the_upright_image(turn: int) -> None:
    assert disagreement((64, 48), (64, 48), turn) is None
    fault, words = disagreement((48, 64), (64, 48), turn) or ("", "")
    assert fault == ("exif-rotation" if turn >= 5 else "size-disagrees")
    assert "48x64" in words
    assert "64x48" in words


@pytest.mark.parametrize(("size", "turn"), [((48, 64), 6), ((60, 80), 1)])
def test_what_training_refuses_every_writer_refuses_in_the_same_words(
    size: tuple[int, int], turn: int, tmp_path: Path
) -> None:
    data = formats.load(written(tmp_path, size, turn), tmp_path)
    (finding,) = check(tmp_path / "a.json", tmp_path).by_fault()["exif-rotation" if turn > 1 else "size-disagrees"]
    with pytest.raises(DataError) as training:
        data.image(0)
    assert finding.message in str(training.value)
    assert "p.jpg" in str(training.value)
    assert "data check" in str(training.value)
    for name, form in ((n, f) for n, f in FORMATS.items() if f.save is not None):
        for copy in (None, False) if form.one_file else (None,):
            with pytest.raises(DataError) as writing:
                formats.save(tmp_path / f"{name}{form.one_file if copy is False else ''}", data, name, copy)
            assert str(writing.value) == str(training.value), name
            assert not (tmp_path / name).exists()


def test_a_turn_that_keeps_the_size_is_told(tmp_path: Path) -> None:
    """The record does not say whether the objects were drawn upright."""
    data = formats.load(written(tmp_path, (48, 64), 3), tmp_path)
    (told,) = formats.save(tmp_path / "out", data, "coco")
    assert told.startswith("1 image that an EXIF tag turns without another size, taken as annotated upright")
    assert "p.jpg" in told
    assert formats.save(tmp_path / "out2", formats.load(written(tmp_path, (48, 64), 1), tmp_path), "coco") == ()


def test_what_cannot_be_compared_is_counted(tmp_path: Path) -> None:
    data = formats.load(written(tmp_path, (48, 64)), tmp_path)
    assert formats.save(tmp_path / "b.json", data, "coco") == ()
    (tmp_path / "p.jpg").write_bytes(b"<html>404</html>")
    with pytest.raises(ImageError, match=r"p\.jpg: not an image"):
        formats.save(tmp_path / "c.json", data, "coco")
    (tmp_path / "p.jpg").unlink()
    (said,) = formats.save(tmp_path / "c.json", data, "coco")
    assert said.startswith("1 image without a file, so not compared")
    assert "p.jpg" in said
