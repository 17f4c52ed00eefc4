"""COCO panoptic: JSON and PNG files, read with every fault named, and written."""

import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from maskwright.data import formats
from maskwright.data.dataset import Dataset
from maskwright.data.faults.check import check
from maskwright.data.faults.repair import repair
from maskwright.data.formats import coco
from maskwright.data.synthetic import coco_fixture, panoptic_fixture
from maskwright.errors import DataError

OPEN = Path(__file__).parents[3].parent / "shared" / "data" / "coco_open"
KINDS = [
    {"id": 7, "name": "cell", "isthing": 1, "supercategory": "x"},
    {"id": 0, "name": "sky", "isthing": 0},
    {"id": 3, "name": "dog", "isthing": 1, "supercategory": "y"},
]
COLOURS = {0: (0, 0, 0), 5: (5, 0, 0), 300: (44, 1, 0), 2**24 - 1: (255, 255, 255), 9: (9, 0, 0)}


def small(folder: Path, segments: list[dict[str, Any]] | None = None, **changes: Any) -> Path:
    """One image of 6 x 8: a dog (id 300), a crowd of cells (5), sky (2^24 - 1), and void in the lower half."""
    pixels = np.zeros((6, 8, 3), np.uint8)
    pixels[:3], pixels[0, :3], pixels[1:3, 5:] = COLOURS[2**24 - 1], COLOURS[300], COLOURS[5]
    rows = [
        {"id": 5, "category_id": 7, "iscrowd": 1, "area": 6, "bbox": [5, 1, 3, 2]},
        {"id": 2**24 - 1, "category_id": 0, "area": 15},
        {"id": 300, "category_id": 3, "iscrowd": 0, "area": 3, "note": "far"},
    ]
    for name in ("images", "panoptic"):
        (folder / name).mkdir(parents=True)
    Image.fromarray(pixels).save(folder / "panoptic" / "a.png")
    Image.new("RGB", (8, 6)).save(folder / "images" / "a.jpg")
    content = {
        "images": [{"id": 4, "file_name": "a.jpg", "height": 6, "width": 8}],
        "annotations": [{"image_id": 4, "file_name": "a.png", "segments_info": rows if segments is None else segments}],
        "categories": KINDS,
        **changes,
    }
    (folder / "panoptic.json").write_text(json.dumps(content))
    return folder


def test_things_become_objects_and_all_segments_maps(tmp_path: Path) -> None:
    data = formats.load(small(tmp_path))
    assert (data.classes.names, data.classes.ids) == (("dog", "cell"), (3, 7))
    assert data.class_extra == ({"supercategory": "y"}, {"supercategory": "x"})
    assert data.semantic_classes is not None
    assert (data.semantic_classes.names, data.semantic_classes.ids) == (("things", "sky"), (1, 0))
    crowd, dog = data.of(0)
    assert (crowd.id, crowd.label, crowd.crowd, crowd.area, crowd.box) == (1, 1, True, 6.0, (5, 1, 8, 3))
    assert (dog.id, dog.label, dog.crowd, dog.box, dog.extra) == (2, 0, False, (0, 0, 3, 1), {"note": "far"})
    assert dog.place == f"{tmp_path / 'panoptic' / 'a.png'}: segment 300"
    expected = np.full((6, 8), -1)
    expected[:3] = 1
    expected[0, :3] = expected[1:3, 5:] = 0
    np.testing.assert_array_equal(data.semantic(0), expected)
    found = pickle.loads(pickle.dumps(data)).panoptic(0)
    assert (found.classes.names, found.things) == (("dog", "cell", "sky"), (True, True, False))
    assert {(s.id, s.label, s.crowd) for s in found.segments} == {(5, 1, True), (2**24 - 1, 2, False), (300, 0, False)}
    assert found.ids[0, 0] == 300
    assert found.ids[5, 5] == 0
    np.testing.assert_array_equal(data.masks(0).dense()[1], found.ids == 300)
    assert data.notes == ()


def test_without_stuff_there_is_no_semantic_map(tmp_path: Path) -> None:
    kinds = [{**row, "isthing": True} for row in KINDS]
    data = formats.load(small(tmp_path, categories=kinds))
    assert (data.semantic_maps, data.semantic_classes, data.semantic(0)) == (None, None, None)
    assert len(data.of(0)) == 3
    assert data.panoptic(0) is not None


ROW = {"image_id": 4, "file_name": "a.png", "segments_info": []}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"segments": [{"id": 5, "category_id": 7}]}, "18 pixels of .*a.png have the ids 300, 16777215 that"),
        ({"segments": []}, "24 pixels of .* have the ids 5, 300, 16777215"),
        ({"segments": [{"id": 0, "category_id": 7}]}, "the ids of segments are 1 to 16777215 .0 is void., got 0"),
        ({"segments": [{"id": 2**24, "category_id": 7}]}, "are 1 to 16777215"),
        ({"segments": [{"id": 5, "category_id": 7}] * 2}, "the segment id 5 is used twice"),
        ({"segments": [{"id": 5, "category_id": 70}]}, "segment 5: category_id 70 is not in the list 'categories'"),
        ({"segments": [{"id": 5, "category_id": 7, "iscrowd": 2}]}, "segment 5: 'iscrowd' must be 0 or 1, got 2"),
        ({"segments": [3]}, "expected a JSON object, got 3"),
        ({"segments": {}}, "'segments_info' must be a list"),
        ({"annotations": [ROW, ROW]}, "image_id 4 has an annotation already"),
        ({"annotations": [{**ROW, "image_id": 5}]}, "image_id 5 is not in the list 'images'"),
        ({"annotations": [{**ROW, "file_name": "b.png"}]}, "the panoptic maps are not found. The first is 'b.png'"),
        ({"annotations": [{**ROW, "file_name": 3}]}, "are not found. The first is 3"),
        ({"annotations": [{"image_id": 4, "file_name": "a.png"}]}, "these are objects. Read it as the format 'coco'"),
        ({"annotations": []}, "image id 4: a.jpg has no annotation"),
        ({"categories": [{"id": 1, "name": "a"}]}, "category id 1 'a': has no 'isthing'. Write 1 where"),
        ({"categories": [{"id": 1, "name": "a", "isthing": "yes"}]}, "has 'isthing' 'yes'"),
        ({"categories": [{"id": 1, "name": "a", "isthing": 0}]}, "all categories have isthing 0"),
        ({"images": [{"id": 4, "file_name": "a.jpg", "height": 8, "width": 6}]}, r"is 6x8 .*, its image a.jpg is 8x6"),
    ],
)  # fmt: skip
def test_faults_are_named(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    place = small(tmp_path, **changes)
    with pytest.raises(DataError, match=said) as caught:
        formats.load(place, format="coco_panoptic")
    assert str(place / "panoptic.json") in str(caught.value) or "a.png" in str(caught.value)


def test_segments_without_a_pixel_are_named(tmp_path: Path) -> None:
    place = small(tmp_path)
    content = json.loads((place / "panoptic.json").read_text())
    content["annotations"][0]["segments_info"].append({"id": 9, "category_id": 7})
    (place / "panoptic.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"annotation of image id 4: the segment 9 has no pixel in .*a.png"):
        formats.load(place)
    (found,) = check(place).by_fault()["malformed-record"]
    assert "the segment 9 has no pixel" in found.message


def test_another_area_is_noted_and_the_map_counts(tmp_path: Path) -> None:
    place = small(tmp_path)
    file = place / "panoptic.json"
    file.write_text(file.read_text().replace('"area": 6', '"area": 7').replace('"area": 15', '"area": null'))
    data = formats.load(place)
    assert data.of(0)[0].area == 6
    assert data.notes == ("1 segment whose stated area is not that of the map; the map counts (a.png: 5).",)


def test_maps_in_other_modes(tmp_path: Path) -> None:
    """A palette holds colours; a grey map would be another id for each reader, and one cut off or missing is told."""
    place = small(tmp_path)
    path, image = place / "panoptic" / "a.png", Image.open(place / "panoptic" / "a.png")
    image.load()
    for changed in (image.quantize(16), image.convert("RGBA")):
        changed.save(path)
        assert {s.id for s in formats.load(place).panoptic(0).segments} == {5, 300, 2**24 - 1}
    image.convert("L").save(path)
    with pytest.raises(DataError, match=r"a.png: expected a colour PNG .*, found the mode L. Write the ids as colours"):
        formats.load(place)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"a.png"):
        formats.load(place)
    path.unlink()
    with pytest.raises(DataError, match=r"maps are not found.*called 'panoptic'"):
        formats.load(place)


@pytest.mark.parametrize("layout", ["site", "detectron2", "parts"])
def test_the_usual_layouts_are_recognised(tmp_path: Path, layout: str) -> None:
    made = small(tmp_path / "made")
    for name, image in (("train", 4), ("val", 5)):
        file = {
            "site": f"annotations/panoptic_{name}2017.json",
            "detectron2": f"annotations/panoptic_{name}.json",
            "parts": f"{name}/panoptic.json",
        }[layout]
        maps = {"site": file.removesuffix(".json"), "detectron2": f"panoptic_{name}", "parts": f"{name}/panoptic"}[
            layout
        ]
        images = {"site": f"{name}2017", "detectron2": "images", "parts": f"{name}/images"}[layout]
        place = tmp_path / "set"
        for source, target in ((made / "panoptic" / "a.png", f"{maps}/a.png"), (made / "images" / "a.jpg", images)):
            goal = place / (target if source.suffix == ".png" else f"{target}/{name}.jpg")
            goal.parent.mkdir(parents=True, exist_ok=True)
            goal.write_bytes(source.read_bytes())
        text = (made / "panoptic.json").read_text().replace("a.jpg", f"{name}.jpg").replace(": 4", f": {image}")
        (place / file).parent.mkdir(parents=True, exist_ok=True)
        (place / file).write_text(text)
    assert formats.recognise(place).name == "coco_panoptic"
    data = formats.load(place)
    assert {name: len(part) for name, part in data.parts().items()} == {"train": 1, "val": 1}
    assert data.missing_files() == ()
    assert [a.id for i in range(2) for a in data.of(i)] == [1, 2, 3, 4]
    assert {s.id for part in data.parts().values() for s in part.panoptic(0).segments} == {5, 300, 2**24 - 1}


def test_parts_that_share_ids_keep_their_maps(tmp_path: Path) -> None:
    for name, seed in (("train", 1), ("val", 2)):
        panoptic_fixture(tmp_path / name, seed, images=2)
    data = formats.load(tmp_path)
    assert [record.id for record in data.images] == [1, 2, 3, 4]
    for i, record in enumerate(data.images):
        own = formats.load(tmp_path / record.extra["split"])
        np.testing.assert_array_equal(data.panoptic(i).ids, own.panoptic(i % 2).ids)
    file = tmp_path / "val" / "panoptic.json"
    content = json.loads(file.read_text())
    content["categories"].append({"id": 99, "name": "mud", "isthing": 0})
    file.write_text(json.dumps(content))
    with pytest.raises(DataError, match="its stuff differs from that of"):
        formats.load(tmp_path)


def test_objects_and_panoptic_files_are_told_apart(tmp_path: Path) -> None:
    place, objects = small(tmp_path / "a"), coco_fixture(tmp_path / "b", 0, images=1)
    file = place / "panoptic.json"
    assert (formats.recognise(file).name, formats.recognise(objects).name) == ("coco_panoptic", "coco")
    with pytest.raises(DataError, match=r"COCO's panoptic annotation .*as the format 'coco_panoptic'"):
        coco.load(file)
    assert "coco_panoptic" in check(file, format="coco").findings[0].message
    assert check(place).count("error") == 0
    assert "Not in the copy: the semantic maps" in repair(place, tmp_path / "copy").text()


def same_segments(one: Dataset, two: Dataset) -> None:
    """The same regions with the same class; their ids may differ."""
    for i in range(len(one)):
        first, second = one.panoptic(i), two.panoptic(i)
        for a in first.segments:
            inside = np.unique(second.ids[first.ids == a.id])
            (b,) = [s for s in second.segments if s.id in inside]
            np.testing.assert_array_equal(first.ids == a.id, second.ids == b.id)
            assert (first.classes[a.label], a.crowd) == (second.classes[b.label], b.crowd)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    panoptic_fixture(tmp_path / "in", 3)
    for k, place in enumerate((small(tmp_path / "small"), tmp_path / "in")):
        data = formats.load(place)
        assert formats.save(tmp_path / f"out{k}", data, "coco_panoptic") == ()
        again = formats.load(tmp_path / f"out{k}")
        assert (again.classes, again.semantic_classes) == (data.classes, data.semantic_classes)
        assert [[a.extra for a in again.of(i)] for i in range(len(again))] == [
            [a.extra for a in data.of(i)] for i in range(len(data))
        ]
        same_segments(data, again)
    (lost,) = formats.save(tmp_path / "coco", data, "coco")
    assert lost == "4 images without the semantic maps of the data set."


def test_an_object_that_is_removed_becomes_void(tmp_path: Path) -> None:
    data = formats.load(small(tmp_path / "in"))
    less = replace(data, annotations={4: data.of(0)[:1]})
    formats.save(tmp_path / "out", less, "coco_panoptic")
    again = formats.load(tmp_path / "out").panoptic(0)
    assert (again.ids[0] == 0).tolist() == [True] * 3 + [False] * 5


def test_objects_alone_are_written_on_void(tmp_path: Path) -> None:
    data = formats.load(coco_fixture(tmp_path / "in", 5, images=2))
    told = formats.save(tmp_path / "out", data, "coco_panoptic")
    assert "2 images without stuff, as there is no map of it; pixels outside of the objects are void" in told[0]
    again = formats.load(tmp_path / "out")
    assert again.semantic_classes is None
    assert all(again.panoptic(0).things)


@pytest.mark.skipif(not OPEN.is_dir(), reason="needs ../shared/data/coco_open")
def test_images_of_coco(tmp_path: Path) -> None:
    assert formats.recognise(OPEN).name == "coco"  # the instances come first
    data = formats.load(OPEN, format="coco_panoptic")
    assert {name: len(part) for name, part in data.parts().items()} == {"train": 26, "val": 27}
    assert data.missing_files() == data.notes == ()
    segments = [s for i in range(len(data)) for s in data.panoptic(i).segments]
    assert len(segments) == 285 + 263
    assert len(data.semantic_classes) == 54
    few = data.subset(range(0, 53, 13))
    formats.save(tmp_path / "out", few, "coco_panoptic")
    same_segments(few, formats.load(tmp_path / "out"))
    assert len(data.classes) == 80
