"""An INT8 file says what it lost, or is not written."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.exporting.variants import header_of, predictor_of
from typer.testing import CliRunner

import maskwright as mw
from maskwright.cli import app
from maskwright.data.dataset import Dataset
from maskwright.data.formats import coco
from maskwright.data.synthetic import compose
from maskwright.errors import ConfigError, DataError
from maskwright.exporting import export as exporting
from maskwright.exporting import int8
from maskwright.exporting.export import export
from maskwright.exporting.int8 import Contract, chosen
from maskwright.predictor.predictor import Predictor

pytestmark = pytest.mark.usefixtures("one_thread")

SCORE = 0.3
COUNT = 18


@pytest.fixture(scope="module")
def network() -> Predictor:
    return predictor_of("yolact-one_class")


@pytest.fixture(scope="module")
def data(network: Predictor, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Scenes on which all that the network itself finds is true, so that its AP is that of agreement."""
    folder = tmp_path_factory.mktemp("int8")
    images, rows = list[dict[str, object]](), list[dict[str, object]]()
    for i in range(1, COUNT + 1):
        scene = compose(i, (70, 90), 5).image
        mw.media.write_image(folder / "images" / f"{i}.png", scene)
        images.append({"id": i, "file_name": f"{i}.png", "height": 70, "width": 90})
        rows += network.predict(scene, score_threshold=SCORE, max_instances=8).to_coco(i)
    rows = [{**row, "id": i, "iscrowd": 0} for i, row in enumerate(rows, 1) if row["area"]]
    kinds = [{"id": i, "name": name} for i, name in zip(network.classes.ids, network.classes.names, strict=True)]
    (folder / "a.json").write_text(json.dumps({"images": images, "annotations": rows, "categories": kinds}))
    return coco.load(folder / "a.json", folder / "images")


@pytest.fixture(scope="module")
def graph(network: Predictor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(network, tmp_path_factory.mktemp("int8") / "float.onnx").path


@pytest.fixture(autouse=True)
def quick(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The graph is written once."""
    if "network" in request.fixturenames:
        written = request.getfixturevalue("graph")
        monkeypatch.setattr(exporting, "write_graph", lambda *given: shutil.copyfile(written, given[2]) and None)


def test_what_it_lost_is_measured_and_kept_in_the_file(tmp_path: Path, network: Predictor, data: Dataset) -> None:
    done = export(network, tmp_path / "leaf.onnx", int8=True, data=data, max_drop=60.0)
    assert done.contract is not None
    assert (done.contract.images, done.contract.calibrated, done.contract.apart) == (COUNT // 2, COUNT // 2, True)
    assert done.contract.before["segm/AP"] > 0.3
    assert 0.0 < done.contract.after["segm/AP"] <= 1.0
    facts = json.loads(header_of(done.path))
    assert facts["precision"] == "int8"
    assert facts["int8"] == done.contract.facts()
    assert "segm/AP" in done.report()
    file = mw.load(done.path)
    assert (file.precision, network.precision) == ("int8", "float32")
    assert len(file.predict(data.image(0), score_threshold=0.1)) > 0


def test_a_loss_above_the_limit_is_refused(
    tmp_path: Path, network: Predictor, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(int8, "_counts", lambda total: [0, 1])
    dark = np.zeros((70, 90, 3), np.uint8)
    with pytest.raises(
        DataError, match=r"INT8 loses .* points at best.* allowed are 0 (?s:.*)darker or brighter"
    ) as error:
        export(network, tmp_path / "leaf.onnx", int8=True, data=data, calibrate=[dark], max_drop=0.0)
    assert "calibrated on (1 image)" in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_layers_stay_in_float_until_the_loss_is_small(
    tmp_path: Path, network: Predictor, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = export(network, tmp_path / "a.onnx", int8=True, data=data, max_drop=100.0).contract
    assert first is not None
    monkeypatch.setattr(int8, "_counts", lambda total: [0, total])
    done = export(network, tmp_path / "b.onnx", int8=True, data=data, max_drop=min(0.001, first.drop / 2)).contract
    assert done is not None
    assert len(done.kept) == done.total
    assert done.drop <= 0.001


def test_it_needs_annotated_images_with_objects(tmp_path: Path, network: Predictor, data: Dataset) -> None:
    with pytest.raises(ConfigError, match="INT8 needs annotated images"):
        export(network, tmp_path / "leaf.onnx", int8=True)
    for words in ({"data": data}, {"calibrate": ["a.png"]}):
        with pytest.raises(ConfigError, match="are of INT8 alone"):
            export(network, tmp_path / "leaf.onnx", **words)  # type: ignore[arg-type]
    bare = replace(data, annotations={record.id: () for record in data.images})
    with pytest.raises(DataError, match="have no objects"):
        export(network, tmp_path / "leaf.onnx", int8=True, data=bare)


def test_images_are_calibrated_on_or_measured(data: Dataset) -> None:
    given, measured = chosen(data, None)
    assert {path.name for path in given}.isdisjoint(record.file_name for record in measured.images)
    assert len(given) + len(measured) == COUNT
    few = data.subset(range(2 * int8.FEW - 1))
    given, measured = chosen(few, None)
    assert len(given) == len(measured) == len(few)
    assert chosen(data, ["a.png"]) == (["a.png"], data)


def test_numbers_of_layers_that_are_tried() -> None:
    assert int8._counts(36) == [0, 1, 2, 4, 8]
    assert int8._counts(3) == [0]
    assert int8._counts(4) == [0, 1]


def test_a_contract_in_words() -> None:
    classes = {f"kind {i}": (0.5, 0.5 - i / 100) for i in range(22)}
    contract = Contract({"segm/AP": 0.5}, {"segm/AP": 0.49}, classes, 1, 64, False, ("first",), 36, 2.0, 0.25)
    text = contract.report()
    assert contract.drop == pytest.approx(1.0)
    assert "35 of 36 layers, in float32 stay first; calibrated on 64 images, measured on 1 image, the same" in text
    assert "0.5000    0.4900     -1.00" in text
    assert "kind 21 " in text
    assert "kind 1 " not in text
    assert "and 2 more classes" in text
    assert "25% of the pixels" in text


def test_on_the_command_line(tmp_path: Path, data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*words: str) -> tuple[int, str, str]:
        done = CliRunner().invoke(app, ["export", "yolact_small", "--out", str(tmp_path / "a.onnx"), *words])
        return done.exit_code, done.stdout, done.stderr

    code, _, err = run("--int8")
    assert (code, "--data ANNOTATIONS" in err) == (2, True)
    for words in (("--max-drop", "1"), ("--calibrate", "photos")):
        code, _, err = run(*words)
        assert (code, "are of --int8 alone" in err) == (2, True)
