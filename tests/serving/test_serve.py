"""The command: what it needs, how requests call the models, and how it stops."""

import io
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from maskwright.cli import app
from maskwright.errors import ConfigError, MissingExtraError
from maskwright.serving import serve as module
from maskwright.serving.serve import request_names, require_packages


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "python_multipart", None)
    with pytest.raises(MissingExtraError, match=re.escape("pip install 'maskwright[serve]'")):
        require_packages()
    told = CliRunner().invoke(app, ["serve"])
    assert told.exit_code == 2
    assert "'python-multipart'" in told.stderr


def test_names_of_models(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "best.safetensors").touch()
    first, second = (str(tmp_path / folder / "best.safetensors") for folder in ("a", "b"))
    assert request_names(["nuclei", first]) == {"nuclei": "nuclei", "best": first}
    with pytest.raises(ConfigError, match="Rename one"):
        request_names([first, second])


def test_an_address_that_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    with module.socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        monkeypatch.setattr("maskwright.predictor.load.load", lambda *_, **__: None)
        told = CliRunner().invoke(app, ["serve", "--port", port])
        assert told.exit_code == 2
        assert f"127.0.0.1:{port} cannot be used" in told.stderr


@pytest.fixture
def process() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A real server of the model in the package, and its address."""
    command = [sys.executable, "-m", "maskwright", "serve", "--port", "0", "--device", "cpu"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
        try:
            assert running.stderr is not None
            line = running.stderr.readline()
            address = re.search(r"serving nuclei on (http://127\.0\.0\.1:\d+)", line)
            assert address is not None, line + running.stderr.read()
            yield running, address[1]
        finally:
            running.kill()


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_sigterm_ends_it_when_what_was_taken_is_answered(process: tuple[subprocess.Popen[str], str]) -> None:
    running, address = process
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (700, 700, 3), np.uint8)).save(stream, "PNG")
    answers: list[Any] = []

    def ask() -> None:
        answers.append(httpx.post(f"{address}/predict", content=stream.getvalue(), timeout=120, trust_env=False))

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    with httpx.Client(base_url=address, trust_env=False) as client:
        until = time.monotonic() + 60
        while "queue_length 2.0" not in client.get("/metrics").text and time.monotonic() < until:
            time.sleep(0.005)
    running.send_signal(signal.SIGTERM)
    for thread in threads:
        thread.join()
    assert [answer.status_code for answer in answers] == [200, 200]
    assert all(answer.json()["model"] == "nuclei" for answer in answers)
    assert running.wait(30) == 0
    assert running.stderr is not None
    assert running.stderr.read() == ""
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{address}/health", trust_env=False)


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize(("number", "code", "text"), [(signal.SIGTERM, 0, ""), (signal.SIGINT, 130, "stopped\n")])
def test_it_stops_also_before_it_has_begun(
    process: tuple[subprocess.Popen[str], str], number: signal.Signals, code: int, text: str
) -> None:
    running, _ = process
    running.send_signal(number)  # as soon as the address is told
    assert running.wait(30) == code
    assert running.stderr is not None
    assert running.stderr.read() == text
