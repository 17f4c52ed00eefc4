"""The nuclei metric against its slow twin, numbers worked out by hand, and the boring edges."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.reference import nuclei as slow

from maskwright.errors import ConfigError, DataError
from maskwright.metrics.nuclei import THRESHOLDS, NucleiMetric
from maskwright.types import Classes, Instances, Masks

ONE, TWO = Classes(["nucleus"]), Classes(["nucleus", "cell"])


def instances(bitmaps: Any, scores: Any = None, labels: Any = None, classes: Classes = ONE) -> Instances:
    masks = Masks.from_dense(np.asarray(bitmaps, bool))
    count = len(masks)
    return Instances(
        masks.boxes(),
        np.ones(count) if scores is None else scores,
        np.zeros(count) if labels is None else labels,
        classes,
        masks.size,
        masks,
    )


def boxes(size: tuple[int, int], *corners: tuple[int, int, int, int]) -> np.ndarray:
    """Bitmaps of rectangles x0, y0, x1, y1."""
    out = np.zeros((len(corners), *size), bool)
    for bitmap, (x0, y0, x1, y1) in zip(out, corners, strict=True):
        bitmap[y0:y1, x0:x1] = True
    return out


@st.composite
def source_images(draw: st.DrawFn) -> tuple[Instances, Instances, Instances]:
    """Found, annotated and crowd rectangles of two classes on a small image: many touch, overlap or coincide."""
    size = draw(st.integers(1, 9)), draw(st.integers(1, 9))

    def some(most: int) -> np.ndarray:
        corner = st.tuples(st.integers(0, size[1]), st.integers(0, size[0]), st.integers(0, 5), st.integers(0, 5))
        rows = draw(st.lists(corner, max_size=most))
        return boxes(size, *((x, y, x + w, y + h) for x, y, w, h in rows))

    def of(bitmaps: np.ndarray, scores: Any) -> Instances:
        labels = draw(st.lists(st.integers(0, 1), min_size=len(bitmaps), max_size=len(bitmaps)))
        return instances(bitmaps, scores, labels, TWO)

    truth = some(5)
    found = np.concatenate([some(4), truth[: draw(st.integers(0, 5))]])
    levels = st.sampled_from([0.1, 0.3, 0.5, 0.7, 0.9])
    scores = draw(st.lists(levels, min_size=len(found), max_size=len(found)))
    crowds = some(2)
    return of(found, scores), of(truth, np.ones(len(truth))), of(crowds, np.ones(len(crowds)))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(source_images(), min_size=1, max_size=3),
    st.sampled_from([0.0, 0.4, 0.5, 1.0]),
    st.sampled_from([0.0, 0.5]),
)
def test_equals_the_slow_twin(sets: list[tuple[Instances, ...]], keep: float, score: float) -> None:
    metric = NucleiMetric(TWO, keep=keep, thresholds=(0.5, 0.75, 0.9))
    for found, truth, crowd in sets:
        metric.add(found, truth, crowd)
    result = metric.result(score)
    for label, scores in ((None, result.overall), (0, result.per_class[0]), (1, result.per_class[1])):
        for row in scores.rows:
            rows = [
                slow.counts(f.masks, f.scores, f.labels, t.masks, t.labels, row.iou, keep=keep, score=score,
                            label=label, crowds=c.masks, crowd_labels=c.labels)
                for f, t, c in sets
            ]  # fmt: skip
            tp, fp, fn, iou = (sum(r[k] for r in rows) for k in range(4))
            assert (row.tp, row.fp, row.fn) == (tp, fp, fn)
            assert row.matched_iou == pytest.approx(iou / max(tp, 1) if tp + fp + fn else -1)
            each = [slow.average(*r[:3]) for r in rows if label is None or sum(r[:3])]
            assert row.ap_by_image == pytest.approx(np.mean(each) if each else -1)


def test_counts_worked_out_by_hand() -> None:
    truth = boxes((20, 40), (0, 0, 10, 10), (20, 0, 30, 10), (0, 12, 5, 17))
    found = boxes((20, 40), (0, 0, 10, 8), (20, 0, 30, 6), (30, 12, 35, 17))  # IoU 0.8, 0.6, 0
    metric = NucleiMetric(ONE)
    metric.add(instances(found, [0.9, 0.8, 0.7]), instances(truth), name="one.png")
    metric.add(instances(boxes((4, 4), (0, 0, 2, 2))), instances(boxes((4, 4), (0, 0, 2, 2))), name="two.png")
    result = metric.result()
    half, high = result.overall.at(0.5), result.overall.at(0.65)
    assert (half.tp, half.fp, half.fn) == (3, 1, 1)
    assert (high.tp, high.fp, high.fn) == (2, 2, 2)
    assert (half.ap, half.ap_by_image) == pytest.approx((3 / 5, (2 / 4 + 1) / 2))
    assert (half.precision, half.recall, half.f1) == pytest.approx((3 / 4, 3 / 4, 3 / 4))
    assert (half.matched_iou, half.panoptic_quality) == pytest.approx((2.4 / 3, 2.4 / 4))
    # image one: AP 2/4 at 0.5 to 0.6, 1/5 to 0.8, 0 above
    one = (3 * 2 / 4 + 4 * 1 / 5) / 10
    assert result.overall.mean == pytest.approx((one + 1) / 2)
    assert [(p.name, p.tp, p.fp, p.fn) for p in result.per_image] == [("one.png", 2, 1, 1), ("two.png", 1, 0, 0)]
    assert result.per_image[0].mean == pytest.approx(one)
    confident = metric.result(0.85).overall.at(0.5)
    assert (confident.tp, confident.fp, confident.fn) == (2, 0, 2)


def test_doubles_are_dropped_and_pixels_belong_to_the_best() -> None:
    truth = instances(boxes((10, 30), (0, 0, 10, 10), (10, 0, 20, 10)))
    rows = [(0, 0, 10, 10), (0, 0, 10, 9), (8, 0, 20, 10)]  # right, its double, its neighbour reaching over
    found = instances(boxes((10, 30), *rows), [0.9, 0.8, 0.7])
    metric = NucleiMetric(ONE)
    metric.add(found, truth)
    row = metric.result().overall.at(0.95)
    assert (row.tp, row.fp, row.fn, row.matched_iou) == (2, 0, 0, 1.0)
    assert metric.result().dropped == 1
    assert metric.result(0.85).dropped == 0
    assert "duplicates" in metric.result().table()


@pytest.mark.parametrize("threshold", [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95])
def test_an_iou_of_the_threshold_itself_counts(threshold: float) -> None:
    pixels = round(threshold * 20)
    metric = NucleiMetric(ONE)
    metric.add(instances(boxes((1, 30), (0, 0, pixels, 1))), instances(boxes((1, 30), (0, 0, 20, 1))))
    tps = [row.tp for row in metric.result().overall.rows]
    assert tps == [int(t <= threshold) for t in THRESHOLDS]


def test_exact_halves_count_once() -> None:
    whole, halves = boxes((2, 8), (0, 0, 8, 2)), boxes((2, 8), (0, 0, 4, 2), (4, 0, 8, 2))
    for found, truth, expected in ((whole, halves, (1, 0, 1)), (halves, whole, (1, 1, 0))):
        metric = NucleiMetric(ONE)
        metric.add(instances(found), instances(truth))
        row = metric.result().overall.at(0.5)
        assert (row.tp, row.fp, row.fn) == expected


def test_empty_images() -> None:
    some, none = instances(boxes((5, 5), (0, 0, 3, 3))), instances(boxes((5, 5)))
    right = NucleiMetric(ONE)
    right.add(none, none)
    row = right.result().overall.at(0.5)
    assert (row.ap_by_image, row.ap, row.precision, row.panoptic_quality) == (1.0, -1.0, -1.0, -1.0)
    for found, truth in ((some, none), (none, some)):
        wrong = NucleiMetric(ONE)
        wrong.add(found, truth)
        row = wrong.result().overall.at(0.5)
        assert (row.ap_by_image, row.ap, row.f1, row.matched_iou) == (0.0, 0.0, 0.0, 0.0)
    nothing = NucleiMetric(TWO).result()
    assert (nothing.overall.mean, nothing.per_image) == (-1.0, ())
    assert NucleiMetric(ONE).best_threshold() == pytest.approx(0.99)
    for result in (nothing, right.result(), wrong.result()):
        json.dumps(result.to_dict(), allow_nan=False)
        assert "nan" not in result.table()


def test_classes() -> None:
    truth = instances(boxes((9, 9), (0, 0, 4, 4), (5, 5, 9, 9)), labels=[0, 1], classes=TWO)
    found = instances(boxes((9, 9), (0, 0, 4, 4), (5, 5, 9, 9)), labels=[0, 0], classes=TWO)
    metric = NucleiMetric(TWO)
    metric.add(found, truth)
    result = metric.result()
    assert result.overall.at(0.5).ap == 1
    first, second = (s.at(0.5) for s in result.per_class)
    assert (first.tp, first.fp, first.fn, first.ap_by_image) == (1, 1, 0, 0.5)
    assert (second.tp, second.fp, second.fn, second.ap) == (0, 0, 1, 0.0)
    assert "cell" in result.table()
    single = NucleiMetric(ONE)
    single.add(instances(boxes((2, 2))), instances(boxes((2, 2))))
    assert single.result().per_class[0].rows == single.result().overall.rows
    assert single.result().per_class[0].name == "nucleus"


def test_crowds_excuse_what_lies_in_them_by_half() -> None:
    crowd = instances(boxes((10, 40), (0, 0, 20, 10)), labels=[0], classes=TWO)
    truth = instances(boxes((10, 40), (30, 0, 40, 10)), labels=[0], classes=TWO)
    rows = [(15, 0, 25, 5), (16, 5, 26, 10), (0, 0, 5, 5), (30, 0, 40, 10)]  # half in, 0.4 in, in as class 1, found
    metric = NucleiMetric(TWO)
    metric.add(instances(boxes((10, 40), *rows), labels=[0, 0, 1, 0], classes=TWO), truth, crowd)
    result = metric.result()
    found = [(s.at(0.5).tp, s.at(0.5).fp, s.at(0.5).fn) for s in (result.overall, *result.per_class)]
    assert found == [(1, 1, 0), (1, 1, 0), (0, 1, 0)]


def test_equal_scores_come_in_the_given_order() -> None:
    """Thirty doubles of one object, all equally sure: the first, which fits best, keeps its pixels."""
    truth = instances(boxes((9, 30), (0, 0, 20, 9)))
    metric = NucleiMetric(ONE)
    metric.add(instances(boxes((9, 30), *((0, 0, 20 - k // 3, 9) for k in range(30))), np.full(30, 0.5)), truth)
    row = metric.result().overall.at(0.95)
    assert (row.tp, row.fp, row.matched_iou) == (1, 0, 1.0)


def test_the_best_threshold() -> None:
    """Right ones at 0.8 and 0.6, wrong ones at 0.4: any threshold in (0.4, 0.6] is best, the highest is taken."""
    truth = instances(boxes((9, 30), (0, 0, 5, 5), (10, 0, 15, 5)))
    found = boxes((9, 30), (0, 0, 5, 5), (10, 0, 15, 5), (20, 0, 25, 5))
    metric = NucleiMetric(ONE)
    metric.add(instances(found, [0.8, 0.6, 0.4]), truth)
    assert metric.best_threshold() == pytest.approx(0.6)
    assert metric.best_threshold([0.3, 0.45, 0.9]) == 0.45
    assert metric.result(0.6).overall.mean == 1


def test_hidden_and_overlapping_annotations_are_told() -> None:
    metric = NucleiMetric(ONE)
    metric.add(instances(boxes((9, 9))), instances(boxes((9, 9), (0, 0, 5, 5), (0, 0, 5, 5), (4, 4, 9, 9))))
    result = metric.result()
    assert result.overall.objects == 2
    assert any("without a pixel of their own" in note for note in result.notes)
    assert any("over others" in note for note in result.notes)


def test_wrong_input_is_refused() -> None:
    square = instances(boxes((5, 5), (0, 0, 3, 3)))
    bare = Instances(square.boxes, square.scores, square.labels, ONE, (5, 5))
    metric = NucleiMetric(ONE)
    with pytest.raises(DataError, match="only boxes"):
        metric.add(bare, square, name="a.png")
    with pytest.raises(DataError, match=r"a\.png.*\(4, 5\)"):
        metric.add(instances(boxes((4, 5))), square, name="a.png")
    with pytest.raises(DataError, match="classes"):
        metric.add(instances(boxes((5, 5)), classes=TWO), square)
    for wrong in ((), (0.4, 0.5), (0.5, 1.2)):
        with pytest.raises(ConfigError, match="one match"):
            NucleiMetric(ONE, thresholds=wrong)
    with pytest.raises(ConfigError, match="keep"):
        NucleiMetric(ONE, keep=2)
    with pytest.raises(ConfigError, match="not measured"):
        metric.result().overall.at(0.51)
    assert len(metric.result().per_image) == 0


def test_a_large_image_stays_small_in_memory() -> None:
    """1000 objects on 24 megapixels: never one bitmap of the image per object."""
    import tracemalloc

    rng = np.random.default_rng(0)
    corners = np.stack([rng.integers(0, 3900, 1000), rng.integers(0, 5900, 1000)], 1)
    crops = tuple(rng.random((int(s), int(s))) < 0.9 for s in rng.integers(20, 90, 1000))
    masks = Masks((4000, 6000), corners, crops)
    many = Instances(masks.boxes(), rng.random(1000), np.zeros(1000), ONE, masks.size, masks)
    metric = NucleiMetric(ONE)
    tracemalloc.start()
    metric.add(many, many)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 200e6
    assert metric.result().overall.at(0.5).tp > 500
