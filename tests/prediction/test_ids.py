"""Results with the image and category ids of an annotation file."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.reference.brightness import CLASSES, Brightness

from maskwright.data.formats import coco
from maskwright.errors import ConfigError, DataError
from maskwright.prediction.batch import BatchResult, RunOptions, predict_files
from maskwright.predictor.options import FindOptions
from maskwright.results.prediction import Prediction


def source_image(path: Path, level: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((5, 7, 3), level, np.uint8)).save(path)
    return path


def run(sources: list[Path], out: Path, **options: object) -> BatchResult:
    return predict_files(Brightness(), sources, out, RunOptions(**options))  # type: ignore[arg-type]


def annotations(path: Path, names: list[str], classes: list[str], ids: list[int]) -> Path:
    """COCO JSON of images that are numbered from 30 down."""
    images = [{"id": 30 - k, "file_name": name, "height": 5, "width": 7} for k, name in enumerate(names)]
    categories = [{"id": k, "name": name} for k, name in zip(ids, classes, strict=True)]
    path.write_text(json.dumps({"images": images, "annotations": [], "categories": categories}))
    return path


def test_results_take_the_ids_of_an_annotation_file(tmp_path: Path) -> None:
    """Ten images whose order by name is not that of their ids; the categories are numbered otherwise too."""
    names = [f"v{k}.png" for k in range(12)]
    for name in names:
        source_image(tmp_path / "in" / name, 1)
    known = annotations(tmp_path / "val.json", names, ["ring", *CLASSES], [4, 9, 5])
    result = run([tmp_path / "in"], tmp_path / "out", save=("coco", "json"), ids=known)
    assert (len(result.done), result.failed) == (12, [])
    rows = json.loads((tmp_path / "out/results.json").read_text())
    assert {(row["image_id"], Path(row["file_name"]).name) for row in rows} == {
        (30 - k, n) for k, n in enumerate(names)
    }
    assert {row["category_id"] for row in rows} == {9}
    assert Prediction.load(tmp_path / "out/json/v3.json").classes.ids == (9, 5)
    data = coco.load(known)
    assert {i: len(found) for i, found in coco.read_results(tmp_path / "out/results.json", data).items()} == {
        record.id: 1 for record in data.images
    }


def test_images_and_classes_that_the_annotation_file_does_not_have(tmp_path: Path) -> None:
    paths = [source_image(tmp_path / name) for name in ("a/x.png", "b/x.png", "c/x.png")]
    known = annotations(tmp_path / "val.json", ["a/x.png", "b/x.png"], [CLASSES[0]], [3])
    with pytest.raises(ConfigError, match="has no class 'a/b: ü', which the model finds"):
        run(paths[:2], tmp_path / "out", ids=known)
    kept = {"ids": known, "save": ("coco",), "find": FindOptions(classes=CLASSES[:1])}
    with pytest.raises(DataError, match=r"c/x\.png is not an image of .*val\.json\. There is a/x\.png\."):
        run(paths, tmp_path / "out", **kept)
    assert not (tmp_path / "out").exists()
    run(paths[:2], tmp_path / "out", **kept)
    bare = annotations(tmp_path / "bare.json", ["x.png"], [CLASSES[0]], [3])
    with pytest.raises(DataError, match="are both image 30"):
        run(paths[:2], tmp_path / "more", **(kept | {"ids": bare}))
