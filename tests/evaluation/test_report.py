"""Report pages: well formed, complete in themselves, small, and safe whatever the files contain."""

import base64
import io
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.reference.page_checker import EVIL, checked

from maskwright.data.dataset import Annotation, Dataset, ImageRecord
from maskwright.errors import ConfigError
from maskwright.evaluation.gallery import Gallery, judge
from maskwright.evaluation.report import read_columns, report
from maskwright.models import rcnn, zoo
from maskwright.models.rcnn import RCNN
from maskwright.predictor.timing import StageTimer
from maskwright.results.prediction import Prediction
from maskwright.training.report import report_run
from maskwright.training.resolved import Resolved
from maskwright.types import Classes, InputSpec, Instances, Masks
from maskwright.weights.files import save_checkpoint


class Oracle:
    """Finds what is annotated, moved right by `shift`, with scores that fall from 0.9 to 0.6."""

    def __init__(self, data: Dataset, shift: int = 1, keep: int = 1000, masks: bool = True) -> None:
        self.classes, self.lowest_score, self.score_threshold = data.classes, 0.05, 0.5
        self.name, self.spec, self.precision = f"oracle {EVIL}", InputSpec(), "float32"
        self.max_instances = 10**6
        self.device, self.model = torch.device("cpu"), torch.nn.Linear(2, 2)
        truths = []
        for i in range(len(data)):
            truth = data.truth(i)[:keep]
            truth.scores = np.linspace(0.9, 0.6, len(truth), dtype=np.float32)
            truth.boxes = truth.boxes + np.array([shift, 0, shift, 0], np.float32)
            if truth.crops is not None:
                moved = np.roll(truth.crops.dense(), shift, axis=2)
                truth.crops = Masks.from_dense(moved, truth.size) if masks else None
            truths.append(truth)
        self._left = iter(truths)

    def predict(self, source: Any, options: Any = None, *, timer: StageTimer) -> Prediction:
        with timer.stage("network"):
            return Prediction(**vars(next(self._left)))


def scenes(folder: Path, classes: Sequence[str], images: int, objects: int, size: int = 48) -> Dataset:
    """Images of noise with rectangles in random places, the classes in turn."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    records, annotations = [], {}
    for i in range(images):
        name = f"{i} größe.png"
        Image.fromarray(rng.integers(0, 256, (size, size + 9, 3), dtype=np.uint8)).save(folder / name)
        records.append(ImageRecord(i + 1, name, (size, size + 9)))
        rows = []
        for k in range(objects):
            x, y = (float(v) for v in rng.integers(0, size - 13, 2))
            w, h = (float(v) for v in rng.integers(5, 13, 2))
            polygon = np.array([x, y, x + w, y, x + w, y + h, x, y + h])
            label = (i * objects + k) % len(classes)
            rows.append(Annotation(k + 1, i + 1, label, (x, y, x + w, y + h), (polygon,), w * h))
        annotations[i + 1] = tuple(rows)
    return Dataset(Classes(classes), tuple(records), annotations, folder, folder / f"{EVIL[:8].replace('<', '')}.json")


@pytest.mark.parametrize(
    ("classes", "images", "objects", "options"),
    [
        ([EVIL], 3, 4, {}),
        ([f"class {k}" for k in range(80)], 12, 10, {}),
        ([f"class {k}" for k in range(5)], 2, 3, {"masks": False}),
        (["a", "b"], 2, 0, {}),
        (["a", "b"], 2, 3, {"keep": 0}),
        (["a"], 1, 1, {"shift": 30}),
    ],
)
def test_reports(tmp_path: Path, classes: list[str], images: int, objects: int, options: dict[str, Any]) -> None:
    data = scenes(tmp_path / "in", classes, images, objects)
    metrics = ["coco", "nuclei"] if options.get("masks", True) else ["coco"]
    path = tmp_path / "out" / "r ü.html"
    evaluation = report(path, Oracle(data, **options), data, metrics=metrics, progress=False)  # type: ignore[arg-type]
    text = path.read_text(encoding="utf-8")
    checker = checked(text)
    words = "".join(checker.words)
    assert [p.name for p in path.parent.iterdir()] == ["r ü.html"]
    assert checker.count("img") == 2 * min(images, 10)
    assert checker.count("table") == 1
    assert checker.count("tr") == len(classes) + 1
    assert len(text) < 5_000_000
    for name in classes:
        assert name.replace("\x00", "\ufffd") in words
    for record in data.images[:1]:
        assert record.file_name in words
    assert f"{evaluation.result.boxes['AP']:.3f}" in words or not objects
    for words_of_notes in evaluation.result.notes:
        assert words_of_notes in words


def test_the_counts_are_those_of_the_images(tmp_path: Path) -> None:
    data = scenes(tmp_path / "in", ["a", "b"], 4, 5)
    gallery = Gallery(data, 0.5, worst=1, best=2)
    quality = []
    for i in range(4):
        found = data.truth(i)[: i + 1]  # one more right on each image, the rest missed
        quality.append(judge(found, data.truth(i), data.truth(i)[:0]).quality)
        gallery.add(i, found)
    assert gallery.counts.sum(axis=0).tolist() == [1 + 2 + 3 + 4, 0, 4 + 3 + 2 + 1]
    assert quality == sorted(quality)
    worst, best = gallery.examples()
    assert [e.name for e in worst] == [data.images[0].file_name]
    assert [e.name for e in best] == [data.images[3].file_name, data.images[2].file_name]
    assert worst[0].caption.startswith("1 right, 0 false, 4 missed")


@pytest.mark.parametrize(("images", "worst", "best"), [(1, 1, 0), (2, 1, 1), (5, 3, 2), (6, 3, 3), (9, 5, 4)])
def test_few_images_are_shared_between_the_worst_and_the_best(
    tmp_path: Path, images: int, worst: int, best: int
) -> None:
    data = scenes(tmp_path / "in", ["a"], images, 9)
    gallery = Gallery(data, 0.5)
    quality = []
    for i in range(images):
        found = data.truth(i)[: i + 1]
        quality.append(judge(found, data.truth(i), data.truth(i)[:0]).quality)
        gallery.add(i, found)
    shown = [[e.name for e in side] for side in gallery.examples()]
    names = [data.images[i].file_name for i in np.argsort(quality)]
    assert shown == [names[:worst], names[worst:][::-1]]
    assert len(shown[1]) == best


def test_judging() -> None:
    """One right, one of the wrong class, one low in IoU, one in a crowd; the same by masks and by boxes."""
    classes, size = Classes(["a", "b"]), (20, 60)

    def rows(boxes: Sequence[Sequence[int]], labels: Sequence[int], masks: bool) -> Instances:
        bitmaps = np.zeros((len(boxes), *size), bool)
        for bitmap, (x0, y0, x1, y1) in zip(bitmaps, boxes, strict=True):
            bitmap[y0:y1, x0:x1] = True
        crops = Masks.from_dense(bitmaps) if masks else None
        corners = np.array(boxes, np.float32).reshape(-1, 4)
        return Instances(corners, np.ones(len(boxes)), np.array(labels), classes, size, crops)

    truth = [(0, 0, 10, 10), (20, 0, 30, 10), (40, 0, 50, 10)]
    found = [(0, 0, 10, 9), (20, 0, 30, 10), (46, 0, 56, 10), (0, 12, 8, 20)]
    for masks in (True, False):
        crowd = rows([(0, 12, 20, 20)], [0], masks)
        verdict = judge(rows(found, [0, 1, 0, 0], masks), rows(truth, [0, 0, 0], masks), crowd)
        assert verdict.found.tolist() == [True, False, False, False]
        assert (verdict.right, verdict.false, verdict.missed) == (1, 2, 2)  # the last one lies in the crowd
        assert verdict.quality == pytest.approx(0.9 / (1 + 4 / 2))
    nothing = rows([], [], True)
    assert judge(nothing, nothing, nothing).quality == 1
    assert judge(nothing, rows(truth, [0, 0, 0], True), nothing).missed == 3
    assert judge(rows(truth, [0, 0, 0], True), nothing, nothing).false == 3


def test_images_are_made_smaller_until_they_fit(tmp_path: Path) -> None:
    data = scenes(tmp_path / "in", ["a"], 3, 2, size=700)
    gallery = Gallery(data, 0.5)
    for i in range(3):
        gallery.add(i, data.truth(i))
    sizes = []
    for most in (10_000_000, 300_000):
        sides = [jpeg for rows in gallery.examples(most) for row in rows for jpeg in (row.found, row.truth)]
        assert len(sides) == 6
        assert sum(map(len, sides)) <= most
        sizes.append(Image.open(io.BytesIO(sides[0])).size)
    assert sizes[0] > sizes[1]
    narrow = scenes(tmp_path / "narrow", ["a"], 1, 0, size=14)
    Image.fromarray(np.zeros((20000, 50, 3), np.uint8)).save(tmp_path / "narrow" / narrow.images[0].file_name)
    narrow = replace(narrow, images=(replace(narrow.images[0], size=(20000, 50)),))
    gallery = Gallery(narrow, 0.5)
    gallery.add(0, narrow.truth(0))
    assert max(Image.open(io.BytesIO(gallery.examples()[0][0].found)).size) == 2000


def test_the_curves_of_a_run(tmp_path: Path) -> None:
    data = scenes(tmp_path / "in", ["a"], 2, 2)
    run = tmp_path / "run"
    run.mkdir()
    log = ["iteration,epoch,lr,mask,loss,grad_norm", *(f"{k},0,0.001,1,{9 / k},2" for k in range(1, 999)), "999,0,0.0"]
    (run / "log.csv").write_text("\n".join(log), newline="\r\n")
    (run / "metrics.csv").write_text("iteration,epoch,segm/AP,bbox/AP\n500,1,0.2,\n998,2,0.3,0.4\n")
    assert len(read_columns(run / "log.csv")["loss"]) == 998
    assert np.isnan(read_columns(run / "metrics.csv")["bbox/AP"][0])
    assert read_columns(run / "gone.csv") == {}
    (run / "empty.csv").write_text("")
    assert read_columns(run / "empty.csv") == {}
    report(tmp_path / "r.html", Oracle(data), data, run=run, config={"lr": 0.1}, progress=False)  # type: ignore[arg-type]
    words = "".join(checked((tmp_path / "r.html").read_text()).words)
    for name in ("Losses", "Learning rate", "Gradient norm", "mask AP", "Settings of the run"):
        assert name in words
    without = tmp_path / "w.html"
    report(without, Oracle(data), data, run=tmp_path, progress=False)  # type: ignore[arg-type]
    assert "Losses" not in without.read_text()


def test_a_run_without_held_out_images_and_one_whose_report_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "log.csv").write_text("iteration,epoch,loss\n1,0,2\n2,0,1\n")
    report_run(tmp_path / "last.safetensors", None, Resolved(data=EVIL))
    assert "Losses" in "".join(checked((tmp_path / "report.html").read_text()).words)
    data = scenes(tmp_path / "in", ["a"], 1, 1)
    report_run(tmp_path / "last.safetensors", data, Resolved(data="x"))
    assert "could not be written" in capsys.readouterr().err


def test_a_network_of_boxes_on_images_with_outlines_has_its_report(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, data = RCNN(replace(rcnn.tiny("compact", 1), masks=False)), scenes(tmp_path / "in", ["a"], 2, 1)
    weights = tmp_path / "best.safetensors"
    save_checkpoint(weights, model.state_dict(), zoo.describe(model.config, data.classes, "tiny"))
    assert report_run(weights, data, Resolved(data="x")) == tmp_path / "report.html"


def test_wrong_names_are_refused_before_anything_is_measured(tmp_path: Path) -> None:
    (tmp_path / "folder.html").mkdir()
    for name in ("report", "report.pdf", "folder.html"):
        with pytest.raises(ConfigError, match=r"ends in \.html"):
            report(tmp_path / name, None, tmp_path)  # type: ignore[arg-type]


def test_the_images_are_whole(tmp_path: Path) -> None:
    data = scenes(tmp_path / "in", ["a", "b"], 1, 3)
    report(tmp_path / "r.html", Oracle(data), data, progress=False)  # type: ignore[arg-type]
    for text in re.findall(r"data:image/jpeg;base64,([^\"]*)", (tmp_path / "r.html").read_text()):
        assert Image.open(io.BytesIO(base64.b64decode(text))).size == (57, 48)
