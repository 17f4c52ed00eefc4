"""The numbers of landmarks: equal to pycocotools and to slow twins."""

import json
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from maskwright.data.dataset import Dataset
from maskwright.data.formats import coco
from maskwright.data.synthetic import scenes_fixture
from maskwright.errors import ConfigError, DataError
from maskwright.evaluation.classes import match_classes, translated, unlike_landmarks
from maskwright.evaluation.evaluate import evaluate, evaluate_results
from maskwright.metrics.keypoints import SIGMA, KeypointMetric, sigmas_of
from maskwright.metrics.keypoints_result import SHARES, STATS, KeypointResult
from maskwright.metrics.metric import GroundTruth, MetricOptions
from maskwright.models import rcnn
from maskwright.models.coco_classes import COCO_PERSON
from maskwright.models.rcnn import RCNN
from maskwright.predictor.predictor import Predictor
from maskwright.types import Classes, Instances, Landmarks

NAMES = ("head", "left wing", "right wing", "tail")
SIGMAS = {"head": 0.03, "left wing": 0.08, "right wing": 0.08}
OWN = (0.03, 0.08, 0.08, SIGMA)

Rows = list[dict[str, Any]]


def random_set(seed: int, most: int = 6) -> tuple[dict[str, Any], Rows]:
    """Annotations and results of flies with four landmarks, some hidden, some without any, some in crowds."""
    rng = np.random.default_rng(seed)
    images = [{"id": i, "file_name": f"{i}.png", "height": 200, "width": 300} for i in (7, 3, 12)]
    rows: Rows = []
    found: Rows = []
    for image in images:
        for _ in range(int(rng.integers(0, most))):
            w, h = rng.uniform(15, 120, 2)
            x, y = rng.uniform(0, 300 - w), rng.uniform(0, 200 - h)
            points = np.column_stack([rng.uniform(x, x + w, 4), rng.uniform(y, y + h, 4), rng.integers(0, 3, 4)])
            points[points[:, 2] == 0] = 0
            if rng.random() < 0.15:
                points[:] = 0
            row = {"id": len(rows) + 1, "image_id": image["id"], "category_id": 2, "bbox": [x, y, w, h]}
            row |= {"area": 0.6 * w * h, "iscrowd": int(rng.random() < 0.1), "keypoints": points.ravel().tolist()}
            rows.append(row | {"num_keypoints": int((points[:, 2] > 0).sum())})
            for _ in range(int(rng.integers(0, 3))):
                moved = points + np.append(rng.normal(0, rng.choice([0.5, 3, 12]), 2), 0)
                result = {"image_id": image["id"], "category_id": 2, "score": float(rng.choice([rng.random(), 0.5]))}
                box = [x + rng.normal(), y + rng.normal(), w, h]
                found.append(result | {"bbox": box, "keypoints": moved.ravel().tolist()})
    categories = [{"id": 1, "name": "leaf"}, {"id": 2, "name": "fly", "keypoints": list(NAMES), "skeleton": [[1, 4]]}]
    return {"images": images, "annotations": rows, "categories": categories}, found


def load(folder: Path, truth: dict[str, Any]) -> Dataset:
    (folder / "truth.json").write_text(json.dumps(truth))
    return coco.load(folder / "truth.json")


def measured(folder: Path, truth: dict[str, Any], found: Rows, **options: Any) -> KeypointResult:
    (folder / "found.json").write_text(json.dumps(found))
    evaluation = evaluate_results(folder / "found.json", load(folder, truth), metrics=("keypoints",), **options)
    result = evaluation.results["keypoints"]
    assert isinstance(result, KeypointResult)
    return result


def pycocotools_says(truth: dict[str, Any], found: Rows, limit: int) -> NDArray[np.float64]:
    known = COCO()
    known.dataset = truth
    known.createIndex()
    run = COCOeval(known, known.loadRes(found), "keypoints")
    run.params.kpt_oks_sigmas = np.array(OWN)
    run.params.catIds, run.params.maxDets = [2], [limit]
    run.evaluate()
    run.accumulate()
    p, r = run.eval["precision"][:, :, 0, :, 0], run.eval["recall"][:, 0, :, 0]
    parts = (p[..., 0], p[0, :, 0], p[5, :, 0], p[..., 1], p[..., 2], r[:, 0], r[0, 0], r[5, 0], r[:, 1], r[:, 2])
    return np.array([v[v > -1].mean() if (v > -1).any() else -1 for v in map(np.ravel, parts)])


@pytest.mark.parametrize("seed", range(20))
def test_oks_equals_pycocotools(tmp_path: Path, seed: int) -> None:
    truth, found = random_set(seed, 30 if seed % 4 == 0 else 6)
    found = found or [{"image_id": 3, "category_id": 2, "score": 0.5, "keypoints": [1.0] * 12}]
    result = measured(tmp_path, truth, found, sigmas=SIGMAS)
    (row,) = result.classes
    np.testing.assert_allclose(row.stats, pycocotools_says(truth, found, row.limit), rtol=0, atol=1e-9)
    assert result["AP"] == row.stats[0]
    own = [[a for a in truth["annotations"] if a["image_id"] == i["id"] and not a["iscrowd"]] for i in truth["images"]]
    assert (row.limit > 20) == (max(map(len, own)) > 20)


@pytest.mark.parametrize("seed", range(100, 108))
def test_pck_equals_a_slow_count(tmp_path: Path, seed: int) -> None:
    truth, found = random_set(seed, 4)
    result = measured(tmp_path, truth, found, metric_score=0.3)
    data = load(tmp_path, truth)
    right, every, errors = np.zeros(3), 0, []
    for record in data.images:
        own = [a for a in data.annotations[record.id] if not a.crowd and a.has_landmarks]
        rows = [r for r in found if r["image_id"] == record.id and r["score"] >= 0.3]
        pairs = matching([a.box for a in own], [r["bbox"] for r in rows])
        for i, a in enumerate(own):
            assert a.keypoints is not None
            side = max(a.box[2] - a.box[0], a.box[3] - a.box[1])
            for k, (x, y, seen) in enumerate(a.keypoints):
                every += seen > 0
                if seen > 0 and i in pairs:
                    px, py = rows[pairs[i]]["keypoints"][3 * k : 3 * k + 2]
                    errors.append(((px - x) ** 2 + (py - y) ** 2) ** 0.5)
                    right += [errors[-1] <= share * side for share in SHARES]
    np.testing.assert_allclose([result.pck(s) for s in SHARES], right / every if every else [-1] * 3, atol=1e-12)
    assert result.mean_error == pytest.approx(np.mean(errors) if errors else -1)
    assert result.median_error == pytest.approx(np.median(errors) if errors else -1)
    assert sum(row.annotated for row in result.landmarks) == every


def matching(true: list[Any], found: list[Any]) -> dict[int, int]:
    """The one-to-one pairs with the greatest sum of IoU, by trying all; of these, those with 0.5 and more."""
    table = [[iou(a, b) for b in found] for a in true]
    best, chosen = -1.0, dict[int, int]()
    for order in set(permutations([*range(len(found)), *([-1] * len(true))], len(true))):
        total = sum(table[i][j] for i, j in enumerate(order) if j >= 0)
        if total > best:
            best, chosen = total, {i: j for i, j in enumerate(order) if j >= 0}
    return {i: j for i, j in chosen.items() if table[i][j] >= 0.5}


def iou(a: Any, b: Any) -> float:
    """a: xyxy; b: x, y, width, height."""
    x, y = min(a[2], b[0] + b[2]) - max(a[0], b[0]), min(a[3], b[1] + b[3]) - max(a[1], b[1])
    common = max(x, 0) * max(y, 0)
    return float(common / ((a[2] - a[0]) * (a[3] - a[1]) + b[2] * b[3] - common))


def test_the_truth_against_itself_is_perfect(tmp_path: Path) -> None:
    truth, _ = random_set(4)
    marked = [row for row in truth["annotations"] if row["num_keypoints"]]  # pycocotools finds no match for the others
    data = load(tmp_path, {**truth, "annotations": marked})
    metric = KeypointMetric(data)
    for i in range(len(data)):
        metric.update(GroundTruth(data, i).objects, GroundTruth(data, i))
    result = metric.result()
    assert (result["AP"], result.pck(0.05)) == (1.0, 1.0)
    assert result.mean_error < 1e-4
    assert "OKS of fly: sigmas are 0.05 for each landmark, as none were given." in result.notes
    assert set(result.values()) >= {f"keypoints/{name}" for name in STATS}
    json.dumps(result.to_dict(), allow_nan=False)
    assert "left wing" in result.table()


def test_sigmas() -> None:
    people = COCO_PERSON.landmarks[0]
    assert people is not None
    ours, where = sigmas_of(people, None)
    official = [0.26, 0.25, 0.25, 0.35, 0.35, 0.79, 0.79, 0.72, 0.72, 0.62, 0.62, 1.07, 1.07, 0.87, 0.87, 0.89, 0.89]
    np.testing.assert_allclose(ours, np.array(official) / 10)
    assert where == "COCO's of people"
    assert sigmas_of(Landmarks(NAMES), SIGMAS) == (OWN, "given")
    assert sigmas_of(Landmarks(NAMES), 0.1)[0] == (0.1,) * 4


def test_what_cannot_be_measured_is_refused(tmp_path: Path) -> None:
    data = load(tmp_path, random_set(4)[0])
    with pytest.raises(ConfigError, match="no landmark 'nose'; it has head, left wing"):
        KeypointMetric(data, MetricOptions(sigmas={"nose": 0.1}))
    with pytest.raises(ConfigError, match="above 0 and up to 1"):
        KeypointMetric(data, MetricOptions(sigmas=0.0))
    bare = Instances([[0, 0, 9, 9]], [0.9], [1], data.classes, (200, 300))
    with pytest.raises(DataError, match=r"7\.png has no landmarks"):
        KeypointMetric(data).update(bare, GroundTruth(data, 0))
    rows = [{"image_id": 3, "category_id": 2, "score": 0.5, "keypoints": [1.0] * 9}]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    with pytest.raises(DataError, match=r"score of the 4 landmarks of 'fly'\) must be 12 finite numbers"):
        coco.read_results(tmp_path / "rows.json", data)


def test_landmarks_alone_have_the_box_around_them(tmp_path: Path) -> None:
    """As the COCO API's loadRes gives it."""
    data = load(tmp_path, random_set(4)[0])
    points = [5.0, 9.0, 1.0, 2.0, 4.0, 1.0, 8.0, 3.0, 0.5, 6.0, 6.0, 0.0]
    rows = [{"image_id": 3, "category_id": 2, "score": 0.5, "keypoints": points}]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    (row,) = coco.read_results(tmp_path / "rows.json", data)[3]
    assert row.box_xywh == (2.0, 3.0, 6.0, 6.0)
    found = coco.instances_of([row], data.images[1], data.classes)
    assert found.keypoints is not None
    assert found.keypoints[0].ravel().tolist() == points


def test_landmarks_are_compared_by_name(tmp_path: Path) -> None:
    """The model has them in another order and writes them otherwise."""
    data = load(tmp_path, random_set(4)[0])
    model = Classes(["fly"], landmarks=[Landmarks(("Tail", "head", "right_wing", "left_wing"))])
    subset = load(tmp_path, {**random_set(4)[0], "categories": random_set(4)[0]["categories"][1:]})
    translation = match_classes(model, subset)
    assert unlike_landmarks(model, subset, translation) == ""
    points = np.arange(12, dtype=np.float32).reshape(1, 4, 3)
    found = Instances([[0, 0, 9, 9]], [0.9], [0], model, (200, 300), keypoints=points)
    moved = translated(found, translation, subset.classes).keypoints
    assert moved is not None
    assert moved[0, :, 0].tolist() == [3, 9, 6, 0]
    other = Classes(["fly"], landmarks=[Landmarks(("nose", "head", "right_wing", "left_wing"))])
    assert "are called otherwise, 'head', 'left wing'" in unlike_landmarks(other, subset, translation)
    bare = Classes(["leaf", "fly"])
    assert unlike_landmarks(bare, data, np.array([0, 1])) == "the model finds no landmarks of 'fly'"


def test_a_model_with_landmarks_is_measured_by_them(tmp_path: Path) -> None:
    """Without being asked; a model whose landmarks have other names says so."""
    data = scenes_fixture(tmp_path, 3, images=3, size=(64, 64), objects=3, classes=2)
    counts = tuple(len(marks or ()) for marks in data.classes.landmarks)
    torch.manual_seed(0)
    model = RCNN(replace(rcnn.tiny("compact", len(data.classes)), landmarks=counts)).eval()
    evaluation = evaluate(Predictor(model, data.classes), data, progress=False)
    assert list(evaluation.results) == ["coco", "keypoints"]
    marks = [m and Landmarks(tuple(f"{name} of others" for name in m.names)) for m in data.classes.landmarks]
    others = Classes(data.classes.names, data.classes.ids, marks)
    evaluation = evaluate(Predictor(model, others), data, progress=False)
    assert list(evaluation.results) == ["coco"]
    assert any("Landmarks were not measured: the landmarks of" in note for note in evaluation.notes)
    with pytest.raises(DataError, match="called otherwise"):
        evaluate(Predictor(model, others), data, metrics=("keypoints",), progress=False)
