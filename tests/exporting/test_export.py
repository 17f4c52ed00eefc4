"""An exported file gives what the network gives, or is not written."""

import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from tests.exporting.variants import fullest, header_of, predictor_of
from tests.models.test_contract import VARIANTS, lively
from typer.testing import CliRunner

import maskwright as mw
from maskwright.cli import app
from maskwright.data.synthetic import compose
from maskwright.errors import ConfigError, DataError, MissingExtraError, WeightsError
from maskwright.explanation.explain import explain
from maskwright.exporting import export as exporting
from maskwright.exporting.compare import Difference, Limit, compare, own_images
from maskwright.exporting.export import export, verify
from maskwright.models import zoo
from maskwright.predictor.predictor import Predictor
from maskwright.results.prediction import Prediction
from maskwright.runtimes.detector import RuntimeDetector
from maskwright.runtimes.table import KINDS
from maskwright.types import Size
from maskwright.weights.files import save_checkpoint

pytestmark = pytest.mark.usefixtures("one_thread")

Pair = tuple[Predictor, Path]


ONE = "yolact-one_class"
"""Whose inputs have any size, for what does not depend on the family."""


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Pair]:
    """Gives a tiny network and its exported file; writing one takes seconds, so each is written once."""

    @cache
    def make(name: str) -> Pair:
        torch.set_num_threads(1)
        predictor = predictor_of(name)
        return predictor, export(predictor, tmp_path_factory.mktemp("exported") / "tiny.onnx").path

    return make


@pytest.fixture(params=fullest())
def pair(request: pytest.FixtureRequest, exported: Callable[[str], Pair]) -> Pair:
    """Of each family."""
    return exported(request.param)


@pytest.fixture
def one(exported: Callable[[str], Pair]) -> Pair:
    return exported(ONE)


@pytest.fixture
def quick(one: Pair, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """From now on a graph that lies somewhere is taken for the network's own."""

    def taken(graph: Path) -> None:
        monkeypatch.setattr(exporting, "write_graph", lambda *_: shutil.copyfile(graph, _[2]) and None)

    taken(one[1])
    return taken


def image_of(size: Size, seed: int = 0) -> np.ndarray:
    return compose(seed, size, 6).image


def test_it_gives_what_the_network_gives(pair: Pair) -> None:
    """Of every size, in both runtimes, an empty image among them."""
    network, path = pair
    KINDS["openvino"].save(path, path.with_suffix(".xml"), header_of(path))
    images = [*own_images(), image_of((45, 70)), image_of((97, 33), 1), image_of((64, 64), 2)]
    for file in (path, path.with_suffix(".xml")):
        difference = compare(network, mw.load(file), images)
        assert difference.beyond(Limit()) == [], str(difference)
        assert difference.detections > 50
        assert difference.missing + difference.extra <= 1


def test_a_batch_of_several_sizes_gives_what_its_images_give(pair: Pair) -> None:
    file = mw.load(pair[1])
    images = [image_of((60, 90)), np.zeros((58, 90, 3), np.uint8), image_of((60, 84), 1)]
    alone = [file.predict(image) for image in images]
    for batch_size in (1, 3):
        together = file.predict(images, batch_size=batch_size)
        for a, b in zip(alone, together, strict=True):
            assert len(a) == len(b)
            np.testing.assert_allclose(a.boxes, b.boxes, atol=0.01)


def test_it_says_what_it_is(pair: Pair) -> None:
    network, path = pair
    file = mw.load(path)
    detector = file.detector
    assert isinstance(detector, RuntimeDetector)
    assert (file.classes, file.spec, detector.limits) == (network.classes, network.spec, network.detector.limits)
    assert (detector.output, detector.parts) == (network.detector.output, network.detector.parts)
    assert detector.header.facts["measured"]["detections"] > 0
    assert {"torch", "onnx", "onnxscript"} == set(detector.header.facts["made_with"])
    assert (file.lowest_score, file.max_instances) == (network.lowest_score, network.max_instances)


def same(a: Prediction, b: Prediction) -> bool:
    return len(a) == len(b) and np.array_equal(a.boxes, b.boxes)


def test_it_can_be_sent_to_another_process(one: Pair) -> None:
    file, image = mw.load(one[1]), image_of((60, 90))
    again = pickle.loads(pickle.dumps(file))
    assert same(again.predict(image), file.predict(image))


def test_names_and_sizes_are_chosen_as_for_a_network(one: Pair) -> None:
    file = mw.load(one[1], classes=["leaf"], size=96)
    assert file.classes.names == ("leaf",)
    difference = compare(Predictor(replace(one[0].detector, spec=file.spec)), file, [image_of((60, 90))])  # type: ignore[type-var]
    assert difference.beyond(Limit()) == []
    with pytest.raises(ConfigError, match="has 1 classes, got 2 names"):
        mw.load(one[1], classes=["leaf", "stem"])


def test_a_square_input_has_one_size(tmp_path: Path, one: Pair) -> None:
    header = RuntimeDetector.of(one[1]).header
    KINDS["onnx"].save(one[1], tmp_path / "square.onnx", replace(header, input=(64, 64)).text())
    with pytest.raises(ConfigError, match=r"takes inputs of 64 x 64 pixels alone, got 1\d\d x") as raised:
        mw.load(tmp_path / "square.onnx").predict(image_of((70, 150)))
    assert raised.value.options == ("size",)


@pytest.mark.parametrize("asked", [{"nms": "exact"}, {"device": "cuda"}, {"precision": "bf16"}, {"weights": "a.pth"}])
def test_what_is_fixed_in_it_cannot_be_chosen(one: Pair, asked: dict[str, str]) -> None:
    with pytest.raises(
        ConfigError, match="is an exported file, which runs on the processor as it was written"
    ) as raised:
        mw.load(one[1], **asked)
    assert raised.value.options == tuple(asked)


def test_more_instances_than_it_has_room_for(one: Pair) -> None:
    with pytest.raises(ConfigError, match="room for 20 instances of an image, got 21") as raised:
        mw.load(one[1]).predict(image_of((60, 90)), max_instances=21)
    assert raised.value.options == ("max_instances",)


def test_what_only_a_network_can_do(one: Pair) -> None:
    file = mw.load(one[1])
    with pytest.raises(ConfigError, match="cannot be explained"):
        explain(file, image_of((60, 90)))
    with pytest.raises(ConfigError, match="cannot be given any"):
        file.predict(image_of((60, 90)), boxes=[[1, 2, 30, 40]])
    with pytest.raises(ConfigError, match="there is no network to look at"):
        _ = file.model
    with pytest.raises(ConfigError, match=r"is an exported file\. Export the model"):
        export(file, "again.onnx")


def test_a_file_without_a_header_and_damaged_ones(tmp_path: Path, one: Pair) -> None:
    bare = onnx.load(one[1])
    del bare.metadata_props[:]
    onnx.save(bare, tmp_path / "bare.onnx")
    with pytest.raises(WeightsError, match=r"bare.onnx was not written by maskwright export"):
        mw.load(tmp_path / "bare.onnx")
    (tmp_path / "cut.onnx").write_bytes(one[1].read_bytes()[:5000])
    with pytest.raises(WeightsError, match=r"cut.onnx cannot be opened by ONNX Runtime"):
        mw.load(tmp_path / "cut.onnx")
    for text in ("{", "[]", "{}", '{"architecture": "a", "config": {}, "classes": 3}', header_of(one[1])[:-200] + '"}'):
        KINDS["onnx"].save(one[1], tmp_path / "odd.onnx", text)
        with pytest.raises(WeightsError, match=r"odd.onnx"):
            mw.load(tmp_path / "odd.onnx")
    KINDS["openvino"].save(one[1], tmp_path / "two.xml", header_of(one[1]))
    (tmp_path / "two.bin").unlink()
    with pytest.raises(WeightsError, match=r"two.bin should lie beside it"):
        mw.load(tmp_path / "two.xml")
    (tmp_path / "two.bin").write_bytes(b"short")
    with pytest.raises(WeightsError, match=r"two.xml cannot be opened by OpenVINO"):
        mw.load(tmp_path / "two.xml")
    with pytest.raises(WeightsError, match=r"There is no file .*none.onnx"):
        mw.load(tmp_path / "none.onnx")


@pytest.mark.parametrize(("package", "suffix"), [("onnxruntime", ".onnx"), ("openvino", ".xml")])
def test_a_missing_package_is_named_with_its_extra(
    tmp_path: Path, one: Pair, monkeypatch: pytest.MonkeyPatch, package: str, suffix: str
) -> None:
    (tmp_path / f"a{suffix}").write_bytes(one[1].read_bytes())
    monkeypatch.setitem(sys.modules, package, None)
    extra = {"onnxruntime": "onnx"}.get(package, package)
    with pytest.raises(MissingExtraError, match=rf"needs the package '{package}'.*maskwright\[{extra}\]"):
        mw.load(tmp_path / f"a{suffix}")


# ---- writing --------------------------------------------------------------------------------------------------------


def altered(path: Path, target: Path) -> Path:
    """The same graph with other weights in one layer."""
    model = onnx.load(path)
    largest = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    values = onnx.numpy_helper.to_array(largest)
    largest.CopyFrom(onnx.numpy_helper.from_array((values * 1.5).astype(values.dtype), largest.name))
    onnx.save(model, target)
    return target


@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
def test_a_file_that_gives_something_else_is_not_written(
    tmp_path: Path, one: Pair, quick: Callable[[Path], None], suffix: str
) -> None:
    quick(altered(one[1], tmp_path / "altered.onnx"))
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match=r"does not give what the network gives: .* It was not written"):
        export(one[0], tmp_path / "out" / f"leaf{suffix}")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_file_is_compared_later(tmp_path: Path, one: Pair) -> None:
    assert verify(one[0], one[1]).beyond(Limit()) == []
    header, wrong = header_of(one[1]), altered(one[1], tmp_path / "wrong.onnx")
    KINDS["onnx"].save(wrong, wrong, header)
    with pytest.raises(DataError, match=r"wrong\.onnx does not give what the network gives"):
        verify(one[0], wrong)


def test_the_name_decides_what_is_written(tmp_path: Path, one: Pair, quick: object) -> None:
    done = export(one[0], tmp_path / "a" / "leaf.xml", to="openvino")
    assert [file.name for file in done.files] == ["leaf.xml", "leaf.bin"]
    assert {file.name for file in (tmp_path / "a").iterdir()} == {"leaf.xml", "leaf.bin"}
    assert "leaf.bin" in done.report()
    for name, to in (("leaf.pt", None), ("leaf", None), ("leaf.onnx", "openvino"), ("leaf.onnx", "tensorflow")):
        with pytest.raises(ConfigError, match=r"suffix|ends in one of|no kind of file"):
            export(one[0], tmp_path / name, to=to)
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(FileExistsError, match="is a folder"):
        export(one[0], tmp_path / "folder.onnx")


def test_the_network_has_to_be_exact(tmp_path: Path, one: Pair) -> None:
    inexact = Predictor(replace(one[0].detector, dtype=torch.bfloat16))  # type: ignore[type-var]
    with pytest.raises(ConfigError, match="exported from the processor in float32, this one is on cpu in bfloat16"):
        export(inexact, tmp_path / "a.onnx")


def test_the_program_without_torch_of_the_docs(tmp_path: Path, one: Pair) -> None:
    """Its instances have the scores and boxes of `predict`, and its masks nearly as many pixels."""
    text = (Path(__file__).parents[2] / "docs" / "export.md").read_text(encoding="utf-8")
    code = text.partition("## A program without torch")[2].partition("```python\n")[2].partition("```")[0]
    (tmp_path / "edge.py").write_text("import sys\nsys.modules['torch'] = None\n" + code)
    mw.media.write_image(tmp_path / "a.png", image_of((60, 90)))
    words = [sys.executable, tmp_path / "edge.py", one[1], tmp_path / "a.png"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    rows = [
        re.fullmatch(r"(.+) (\d\.\d+) \[(.*)\] (\d+) pixels", line).groups()  # type: ignore[union-attr]
        for line in done.stdout.splitlines()
    ]
    found = mw.load(one[1]).predict(tmp_path / "a.png")
    scores = np.array([float(row[1]) for row in rows])
    assert len(found) > 0
    assert [row[0] for row in rows] == [found.classes.names[label] for label in found.labels]
    np.testing.assert_allclose(scores, found.scores, atol=1e-3)
    np.testing.assert_allclose([[float(v) for v in row[2].split()] for row in rows], found.boxes, atol=1.5)
    assert found.crops is not None
    np.testing.assert_allclose([int(row[3]) for row in rows], found.crops.areas(), rtol=0.15, atol=12)


def test_on_the_command_line(tmp_path: Path, one: Pair, quick: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    network = VARIANTS[ONE]

    save_checkpoint("leaf.safetensors", lively(network).state_dict(), zoo.describe(network, one[0].classes, "leaf"))
    mw.media.write_image("photos/a.png", image_of((60, 90)))

    def run(*words: str) -> tuple[int, str, str]:
        done = CliRunner().invoke(app, list(words))
        return done.exit_code, done.stdout, done.stderr

    code, out, err = run("export", "leaf.safetensors", "--out", "leaf.onnx", "--images", "photos")
    assert code == 0, err
    assert "leaf.onnx: " in out
    assert "on 1 images: 0 missing, 0 extra" in out
    assert run("export", "leaf.safetensors", "--out", "leaf.onnx")[0] == 2
    code, out, err = run("export", "leaf.safetensors", "--verify", "leaf.onnx")
    assert (code, out.startswith("leaf.onnx: ")) == (0, True), err
    code, out, err = run("predict", "photos", "--model", "leaf.onnx", "--score", "0.1", "--out", "results")
    assert code == 0, err
    assert out.startswith("photos/a.png\t")
    code, _, err = run("explain", "photos/a.png", "--model", "leaf.onnx")
    assert (code, "cannot be explained" in err) == (2, True)
    assert run("export", "leaf.safetensors")[0] == 2


# ---- what is compared -----------------------------------------------------------------------------------------------


def test_a_difference_is_told_in_words() -> None:
    fine = Difference(3, 400, 1, 0, 1e-4, 1e-6, 1.0, 1.0, 0.0, 0.0)
    assert fine.beyond(Limit()) == []
    wrong = Difference(3, 400, 3, 2, 0.2, 0.1, 0.5, 0.9, 0.2, 0.01)
    assert len(wrong.beyond(Limit())) == 6
    assert "3 missing, 2 extra" in str(wrong)


def test_what_is_missing_extra_and_near_the_cut(one: Pair) -> None:
    network = one[0]
    found = network.predict(image_of((60, 90)), score_threshold=0.05)
    assert len(found) > 4
    again = exporting.compare(network, mw.load(one[1]), [image_of((60, 90))])
    assert (again.missing, again.extra) == (0, 0)
