"""LabelMe folders: what is read, what is refused and how it is said, and that writing gives the same back."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from maskwright.data import formats, synthetic
from maskwright.data.dataset import Annotation, Dataset, ImageRecord
from maskwright.data.formats import coco, labelme
from maskwright.errors import DataError
from maskwright.ops import masks as mask_ops
from maskwright.results.prediction import Prediction
from maskwright.types import Classes, Landmarks, Masks


def shape(label: str, points: list[list[float]], kind: str = "polygon", **more: Any) -> dict[str, Any]:
    return {"label": label, "points": points, "group_id": None, "shape_type": kind, "flags": {}, **more}


SQUARE = [[2.0, 3.0], [8.0, 3.0], [8.0, 9.0], [2.0, 9.0]]


def document(*shapes: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A LabelMe file of an image 20 high and 30 wide."""
    head = {"version": "5.5.0", "flags": {}, "imagePath": "a.png", "imageData": None}
    return {**head, "imageHeight": 20, "imageWidth": 30, "shapes": list(shapes), **more}


def write(folder: Path, *files: dict[str, Any] | str, image: bool = True) -> Path:
    """Files 0.json, 1.json ... and the image a.png."""
    folder.mkdir(parents=True, exist_ok=True)
    for k, value in enumerate(files):
        (folder / f"{k}.json").write_text(value if isinstance(value, str) else json.dumps(value), "utf-8")
    if image:
        Image.new("RGB", (30, 20)).save(folder / "a.png")
    return folder


def one(folder: Path, *shapes: dict[str, Any]) -> tuple[Annotation, ...]:
    return labelme.load(write(folder, document(*shapes))).of(0)


def png(bitmap: np.ndarray, mode: str = "L") -> str:
    """A bitmap as LabelMe stores it: 0 and 1 as grey."""
    out = io.BytesIO()
    Image.fromarray(bitmap.astype(np.uint8)).convert(mode).save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


# ---- round trips ----------------------------------------------------------------------------------------------------


def same(one: Dataset, other: Dataset) -> None:
    """Everything that LabelMe keeps."""
    assert one.classes.names == other.classes.names
    assert [r.size for r in one.images] == [r.size for r in other.images]
    for i in range(len(one)):
        np.testing.assert_array_equal(one.masks(i).dense(), other.masks(i).dense())
        np.testing.assert_allclose(one.boxes(i), other.boxes(i), atol=1e-4)
        np.testing.assert_array_equal(one.labels(i), other.labels(i))
        np.testing.assert_array_equal(one.crowd(i), other.crowd(i))
        np.testing.assert_array_equal(one.image(i), other.image(i))


def test_round_trip_of_masks_is_exact(tmp_path: Path) -> None:
    path = synthetic.coco_fixture(tmp_path / "coco", 3)
    data = coco.load(path, tmp_path / "coco/images")
    assert labelme.save(tmp_path / "ü b", data, True) == ()
    assert formats.recognise(tmp_path / "ü b").name == "labelme"
    back = labelme.load(tmp_path / "ü b")
    same(data, back)
    assert back.notes == ()
    assert {p.name for p in (tmp_path / "ü b").iterdir()} >= {"labels.txt", "0000.json", "0000.png"}


def test_without_copies_the_files_point_at_the_images(tmp_path: Path) -> None:
    path = synthetic.coco_fixture(tmp_path / "coco", 4, images=2)
    data = coco.load(path, tmp_path / "coco/images")
    labelme.save(tmp_path / "deep/labels", data, False)
    assert json.loads((tmp_path / "deep/labels/0000.json").read_text())["imagePath"] == "../../coco/images/0000.png"
    back = labelme.load(tmp_path / "deep/labels")
    same(data, back)
    assert back.images[0].file_name == "0000.png"
    (tmp_path / "coco").rename(tmp_path / "moved")
    assert labelme.load(tmp_path / "deep/labels", tmp_path / "moved/images").image(0).shape == (*data.images[0].size, 3)


def test_landmarks_tracks_and_flags_come_back(tmp_path: Path) -> None:
    data = synthetic.scenes_fixture(tmp_path / "scenes", 5, images=3)
    rows = {i: tuple(_with(a, track_id=7 + k) for k, a in enumerate(own)) for i, own in data.annotations.items()}
    data = Dataset(data.classes, data.images, rows, data.root, data.source)
    labelme.save(tmp_path / "lm", data, True)
    back = labelme.load(tmp_path / "lm")
    same(data, back)
    assert back.classes.landmarks == data.classes.landmarks
    for i in range(len(data)):
        assert [a.track_id for a in back.of(i)] == [a.track_id for a in data.of(i)]
        for a, b in zip(data.of(i), back.of(i), strict=True):
            if a.keypoints is not None and (a.keypoints[:, 2] > 0).any():
                assert b.keypoints is not None
                seen = a.keypoints[:, 2] > 0
                np.testing.assert_array_equal(a.keypoints[seen], b.keypoints[seen])
                assert not b.keypoints[~seen].any()


def _with(row: Annotation, **changes: Any) -> Annotation:
    names = ("id", "image_id", "label", "box", "segmentation", "area", "crowd", "keypoints", "track_id", "extra")
    return Annotation(**{**{n: getattr(row, n) for n in names}, **changes})


@settings(max_examples=50, deadline=None)
@given(bitmap=hnp.arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12))))
def test_any_bitmap_comes_back_with_its_holes_and_parts(bitmap: np.ndarray, tmp_path_factory: Any) -> None:
    folder = tmp_path_factory.mktemp("any")
    masks = Masks.from_dense(bitmap[None])
    row = Annotation(1, 1, 0, (0, 0, 1, 1), mask_ops.encode(masks)[0], float(bitmap.sum()))
    record = ImageRecord(1, "x.png", masks.size)
    data = Dataset(Classes(["a"]), (record,), {1: (row,)}, None, folder / "none.json")
    lost = labelme.save(folder / "out", data, False)
    back = labelme.load(folder / "out")
    if bitmap.any():
        assert lost == ()
        np.testing.assert_array_equal(back.masks(0).dense()[0], bitmap)
    else:
        assert lost == ("1 object without a single pixel left out (annotation 1 of x.png).",)
        assert back.of(0) == ()


def test_a_prediction_comes_back(tmp_path: Path) -> None:
    """What `maskwright predict --save labelme` writes is a data set with the same masks."""
    image, found = synthetic.scene(11, (60, 80), 6)
    fields = ("boxes", "scores", "labels", "classes", "size", "crops")
    prediction = Prediction(**{name: getattr(found, name) for name in fields})
    Image.fromarray(image).save(tmp_path / "p.png")
    (tmp_path / "p.json").write_text(json.dumps(prediction.to_labelme("p.png")))
    back = labelme.load(tmp_path)
    assert back.images[0].file_name == "p.png"
    np.testing.assert_array_equal(back.masks(0).dense(), prediction.masks)
    assert [back.classes[k] for k in back.labels(0)] == [found.classes[k] for k in found.labels]
    assert back.of(0)[0].extra["description"] == "score 1.000"
    boxes = Prediction(**{name: getattr(found, name) for name in fields[:-1]})
    (tmp_path / "p.json").write_text(json.dumps(boxes.to_labelme("p.png")))
    back = labelme.load(tmp_path)
    assert not back.has_masks
    np.testing.assert_array_equal(back.boxes(0), found.boxes)


def test_landmarks_of_a_prediction_come_back(tmp_path: Path) -> None:
    """With masks and without, by name; those without a score are not annotated."""
    wing = Landmarks(("left tip", "right tip", "root"), ((0, 2),))
    points = np.array([[[3, 4, 0.9], [8, 5, 0.5], [0, 0, 0]], [[0, 0, 0], [12, 13, 0.2], [14, 15, 0.3]]])
    boxes = np.array([[2, 3, 10, 9], [11, 11, 19, 19]])
    masks = Masks((20, 30), boxes[:, 1::-1].copy(), (np.ones((6, 8), bool), np.ones((8, 8), bool)))
    for crops in (masks, None):
        found = Prediction(boxes, [0.9, 0.8], [0, 0], Classes(["fly"], landmarks=[wing]), (20, 30), crops, points)
        Image.new("RGB", (30, 20)).save(tmp_path / "p.png")
        (tmp_path / "p.json").write_text(json.dumps(found.to_labelme("p.png")))
        back = labelme.load(tmp_path)
        assert back.classes.landmarks == (wing,)
        for row, wanted in zip(back.of(0), points, strict=True):
            assert row.keypoints is not None
            np.testing.assert_array_equal(row.keypoints[:, 2] > 0, wanted[:, 2] > 0)
            np.testing.assert_allclose(row.keypoints[:, :2], wanted[:, :2])


def test_boxes_beside_outlines_stay_boxes(tmp_path: Path) -> None:
    rows = (
        Annotation(1, 1, 0, (1.5, 2, 9, 8), None, 45.0),
        Annotation(2, 1, 0, (0, 0, 4, 4), (np.array([0.0, 0, 4, 0, 4, 4]),), 8.0, crowd=True),
    )
    data = Dataset(Classes(["a", "unused"]), (ImageRecord(1, "x.png", (10, 10)),), {1: rows}, None, Path("none"))
    labelme.save(tmp_path / "out", data, False)
    back = labelme.load(tmp_path / "out")
    assert back.classes.names == ("a", "unused")
    assert [a.segmentation is None for a in back.of(0)] == [True, False]
    assert [a.box for a in back.of(0)] == [(1.5, 2, 9, 8), (0, 0, 4, 4)]
    assert [a.crowd for a in back.of(0)] == [False, True]


def test_five_hundred_objects_and_extreme_images(tmp_path: Path) -> None:
    rows = tuple(
        Annotation(
            k, 1, 0, (40.0 * k, 1, 40.0 * k + 30, 9), (np.array([40.0 * k, 1, 40 * k + 30, 1, 40 * k + 30, 9]),), 1
        )
        for k in range(500)
    )
    records = (ImageRecord(1, "wide.png", (50, 20000)), ImageRecord(2, "dot.png", (1, 1)))
    data = Dataset(Classes(["a"]), records, {1: rows, 2: ()}, None, Path("none"))
    labelme.save(tmp_path / "out", data, False)
    back = labelme.load(tmp_path / "out")
    assert [len(back.of(i)) for i in range(2)] == [0, 500]
    np.testing.assert_array_equal(back.masks(1).areas(), data.masks(0).areas())


# ---- shapes ---------------------------------------------------------------------------------------------------------


def test_every_kind_of_shape(tmp_path: Path) -> None:
    bitmap = np.array([[1, 0, 1], [1, 1, 1]], bool)
    rows = one(
        tmp_path,
        shape("polygon", SQUARE),
        shape("rectangle", [[12, 9], [6, 4]], "rectangle"),
        shape("turned", [[5, 0], [10, 5], [5, 10], [0, 5]], "oriented_rectangle"),
        shape("circle", [[15, 10], [19, 13]], "circle"),
        shape("bitmap", [[4, 7], [6, 8]], "mask", mask=png(bitmap)),
    )
    data = labelme.load(tmp_path)
    names = [data.classes[a.label] for a in rows]
    assert names == ["polygon", "rectangle", "turned", "circle", "bitmap"]
    assert [a.box for a in rows][:2] == [(2, 3, 8, 9), (6, 4, 12, 9)]
    masks = data.masks(0).dense()
    assert masks[0].sum() == 36
    assert masks[1].sum() == 30
    np.testing.assert_array_equal(masks[4][7:9, 4:7], bitmap)
    assert masks[4].sum() == bitmap.sum()
    y, x = np.mgrid[:20, :30] + 0.5
    inside = (x - 15) ** 2 + (y - 10) ** 2 <= 25
    assert (masks[3] ^ inside).sum() <= 8  # the COCO API's polygons differ from pixel centres along the edge
    assert abs(rows[3].box[2] - 20) < 0.06


def test_groups_join_parts_and_landmarks(tmp_path: Path) -> None:
    rows = one(
        tmp_path,
        shape("fly", SQUARE, group_id=4),
        shape("fly", [[20, 3], [25, 3], [25, 6]], group_id=4),
        shape("fly", [[20, 10], [25, 10], [25, 16]], group_id=5),
        shape("head", [[3, 4]], "point", group_id=4),
        shape("tail", [[22, 5]], "point", group_id=4, flags={"hidden": True}),
        shape("tail", [[22, 12]], "point", group_id=5),
    )
    data = labelme.load(tmp_path)
    assert len(rows) == 2
    assert len(rows[0].segmentation or ()) == 2
    assert rows[0].box == (2, 3, 25, 9)
    assert data.classes.landmarks == (Landmarks(("head", "tail")),)
    assert rows[0].keypoints is not None
    assert rows[1].keypoints is not None
    assert rows[0].keypoints.tolist() == [[3, 4, 2], [22, 5, 1]]
    assert rows[1].keypoints.tolist() == [[0, 0, 0], [22, 12, 2]]
    assert data.notes == ()


def test_a_polygon_and_a_bitmap_of_one_group_are_united(tmp_path: Path) -> None:
    """The bitmap's unset pixel that lies in the polygon takes nothing away."""
    bitmap = png(np.array([[0, 1, 1], [1, 1, 1]]))
    one(tmp_path, shape("a", SQUARE, group_id=1), shape("a", [[7, 8], [9, 9]], "mask", mask=bitmap, group_id=1))
    mask = labelme.load(tmp_path).masks(0).dense()
    assert mask.shape == (1, 20, 30)
    assert mask.sum() == 36 + 5


def test_what_is_no_object_is_counted(tmp_path: Path) -> None:
    shapes = [shape("a", SQUARE), shape("p", [[1, 1]], "point"), shape("l", [[1, 1], [2, 2]], "line")]
    shapes += [shape("l", [[1, 1], [2, 2], [3, 3]], "linestrip"), shape("__ignore__", SQUARE)]
    assert len(one(tmp_path, *shapes)) == 1
    notes = labelme.load(tmp_path).notes
    assert notes == (
        "Left out, being no objects: 2 lines.",
        "Left out, being no objects: 1 shape labelled __ignore__.",
        "Left out, being no objects: 1 point without an object.",
    )


def test_labels_file_gives_the_order_and_unknown_labels_are_named(tmp_path: Path) -> None:
    write(tmp_path, document(shape("cat", SQUARE)))
    (tmp_path / "labels.txt").write_bytes(b"\xef\xbb\xbf__ignore__\r\n_background_\r\nzebra\r\ncat\r\n")
    data = labelme.load(tmp_path)
    assert data.classes.names == ("zebra", "cat")
    (tmp_path / "labels.txt").write_text("zebra\ncats\n")
    with pytest.raises(DataError, match=r"0\.json: shape 0 \('cat'\): the label 'cat' is not in .*labels.txt.*'cats'"):
        labelme.load(tmp_path)


@pytest.mark.parametrize("name", ["..\\pics\\a b.png", "C:\\Users\\me\\a b.png", "/home/me/a b.png", "a b.png"])
def test_images_are_found_whatever_system_wrote_the_path(tmp_path: Path, name: str) -> None:
    value = document(shape("a", SQUARE), imagePath=name)
    folder = write(tmp_path / "labels", value, image=False)
    place = tmp_path / "pics" if name.startswith("..") else folder
    place.mkdir(exist_ok=True)
    Image.new("RGB", (30, 20)).save(place / "a b.png")
    data = labelme.load(folder)
    assert data.missing_files() == ()
    assert data.image(0).shape == (20, 30, 3)
    assert labelme.load(folder, place).images[0].file_name == "a b.png"


def test_size_comes_from_the_image_where_the_file_has_none(tmp_path: Path) -> None:
    value = document(shape("a", SQUARE), imageHeight=None)
    assert labelme.load(write(tmp_path, value)).images[0].size == (20, 30)
    (tmp_path / "a.png").unlink()
    with pytest.raises(
        DataError, match=r"0\.json: the file: it has no imageHeight .*a\.png, which would give them, does not exist"
    ):
        labelme.load(tmp_path)


def test_a_missing_image_is_not_needed_until_it_is_read(tmp_path: Path) -> None:
    data = labelme.load(write(tmp_path, document(shape("a", SQUARE)), image=False))
    assert [p.name for p in data.missing_files()] == ["a.png"]
    with pytest.raises(DataError, match=r"1 of 1 image files are missing: .*a\.png"):
        labelme.save(tmp_path / "out", data, True)
    assert not (tmp_path / "out").exists()


def test_images_inside_the_files_are_unpacked_once(tmp_path: Path) -> None:
    content = png(np.zeros((20, 30)), "RGB")
    value = document(shape("a", SQUARE), imageData=content, imageHeight=None, imageWidth=None, imagePath="x\\a.png")
    folder = write(tmp_path, value, image=False)
    assert labelme.load(folder).notes[0].startswith("1 of 1 images exist only inside their JSON files")
    assert labelme.unpack(folder) == (folder / "a.png",)
    assert labelme.load(folder).image(0).shape == (20, 30, 3)
    (folder / "a.png").write_bytes(b"mine")
    assert labelme.unpack(folder) == ()
    assert (folder / "a.png").read_bytes() == b"mine"


def test_folders_below_are_read_and_written(tmp_path: Path) -> None:
    write(tmp_path / "lm/one", document(shape("a", SQUARE)))
    write(tmp_path / "lm/two", document(shape("b", SQUARE)))
    data = labelme.load(tmp_path / "lm")
    assert [r.file_name for r in data.images] == ["one/a.png", "two/a.png"]
    labelme.save(tmp_path / "out", data, True)
    assert sorted(p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*.json")) == [
        "one/a.json",
        "two/a.json",
    ]
    same(data, labelme.load(tmp_path / "out"))


def test_unknown_fields_are_kept(tmp_path: Path) -> None:
    value = document(
        shape("a", SQUARE, description="old", score=0.5, flags={"torn": True}), flags={"blurred": True}, scanner="X"
    )
    data = labelme.load(write(tmp_path / "in", value))
    assert data.images[0].extra == {"flags": {"blurred": True}, "scanner": "X"}
    assert data.of(0)[0].extra == {"description": "old", "score": 0.5, "flags": {"torn": True}}
    labelme.save(tmp_path / "out", data, True)
    back = labelme.load(tmp_path / "out")
    assert (back.images[0].extra, back.of(0)[0].extra) == (data.images[0].extra, data.of(0)[0].extra)


# ---- faults ---------------------------------------------------------------------------------------------------------


FAULTS = {
    "cut off": (json.dumps(document(shape("a", SQUARE)))[:120], r"not valid JSON at line 1, column \d+"),
    "a list": ("[1]", r"the file: expected a JSON object"),
    "no shapes": ({"imagePath": "a.png"}, r"a LabelMe file has the list 'shapes', found \['imagePath'\]"),
    "no image": (document(imagePath=None), r"'imagePath' must name the image, got None"),
    "size": (document(shape("a", SQUARE), imageHeight="tall"), r"'imageHeight' must be an integer, got 'tall'"),
    "no size": (document(shape("a", SQUARE), imageHeight=0), r"must be at least 1, got 0 and 30"),
    "no label": (document(shape("", SQUARE)), r"shape 0: 'label' must be the name"),
    "two points": (document(shape("a", SQUARE[:2])), r"shape 0 \('a'\): it needs at least 3 points, got 2"),
    "no points": (document(shape("a", SQUARE), shape("b", "x")), r"shape 1 \('b'\): .* points, got 'x'"),  # type: ignore[arg-type]
    "not finite": (document(shape("a", [[1, 2], [3, 4], [float("nan"), 1]])), r"point 2 must be 2 finite numbers"),
    "far": (document(shape("a", [[1, 2], [3, 4], [1e8, 1]])), r"shape 0 \('a'\).*within 1000000 pixels"),
    "kind": (document(shape("a", SQUARE, "poligon")), r"the shape type 'poligon' is not known. Did you mean 'polygon'"),
    "circle": (document(shape("a", SQUARE, "circle")), r"a circle has 2 points, got 4"),
    "group": (document(shape("a", SQUARE, group_id=[1])), r"'group_id' must be a number or text"),
    "base64": (
        document(shape("a", [[1, 1], [2, 2]], "mask", mask="$$$")),
        r"shape 0 \('a'\): the image is not base64 text",
    ),
    "no mask": (
        document(shape("a", [[1, 1], [2, 2]], "mask", mask=None)),
        r"expected an image as base64 text, got None",
    ),
    "mask is no image": (
        document(shape("a", [[1, 1], [2, 2]], "mask", mask=base64.b64encode(b"hello").decode())),
        r"shape 0 \('a'\): its mask is not an image",
    ),
    "mask size": (
        document(shape("a", [[1, 1], [9, 9]], "mask", mask=png(np.ones((2, 2))))),
        r"its mask is 2x2 .* say 9x9",
    ),
    "track": (document(shape("a", SQUARE, track_id="x")), r"'track_id' must be an integer"),
    "landmarks": (document(shape("a", SQUARE), landmarks={"a": {"names": 3}}), r"'landmarks' of 'a' must have"),
    "links": (
        document(shape("a", SQUARE), landmarks={"a": {"names": ["x"], "links": [[0, 5]]}}),
        r"'landmarks' of 'a': Landmarks: links join positions 0..0",
    ),
    "twice": (
        document(
            shape("a", SQUARE, group_id=1),
            shape("p", [[1, 1]], "point", group_id=1),
            shape("p", [[2, 2]], "point", group_id=1),
        ),
        r"the group has two points called 'p'",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_name_the_file_and_the_shape(tmp_path: Path, name: str) -> None:
    value, message = FAULTS[name]
    write(tmp_path, value)
    with pytest.raises(DataError, match=message) as caught:
        labelme.load(tmp_path)
    assert "0.json" in str(caught.value)


def test_places_that_are_wrong(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no JSON file in this folder"):
        labelme.load(tmp_path / "empty")
    with pytest.raises(DataError, match="no object in any file, so no class"):
        labelme.load(write(tmp_path / "nothing", document()))
    line = shape("a", [[0, 0], [9, 9]], shape_type="line")
    with pytest.raises(DataError, match=r"so no class\. Left out, being no objects: 2 lines\. Draw areas"):
        labelme.load(write(tmp_path / "lines", document(line, line)))
    with pytest.raises(DataError, match="the image folder of"):
        labelme.load(write(tmp_path / "x", document(shape("a", SQUARE))), tmp_path / "gone")
    assert not labelme.recognise(tmp_path / "empty")
    assert not labelme.recognise(tmp_path / "gone")
    (tmp_path / "x/.trash").mkdir()
    (tmp_path / "x/.trash/old.json").write_text("{")
    assert labelme.recognise(tmp_path / "x")
    assert len(labelme.load(tmp_path / "x")) == 1


def test_what_cannot_be_written(tmp_path: Path) -> None:
    row = Annotation(1, 1, 0, (0, 0, 4, 4), (np.array([0.0, 0, 4, 0, 4, 4]),), 8.0)
    records = (ImageRecord(1, "x.png", (10, 10)), ImageRecord(2, "x.jpg", (10, 10)))
    rows = {1: (row,), 2: ()}
    with pytest.raises(DataError, match=r"'x\.png' and 'x\.jpg' would both get the file 'x\.json'"):
        labelme.save(tmp_path / "a", Dataset(Classes(["a"]), records, rows, None, Path("n")), False)
    with pytest.raises(DataError, match="several classes called 'a'"):
        labelme.save(tmp_path / "a", Dataset(Classes(["a", "a"]), records[:1], rows, None, Path("n")), False)
    with pytest.raises(DataError, match=r"cannot hold the class name 'two.nlines'"):
        labelme.save(tmp_path / "a", Dataset(Classes(["two\nlines"]), records[:1], rows, None, Path("n")), False)
    assert list(tmp_path.iterdir()) == []
