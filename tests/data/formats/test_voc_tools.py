"""Pascal VOC with boxes alone, and folders as Datumaro, CVAT, labelImg and Roboflow write and demand them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.data.formats.test_voc import CLASSES, layout, png, xml

from maskwright.data import formats, synthetic
from maskwright.data.dataset import Annotation, Dataset, ImageRecord
from maskwright.data.formats import coco, voc
from maskwright.errors import DataError
from maskwright.types import Classes


def detection(folder: Path, text: str, name: str = "a") -> Path:
    """A folder of boxes alone: one image, 20 high and 30 wide, and its XML file."""
    (folder / "JPEGImages").mkdir(parents=True, exist_ok=True)
    (folder / "Annotations").mkdir(exist_ok=True)
    Image.new("RGB", (30, 20)).save(folder / "JPEGImages" / f"{name}.jpg")
    (folder / "Annotations" / f"{name}.xml").write_text(text)
    return folder


@pytest.mark.parametrize(
    ("database", "box"),
    [("The VOC2007 Database", (1, 3, 13, 11)), ("maskwright", (1, 3, 13, 11)), ("Unknown", (2, 4, 13, 11))],
)
def test_boxes_alone(tmp_path: Path, database: str, box: tuple[int, ...]) -> None:
    source = f"<annotation><source><database>{database}</database></source>"
    detection(tmp_path, xml(("kite", (2, 4, 13, 11)), ("ant", (2, 4, 5, 6))).replace("<annotation>", source))
    data = formats.load(tmp_path)
    assert data.classes.names == ("ant", "kite")
    assert [(data.classes[a.label], a.segmentation) for a in data.of(0)] == [("kite", None), ("ant", None)]
    assert data.of(0)[0].box == box
    assert data.of(0)[0].extra == {"difficult": "1"}
    assert data.images[0].size == (20, 30)
    assert any("edges in pixels" in note for note in data.notes) == (database == "Unknown")
    (tmp_path / "class_names.txt").write_text("_background_\nkite\nant\nnone\n")
    assert formats.load(tmp_path).classes.names == ("kite", "ant", "none")


def test_boxes_beside_the_images(tmp_path: Path) -> None:
    """As labelImg and Roboflow lay them out; the polygon of the latter is told."""
    text = xml(("cat", (2, 4, 13, 11))).replace("</object>", "<polygon><x1>2</x1></polygon></object>")
    (tmp_path / "a.xml").write_text(text)
    Image.new("RGB", (30, 20)).save(tmp_path / "a.png")
    data = formats.load(tmp_path)
    assert data.missing_files() == ()
    assert data.classes.names == voc.read.CHALLENGE
    assert any("1 object with a polygon in the XML" in note for note in data.notes)


def test_xml_files_of_the_web_tool_labelme_are_another_format(tmp_path: Path) -> None:
    detection(
        tmp_path, xml(("cat", (2, 4, 13, 11))).replace("</object>", "<polygon><pt><x>2</x></pt></polygon></object>")
    )
    with pytest.raises(DataError, match="no annotation format fits"):
        formats.load(tmp_path)


def test_empty_folders_of_masks_are_none(tmp_path: Path) -> None:
    """Datumaro makes them beside boxes alone."""
    detection(tmp_path, xml(("cat", (2, 4, 13, 11))))
    for kind in voc.read.MASKS:
        (tmp_path / kind).mkdir()
    assert len(formats.load(tmp_path).of(0)) == 1


def test_lists_of_boxes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        detection(tmp_path, xml(("cat", (2, 4, 13, 11))), name)
    Image.new("RGB", (30, 20)).save(tmp_path / "JPEGImages/empty.jpg")
    lists = tmp_path / "ImageSets/Main"
    lists.mkdir(parents=True)
    for name, text in (("train", "a\nempty\n"), ("val", "b\n"), ("cat_train", "a  1\nb -1\n"), ("trainval", "a\nb\n")):
        (lists / f"{name}.txt").write_text(text)
    data = formats.load(tmp_path)
    assert {n: [r.file_name for r in part.images] for n, part in data.parts().items()} == {
        "train": ["a.jpg", "empty.jpg"],
        "val": ["b.jpg"],
    }
    assert [len(data.of(i)) for i in range(3)] == [1, 1, 0]
    assert [r.file_name for r in formats.load(lists / "train.txt").images] == ["a.jpg", "empty.jpg"]
    assert [r.file_name for r in formats.load(lists / "cat_train.txt").images] == ["a.jpg", "b.jpg"]
    (lists / "train.txt").write_text("gone\n")
    with pytest.raises(DataError, match=r"train\.txt: 'gone' has no file .*gone\.xml and no image"):
        formats.load(lists / "train.txt")


def test_a_list_of_main_reads_the_boxes_of_a_set_with_masks(tmp_path: Path) -> None:
    layout(tmp_path, name="a", Annotations__a_dot_xml=xml(("cat", (20, 5, 29, 19))), ImageSets__Main__x_dot_txt="a\n")
    assert formats.load(tmp_path).has_masks
    (row,) = formats.load(tmp_path / "ImageSets/Main/x.txt").of(0)
    assert row.segmentation is None


def test_boxes_alone_are_written_without_masks(tmp_path: Path) -> None:
    rows = (Annotation(1, 1, 1, (1.0, 2.0, 9.0, 8.0), None, 48.0),)
    data = Dataset(Classes(["a", "b"]), (ImageRecord(1, "x.png", (10, 10)),), {1: rows}, None, Path("n"))
    assert voc.save(tmp_path / "out", data, False) == ()
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "Annotations", "ImageSets", "class_names.txt", "labelmap.txt",
    ]  # fmt: skip
    back = formats.load(tmp_path / "out")
    assert (back.of(0)[0].box, back.classes.names, back.labels(0).tolist()) == ((1, 2, 9, 8), ("a", "b"), [1])


def test_a_folder_with_classes_of_pixels_alone_is_named(tmp_path: Path) -> None:
    png(tmp_path / "SegmentationClass/a.png", CLASSES)
    with pytest.raises(DataError, match="has SegmentationClass alone: the class of each pixel, and no objects"):
        formats.load(tmp_path)


def test_pixels_of_a_class_without_an_object_are_counted(tmp_path: Path) -> None:
    layout(tmp_path)
    classes = CLASSES.copy()
    classes[19, :5] = 8
    png(tmp_path / "SegmentationClass/2007_000032.png", classes)
    assert any(note.startswith("5 pixels of 1 image with a class in Seg") for note in voc.load(tmp_path).notes)


def test_a_label_map_without_colours_has_those_of_voc(tmp_path: Path) -> None:
    """As Datumaro writes it; images without objects are listed and have no mask."""
    text = "# label:color_rgb:parts:actions\nbackground:::\n" + "".join(f"kind {k}:::\n" for k in range(1, 21))
    listed = "2007_000032\nempty\n"
    layout(tmp_path, labelmap_dot_txt=text, ImageSets__Segmentation__train_dot_txt=listed)
    Image.new("RGB", (5, 4)).save(tmp_path / "JPEGImages/empty.jpg")
    for place in (tmp_path, tmp_path / "ImageSets/Segmentation/train.txt"):
        data = formats.load(place)
        assert [data.classes[k] for k in data.labels(0)] == ["kind 15", "kind 8"]
        assert [(r.file_name, r.size) for r in data.images][1:] == [("empty.jpg", (4, 5))]
        assert data.of(1) == ()
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "Annotations/empty.xml").write_text(xml(("kind 1", (1, 1, 2, 2))))
    assert len(formats.load(tmp_path)) == 1  # it has boxes, and no mask: not an image without objects
    with pytest.raises(DataError, match=r"'empty' has no mask .*, and boxes in Annotations"):
        formats.load(tmp_path / "ImageSets/Segmentation/train.txt")


def test_every_colour_of_the_masks_is_declared(tmp_path: Path) -> None:
    data = coco.load(synthetic.coco_fixture(tmp_path / "coco", 3), tmp_path / "coco/images")
    names = ("ignored", *data.classes.names[1:])
    voc.save(tmp_path / "out", Dataset(Classes(names), data.images, data.annotations, data.root, data.source), True)
    rows = [r.split(":") for r in (tmp_path / "out/labelmap.txt").read_text().splitlines()[1:]]
    declared = {tuple(map(int, row[1].split(","))) for row in rows}
    for path in (tmp_path / "out/SegmentationClass").iterdir():
        used = {tuple(c) for c in np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3).tolist()}
        assert used <= declared
    assert [row[0] for row in rows] == ["background", *names, "void"]
    (tmp_path / "out/class_names.txt").unlink()
    assert voc.load(tmp_path / "out").classes.names == names
    lists = [sorted(p.name for p in (tmp_path / "out/ImageSets" / k).iterdir()) for k in ("Main", "Segmentation")]
    assert lists[0] == lists[1]


def test_the_depth_that_a_file_states_decides_what_lies_on_top(tmp_path: Path) -> None:
    ring = [np.array([a, a, b, a, b, b, a, b], np.float64) for a, b in ((0, 8), (2, 6))]
    rows = tuple(
        Annotation(k, 1, 0, (r[0], r[1], r[4], r[5]), (r,), 1.0, extra={"z_order": z} if z else {})
        for k, (r, z) in enumerate(zip(ring, (3, 0), strict=True), start=1)
    )
    record = ImageRecord(1, "x.png", (10, 10))
    lost = voc.save(tmp_path / "out", Dataset(Classes(["a"]), (record,), {1: rows}, None, Path("n")), False)
    assert lost == ("1 object hidden wholly by others, or without a pixel, left out (x.png).",)
    assert voc.load(tmp_path / "out").of(0)[0].area == 64
