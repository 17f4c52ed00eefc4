"""The COCO numbers: equal to pycocotools and to the official files, and honest about what was not measured."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.reference.coco_sets import pycocotools_says, random_set

from maskwright.data import synthetic
from maskwright.data.dataset import Dataset
from maskwright.data.formats import coco
from maskwright.errors import ConfigError, DataError
from maskwright.metrics.coco import CocoMetric
from maskwright.metrics.coco_result import STATS, CocoResult
from maskwright.metrics.metric import GroundTruth
from maskwright.types import Classes, Instances, Masks


def both_ways(folder: Path, truth: dict[str, Any], results: list[dict[str, Any]]) -> tuple[CocoResult, CocoResult]:
    """Our numbers from a result file, and from the same results as instances (float32)."""
    (folder / "truth.json").write_text(json.dumps(truth))
    (folder / "results.json").write_text(json.dumps(results))
    data = coco.load(folder / "truth.json")
    exact, rounded = CocoMetric(data), CocoMetric(data)
    rows = coco.read_results(folder / "results.json", data)
    for i, record in enumerate(data.images):
        exact.update_rows(record.id, rows[record.id])
        rounded.update(coco.instances_of(rows[record.id], record, data.classes), GroundTruth(data, i))
    return exact.result(), rounded.result()


def as_float32(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The results as they come back after their corners and scores went through float32."""
    rows = []
    for row in results:
        x, y, w, h = row["bbox"]
        x1, y1, x2, y2 = (float(np.float32(v)) for v in (x, y, x + w, y + h))
        rows.append({**row, "bbox": [x1, y1, x2 - x1, y2 - y1], "score": float(np.float32(row["score"]))})
    return rows


@pytest.mark.parametrize("seed", range(60))
def test_equals_pycocotools(tmp_path: Path, seed: int) -> None:
    truth, results = random_set(seed)
    for ours, given in zip(both_ways(tmp_path, truth, results), (results, as_float32(results)), strict=True):
        for kind, scores in (("bbox", ours.boxes), ("segm", ours.masks)):
            theirs = pycocotools_says(truth, given, kind)
            assert scores is not None
            for name in ("stats", "precision", "recall", "thresholds"):
                np.testing.assert_allclose(getattr(scores, name), theirs[name], rtol=0, atol=1e-9, err_msg=name)
            for k, row in enumerate(scores.per_class):
                curves = theirs["precision"][:, :, k], theirs["precision"][0, :, k], theirs["precision"][5, :, k]
                expected = [measured_mean(c) for c in (*curves, theirs["recall"][:, k])]
                np.testing.assert_allclose([row.ap, row.ap50, row.ap75, row.ar], expected, rtol=0, atol=1e-9)


def measured_mean(values: NDArray[np.float64]) -> float:
    """The COCO API's mean: over what is not -1, and -1 where that is nothing."""
    return float(np.mean(values[values > -1])) if (values > -1).any() else -1.0


def test_the_random_sets_have_every_case() -> None:
    """Otherwise the test above would prove less than it says."""
    seen: set[str] = set()
    for seed in range(60):
        truth, results = random_set(seed)
        for image in truth["images"]:
            own = [a for a in truth["annotations"] if a["image_id"] == image["id"]]
            found = [r for r in results if r["image_id"] == image["id"]]
            seen |= {f"objects {min(len(own), 2)}", f"found {min(len(found), 2)}"}
            seen |= {"crowd" for a in own if a["iscrowd"]}
            seen |= {"parts" for a in own if isinstance(a["segmentation"], list) and len(a["segmentation"]) > 1}
            of_class = [[r for r in found if r["category_id"] == c["id"]] for c in truth["categories"]]
            seen |= {"over 100" for rows in of_class if len(rows) > 100}
            seen |= {"ties" for rows in of_class if len({r["score"] for r in rows}) < len(rows)}
        annotated = {a["category_id"] for a in truth["annotations"]}
        seen |= {"class without truth"} if len(annotated) < len(truth["categories"]) else set()
        seen |= {"nothing annotated"} if not annotated else set()
        seen |= {"nothing found"} if not results else set()
    missing = {"objects 0", "objects 1", "objects 2", "found 0", "found 1", "found 2", "crowd", "parts", "over 100"}
    missing |= {"ties", "class without truth", "nothing annotated", "nothing found"}
    assert missing <= seen, missing - seen


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_official_numbers(shared: Path, kind: str) -> None:
    folder = shared / "data" / "cocoapi_eval100"
    data = coco.load(folder / "instances_val2014_100.json")
    file = folder / f"instances_val2014_fake{kind}100_results.json"
    metric = CocoMetric(data)
    for image_id, rows in coco.read_results(file, data).items():
        metric.update_rows(image_id, rows)
    result = metric.result()
    scores = result.boxes if kind == "bbox" else result.masks
    assert scores is not None
    assert scores.stats.round(3).tolist() == json.loads((folder / "expected.json").read_text())[kind]
    truth = json.loads((folder / "instances_val2014_100.json").read_text())
    theirs = pycocotools_says(truth, json.loads(file.read_text()), kind)
    np.testing.assert_allclose(scores.stats, theirs["stats"], rtol=0, atol=1e-9)


def test_mask_results_are_ranged_by_mask_area(tmp_path: Path) -> None:
    """A false mask of 750 pixels in a box of 2500 is small: it does not count against medium objects."""
    big, small = np.zeros((1, 200, 200), bool), np.zeros((1, 200, 200), bool)
    big[0, :60, :60] = True
    small[0, 100:115, 100:150] = True
    masks = Masks.from_dense(np.concatenate([big, small]))
    data = one_image(tmp_path, masks[:1], [0])
    found = Instances(masks.boxes(), [0.5, 0.9], [0, 0], data.classes, (200, 200), masks)
    found.boxes[1] = 100, 100, 150, 150
    metric = CocoMetric(data)
    metric.update(found, GroundTruth(data, 0))
    result = metric.result()
    assert result.masks is not None
    assert (result.masks["APm"], result.masks["AP"]) == pytest.approx((1.0, 0.5))
    assert result.boxes["APm"] == pytest.approx(0.5)  # the box is medium


def one_image(folder: Path, masks: Masks, labels: list[int], names: tuple[str, ...] = ("a", "b")) -> Dataset:
    """A data set of one image with id 1."""
    from maskwright.data.dataset import Annotation, ImageRecord
    from maskwright.ops.masks import encode

    rows = tuple(
        Annotation(k, 1, labels[k], tuple(masks.boxes()[k].tolist()), rle, float(masks.areas()[k]))
        for k, rle in enumerate(encode(masks))
    )
    return Dataset(Classes(names), (ImageRecord(1, "one.png", masks.size),), {1: rows}, None, folder / "one.json")


@pytest.fixture
def scenes(tmp_path: Path) -> Dataset:
    path = synthetic.coco_fixture(tmp_path / "scenes", 9)
    return coco.load(path, path.parent / "images")


def test_truth_scores_one_and_is_reported(scenes: Dataset) -> None:
    metric = CocoMetric(scenes)
    for i in range(len(scenes)):
        metric.update(scenes.truth(i), GroundTruth(scenes, i))
    result = metric.result()
    assert result.masks is not None
    for scores in (result.boxes, result.masks):
        assert (scores["AP"], scores["AR100"]) == pytest.approx((1.0, 1.0))
        assert scores["APl"] == -1
        assert [row.ap for row in scores.per_class] == pytest.approx([1.0] * 3)
    rows = result.boxes.per_class
    assert [row.name for row in rows] == list(scenes.classes)
    assert sum(row.objects for row in rows) == sum(row.found for row in rows) == 24  # 25 annotations, one a crowd
    assert "bbox: no large objects are annotated (-1)." in result.notes
    text = result.table()
    assert "(AP) @[ IoU=0.50:0.95 | area=   all | maxDets=100 ] = 1.000" in text
    assert "(AR) @[ IoU=0.50:0.95 | area=   all | maxDets= 10 ] = 1.000" in text
    assert "(AP) @[ IoU=0.75      | area=   all | maxDets=100 ] = 1.000" in text
    assert text.count("\n") > 30
    plain = json.loads(json.dumps(result.to_dict()))
    assert plain["segm"]["AP"] == pytest.approx(1.0)
    assert list(plain["bbox"])[:12] == list(STATS)


def test_annotation_id_zero_counts(tmp_path: Path) -> None:
    """pycocotools reads the match of annotation 0 as no match."""
    mask = Masks.from_dense(np.ones((1, 50, 50), bool))
    data = one_image(tmp_path, mask, [0])
    assert data.of(0)[0].id == 0
    metric = CocoMetric(data)
    metric.update(data.truth(0), GroundTruth(data, 0))
    assert metric.result().boxes["AP"] == pytest.approx(1.0)


def test_what_cannot_be_measured_is_said(tmp_path: Path, scenes: Dataset) -> None:
    empty = one_image(tmp_path, Masks.empty((9, 9)), [])
    metric = CocoMetric(empty)
    metric.update(Instances([], [], [], empty.classes, (9, 9)), GroundTruth(empty, 0))
    result = metric.result()
    assert set(result.boxes.stats) == {-1.0}
    assert result.notes == ("The images have no annotated objects, so there is nothing to measure (-1).",)

    metric = CocoMetric(scenes)
    for i in range(len(scenes)):
        boxes_only = scenes.truth(i)
        boxes_only.crops = None
        metric.update(boxes_only, GroundTruth(scenes, i))
    result = metric.result()
    assert result.masks is None
    assert result.notes[0] == "Masks were not measured: the results of 5 images have only boxes."
    assert "Masks were not measured" in result.table()

    crowded = one_image(tmp_path, Masks.from_dense(np.ones((101, 4, 4), bool)), [0] * 101)
    metric = CocoMetric(crowded)
    stray = Instances([[0, 0, 4, 4]], [0.5], [1], crowded.classes, (4, 4), Masks.from_dense(np.ones((1, 4, 4), bool)))
    metric.update(stray, GroundTruth(crowded, 0))
    notes = "\n".join(metric.result().notes)
    assert "No ground truth of 1 class (b)" in notes
    assert "1 detection of them left out" in notes
    assert "1 image with more than 100 objects of one class" in notes


def test_updates_are_checked(scenes: Dataset) -> None:
    metric = CocoMetric(scenes)
    first = scenes.truth(0)
    metric.update(first, GroundTruth(scenes, 0))
    with pytest.raises(DataError, match=r"0000\.png \(id 3\) was given twice"):
        metric.update(first, GroundTruth(scenes, 0))
    with pytest.raises(DataError, match="no image of the data set has the id 4"):
        metric.update_rows(4, [])
    with pytest.raises(DataError, match=r"image \(96, 128\) \(H, W\), the data set says \(99, 133\)"):
        metric.update(first, GroundTruth(scenes, 1))
    other = scenes.truth(3)
    other.classes = Classes(["x", "y", "z"])
    with pytest.raises(DataError, match=r"\['x', 'y', 'z'\]"):
        metric.update(other, GroundTruth(scenes, 3))
    part = metric.result()
    assert (part.images, part.notes[0]) == (1, "Measured on 1 of 6 images.")
    assert part.boxes["AP"] == pytest.approx(1.0)


def crowded(folder: Path, count: int) -> Dataset:
    """An image of `count` squares of one class."""
    side = 2 * (math.isqrt(count - 1) + 1)
    dense = np.zeros((count, side, side), bool)
    for k in range(count):
        dense[k, 2 * (2 * k // side), 2 * k % side] = True
    return one_image(folder, Masks.from_dense(dense), [0] * count, ("a",))


def test_more_than_100_objects_raise_the_limit_and_coco_own_number_stands_beside_it(tmp_path: Path) -> None:
    data = crowded(tmp_path, 250)

    def measured(limit: int | None) -> CocoResult:
        metric = CocoMetric(data, limit)
        metric.update(data.truth(0), GroundTruth(data, 0))
        return metric.result()

    found, own = measured(None), measured(100)
    assert (found.boxes.limit, own.boxes.limit) == (400, 100)
    assert (found.boxes["AP"], found.boxes["AR100"]) == pytest.approx((1.0, 0.4))
    assert own.boxes["AP"] < 0.5
    for a, b in ((found.boxes, own.boxes), (found.masks, own.masks)):
        assert a is not None
        assert b is not None
        assert a.at_100 is not None
        assert b.at_100 is None
        np.testing.assert_array_equal(a.at_100, b.stats)
    assert found.values()["bbox/AP@100"] == own.values()["bbox/AP"]
    assert "bbox/AP@100" not in own.values()
    assert found.boxes.to_dict()["max_detections"] == 400
    assert "maxDets=400" in found.table()
    assert f"COCO's own, maxDets=100: AP {own.boxes['AP']:.3f}" in found.table()
    told = "1 image with more than 100 objects of one class, up to 250: the best {} detections of an image and class "
    told += "count"
    assert told.format(400) + " (max_detections), by COCO's rule 100, whose AP stands beside it." in found.notes
    assert told.format(100) + " (max_detections); AP and AR cannot reach 1 there." in own.notes
    assert measured(50).boxes["AP"] < own.boxes["AP"]
    with pytest.raises(ConfigError, match="max_detections is at least 1, got 0"):
        measured(0)


def test_up_to_100_objects_nothing_changes(tmp_path: Path) -> None:
    data = crowded(tmp_path, 100)
    metric = CocoMetric(data)
    metric.update(data.truth(0), GroundTruth(data, 0))
    assert metric.result().boxes.limit == 100
    assert not [note for note in metric.result().notes if "detections" in note]
