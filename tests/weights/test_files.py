"""Reading and writing weights files: every layout in the wild, and everything that only looks like one."""

import collections
import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors import SafetensorError
from safetensors.torch import save_file

from maskwright.errors import WeightsError
from maskwright.weights import arrays_pickle
from maskwright.weights.files import KEY, read, save_checkpoint, sniff

HEADER = {"architecture": "rcnn", "config": {"depth": 50}, "classes": {"names": ["nucleus"], "ids": [1]}}


def state() -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    return {"conv.weight": torch.randn(4, 3, 3, 3, generator=g), "conv.bias": torch.randn(4, generator=g)}


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return list(a) == list(b) and all(torch.equal(a[k], b[k]) and a[k].dtype == b[k].dtype for k in a)


class Runs:
    """Would create a file when unpickled by a careless reader."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


# ---- our own files


def test_checkpoint_round_trip_keeps_tensors_and_header(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path / "new" / "best.safetensors", state(), {**HEADER, "metrics": {"ap": 0.5}})
    found = read(path)
    assert found.format == "safetensors"
    assert dict(sorted(found.tensors.items())).keys() == dict(sorted(state().items())).keys()
    assert all(torch.equal(found.tensors[k], v) for k, v in state().items())
    assert found.header == {"version": version("maskwright"), **HEADER, "metrics": {"ap": 0.5}}
    assert [p.name for p in path.parent.iterdir()] == ["best.safetensors"]


def test_half_storage_halves_weights_except_those_that_would_overflow(tmp_path: Path) -> None:
    tensors = {
        "w": torch.randn(64, 64),
        "huge": torch.full((2, 2), 1e6),
        "running_var": torch.full((4,), 1e6),
        "n": torch.tensor(7),
        "tied": torch.ones(3, 3),
    }
    tensors["tied_too"] = tensors["tied"]
    found = read(save_checkpoint(tmp_path / "a.safetensors", tensors, HEADER, half=True)).tensors
    assert found["w"].dtype == torch.float16
    assert torch.allclose(found["w"].float(), tensors["w"], rtol=1e-3, atol=1e-6)
    for name in ("huge", "running_var", "n"):
        assert torch.equal(found[name], tensors[name])
        assert found[name].dtype == tensors[name].dtype
    assert torch.equal(found["tied"], found["tied_too"])


@pytest.mark.parametrize(
    "fault",
    [
        OSError(28, "No space left on device"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_an_interrupted_save_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    path = save_checkpoint(tmp_path / "a.safetensors", state(), HEADER)
    before = path.read_bytes()

    def disk_full(tensors, name, metadata):
        Path(name).write_bytes(b"half")
        raise fault

    monkeypatch.setattr("maskwright.weights.files.save_file", disk_full)
    with pytest.raises(WeightsError, match=r"^\S*/a\.safetensors cannot be written: the disk is full\. Free some"):
        save_checkpoint(path, {"x": torch.zeros(3)}, HEADER)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("bad", [{"architecture": "rcnn"}, {**HEADER, "x": {1, 2}}, {**HEADER, "x": float("nan")}])
def test_a_header_must_be_complete_json(tmp_path: Path, bad: dict) -> None:
    with pytest.raises(WeightsError, match="header"):
        save_checkpoint(tmp_path / "a.safetensors", state(), bad)
    assert not list(tmp_path.iterdir())


def test_paths_and_metrics_without_a_value_do_not_end_a_training(tmp_path: Path) -> None:
    extras = {"training": {"out": tmp_path}, "metrics": {"AP": float("nan"), "AP50": 0.5, "loss": float("inf")}}
    header = read(save_checkpoint(tmp_path / "a.safetensors", state(), {**HEADER, **extras})).header
    assert header["training"] == {"out": str(tmp_path)}
    assert header["metrics"] == {"AP": None, "AP50": 0.5, "loss": None}


def test_foreign_safetensors_have_no_header(tmp_path: Path) -> None:
    path = tmp_path / "timm.safetensors"
    save_file(state(), path)
    assert read(path).header is None


def test_a_broken_header_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file(state(), path, metadata={"maskwright": "{"})
    with pytest.raises(WeightsError, match="not JSON"):
        read(path)
    save_file(state(), path, metadata={"maskwright": json.dumps({"config": {}})})
    with pytest.raises(WeightsError, match="lacks architecture, classes"):
        read(path)


# ---- torch files


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("wrapper", [None, "model", "state_dict"])
@pytest.mark.parametrize("prefix", ["", "module.", "module._orig_mod."])
def test_torch_files_of_every_layout(tmp_path: Path, zipped: bool, wrapper: str | None, prefix: str) -> None:
    tensors = collections.OrderedDict((prefix + k, v) for k, v in state().items())
    content = tensors if wrapper is None else {wrapper: tensors, "iteration": 7, "optimizer": {"lr": 0.02}}
    path = tmp_path / "weights.bin"  # the suffix does not matter
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    found = read(path)
    assert found.format == sniff(path) == "torch"
    assert equal(found.tensors, state())
    assert found.left_out == (() if wrapper is None else ("iteration", "optimizer"))


@pytest.mark.parametrize("zipped", [True, False])
def test_hostile_torch_file_runs_nothing(tmp_path: Path, zipped: bool) -> None:
    path, mark = tmp_path / "evil.pth", tmp_path / "ran"
    content = {"model": {"conv.weight": torch.zeros(1), "x": Runs(f"touch {mark}")}}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(WeightsError, match=r"evil\.pth.*posix\.system|nt\.system.*nothing was executed"):
        read(path)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"model": {"a": 3}}, "'a' is of type int"),
        ({"conv.weight": torch.zeros(1), "epoch": 3}, "'epoch' is of type int"),
        ({1: torch.zeros(1)}, "entry 1"),
        ({}, "no tensors"),
        ({"model": {}}, "no tensors"),
        (torch.zeros(3), "holds a Tensor"),
        ([torch.zeros(3)], "holds a list"),
    ],
)
def test_torch_files_that_are_no_checkpoints(tmp_path: Path, content: object, message: str) -> None:
    path = tmp_path / "odd.pth"
    torch.save(content, path)
    with pytest.raises(WeightsError, match=message) as caught:
        read(path)
    assert "odd.pth" in str(caught.value)


# ---- detectron2 pickles


def d2_content() -> dict[str, object]:
    model = {k: v.numpy() for k, v in state().items()}
    return {"model": model, "__author__": "Detectron2 Model Zoo", "matching_heuristics": True}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_detectron2_pickle_of_every_protocol(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "model_final.pkl"
    path.write_bytes(pickle.dumps(d2_content(), protocol))
    found = read(path)
    assert found.format == "pickle"
    assert equal(found.tensors, state())
    assert found.left_out == ("__author__", "matching_heuristics")


@pytest.mark.parametrize("spelling", [b"numpy.core", b"numpy._core"])
def test_both_spellings_of_numpy(tmp_path: Path, spelling: bytes) -> None:
    data = pickle.dumps(d2_content(), 2)
    data = data.replace(b"numpy._core", b"numpy.core").replace(b"numpy.core", spelling)
    path = tmp_path / "a.pkl"
    path.write_bytes(data)
    assert equal(read(path).tensors, state())


def python2_array(array: np.ndarray) -> bytes:
    """The pickle Python 2 writes: text and bytes are both short or long byte strings."""

    def short(text: bytes) -> bytes:
        return b"U" + bytes([len(text)]) + text

    raw = array.tobytes()
    order = b">" if array.dtype.byteorder == ">" else b"<"
    dtype = b"cnumpy\ndtype\n(" + short(b"f4") + b"K\x00K\x01tR(K\x03" + short(order) + b"NNNJ\xff\xff\xff\xff"
    dtype += b"J\xff\xff\xff\xffK\x00tb"
    shape = b"(" + b"".join(b"K" + bytes([s]) for s in array.shape) + b"t"
    body = b"T" + struct.pack("<I", len(raw)) + raw
    built = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00t" + short(b"b") + b"tR"
    return b"\x80\x02}(" + short(b"w") + built + b"(K\x01" + shape + dtype + b"\x89" + body + b"tbu."


@pytest.mark.parametrize("order", ["<", ">"])
def test_python_2_pickles_in_either_byte_order(order: str) -> None:
    array = np.arange(200, 206, dtype=order + "f4").reshape(2, 3)
    data = python2_array(array)
    assert np.array_equal(pickle.loads(data, encoding="latin1")["w"], array)  # the twin: NumPy's own reader
    found = arrays_pickle.load(io.BytesIO(data))["w"]
    assert np.array_equal(found, array)
    assert found.dtype == np.float32


@settings(max_examples=60, deadline=None)
@given(
    array=hnp.arrays(
        st.sampled_from(["f2", "f4", "f8", "i1", "i8", "u1", "bool", ">f4", ">i4"]),
        hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
    ),
    protocol=st.sampled_from([2, 3, 4, 5]),
    fortran=st.booleans(),
)
def test_any_numeric_array_comes_back(array: np.ndarray, protocol: int, fortran: bool) -> None:
    array = np.asfortranarray(array) if fortran else array
    value = arrays_pickle.load(io.BytesIO(pickle.dumps({"a": array, "s": np.float64(2.5)}, protocol)))
    np.testing.assert_array_equal(value["a"], array)
    assert value["a"].shape == array.shape
    assert value["s"] == 2.5


@pytest.mark.parametrize("protocol", [2, 4])
def test_hostile_pickle_runs_nothing_and_is_named(tmp_path: Path, protocol: int) -> None:
    path, mark = tmp_path / "evil.pkl", tmp_path / "ran"
    path.write_bytes(pickle.dumps({"model": {"a": Runs(f"touch {mark}")}}, protocol))
    with pytest.raises(WeightsError, match=r"(posix|nt)\.system") as caught:
        read(path)
    assert "evil.pkl" in str(caught.value)
    assert "nothing was executed" in str(caught.value)
    assert not mark.exists()


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x02cbuiltins\neval\nU\x041+1\x85R.",
        b"\x80\x02cnumpy\nload\nU\x01x\x85R.",
        b"\x80\x04\x8c\x05numpy\x8c\x0ccore.os.path\x93.",
        b"\x80\x02ccollections\nOrderedDict.fromkeys\n.",
        b"\x80\x02c_codecs\nencode\n(U\x01xU\x03hextR.",
        b"\x80\x02cnumpy\nndarray\n)R.",
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n}U\x01aK\x01sb.",
        b"\x80\x02U\x03idsQ.",
        pickle.dumps({"model": {"a": np.array([{"x": 1}], dtype=object)}}),
        pickle.dumps({"model": {"a": np.zeros(2, dtype=[("x", "f4")])}}),
        pickle.dumps({"model": {"a": np.array(["text"])}}),
    ],
)
def test_pickles_that_ask_for_more_than_arrays_are_refused(data: bytes) -> None:
    with pytest.raises(WeightsError):
        arrays_pickle.load(io.BytesIO(data))


def test_an_array_whose_bytes_do_not_fit_its_shape_is_refused() -> None:
    data = pickle.dumps({"a": np.zeros(3, np.float32)}, 2)
    assert data.count(b"K\x03\x85") == 1
    with pytest.raises(WeightsError, match=r"shape \(200,\).*needs 800 bytes, 12 were found"):
        arrays_pickle.load(io.BytesIO(data.replace(b"K\x03\x85", b"K\xc8\x85")))


# ---- damage


def written(tmp_path: Path, kind: str) -> Path:
    path = tmp_path / kind
    if kind == "safetensors":
        save_checkpoint(path, {"a": torch.randn(500, 5), "b": torch.randn(3)}, HEADER)
    elif kind == "pickle":
        path.write_bytes(pickle.dumps({"model": {"a": np.zeros((500, 5), np.float32), "b": np.ones(3)}}, 4))
    else:
        torch.save({"a": torch.randn(500, 5)}, path, _use_new_zipfile_serialization=kind == "zip")
    return path


@pytest.mark.parametrize("kind", ["safetensors", "pickle", "zip", "legacy"])
@pytest.mark.parametrize("keep", [0.02, 0.3, 0.9, 0.999])
def test_cut_off_files_are_an_error_that_names_them(tmp_path: Path, kind: str, keep: float) -> None:
    path = written(tmp_path, kind)
    read(path)
    data = path.read_bytes()
    path.write_bytes(data[: max(20, int(len(data) * keep))])
    with pytest.raises(WeightsError) as caught:
        read(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("kind", ["safetensors", "pickle", "zip"])
def test_what_to_do_about_a_damaged_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    path = written(tmp_path, kind)
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(WeightsError, match=r"\. Fetch or copy it again\.") as caught:
        read(path)
    assert "internal miniz error" not in str(caught.value)
    monkeypatch.setenv("MASKWRIGHT_CACHE", str(tmp_path))  # what lies there would be taken again and again
    with pytest.raises(WeightsError, match=r"\. Delete it; it will be fetched again\."):
        read(path)


@settings(max_examples=40, deadline=None)
@given(position=st.floats(0, 1, exclude_max=True), byte=st.integers(0, 255), kind=st.sampled_from(["pickle", "legacy"]))
def test_flipped_bytes_give_tensors_or_a_weights_error(
    tmp_path_factory: pytest.TempPathFactory, position: float, byte: int, kind: str
) -> None:
    path = written(tmp_path_factory.mktemp("flip"), kind)
    data = bytearray(path.read_bytes())
    data[int(position * min(len(data), 400))] = byte
    path.write_bytes(data)
    try:
        tensors = list(read(path).tensors.values())
    except WeightsError as error:
        tensors, message = [], str(error)
    else:
        message = str(path)
    assert str(path) in message
    assert all(isinstance(t, torch.Tensor) for t in tensors)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html>404</html>", "web page"),
        (b"  <html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS"),
        (b"\xff\xd8\xff\xe0 an image", "starts with"),
        (b"x", "starts with"),
        (b"\x80", "pickle of NumPy arrays"),
        (pickle.dumps({"blobs": {"res2_0_branch2a_w": np.zeros(3)}}), "Detectron"),
        (pickle.dumps([1, 2]), "holds a list"),
    ],
)
def test_files_that_are_something_else(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "model_final.pkl"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=message) as caught:
        read(path)
    assert "model_final.pkl" in str(caught.value)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    (tmp_path / "best.safetensors").write_bytes(b"x")
    with pytest.raises(WeightsError, match=r"Did you mean 'best\.safetensors'"):
        sniff(tmp_path / "bset.safetensors")
    with pytest.raises(WeightsError, match="no weights file"):
        sniff(tmp_path / "nowhere" / "a.pth")
    with pytest.raises(WeightsError, match="Cannot read"):
        sniff(tmp_path)


# ---- what is no dense tensor of plain numbers, and what would take all time or memory --------------------------------


@pytest.mark.filterwarnings("ignore:Validating sparse tensor")  # torch does it before the tensor is refused
@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda: torch.zeros(3).to(torch.float8_e4m3fn), "float8_e4m3fn"),
        (lambda: torch.zeros(3, dtype=torch.complex64), "complex64"),
        (lambda: torch.empty(2**30, 2**10, device="meta"), "without values of its own"),
        (lambda: torch.zeros(1).expand(2**20, 2**20), r"shape \(1048576, 1048576\)"),
        (lambda: torch.eye(3).to_sparse(), "sparse"),
    ],
)
def test_tensors_of_other_kinds_are_named(tmp_path: Path, make: Callable[[], torch.Tensor], kind: str) -> None:
    torch.save({"model": {"a": make()}}, tmp_path / "odd.pth")
    with pytest.raises(WeightsError, match=rf"odd\.pth: entry 'a' is of type .*{kind}.*expected dense tensors"):
        read(tmp_path / "odd.pth")


@pytest.mark.parametrize("put", [b"r" + struct.pack("<I", 3_000_000), b"p3000000\n", b"p-1\n"])
def test_a_pickle_that_remembers_at_a_far_place(tmp_path: Path, put: bytes) -> None:
    """A list of all places before it would take the memory of the machine for a file of twenty bytes."""
    (tmp_path / "far.pkl").write_bytes(b"\x80\x02}" + put + b".")
    with pytest.raises(WeightsError, match=r"far\.pkl.*(remembers an object at place|is damaged)"):
        read(tmp_path / "far.pkl")


@pytest.mark.parametrize("depth", [5000, 200_000])
def test_a_header_or_pickle_that_lies_deep_in_itself(tmp_path: Path, depth: int) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "deep.safetensors", metadata={KEY: "[" * depth + "]" * depth})
    with pytest.raises(WeightsError, match=r"deep\.safetensors"):
        read(tmp_path / "deep.safetensors")
    (tmp_path / "deep.pkl").write_bytes(b"\x80\x02})" + b"\x85" * depth + b"K\x01s.")  # tuples, as the key of a dict
    with pytest.raises(WeightsError, match=r"deep\.pkl"):
        read(tmp_path / "deep.pkl")


def test_dicts_that_hold_each_other_many_times(tmp_path: Path) -> None:
    """Sixty of them would be 2**60 once they are written out."""
    inner: dict[str, Any] = {}
    for _ in range(60):
        inner = {"a": inner, "b": inner}
    (tmp_path / "many.pkl").write_bytes(pickle.dumps({"model": inner}, 2))
    with pytest.raises(WeightsError, match="nested more than 4 deep"):
        read(tmp_path / "many.pkl")


def test_a_torch_file_that_grows_a_thousand_times(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}))
        archive.writestr("archive/data/0", bytes(10_000_000))
    with pytest.raises(WeightsError, match=r"bomb\.pth.*100 times as large as the file"):
        read(tmp_path / "bomb.pth")
