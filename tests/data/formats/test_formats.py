"""The table of formats: whatever is written is recognised and reads back as the same images, classes and masks."""

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskwright.data import formats, synthetic
from maskwright.data.dataset import Annotation, Dataset, ImageRecord
from maskwright.data.faults.check import check
from maskwright.data.formats import FORMATS, coco
from maskwright.errors import ConfigError, DataError
from maskwright.media import write_image
from maskwright.ops import masks as mask_ops
from maskwright.types import Classes, Clip, Frame, Masks

NAMES = [name for name, form in FORMATS.items() if form.save is not None]
NO_OVERLAP = {"masks", "voc", "coco_panoptic"}  # one object for each pixel


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Polygons, run lengths, holes, a crowd and an empty image."""
    return formats.load(synthetic.coco_fixture(tmp_path_factory.mktemp("scenes"), 5, images=6, size=(40, 56)))


def digest(data: Dataset, i: int) -> str:
    return hashlib.sha256(data.path(i).read_bytes()).hexdigest()


def objects(data: Dataset, i: int) -> list[tuple[int, bytes]]:
    """Label and pixels of each object that is no crowd, in an order of their own."""
    found = data.truth(i)
    masks = data.draw(i, [a for a in data.of(i) if not a.crowd]).dense()
    return sorted((int(label), np.packbits(mask).tobytes()) for label, mask in zip(found.labels, masks, strict=True))


def assert_same(first: Dataset, second: Dataset) -> None:
    assert second.classes.names == first.classes.names
    assert len(second) == len(first)
    where = {digest(second, i): i for i in range(len(second))}
    for i, record in enumerate(first.images):
        j = where[digest(first, i)]
        assert second.images[j].size == record.size
        assert objects(second, j) == objects(first, i), record.file_name


@pytest.mark.parametrize("name", NAMES)
def test_what_is_written_is_recognised_and_reads_back(tmp_path: Path, scenes: Dataset, name: str) -> None:
    place = tmp_path / "a set ü"
    lost = formats.save(place, scenes, name)
    assert formats.recognise(place).name == name
    again = formats.load(place)
    assert again.root is not None
    assert again.missing_files() == ()
    assert_same(scenes, again)
    crowds = sum(a.crowd for rows in again.annotations.values() for a in rows)
    assert crowds == 1 or any("crowd" in text for text in lost)
    assert [p.name for p in tmp_path.iterdir()] == [place.name]
    assert all(text.endswith(".") for text in lost)


@pytest.mark.parametrize("name", NAMES)
def test_from_every_format_to_coco_and_back(tmp_path: Path, scenes: Dataset, name: str) -> None:
    formats.save(tmp_path / "one", scenes, name)
    formats.save(tmp_path / "two", formats.load(tmp_path / "one"), "coco")
    formats.save(tmp_path / "three", formats.load(tmp_path / "two"), name)
    assert_same(scenes, formats.load(tmp_path / "three"))


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_overwritten_and_a_failure_leaves_nothing(tmp_path: Path, scenes: Dataset, name: str) -> None:
    place = tmp_path / "taken"
    place.mkdir()
    (place / "mine.txt").write_text("old")
    with pytest.raises(DataError, match=r"taken.*exists already"):
        formats.save(place, scenes, name)
    assert [(p.name, p.read_text()) for p in place.iterdir()] == [("mine.txt", "old")]
    gone = replace(scenes, root=tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"6 of 6 image.*missing"):
        formats.save(tmp_path / "new", gone, name)
    assert [p.name for p in tmp_path.iterdir()] == ["taken"]


@pytest.mark.parametrize("name", NAMES)
def test_the_place_in_a_clip_is_kept_or_told(tmp_path: Path, scenes: Dataset, name: str) -> None:
    frame = Frame(Clip(3, "clip"), 0)
    clip = replace(scenes.subset([0]), images=(replace(scenes.images[0], frame=frame),))
    lost = formats.save(tmp_path / "out", clip, name)
    again = formats.load(tmp_path / "out")
    kept = again.images[0].frame is not None
    assert not kept or again.images[0].frame.index == 0
    assert kept != any("the clip and the place in it" in text for text in lost)


@pytest.mark.parametrize("name", [n for n in NAMES if FORMATS[n].one_file])
def test_one_file_holds_no_images(tmp_path: Path, scenes: Dataset, name: str) -> None:
    place = tmp_path / f"set{FORMATS[name].one_file}"
    with pytest.raises(ConfigError, match="holds no images"):
        formats.save(place, scenes, name, copy=True)
    formats.save(place, scenes, name)
    assert formats.recognise(place).name == name
    assert_same(scenes, formats.load(place, scenes.root))
    before = place.read_bytes()
    with pytest.raises(DataError, match="exists already"):
        formats.save(place, scenes, name)
    assert place.read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"{", b"\x00\xff\x89PNG\r\n", b'{"images": [1,', b"[]", b"{}"])
def test_a_folder_says_what_its_broken_file_says(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "set" / "images").mkdir(parents=True)
    file = tmp_path / "set" / "annotations.json"
    file.write_bytes(content)
    said = []
    for place in (file, file.parent):
        with pytest.raises(DataError) as told:
            formats.load(place)
        said.append(str(told.value))
    assert said[0] == said[1]
    assert said[0].startswith(f"{file}: ")
    assert ("not valid JSON at line 1" in said[0]) == (len(content) != 2)


@pytest.mark.parametrize(
    ("name", "said"),
    [("instances.json", "not valid JSON at line 1"), ("annotations.xml", "not valid XML at line 1")],
)
@pytest.mark.parametrize("content", [b"", b"{", b"\x00\xff\x89PNG\r\n"])
def test_a_folder_with_the_file_of_one_format_is_read_as_it(
    tmp_path: Path, name: str, said: str, content: bytes
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=f"{name}: {said}"):
        formats.load(tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_odd_sets(tmp_path: Path, name: str) -> None:
    """An image of one pixel, one of 2 x 300, spaces and dots in names, very many objects."""
    sizes = {"a.b.png": (1, 1), "in ner/ü.png": (2, 300), "c.png": (30, 30)}
    records, rows = [], {}
    for number, (file, size) in enumerate(sizes.items(), start=1):
        write_image(tmp_path / "in" / file, np.full((*size, 3), number, np.uint8))
        records.append(ImageRecord(2**40 + number, file, size))
        pixels = [(0, x) for x in range(0, size[1], 2)] if size[0] < 30 else [(y, y) for y in range(30)]
        crops = Masks(size, np.array(pixels), tuple(np.ones((1, 1), bool) for _ in pixels))
        lengths, boxes = mask_ops.encode(crops), crops.boxes().tolist()
        rows[records[-1].id] = tuple(
            Annotation(1000 * number + k, records[-1].id, k % 2, tuple(box), rle, 1.0)
            for k, (box, rle) in enumerate(zip(boxes, lengths, strict=True))
        )
    data = Dataset(Classes(["an object, 1", "naïve"], [0, 7]), tuple(records), rows, tmp_path / "in", tmp_path / "x")
    formats.save(tmp_path / "out", data, name)
    assert_same(data, formats.load(tmp_path / "out", format=name))


@pytest.mark.parametrize("name", [n for n in NAMES if n not in NO_OVERLAP])
def test_overlapping_objects_keep_their_pixels(tmp_path: Path, name: str) -> None:
    dense = np.zeros((3, 20, 30), bool)
    dense[0, 2:12, 2:12] = dense[1, 5:15, 5:15] = dense[2, 5:15, 5:15] = True
    dense[0, 4:7, 4:7] = False  # a hole
    dense[1, 17:19, 20:25] = True  # a second part
    assert_same(*converted(tmp_path, dense, name))


@pytest.mark.parametrize("name", sorted(NO_OVERLAP))
def test_overlaps_that_are_lost_are_told(tmp_path: Path, name: str) -> None:
    dense = np.zeros((2, 20, 30), bool)
    dense[0, 2:12, 2:12] = dense[1, 5:15, 5:15] = True
    _, second = converted(tmp_path, dense, name)
    assert sorted(second.truth(0).crops.areas().tolist()) == [100 - 49, 100]


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("name", sorted(NO_OVERLAP))
def test_small_objects_lie_on_top_of_large_ones(tmp_path: Path, name: str, reverse: bool) -> None:
    dense = np.zeros((4, 20, 30), bool)
    dense[0, 1:19, 1:29] = dense[1, 4:12, 4:12] = dense[2, 6:9, 6:9] = dense[3, 15:17, 20:25] = True
    _, second = converted(tmp_path, dense[::-1] if reverse else dense, name)
    assert sorted(second.truth(0).crops.areas().tolist()) == [9, 10, 64 - 9, 18 * 28 - 64 - 10]


@pytest.mark.parametrize("name", sorted(NO_OVERLAP))
def test_objects_that_are_hidden_wholly_are_counted(tmp_path: Path, name: str) -> None:
    dense = np.zeros((3, 20, 30), bool)
    dense[0, 2:12, 2:12] = dense[1, 2:7, 2:12] = dense[2, 7:12, 2:12] = True
    data, second = converted(tmp_path, dense, name)
    assert len(second.of(0)) == 2
    said = formats.save(tmp_path / "again", data, name)
    assert "1 object hidden wholly by others, or without a pixel, left out (a.png)." in said


@pytest.mark.parametrize("name", NAMES)
def test_fields_that_a_format_does_not_have_are_named(tmp_path: Path, scenes: Dataset, name: str) -> None:
    images = tuple(replace(r, extra={"license": 4, "coco_url": ""}) for r in scenes.images)
    rows = {i: tuple(replace(a, extra={"note": "dim"}) for a in own) for i, own in scenes.annotations.items()}
    kinds = tuple({"supercategory": "thing"} for _ in scenes.classes)
    full = replace(scenes, images=images, annotations=rows, class_extra=kinds, extra={"licenses": [{"id": 4}]})
    told = set(formats.save(tmp_path / name, full, name)) - set(formats.save(tmp_path / "plain", scenes, name))
    again, form = formats.load(tmp_path / name), FORMATS[name].fields
    first = next(a for own in again.annotations.values() for a in own)
    for kept, there, said in (
        (form.images is None, again.images[0].extra.get("license"), r"6 images without fields .*\(license\)"),
        (
            form.objects is None,
            first.extra.get("note"),
            r"\(note\)",
        ),
        (form.classes, again.class_extra and again.class_extra[0], r"\d class.*\(supercategory\)"),
        (form.file, again.extra.get("licenses"), r"1 section of the file left out \(licenses\)"),
    ):
        assert bool(there) == kept
        assert any(re.search(said, text) for text in told) != kept
    assert not any("coco_url" in text for text in told)


def converted(folder: Path, dense: np.ndarray, name: str) -> tuple[Dataset, Dataset]:
    write_image(folder / "a.png", np.zeros((*dense.shape[1:], 3), np.uint8))
    masks = Masks.from_dense(dense)
    rows = tuple(
        Annotation(k, 1, 0, tuple(box), rle, float(area))
        for k, (box, rle, area) in enumerate(
            zip(masks.boxes().tolist(), mask_ops.encode(masks), masks.areas(), strict=True), start=1
        )
    )
    data = Dataset(Classes(["thing"]), (ImageRecord(1, "a.png", masks.size),), {1: rows}, folder, folder / "x")
    lost = formats.save(folder / "out", data, name)
    assert bool(lost) == (name in NO_OVERLAP)
    return data, formats.load(folder / "out")


@given(seed=st.integers(0, 2**32 - 1), height=st.integers(1, 40), width=st.integers(1, 40))
@settings(max_examples=40, deadline=None)
def test_yolo_polygons_keep_every_pixel_of_any_mask(
    tmp_path_factory: pytest.TempPathFactory, seed: int, height: int, width: int
) -> None:
    rng = np.random.default_rng(seed)
    dense = rng.random((2, height, width)) < rng.uniform(0.05, 0.95)
    dense[:, rng.integers(height), rng.integers(width)] = True
    folder = tmp_path_factory.mktemp("yolo")
    assert_same(*converted(folder, dense, "yolo"))


def test_unclear_places_and_names(tmp_path: Path, scenes: Dataset) -> None:
    with pytest.raises(ConfigError, match=r"no format 'yollo'.*Did you mean 'yolo'"):
        formats.load(scenes.source, format="yollo")
    with pytest.raises(DataError, match=r"nothing: there is no such file or folder"):
        formats.load(tmp_path / "nothing")
    (tmp_path / "a.json").write_text("[1, 2]")
    with pytest.raises(DataError, match=r"a\.json: .*result list.*Give the annotation file that it belongs to"):
        formats.load(tmp_path / "a.json")
    formats.save(tmp_path / "b", scenes, "coco")
    formats.save(tmp_path / "m", scenes, "masks")
    (tmp_path / "m" / "masks").rename(tmp_path / "b" / "masks")
    with pytest.raises(DataError, match="fits: coco and masks"):
        formats.load(tmp_path / "b")
    assert len(formats.load(tmp_path / "b", format="coco")) == 6


def test_what_is_like_no_format_is_described(tmp_path: Path) -> None:
    def said(*files: str) -> str:
        place = tmp_path / str(len(list(tmp_path.iterdir())))
        place.mkdir()
        for file in files:
            (place / file).parent.mkdir(exist_ok=True)
            (place / file).write_bytes(b"")
        with pytest.raises(DataError) as caught:
            formats.load(place)
        assert caught.value.options == ("data_format",)
        return str(caught.value)

    empty = said()
    assert "this is an empty folder." in empty
    assert all(f.name in empty and f.summary in empty for f in FORMATS.values())
    assert "name its format" in empty
    assert "this is a folder of 3 images and no annotations." in said("a.png", "b.JPG", "in ner/ü.tif", ".hidden")
    assert "this is a folder of 1 image, 2 files of suffix '.md', 1 file without suffix." in said(
        "a.png", "b.md", "c.md", "README"
    )
    assert "others." in said(*(f"a.x{k}" for k in range(9)))
    (tmp_path / "none" / "below").mkdir(parents=True)
    with pytest.raises(DataError, match="a folder without a file in it"):
        formats.load(tmp_path / "none")
    for name, words in (
        ("set.ZIP", "Unpack it first"),
        ("set.tar.gz", "Unpack it first"),
        ("notes.docx", r"a file of suffix '\.docx'"),
        ("notes", "this is a file"),
    ):
        (tmp_path / name).write_bytes(b"PK")
        with pytest.raises(DataError, match=words):
            formats.load(tmp_path / name)


def test_images_are_found_beside_a_coco_file(tmp_path: Path, scenes: Dataset) -> None:
    formats.save(tmp_path / "set", scenes, "coco")
    assert formats.load(tmp_path / "set" / "annotations.json").root == tmp_path / "set" / "images"
    coco.save(tmp_path / "set" / "annotations" / "train.json", scenes)
    assert formats.load(tmp_path / "set" / "annotations" / "train.json").root == tmp_path / "set" / "images"
    coco.save(tmp_path / "set" / "images" / "train.json", scenes)
    assert formats.load(tmp_path / "set" / "images" / "train.json").root == tmp_path / "set" / "images"
    coco.save(tmp_path / "lost.json", scenes)
    assert len(formats.load(tmp_path / "lost.json").missing_files()) == 6


def test_images_that_would_get_one_name_are_refused(tmp_path: Path, scenes: Dataset) -> None:
    first, second = scenes.images[:2]
    twins = replace(
        scenes,
        images=(first, replace(second, size=first.size, file_name=str(scenes.path(1)).replace("0001", "x/../0000"))),
    ).subset([0, 1])
    (scenes.path(0).parent / "x").mkdir(exist_ok=True)
    for name in NAMES:
        with pytest.raises(DataError, match=r"would both|same|one name"):
            formats.save(tmp_path / name, twins, name)
    assert list(tmp_path.iterdir()) == []


# ---- names of images as Windows writes them -----------------------------------------------------------------------


def windows(folder: Path, name: str, file: Path) -> None:
    """Moves the images of a written set one folder down and names them with backslashes in its file."""
    for path in list((folder / name).iterdir()):
        (folder / name / "sub").mkdir(exist_ok=True)
        path.rename(folder / name / "sub" / path.name)
    text = file.read_text()
    for path in (folder / name / "sub").iterdir():
        text = text.replace(f'"{path.name}"', json.dumps(f"sub\\{path.name}"))
    file.write_text(text)


@pytest.mark.parametrize(("name", "source_images"), [("coco", "images"), ("youtube_vis", "JPEGImages")])
def test_backslashes_of_windows_are_understood(tmp_path: Path, scenes: Dataset, name: str, source_images: str) -> None:
    place = tmp_path / "set"
    formats.save(place, scenes, name)
    file = next(place.glob("*.json"))
    windows(place, source_images, file)
    for source, images in ((place, None), (file, place / source_images)):
        again = formats.load(source, images)
        assert again.images[0].file_name.startswith("sub/")
        assert again.missing_files() == ()
        assert again.notes[-1].startswith("6 image names with \\ between folders read with /, as the files lie (sub\\0")
        assert_same(scenes, again)
    found = check(place)
    assert [f.fault for f in found.findings if "image" not in f.fault] == ["file-name-spelling"] * 6
    assert found.counts["opened"] == 6


def test_a_file_that_has_a_backslash_in_its_name_is_that_file(tmp_path: Path, scenes: Dataset) -> None:
    (tmp_path / "sub").mkdir()
    for name, shade in (("sub\\a.png", 10), ("sub/a.png", 20), ("sub/b.png", 30)):
        write_image(tmp_path / name, np.full((*scenes.images[0].size, 3), shade, np.uint8))
    names = ("sub\\a.png", "sub\\b.png", "sub\\c.png")
    records = tuple(replace(r, file_name=name) for r, name in zip(scenes.images, names, strict=False))
    coco.save(tmp_path / "a.json", replace(scenes.subset(range(3)), images=records))
    data = formats.load(tmp_path / "a.json")
    assert [r.file_name for r in data.images] == ["sub\\a.png", "sub/b.png", "sub\\c.png"]
    assert data.image(0).max() == 10
    assert [path.name for path in data.missing_files()] == ["sub\\c.png"]
