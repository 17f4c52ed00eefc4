"""Masks for the boxes of an annotation file or of results."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from maskwright.errors import ConfigError, DataError
from maskwright.models import rcnn, yolact
from maskwright.models.family import build
from maskwright.prediction.batch import RunOptions, predict_files
from maskwright.predictor.predictor import Predictor
from maskwright.results.prediction import Prediction
from maskwright.types import Classes

pytestmark = pytest.mark.usefixtures("one_thread")

BOXES = [[5, 6, 20, 30], [40, 10, 30, 40], [0, 0, 60, 50]]
"""x, y, width, height."""


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    torch.manual_seed(0)
    return Predictor(build(rcnn.tiny_variants()["detectron2"]), Classes(["a", "b", "c"]), name="masks")


def make(folder: Path, rows: list[dict[str, Any]], size: tuple[int, int] = (64, 96)) -> tuple[Path, Path]:
    """A folder of two images and their COCO file; categories "c" (7) and "other" (9)."""
    images = folder / "images"
    images.mkdir()
    rng = np.random.default_rng(0)
    for name in ("x.png", "y.png"):
        Image.fromarray(rng.integers(0, 255, (64, 96, 3), np.uint8)).save(images / name)
    document = {
        "images": [
            {"id": k, "file_name": name, "height": size[0], "width": size[1]}
            for k, name in ((4, "x.png"), (2, "y.png"))
        ],
        "annotations": [{"id": k, "area": 1, "iscrowd": 0, **row} for k, row in enumerate(rows, 1)],
        "categories": [{"id": 7, "name": "c"}, {"id": 9, "name": "other"}],
    }
    path = folder / "boxes.json"
    path.write_text(json.dumps(document))
    return images, path


def rows(crowd: int = 0) -> list[dict[str, Any]]:
    return [
        {"image_id": 4, "category_id": category, "bbox": box} for category, box in zip((7, 9, 9), BOXES, strict=True)
    ] + [{"image_id": 4, "category_id": 7, "bbox": BOXES[0], "iscrowd": 1}] * crowd


def run(predictor: Predictor, images: Path, out: Path, **options: Any) -> Any:
    return predict_files(predictor, [images], out, RunOptions(save=("json",), **options))


def test_each_box_of_the_file_gets_a_mask(predictor: Predictor, tmp_path: Path) -> None:
    images, path = make(tmp_path, rows(crowd=1))
    result = run(predictor, images, tmp_path / "out", boxes=path)
    assert [done.count for done in result.done] == [3, 0]
    found = Prediction.load(tmp_path / "out/json/x.json")
    assert found.boxes.tolist() == [[x, y, x + w, y + h] for x, y, w, h in BOXES]
    assert found.labels[0] == 2  # "c"; the model chooses for "other"
    assert found.crops is not None
    summary = result.summary()
    assert "1 crowd region of" in summary
    assert "The model chose the class of 2 boxes: it has no class of the name" in summary


def test_boxes_of_results_need_the_ids_of_their_images(predictor: Predictor, tmp_path: Path) -> None:
    images, path = make(tmp_path, [])
    results = tmp_path / "results.json"
    results.write_text(json.dumps([{**row, "score": 0.5} for row in rows()]))
    with pytest.raises(DataError, match=r"results\.json is a list of COCO results, which numbers its images"):
        run(predictor, images, tmp_path / "out", boxes=results)
    assert not (tmp_path / "out").exists()
    known = path.read_text().replace('"other"', '"a"')  # the model's classes need ids of the file
    path.write_text(known.replace('{"id": 9, "name": "a"}', '{"id": 9, "name": "a"}, {"id": 11, "name": "b"}'))
    result = run(predictor, images, tmp_path / "out", boxes=results, ids=path)
    assert [done.count for done in result.done] == [3, 0]
    assert Prediction.load(tmp_path / "out/json/x.json").labels.tolist() == [2, 0, 0]


def test_boxes_that_do_not_fit_the_images(predictor: Predictor, tmp_path: Path) -> None:
    images, path = make(tmp_path, rows(), size=(128, 192))
    result = run(predictor, images, tmp_path / "out", boxes=path)
    assert len(result.failed) == 2
    assert "192" in result.failed[0].reason
    (tmp_path / "zero").mkdir()
    images, path = make(tmp_path / "zero", [{"image_id": 4, "category_id": 7, "bbox": [5, 5, 0, 10]}])
    with pytest.raises(DataError, match=r"boxes\.json.*x\.png: boxes are .* row 0"):
        run(predictor, images, tmp_path / "zero/out", boxes=path)
    Image.new("RGB", (96, 64)).save(images / "z.png")
    with pytest.raises(DataError, match=r"z\.png is not an image of"):
        run(predictor, images, tmp_path / "zero/out", boxes=path)


def test_models_and_options_that_do_not_go_with_boxes(predictor: Predictor, tmp_path: Path) -> None:
    images, path = make(tmp_path, rows())
    other = Predictor(build(next(iter(yolact.tiny_variants().values()))), Classes(["a", "b", "c"]), name="prototypes")
    with pytest.raises(ConfigError, match="'prototypes' finds its own boxes"):
        run(other, images, tmp_path / "out", boxes=path)
    from maskwright.predictor.options import FindOptions

    with pytest.raises(ConfigError, match="no use for score_threshold"):
        run(predictor, images, tmp_path / "out", boxes=path, find=FindOptions(score_threshold=0.5))
    assert not (tmp_path / "out").exists()
