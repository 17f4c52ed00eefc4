"""Fetching from a local server that behaves, breaks off, lies, or is slow."""

import contextlib
import hashlib
import io
import random
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from maskwright import web
from maskwright.errors import DownloadError, ImageError, WeightsError
from maskwright.media import read_image
from maskwright.weights import fetch as module
from maskwright.weights.fetch import Digest, cache_folder, cache_path, fetch, record_of
from maskwright.weights.files import read

BODY = random.Random(0).randbytes(700_001)
SHA = "sha256:" + hashlib.sha256(BODY).hexdigest()
MD5 = "md5:" + hashlib.md5(BODY, usedforsecurity=False).hexdigest()


class Publisher(ThreadingHTTPServer):
    """Answers each request as the next word of `script` says; keeps what was asked."""

    daemon_threads = True
    script: list[str]
    asked: list[dict[str, str]]


class Handler(BaseHTTPRequestHandler):
    server: Publisher
    body = BODY

    def log_message(self, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        script = self.server.script
        self.server.asked.append(dict(self.headers))
        step = script.pop(0) if script else "ok"
        if step.isdigit():
            self.send_error(int(step))
        elif step == "moved":
            self.send_response(302)
            self.send_header("Location", "/elsewhere/weights.pth")
            self.end_headers()
        elif step.startswith("hub "):
            self.send_response(302)
            self.send_header("Location", "/elsewhere/weights.pth")
            self.send_header("X-Linked-ETag", step.removeprefix("hub "))
            self.end_headers()
        elif step == "ftp":
            self.send_response(302)
            self.send_header("Location", "ftp://127.0.0.1/weights.pth")
            self.end_headers()
        elif step in ("endless", "drip"):
            self.send_response(200)
            self.end_headers()
            end = time.monotonic() + 5  # a reader without a limit fails the test and does not hang it
            with contextlib.suppress(OSError):
                while time.monotonic() < end:
                    self.wfile.write(b"x" if step == "drip" else bytes(1 << 16))
                    time.sleep(0.01 if step == "drip" else 0)
        elif step == "drip-head":
            self.wfile.write(b"HTTP/1.0 200 OK\r\nX-Long: ")
            with contextlib.suppress(OSError):
                for _ in range(300):
                    self.wfile.write(b"x")
                    time.sleep(0.01)
                self.wfile.write(b"\r\nContent-Length: 0\r\n\r\n")
        elif step == "mute":
            time.sleep(1.0)
        else:
            self.answer(step)

    def answer(self, step: str) -> None:
        start, status = 0, 200
        asked = self.headers.get("Range")
        if asked and step != "no-range":
            start, status = int(asked.removeprefix("bytes=").rstrip("-")), 206
        start += 5 if step == "wrong-part" else 0
        body = b"<html>sorry</html>" if step == "page" else self.body[start:]
        self.send_response(status)
        if step != "no-length":
            self.send_header("Content-Length", str(len(body)))
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{len(self.body) - 1}/{len(self.body)}")
        if step != "no-tag":
            self.send_header("ETag", '"one"')
        self.end_headers()
        pieces = [body[i : i + 50_000] for i in range(0, len(body), 50_000)]
        sent = pieces[: len(pieces) // 2] if step in ("cut", "no-tag", "cut-slow") else pieces
        for piece in sent:
            try:
                self.wfile.write(piece)
            except ConnectionError:  # the client left, as some tests want
                return
            if "slow" in step:
                time.sleep(0.02)


@pytest.fixture
def publisher(monkeypatch: pytest.MonkeyPatch) -> Iterator[Publisher]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(module, "time", SimpleNamespace(sleep=lambda seconds: time.sleep(min(seconds, 0.02))))
    server = Publisher(("127.0.0.1", 0), Handler)
    server.script, server.asked = [], []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def url(server: Publisher, path: str = "models/weights.pth") -> str:
    return f"http://127.0.0.1:{server.server_port}/{path}"


def left_over(cache: Path) -> list[str]:
    return [p.name for p in cache.rglob("*") if p.is_file() and not p.name.endswith(".lock")]


@pytest.mark.parametrize("digest", [SHA, SHA[:15], SHA.removeprefix("sha256:").upper(), MD5, MD5[:10], None])
def test_a_file_is_fetched_once_and_then_comes_from_the_cache(publisher, tmp_path: Path, digest: str | None) -> None:
    seen: list[tuple[int, int | None]] = []
    path = fetch(url(publisher), digest, cache=tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert path.read_bytes() == BODY
    assert path.name == "weights.pth"
    assert seen[-1] == (len(BODY), len(BODY))
    assert [d for d, _ in seen] == sorted(d for d, _ in seen)
    assert fetch(url(publisher), digest, cache=tmp_path) == path
    assert len(publisher.asked) == 1
    assert sorted(left_over(tmp_path)) == (["weights.pth"] if digest else ["weights.pth", "weights.pth.sha256"])


def test_a_broken_connection_is_resumed(publisher, tmp_path: Path) -> None:
    publisher.script = ["cut-slow", "cut", "503", "slow"]
    path = fetch(url(publisher), SHA, cache=tmp_path, progress=False)
    assert path.read_bytes() == BODY
    starts = [int(a.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-")) for a in publisher.asked]
    assert starts[0] == 0
    assert 0 < starts[1] < starts[2] == starts[3]
    assert publisher.asked[1]["If-Range"] == '"one"'


@pytest.mark.parametrize("second", ["no-range", "416", "wrong-part"])
def test_a_server_that_cannot_resume_is_asked_for_the_whole_file(publisher, tmp_path: Path, second: str) -> None:
    publisher.script = ["cut", second]
    assert fetch(url(publisher), SHA, cache=tmp_path, progress=False).read_bytes() == BODY


def test_without_hash_and_etag_downloads_are_not_resumed(publisher, tmp_path: Path) -> None:
    publisher.script = ["no-tag", "no-tag", "ok"]
    assert fetch(url(publisher), None, cache=tmp_path, progress=False).read_bytes() == BODY
    assert not any("Range" in a for a in publisher.asked)


def test_a_connection_that_keeps_breaking_is_an_error_and_leaves_nothing(publisher, tmp_path: Path) -> None:
    publisher.script = ["cut"] * 3
    with pytest.raises(DownloadError) as caught:
        fetch(url(publisher), SHA, cache=tmp_path, progress=False, attempts=3)
    message = str(caught.value)
    assert url(publisher) in message
    assert f"expected {len(BODY)} bytes, got" in message
    assert "Tried 3 times" in message
    assert left_over(tmp_path) == []
    assert isinstance(caught.value, WeightsError)
    assert fetch(url(publisher), SHA, cache=tmp_path, progress=False).read_bytes() == BODY  # and it can be tried again


@pytest.mark.parametrize(("step", "hint"), [("ok", "700001 bytes"), ("page", "a web page"), ("no-length", "700001")])
def test_a_wrong_hash_is_an_error_and_leaves_nothing(publisher, tmp_path: Path, step: str, hint: str) -> None:
    publisher.script = [step]
    with pytest.raises(DownloadError, match="sha256 should begin with 12345678") as caught:
        fetch(url(publisher), "sha256:12345678", cache=tmp_path, progress=False)
    if step == "ok":
        assert SHA[7:23] in str(caught.value)
    assert hint in str(caught.value)
    assert url(publisher) in str(caught.value)
    assert left_over(tmp_path) == []


@pytest.mark.parametrize(("code", "requests"), [("404", 1), ("403", 1), ("500", 2), ("429", 2)])
def test_http_errors_name_address_and_code(publisher, tmp_path: Path, code: str, requests: int) -> None:
    publisher.script = [code] * 5
    with pytest.raises(DownloadError, match=rf"{url(publisher)}.*{code}"):
        fetch(url(publisher), SHA, cache=tmp_path, progress=False, attempts=2)
    assert len(publisher.asked) == requests
    assert left_over(tmp_path) == []


def test_redirects_are_followed(publisher, tmp_path: Path) -> None:
    publisher.script = ["moved", "ok"]
    assert fetch(url(publisher), SHA, cache=tmp_path, progress=False).read_bytes() == BODY


# ---- where the publisher gives no hash ------------------------------------------------------------------------------


def test_the_hash_of_a_file_without_a_published_one_is_recorded(publisher, tmp_path: Path) -> None:
    path = fetch(url(publisher), None, cache=tmp_path, progress=False)
    record = record_of(path)
    assert record.read_text() == f"{SHA.removeprefix('sha256:')}  weights.pth\n"
    path.unlink()
    assert fetch(url(publisher), None, cache=tmp_path, progress=False).read_bytes() == BODY  # as before
    path.unlink()
    publisher.script = ["page"]
    with pytest.raises(DownloadError, match=r"not the file that it was before.*delete .*weights\.pth\.sha256"):
        fetch(url(publisher), None, cache=tmp_path, progress=False)
    assert left_over(tmp_path) == ["weights.pth.sha256"]
    record.unlink()
    publisher.script = ["page"]
    assert fetch(url(publisher), None, cache=tmp_path, progress=False).read_bytes() == b"<html>sorry</html>"


def test_a_file_without_a_published_hash_must_pass_the_check(publisher, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"was fetched, but cannot be used.*: weights\.pth \(\d+ bytes\) is not"):
        fetch(url(publisher), None, cache=tmp_path, progress=False, check=read)
    assert left_over(tmp_path) == []
    publisher.script = ["page"]
    with pytest.raises(DownloadError, match="it looks like a web page"):
        fetch(url(publisher), None, cache=tmp_path, progress=False, check=read)
    assert (
        fetch(url(publisher), SHA, cache=tmp_path, progress=False, check=read).read_bytes() == BODY
    )  # hash goes first


def test_an_incomplete_file_without_length_and_hash_fails_the_check(publisher, tmp_path: Path, monkeypatch) -> None:
    stream = io.BytesIO()
    torch.save({"w": torch.zeros(60_000)}, stream)
    monkeypatch.setattr(Handler, "body", stream.getvalue()[:-9_000])
    publisher.script = ["no-length"]
    with pytest.raises(DownloadError, match=r"weights\.pth"):
        fetch(url(publisher), None, cache=tmp_path, progress=False, check=read)
    assert left_over(tmp_path) == []
    monkeypatch.setattr(Handler, "body", stream.getvalue())
    publisher.script = ["no-length"]
    assert set(read(fetch(url(publisher), None, cache=tmp_path, progress=False, check=read)).tensors) == {"w"}


def test_the_hash_that_a_hub_announces_is_compared(publisher, tmp_path: Path) -> None:
    publisher.script = [f'hub "{SHA.removeprefix("sha256:")}"', "cut"]
    publisher.script += [publisher.script[0], "ok"]
    path = fetch(url(publisher), None, cache=tmp_path, progress=False)
    assert path.read_bytes() == BODY
    path.unlink()
    record_of(path).unlink()
    publisher.script = [f'hub "{"0" * 64}"']
    with pytest.raises(DownloadError, match=r"not the file that its server announced: sha256 should be 0{64}"):
        fetch(url(publisher), None, cache=tmp_path, progress=False)
    assert left_over(tmp_path) == []
    publisher.script = ['hub "not a hash"']
    assert fetch(url(publisher), None, cache=tmp_path, progress=False).read_bytes() == BODY


def test_a_server_that_does_not_answer_is_an_error(publisher, tmp_path: Path) -> None:
    publisher.script = ["mute", "mute"]
    with pytest.raises(DownloadError, match="timed out"):
        fetch(url(publisher), SHA, cache=tmp_path, progress=False, timeout=0.1, attempts=2)


def test_a_refused_connection_is_an_error(publisher, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="refused"):
        fetch("http://127.0.0.1:9/a.pth", SHA, cache=tmp_path, progress=False, attempts=2)
    assert left_over(tmp_path) == []


def test_concurrent_calls_download_once(publisher, tmp_path: Path) -> None:
    publisher.script = ["slow"]
    results: list[bytes] = []
    threads = [
        threading.Thread(
            target=lambda: results.append(fetch(url(publisher), SHA, cache=tmp_path, progress=False).read_bytes())
        )
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [BODY] * 4
    assert len(publisher.asked) == 1


def test_a_cache_that_cannot_be_written(publisher, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DownloadError, match="MASKWRIGHT_CACHE"):
        fetch(url(publisher), SHA, cache=tmp_path / "file", progress=False)
    assert publisher.asked == []


def test_too_little_space_is_an_error_before_the_download(
    publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(DownloadError, match=r"0\.7 MB.*0\.0 MB free"):
        fetch(url(publisher), SHA, cache=tmp_path, progress=False)
    assert left_over(tmp_path) == []


def test_a_disk_that_fills_up_is_not_blamed_on_the_connection(publisher, tmp_path: Path, monkeypatch) -> None:
    real = Path.open

    def full(self: Path, *args: Any, **options: Any) -> Any:
        return real(Path("/dev/full") if self.name.endswith(".part") else self, *args, **options)

    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(DownloadError, match=r"Cannot write into the cache folder.*No space left"):
        fetch(url(publisher), SHA, cache=tmp_path, progress=False)
    assert len(publisher.asked) == 1


def test_a_body_without_an_end_stops_at_the_largest_size(publisher, tmp_path: Path) -> None:
    publisher.script = ["endless"]
    with pytest.raises(DownloadError, match=r"at most 1\.0 MB, the server sends more"):
        fetch(url(publisher), SHA, cache=tmp_path, progress=False, most=1_000_000)
    with pytest.raises(DownloadError, match=r"at most 0\.5 MB, the server sends more"):  # it says its length
        fetch(url(publisher), SHA, cache=tmp_path, progress=False, most=500_000)
    assert left_over(tmp_path) == []
    assert len(publisher.asked) == 2


def test_a_body_that_drips_is_an_error(publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "WINDOW", 0.1)
    publisher.script = ["drip", "drip"]
    with pytest.raises(DownloadError, match=r"bytes in .* s, expected at least 1000 a second"):
        fetch(url(publisher), SHA, cache=tmp_path, progress=False, attempts=2)
    publisher.script = ["drip"]
    with pytest.raises(ImageError, match=r"bytes in .* s, expected at least 1000 a second"):
        read_image(url(publisher))


def test_a_head_that_drips_is_an_error(publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte comes in time, all of them do not."""
    monkeypatch.setattr(web, "ANSWER", 0.3)
    publisher.script = ["drip-head", "drip-head"]
    with pytest.raises(DownloadError, match=r"the head of the answer did not come in 0\.3 s"):
        fetch(url(publisher), SHA, cache=tmp_path, progress=False, attempts=2)
    publisher.script = ["drip-head"]
    start = time.monotonic()
    with pytest.raises(ImageError, match=r"the head of the answer did not come in 0\.3 s"):
        read_image(url(publisher))
    assert time.monotonic() - start < 2.5  # the server ends it after 3
    assert threading.active_count() < 20


def test_redirects_lead_to_http_and_https_alone(publisher, tmp_path: Path) -> None:
    publisher.script = ["ftp", "ftp"]
    with pytest.raises(DownloadError, match=r"redirects to 'ftp://127.*neither http nor https"):
        fetch(url(publisher), SHA, cache=tmp_path, progress=False)
    with pytest.raises(ImageError, match=r"redirects to 'ftp://127.*neither http nor https"):
        read_image(url(publisher))
    assert len(publisher.asked) == 2


def test_progress_goes_to_stderr_alone(publisher, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    fetch(url(publisher), SHA, cache=tmp_path)
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "weights.pth" in captured.err


def test_cache_places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MASKWRIGHT_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.delenv("MASKWRIGHT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "maskwright"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "maskwright"
    root = tmp_path / "c"
    assert cache_path("https://a.example/x/../../y/w.pth", root) == root / "a.example" / "x" / "y" / "w.pth"
    one, two = (cache_path(f"https://user:pw@a.example/w.pth?version={v}", root) for v in (1, 2))
    assert one != two
    assert one.parent == root / "a.example"


@pytest.mark.parametrize("bad", ["file:///etc/passwd", "ftp://a/b", "https://", "https://host", "model.pth"])
def test_invalid_addresses_are_refused(bad: str, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="expected an address"):
        fetch(bad, SHA, cache=tmp_path)


@pytest.mark.parametrize("bad", ["", "sha256:", "sha256:12", "crc:12345678", "xyzxyzxyz"])
def test_invalid_hashes_are_refused(bad: str) -> None:
    with pytest.raises(DownloadError, match="hexadecimal"):
        Digest.parse(bad)
