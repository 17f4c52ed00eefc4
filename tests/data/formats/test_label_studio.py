"""Label Studio's JSON: every kind of shape, the names of images, and what is refused and how it is said."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from maskwright.data import formats
from maskwright.data.faults.check import check
from maskwright.data.formats import label_studio
from maskwright.data.formats.label_studio.brush import decode
from maskwright.data.formats.shared.fields import Record
from maskwright.errors import ConfigError, DataError

SIZE = {"original_width": 80, "original_height": 40, "image_rotation": 0}
SQUARE = [[25, 25], [50, 25], [50, 75], [25, 75]]  # 20 x 20 pixels at (20, 10)


def result(kind: str, label: str | None = "leaf", **value: Any) -> dict[str, Any]:
    labels = {} if label is None else {f"{kind}labels": [label]}
    return {"type": f"{kind}labels", "value": {**value, **labels}, **SIZE}


def task(*results: dict[str, Any], image: str = "/data/upload/1/ab12cd34-a.png", **more: Any) -> dict[str, Any]:
    return {"id": 7, "data": {"image": image}, "annotations": [{"result": list(results)}], **more}


def write(folder: Path, *tasks: Any, images: str = "a.png") -> Path:
    path = folder / "project-1.json"
    path.write_text(json.dumps(tasks))
    (folder / images).parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (80, 40)).save(folder / images)
    return path


def packed(values: np.ndarray) -> list[int]:
    """Any uint8 values as run lengths in bits, by the plainest means: a run for each stretch of equal values."""
    bits = f"{values.size:032b}{7:05b}{2:04b}{3:04b}{7:04b}{15:04b}"
    edges = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist(), values.size]
    for begin, end in pairwise(edges):
        if end - begin == 1:
            bits += f"000{0:03b}{values[begin]:08b}"  # a run of one value, written out
        else:
            bits += f"111{end - begin - 1:016b}{values[begin]:08b}"
    return [int(bits[k : k + 8].ljust(8, "0"), 2) for k in range(0, len(bits), 8)]


def test_every_kind_of_shape(tmp_path: Path) -> None:
    mask = np.zeros((40, 80), np.uint8)
    mask[3:9, 4:20] = 255
    path = write(
        tmp_path,
        task(
            result("polygon", points=SQUARE),
            result("rectangle", x=25, y=25, width=25, height=50, rotation=0),
            result("rectangle", x=50, y=25, width=25, height=50, rotation=90),
            result("ellipse", "fly", x=50, y=50, radiusX=10, radiusY=5, rotation=0),
            result("brush", "fly", rle=packed(np.repeat(mask.ravel(), 4)), format="rle"),
        ),
    )
    for place in (path, tmp_path):
        assert formats.recognise(place).name == "label_studio"
    data = formats.load(path)
    assert data.classes.names == ("fly", "leaf")
    assert data.labels(0).tolist() == [1, 1, 1, 0, 0]
    assert data.images[0].size == (40, 80)
    rows = data.of(0)
    assert [a.segmentation is None for a in rows] == [False, True, False, False, False]
    assert rows[0].box == rows[1].box == (20, 10, 40, 30)
    assert rows[0].area == 400
    assert rows[2].box == pytest.approx((20, 10, 40, 30))  # turned around its first corner
    assert rows[3].box == pytest.approx((32, 18, 48, 22), abs=0.1)
    np.testing.assert_array_equal(data.draw(0, rows[4:]).dense()[0], mask > 0)
    assert data.notes == ()
    assert check(path).counts["annotations"] == 5


def test_a_shape_and_its_label_may_be_two_results(tmp_path: Path) -> None:
    shape = {**result("polygon", None, points=SQUARE), "type": "polygon", "id": "x"}
    label = {"type": "labels", "id": "x", "value": {"points": SQUARE, "labels": ["leaf"]}, **SIZE}
    choice = {"type": "choices", "id": "x", "value": {"choices": ["good"]}}
    data = formats.load(write(tmp_path, task(shape, label, choice, {"type": "relation", "from_id": "x"})))
    assert [data.classes[a.label] for a in data.of(0)] == ["leaf"]
    assert data.notes == (
        "Left out, being no objects: 1 result of the type 'choices'.",
        "Left out, being no objects: 1 result of the type 'relation'.",
    )


@pytest.mark.parametrize(
    ("image", "file"),
    [
        ("/data/upload/1/ab12cd34-a.png", "a.png"),
        ("/data/upload/1/ab12cd34-a.png", "images/ab12cd34-a.png"),
        ("/data/local-files/?d=plants/b%20c.png", "b c.png"),
        ("/data/local-files/?d=plants/a.png", "plants/a.png"),
        ("https://example.org/x/a.png?size=3", "a.png"),
        ("s3://bucket/x/a%20b.png", "images/a b.png"),
        ("..\\x\\a.png", "a.png"),
    ],
)
def test_the_images_are_found(tmp_path: Path, image: str, file: str) -> None:
    data = formats.load(write(tmp_path, task(result("polygon", points=SQUARE), image=image), images=file))
    assert data.missing_files() == ()
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    data.path(0).rename(moved / data.path(0).name)
    assert formats.load(tmp_path / "project-1.json", moved).missing_files() == ()


def test_what_is_not_read_is_counted(tmp_path: Path) -> None:
    square, other = result("polygon", points=SQUARE), result("polygon", "fly", points=SQUARE)
    two = task()
    two["annotations"] = [{"result": [square]}, {"result": [other], "ground_truth": True}, {"was_cancelled": True}]
    both = task({**square, "value": {**square["value"], "polygonlabels": ["leaf", "fly"]}})
    bare = {**task(), "annotations": [], "predictions": [{"result": [square]}]}
    data = formats.load(write(tmp_path, two, both, bare, task()))
    assert [[data.classes[a.label] for a in data.of(i)] for i in range(len(data))] == [["fly"], ["leaf"], []]
    assert data.notes == (
        "1 task without an annotation not read (predictions are none).",
        "1 task with several annotations; the ground truth, else the first, is read (task id 7).",
        "1 object with several labels, of which the first is the class (leaf of leaf, fly).",
    )


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (task({**result("polygon", points=SQUARE), "image_rotation": 90}), "turned by 90 degrees"),
        (task(result("polygon", points=SQUARE[:2])), r"polygon 'leaf': a polygon needs at least 3 points"),
        (task(result("rectangle", x="1", y=1, width=1, height=1)), "'x' must be a finite number"),
        (task(result("rectangle", x=1, y=1, width=-1, height=1)), "width and height are not negative"),
        (task(result("brush", rle=[300])), "'rle' must be a list of bytes"),
        (task(result("brush", rle=[0, 0, 50, 0])), "cut off"),
        (task(result("brush", rle=packed(np.zeros(8, np.uint8)))), "the brush has 8 values"),
        (task(result("brush", rle=packed(np.zeros(12800, np.uint8))[:9])), "cut off"),
        (task(result("polygon", points=SQUARE), image=".."), "'data' must name the image"),
        (task({**result("polygon", points=SQUARE), "original_width": 0}), "must be at least 1"),
        (
            task(result("polygon", points=SQUARE), {**result("polygon", points=SQUARE), "original_width": 9}),
            "several siz",
        ),
        ({**task(), "annotations": [3]}, "expected a JSON object, got 3"),
    ],
)
def test_faults_name_file_and_task(tmp_path: Path, broken: Any, said: str) -> None:
    with pytest.raises(DataError, match=rf"project-1\.json: task (id 7|0 of the list).*{said}"):
        label_studio.load(write(tmp_path, broken))


def test_it_is_read_only_and_needs_an_object(tmp_path: Path) -> None:
    path = write(tmp_path, task())
    with pytest.raises(DataError, match="no task has an object"):
        label_studio.load(path)
    data = formats.load(write(tmp_path, task(result("polygon", points=SQUARE))))
    with pytest.raises(ConfigError, match="label_studio"):
        formats.save(tmp_path / "out", data, "label_studio")
    (tmp_path / "short.json").write_text(
        json.dumps([{"image": "a", "annotation_id": 1, "annotator": 1, "lead_time": 2}])
    )
    with pytest.raises(DataError, match="JSON-MIN"):
        formats.load(tmp_path / "short.json")


@settings(max_examples=40, deadline=None)
@given(
    values=hnp.arrays(np.uint8, st.tuples(st.integers(1, 6), st.integers(1, 7)), elements=st.sampled_from([0, 9, 255]))
)
def test_any_brush_is_decoded(values: np.ndarray) -> None:
    rgba = np.zeros((*values.shape, 4), np.uint8)
    rgba[:, :, 3], rgba[:, :, 0] = values, 3
    found = decode(Record(Path("a"), "x"), packed(rgba.ravel()), values.shape)
    np.testing.assert_array_equal(found, values > 0)
