"""COCO files lose nothing: landmarks, tracks and unknown fields, and any valid file comes back as it was."""

import itertools
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from maskwright.data import synthetic
from maskwright.data.dataset import Dataset
from maskwright.data.faults.check import check
from maskwright.data.formats import coco
from maskwright.data.formats.shared.fields import box_to_xywh
from maskwright.errors import DataError
from maskwright.types import Classes, Landmarks

PERSON = {"id": 1, "name": "person", "keypoints": ["left eye", "right eye", "nose"], "skeleton": [[1, 3], [2, 3]]}
FLY = {"id": 4, "name": "fly", "keypoints": ["headL", "headR"], "swap": ["headR", "headL"], "supercategory": "insect"}


def content() -> dict[str, Any]:
    """Two landmark sets, a class without any, tracks, and fields of our own everywhere."""
    box = {"image_id": 1, "bbox": [1, 2, 3, 4]}
    return {
        "info": {"note": "ü"},
        "licenses": [],
        "odd": 3,
        "images": [{"id": 1, "file_name": "a.png", "height": 10, "width": 20, "tags": ["x", {"y": None}]}],
        "annotations": [
            {**box, "id": 1, "category_id": 1, "keypoints": [1, 2, 2, 3.5, 4, 1, 0, 0, 0], "num_keypoints": 2},
            {**box, "id": 2, "category_id": 4, "keypoints": [5, 6, 2, 0, 0, 0], "num_keypoints": 9, "track_id": 8},
            {**box, "id": 3, "category_id": 2, "keypoints": [], "track_id": None, "attributes": {"occluded": True}},
            {**box, "id": 4, "category_id": 2, "keypoints": [1, 1, 2], "num_keypoints": 1},
            {**box, "id": 5, "category_id": 1, "score": 0.5},
        ],
        "categories": [FLY, PERSON, {"id": 2, "name": "stone", "colour": "grey", "skeleton": []}],
    }


def write(folder: Path, value: Any) -> Path:
    path = folder / "a.json"
    path.write_text(json.dumps(value))
    return path


def test_landmarks_of_several_classes(tmp_path: Path) -> None:
    data = coco.load(write(tmp_path, content()))
    person, stone, fly = data.classes.landmarks
    assert person == Landmarks(("left eye", "right eye", "nose"), ((0, 2), (1, 2)))
    assert person.mirrored == (1, 0, 2)
    assert stone is None
    assert fly is not None
    assert fly.mirrored == (1, 0)  # as "swap" says; the names do not
    assert data.class_extra == ({}, {"colour": "grey"}, {"supercategory": "insect", "swap": ["headR", "headL"]})
    rows = data.of(0)
    np.testing.assert_array_equal(rows[0].keypoints, [[1, 2, 2], [3.5, 4, 1], [0, 0, 0]])
    assert [a.track_id for a in rows] == [None, 8, None, None, None]
    assert rows[2].extra == {"attributes": {"occluded": True}, "track_id": None, "keypoints": []}
    assert rows[3].keypoints is None
    assert rows[4].extra == {"score": 0.5}
    assert data.notes == (
        "Annotations that state a wrong num_keypoints: 1 (ids 2); counted again.",
        "Annotations that have keypoints, but their category names none: 1 (ids 4); kept as they are.",
    )
    assert data.keypoints(0).shape == (5, 3, 3)
    truth = data.truth(0)
    np.testing.assert_array_equal(truth.keypoints[:2, :, 2], [[1, 1, 0], [1, 0, 0]])
    np.testing.assert_array_equal(truth.keypoints[0, :2, :2], [[1, 2], [3.5, 4]])
    assert truth.track_ids is None


def test_null_is_as_if_it_were_missing(tmp_path: Path) -> None:
    outline = [[1, 1, 5, 1, 5, 4, 1, 4]]
    rows = [{"id": 1, "image_id": 1, "category_id": 2, "segmentation": outline, "bbox": None, "area": None}]
    path = write(tmp_path, {**content(), "annotations": [{**rows[0], "iscrowd": None}]})
    (row,) = coco.load(path).of(0)
    assert (row.crowd, row.box, row.area) == (False, (1, 1, 5, 4), 12)
    found = [(f.fault, f.message) for f in check(path, files=False).findings if f.section == "annotations"]
    assert found == [("missing-field", "without bbox, area, iscrowd")]


def test_nothing_is_lost(tmp_path: Path) -> None:
    given = content()
    coco.save(tmp_path / "b.json", coco.load(write(tmp_path, given)))
    said = json.loads((tmp_path / "b.json").read_text())
    assert {k: said[k] for k in ("info", "licenses", "odd", "images")} == {
        k: given[k] for k in ("info", "licenses", "odd", "images")
    }
    for before, after in zip(given["annotations"], said["annotations"], strict=True):
        assert {k: after[k] for k in before if k != "num_keypoints"} == {
            k: v for k, v in before.items() if k != "num_keypoints"
        }
    assert [row.get("num_keypoints") for row in said["annotations"]] == [2, 1, None, 1, None]
    for row in given["categories"]:
        after = next(r for r in said["categories"] if r["id"] == row["id"])
        assert {**row, "skeleton": row.get("skeleton", [])} == {"skeleton": [], **after}
    coco.save(tmp_path / "c.json", coco.load(tmp_path / "b.json"))
    assert (tmp_path / "c.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def changed(category: dict[str, Any] | None = None, **annotation: Any) -> dict[str, Any]:
    value = content()
    value["categories"][1] = {**PERSON, **(category or {})}
    value["annotations"][0].update(annotation)
    return value


FAULTS = [
    (changed(keypoints=[1, 2, 2]), "annotation id 1: 'keypoints' of the 3 landmarks of 'person'"),
    (changed(keypoints=[1, 2, 2, 3, 4, 1, 0, 0, "x"]), "must be 9 finite numbers"),
    (changed(keypoints=[1, 2, 2, 3, 4, 1, 0, 0, 3]), "annotation id 1: the visibility of a keypoint is 0"),
    (changed({"keypoints": "nose"}), "category 'person': 'keypoints' must be the list"),
    (changed({"skeleton": [[1, 4]]}), "category 'person': 'skeleton' joins landmarks 1 to 3"),
    (changed({"skeleton": [[0, 3]]}), "category 'person': 'skeleton' joins landmarks 1 to 3"),
    (changed({"skeleton": [[1, 2, 3]]}), "category 'person': 'skeleton' must be pairs"),
]


@pytest.mark.parametrize(("value", "said"), FAULTS, ids=[f[1][-20:] for f in FAULTS])
def test_faulty_landmarks_say_where(tmp_path: Path, value: Any, said: str) -> None:
    path = write(tmp_path, value)
    with pytest.raises(DataError) as caught:
        coco.load(path)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_skeleton_from_zero_is_noted(tmp_path: Path) -> None:
    data = coco.load(write(tmp_path, changed({"skeleton": [[0, 2], [1, 2]]})))
    assert data.classes.landmarks[0] == Landmarks(("left eye", "right eye", "nose"), ((0, 2), (1, 2)))
    assert data.notes[0] == "The skeleton of category 'person' counts from 0 (COCO: from 1) and was read so."


def test_a_panoptic_file_is_told_apart(tmp_path: Path) -> None:
    value = content()
    value["annotations"] = [{"segments_info": [], "file_name": "a.png", "image_id": 1}]
    with pytest.raises(DataError, match="panoptic"):
        coco.load(write(tmp_path, value))


def test_numbers_that_json_cannot_hold(tmp_path: Path) -> None:
    path = write(tmp_path, content())
    path.write_text(path.read_text().replace('"odd": 3', '"odd": NaN'))
    with pytest.raises(DataError, match=r"b\.json: cannot be written, a number is NaN or infinite"):
        coco.save(tmp_path / "b.json", coco.load(path))
    rest = '"annotations": [], "categories": [{"id": 1, "name": "a"}]'
    path.write_text('{"images": [' + "9" * 5000 + f"], {rest}}}")
    with pytest.raises(DataError, match="image 0 of the list: expected a JSON object, got inf"):
        coco.load(path)


@given(low=st.floats(-1e4, 1e5), width=st.floats(0, 1e5), digits=st.sampled_from([0, 1, 2, 3, 15]))
@settings(max_examples=200, deadline=None)
def test_widths_give_the_far_side_again_and_are_short(low: float, width: float, digits: int) -> None:
    low, width = round(low, digits), round(width, digits)
    high = low + width
    written = box_to_xywh([low, low, high, high])
    assert low + written[2] == high
    if digits <= 3:
        assert written[2] == width


# ---- any file -------------------------------------------------------------------------------------------------------


@st.composite
def files(draw: st.DrawFn) -> dict[str, Any]:
    """A valid file: any ids, every kind of outline, crowds, empty images, missing fields, landmarks."""
    ids = st.integers(-(2**63), 2**63 - 1) | st.integers(0, 9)
    categories = [
        {"id": number, "name": f"class {number}"}
        | ({"keypoints": ["a", "b"], "skeleton": draw(st.sampled_from([[], [[1, 2]]]))} if draw(st.booleans()) else {})
        for number in draw(st.lists(ids, min_size=1, max_size=4, unique=True))
    ]
    images = [
        {"id": k, "file_name": f"{k}.png", "height": draw(st.integers(1, 30)), "width": draw(st.integers(1, 30))}
        for k in draw(st.lists(ids, max_size=4, unique=True))
    ]
    chosen = draw(st.lists(ids, max_size=8 if images else 0, unique=True))
    rows = [draw(annotation(k, draw(st.sampled_from(images)), draw(st.sampled_from(categories)))) for k in chosen]
    return {"images": images, "annotations": rows, "categories": categories, "info": {"x": draw(ids)}}


@st.composite
def annotation(draw: st.DrawFn, number: int, image: dict[str, Any], category: dict[str, Any]) -> dict[str, Any]:
    height, width = image["height"], image["width"]
    row: dict[str, Any] = {"id": number, "image_id": image["id"], "category_id": category["id"]}
    x, y = st.floats(0, width).map(lambda v: round(v, 3)), st.floats(0, height).map(lambda v: round(v, 3))
    kind = draw(st.sampled_from(["polygons", "compressed", "counts", "box"]))
    if kind == "polygons":
        corners = st.lists(st.tuples(x, y), min_size=3, max_size=6).map(lambda pairs: [v for p in pairs for v in p])
        row["segmentation"] = draw(st.lists(corners, min_size=1, max_size=3))
    elif kind != "box":
        bits = draw(st.integers(0, 2 ** (height * width) - 1))
        bitmap = np.array([bits >> k & 1 for k in range(height * width)], np.uint8).reshape(height, width)
        runs = coco_mask.encode(np.asfortranarray(bitmap))
        row["segmentation"] = {"size": [height, width], "counts": runs["counts"].decode()}
        if kind == "counts":
            groups = [(int(v), len(list(same))) for v, same in itertools.groupby(bitmap.ravel(order="F"))]
            row["segmentation"]["counts"] = [0] * groups[0][0] + [n for _, n in groups]
        row["iscrowd"] = draw(st.integers(0, 1))
    if kind == "box" or draw(st.booleans()):
        row["bbox"] = [draw(x) / 2, draw(y) / 2, draw(x) / 2, draw(y) / 2]
        row["area"] = draw(st.floats(0, 900))
    if "keypoints" in category and draw(st.booleans()):
        row["keypoints"] = [v for _ in "ab" for v in (draw(x), draw(y), draw(st.integers(0, 2)))]
    if draw(st.booleans()):
        row |= {"track_id": draw(st.integers(0, 2**40)), "note": draw(st.text(max_size=5))}
    return row


@given(value=files())
@settings(max_examples=50, deadline=None)
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools and NumPy 2
def test_any_file_comes_back(tmp_path_factory: pytest.TempPathFactory, value: dict[str, Any]) -> None:
    folder = tmp_path_factory.mktemp("coco")
    first = coco.load(write(folder, value))
    coco.save(folder / "b.json", first)
    second = coco.load(folder / "b.json")
    assert_equal(first, second)
    assert first.classes == Classes(*zip(*sorted((c["name"], c["id"]) for c in value["categories"]), strict=True)) or (
        list(first.classes.ids) == sorted(c["id"] for c in value["categories"])
    )
    coco.save(folder / "c.json", second)
    assert (folder / "c.json").read_bytes() == (folder / "b.json").read_bytes()
    accepted_by_pycocotools(folder / "b.json", second)


def assert_equal(first: Dataset, second: Dataset) -> None:
    for name in ("classes", "class_extra", "extra"):
        assert getattr(first, name) == getattr(second, name)
    for i, record in enumerate(first.images):
        assert [getattr(second.images[i], n) for n in ("id", "file_name", "size", "extra")] == [
            getattr(record, n) for n in ("id", "file_name", "size", "extra")
        ]
        for a, b in zip(first.of(i), second.of(i), strict=True):
            for name in ("id", "image_id", "label", "area", "crowd", "track_id", "extra"):
                assert getattr(a, name) == getattr(b, name)
            np.testing.assert_array_max_ulp(np.array(a.box), np.array(b.box), maxulp=1)
            np.testing.assert_array_equal(a.keypoints, b.keypoints)
            assert type(a.segmentation) is type(b.segmentation)
            if isinstance(a.segmentation, tuple):
                for p, q in zip(a.segmentation, b.segmentation, strict=True):
                    np.testing.assert_array_equal(p, q)
            else:
                assert a.segmentation == b.segmentation


def accepted_by_pycocotools(path: Path, data: Dataset) -> None:
    api = COCO()
    api.dataset = json.loads(path.read_text())
    api.createIndex()
    assert sorted(api.getImgIds()) == sorted(r.id for r in data.images)
    assert sorted(api.getCatIds()) == sorted(data.classes.ids)
    for i in range(len(data)):
        for a in data.of(i):
            assert api.anns[a.id]["area"] == a.area
            if a.segmentation is not None:
                np.testing.assert_array_equal(api.annToMask(api.anns[a.id]), data.draw(i, [a]).dense()[0])


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_pycocotools_reads_what_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = coco.load(synthetic.coco_fixture(tmp_path, 8))
    coco.save(tmp_path / "b.json", data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # it leaves the file open
        api = COCO(str(tmp_path / "b.json"))
    assert len(api.anns) == sum(len(data.of(i)) for i in range(len(data)))
    assert "index created" in capsys.readouterr().out
    accepted_by_pycocotools(tmp_path / "b.json", data)


@pytest.mark.parametrize(
    ("name", "points", "links", "own"),
    [
        ("coco_open/annotations/person_keypoints_train.json", 17, 19, 1),
        ("fly_pose/annotations/keypoints_train.json", 32, 25, 4),
    ],
)
def test_real_landmarks(shared: Path, tmp_path: Path, name: str, points: int, links: int, own: int) -> None:
    first = coco.load(shared / "data" / name)
    (marks,) = first.classes.landmarks
    assert marks is not None
    assert (len(marks), len(marks.links)) == (points, links)
    partners = marks.mirrored
    assert [partners[p] for p in partners] == list(range(points))
    assert sum(p == k for k, p in enumerate(partners)) == own
    assert first.notes == (
        ("The 'swap' of category 'fly' does not pair all landmarks (midlegR3); the pairs in it are used.",)
        if "fly" in name  # as the file was published, midlegR3 and midlegR2 both name midlegL2
        else ()
    )
    coco.save(tmp_path / "b.json", first)
    assert_equal(first, coco.load(tmp_path / "b.json"))
