"""Evaluation with predictors whose right answer is known, class names, unreadable images, and time by stage."""

import json
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from maskwright.data import synthetic
from maskwright.data.dataset import Dataset
from maskwright.data.formats import coco
from maskwright.errors import ConfigError, DataError, ImageError
from maskwright.evaluation.classes import match_classes, translated
from maskwright.evaluation.evaluate import evaluate, evaluate_results
from maskwright.evaluation.outcome import Evaluation
from maskwright.evaluation.report import report_results
from maskwright.metrics import table
from maskwright.metrics.metric import GroundTruth, MetricKind, MetricOptions, PageSection
from maskwright.predictor.options import FindOptions
from maskwright.predictor.timing import StageTimer
from maskwright.report.page import Column
from maskwright.results.prediction import Prediction
from maskwright.types import Classes, Instances, Masks


class Oracle:
    """Knows the annotations by the image's pixels and returns them, changed or not."""

    def __init__(self, data: Dataset, classes: Classes | None = None, shift: int = 0, keep: int = 10**6) -> None:
        self.classes = classes or data.classes
        self.shift, self.keep = shift, keep
        self.known = {data.image(i).tobytes(): data.truth(i) for i in range(len(data))}
        self.lowest_score, self.score_threshold = 0.0, 0.5
        self.max_instances = 10**6
        self.options: list[tuple[float | None, int | None]] = []

    def predict(
        self, source: Any, options: FindOptions | None = None, *, timer: StageTimer | None = None
    ) -> Prediction:
        assert timer is not None
        options = options or FindOptions()
        self.options.append((options.score_threshold, options.max_instances))
        with timer.stage("network"):
            found = self.known[source.tobytes()][: self.keep]
        with timer.stage("finish"):
            found = replace(found, classes=self.classes)
            if self.shift and found.masks is not None:
                masks = np.roll(found.masks, self.shift, axis=2)
                found = replace(
                    found, boxes=found.boxes + np.float32([self.shift, 0, self.shift, 0]), crops=Masks.from_dense(masks)
                )
        return Prediction(**vars(found))


@pytest.fixture
def fixture(tmp_path: Path) -> Path:
    return synthetic.coco_fixture(tmp_path / "scenes", 6)


@pytest.fixture
def data(fixture: Path) -> Dataset:
    return coco.load(fixture, fixture.parent / "images")


def numbers(evaluation: Evaluation) -> tuple[float, float]:
    """Box and mask AP."""
    assert evaluation.result.masks is not None
    return evaluation.result.boxes["AP"], evaluation.result.masks["AP"]


def test_truth_is_perfect(data: Dataset, fixture: Path) -> None:
    from_path = evaluate(Oracle(data), fixture, fixture.parent / "images", progress=False)
    evaluation = evaluate(Oracle(data), data, progress=False)
    assert numbers(evaluation) == numbers(from_path) == pytest.approx((1.0, 1.0))
    assert (evaluation.images, evaluation.failed) == (6, ())
    assert list(evaluation.seconds) == ["read", "network", "finish", "metric"]
    assert all(seconds > 0 for seconds in evaluation.seconds.values())
    assert evaluation.wall_seconds >= sum(evaluation.seconds.values())
    measured = sum(v for k, v in evaluation.seconds.items() if k != "metric")
    assert evaluation.images_per_second == pytest.approx(6 / measured)


def test_shifted_truth_is_worse_and_nothing_is_zero(data: Dataset) -> None:
    near, far = (numbers(evaluate(Oracle(data, shift=s), data, progress=False)) for s in (2, 6))
    assert 0.9 > min(near) > max(far) > 0
    nothing = evaluate(Oracle(data, keep=0), data, progress=False)
    assert numbers(nothing) == (0.0, 0.0)
    assert all(row.found == 0 for row in nothing.result.boxes.per_class)


def test_classes_match_by_name_in_any_order(data: Dataset) -> None:
    ours = Classes(["ring", "zebra", "ellipse", "star"])
    oracle = Oracle(data, Classes(["ellipse", "star", "ring"]))
    for found in oracle.known.values():
        found.labels = np.array([2, 3, 0])[found.labels]  # the same classes under the model's own labels
        found.classes = ours
    oracle.classes = ours
    stray = next(found for found in oracle.known.values() if len(found))
    stray.labels[0] = 1  # one zebra
    evaluation = evaluate(oracle, data, progress=False)
    assert 0.8 < numbers(evaluation)[0] < 1.0
    assert evaluation.notes == ("1 class of the model not in the data set ('zebra'); 1 detection of them left out.",)
    assert evaluation.notes[0] in evaluation.report()


def test_an_exif_turn_that_the_size_does_not_show_is_told(data: Dataset) -> None:
    path, tags = data.path(1), Image.Exif()
    tags[0x112] = 3
    Image.fromarray(data.image(1)).save(path, "PNG", exif=tags)
    (note,) = evaluate(Oracle(data), data, progress=False).notes
    assert note.startswith("1 image that an EXIF tag turns without another size, taken as annotated upright")
    assert path.name in note


def test_lost_classes_are_refused(data: Dataset) -> None:
    with pytest.raises(DataError) as caught:
        evaluate(Oracle(data, Classes(["elipse", "star", "ring"])), data, progress=False)
    text = str(caught.value)
    for words in ("no class for 1 of", "'ellipse': Did you mean 'elipse'?", "model (3): 'elipse', 'star', 'ring'"):
        assert words in text
    assert "data  (3): 'ellipse', 'star', 'ring'" in text
    with pytest.raises(DataError, match="no class for 3 of"):
        evaluate(Oracle(data, Classes(["cat", "dog", "cow"])), data, progress=False)
    renamed = Oracle(data, Classes(["elipse", "star", "ring"]))
    assert numbers(evaluate(renamed, data, class_names={"elipse": "ellipse"}, progress=False))[0] == pytest.approx(1.0)
    for wrong in ({"elipsee": "ellipse"}, {"elipse": "ellips"}):
        with pytest.raises(ConfigError, match="Did you mean"):
            evaluate(renamed, data, class_names=wrong, progress=False)


def test_repeated_names_match_by_id(data: Dataset) -> None:
    twice = replace(data, classes=Classes(["cell", "cell", "ring"], [0, 1, 5]))
    assert match_classes(Classes(["ring", "cell", "cell"], [9, 1, 0]), twice).tolist() == [2, 1, 0]
    with pytest.raises(DataError, match="no class for 2 of"):
        match_classes(Classes(["cell", "cell", "ring"], [7, 8, 5]), twice)


def test_the_classes_of_pixels_are_translated_too() -> None:
    """Pixels without a class, and of a class that the data set does not have, are -1."""
    pixels = np.array([[0, 1, 2], [-1, 2, 0]])
    found = Prediction(
        boxes=np.zeros((0, 4)),
        scores=np.zeros(0),
        labels=np.zeros(0, np.int64),
        classes=Classes(["a", "b", "c"]),
        size=(2, 3),
        semantic=pixels,
    )
    moved = translated(found, np.array([1, -1, 0]), Classes(["c", "a"]))
    assert isinstance(moved, Prediction)
    assert moved.semantic is not None
    assert moved.semantic.tolist() == [[1, -1, 0], [-1, 0, 1]]


def test_a_semantic_map_with_classes_of_its_own_keeps_them() -> None:
    """Panoptic FPN's labels count things as one class and stuff as others: not the classes of instances."""
    labels, kinds = np.array([[0, 1, 4], [-1, 3, 2]]), Classes(["things", "sky", "sea", "sand", "road"])
    found = Prediction(np.zeros((0, 4)), [], [], Classes(["a", "b"]), (2, 3), semantic=labels, semantic_classes=kinds)
    moved = translated(found, np.array([1, 0]), Classes(["b", "a"]))
    assert isinstance(moved, Prediction)
    assert moved.semantic is not None
    assert moved.semantic.tolist() == labels.tolist()
    assert moved.semantic_classes == kinds


def test_translated_labels_keep_every_field(data: Dataset) -> None:
    """Keypoints, track ids and box scores travel with the rows that stay, and the type stays too."""
    rows, size = 3, (20, 30)
    found = Prediction(
        boxes=np.arange(12).reshape(3, 4) + np.array([0, 0, 5, 5]),
        scores=np.array([0.9, 0.8, 0.7]),
        labels=np.array([0, 1, 2]),
        classes=Classes(["a", "b", "c"]),
        size=size,
        crops=Masks(size, np.arange(6).reshape(3, 2), tuple(np.ones((2, k + 1), bool) for k in range(rows))),
        keypoints=np.arange(18, dtype=np.float32).reshape(3, 2, 3),
        track_ids=np.array([7, 8, 9]),
        box_scores=np.array([0.3, 0.2, 0.1]),
    )
    moved = translated(found, np.array([1, -1, 0]), Classes(["c", "a"]))
    assert type(moved) is Prediction
    assert (moved.labels.tolist(), moved.classes) == ([1, 0], ["c", "a"])
    for f in fields(Instances):
        if f.name in ("labels", "classes", "size"):
            continue
        own, kept = getattr(moved, f.name), getattr(found[[0, 2]], f.name)
        own, kept = (v.dense() if isinstance(v, Masks) else v for v in (own, kept))
        np.testing.assert_array_equal(own, kept, err_msg=f.name)


def test_a_class_without_annotations_may_be_unknown_to_the_model(data: Dataset) -> None:
    more = replace(data, classes=Classes([*data.classes, "shapes"]))
    assert match_classes(data.classes, more).tolist() == [0, 1, 2]
    evaluation = evaluate(Oracle(data), more, progress=False)
    assert numbers(evaluation) == pytest.approx((1.0, 1.0))
    assert "No ground truth of 1 class (shapes)" in evaluation.report()


def test_unreadable_images(data: Dataset) -> None:
    oracle = Oracle(data)
    data.path(1).write_bytes(data.path(1).read_bytes()[:200])
    with pytest.raises(ImageError, match=r"0001\.png"):
        evaluate(oracle, data, progress=False)
    data.path(3).unlink()
    with pytest.raises(DataError, match=r"1 of 6 image files are missing: .*0003\.png"):
        evaluate(oracle, data, progress=False)
    evaluation = evaluate(oracle, data, skip=True, progress=False)
    assert [name for name, _ in evaluation.failed] == ["0001.png", "0003.png"]
    assert evaluation.images == 4
    assert numbers(evaluation) == pytest.approx((1.0, 1.0))
    report = evaluation.report()
    assert "Left out: 0001.png: " in report
    assert "Measured on 4 of 6 images." in report
    for i in (0, 2, 4, 5):
        data.path(i).unlink()
    with pytest.raises(DataError, match="none of its 6 images could be read"):
        evaluate(oracle, data, skip=True, progress=False)


def test_limit_options_and_an_empty_set(data: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    oracle = Oracle(data)
    evaluation = evaluate(oracle, data, limit=2, score_threshold=0.01, max_instances=300)
    assert evaluation.images == 2
    assert oracle.options == [(0.01, 300)] * 2
    assert capsys.readouterr().out == ""
    assert evaluate(oracle, data, limit=100, progress=False).images == 6
    with pytest.raises(ConfigError, match="at least 1 image, got 0"):
        evaluate(oracle, data, limit=0, progress=False)
    with pytest.raises(DataError, match="no images"):
        evaluate(oracle, data.subset([]), progress=False)


def test_saved_and_reported(tmp_path: Path, data: Dataset) -> None:
    evaluation = evaluate(Oracle(data), data, progress=False)
    evaluation.save(tmp_path / "out" / "evaluation.json")
    saved = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert saved["bbox"]["AP"] == pytest.approx(1.0)
    assert list(saved["seconds"]) == ["read", "network", "finish", "metric"]
    assert saved["failed"] == []
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["evaluation.json"]
    report = evaluation.report()
    for words in ("Average Precision", "network", "ms each", "6 images in", "images per second"):
        assert words in report


def test_the_nuclei_metric(data: Dataset, tmp_path: Path) -> None:
    plain = evaluate(Oracle(data), data, progress=False)
    assert list(plain.results) == ["coco"]
    assert "nuclei" not in plain.to_dict()
    oracle = Oracle(data)
    for found in oracle.known.values():  # half of the objects are found with a score below the one that is shown
        found.scores[::2] = 0.4
    evaluation = evaluate(oracle, data, metrics=("coco", "nuclei"), best_threshold=True, progress=False)
    nuclei = evaluation.results["nuclei"]
    assert nuclei.score_threshold == 0.5
    assert nuclei.overall.at(0.5).recall == pytest.approx(0.5, abs=0.1)
    assert (nuclei.best.score_threshold, nuclei.best.overall.mean) == (0.4, 1.0)
    low = evaluate(oracle, data, metrics=["nuclei"], metric_score=0.0, progress=False)
    assert low.results["nuclei"].overall.mean == 1.0
    assert [p.name for p in low.results["nuclei"].per_image] == [r.file_name for r in data.images]
    evaluation.save(tmp_path / "e.json")
    saved = json.loads((tmp_path / "e.json").read_text())
    assert saved["nuclei_best"]["overall"]["mean"] == 1.0
    assert "TP / (TP + FP + FN)" in evaluation.report()


def test_the_nuclei_metric_leaves_crowds_out(data: Dataset) -> None:
    """The annotations of one image become crowds: what is found there is neither right nor wrong."""
    i = next(k for k in range(len(data)) if len(data.of(k)))
    crowds = tuple(replace(a, crowd=True) for a in data.of(i))
    changed = replace(data, annotations={**data.annotations, data.images[i].id: crowds})
    result = evaluate(Oracle(data), changed, metrics=["nuclei"], progress=False).results["nuclei"]
    row = result.per_image[i]
    assert (row.tp, row.fp, row.fn) == (0, 0, 0)


def test_what_the_nuclei_metric_refuses(data: Dataset) -> None:
    oracle = Oracle(data)
    with pytest.raises(ConfigError, match="Did you mean 'nuclei'"):
        evaluate(oracle, data, metrics=["nucle"], progress=False)
    with pytest.raises(ConfigError, match="lowest score that counts"):
        evaluate(oracle, data, metrics=["nuclei"], metric_score=0.2, score_threshold=0.3, progress=False)
    bare = {k: tuple(replace(a, segmentation=None) for a in rows) for k, rows in data.annotations.items()}
    with pytest.raises(DataError, match="needs masks"):
        evaluate(oracle, replace(data, annotations=bare), metrics=["nuclei"], progress=False)
    assert oracle.options == []


def test_images_can_be_watched(data: Dataset) -> None:
    seen: list[tuple[int, bool, int]] = []

    def watch(i: int, image: Any, found: Instances) -> None:
        seen.append((i, bool((image == data.image(i)).all()), len(found)))

    evaluate(Oracle(data), data, watch=watch, progress=False)
    assert seen == [(i, True, len(data.truth(i))) for i in range(len(data))]


def result_file(path: Path, data: Dataset, shift: int = 0) -> Path:
    """What the oracle finds, as COCO results with file names."""
    rows = []
    for i, record in enumerate(data.images):
        found = Oracle(data, shift=shift).predict(data.image(i), timer=StageTimer())
        entries = Prediction(**vars(found)).to_coco(record.id)
        rows += [{**entry, "file_name": f"some/where/{record.file_name}"} for entry in entries]
    path.write_text(json.dumps(rows))
    return path


def test_result_files(tmp_path: Path, data: Dataset) -> None:
    """The numbers are those of the model that wrote the file; no image is opened."""
    path = result_file(tmp_path / "r.json", data, shift=2)
    metrics = ["coco", "nuclei"]
    direct = evaluate(Oracle(data, shift=2), data, metrics=metrics, progress=False)
    for i in range(len(data)):
        data.path(i).unlink()
    seen: list[int] = []
    measured = evaluate_results(path, data.source, metrics=metrics, watch=lambda i, found: seen.append(len(found)))
    assert 0 < measured.values["segm/AP"] < 1
    assert measured.values == pytest.approx(direct.values, abs=1e-6)
    assert measured.results["nuclei"].score_threshold == 0.5
    assert seen == [len(data.truth(i)) for i in range(len(data))]
    assert measured.images_per_second == 0
    assert "images per second" not in measured.report()
    assert json.loads(json.dumps(measured.to_dict()))["segm"] == direct.to_dict()["segm"]
    first = evaluate_results(path, data.source, limit=2)
    assert (first.images, first.result.images) == (2, 2)


def test_result_files_that_lack_images_say_so(tmp_path: Path, data: Dataset) -> None:
    (tmp_path / "r.json").write_text("[]")
    measured = evaluate_results(tmp_path / "r.json", data)
    assert measured.values["bbox/AP"] == 0
    assert "6 images without a result in" in measured.report()


def test_result_files_with_the_ids_of_other_images_are_refused(tmp_path: Path, data: Dataset) -> None:
    """Every id exists in the data set, but the images were numbered in another order."""
    path = result_file(tmp_path / "r.json", data)
    ids = [record.id for record in data.images]
    rows = [{**row, "image_id": ids[::-1][ids.index(row["image_id"])]} for row in json.loads(path.read_text())]
    path.write_text(json.dumps(rows))
    with pytest.raises(DataError, match=r"result 0: image_id \d+ is 0005\.png in .*, but the result is of 0000\.png"):
        evaluate_results(path, data)


# ---- the table of metrics -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Count:
    """Detections for each annotated object."""

    share: float
    notes: tuple[str, ...] = ("Counted.",)

    def values(self) -> dict[str, float]:
        return {"count/share": self.share}

    def table(self) -> str:
        return f"count: {self.share:.2f} found for each annotated object"

    def to_dict(self) -> dict[str, Any]:
        return {"count": {"share": self.share}}

    def section(self) -> PageSection:
        return PageSection([("found for each object", f"{self.share:.2f}")], [], [(Column("double"), [2.0, 4.0, 6.0])])


class CountMetric:
    def __init__(self, dataset: Dataset, options: MetricOptions) -> None:
        self.options, self.found, self.truth = options, 0, 0

    def update(self, found: Instances, truth: GroundTruth) -> None:
        self.found += int((found.scores >= self.options.score).sum())
        self.truth += len(truth.objects)

    def result(self) -> Count:
        return Count(self.found / self.truth)


def test_a_metric_is_a_row_of_the_table(tmp_path: Path, data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts, JSON, page and result files know a new one without any other change."""
    rows = {**table.METRICS, "count": MetricKind(CountMetric, uses_score=True)}
    monkeypatch.setattr(table, "METRICS", rows)
    evaluation = evaluate(Oracle(data), data, metrics=["count"], progress=False)
    assert list(evaluation.results) == ["coco", "count"]
    assert evaluation.values["count/share"] == 1.0
    assert "count: 1.00 found for each annotated object" in evaluation.report()
    assert evaluation.to_dict()["count"] == {"share": 1.0}
    of_file = report_results(
        tmp_path / "r.html", result_file(tmp_path / "r.json", data), data, metrics=["count"], metric_score=1.0
    )
    assert of_file.values["count/share"] == 1.0
    page = (tmp_path / "r.html").read_text()
    for words in ("found for each object", "double", ">6<", "Counted.", "Worst images", "r.json"):
        assert words in page
    with pytest.raises(ConfigError, match=r"no metric 'cont'. Did you mean 'count'"):
        evaluate(Oracle(data), data, metrics=["cont"], progress=False)


def test_a_page_of_a_result_file_whose_images_are_gone(tmp_path: Path, data: Dataset) -> None:
    path = result_file(tmp_path / "r.json", data)
    for i in range(len(data)):
        data.path(i).unlink()
    assert report_results(tmp_path / "r.html", path, data, limit=2).images == 2
    assert "No images are shown" in (tmp_path / "r.html").read_text()


def fail() -> None:
    raise RuntimeError("stop")


def test_timer_adds_up_also_when_a_stage_raises() -> None:
    timer = StageTimer()
    for _ in range(2):
        with timer.stage("a"):
            pass
    with pytest.raises(RuntimeError), timer.stage("b"):
        fail()
    assert timer.counts == {"a": 2, "b": 1}
    assert all(seconds > 0 for seconds in timer.totals.values())
    assert "ms each" not in timer.report()
    timer.count = 4
    timer.totals = {"a": 3.0, "long name": 1.0}
    assert timer.report().splitlines()[0] == "a              3.000 s   75.0 %     750.00 ms each"
    assert StageTimer().report() == ""


class Limited(Oracle):
    """Reports few instances unless more are asked for, and says where a limit left some out."""

    def __init__(self, data: Dataset) -> None:
        super().__init__(data)
        self.max_instances = 2

    def predict(
        self, source: Any, options: FindOptions | None = None, *, timer: StageTimer | None = None
    ) -> Prediction:
        found = super().predict(source, options, timer=timer)
        most = (options or FindOptions()).max_instances or self.max_instances
        kept = found[:most]
        return replace(kept, limits={"max_instances": 1.0}) if len(found) > most else kept


def test_more_instances_are_asked_for_where_the_images_have_more_objects(data: Dataset) -> None:
    found = evaluate(Limited(data), data, progress=False)
    assert numbers(found) == pytest.approx((1.0, 1.0))
    told = "100 instances of an image were asked for (max_instances): the data need more than the 2 that the model"
    assert f"{told} reports." in found.notes
    few = evaluate(Limited(data), data, progress=False, max_instances=2)
    assert numbers(few) < (1.0, 1.0)
    lost = sum(len(data.of(i)) > 2 for i in range(len(data)))
    told = f"Objects are probably missing, a limit was reached in {lost} images. A larger max_instances finds more."
    assert few.notes[-1:] == (told,)


@pytest.mark.parametrize(
    "options", [{"metric_score": "x", "metrics": ["nuclei"]}, {"score_threshold": "x"}, {"limit": "x"}]
)
def test_a_word_in_place_of_a_number_names_the_argument(data: Dataset, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"^{next(iter(options))} is a (whole )?number, got 'x'"):
        evaluate(Oracle(data), data, progress=False, **options)
