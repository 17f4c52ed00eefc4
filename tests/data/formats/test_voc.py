"""Pascal VOC's layout: what is read, what is refused and how it is said, and that writing gives the pixels back."""

import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from maskwright.data import formats, synthetic
from maskwright.data.dataset import Annotation, Dataset, ImageRecord
from maskwright.data.formats import coco, voc
from maskwright.errors import DataError
from maskwright.ops import masks as mask_ops
from maskwright.types import Classes, Landmarks, Masks

OBJECTS = np.zeros((20, 30), np.uint8)
OBJECTS[2:10, 3:12] = 1
OBJECTS[2:10, 12] = 255
OBJECTS[5:18, 20:28] = 2
CLASSES = np.where(OBJECTS == 1, 15, np.where(OBJECTS == 2, 8, OBJECTS)).astype(np.uint8)


def layout(folder: Path, *, name: str = "2007_000032", **files: str) -> Path:
    """A VOC folder with one image: a person (15) and a cat (8), and void. files: more, by their place with __."""
    for place, index in (("SegmentationObject", OBJECTS), ("SegmentationClass", CLASSES)):
        png(folder / place / f"{name}.png", index)
    (folder / "JPEGImages").mkdir(exist_ok=True)
    Image.new("RGB", (30, 20)).save(folder / "JPEGImages" / f"{name}.jpg")
    for place, text in files.items():
        path = folder / place.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, newline="")
    return folder


def png(path: Path, index: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(index)
    image.putpalette(voc.read.colours().tobytes())
    image.save(path)


def xml(*objects: tuple[str, tuple[int, int, int, int]]) -> str:
    rows = "".join(
        f"<object><name>{name}</name><difficult>1</difficult><bndbox><xmin>{b[0]}</xmin><ymin>{b[1]}</ymin>"
        f"<xmax>{b[2]}</xmax><ymax>{b[3]}</ymax></bndbox></object>\n"
        for name, b in objects
    )
    return f"<annotation>\n{rows}</annotation>"


# ---- reading --------------------------------------------------------------------------------------------------------


def test_reads_objects_classes_and_void(tmp_path: Path) -> None:
    data = formats.load(layout(tmp_path))
    assert data.classes.names == voc.read.CHALLENGE
    assert data.images[0].file_name == "2007_000032.jpg"
    assert [data.classes[k] for k in data.labels(0)] == ["person", "cat"]
    np.testing.assert_array_equal(data.masks(0).dense(), [OBJECTS == 1, OBJECTS == 2])
    assert [a.box for a in data.of(0)] == [(3, 2, 12, 10), (20, 5, 28, 18)]
    assert [a.area for a in data.of(0)] == [72, 104]
    assert data.image(0).shape == (20, 30, 3)
    assert data.notes == (
        "No class_names.txt and no labelmap.txt: the classes are taken as the 20 of the VOC challenge "
        "(used: cat, person).",
        "Void, which counts as background: 8 pixels of 1 image.",
    )


def test_palette_is_the_one_of_the_challenge() -> None:
    """The first colours as its development kit lists them, and the border's."""
    table = voc.read.colours()
    assert table[:4].tolist() == [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]]
    assert table[20].tolist() == [0, 64, 128]
    assert table[255].tolist() == [224, 224, 192]
    assert len(np.unique(table, axis=0)) == 256


def test_boxes_and_remarks_come_from_the_xml(tmp_path: Path) -> None:
    """Pixels count from 1 there; the order may differ, and a box without a mask is counted."""
    text = xml(("cat", (20, 5, 29, 19)), ("person", (3, 2, 13, 11)), ("dog", (1, 1, 5, 5)))
    data = voc.load(layout(tmp_path, Annotations__2007_000032_dot_xml=text))
    assert [a.box for a in data.of(0)] == [(2, 1, 13, 11), (19, 4, 29, 19)]
    assert data.of(0)[0].extra == {"difficult": "1"}
    assert any(note.startswith("2 objects marked as difficult") for note in data.notes)
    assert "1 box in Annotations without a mask left out." in data.notes


def test_a_list_reads_its_images_and_parts_are_known(tmp_path: Path) -> None:
    layout(tmp_path, name="b a")
    layout(tmp_path, name="a")
    lists = tmp_path / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    for name, members in (("train", "b a\r\n"), ("val", "a\r\n"), ("trainval", "a\r\nb a\r\n\r\n")):
        (lists / f"{name}.txt").write_bytes(members.encode())
    data = voc.load(tmp_path)
    assert {name: [r.file_name for r in part.images] for name, part in data.parts().items()} == {
        "val": ["a.jpg"],
        "train": ["b a.jpg"],
    }
    assert [r.file_name for r in formats.load(lists / "train.txt").images] == ["b a.jpg"]
    (lists / "train.txt").write_text("a\ngone\n")
    with pytest.raises(DataError, match=r"train\.txt: 'gone' has no mask .*gone\.png"):
        voc.load(lists / "train.txt")


@pytest.mark.parametrize("suffix", ["PNG", "Png"])
@pytest.mark.parametrize(
    "kinds", [("SegmentationObject",), ("SegmentationClass",), ("SegmentationObject", "SegmentationClass")]
)
def test_the_suffix_of_a_mask_may_have_any_letter_case(tmp_path: Path, kinds: tuple[str, ...], suffix: str) -> None:
    layout(tmp_path, name="a.b")
    for kind in kinds:
        (tmp_path / kind / "a.b.png").rename(tmp_path / kind / f"a.b.{suffix}")
    (tmp_path / "ImageSets/Segmentation").mkdir(parents=True)
    (tmp_path / "ImageSets/Segmentation/train.txt").write_text("a.b\n")
    for place in (tmp_path, tmp_path / "ImageSets/Segmentation/train.txt"):
        assert len(formats.load(place).of(0)) == 2


def test_an_image_of_several_lists_is_told(tmp_path: Path) -> None:
    layout(tmp_path, name="a")
    lists = tmp_path / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    for name in ("train", "val", "trainval"):
        (lists / f"{name}.txt").write_text("a\n")
    data = voc.load(tmp_path)
    assert data.images[0].extra == {"split": "train"}
    (said,) = [note for note in data.notes if "ImageSets" in note]
    assert said == "1 image named by several lists of ImageSets/Segmentation; each belongs to the first of them (a)."
    assert any("several lists" in note for note in voc.load(lists / "val.txt").notes)


def test_class_names_are_read_from_both_kinds_of_list(tmp_path: Path) -> None:
    names = "\n".join(["_background_", *(f"kind {k}" for k in range(1, 21))])
    data = voc.load(layout(tmp_path / "a", class_names_dot_txt=names))
    assert [data.classes[k] for k in data.labels(0)] == ["kind 15", "kind 8"]
    shades = voc.read.colours()
    rows = {"background": 0, "hound": 8, "rider": 15}
    text = "# label:color_rgb:parts:actions\n" + "".join(
        f"{n}:{','.join(map(str, shades[k].tolist()))}::\n" for n, k in rows.items()
    )
    data = voc.load(layout(tmp_path / "b", labelmap_dot_txt=text))
    assert data.classes.names == ("hound", "rider")
    assert [data.classes[k] for k in data.labels(0)] == ["rider", "hound"]


def test_coloured_masks_are_read_by_their_colours(tmp_path: Path) -> None:
    layout(tmp_path)
    for place in ("SegmentationObject", "SegmentationClass"):
        path = tmp_path / place / "2007_000032.png"
        Image.open(path).convert("RGB").save(path)
    data = voc.load(tmp_path)
    np.testing.assert_array_equal(data.masks(0).dense(), [OBJECTS == 1, OBJECTS == 2])
    assert [data.classes[k] for k in data.labels(0)] == ["person", "cat"]


def test_sixteen_bits_hold_more_objects(tmp_path: Path) -> None:
    layout(tmp_path)
    deep = OBJECTS.astype(np.uint16)
    deep[OBJECTS == 2], deep[OBJECTS == 255], deep[0, 0] = 300, 65535, 255
    Image.fromarray(deep).save(tmp_path / "SegmentationObject/2007_000032.png")
    classes = CLASSES.copy()
    classes[0, 0] = 3
    png(tmp_path / "SegmentationClass/2007_000032.png", classes)
    data = voc.load(tmp_path)
    assert [data.classes[k] for k in data.labels(0)] == ["person", "cat", "bird"]
    assert [a.area for a in data.of(0)] == [72, 104, 1]


def test_images_without_masks_are_counted(tmp_path: Path) -> None:
    layout(tmp_path)
    Image.new("RGB", (5, 5)).save(tmp_path / "JPEGImages/other.jpg")
    assert voc.load(tmp_path).notes[-1] == f"1 image in {tmp_path / 'JPEGImages'} without a mask not read."


# ---- round trips ----------------------------------------------------------------------------------------------------


def test_round_trip_keeps_the_pixels(tmp_path: Path) -> None:
    path = synthetic.coco_fixture(tmp_path / "coco", 3)
    data = coco.load(path, tmp_path / "coco/images")
    lost = voc.save(tmp_path / "ü b", data, True)
    assert lost == ("1 crowd region turned into void, which names no class (0000.png).",)
    assert formats.recognise(tmp_path / "ü b").name == "voc"
    back = voc.load(tmp_path / "ü b")
    assert back.classes.names == data.classes.names
    for i in range(len(data)):
        keep = ~data.crowd(i)
        np.testing.assert_array_equal(data.masks(i).dense()[keep], back.masks(i).dense())
        np.testing.assert_array_equal(data.boxes(i)[keep], back.boxes(i))
        np.testing.assert_array_equal(data.labels(i)[keep], back.labels(i))
        np.testing.assert_array_equal(data.image(i), back.image(i))
    with Image.open(tmp_path / "ü b/SegmentationObject/0000.png") as mask:
        assert mask.mode == "P"
        pixels = np.array(mask)
        np.testing.assert_array_equal(pixels == 255, data.masks(0)[data.crowd(0)].dense()[0])


@settings(max_examples=50, deadline=None)
@given(
    index=hnp.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 5)),
    classes=st.integers(1, 3),
)
def test_any_map_of_objects_comes_back(
    index: np.ndarray, classes: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("any")
    bitmaps = np.array([index == v for v in np.unique(index) if v]).reshape(-1, *index.shape)
    masks = Masks.from_dense(bitmaps, index.shape)
    rles, boxes = mask_ops.encode(masks), masks.boxes().tolist()
    rows = tuple(
        Annotation(k, 1, k % classes, tuple(boxes[k]), rle, float(masks.areas()[k])) for k, rle in enumerate(rles)
    )
    names = Classes([f"class {k}" for k in range(classes)])
    record = ImageRecord(1, "x.png", masks.size)
    assert voc.save(folder / "out", Dataset(names, (record,), {1: rows}, None, Path("n")), False) == ()
    back = voc.load(folder / "out")
    np.testing.assert_array_equal(back.masks(0).dense(), bitmaps)
    assert back.labels(0).tolist() == [a.label for a in rows]
    np.testing.assert_array_equal(back.boxes(0), masks.boxes())


def test_parts_are_written_as_lists(tmp_path: Path) -> None:
    records = tuple(
        ImageRecord(k, f"{name}/{k}.png", (4, 4), {"split": name} if name != "none" else {})
        for k, name in enumerate(("train", "val", "test", "none"))
    )
    data = Dataset(Classes(["a"]), records, dict.fromkeys(range(4), ()), None, Path("n"))
    voc.save(tmp_path / "out", data, False)
    lists = {p.stem: p.read_text() for p in (tmp_path / "out/ImageSets/Segmentation").iterdir()}
    assert lists == {
        "train": "train/0\n",
        "val": "val/1\n",
        "test": "test/2\n",
        "trainval": "train/0\nval/1\nnone/3\n",
    }
    back = voc.load(tmp_path / "out")
    assert {r.file_name: r.extra.get("split") for r in back.images} == {
        "none/3.jpg": None,
        "test/2.jpg": "test",
        "train/0.jpg": "train",
        "val/1.jpg": "val",
    }


def test_parts_are_known_in_the_words_of_other_tools(tmp_path: Path) -> None:
    """CVAT says Train, Validation and Test: trainval.txt came out empty."""
    said = ("Train", "Validation", "Test", "TRAINVAL", "Fold 1")
    records = tuple(ImageRecord(k, f"{k}.png", (4, 4), {"split": name}) for k, name in enumerate(said))
    voc.save(tmp_path / "out", Dataset(Classes(["a"]), records, dict.fromkeys(range(5), ()), None, Path("n")), False)
    lists = {p.stem: p.read_text() for p in (tmp_path / "out/ImageSets/Segmentation").iterdir()}
    assert lists == {"train": "0\n", "val": "1\n", "test": "2\n", "trainval": "0\n1\n3\n", "Fold 1": "4\n"}


def test_what_the_masks_cannot_hold_is_counted(tmp_path: Path) -> None:
    """The smaller of two overlapping objects lies on top; one that is wholly covered by equals is gone."""

    def square(k: int, low: int, high: int, **more: object) -> Annotation:
        ring = np.array([low, low, high, low, high, high, low, high], np.float64)
        return Annotation(k, 1, 0, (low, low, high, high), (ring,), (high - low) ** 2, **more)  # type: ignore[arg-type]

    rows = (
        square(1, 5, 8, keypoints=np.array([[5, 5, 2.0]])),
        square(2, 2, 12, track_id=4),
        square(3, 15, 18),
        square(4, 15, 18),
        Annotation(5, 1, 0, (1.2, 1.7, 3.1, 3.0), None, 4.0),
    )
    data = Dataset(
        Classes(["a"], landmarks=[Landmarks(("tip",))]),
        (ImageRecord(1, "x.png", (20, 20)),),
        {1: rows},
        None,
        Path("n"),
    )
    assert voc.save(tmp_path / "out", data, False) == (
        "1 object without the pixels that another object lies over (x.png).",
        "1 object hidden wholly by others, or without a pixel, left out (x.png).",
        "1 object with a box only written to Annotations alone, and not read back (x.png).",
        "1 object without the landmarks they had (x.png).",
        "1 object without the track id they had (x.png).",
    )
    back = voc.load(tmp_path / "out")
    assert sorted(a.area for a in back.of(0)) == [9, 9, 91]
    assert (
        "<xmin>2</xmin><ymin>2</ymin><xmax>4</xmax><ymax>3</ymax>" in (tmp_path / "out/Annotations/x.xml").read_text()
    )


def test_limits_of_eight_bits(tmp_path: Path) -> None:
    boxes = [(float(k), 0.0, k + 1.0, 1.0) for k in range(255)]
    rows = tuple(
        Annotation(k, 1, 0, b, (np.array([b[0], 0, b[2], 0, b[2], 1, b[0], 1]),), 1.0) for k, b in enumerate(boxes)
    )
    record = ImageRecord(1, "x.png", (1, 20000))
    data = Dataset(Classes(["a"]), (record,), {1: rows}, None, Path("n"))
    with pytest.raises(DataError, match=r"x\.png has 255 objects, and VOC's 8-bit masks hold 254"):
        voc.save(tmp_path / "out", data, False)
    assert not (tmp_path / "out").exists()
    data = Dataset(Classes(["a"]), (record,), {1: rows[:254]}, None, Path("n"))
    assert voc.save(tmp_path / "out", data, False) == ()
    assert len(voc.load(tmp_path / "out").of(0)) == 254
    many = Classes([f"c{k}" for k in range(255)])
    with pytest.raises(DataError, match=r"hold 254 classes, n has 255"):
        voc.save(tmp_path / "more", Dataset(many, (record,), {1: ()}, None, Path("n")), False)


def test_what_cannot_be_written(tmp_path: Path) -> None:
    def data(names: list[str], files: list[str], **extra: object) -> Dataset:
        records = tuple(ImageRecord(k, name, (4, 4), extra) for k, name in enumerate(files))
        return Dataset(Classes(names), records, dict.fromkeys(range(len(files)), ()), tmp_path, Path("n"))

    for broken, message in (
        (data(["a", "a"], []), "several classes called 'a'"),
        (data(["a:b"], []), "cannot hold the class name 'a:b'"),
        (data(["a"], ["x.png", "x.jpg"]), r"'x\.png' and 'x\.jpg' would both get the mask 'x\.png'"),
        (data(["a"], ["x.png"], split="../up"), "part '../up', which cannot name a file"),
    ):
        with pytest.raises(DataError, match=message):
            voc.save(tmp_path / "out", broken, False)
    with pytest.raises(DataError, match=r"1 of 1 image files are missing"):
        voc.save(tmp_path / "out", data(["a"], ["x.png"]), True)
    assert list(tmp_path.iterdir()) == []


# ---- faults ---------------------------------------------------------------------------------------------------------


def test_a_mask_that_is_cut_off(tmp_path: Path) -> None:
    layout(tmp_path)
    path = tmp_path / "SegmentationObject/2007_000032.png"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match=r"SegmentationObject/2007_000032\.png: not a PNG that can be read"):
        voc.load(tmp_path)
    path.write_bytes(b"")
    with pytest.raises(DataError, match=r"SegmentationObject/2007_000032\.png: not a PNG that can be read"):
        voc.load(tmp_path)


def test_sizes_are_compared_before_pixels_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A damaged header may ask for 512 MiB: the other mask's says that it is wrong."""
    layout(tmp_path)
    path = tmp_path / "SegmentationObject/2007_000032.png"
    content = bytearray(path.read_bytes())
    content[16:24] = (4194328).to_bytes(4, "big") + (32).to_bytes(4, "big")  # width and height
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    path.write_bytes(content)
    monkeypatch.setattr(PngImageFile, "load", None)
    with pytest.raises(DataError, match=r"2007_000032\.png is \(32, 4194328\), .* They must be of one size"):
        voc.load(tmp_path)


def test_masks_that_disagree(tmp_path: Path) -> None:
    layout(tmp_path)
    path = tmp_path / "SegmentationClass/2007_000032.png"
    classes = CLASSES.copy()
    classes[2, 3] = 8
    png(path, classes)
    assert "1 object of several classes got the most frequent of them." in voc.load(tmp_path).notes
    for value, what in ((0, "background"), (255, "void"), (21, "class 21")):
        png(path, np.where(OBJECTS == 2, value, CLASSES).astype(np.uint8))
        with pytest.raises(DataError, match=rf"2007_000032\.png: object 2: it is {what} in SegmentationClass"):
            voc.load(tmp_path)
    png(path, CLASSES[:-1])
    with pytest.raises(DataError, match=r"is \(20, 30\), .* is \(19, 30\) \(H, W\)"):
        voc.load(tmp_path)
    path.unlink()
    with pytest.raises(DataError, match=r"its classes .*2007_000032\.png are missing"):
        voc.load(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (xml(("cat", (1, 2, 3, 4)))[:60], r"not valid XML at line \d+, column \d+ \(.*\). Was the file cut off"),
        (xml(("kat", (1, 2, 3, 4))), r"line 2: the class 'kat' is not known. Did you mean 'cat'"),
        (
            xml(("cat", (1, 2, 3, 4))).replace("<xmin>1", "<xmin>one"),
            r"line 2: bndbox/xmin must be a number, got 'one'",
        ),
        (xml(("cat", (1, 2, 3, 4))).replace("<xmin>1", "<xmin>1e99"), r"bndbox/xmin must be a number"),
        ('<!DOCTYPE a [<!ENTITY b "c">]>' + xml(), r"line 1: document type declarations"),
        ("", r"not valid XML at line 1, column 1"),
    ],
)
def test_faults_of_the_xml_name_file_and_line(tmp_path: Path, text: str, message: str) -> None:
    layout(tmp_path, Annotations__2007_000032_dot_xml=text)
    with pytest.raises(DataError, match=message) as caught:
        voc.load(tmp_path)
    assert "2007_000032.xml" in str(caught.value)


def test_faults_of_the_lists(tmp_path: Path) -> None:
    layout(tmp_path / "a", labelmap_dot_txt="background:0,0,0::\ncat:64,0\n")
    with pytest.raises(DataError, match=r"labelmap\.txt: expected lines such as 'cat:64,0,0::'.*'cat:64,0'"):
        voc.load(tmp_path / "a")
    layout(tmp_path / "b", labelmap_dot_txt="background:0,0,0::\ncat:64,0,0::\n")
    with pytest.raises(DataError, match=r"2007_000032\.png: the colour 192,128,128 is no class of labelmap\.txt"):
        voc.load(tmp_path / "b")
    layout(tmp_path / "c", class_names_dot_txt="_background_\n")
    with pytest.raises(DataError, match=r"class_names\.txt: names no class but the background"):
        voc.load(tmp_path / "c")
    with pytest.raises(DataError, match=r"has the folder SegmentationObject, or Annotations .* has neither"):
        voc.load(tmp_path)
    with pytest.raises(DataError, match="the image folder of"):
        voc.load(tmp_path / "a", tmp_path / "gone")
