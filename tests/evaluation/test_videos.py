"""Videos through a model and files of tracks, measured as the metrics measure what they are given."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from maskwright.cli import app
from maskwright.data import formats
from maskwright.data.dataset import Dataset
from maskwright.data.synthetic import clips_fixture
from maskwright.errors import ConfigError, DataError
from maskwright.evaluation.evaluate import evaluate, evaluate_results
from maskwright.evaluation.report import report_results
from maskwright.metrics.hota import HotaMetric
from maskwright.metrics.metric import GroundTruth
from maskwright.metrics.youtube_vis import YoutubeVisMetric
from maskwright.models import rcnn, yolact_edge
from maskwright.models.family import build
from maskwright.predictor.predictor import Predictor
from maskwright.predictor.track_options import TrackOptions

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    return clips_fixture(3, tmp_path / "frames", clips=2, frames=4, size=(48, 64), objects=3, classes=2)


@pytest.fixture
def predictor(data: Dataset) -> Predictor:
    torch.manual_seed(0)
    config = replace(yolact_edge.tiny_variants()["video"], num_classes=2)
    return Predictor(build(config), data.classes, name="video")


def result_rows(data: Dataset) -> list[dict[str, Any]]:
    """The ground truth as a YouTube-VIS result list."""
    place = data.root.parent / "truth.json" if data.root else Path()
    formats.save(place, data, "youtube_vis")
    rows = json.loads(place.read_text())["annotations"]
    return [
        {"video_id": r["video_id"], "category_id": r["category_id"], "score": 0.9, "segmentations": r["segmentations"]}
        for r in rows
    ]


def written(rows: Any, data: Dataset) -> Path:
    assert data.root is not None
    path = data.root.parent / "results.json"
    path.write_text(json.dumps(rows))
    return path


def test_a_model_follows_objects_and_all_metrics_get_the_same(data: Dataset, predictor: Predictor) -> None:
    names, track = ("youtube_vis", "hota", "ctc", "key_frames"), TrackOptions(2)
    videos = [([data.image(position) for _, position in frames], frames) for frames in data.clips.values()]

    def tracked(score: float) -> list[tuple[int, Any]]:
        found = [predictor.track(images, track=track, score_threshold=score) for images, _ in videos]
        pairs = [zip(frames, own, strict=True) for own, (_, frames) in zip(found, videos, strict=True)]
        return [(position, one) for own in pairs for (_, position), one in own]

    scores = np.unique(np.concatenate([found.scores for _, found in tracked(0.0)]))
    score = float(scores[len(scores) // 2 : len(scores) // 2 + 2].mean())  # above half of what was found
    given: Any = {"score_threshold": 0.0, "metric_score": score, "track": track, "progress": False}
    evaluation = evaluate(predictor, data, metrics=names, **given)
    assert list(evaluation.results) == ["coco", *names]
    results: Any = evaluation.results
    for name, metric, least in (
        ("hota", HotaMetric(data.classes), score),
        ("youtube_vis", YoutubeVisMetric(data.classes), 0.0),
    ):
        for position, found in tracked(least):
            metric.update(found, GroundTruth(data, position))
        assert results[name].values() == metric.result().values()
    assert 0 < results["hota"].overall.found < sum(row.found for row in evaluation.result.boxes.per_class)
    assert [(row.distance, row.frames) for row in results["key_frames"].rows] == [(0, 4), (1, 4)]
    assert {"read", "network", "link", "metric"} <= evaluation.seconds.keys()
    assert json.dumps(evaluation.to_dict())


def test_metrics_of_videos_are_the_default_where_there_are_tracks(data: Dataset, predictor: Predictor) -> None:
    assert list(evaluate(predictor, data, progress=False).results) == ["coco", "youtube_vis", "hota"]
    assert list(evaluate(predictor, data, metrics=("coco",), progress=False).results) == ["coco"]


def test_a_model_without_masks_says_that_tracks_were_not_measured(data: Dataset) -> None:
    torch.manual_seed(0)
    config = replace(rcnn.tiny_variants()["detectron2_boxes"], num_classes=2)
    evaluation = evaluate(Predictor(build(config), data.classes, name="boxes"), data, progress=False)
    assert list(evaluation.results) == ["coco"]
    assert any("were not measured" in note for note in evaluation.notes)


def test_metrics_of_videos_need_videos(data: Dataset, predictor: Predictor) -> None:

    stills = replace(data, images=tuple(replace(r, frame=None) for r in data.images))
    with pytest.raises(ConfigError, match="no frames of videos, and hota measure tracks"):
        evaluate(predictor, stills, metrics=("hota",), progress=False)
    assert list(evaluate(predictor, stills, progress=False).results) == ["coco"]
    bare = {i: tuple(replace(a, track_id=None) for a in rows) for i, rows in data.annotations.items()}
    with pytest.raises(ConfigError, match="no annotation has a track id"):
        evaluate(predictor, replace(data, annotations=bare), metrics=("hota",), progress=False)


def test_frames_that_cannot_be_read_are_left_out_of_their_video(data: Dataset, predictor: Predictor) -> None:
    data.path(1).write_bytes(b"no image")
    with pytest.raises((DataError, OSError, ValueError), match=r"00001\.png"):
        evaluate(predictor, data, progress=False)
    evaluation = evaluate(predictor, data, skip=True, progress=False)
    assert (evaluation.images, len(evaluation.failed)) == (7, 1)


def test_a_result_file_of_tracks(data: Dataset, tmp_path: Path) -> None:
    evaluation = evaluate_results(written(result_rows(data), data), data)
    assert data.root is not None
    assert list(evaluation.results) == ["coco", "youtube_vis", "hota"]
    values = evaluation.values
    assert [values[k] for k in ("segm/AP", "track/AP", "hota/HOTA", "hota/IDF1")] == pytest.approx([1] * 4)
    page = tmp_path / "page.html"
    report_results(page, data.root.parent / "results.json", data)
    assert "HOTA" in page.read_text()
    part = evaluate_results(data.root.parent / "results.json", data, limit=5)
    assert (part.images, part.values["track/AP"]) == (5, pytest.approx(1))


def test_one_identity_exchanged_costs_hota_and_not_the_masks(data: Dataset) -> None:
    rows = result_rows(data)
    a, b = next((x, y) for x in rows for y in rows if x is not y and x["video_id"] == y["video_id"]
                and x["category_id"] == y["category_id"])  # fmt: skip
    a["segmentations"][2:], b["segmentations"][2:] = b["segmentations"][2:], a["segmentations"][2:]
    values = evaluate_results(written(rows, data), data).values
    assert values["segm/AP"] == pytest.approx(1)
    assert values["hota/HOTA"] < 1
    assert values["track/AP"] < 1


def test_nothing_found_is_zero(data: Dataset) -> None:
    rows = result_rows(data)[:1]
    rows[0]["segmentations"] = [None] * 4
    evaluation = evaluate_results(written(rows, data), data)
    assert (evaluation.values["hota/HOTA"], evaluation.values["track/AP"]) == (0, 0)
    assert "8 frames have no object" in evaluation.notes[-1]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"video_id": 99}, "result 0: video_id 99 is not a video"),
        ({"category_id": 99}, "result 0: category_id 99 is not a class"),
        ({"score": 1.5}, "result 0: 'score' must lie in 0..1"),
        ({"segmentations": [None]}, "one entry for each of the 4 frames of video 1"),
        ({"segmentations": None}, "one entry for each of the 4 frames of video 1 .*got NoneType"),
        ({"segmentations": [{"size": [3, 3], "counts": [9]}] * 4}, "size"),
    ],
)
def test_rows_that_cannot_belong_to_the_data_are_refused(data: Dataset, change: dict[str, Any], words: str) -> None:
    rows = result_rows(data)
    rows[0] |= change
    with pytest.raises(DataError, match=words):
        evaluate_results(written(rows, data), data)


def test_results_of_images_have_no_tracks(data: Dataset) -> None:
    rows = [{"image_id": 1, "category_id": 1, "score": 0.5, "bbox": [0, 0, 4, 4]}]
    assert list(evaluate_results(written(rows, data), data).results) == ["coco"]
    with pytest.raises(DataError, match="metrics of videos need tracks"):
        evaluate_results(written(rows, data), data, metrics=("hota",))


def test_the_command_line(data: Dataset, tmp_path: Path) -> None:
    results = written(result_rows(data), data)
    assert data.root is not None
    arguments = ["evaluate", "--data", str(data.root.parent / "truth.json"), "--results", str(results)]
    out = CliRunner().invoke(app, [*arguments, "--metric", "ctc", "--metric", "hota", "--score", "0.5"])
    assert out.exit_code == 0, out.output
    assert "hota: tracks by the IoU of masks" in out.output
    assert "ctc: Cell Tracking Challenge" in out.output
    assert "switches" in out.output
