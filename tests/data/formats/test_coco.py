"""COCO files: what is read, what is refused and how it is said, and that writing gives the same back."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from maskwright.data import synthetic
from maskwright.data.dataset import Dataset
from maskwright.data.formats import coco
from maskwright.errors import ConfigError, DataError
from maskwright.results.prediction import Prediction
from maskwright.types import Classes


def content() -> dict[str, Any]:
    """A small file with every kind of outline; ids are sparse, zero, large, and one is a string."""
    return {
        "info": {"year": 2024},
        "images": [
            {"id": 900000000001, "file_name": "a.png", "height": 20, "width": 30, "license": 4},
            {"id": 0, "file_name": "sub/b.png", "height": 11, "width": 7},
            {"id": "17", "file_name": "empty.png", "height": 5, "width": 5},
        ],
        "annotations": [
            {
                "id": 0,
                "image_id": 900000000001,
                "category_id": 90,
                "bbox": [2, 3, 10.5, 8],
                "area": 60.5,
                "iscrowd": 0,
                "segmentation": [[2, 3, 12.5, 3, 12.5, 11, 2, 11], [20, 2, 28, 2, 24, 9]],
            },
            {
                "id": 5,
                "image_id": 900000000001,
                "category_id": 0,
                "iscrowd": 1,
                "bbox": [0, 0, 30, 1],
                "area": 30,
                "segmentation": {"size": [20, 30], "counts": [0, 1] + [19, 1] * 29 + [19]},
            },
            {"id": 7, "image_id": 0, "category_id": 7, "segmentation": [[1, 1, 5, 1, 5, 9, 1, 9]]},
            {"id": 8, "image_id": 0, "category_id": 7, "segmentation": rle(11, 7)},
        ],
        "categories": [{"id": 90, "name": "last"}, {"id": 0, "name": "first"}, {"id": 7, "name": "middle"}],
    }


def rle(height: int, width: int) -> dict[str, Any]:
    """Compressed run lengths of a corner 3 high, 4 wide."""
    bitmap = np.zeros((height, width), np.uint8, order="F")
    bitmap[:3, :4] = 1
    encoded = coco_mask.encode(bitmap)
    return {"size": encoded["size"], "counts": encoded["counts"].decode()}


def write(folder: Path, value: Any) -> Path:
    """A JSON file of `value`, or of the text itself."""
    path = folder / "annotations.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def test_reads_ids_outlines_and_defaults(tmp_path: Path) -> None:
    data = coco.load(write(tmp_path, content()))
    assert data.classes == Classes(["first", "middle", "last"], [0, 7, 90])
    assert [r.id for r in data.images] == [900000000001, 0, 17]
    assert data.images[0].extra == {"license": 4}
    assert data.index(17) == 2
    first, crowd = data.of(0)
    assert (first.id, first.label, first.box, first.area, first.crowd) == (0, 2, (2, 3, 12.5, 11), 60.5, False)
    assert (crowd.label, crowd.crowd) == (0, True)
    polygon, lengths = data.of(1)
    assert (polygon.box, lengths.box) == ((1, 1, 5, 9), (0, 0, 4, 3))
    assert (polygon.area, lengths.area) == (32, 12)
    assert data.of(2) == ()
    assert len(data.masks(2)) == 0
    assert data.masks(2).size == (5, 5)
    assert data.notes == ()
    assert data.has_masks


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools and NumPy 2
def test_masks_equal_the_coco_api(tmp_path: Path) -> None:
    path = write(tmp_path, {**content(), "images": [{**i, "id": int(i["id"])} for i in content()["images"]]})
    data, api = coco.load(path), quiet_api(path)
    for i in range(len(data)):
        dense = data.masks(i).dense()
        for row, annotation in zip(dense, data.of(i), strict=True):
            np.testing.assert_array_equal(row, api.annToMask(api.anns[annotation.id]).astype(bool))


def quiet_api(path: Path) -> COCO:
    """The COCO API's own reading of a file."""
    api = COCO()
    api.dataset = json.loads(path.read_text())
    api.createIndex()
    return api


def broken(**changes: Any) -> dict[str, Any]:
    """The good content with fields of the third annotation replaced."""
    value = content()
    value["annotations"][2].update(changes)
    return value


def without(section: str, key: str, position: int = 0) -> dict[str, Any]:
    value = content()
    del value[section][position][key]
    return value


def twice(section: str) -> dict[str, Any]:
    value = content()
    value[section].append(dict(value[section][0]))
    return value


FAULTS: list[tuple[str, Any, list[str]]] = [
    ("text", '{"images": [],\n "annotations": [,', ["line 2, column 18", "cut off"]),
    ("binary", "\x00\x01", ["not valid JSON"]),
    ("list", [{"image_id": 1}], ["annotation file that it belongs to"]),
    ("no images", {"annotations": [], "categories": []}, ["needs the list 'images'", "['annotations', 'categories']"]),
    ("no annotations", {"images": [], "categories": []}, ["needs the list 'annotations'", '"annotations": []']),
    ("no categories", {"images": [], "annotations": []}, ["needs the list 'categories'"]),
    ("no class", {"images": [], "annotations": [], "categories": []}, ["at least one class"]),
    ("nameless class", without("categories", "name"), ["category id 90 has no name"]),
    ("class twice", twice("categories"), ["category id 90 is used twice"]),
    ("image twice", twice("images"), ["image id 900000000001", "used twice", "a.png"]),
    ("annotation twice", twice("annotations"), ["annotation id 0 is used twice"]),
    ("no height", without("images", "height"), ["image id 900000000001", "'height' is missing"]),
    ("no file", without("images", "file_name"), ["image id 900000000001", "'file_name'"]),
    ("no annotation id", without("annotations", "id", 2), ["annotation 2 of the list", "'id' is missing"]),
    ("word as id", broken(id="seven"), ["'id' must be an integer, got 'seven'"]),
    ("signs as id", broken(id="--7"), ["'id' must be an integer, got '--7'"]),
    ("other image", broken(image_id=4), ["annotation id 7", "image_id 4 is not in the list 'images'"]),
    ("other class", broken(category_id=4), ["annotation id 7", "category_id 4", "0 first, 7 middle, 90 last"]),
    ("odd polygon", broken(segmentation=[[1, 1, 2, 2, 3, 3, 4]]), ["annotation id 7", "even number", "got 7"]),
    ("short polygon", broken(segmentation=[[1, 1, 2, 2]]), ["annotation id 7", "at least 6", "got 4"]),
    ("flat polygon", broken(segmentation=[1, 1, 2, 2, 3, 3]), ["annotation id 7", "an outline is a list of polygons"]),
    ("pairs", broken(segmentation=[[[1, 1], [5, 1], [5, 9], [1, 9]]]), ["annotation id 7", "flat list", "not a pair"]),
    ("lone pairs", broken(segmentation=[[1, 1], [5, 1], [5, 9]]), ["annotation id 7", "got 2: [1, 1]", "flat list x0"]),
    ("pair and number", broken(segmentation=[[[1, 1], 5, 1, 5, 9]]), ["annotation id 7", "flat list of numbers"]),
    ("words in polygon", broken(segmentation=[[1, 1, 2, 2, 3, "x"]]), ["annotation id 7", "flat list of numbers"]),
    ("nan in polygon", broken(segmentation=[[1, 1, 2, 2, 3, float("nan")]]), ["annotation id 7", "finite"]),
    ("rle of other size", broken(segmentation=rle(7, 11)), ["annotation id 7", "[7, 11]", "[11, 7]"]),
    ("short rle", broken(segmentation={"size": [11, 7], "counts": [4, 5]}), ["annotation id 7", "77 pixels, got 9"]),
    ("negative box", broken(bbox=[5, 5, -2, 3]), ["annotation id 7", "not negative"]),
    ("box of three", broken(bbox=[5, 5, 2]), ["annotation id 7", "4 finite numbers"]),
    ("infinite box", broken(bbox=[5, 5, 2, float("inf")]), ["annotation id 7", "4 finite numbers"]),
    ("giant box", broken(bbox=[5, 5, 2, 10**400]), ["annotation id 7", "4 finite numbers"]),
    ("box outside", broken(bbox=[8, 1, 3, 3]), ["annotation id 7", "outside its image sub/b.png of 11x7"]),
    ("negative area", broken(area=-1), ["annotation id 7", "'area' must not be negative"]),
    ("crowd of 2", broken(iscrowd=2), ["annotation id 7", "'iscrowd'"]),
    ("nothing known", broken(segmentation=[]), ["annotation id 7", "neither 'bbox' nor 'segmentation'"]),
]


@pytest.mark.parametrize(("value", "said"), [f[1:] for f in FAULTS], ids=[f[0] for f in FAULTS])
def test_faults_say_where_and_what(tmp_path: Path, value: Any, said: list[str]) -> None:
    path = write(tmp_path, value)
    with pytest.raises(DataError) as caught:
        coco.load(path)
    for words in [str(path), *said]:
        assert words in str(caught.value)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.json: cannot be read"):
        coco.load(tmp_path / "nowhere.json")
    with pytest.raises(DataError, match="image folder"):
        coco.load(write(tmp_path, content()), tmp_path / "nowhere")


def test_damaged_run_lengths_name_their_annotation(tmp_path: Path) -> None:
    value = content()
    value["annotations"][3] |= {"bbox": [0, 0, 4, 3], "area": 12, "segmentation": {"size": [11, 7], "counts": "zzz"}}
    data = coco.load(write(tmp_path, value))
    with pytest.raises(DataError, match=r"annotations\.json: annotation 8 of sub/b\.png"):
        data.masks(1)


def test_boxes_without_outlines(tmp_path: Path) -> None:
    value = content()
    value["annotations"] = [{"id": 1, "image_id": 0, "category_id": 7, "bbox": [1, 1, 3, 2]}]
    data = coco.load(write(tmp_path, value))
    assert (data.of(1)[0].area, data.has_masks, data.truth(1).crops) == (6, False, None)
    with pytest.raises(DataError, match=r"annotation 1 of sub/b\.png has no segmentation"):
        data.masks(1)


def test_odd_annotations_are_kept_and_noted(tmp_path: Path) -> None:
    value = broken(bbox=[-3, 1, 5, 9])
    value["annotations"][0] |= {"bbox": [2, 3, 0, 8]}
    value["categories"].append({"id": 91, "name": "first"})
    notes = coco.load(write(tmp_path, value)).notes
    assert notes == (
        "Several categories are called 'first'; they are kept apart by their ids.",
        "Annotations that have no area: 1 (ids 0); kept as they are.",
        "Annotations that reach beyond their image: 1 (ids 7); kept as they are.",
    )


def test_images_are_checked_when_opened(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    Image.new("RGB", (20, 30)).save(tmp_path / "a.png")  # height and width exchanged
    Image.new("RGB", (7, 12)).save(tmp_path / "sub" / "b.png")
    data = coco.load(write(tmp_path, content()), tmp_path)
    with pytest.raises(DataError, match=r"a\.png: stated 20x30 .*the image is 30x20 .*exchanged"):
        data.image(0)
    with pytest.raises(DataError, match=r"b\.png: stated 11x7 .*the image is 12x7 .*resized"):
        data.image(1)
    assert data.missing_files() == (tmp_path / "empty.png",)
    Image.new("RGB", (7, 11), (1, 2, 3)).save(tmp_path / "sub" / "b.png")
    np.testing.assert_array_equal(data.image(1), np.broadcast_to(np.uint8([1, 2, 3]), (11, 7, 3)))
    with pytest.raises(DataError, match="without an image folder"):
        coco.load(tmp_path / "annotations.json").path(0)


def test_saved_data_set_loads_the_same(tmp_path: Path) -> None:
    first = coco.load(write(tmp_path, content()))
    coco.save(tmp_path / "again" / "copy.json", first)
    second = coco.load(tmp_path / "again" / "copy.json")
    assert second.classes == first.classes
    for i, record in enumerate(first.images):
        assert second.images[i].extra == record.extra
        for a, b in zip(first.of(i), second.of(i), strict=True):
            assert (a.id, a.label, a.area, a.crowd) == (b.id, b.label, b.area, b.crowd)
            np.testing.assert_allclose(a.box, b.box)
        np.testing.assert_array_equal(first.masks(i).dense(), second.masks(i).dense())
    assert [p.name for p in (tmp_path / "again").iterdir()] == ["copy.json"]


@pytest.fixture
def scenes(tmp_path: Path) -> Dataset:
    path = synthetic.coco_fixture(tmp_path / "scenes", 4, images=30, size=(16, 20), objects=2)
    return coco.load(path, path.parent / "images")


def test_results_keep_every_bit(tmp_path: Path, scenes: Dataset) -> None:
    rng = np.random.default_rng(0)
    given = {r.id: scenes.truth(i, crowd=True) for i, r in enumerate(scenes.images)}
    for found in given.values():
        found.scores = rng.random(len(found), np.float32)
        found.boxes += rng.random(found.boxes.shape, np.float32)
    path = tmp_path / "results.json"
    path.write_text(json.dumps([row for i, found in given.items() for row in Prediction(**vars(found)).to_coco(i)]))
    rows = coco.read_results(path, scenes)
    assert list(rows) == list(given)
    read = {r.id: coco.instances_of(rows[r.id], r, scenes.classes) for r in scenes.images}
    for image_id, found in given.items():
        for name in ("boxes", "scores", "labels"):
            np.testing.assert_array_equal(getattr(read[image_id], name), getattr(found, name))
        if len(found):
            np.testing.assert_array_equal(read[image_id].masks, found.masks)
    assert json.loads(path.read_text())[0]["category_id"] in scenes.classes.ids


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "copy" / "annotations.json"
    path.parent.mkdir()
    path.write_text("old")
    scenes = coco.load(synthetic.coco_fixture(tmp_path / "scenes", 1))
    bad = replace(scenes.of(0)[0], area=float("nan"))
    with pytest.raises(ValueError, match="JSON compliant"):
        coco.save(path, replace(scenes, annotations={**scenes.annotations, scenes.images[0].id: (bad,)}))
    assert [(p.name, p.read_text()) for p in path.parent.iterdir()] == [("annotations.json", "old")]


ROW = {"image_id": 3, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 1}

RESULT_FAULTS: list[tuple[Any, str]] = [
    ({"images": []}, "looks like an annotation file"),
    ([{"image_id": 5, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 1}], "result 0: image_id 5 is not an image"),
    ([{"image_id": 3, "category_id": 9, "bbox": [0, 0, 1, 1], "score": 1}], "category_id 9 is not a class"),
    ([{"image_id": 3, "category_id": 1, "score": 1}], "no 'bbox', 'segmentation' or 'keypoints'"),
    ([{"image_id": 3, "category_id": 1, "bbox": [0, 0, 1, 1]}], "'score' must be a finite number, got None"),
    ([{"image_id": 3, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 87}], "must lie in 0..1, got 87"),
    ([{"image_id": 3, "category_id": 1, "segmentation": rle(9, 9), "score": 1}], "size"),
    ([{"category_id": 1, "bbox": [0, 0, 1, 1], "score": 1}], "'image_id' is missing"),
    ([{"image_id": 3, "bbox": [0, 0, 1, 1], "score": 1}], "'category_id' is missing"),
    ([{**ROW, "file_name": "images/0001.png"}], "image_id 3 is 0000.png"),
    ([{**ROW, "file_name": r"C:\images\0000.png"}, {**ROW, "score": 0.5}, ROW], "result 2: repeats result 0"),
]


@pytest.mark.parametrize(("value", "said"), RESULT_FAULTS)
def test_result_faults_say_where_and_what(tmp_path: Path, scenes: Dataset, value: Any, said: str) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps(value))
    with pytest.raises(DataError) as caught:
        coco.read_results(path, scenes)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)


def test_results_some_with_masks_are_refused(tmp_path: Path, scenes: Dataset) -> None:
    row = {"image_id": 3, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 0.5}
    (tmp_path / "r.json").write_text(json.dumps([row, {**row, "segmentation": rle(16, 20)}]))
    rows = coco.read_results(tmp_path / "r.json", scenes)
    with pytest.raises(DataError, match=r"1 of 2 results of 0000\.png"):
        coco.instances_of(rows[3], scenes.images[0], scenes.classes)


def test_split_is_fixed_and_stable(scenes: Dataset) -> None:
    rest, held = scenes.split(0.2)
    names = [r.file_name for r in held.images]
    assert names == ["0003.png", "0015.png", "0019.png", "0021.png", "0027.png"]  # on every machine
    assert {r.id for r in rest.images} | {r.id for r in held.images} == {r.id for r in scenes.images}
    assert len(rest) + len(held) == len(scenes)
    half = scenes.subset(range(20))
    assert {r.file_name for r in half.split(0.2)[1].images} == set(names) & {r.file_name for r in half.images}
    assert [r.file_name for r in scenes.split(0.2, "other")[1].images] != names
    assert [len(d) for d in scenes.split(0)] == [30, 0]
    assert [len(d) for d in scenes.split(1)] == [0, 30]
    for few in range(2, 6):
        for fraction in (0.01, 0.99):
            assert all(len(d) for d in scenes.subset(range(few)).split(fraction))
    with pytest.raises(ConfigError, match=r"between 0 and 1, got 1\.5"):
        scenes.split(1.5)


def test_subset_keeps_order_and_refuses_repeats(scenes: Dataset) -> None:
    part = scenes.subset([4, 1])
    assert [r.id for r in part.images] == [43, 13]
    assert set(part.annotations) == {43, 13}
    for bad in ([1, 1], [30], [-1]):
        with pytest.raises(ConfigError):
            scenes.subset(bad)


@pytest.mark.parametrize(
    ("name", "images", "annotations"),
    [
        ("nuclei_dsb2018/annotations/instances_train.json", 531, 22181),
        ("coco_open/annotations/instances_train.json", 61, 605),
        ("coco_open/annotations/instances_val.json", 61, 434),
        ("desk5_video/annotations/instances_train.json", 150, 150),
    ],
)
def test_real_files_load_without_complaint(shared: Path, name: str, images: int, annotations: int) -> None:
    path = shared / "data" / name
    data = coco.load(path, path.parents[1] / "images")
    assert (len(data), sum(len(rows) for rows in data.annotations.values())) == (images, annotations)
    assert data.notes == ()
    assert data.missing_files() == ()
    for i in range(0, len(data), 10):
        assert data.image(i).shape[:2] == data.masks(i).size


def test_an_image_of_more_pixels_than_run_lengths_count_is_refused(tmp_path: Path) -> None:
    rows = content()
    rows["images"][0]["height"] = 10**9
    path = tmp_path / "huge.json"
    path.write_text(json.dumps(rows))
    with pytest.raises(DataError, match=r"huge\.json: image id 900000000001: height 1000000000 .* correct the size"):
        coco.load(path)


def test_a_num_keypoints_that_is_no_number_is_counted_again(tmp_path: Path) -> None:
    rows = content()
    rows["categories"][0]["keypoints"] = ["tip"]
    rows["annotations"][0] |= {"keypoints": [3, 4, 2], "num_keypoints": []}
    path = tmp_path / "odd.json"
    path.write_text(json.dumps(rows))
    assert any("num_keypoints" in note for note in coco.load(path).notes)


def test_landmarks_of_a_data_set_are_those_of_its_classes(tmp_path: Path) -> None:
    content = {
        "images": [{"id": 1, "file_name": "a.png", "height": 9, "width": 9}],
        "annotations": [],
        "categories": [
            {"id": 2, "name": "leaf"},
            {"id": 5, "name": "fly", "keypoints": ["left wing", "right wing"], "skeleton": [[1, 2]]},
        ],
    }
    (tmp_path / "a.json").write_text(json.dumps(content))
    data = coco.load(tmp_path / "a.json")
    assert data.classes.landmarks[0] is None
    assert data.classes.landmarks[1] is not None
    assert data.classes.landmarks[1].names == ("left wing", "right wing")
