"""The intensity of a model: stored with it, used wherever it looks at images, and chosen in training."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import maskwright as mw
from maskwright.data.dataset import Dataset
from maskwright.data.formats import coco
from maskwright.errors import ConfigError
from maskwright.evaluation.evaluate import evaluate
from maskwright.explanation.explain import explain
from maskwright.media import Readings
from maskwright.models.zoo import describe, network_of
from maskwright.predictor.predictor import Predictor
from maskwright.samples.loader import TrainingSamples
from maskwright.training.compute import Device
from maskwright.training.config import TrainConfig
from maskwright.training.defaults import resolve
from maskwright.training.network import find_start, fitted
from maskwright.training.resolved import Resolved
from maskwright.types import FULL, Intensity

STRETCH = Intensity("percentiles", 1.0, 99.8)


@pytest.fixture(scope="module")
def nuclei() -> Predictor:
    return mw.load("nuclei_fast")


def data_set(folder: Path, change: Any) -> Dataset:
    """Twelve disks, in grey values as `change` makes them of 0..1."""
    folder.mkdir()
    y, x = np.mgrid[:128, :128]
    pixels, rows = np.zeros((128, 128)), []
    for k in range(12):
        cy, cx = 20 + 32 * (k // 4), 18 + 30 * (k % 4)
        pixels[(y - cy) ** 2 + (x - cx) ** 2 <= 100] = 1
        turns = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        outline = np.stack([cx + 0.5 + 10 * np.cos(turns), cy + 0.5 + 10 * np.sin(turns)], axis=1).ravel().tolist()
        box = [cx - 9.5, cy - 9.5, 20, 20]
        rows.append({"id": k + 1, "image_id": 1, "category_id": 1, "segmentation": [outline], "area": 314.0,
                     "bbox": box, "iscrowd": 0})  # fmt: skip
    pixels = 0.1 + 0.3 * pixels + np.random.default_rng(0).normal(0, 0.02, pixels.shape)
    Image.fromarray(change(pixels)).save(folder / "a.tif")
    images = [{"id": 1, "file_name": "a.tif", "height": 128, "width": 128}]
    content = {"images": images, "annotations": rows, "categories": [{"id": 1, "name": "nucleus"}]}
    (folder / "a.json").write_text(json.dumps(content), encoding="utf-8")
    return coco.load(folder / "a.json", folder)


CHANGES = {
    "12 bits": lambda p: (p * 4095).clip(0, 4095).astype(np.uint16),
    "raw": lambda p: (32978 + 3885 * p).astype(np.uint16),
    "float": lambda p: p.astype(np.float32) - 7,
}


@pytest.fixture(scope="module", params=CHANGES)
def deep(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return data_set(tmp_path_factory.mktemp("deep") / "set", CHANGES[request.param])


@pytest.mark.parametrize("name", ["nuclei", "nuclei_fast"])
def test_models_inside_stretch_each_deep_image(name: str) -> None:
    assert mw.load(name).spec.intensity == STRETCH
    assert mw.load(name, intensity="bits:12").spec.intensity == Intensity.of_bits(12)


@pytest.mark.filterwarnings("ignore:1 image with more than 8 bits")
def test_deep_images_give_what_their_stretched_copies_give(nuclei: Predictor, deep: Dataset) -> None:
    path = deep.path(0)
    copy = mw.read_image(path, intensity=STRETCH)
    expected = nuclei.predict(copy)
    assert len(expected) >= 10
    with Image.open(path) as image:
        for source in (path, np.asarray(image), image):
            np.testing.assert_array_equal(nuclei.predict(source).boxes, expected.boxes)
    told = Readings()
    explained = explain(nuclei, path, told=told)
    np.testing.assert_array_equal(explained.prediction.boxes, expected.boxes)
    assert "percentiles 1 and 99.8" in told.notes(nuclei.spec.intensity)[0]
    measured = evaluate(nuclei, deep, progress=False)
    assert measured.result.masks["AP50"] > 0.8
    assert any("became 0..255 by what lies between their own percentiles" in note for note in measured.notes)


def test_a_call_from_python_tells(nuclei: Predictor, deep: Dataset) -> None:
    with pytest.warns(UserWarning, match=r"1 image with more than 8 bits \(.*\) became 0..255"):
        nuclei.predict(deep.path(0))
    with pytest.warns(UserWarning, match="by the values -9 to 40000"):
        nuclei.predict(deep.path(0), intensity="values:-9..40000")
    with pytest.raises(ConfigError, match="is no intensity"):
        nuclei.predict(deep.path(0), intensity="brighter")


def decided(data: Dataset, **chosen: Any) -> Resolved:
    config = TrainConfig(**chosen)
    return resolve(config, data, find_start(config.network), Device("cpu", cores=2))


def test_training_decides_for_deep_images_and_says_why(deep: Dataset, tmp_path: Path) -> None:
    found = decided(deep)
    (line,) = [line for line in found.explained() if line.startswith("intensity")]
    assert line.startswith("intensity = percentiles:1..99.8: 1 of the 1 image looked at have more than 8 bits (")
    assert decided(deep, intensity="auto").value("intensity") == "percentiles:1..99.8"
    start = find_start(found.network)
    config = fitted(start.config, found.network)
    assert config.spec.intensity == STRETCH
    header = json.loads(json.dumps(describe(config, deep.classes, start.architecture)))
    assert network_of(header)[0].spec.intensity == STRETCH
    samples = TrainingSamples(deep, config.spec, found.sampling())
    np.testing.assert_array_equal(samples.sample(0).image, mw.read_image(deep.path(0), intensity=STRETCH))
    given = decided(deep, intensity="bits:12")
    assert fitted(start.config, given.network).spec.intensity == Intensity.of_bits(12)
    with pytest.raises(ConfigError, match="is no intensity"):
        TrainConfig(intensity="brighter")


def test_training_keeps_what_fits(tmp_path: Path) -> None:
    eight = data_set(tmp_path / "8", lambda p: (p * 255).clip(0, 255).astype(np.uint8))
    wide = data_set(tmp_path / "16", lambda p: (p * 150000).clip(0, 65535).astype(np.uint16))
    assert decided(eight).value("intensity") is None
    assert decided(wide).value("intensity") == "full"
    header = describe(find_start(decided(eight).network).config, eight.classes, "x")
    del header["config"]["spec"]["intensity"]  # as files of before have it
    assert network_of(header)[0].spec.intensity == FULL
    assert replace(eight, root=None).intensity == FULL
