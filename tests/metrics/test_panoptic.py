"""Panoptic quality and the classes of pixels: against a slow twin, hotcoco, and numbers worked out by hand."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.reference import panoptic as slow

from maskwright.data import formats
from maskwright.data.dataset import Dataset, ImageRecord
from maskwright.data.synthetic import coco_fixture, panoptic_fixture, save_panoptic
from maskwright.errors import DataError
from maskwright.evaluation.evaluate import evaluate_results
from maskwright.metrics import table
from maskwright.metrics.metric import GroundTruth, MetricOptions
from maskwright.metrics.panoptic import PanopticMetric
from maskwright.metrics.semantic import SemanticMetric
from maskwright.results.prediction import Prediction
from maskwright.types import Classes, Instances, Panoptic, Segment

OPEN = Path(__file__).parents[2].parent / "shared" / "data" / "coco_open"
CLASSES, THINGS = Classes(["dog", "cat", "sky", "road"], [7, 3, 9, 12]), (True, True, False, False)


class Maps:
    """Reads maps from memory."""

    def __init__(self, maps: dict[int, Panoptic]) -> None:
        self.maps = maps

    def __call__(self, record: ImageRecord) -> Panoptic | None:
        return self.maps.get(record.id)

    def semantic(self, record: ImageRecord) -> np.ndarray | None:
        return None if record.id not in self.maps else self.maps[record.id].semantic()


def data_of(maps: list[Panoptic]) -> Dataset:
    """A data set of these maps; its objects are left out, as these metrics do not look at them."""
    records = tuple(ImageRecord(k, f"{k}.png", one.size) for k, one in enumerate(maps, 1))
    things = Classes(CLASSES[:2], CLASSES.ids[:2])
    every = Maps({r.id: one for r, one in zip(records, maps, strict=True)})
    stuff = Classes(["things", *CLASSES[2:]], [0, *CLASSES.ids[2:]])
    data = Dataset(things, records, {r.id: () for r in records}, None, Path("x.json"), panoptic_maps=every)
    return replace(data, semantic_maps=every.semantic, semantic_classes=stuff)


def random_map(rng: np.random.Generator, size: tuple[int, int], truth: bool) -> Panoptic:
    """Blocks of random segments; in a truth some are void and some crowd regions."""
    count = int(rng.integers(1, 9))
    coarse = rng.integers(0 if truth or rng.random() < 0.3 else 1, count + 1, (4, 5))
    ids = np.kron(coarse, np.ones((3, 4), int))[: size[0], : size[1]]
    table = np.array([0, *rng.choice(2**24 - 1, count, replace=False) + 1])
    ids = table[ids].astype(np.int32)
    segments = [
        Segment(i, int(rng.integers(0, 4)), crowd=bool(truth and rng.random() < 0.25))
        for i in np.unique(ids).tolist()
        if i
    ]
    return Panoptic(ids, tuple(segments), CLASSES, THINGS)


def corrupted(rng: np.random.Generator, truth: Panoptic) -> Panoptic:
    """The truth with moved borders, other classes and a few segments joined."""
    ids = np.roll(truth.ids, int(rng.integers(0, 3)), axis=int(rng.integers(0, 2)))
    labels = {s.id: s.label if rng.random() < 0.8 else int(rng.integers(0, 4)) for s in truth.segments}
    return Panoptic(ids, tuple(Segment(i, labels[i]) for i in np.unique(ids).tolist() if i), CLASSES, THINGS)


def pairs(seed: int, images: int = 6) -> list[tuple[Panoptic, Panoptic]]:
    rng, made = np.random.default_rng(seed), []
    for _ in range(images):
        size = (int(rng.integers(1, 13)), int(rng.integers(1, 21)))
        truth = random_map(rng, size, truth=True)
        made.append((truth, corrupted(rng, truth) if rng.random() < 0.7 else random_map(rng, size, truth=False)))
    return made


def measured(made: list[tuple[Panoptic, Panoptic]]) -> PanopticMetric:
    data = data_of([truth for truth, _ in made])
    metric = PanopticMetric(data)
    for i, (_, found) in enumerate(made):
        metric.update_map(found, GroundTruth(data, i))
    return metric


@pytest.mark.parametrize("seed", range(40))
def test_counts_are_those_of_the_slow_twin(seed: int) -> None:
    made = pairs(seed)
    result = measured(made).result()
    for label, expected in slow.counts(made).items():
        row = result.classes[label]
        assert (row.tp, row.fp, row.fn) == (expected["tp"], expected["fp"], expected["fn"])
        assert math.isclose(row.iou, expected["iou"], abs_tol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_numbers_are_those_of_hotcoco(seed: int, tmp_path: Path) -> None:
    other = pytest.importorskip("hotcoco.panoptic")
    made = pairs(seed, 12)
    for k, name in enumerate(("truth", "found")):
        records = [ImageRecord(i, f"{i}.png", pair[0].size) for i, pair in enumerate(made, 1)]
        save_panoptic(tmp_path / f"{name}.json", zip(records, (pair[k] for pair in made), strict=True))
    evaluation = other.PanopticEval(str(tmp_path / "truth.json"), str(tmp_path / "found.json"))
    evaluation.evaluate()
    expected, result = evaluation.results(), measured(made).result()
    for group, thing in (("All", None), ("Things", True), ("Stuff", False)):
        for name, value in zip(("pq", "sq", "rq"), result.of(thing), strict=True):
            assert math.isclose(max(value, 0.0), expected[group][name], abs_tol=1e-12), (group, name)


def test_void_and_crowds_by_hand() -> None:
    """A dog of 4 pixels, a crowd of cats of 4, void of 4, sky of 8."""
    ids = np.array([[1, 1, 2, 2, 0, 0, 3, 3, 3, 3]] * 2, np.int32)
    truth = Panoptic(ids, (Segment(1, 0), Segment(2, 1, crowd=True), Segment(3, 2)), CLASSES, THINGS)
    found_ids = np.array([[1, 0, 2, 2, 1, 1, 4, 4, 3, 3], [1, 1, 2, 2, 5, 5, 3, 3, 3, 3]], np.int32)
    found = Panoptic(
        found_ids, (Segment(1, 0), Segment(2, 1), Segment(3, 2), Segment(4, 2), Segment(5, 3)), CLASSES, THINGS
    )
    dog, cat, sky, road = measured([(truth, found)]).result().classes
    assert (dog.tp, dog.fp, dog.fn, dog.iou) == (1, 0, 0, 3 / 4)  # the two pixels in void do not count
    assert (cat.tp, cat.fp, cat.fn) == (0, 0, 0)  # inside the crowd
    assert (sky.tp, sky.fp, sky.fn, sky.iou) == (1, 1, 0, 6 / 8)
    assert (road.tp, road.fp, road.fn) == (0, 0, 0)  # inside void
    result = measured([(truth, found)]).result()
    assert result.of() == pytest.approx(((0.75 + 0.75 / 1.5) / 2, 0.75, (1 + 1 / 1.5) / 2))
    assert result.of(thing=True)[0] == 0.75
    assert result.values()["panoptic/PQ_stuff"] == pytest.approx(0.5)
    assert "all" in result.table()
    assert json.loads(json.dumps(result.to_dict()))["panoptic"]["per_class"][3]["PQ"] == -1
    assert result.section().tiles[0][0] == "PQ"


def test_exactly_half_is_no_match() -> None:
    truth = Panoptic(np.array([[1, 1, 0]], np.int32), (Segment(1, 0),), CLASSES, THINGS)
    found = Panoptic(np.array([[1, 0, 0]], np.int32), (Segment(1, 0),), CLASSES, THINGS)
    row = measured([(truth, found)]).result().classes[0]
    assert (row.tp, row.fp, row.fn) == (0, 1, 1)
    assert row.stats == (0, 0, 0)


def test_nothing_measured_and_other_sizes() -> None:
    empty = Panoptic(np.zeros((3, 4), np.int32), (), CLASSES, THINGS)
    assert measured([(empty, empty)]).result().of() == (-1, -1, -1)
    with pytest.raises(DataError, match=r"found for 1.png is \(2, 2\) \(H, W\), the image is \(3, 4\)"):
        measured([(empty, Panoptic(np.zeros((2, 2), np.int32), (), CLASSES, THINGS))])


def test_a_prediction_is_merged_and_its_stuff_matched_by_name() -> None:
    truth = random_map(np.random.default_rng(3), (12, 20), truth=True)
    truth = Panoptic(truth.ids, tuple(replace(s, crowd=False) for s in truth.segments), CLASSES, THINGS)
    data = data_of([truth])
    found = truth.instances
    stuff = Classes(["things", "road", "fog", "sky"], [0, 7, 8, 3])  # ids that are those of things in the data
    labels = np.array([0, 3, 1, -1])[truth.semantic()]
    labels[truth.ids == 0] = 2  # a kind of stuff that the data set does not have, on void
    prediction = Prediction(
        found.boxes, found.scores, found.labels, data.classes, found.size, found.crops, semantic=labels,
        semantic_classes=stuff,
    )  # fmt: skip
    metric, pixels = PanopticMetric(data), SemanticMetric(data)
    assert pixels.result().pixel_accuracy == -1
    metric.update(prediction, GroundTruth(data, 0))
    pixels.update(prediction, GroundTruth(data, 0))
    assert pixels.result().values()["semantic/mIoU"] == 1
    assert metric.result().of(thing=True)[0] == 1
    fewer = replace(prediction, semantic_classes=Classes(["things", "a", "b", "sky"]))
    pixels.update(fewer, GroundTruth(data, 0))
    assert "does not have 1 of the data set's kinds of stuff (road)" in pixels.result().table()
    bare = Instances(found.boxes, found.scores, found.labels, data.classes, found.size)
    for one in (metric, pixels):
        with pytest.raises(DataError, match="has no class for every pixel"):
            one.update(bare, GroundTruth(data, 0))


@pytest.mark.parametrize("seed", range(5))
def test_the_classes_of_pixels_are_counted_one_by_one(seed: int) -> None:
    made = pairs(seed)
    data = data_of([truth for truth, _ in made])
    metric = SemanticMetric(data)
    right, annotated, found = (np.zeros(3, int) for _ in range(3))
    for i, (truth, own) in enumerate(made):
        metric.update_map(own, GroundTruth(data, i))
        for a, b in zip(truth.semantic().reshape(-1), own.semantic().reshape(-1), strict=True):
            if a >= 0:
                annotated[a] += 1
                right[a] += a == b
                found[b] += b >= 0
    result = metric.result()
    assert [(r.right, r.annotated, r.found) for r in result.classes] == list(zip(right, annotated, found, strict=True))
    union = annotated + found - right
    assert result.values()["semantic/mIoU"] == pytest.approx((right / union)[union > 0].mean())
    assert result.pixel_accuracy == pytest.approx(right.sum() / annotated.sum())
    assert json.loads(json.dumps(result.to_dict()))["semantic"]["per_class"][0]["name"] == "things"
    assert result.section().tiles[0][0] == "mIoU"


def test_images_without_a_map_are_told(tmp_path: Path) -> None:
    whole = formats.load(panoptic_fixture(tmp_path, 0, images=2, size=(32, 40), objects=1, classes=1))
    data = replace(whole, panoptic_maps=Maps({}), semantic_maps=Maps({}).semantic)
    for metric, kind in ((PanopticMetric(data, MetricOptions()), "panoptic"), (SemanticMetric(data), "semantic")):
        metric.update_map(whole.panoptic(0), GroundTruth(data, 0))
        assert any(f"Not measured: 1 image without a {kind} map" in note for note in metric.result().notes)


def test_a_data_set_without_maps_is_refused(tmp_path: Path) -> None:
    data = formats.load(coco_fixture(tmp_path, 0, images=1))
    for name in ("panoptic", "semantic"):
        with pytest.raises(DataError, match=f"there are no {name} maps.*coco_panoptic"):
            table.make((name,), data, MetricOptions())


def test_result_files(tmp_path: Path) -> None:
    path = panoptic_fixture(tmp_path / "truth", 1, images=3)
    evaluation = evaluate_results(path, path, metrics=("panoptic", "semantic"))
    assert evaluation.values["panoptic/PQ"] == evaluation.values["semantic/mIoU"] == 1
    assert evaluation.values["segm/AP"] == 1
    assert list(evaluate_results(path, path).results) == ["coco", "panoptic"]
    content = json.loads(path.read_text())
    found = tmp_path / "found.json"
    (tmp_path / "found").symlink_to(path.with_suffix(""))
    first = content["annotations"][0]

    def refused(rows: list[object], said: str) -> None:
        found.write_text(json.dumps({"annotations": rows}))
        with pytest.raises(DataError, match=said):
            evaluate_results(found, path)

    refused([{**first, "image_id": 99}], "annotation 0 of the list: image_id 99 is not an image of")
    refused([first, first], "annotation 1 of the list: image_id 1 has an annotation already")
    refused([{**first, "segments_info": first["segments_info"][1:]}], "have the id 1 that 'segments_info' does not")
    refused(
        [{**first, "segments_info": [{**s, "score": 2} for s in first["segments_info"]]}], "'score' must lie in 0..1"
    )
    refused([{**first, "file_name": "none.png"}], "the panoptic maps are not found")
    found.write_text(json.dumps({"annotations": [first]}))
    few = evaluate_results(found, path)
    assert "2 images without a map in" in few.report()
    assert 0 < few.values["panoptic/PQ"] < 1
    objects = coco_fixture(tmp_path / "objects", 0, images=1)
    with pytest.raises(DataError, match=r"has panoptic maps, and .* has none to compare them with"):
        evaluate_results(path, objects)


@pytest.mark.skipif(not OPEN.is_dir(), reason="needs ../shared/data/coco_open")
def test_the_truth_of_coco_against_itself() -> None:
    path = OPEN / "annotations" / "panoptic_val.json"
    values = evaluate_results(path, path, metrics=("panoptic", "semantic")).values
    assert values["panoptic/PQ"] == values["panoptic/PQ_stuff"] == values["semantic/pixel_accuracy"] == 1
