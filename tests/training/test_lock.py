"""One run at a time in a folder, from its start, whoever it is that comes second."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from maskwright.errors import ConfigError
from maskwright.training import lock
from maskwright.training.lock import LOCK, only_run

HOLDER = """
import sys, time
from pathlib import Path
from maskwright.training.lock import only_run
with only_run(Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(60)
"""


def test_a_second_run_in_the_folder_is_refused_and_names_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "PATIENCE", 0.0)
    folder = tmp_path / "run"
    with subprocess.Popen([sys.executable, "-c", HOLDER, folder], stdout=subprocess.PIPE) as first:
        assert first.stdout is not None
        first.stdout.readline()
        with (
            pytest.raises(ConfigError, match=f"run is in use: process {first.pid} on .* trains in it") as caught,
            only_run(folder),
        ):
            pass
        assert caught.value.options == ("out",)
        first.kill()
        first.wait()
    assert json.loads((folder / LOCK).read_text())["pid"] == first.pid  # what a killed run leaves locks nothing
    with only_run(folder):
        assert json.loads((folder / LOCK).read_text())["pid"] == os.getpid()


def test_nothing_is_left_of_a_run_that_wrote_nothing(tmp_path: Path) -> None:
    with only_run(tmp_path / "new"):
        assert (tmp_path / "new" / LOCK).exists()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "last.state").touch()
    with only_run(tmp_path / "kept"):
        pass
    assert [p.name for p in (tmp_path / "kept").iterdir()] == ["last.state"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"run: a run cannot write there"), only_run(tmp_path / "file" / "run"):
        pass
