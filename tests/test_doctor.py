"""The report of an installation: what is in it, and that it is true of this one."""

import json
import re
from importlib import metadata

import pytest
import torch
from typer.testing import CliRunner

from maskwright import doctor
from maskwright.cli import app
from maskwright.errors import ConfigError
from maskwright.predictor.detector import device_and_type


def test_the_text_and_the_json_have_the_same_facts() -> None:
    text, form = (CliRunner().invoke(app, ["doctor", *words]) for words in ([], ["--json"]))
    assert (text.exit_code, form.exit_code) == (0, 0)
    facts = json.loads(form.stdout)
    assert list(facts) == ["maskwright", "packages", "extras", "device", "processor", "files", "environment"]
    for rows in facts.values():
        for name in rows:
            assert re.search(rf"^  {re.escape(name)} ", text.stdout, re.MULTILINE)
    assert facts["packages"]["torch"] == metadata.version("torch")
    assert facts["processor"]["threads of torch"] == torch.get_num_threads()
    assert facts["device"]["auto"] == ("cuda" if torch.cuda.is_available() else "cpu")


def test_a_missing_extra_has_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [
        "torch>=2",
        "numpy>=99 ; python_version > '3'",
        "absent-one>=1; extra == 'demo'",
        'typer ; extra == "more"',
    ]
    monkeypatch.setattr(metadata, "requires", lambda name: texts)
    facts = doctor.examine()
    assert facts["extras"]["demo"] == "missing: pip install 'maskwright[demo]'"
    assert facts["extras"]["more"] == f"typer {metadata.version('typer')}"
    assert set(facts["packages"]) == {"torch", "numpy"}
    monkeypatch.setattr(doctor, "_version", lambda name: None)
    assert doctor.examine()["packages"]["torch"] == "MISSING, needs >=2"


def test_the_source_alone_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def requires(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", requires)
    assert "run from its source" in doctor.examine()["packages"]["note"]


def test_a_cache_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setenv("MASKWRIGHT_CACHE", str(tmp_path / "a" / "b"))
    files = doctor.examine()["files"]
    assert files["cache"] == f"{tmp_path / 'a' / 'b'}, not made yet"
    assert not (tmp_path / "a").exists()
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "weights").write_bytes(b"x" * 3_000_000)
    assert doctor.examine()["files"]["cache"] == f"{tmp_path / 'a' / 'b'}, 3 MB in 1 files"


def test_auto_takes_a_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_and_type("auto", "float32")[0] == torch.device("cpu")
    monkeypatch.setattr("maskwright.predictor.detector.auto_device", lambda: "meta")
    assert device_and_type("auto", "float32")[0] == torch.device("meta")
    monkeypatch.setattr("maskwright.predictor.detector.auto_device", lambda: "nowhere")
    with pytest.raises(ConfigError, match="'nowhere' cannot be used"):
        device_and_type("auto", "float32")
