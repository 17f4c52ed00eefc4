"""Files and folders as other tools write them: read, or named; and written so that those tools read them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from maskwright.data import formats
from maskwright.data.dataset import Annotation, Dataset, ImageRecord
from maskwright.data.faults.check import check
from maskwright.data.faults.repair import repair
from maskwright.data.formats import coco
from maskwright.errors import ConfigError, DataError
from maskwright.ops import masks as mask_ops
from maskwright.training.split import DataSettings, split_data
from maskwright.types import Classes, Masks

SQUARE = [20, 10, 50, 10, 50, 30, 20, 30]


def photo(path: Path, size: tuple[int, int] = (60, 80)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(ord(path.name[0])).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def row(number: int = 1, image: Any = 1, **more: Any) -> dict[str, Any]:
    own = {"id": number, "image_id": image, "category_id": 1, "iscrowd": 0, "area": 600, "bbox": [20, 10, 30, 20]}
    return {**own, "segmentation": [SQUARE], **more}


def dump(path: Path, *rows: dict[str, Any], images: list[dict[str, Any]] | None = None, **more: Any) -> Path:
    """A COCO file of one image p.png, 60 high and 80 wide, and one class."""
    path.parent.mkdir(parents=True, exist_ok=True)
    images = images or [{"id": 1, "file_name": "p.png", "height": 60, "width": 80}]
    content = {"images": images, "annotations": list(rows), "categories": [{"id": 1, "name": "c"}], **more}
    path.write_text(json.dumps(content))
    return path


# ---- COCO: fields of other tools ------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [1, True, 1.0, "1", "true", "True"])
@pytest.mark.parametrize("attribute", [False, True])
def test_regions_to_ignore_are_crowds(tmp_path: Path, value: Any, attribute: bool) -> None:
    own = {"attributes": {"ignore": value}} if attribute else {"ignore": value}
    data = coco.load(dump(tmp_path / "a.json", row(), row(2, **own), row(3, ignore=0)))
    assert [a.crowd for a in data.of(0)] == [False, True, False]
    assert any('"ignore": 1: 1 (ids 2); read as crowd regions' in note for note in data.notes)
    counts = {f.fault for f in check(tmp_path / "a.json", files=False).findings}
    assert "crowd-as-polygon" in counts


def test_a_turned_box_of_cvat_is_an_outline(tmp_path: Path) -> None:
    turned = {"occluded": True, "rotation": 90.0}
    data = coco.load(dump(tmp_path / "a.json", row(segmentation=[], attributes=turned), row(2, segmentation=[])))
    first, second = data.of(0)
    assert first.box == pytest.approx((25, 5, 45, 35))
    assert data.draw(0, [first]).areas().tolist() == [600]
    assert first.extra["attributes"] == {"occluded": True}
    assert second.segmentation is None
    assert any('"rotation": 1 (ids 1)' in note for note in data.notes)


@pytest.mark.parametrize("size", [{"width": None, "height": None}, {"width": None, "height": 60}, {}])
def test_sizes_that_the_file_lacks_are_those_of_the_images(tmp_path: Path, size: dict[str, int | None]) -> None:
    path = dump(tmp_path / "a.json", row(), images=[{"id": 1, "file_name": "p.png", **size}])
    state = {0: "'height' and 'width' are missing", 1: "'width' is null", 2: "'height' and 'width' are null"}
    nulls = sum(v is None for v in size.values())
    with pytest.raises(DataError, match=rf"image id 1: {state[nulls]}.*not found") as told:
        formats.load(path)
    assert told.value.options == ("images",)
    photo(tmp_path / "p.png")
    data = formats.load(path)
    assert data.images[0].size == (60, 80)
    assert any("1 image without height and width in the file" in note for note in data.notes)


def test_ids_that_are_names_become_numbers(tmp_path: Path) -> None:
    photo(tmp_path / "p.png")
    images = [{"id": name, "file_name": "p.png", "height": 60, "width": 80} for name in ("img_b", "7")]
    images[1]["file_name"] = "q.png"
    path = dump(tmp_path / "a.json", row("x-1", "7"), row("x-2", "img_b"), images=images)
    data = coco.load(path)
    assert [r.id for r in data.images] == [1, 2]
    assert [[a.id for a in data.of(i)] for i in range(2)] == [[2], [1]]
    assert data.images[0].extra == {"original_id": "img_b"}
    assert [note for note in data.notes if "ids of the 2 'images' are names" in note]
    result = {"image_id": "img_b", "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}
    (tmp_path / "r.json").write_text(json.dumps([result]))
    assert len(coco.read_results(tmp_path / "r.json", data)[1]) == 1
    named = json.loads(path.read_text().replace('"category_id": 1', '"category_id": "cat"'))
    named["categories"] = [{"id": "cat", "name": "c"}]
    path.write_text(json.dumps(named))
    (tmp_path / "r.json").write_text(json.dumps([{**result, "category_id": "cat"}]))
    assert len(coco.read_results(tmp_path / "r.json", coco.load(path))[1]) == 1
    photo(tmp_path / "q.png")
    made = repair(path, tmp_path / "out", tmp_path)
    assert {f.fault for f, _ in made.done} == {"id-as-text"}
    copy = coco.load(tmp_path / "out/annotations.json")
    assert (len(copy), sum(map(len, copy.annotations.values()))) == (2, 2)
    assert copy.notes == ()


def test_results_name_their_images_by_file_and_their_classes_by_name(tmp_path: Path) -> None:
    """As Ultralytics writes ids where names of files are no numbers; a name of two files, and another, is refused."""
    names = ("a/p.png", "b/p.png", "a/q.v2.png", "7.png")
    for name in names:
        photo(tmp_path / name)
    images = [{"id": k, "file_name": name, "width": 20, "height": 20} for k, name in enumerate(names, start=4)]
    content = {"images": images, "annotations": [], "categories": [{"id": 3, "name": "cat"}, {"id": 5, "name": "9"}]}
    (tmp_path / "a.json").write_text(json.dumps(content))
    data = coco.load(tmp_path / "a.json", tmp_path)

    def found(image: object, category: object = 3) -> list[int]:
        result = {"image_id": image, "category_id": category, "bbox": [1, 1, 2, 2], "score": 0.5}
        (tmp_path / "r.json").write_text(json.dumps([result]))
        return [k for k, rows in coco.read_results(tmp_path / "r.json", data).items() if rows]

    assert [found(name) for name in ("a/p.png", "b/p", "q.v2.png", "q.v2", "a/q.v2")] == [[4], [5], [6], [6], [6]]
    assert found("7") == found(7) == [7]
    assert found(5, "cat") == [5]
    for wrong in ("p.png", "p", "c"):
        with pytest.raises(DataError, match=rf"result 0: image_id '{wrong}' is not an image of .*a\.json"):
            found(wrong)
    with pytest.raises(DataError, match=r"result 0: category_id 'dog' is not a class of .*a\.json"):
        found(4, "dog")


# ---- COCO: folders --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image", "file"),
    [
        ("train2017/p.png", "annotations/instances_train2017.json"),
        ("images/train2017/p.png", "annotations/instances_train2017.json"),
        ("images/train/p.png", "annotations/instances_train.json"),
        ("images/p.png", "annotations/instances_default.json"),
        ("images/default/p.png", "annotations/instances_default.json"),
        ("images/p.png", "annotations/person_keypoints_default.json"),
        ("train/p.png", "annotations/train.json"),
        ("p.png", "_annotations.coco.json"),
        ("train/p.png", "train/_annotations.coco.json"),
        ("data/p.png", "labels.json"),
        ("images/p.png", "annotations.json"),
    ],
)
def test_the_usual_folders(tmp_path: Path, image: str, file: str) -> None:
    photo(tmp_path / image)
    dump(tmp_path / file, row())
    for data in (formats.load(tmp_path), formats.load(tmp_path, format="coco")):
        assert data.missing_files() == ()
        assert [len(data.of(i)) for i in range(len(data))] == [1]
        assert data.parts() == {}
    assert check(tmp_path).counts == {"images": 1, "annotations": 1, "classes": 1, "opened": 1}


@pytest.mark.parametrize(
    ("folders", "file"),
    [
        (("train2017", "val2017"), "annotations/instances_{}.json"),
        (("images/train", "images/val"), "annotations/instances_{}.json"),
        (("train", "valid"), "{}/_annotations.coco.json"),
    ],
)
def test_files_of_one_folder_are_the_parts_of_one_set(tmp_path: Path, folders: tuple[str, str], file: str) -> None:
    for folder in folders:
        photo(tmp_path / folder / "p.png")
        dump(tmp_path / file.format(Path(folder).name), row(), info={"part": folder})
    dump(tmp_path / "annotations" / "captions_train2017.json", row())
    if "{}/" in file:
        (tmp_path / "annotations" / "captions_train2017.json").unlink()
    data = formats.load(tmp_path)
    assert data.missing_files() == ()
    assert [len(part) for part in data.parts().values()] == [1, 1]
    assert sorted(r.file_name for r in data.images) == [f"{f}/p.png" for f in folders]
    assert len({a.id for rows in data.annotations.values() for a in rows}) == 2
    assert "The 2 annotation files use the same ids; images and annotations are numbered anew." in data.notes
    other = tmp_path / file.format(Path(folders[1]).name)
    other.write_text(other.read_text().replace('"name": "c"', '"name": "d"'))
    with pytest.raises(DataError, match=r"belongs to one data set with .* but their classes differ \(1 c, 1 d\)"):
        formats.load(tmp_path)


@pytest.mark.parametrize("part", ["valid", "test"])
def test_a_set_that_has_a_held_out_part_alone_says_so(part: str, tmp_path: Path) -> None:
    """Training then tells that it is not the part train that it learns from."""
    for k in range(3):
        photo(tmp_path / part / f"p{k}.png")
    dump(tmp_path / part / "_annotations.coco.json", row())
    content = json.loads((tmp_path / part / "_annotations.coco.json").read_text())
    content["images"] = [{**content["images"][0], "id": k + 1, "file_name": f"p{k}.png"} for k in range(3)]
    content["annotations"] = [{**content["annotations"][0], "id": k + 1, "image_id": k + 1} for k in range(3)]
    (tmp_path / part / "_annotations.coco.json").write_text(json.dumps(content))
    assert {name: len(data) for name, data in formats.load(tmp_path).parts().items()} == {part: 3}
    chosen = split_data(DataSettings(str(tmp_path)))
    assert f"not by the parts of the data ('{part}'), none is called train" in chosen.chosen_by


def test_parts_without_images_and_folders_without_annotations_are_told(tmp_path: Path) -> None:
    for name in ("train", "valid", "test"):
        photo(tmp_path / name / "p.png")
    dump(tmp_path / "train/_annotations.coco.json", row())
    (note,) = formats.load(tmp_path).notes
    assert note == "2 images in folders without an annotation file left out (test, valid)."
    content = json.loads((tmp_path / "train/_annotations.coco.json").read_text())
    (tmp_path / "valid/_annotations.coco.json").write_text(json.dumps({**content, "images": [], "annotations": []}))
    data = formats.load(tmp_path)
    assert {name: len(part) for name, part in data.parts().items()} == {"train": 1}
    assert f"{tmp_path / 'valid/_annotations.coco.json'} lists no images." in data.notes
    assert "1 image in folders without an annotation file left out (test)." in data.notes


def test_two_files_with_one_image_are_refused(tmp_path: Path) -> None:
    photo(tmp_path / "images/p.png")
    for name in ("instances_a.json", "instances_b.json"):
        dump(tmp_path / "annotations" / name, row())
    with pytest.raises(DataError, match=r"instances_a\.json and instances_b\.json both name the image images/p\.png"):
        formats.load(tmp_path)


# ---- files of other tools are named ---------------------------------------------------------------------------------

VIA = {"filename": "p.png", "size": 9, "regions": [], "file_attributes": {}}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"p.png9": VIA}, r"VGG Image Annotator \(VIA\)\. Export COCO there"),
        ({"_via_settings": {}, "_via_img_metadata": {"p.png9": VIA}}, "VGG Image Annotator"),
        ({"info": {}, "categories": {}, "items": []}, "Datumaro's own JSON"),
        ([{"data_row": {}, "projects": {}}], "Labelbox"),
        ({"description": "", "tags": [], "size": {}, "objects": []}, "Supervisely"),
        ([{"image": "p.png", "annotations": []}], "CreateML"),
    ],
)
def test_files_of_other_tools_are_named(tmp_path: Path, content: Any, said: str) -> None:
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=rf"a\.json: this is .*{said}"):
        formats.load(tmp_path / "a.json")


# ---- the form of outlines -------------------------------------------------------------------------------------------


def scene(folder: Path) -> Dataset:
    """A mask of two parts and a hole, a polygon, a box, and a crowd region with a polygon."""
    photo(folder / "p.png", (20, 30))
    dense = np.zeros((1, 20, 30), bool)
    dense[0, 2:12, 2:12] = dense[0, 14:17, 20:25] = True
    dense[0, 4:7, 4:7] = False
    masks = Masks.from_dense(dense)
    ring = np.array([3, 3, 9, 3, 9, 8.5])
    rows = (
        Annotation(1, 1, 0, (2, 2, 25, 17), mask_ops.encode(masks)[0], float(dense.sum())),
        Annotation(2, 1, 0, (3, 3, 9, 8.5), (ring,), 18.0),
        Annotation(3, 1, 0, (23, 13, 29, 18.5), (ring + 10,), 18.0, crowd=True),
    )
    return Dataset(Classes(["c"]), (ImageRecord(1, "p.png", (20, 30)),), {1: rows}, folder, folder / "x")


@pytest.mark.parametrize("name", ["coco", "labelme", "cvat", "youtube_vis"])
@pytest.mark.parametrize("form", [None, "polygon", "rle"])
def test_outlines_of_one_form_fill_the_same_pixels(tmp_path: Path, name: str, form: str | None) -> None:
    data = scene(tmp_path / "in")
    assert formats.save(tmp_path / "out", data, name, segmentation=form) == ()
    back = formats.load(tmp_path / "out")
    np.testing.assert_array_equal(back.masks(0).dense(), data.masks(0).dense())
    kinds = {isinstance(a.segmentation, dict) for a in back.of(0)}
    assert form is None or kinds == {form == "rle"}
    if name == "coco":
        assert isinstance(back.of(0)[2].segmentation, dict) == (form != "polygon")  # a crowd: run lengths in COCO


def test_labelme_masks_are_read_by_its_own_rule(tmp_path: Path) -> None:
    formats.save(tmp_path / "out", scene(tmp_path / "in"), "labelme", segmentation="rle")
    shapes = json.loads((tmp_path / "out/p.json").read_text())["shapes"]
    assert {s["shape_type"] for s in shapes} == {"mask"}
    assert shapes[0]["points"] == [[2, 2], [24, 16]]


def test_forms_that_are_not_offered(tmp_path: Path) -> None:
    data = scene(tmp_path / "in")
    with pytest.raises(ConfigError, match="yolo has one form of outlines"):
        formats.save(tmp_path / "out", data, "yolo", segmentation="rle")
    with pytest.raises(ConfigError, match=r"segmentation is one of polygon, rle, got 'polygons'.*Did you mean"):
        formats.save(tmp_path / "out", data, "coco", segmentation="polygons")
    assert not (tmp_path / "out").exists()


# ---- numbers of NumPy -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["coco", "labelme", "youtube_vis"])
def test_numbers_of_numpy_are_written_as_numbers(tmp_path: Path, name: str) -> None:
    photo(tmp_path / "p.png", (20, 30))
    box: Any = tuple(np.array([1.5, 2, 9, 8], np.float32))
    extra: Any = {"score": np.float32(0.5), "seen": np.bool_(True)}
    extra |= {} if name == "youtube_vis" else {"more": np.arange(2)}
    number: Any = np.int64(1)
    rows = (Annotation(number, number, 0, box, None, np.float32(45), track_id=number, extra=extra),)  # type: ignore[arg-type]
    data = Dataset(Classes(["c"]), (ImageRecord(number, "p.png", (20, 30)),), {number: rows}, tmp_path, tmp_path / "x")
    formats.save(tmp_path / "out", data, name)
    (back,) = formats.load(tmp_path / "out").of(0)
    assert back.box == (1.5, 2, 9, 8)
    assert back.extra["score"] == 0.5
    assert back.extra["seen"] is True
    assert back.extra.get("more", [0, 1]) == [0, 1]
    broken = Annotation(1, 1, 0, (0, 0, 1, 1), None, 1.0, extra={"when": Path("x")})
    data = Dataset(data.classes, data.images, {1: (broken,)}, tmp_path, tmp_path / "x")
    with pytest.raises(DataError, match=r"cannot be written as JSON \(PosixPath\('x'\) is of the type PosixPath"):
        formats.save(tmp_path / "bad", data, name)
    assert not (tmp_path / "bad").exists()


# ---- Darknet --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["data/", ""])
def test_darknet_folders_are_read(tmp_path: Path, prefix: str) -> None:
    for name in ("a", "b"):
        photo(tmp_path / f"obj_train_data/{name}.png", (20, 40))
        (tmp_path / f"obj_train_data/{name}.txt").write_text("1 0.5 0.5 0.25 0.5\n")
    (tmp_path / "obj.names").write_text("cat\ndog\n")
    lists = {"train": "a", "valid": "b"}
    for part, name in lists.items():
        (tmp_path / f"{part}.txt").write_text(f"{prefix}obj_train_data/{name}.png\n")
    rows = [f"{part} = {prefix}{part}.txt\n" for part in lists]
    text = f"classes = 2\n{''.join(rows)}names = {prefix}obj.names\nbackup = backup/\n"
    (tmp_path / "obj.data").write_text(text)
    for place in (tmp_path, tmp_path / "obj.data"):
        assert formats.recognise(place).name == "yolo"
        data = formats.load(place)
        assert [r.extra["split"] for r in data.images] == ["train", "val"]
        assert [(data.classes[a.label], a.box) for a in data.of(0)] == [("dog", (15, 5, 25, 15))]
    (tmp_path / "obj.data").write_text(text.replace("classes = 2", "classes = 3"))
    with pytest.raises(DataError, match=r"obj\.data: .*'classes' says '3' classes, but 'names' has 2"):
        formats.load(tmp_path)
    (tmp_path / "obj.names").unlink()
    with pytest.raises(DataError, match=r"obj\.data: 'names' must be the file of the class names"):
        formats.load(tmp_path)
