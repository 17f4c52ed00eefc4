"""LabelMe files as moving shapes and other tools leave them, and `labels.txt` as its own converters demand it."""

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.data.formats.test_labelme import SQUARE, document, one, png, shape, write

from maskwright.data.dataset import Dataset, ImageRecord
from maskwright.data.formats import labelme
from maskwright.errors import DataError
from maskwright.types import Classes


@pytest.mark.parametrize(
    ("points", "corner"),
    [([[4.6, 7.4], [6.6, 8.4]], (7, 5)), ([[4.5, 6.5], [6.4, 7.6]], (6, 4)), ([[3.51, 7.0], [5.49, 8.0]], (7, 4))],
)
def test_a_mask_with_fractional_corners_lies_where_labelme_draws_it(
    tmp_path: Path, points: list[list[float]], corner: tuple[int, int]
) -> None:
    bitmap = np.array([[1, 0, 1], [1, 1, 1]], bool)
    one(tmp_path, shape("a", points, "mask", mask=png(bitmap)))
    expected = np.zeros((20, 30), bool)
    expected[corner[0] : corner[0] + 2, corner[1] : corner[1] + 3] = bitmap
    np.testing.assert_array_equal(labelme.load(tmp_path).masks(0).dense()[0], expected)


@pytest.mark.parametrize("points", [[[-1, -1], [1, 0]], [[-1.4, -0.6], [0.6, 0.4]]])
def test_a_mask_beyond_the_border_is_cut_there(tmp_path: Path, points: list[list[float]]) -> None:
    (row,) = one(tmp_path, shape("a", points, "mask", mask=png(np.ones((2, 3), bool))))
    assert row.box == (0, 0, 2, 1)
    assert row.area == 2


@pytest.mark.parametrize(("group", "objects"), [("", 2), ("  ", 2), (None, 2), (0, 1), (3.0, 1), ("3", 1)])
def test_an_empty_group_is_none(tmp_path: Path, group: Any, objects: int) -> None:
    far = [[x + 12, y] for x, y in SQUARE]
    assert len(one(tmp_path, shape("a", SQUARE, group_id=group), shape("a", far, group_id=group))) == objects


@pytest.mark.parametrize("name", ["0.json", "..", "a/..", "", ".", None, "x\\0.JSON"])
def test_an_image_path_that_is_no_image(tmp_path: Path, name: str | None) -> None:
    write(tmp_path, document(shape("a", SQUARE), imagePath=name), image=False)
    with pytest.raises(DataError, match=r"0\.json: the file: 'imagePath' must name the image, got .*has no image call"):
        labelme.load(tmp_path)
    Image.new("RGB", (30, 20)).save(tmp_path / "0.JPG", "JPEG")
    data = labelme.load(tmp_path)
    assert data.images[0].file_name == "0.JPG"
    assert data.notes == ("1 file whose imagePath is no image; the image of the same name is taken (0.json).",)
    assert labelme.unpack(tmp_path) == ()
    inside = base64.b64encode((tmp_path / "0.JPG").read_bytes()).decode()
    (tmp_path / "0.JPG").unlink()
    write(tmp_path, document(shape("a", SQUARE), imagePath=name, imageData=inside), image=False)
    (path,) = labelme.unpack(tmp_path)
    assert labelme.load(tmp_path).path(0) == path


def test_labels_begin_as_its_converters_demand(tmp_path: Path) -> None:
    record = ImageRecord(1, "x.png", (4, 4))
    labelme.save(tmp_path / "out", Dataset(Classes(["b", "a"]), (record,), {1: ()}, None, Path("n")), False)
    assert (tmp_path / "out/labels.txt").read_text().split() == ["__ignore__", "_background_", "b", "a"]
    assert labelme.load(tmp_path / "out").classes.names == ("b", "a")
