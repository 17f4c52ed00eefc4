"""Predictions: every way out gives the same instances back."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from maskwright.errors import DataError, MissingExtraError
from maskwright.results.prediction import Prediction
from maskwright.types import Classes, Landmarks, Masks

CLASSES = Classes(["cell", "Zelle, größer"], [7, 90])


def of_dense(dense: NDArray[np.bool_], **more: object) -> Prediction:
    """A prediction with these (N, H, W) masks; boxes reach a fraction of a pixel beyond them."""
    masks = Masks.from_dense(dense)
    n = len(masks)
    boxes = masks.boxes() + np.float32([-0.125, -1 / 3, 0.1, 0.7])
    scores = np.linspace(0.9, 0.1, n).astype(np.float32)
    return Prediction(boxes, scores, np.arange(n) % 2, CLASSES, masks.size, masks, **more)  # type: ignore[arg-type]


def ring_and_two_parts() -> Prediction:
    """Row 0: a square with a hole. Row 1: two parts, the second with two holes."""
    dense = np.zeros((2, 20, 30), bool)
    dense[0, 2:10, 3:12] = True
    dense[0, 4:8, 5:9] = False
    dense[1, 12:15, 1:6] = True
    dense[1, 10:19, 14:29] = True
    dense[1, 12:14, 16:18] = False
    dense[1, 15:17, 20:25] = False
    return of_dense(dense)


def test_rows_of_a_prediction_are_a_prediction() -> None:
    one = ring_and_two_parts()[1]
    assert isinstance(one, Prediction)
    assert len(one) == 1
    assert one.labels.tolist() == [1]


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools with NumPy 2
def test_coco_entries_decode_to_the_masks_with_the_coco_api() -> None:
    prediction = ring_and_two_parts()
    entries = json.loads(json.dumps(prediction.to_coco(139)))
    assert [e["image_id"] for e in entries] == [139, 139]
    assert [e["category_id"] for e in entries] == [7, 90]
    masks = prediction.masks
    assert masks is not None
    for entry, mask, box in zip(entries, masks, prediction.boxes, strict=True):
        np.testing.assert_array_equal(coco_mask.decode(entry["segmentation"]), mask)
        assert entry["area"] == mask.sum()
        x, y, width, height = entry["bbox"]
        np.testing.assert_allclose([x, y, x + width, y + height], box, rtol=1e-7)
    assert entries[0]["score"] == 0.9
    assert "image_id" not in prediction.to_coco()[0]


def test_coco_entries_without_masks_have_the_area_of_the_box() -> None:
    entry = boxes_only().to_coco(1)[0]
    assert "segmentation" not in entry
    assert entry["area"] == 30.0


def test_a_file_keeps_the_landmarks_of_the_classes(tmp_path: Path) -> None:
    wing = Landmarks(("left tip", "root", "right tip"), ((0, 1), (1, 2)))
    found = boxes_only()
    found.classes = Classes(CLASSES.names, CLASSES.ids, [None, wing])
    loaded = Prediction.load(found.save(tmp_path / "a.json"))
    assert loaded.classes == found.classes
    assert loaded.classes.landmarks == (None, wing)


def test_a_prediction_carries_the_class_of_each_pixel(tmp_path: Path) -> None:
    semantic = np.array([[0, 0, 1, 1], [0, 2, 2, -1], [5, 5, 5, 5]])
    found = Prediction(np.float32([[0, 0, 2, 2]]), [0.5], [1], CLASSES, (3, 4), semantic=semantic)
    document = json.loads(found.save(tmp_path / "a.json").read_text("utf-8"))
    assert [row["label"] for row in document["semantic"]] == [0, 1, 2, 5]
    np.testing.assert_array_equal(Prediction.load(tmp_path / "a.json").semantic, semantic)
    np.testing.assert_array_equal(found[:0].semantic, semantic)
    nothing = Prediction(np.zeros((0, 4)), [], [], CLASSES, (2, 2), semantic=np.full((2, 2), -1))
    np.testing.assert_array_equal(Prediction.load(nothing.save(tmp_path / "b.json")).semantic, [[-1, -1], [-1, -1]])
    assert "semantic" not in json.loads(boxes_only().save(tmp_path / "c.json").read_text("utf-8"))
    with pytest.raises(DataError, match=r"semantic is \(3, 4\), the image is \(4, 3\)"):
        Prediction(np.zeros((0, 4)), [], [], CLASSES, (4, 3), semantic=semantic)


def boxes_only() -> Prediction:
    return Prediction(np.float32([[1, 2, 7, 7]]), np.float32([0.5]), np.array([0]), CLASSES, (10, 10))


def test_polygons_keep_parts_and_holes() -> None:
    polygons = ring_and_two_parts().to_polygons()
    assert [len(parts) for parts in polygons] == [1, 2]
    assert sorted(len(part["holes"]) for part in polygons[1]) == [0, 2]
    assert sorted(map(tuple, polygons[0][0]["outer"])) == [(3, 2), (3, 10), (12, 2), (12, 10)]
    assert sorted(map(tuple, polygons[0][0]["holes"][0])) == [(5, 4), (5, 8), (9, 4), (9, 8)]
    with pytest.raises(DataError, match="finds boxes only"):
        boxes_only().to_polygons()


def inside(ring: list[list[float]], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Even-odd fill at pixel centres, edge by edge: slow and obvious."""
    out = np.zeros(size, bool)
    for row in range(size[0]):
        for column in range(size[1]):
            x, y = column + 0.5, row + 0.5
            for (x0, y0), (x1, y1) in zip(ring, [*ring[1:], ring[0]], strict=True):
                if (y0 > y) != (y1 > y) and x < x0 + (y - y0) * (x1 - x0) / (y1 - y0):
                    out[row, column] ^= True
    return out


def test_labelme_polygons_fill_exactly_the_masks() -> None:
    prediction = ring_and_two_parts()
    labelme = json.loads(json.dumps(prediction.to_labelme("../Zellen/größe 1.png")))
    assert labelme["imagePath"] == "../Zellen/größe 1.png"
    assert (labelme["imageHeight"], labelme["imageWidth"]) == (20, 30)
    shapes = labelme["shapes"]
    assert [s["label"] for s in shapes] == ["cell", "Zelle, größer", "Zelle, größer"]
    assert [s["group_id"] for s in shapes] == [None, 1, 1]
    assert {s["shape_type"] for s in shapes} == {"polygon"}
    filled = [inside(s["points"], (20, 30)) for s in shapes]
    np.testing.assert_array_equal(np.stack([filled[0], filled[1] | filled[2]]), prediction.masks)


def test_labelme_without_masks_has_rectangles() -> None:
    shape = boxes_only().to_labelme("a.png")["shapes"][0]
    assert shape["shape_type"] == "rectangle"
    assert shape["points"] == [[1, 2], [7, 7]]


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_saved_predictions_load_exactly(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    n, height, width = (data.draw(st.integers(low, 9)) for low in (0, 1, 1))
    bits = data.draw(st.lists(st.booleans(), min_size=n * height * width, max_size=n * height * width))
    masks = Masks.from_dense(np.array(bits, bool).reshape(n, height, width))
    number = st.floats(-1e6, 1e6, width=32)
    boxes = np.array(data.draw(st.lists(number, min_size=4 * n, max_size=4 * n)), np.float32).reshape(n, 4)
    scores = data.draw(st.lists(st.floats(0, 1, width=32), min_size=n, max_size=n))
    points = np.array(data.draw(st.lists(number, min_size=6 * n, max_size=6 * n)), np.float32).reshape(n, 2, 3)
    kept = data.draw(st.booleans())
    saved = Prediction(
        boxes,
        np.array(scores, np.float32),
        np.arange(n) % 2,
        CLASSES,
        (height, width),
        masks if kept else None,
        keypoints=points if kept else None,
        track_ids=np.arange(n) * 3 if kept else None,
        semantic=np.arange(height * width).reshape(height, width) % 4 - 1 if kept else None,
    )
    loaded = Prediction.load(saved.save(tmp_path_factory.mktemp("saved") / "größe.json"))
    same(saved, loaded)


def same(one: Prediction, other: Prediction) -> None:
    assert one.classes == other.classes
    assert one.size == other.size
    for name in ("boxes", "scores", "labels", "masks", "keypoints", "track_ids", "semantic"):
        a, b = getattr(one, name), getattr(other, name)
        assert (a is None) == (b is None), name
        if a is not None:
            assert a.dtype == b.dtype, name
            np.testing.assert_array_equal(a, b, err_msg=name, strict=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: [], "not a prediction saved by maskwright"),
        (lambda d: d | {"format": "labelme"}, "not a prediction saved by maskwright"),
        (lambda d: d | {"version": 2}, "format version 2, this maskwright reads version 1"),
        (lambda d: {k: v for k, v in d.items() if k != "size"}, "the key 'size' is missing"),
        (lambda d: d | {"instances": [{**d["instances"][0], "box": [1, 2, 3]}]}, "instance 0: box has shape"),
        (lambda d: d | {"instances": [{**d["instances"][0], "score": "high"}]}, "high"),
        (lambda d: d | {"instances": [{**d["instances"][0], "label": 5}]}, "labels must be in 0..1"),
        (lambda d: d | {"instances": [{**d["instances"][0], "segmentation": {"size": [9, 9]}}]}, "RLE 0"),
        (lambda d: d | {"size": [5, 5]}, "RLE 0"),
        (lambda d: d | {"instances": {}}, "must be a list of objects"),
        (lambda d: d | {"instances": [3]}, "must be a list of objects"),
    ],
)
def test_damaged_files_are_named_with_what_is_wrong(tmp_path: Path, change: object, message: str) -> None:
    path = ring_and_two_parts().save(tmp_path / "a.json")
    path.write_text(json.dumps(change(json.loads(path.read_text("utf-8")))), "utf-8")  # type: ignore[operator]
    with pytest.raises(DataError, match=message) as caught:
        Prediction.load(path)
    assert str(path) in str(caught.value)


def test_cut_and_missing_files_are_errors(tmp_path: Path) -> None:
    path = ring_and_two_parts().save(tmp_path / "a.json")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"a\.json: not a readable JSON file"):
        Prediction.load(path)
    with pytest.raises(DataError, match=r"b\.json: there is no such file"):
        Prediction.load(tmp_path / "b.json")


def test_a_failed_save_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = ring_and_two_parts().save(tmp_path / "a.json")
    before = path.read_bytes()
    broken = ring_and_two_parts()
    broken.boxes[1, 0] = np.nan
    with pytest.raises(DataError, match=r"a\.json: instance 1 has the box"):
        broken.save(path)
    monkeypatch.setattr(Prediction, "_row", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        ring_and_two_parts().save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_supervision_is_asked_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'maskwright\[supervision\]'"):
        ring_and_two_parts().to_supervision()


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_supervision_gets_the_masks_without_making_them_dense() -> None:
    pytest.importorskip("supervision")
    prediction = ring_and_two_parts()
    detections = prediction.to_supervision()
    assert not isinstance(detections.mask, np.ndarray)
    np.testing.assert_array_equal(np.asarray(detections.mask), prediction.masks)
    np.testing.assert_array_equal(detections.xyxy, prediction.boxes)
    np.testing.assert_array_equal(detections.confidence, prediction.scores)
    assert detections.data["class_name"].tolist() == ["cell", "Zelle, größer"]
    assert len(prediction[:0].to_supervision()) == 0
    assert boxes_only().to_supervision().mask is None
    prediction.keypoints = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    np.testing.assert_array_equal(prediction.to_supervision().data["keypoints"], prediction.keypoints)
