"""The numbers of a data set, against counting by hand."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskwright.data import synthetic
from maskwright.data.dataset import Annotation, Dataset, ImageRecord
from maskwright.data.formats import coco
from maskwright.data.stats import Quantiles, stats, summary
from maskwright.errors import DataError
from maskwright.types import Classes, Landmarks


def square(k: int, image: int, x: float, y: float, side: float, label: int = 0, **more: object) -> Annotation:
    ring = np.array([x, y, x + side, y, x + side, y + side, x, y + side])
    box = (x, y, x + side, y + side)
    return Annotation(k, image, label, box, (ring,), side * side, **more)  # type: ignore[arg-type]


def dataset(
    rows: dict[int, tuple[Annotation, ...]], sizes: list[tuple[int, int]], landmarks: Any = None, **more: object
) -> Dataset:
    records = tuple(ImageRecord(k, f"{k}.png", size) for k, size in enumerate(sizes))
    return Dataset(Classes(["a", "b", "unused"], [7, 3, 9], landmarks), records, rows, None, Path("n"), **more)  # type: ignore[arg-type]


def test_counts_by_hand() -> None:
    marks = (Landmarks(("tip",)), None, None)
    rows = {
        0: (
            square(1, 0, 0, 0, 20, keypoints=np.array([[1, 1, 2.0]]), track_id=5),
            square(2, 0, 0, 0, 20, label=1, track_id=6),
            square(3, 0, 100, 50, 40, keypoints=np.array([[1, 1, 0.0]]), track_id=5),
            square(4, 0, 200, 0, 100, crowd=True),
        ),
        1: (Annotation(5, 1, 1, (10, 10, 110, 210), None, 20000.0),),
        2: (),
    }
    found = stats(dataset(rows, [(200, 400), (300, 300), (200, 400)], landmarks=marks))
    assert (found.images, found.annotations, found.objects, found.crowds, found.empty) == (3, 5, 4, 1, 1)
    assert [(c.name, c.id, c.objects, c.crowds, c.images) for c in found.classes] == [
        ("a", 7, 2, 1, 1),
        ("b", 3, 2, 0, 2),
        ("unused", 9, 0, 0, 0),
    ]
    assert found.sizes == (((200, 400), 2), ((300, 300), 1))
    assert (found.small, found.medium, found.large) == (2, 1, 1)
    assert (found.polygons, found.lengths, found.boxes_only, found.has_masks) == (3, 0, 1, False)
    assert (found.landmarks, found.has_landmarks, found.tracks) == (1, True, 2)
    assert found.object_side is not None
    assert found.object_side.median == 30
    assert found.relative_side is not None
    assert found.relative_side.minimum == 0.1
    assert found.relative_side.maximum == pytest.approx(20000**0.5 / 300)
    assert found.per_image == Quantiles(3, 4 / 3, 0, 0.1, 0.5, 1, 2, 2.8, 3)
    assert found.aspect is not None
    assert found.aspect.minimum == 0.5
    assert found.covered is not None
    assert found.covered.maximum == pytest.approx(20000 / 90000)
    assert (found.overlap.over_half, found.overlap.over_half_same) == (2, 0)
    assert found.overlap.masks is None


def test_limits_of_small_and_large_belong_to_the_larger_kind() -> None:
    sides = (31.9, 32, 95.9, 96)
    found = stats(dataset({0: tuple(square(k, 0, 0, 0, side) for k, side in enumerate(sides))}, [(200, 200)]))
    assert (found.small, found.medium, found.large) == (1, 2, 1)


def test_drawing_counts_pixels() -> None:
    """Two objects that share half of their pixels fill less than their areas, and the file's wrong area is not used."""
    first, second = square(1, 0, 0, 0, 4), square(2, 0, 2, 0, 4)
    wrong = Annotation(3, 0, 0, (6, 6, 8, 8), square(3, 0, 6, 6, 2).segmentation, 999.0)
    data = dataset({0: (first, second, wrong, square(4, 0, 0, 0, 10, crowd=True))}, [(10, 10)])
    plain, drawn = stats(data), stats(data, draw=True)
    assert plain.covered is not None
    assert drawn.covered is not None
    assert plain.covered.maximum == 1.0
    assert drawn.covered.maximum == pytest.approx((4 * 6 + 4) / 100)
    assert drawn.overlap.masks is not None
    assert (drawn.overlap.masks.minimum, drawn.overlap.masks.maximum) == (0, 0.5)
    assert drawn.object_side is not None
    assert drawn.object_side.maximum == 4
    assert drawn.drawn
    with pytest.raises(DataError, match="has no segmentation"):
        stats(dataset({0: (Annotation(1, 0, 0, (0, 0, 1, 1), None, 1.0),)}, [(4, 4)]), draw=True)


@settings(max_examples=50, deadline=None)
@given(
    boxes=st.lists(st.tuples(*[st.integers(0, 12)] * 4, st.integers(0, 1)), max_size=12),
)
def test_overlaps_equal_a_slow_count(boxes: list[tuple[int, ...]]) -> None:
    rows = tuple(
        Annotation(k, 0, label, (x, y, x + w, y + h), None, float(w * h)) for k, (x, y, w, h, label) in enumerate(boxes)
    )
    found = stats(dataset({0: rows}, [(30, 30)]))
    best, same = [], []
    for one in rows:
        others = [(iou(one.box, o.box), o.label == one.label) for o in rows if o is not one]
        best.append(max((v for v, _ in others), default=0.0))
        same.append(max((v for v, equal in others if equal), default=0.0))
    assert found.overlap.over_half == sum(v > 0.5 for v in best)
    assert found.overlap.over_half_same == sum(v > 0.5 for v in same)
    if rows:
        assert found.overlap.boxes is not None
        assert found.overlap.boxes.maximum == pytest.approx(max(best))
        assert found.overlap.boxes.mean == pytest.approx(sum(best) / len(best))
    assert found.no_area == sum(a.area == 0 for a in rows)


def iou(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    shared = max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared / union if union else 0.0


def test_nothing_to_measure() -> None:
    for data in (dataset({}, []), dataset({0: ()}, [(4, 4)])):
        found = stats(data)
        assert found.object_side is None
        assert found.has_masks
        assert found.report()
        assert json.loads(json.dumps(found.as_json(), allow_nan=False))["objects"] == 0
    assert summary(dataset({0: ()}, [(4, 4)])) == "1 image (1 empty), 0 objects, 3 classes."


def test_report_and_json_say_the_same(tmp_path: Path) -> None:
    path = synthetic.coco_fixture(tmp_path, 3)
    data = coco.load(path, tmp_path / "images")
    found = stats(data, draw=True)
    text = found.report()
    assert text.splitlines()[0] == summary(data) == "6 images (1 empty), 24 objects, 1 crowd region, 3 classes."
    assert max(map(len, text.splitlines())) <= 120
    assert re_line(text, "star") == ["star", "6", "25.0%", "1", "3"]
    values = found.as_json()
    assert values["classes"][1]["objects"] == 6
    assert values["sizes"][0] == {"height": 96, "width": 128, "images": 1}
    assert json.loads(json.dumps(values)) == values


def re_line(text: str, start: str) -> list[str]:
    return next(line for line in text.splitlines() if line.startswith(start)).split()


def test_real_images(shared: Path) -> None:
    """COCO's own areas and boxes; the counts are those of the file's raw JSON."""
    path = shared / "data/coco_open/annotations/instances_train.json"
    raw = json.loads(path.read_text())
    found = stats(coco.load(path))
    assert found.annotations == len(raw["annotations"])
    assert found.crowds == sum(a["iscrowd"] for a in raw["annotations"])
    areas = [a["area"] for a in raw["annotations"] if not a["iscrowd"]]
    assert found.small == sum(v < 1024 for v in areas)
    assert found.large == sum(v >= 9216 for v in areas)
    assert found.object_side is not None
    assert found.object_side.median == pytest.approx(float(np.median(np.sqrt(areas))))


def test_many_annotations_take_no_time() -> None:
    """20,000 objects in well under a second; the limit is for a machine that does other things too."""
    rng = np.random.default_rng(0)
    rows = {}
    for i in range(1000):
        corners = rng.uniform(0, 500, (20, 2)).tolist()
        rows[i] = tuple(square(20 * i + k, i, x, y, 20.0, label=k % 2) for k, (x, y) in enumerate(corners))
    data = dataset(rows, [(600, 600)] * 1000)
    start = time.process_time()
    assert stats(data).objects == 20_000
    assert time.process_time() - start < 5
