"""YOLO data sets as people have them: layouts, lines, and what is refused and how it is said."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from maskwright.data import formats
from maskwright.data.dataset import Annotation, Dataset, ImageRecord
from maskwright.data.formats import yolo
from maskwright.errors import ConfigError, DataError
from maskwright.types import Classes, Landmarks

YAML = "train: images/train\nval: images/val\nnames: [cat, dog]\n"


def make(folder: Path, yaml: str = YAML, labels: dict[str, str | bytes] | None = None) -> Path:
    """Images of 20 x 40 in images/train/a.png, images/train/b.png and images/val/c.png, and label files."""
    for name in ("train/a", "train/b", "val/c"):
        path = folder / "images" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 20)).save(path)
    texts = {"train/a": "1 0.25 0.5 0.5 0.5 0.5 1\n"} if labels is None else labels
    for name, text in texts.items():
        path = folder / "labels" / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    (folder / "data.yaml").write_text(yaml, encoding="utf-8")
    return folder


def test_lines_become_outlines_and_boxes(tmp_path: Path) -> None:
    text = "\ufeff1 0.25 0.5 0.5 0.5 0.5 1\r\n\r\n0 0.5 0.5 0.25 0.5\r\n1.0 0.1 0.1 0.2 0.1 0.2 0.2 0.1 0.2"
    data = yolo.load(make(tmp_path, labels={"train/a": text, "val/c": ""}))
    assert data.classes == Classes(["cat", "dog"], [0, 1])
    assert [r.file_name for r in data.images] == ["images/train/a.png", "images/train/b.png", "images/val/c.png"]
    assert {n: len(part) for n, part in data.parts().items()} == {"train": 2, "val": 1}
    assert [r.size for r in data.images] == [(20, 40)] * 3
    triangle, box, square = data.of(0)
    assert (triangle.label, box.label, square.label) == (1, 0, 1)
    np.testing.assert_array_equal(triangle.segmentation, [[10, 10, 20, 10, 20, 20]])
    assert (triangle.box, box.box, box.area, square.area) == ((10, 10, 20, 20), (15, 5, 25, 15), 100, 8)
    assert box.segmentation is None
    assert data.of(1) == data.of(2) == ()
    assert (data.notes, data.root) == ((), tmp_path)


@pytest.mark.parametrize(
    ("split", "stand_ins"),
    [
        (["train", "train", "train"], {"val": "images/train"}),
        (["", "", ""], {"val": "images/train"}),
        (["val", "val", "val"], {"train": "images/val"}),
        (["test", "test", "test"], {"train": "images/test", "val": "images/test"}),
        (["train", "train", "test"], {"val": "images/train"}),
        (["train", "train", "val"], {}),
    ],
)
def test_what_stands_in_for_a_missing_part_is_written_and_read_as_such(
    tmp_path: Path, split: list[str], stand_ins: dict[str, str]
) -> None:
    data = yolo.load(make(tmp_path / "in"))
    records = tuple(replace(r, extra={"split": s} if s else {}) for r, s in zip(data.images, split, strict=True))
    yolo.save(tmp_path / "out", replace(data, images=records))
    text = (tmp_path / "out/data.yaml").read_text()
    table = yaml.safe_load(text)
    assert {"train", "val"} <= set(table)  # Ultralytics wants both
    assert {part: table[part] for part in table.get("stand_in", [])} == stand_ins
    assert ("# No images of their own" in text) == bool(stand_ins)
    again = yolo.load(tmp_path / "out")
    assert again.notes == ()
    assert sorted(again.parts()) == sorted({s or "train" for s in split})
    assert len(again) == 3


def test_a_file_of_others_that_measures_on_its_training_images_is_remarked_on(tmp_path: Path) -> None:
    twice = "train: images/train\nval: images/train\nnames: [cat, dog]\n"
    data = yolo.load(make(tmp_path / "one", twice))
    assert data.notes == ("'val' names the same images as 'train' and was left out.",)
    data = yolo.load(make(tmp_path / "two", f"{twice}stand_in: [train]\n"))
    assert data.notes == ("'val' names the same images as 'train' and was left out.",)
    data = yolo.load(make(tmp_path / "three", f"{YAML}stand_in: val\n"))  # it does not: its own images stay
    assert (data.notes, sorted(data.parts())) == ((), ["train", "val"])


@pytest.mark.parametrize("given", ["data.yaml", "."])
@pytest.mark.parametrize(
    "names",
    ["names: [cat, dog]", "names:\n  1: dog\n  0: cat", "nc: 2\nnames:\n- cat\n- dog", 'names: {0: "cat", 1: dog}'],
)
def test_names_as_list_or_numbered(tmp_path: Path, names: str, given: str) -> None:
    place = make(tmp_path, f"train: images/train\nval: images/val\ntest: # optional\n{names}\n") / given
    assert formats.recognise(place).name == "yolo"
    assert formats.load(place).classes.names == ("cat", "dog")


def test_words_stay_words(tmp_path: Path) -> None:
    data = yolo.load(make(tmp_path, YAML.replace("[cat, dog]", "[no, 1e3]")))
    assert data.classes.names == ("no", "1e3")


@pytest.mark.parametrize(
    "yaml",
    [
        "path: set\ntrain: images/train\nval: images/val",
        "path: ../DIR/set\ntrain: [images/train, images/val]",
        "path: ABSOLUTE/set\ntrain: images",
        "path: set\ntrain: ../images/train\nval: ../images/val",  # as Roboflow writes it
        "path: set\ntrain: lists/all.txt",
        "path: ..\\DIR\\set\ntrain: images\\train\nval: ..\\images\\val",  # as Windows writes it
        "path: set\ntrain: lists\\windows.txt",
    ],
)
def test_places_as_people_write_them(tmp_path: Path, yaml: str) -> None:
    folder = tmp_path / "DIR"
    make(folder / "set")
    (folder / "set" / "data.yaml").unlink()
    (folder / "set" / "lists").mkdir()
    listed = f"./images/train/a.png\r\n\n{folder}/set/images/train/b.png\r\nimages/val/c.png"
    (folder / "set" / "lists" / "all.txt").write_text(listed)
    (folder / "set" / "lists" / "windows.txt").write_text(
        ".\\images\\train\\a.png\nimages\\train\\b.png\nimages\\val\\c.png"
    )
    (folder / "my.yaml").write_text(yaml.replace("ABSOLUTE", str(folder)) + "\nnames: [cat, dog]\n")
    data = formats.load(folder)
    assert [Path(r.file_name).name for r in data.images] == ["a.png", "b.png", "c.png"]
    assert [len(data.of(i)) for i in range(3)] == [1, 0, 0]
    assert data.missing_files() == ()


def test_roboflow_and_moved_sets(tmp_path: Path) -> None:
    """train/images beside train/labels; a `path` from another machine; a test part that was not exported."""
    for part in ("train", "valid"):
        (tmp_path / part / "images").mkdir(parents=True)
        (tmp_path / part / "labels").mkdir()
        Image.new("L", (8, 8)).save(tmp_path / part / "images" / "x.y.jpg")
        (tmp_path / part / "labels" / "x.y.txt").write_text("0 0 0 1 0 1 1 0 1\n")
    (tmp_path / "data.yaml").write_text(
        "path: /content/gone\ntrain: ../train/images\nval: ../valid/images\ntest: ../test/images\nnames: ['a']\n"
    )
    data = formats.load(tmp_path)
    assert [len(data.of(i)) for i in range(2)] == [1, 1]
    assert "'path' names /content/gone, which does not exist" in data.notes[0]
    assert "test images are not there" in data.notes[1]


def test_classes_txt_and_labels_beside_images(tmp_path: Path) -> None:
    make(tmp_path, labels={"train/a": "0 0.5 0.5 1 1\n"})
    (tmp_path / "data.yaml").unlink()
    (tmp_path / "classes.txt").write_text("cat\r\ndog\r\n")
    (tmp_path / "images" / "train" / "b.txt").write_text("1 0.5 0.5 1 1\n")
    data = formats.load(tmp_path)
    assert [[a.label for a in data.of(i)] for i in range(3)] == [[0], [1], []]


def test_pose_lines(tmp_path: Path) -> None:
    yaml = YAML + "kpt_shape: [2, 3]\nflip_idx: [1, 0]\nkpt_names:\n  0: [l, r]\n  1: [east, west]\n"
    line = "1 0.5 0.5 0.5 0.5 0.25 0.5 2 0.75 0.5 1\n0 0.5 0.5 0.1 0.1\n"
    data = yolo.load(make(tmp_path, yaml, {"train/a": line}))
    assert data.classes.landmarks == (
        Landmarks(("l", "r"), mirrored=(1, 0)),
        Landmarks(("east", "west"), mirrored=(1, 0)),
    )
    np.testing.assert_array_equal(data.of(0)[0].keypoints, [[10, 10, 2], [30, 10, 1]])
    assert data.of(0)[1].keypoints is None
    np.testing.assert_array_equal(data.truth(0).keypoints[:, :, 2], [[1, 1], [0, 0]])
    flat = yaml.replace("3]", "2]", 1)
    data = yolo.load(make(tmp_path, flat, {"train/a": "1 0.5 0.5 0.5 0.5 0.25 0.5 0 0\n"}))
    np.testing.assert_array_equal(data.of(0)[0].keypoints, [[10, 10, 2], [0, 0, 0]])


def test_a_pose_set_is_written_and_read_back(tmp_path: Path) -> None:
    Image.new("L", (50, 30)).save(tmp_path / "a.png")
    points = np.array([[12.5, 7, 2], [30, 20.25, 1], [0, 0, 0]])
    marks = Landmarks(("left ear", "right ear", "nose"))
    row = Annotation(1, 1, 0, (5, 5, 40, 25), None, 700, keypoints=points)
    bare = Annotation(2, 1, 0, (-5, 5, 60, 25), None, 700)
    data = Dataset(
        Classes(["head"], landmarks=[marks]),
        (ImageRecord(1, "a.png", (30, 50)),),
        {1: (row, bare)},
        tmp_path,
        tmp_path / "x",
    )
    assert yolo.save(tmp_path / "out", data) == ()
    again = yolo.load(tmp_path / "out")
    np.testing.assert_allclose(again.of(0)[0].keypoints, points, atol=1e-5)
    np.testing.assert_allclose(again.of(0)[0].box, row.box, atol=1e-5)
    np.testing.assert_allclose(again.of(0)[1].box, (0, 5, 50, 25), atol=1e-5)  # Ultralytics refuses what lies beyond
    assert again.classes.landmarks == (marks,)
    with pytest.raises(ConfigError, match="images must be copied"):
        yolo.save(tmp_path / "more", data, copy=False)


def test_what_data_yaml_cannot_say_of_landmarks_is_told(tmp_path: Path) -> None:
    Image.new("L", (50, 30)).save(tmp_path / "a.png")
    row = Annotation(1, 1, 0, (5, 5, 40, 25), None, 700, keypoints=np.array([[12.5, 7, 2], [30, 20.25, 1]]))
    data = Dataset(
        Classes(["head", "tail"], landmarks=[Landmarks(("a", "b"), ((0, 1),)), Landmarks(("c", "d"))]),
        (ImageRecord(1, "a.png", (30, 50)),),
        {1: (row,)},
        tmp_path,
        tmp_path / "x",
    )
    assert yolo.save(tmp_path / "out", data) == ("1 class without the links between landmarks: YOLO has none (head).",)
    outlined = replace(row, segmentation=(np.array([5.0, 5, 40, 5, 40, 25]),), keypoints=None)
    lost = yolo.save(tmp_path / "outlined", replace(data, annotations={1: (outlined,)}))
    assert lost == ("2 classes without the landmarks' names and links (head, tail).",)


def test_polygons_and_parts_come_back(tmp_path: Path) -> None:
    """Two decimals survive to the last digit; the part of each image is kept, however it was called."""
    Image.new("L", (641, 427)).save(tmp_path / "a.jpg")
    outline = np.round(np.random.default_rng(0).uniform(1, 426, 24), 2)
    beyond = np.array([600.0, 400, 700, 400, 700, 500, 600, 500])
    rows = (
        Annotation(1, 1, 0, (0, 0, 1, 1), (outline,), 1),
        Annotation(2, 1, 0, (0, 0, 1, 1), (beyond,), 1),
    )
    record = ImageRecord(1, "a.jpg", (427, 641), {"split": "valid"})
    data = Dataset(Classes(["x"]), (record,), {1: rows}, tmp_path, tmp_path / "x")
    yolo.save(tmp_path / "out", data)
    again = yolo.load(tmp_path / "out")
    np.testing.assert_array_equal(again.of(0)[0].segmentation[0], outline)
    np.testing.assert_array_equal(again.masks(0).dense(), data.masks(0).dense())
    assert again.images[0].extra == {"split": "val"}
    assert again.images[0].file_name == "images/val/a.jpg"
    other = replace(data, images=(replace(record, extra={"split": "fold 3"}),))
    yolo.save(tmp_path / "other", other)
    assert yolo.load(tmp_path / "other").images[0].file_name == "images/train/a.jpg"
    yolo.save(tmp_path / "third", again)  # folders do not pile up
    assert yolo.load(tmp_path / "third").images[0].file_name == "images/val/a.jpg"


FAULTS: list[tuple[str, str | bytes, list[str]]] = [
    ("word", "0 0.1 0.1 0.2 x 0.3 0.3\n", ["line 1", "expected numbers", "x"]),
    ("commas", "\n0,0.1,0.1,0.2,0.2\n", ["line 2", "expected numbers"]),
    ("class too high", "0 0.5 0.5 1 1\n2 0.5 0.5 1 1\n", ["line 2", "0..1", "got 2"]),
    ("class negative", "-1 0.5 0.5 1 1\n", ["line 1", "0..1", "got -1"]),
    ("class not whole", "0.5 0.5 0.5 1 1\n", ["line 1", "got 0.5"]),
    ("class nan", "nan 0.5 0.5 1 1\n", ["line 1", "got nan"]),
    ("cut off", "0 0.5 0.5 1 1\n0 0.1 0.1 0.2 0.2 0.3\n", ["line 2", "got 5", "cut off"]),
    ("three numbers", "0 0.5 0.5\n", ["line 1", "got 2"]),
    ("alone", "0\n", ["line 1", "got 0"]),
    ("pixels", "0 10 10 20 10 20 20\n", ["line 1", "0..1", "10 to 20", "pixels"]),
    ("not finite", "0 0.1 0.1 inf 0.2 0.3 0.3\n", ["line 1", "finite"]),
    ("negative box", "0 0.5 0.5 -0.5 0.5\n", ["line 1", "0..1"]),
    ("not text", b"0 0.5 0.5 1 1\n0 \xff\xfe", ["line 2", "not UTF-8"]),
]


@pytest.mark.parametrize(("text", "said"), [f[1:] for f in FAULTS], ids=[f[0] for f in FAULTS])
def test_faulty_lines_say_where_and_what(tmp_path: Path, text: str | bytes, said: list[str]) -> None:
    with pytest.raises(DataError) as caught:
        yolo.load(make(tmp_path, labels={"train/b": text}))
    for words in [str(tmp_path / "labels" / "train" / "b.txt"), *said]:
        assert words in str(caught.value)


YAML_FAULTS = [
    ("names: [cat, dog]\n", "names no images"),
    (YAML.replace("val: images/val", "val: images/none"), "'val' names"),
    (YAML.replace("names: [cat, dog]", "names: {0: cat, 2: dog}"), "must number the classes 0 to 1"),
    (YAML.replace("names: [cat, dog]", "names:"), "'names' must be the class names"),
    (YAML + "nc: 3\n", "'nc' says '3' classes, but 'names' has 2"),
    (YAML + "kpt_shape: 17\n", "'kpt_shape' must be"),
    (YAML + "kpt_shape: [2, 3]\nflip_idx: [0, 0]\n", "'flip_idx' must name each"),
    (YAML + "x: [1, 2\n", "not valid YAML at line"),
    (YAML.replace("images/train", "list.txt"), "line 2: there is no image 'images/train/gone.png'"),
    (YAML.replace("train: images/train", "train: {a: b}"), "'train' must be a folder"),
]


@pytest.mark.parametrize(("yaml", "said"), YAML_FAULTS, ids=[f[1][:20] for f in YAML_FAULTS])
def test_faulty_descriptions_say_what(tmp_path: Path, yaml: str, said: str) -> None:
    make(tmp_path, yaml)
    (tmp_path / "list.txt").write_text("images/train/a.png\nimages/train/gone.png\n")
    with pytest.raises(DataError) as caught:
        yolo.load(tmp_path / "data.yaml")
    assert said in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_missing_and_damaged_images(tmp_path: Path) -> None:
    make(tmp_path, labels={})
    with pytest.raises(DataError, match=r"none of the 3 images has a label file; that of .*a\.png would be .*a\.txt"):
        yolo.load(tmp_path)
    make(tmp_path, labels={"train/a": "0 0.5 0.5 1 1", "train/gone": "0 0.5 0.5 1 1"})
    assert yolo.load(tmp_path).notes == ("1 label file without an image not used (gone.txt).",)
    (tmp_path / "images" / "val" / "c.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"data\.yaml: its image cannot be read: .*c\.png.*empty"):
        yolo.load(tmp_path)
    with pytest.raises(DataError, match=r"other: the image folder of .* does not exist"):
        yolo.load(tmp_path, tmp_path / "other")


def test_sizes_are_upright(tmp_path: Path) -> None:
    make(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20)).save(tmp_path / "images" / "train" / "d.jpg", exif=exif)
    data = yolo.load(tmp_path)
    i = [r.file_name for r in data.images].index("images/train/d.jpg")
    assert data.images[i].size == (40, 20)
    assert data.image(i).shape == (40, 20, 3)


def label_file(image: Path) -> Path:
    """Where Ultralytics looks for it."""
    return Path("/labels/".join(image.as_posix().rsplit("/images/", 1)).rsplit(".", 1)[0] + ".txt")


def read_back_alike(data: Dataset, out: Path) -> Dataset:
    """Writes, reads, and compares the objects of each image; label files lie where both readers look."""
    yolo.save(out, data)
    again = formats.load(out)
    found = {again.path(i).read_bytes(): again.of(i) for i in range(len(again))}
    assert len(found) == len(data)
    for i in range(len(data)):
        assert [(a.label, a.box) for a in found[data.path(i).read_bytes()]] == [(a.label, a.box) for a in data.of(i)]
        assert label_file(again.path(i)).is_file()
    return again


def coloured(folder: Path, names: list[str]) -> Dataset:
    """An image of 20 x 40 for each name, each of its own colour, with one object."""
    for k, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 20), (k, 0, 0)).save(path)
    records = tuple(ImageRecord(k, name, (20, 40)) for k, name in enumerate(names))
    outline = (np.array([4.0, 2, 12, 2, 12, 10, 4, 10]),)
    rows = {k: (Annotation(k, k, 0, (4, 2, 12, 10), outline, 64),) for k in range(len(names))}
    return Dataset(Classes(["cat"]), records, rows, folder, folder)


def test_a_set_of_roboflows_layout_keeps_its_objects(tmp_path: Path) -> None:
    """Images lie in train/images: a second folder of that name in the path hid the labels from every reader."""
    coloured(tmp_path / "set", ["train/images/a.png", "train/images/b.png", "valid/images/a.png"])
    for name in ("train/labels/a", "train/labels/b", "valid/labels/a"):
        path = (tmp_path / "set" / name).with_suffix(".txt")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("0 0.25 0.5 0.5 0.5 0.5 1\n")
    (tmp_path / "set/data.yaml").write_text("train: ../train/images\nval: ../valid/images\nnames: [cat]\n")
    again = read_back_alike(formats.load(tmp_path / "set"), tmp_path / "out")
    assert [r.file_name for r in again.images] == [
        "images/train/a.png", "images/train/b.png", "images/val/valid/a.png",
    ]  # fmt: skip


def test_a_set_of_the_data_science_bowl_keeps_its_objects(tmp_path: Path) -> None:
    formats.save(tmp_path / "bowl", coloured(tmp_path, ["a.png", "b.png"]), "dsb2018")
    again = read_back_alike(formats.load(tmp_path / "bowl"), tmp_path / "out")
    assert [r.file_name for r in again.images] == ["images/train/a/a.png", "images/train/b/b.png"]


def test_folders_called_images_anywhere_do_not_hide_labels(tmp_path: Path) -> None:
    names = ["a.png", "images/b.png", "x/images/c.png", "images/images/y/images/d.png", "Images/e.png"]
    again = read_back_alike(coloured(tmp_path / "set", names), tmp_path / "out")
    written = ["Images/e.png", "a.png", "b.png", "x/c.png", "y/d.png"]
    assert [r.file_name for r in again.images] == [f"images/train/{name}" for name in written]
    twins = coloured(tmp_path / "twins", ["x/images/a.png", "x/a.png"])
    with pytest.raises(
        DataError, match=r"'x/images/a\.png' and 'x/a\.png' would both get the label file 'train/x/a\.txt'"
    ):
        yolo.save(tmp_path / "twins_out", twins)
    assert not (tmp_path / "twins_out").exists()
