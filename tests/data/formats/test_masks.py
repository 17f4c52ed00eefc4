"""Masks kept as images: the layouts, the classes, and what is refused and how it is said."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from maskwright.data import formats
from maskwright.data.dataset import Annotation, Dataset, ImageRecord
from maskwright.data.formats import masks
from maskwright.errors import ConfigError, DataError
from maskwright.media import write_image
from maskwright.types import Classes, Landmarks

VALUES = np.zeros((6, 9), np.int64)
VALUES[1:3, 1:4], VALUES[4:, 5:], VALUES[0, 8] = 3, 7, 7  # the second object has two parts


def source_image(path: Path, size: tuple[int, int] = (6, 9)) -> None:
    write_image(path, np.zeros((*size, 3), np.uint8))


def mask(path: Path, values: np.ndarray[Any, Any] = VALUES, kind: Any = np.uint8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.astype(kind)).save(path)


LAYOUTS = [
    ("images/a.png", "masks/a.png"),
    ("images/a.jpg", "masks/a.png"),
    ("images/a.tif", "masks/a.tif"),
    ("images/a.b c.png", "masks/a.b c_masks.tif"),
    ("images/a.png", "labels/a_label.png"),
    ("images/sub/a.png", "masks/sub/a.png"),
    ("a.png", "a_masks.png"),
    ("a_img.png", "a_masks.png"),
    ("a.png", "a_cp_masks.png"),
]


@pytest.mark.parametrize(("image", "label"), LAYOUTS)
def test_layouts(tmp_path: Path, image: str, label: str) -> None:
    source_image(tmp_path / image)
    mask(tmp_path / label)
    assert formats.recognise(tmp_path).name == "masks"
    data = formats.load(tmp_path)
    assert [r.file_name for r in data.images] == [image]
    assert data.classes == Classes(["object"])
    np.testing.assert_array_equal(data.masks(0).dense(), [VALUES == 3, VALUES == 7])
    assert [(a.area, a.box) for a in data.of(0)] == [(6, (1, 1, 4, 3)), (9, (5, 0, 9, 6))]
    assert data.notes == ()


DEPTHS = [
    (VALUES, np.uint8, ".png"),
    (VALUES > 0, np.bool_, ".png"),
    (VALUES * 100, np.uint16, ".png"),
    (VALUES * 100, np.uint16, ".tif"),
    (VALUES * 100_000_000, np.int32, ".tif"),
    (VALUES * 100_000_000 + 1, np.int32, ".tif"),
]


@pytest.mark.parametrize(("values", "kind", "suffix"), DEPTHS)
def test_every_depth(tmp_path: Path, values: np.ndarray[Any, Any], kind: Any, suffix: str) -> None:
    source_image(tmp_path / "images" / "a.png")
    mask(tmp_path / "masks" / f"a{suffix}", values, kind)
    data = formats.load(tmp_path, format="masks")  # named, as one of them has no 0
    np.testing.assert_array_equal(data.masks(0).dense(), [values == v for v in np.unique(values) if v])


def test_palette_float_and_grey_colours(tmp_path: Path) -> None:
    for name in ("p", "f", "rgb"):
        source_image(tmp_path / "images" / f"{name}.png")
    indexed = Image.new("P", (9, 6))
    indexed.putdata(VALUES.ravel().tolist())
    indexed.putpalette([7, 8, 9] * 256)
    (tmp_path / "masks").mkdir()
    indexed.save(tmp_path / "masks" / "p.png")
    mask(tmp_path / "masks" / "f.tif", VALUES, np.float32)
    write_image(tmp_path / "masks" / "rgb.png", np.repeat(VALUES[:, :, None], 3, 2).astype(np.uint8))
    data = formats.load(tmp_path)
    for i in range(3):
        np.testing.assert_array_equal(data.masks(i).dense(), [VALUES == 3, VALUES == 7])


def test_classes_from_folders(tmp_path: Path) -> None:
    for name in ("images/a.png", "images/sub/b.png"):
        source_image(tmp_path / name)
    mask(tmp_path / "masks" / "nucleus" / "a.png")
    mask(tmp_path / "masks" / "cell" / "a_masks.png", VALUES > 0)  # overlaps the nuclei
    mask(tmp_path / "masks" / "nucleus" / "sub" / "b.png", VALUES * 0)
    data = formats.load(tmp_path)
    assert data.classes.names == ("cell", "nucleus")
    assert [(a.label, a.area) for a in data.of(0)] == [(0, 15), (1, 6), (1, 9)]
    assert data.of(1) == ()
    (tmp_path / "classes.txt").write_text("nucleus\r\ncell\r\nnone\r\n")
    assert [a.label for a in formats.load(tmp_path).of(0)] == [1, 0, 0]
    (tmp_path / "classes.txt").write_text("nucleus\n")
    with pytest.raises(DataError, match=r"classes\.txt: lacks the class 'cell'"):
        formats.load(tmp_path)


TABLES = [
    "mask,value,class\nmasks/a.png,3,cell\nmasks/a.png,,rest\n",
    "Class;Mask;Value\r\ncell;masks\\a.png;3\r\n\r\nrest;masks/a.png;\r\n",
]


@pytest.mark.parametrize("table", TABLES)
def test_classes_from_a_table(tmp_path: Path, table: str) -> None:
    source_image(tmp_path / "images" / "a.png")
    mask(tmp_path / "masks" / "a.png")
    (tmp_path / "objects.csv").write_bytes(b"\xef\xbb\xbf" + table.encode())
    data = formats.load(tmp_path)
    assert [data.classes[a.label] for a in data.of(0)] == ["cell", "rest"]


def test_names_that_a_spreadsheet_would_run(tmp_path: Path) -> None:
    """They stand behind an apostrophe in the table, and are read back without it."""
    names = ["=1+1", "'-x"]
    source_image(tmp_path / "in" / "=a.jpg", (10, 10))
    squares = [(np.array([x, 2, x + 3, 2, x + 3, 6, x, 6]),) for x in (1.0, 5.0)]
    rows = tuple(Annotation(i + 1, 1, i, (x[0][0], 2, x[0][0] + 3, 6), x, 12) for i, x in enumerate(squares))
    data = Dataset(Classes(names), (ImageRecord(1, "=a.jpg", (10, 10)),), {1: rows}, tmp_path / "in", tmp_path / "x")
    masks.save_masks(tmp_path / "out", data, copy=True)
    assert "'=1+1" in (tmp_path / "out" / "objects.csv").read_text("utf-8")
    again = formats.load(tmp_path / "out")
    assert again.classes.names == tuple(names)
    assert [again.classes[a.label] for a in again.of(0)] == names


TABLE_FAULTS = [
    ("a,b\n", "line 1: the columns must be mask, value, class"),
    ("mask,value,class\nmasks/a.png,3\n", "line 2: expected 3 columns, got 2"),
    ("mask,value,class\nmasks/a.png,x,cell\n", "line 2: 'value' must be an integer, got 'x'"),
    ("mask,value,class\nmasks/a.png,3,\n", "line 2: the class is empty"),
    ("mask,value,class\nmasks/a.png,3,a\nmasks/a.png,3,b\n", "line 3: this object has a class already, on line 2"),
    ("mask,value,class\nmasks/a.png,,a\nmasks/a.png,4,b\n", "line 3: there is no object of value 4 in masks/a.png"),
    ("mask,value,class\nmasks/b.png,,a\nmasks/a.png,,b\n", "line 2: there is no object in masks/b.png"),
    ("mask,value,class\nmasks/a.png,3,a\nx.png,,b\n", "the object of value 7 is not stated"),
    ("mask,value,class\nmasks/a.png,3,\xff\n".encode("latin-1"), "line 2: not UTF-8"),
]


@pytest.mark.parametrize(("table", "said"), TABLE_FAULTS)
def test_faulty_tables_say_where_and_what(tmp_path: Path, table: str | bytes, said: str) -> None:
    source_image(tmp_path / "images" / "a.png")
    mask(tmp_path / "masks" / "a.png")
    (tmp_path / "objects.csv").write_bytes(table if isinstance(table, bytes) else table.encode())
    with pytest.raises(DataError) as caught:
        formats.load(tmp_path)
    assert said in str(caught.value)
    assert str(tmp_path / "objects.csv") in str(caught.value)


def test_bowl_layout(tmp_path: Path) -> None:
    for name in ("x1", "x 2"):
        source_image(tmp_path / name / "images" / f"{name}.png")
    mask(tmp_path / "x1" / "masks" / "f00.png", (VALUES == 3) * 255)
    mask(tmp_path / "x1" / "masks" / "f01.png", VALUES > 0)  # 1, not 255, and overlapping
    mask(tmp_path / "x1" / "masks" / "f02.png", VALUES * 0)
    (tmp_path / "x 2" / "masks").mkdir()
    assert formats.recognise(tmp_path).name == "dsb2018"
    data = formats.load(tmp_path)
    assert [r.file_name for r in data.images] == ["x 2/images/x 2.png", "x1/images/x1.png"]
    np.testing.assert_array_equal(data.masks(1).dense(), [VALUES == 3, VALUES > 0])
    assert data.of(0) == ()
    assert data.notes == ("1 mask without a pixel left out (x1/masks/f02.png).",)
    mask(tmp_path / "x1" / "masks" / "dead" / "f03.png", VALUES == 7)
    mask(tmp_path / "x1" / "masks" / "live" / "f04.png", VALUES == 7)
    with pytest.raises(DataError, match=r"f00\.png: the class of the object of value .* is not stated"):
        formats.load(tmp_path)
    source_image(tmp_path / "x1" / "images" / "other.png")
    with pytest.raises(DataError, match=r"x1/images: expected the one image .* found 2"):
        formats.load(tmp_path)


def test_faulty_masks_say_which(tmp_path: Path) -> None:
    source_image(tmp_path / "images" / "a.png")
    mask(tmp_path / "masks" / "b.png")
    with pytest.raises(DataError, match=r"1 mask without an image of the same name in .*images: .*b\.png"):
        formats.load(tmp_path)
    source_image(tmp_path / "images" / "b.png")
    with pytest.raises(DataError, match=r"1 image without a mask: .*a\.png\. An image without objects"):
        formats.load(tmp_path)
    mask(tmp_path / "masks" / "a.png", VALUES.T)
    with pytest.raises(DataError, match=r"masks/a\.png: the mask is 9x6 .* its image .*images/a\.png is 6x9"):
        formats.load(tmp_path)
    mask(tmp_path / "masks" / "a.tif", VALUES - 1, np.int32)
    (tmp_path / "masks" / "a.png").unlink()
    with pytest.raises(DataError, match=r"a\.tif: the values of a mask .* found -1"):
        formats.load(tmp_path)
    mask(tmp_path / "masks" / "a.tif", VALUES / 2, np.float32)
    with pytest.raises(DataError, match=r"a\.tif: expected whole numbers"):
        formats.load(tmp_path)
    (tmp_path / "masks" / "a.tif").write_bytes((tmp_path / "masks" / "b.png").read_bytes()[:60])
    with pytest.raises(DataError, match=r"a\.tif: .*(damaged|cut off)"):
        formats.load(tmp_path)
    colours = np.random.default_rng(0).integers(0, 255, (6, 9, 3), np.uint8)
    write_image(tmp_path / "masks" / "a.tif", colours)
    with pytest.raises(DataError, match=r"a\.tif: expected one number for each pixel, found colours"):
        formats.load(tmp_path)
    Image.fromarray(colours[:, :, 0]).save(
        tmp_path / "masks" / "a.tif", save_all=True, append_images=[Image.fromarray(colours[:, :, 1])]
    )
    with pytest.raises(DataError, match=r"a\.tif: expected one image, found a stack of 2"):
        formats.load(tmp_path)
    source_image(tmp_path / "images" / "b.jpg")
    with pytest.raises(DataError, match=r"b\.jpg and b\.png would have the same mask"):
        formats.load(tmp_path)
    with pytest.raises(DataError, match="found 0 images in"):
        masks.load_masks(tmp_path / "nothing")
    with pytest.raises(DataError, match="found none"):
        masks.load_objects(tmp_path / "nothing")


def test_masks_alone_and_what_they_cannot_hold(tmp_path: Path) -> None:
    source_image(tmp_path / "in" / "a.jpg", (10, 10))
    square = (np.array([2.0, 2, 6, 2, 6, 6, 2, 6]),)
    point = np.array([[1.0, 1, 2]])
    rows = (
        Annotation(1, 1, 1, (2, 2, 6, 6), square, 16, keypoints=point, track_id=5),
        Annotation(2, 1, 0, (2, 2, 6, 6), square, 16, crowd=True),
        Annotation(3, 1, 0, (2, 2, 6, 6), None, 16),
        Annotation(4, 1, 0, (2, 2, 2, 2), (np.array([2.0, 2, 2, 2, 2, 2]),), 0),
    )
    marks = (None, Landmarks(("tip",)))
    data = Dataset(
        Classes(["a", "b"], landmarks=marks),
        (ImageRecord(1, "a.jpg", (10, 10)),),
        {1: rows},
        tmp_path / "in",
        tmp_path / "x",
    )
    lost = masks.save_masks(tmp_path / "out", data, copy=False)
    assert [text.split(":")[0].split(" left")[0] for text in lost] == [
        "1 object hidden wholly by others, or without a pixel,",
        "1 crowd region",
        "1 object with a box only",
        "1 object without the landmarks they had (a.jpg).",
        "1 object without the track id they had (a.jpg).",
    ]
    assert sorted(p.name for p in (tmp_path / "out").rglob("*")) == ["a.png", "classes.txt", "masks", "objects.csv"]
    assert formats.recognise(tmp_path / "out").name == "masks"
    with pytest.raises(DataError, match=r"found 0 images in .*out/images and 1 masks .* give their folder"):
        formats.load(tmp_path / "out")
    again = formats.load(tmp_path / "out", tmp_path / "in")
    assert again.classes.names == ("a", "b")
    assert [(a.label, a.area) for a in again.of(0)] == [(1, 16)]
    assert again.image(0).shape == (10, 10, 3)
    with pytest.raises(ConfigError, match="must be copied"):
        masks.save_objects(tmp_path / "more", data, copy=False)
    with pytest.raises(DataError, match=r"several classes called|class name"):
        formats.save(tmp_path / "more", replace(data, classes=Classes(["a", " b"])), "masks")
    assert not (tmp_path / "more").exists()
