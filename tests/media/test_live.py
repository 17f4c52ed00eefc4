"""Streams that do not wait, and pipes: from a sender in a thread of this process."""

import io
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import av
import numpy as np
import pytest
from tests.media.test_odd_videos import encoded

from maskwright.errors import ConfigError, ImageError
from maskwright.media.live import Stream, is_stream
from maskwright.media.video import write_video
from maskwright.tracking.pipeline import Latest
from maskwright.types import Intensity


def recorded(place: Path, count: int) -> bytes:
    """MPEG-TS of frames whose grey value counts."""
    with write_video(place / "v.mkv", 25, options={"bf": "0", "g": "5", "tune": "zerolatency"}) as writer:
        for i in range(count):
            writer.write(np.full((48, 64, 3), 4 * i, np.uint8))
    out = io.BytesIO()
    with av.open(str(place / "v.mkv")) as source, av.open(out, "w", format="mpegts") as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                container.mux(packet)
    return out.getvalue()


@contextmanager
def sender(content: bytes, pause: float = 0.0, hold: float = 0.0) -> Iterator[str]:
    """The address of a server that sends this to the first who asks, in pieces, and then closes or holds still."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:

        def send() -> None:
            try:
                link, _ = server.accept()
                with link:
                    for i in range(0, len(content), 1316):
                        link.sendall(content[i : i + 1316])
                        time.sleep(pause)
                    time.sleep(hold)
            except OSError:
                return  # the reader has gone

        thread = threading.Thread(target=send, daemon=True)
        thread.start()
        yield f"tcp://127.0.0.1:{server.getsockname()[1]}"
    thread.join()


def test_what_is_a_stream() -> None:
    for name in ("camera:0", "/dev/video1", "rtsp://host/a", "udp://@:1234", "HTTP://host/a.m3u8", "-"):
        assert is_stream(name)
    for name in ("camera.mp4", "/dev/videos/a.mp4", "a/b.mp4", "file.txt", "rtsp", "camera:front"):
        assert not is_stream(name)


def test_every_frame_of_a_stream_can_be_read(tmp_path: Path) -> None:
    with sender(recorded(tmp_path, 40)) as address:
        stream = Stream(address)
        assert stream.live
        assert stream.frames is None
        found = list(stream)
    assert [f.index for f in found] == list(range(40))
    assert [f.image.mean() for f in found] == pytest.approx([4 * i for i in range(40)], abs=3)
    assert [f.time for f in found] == pytest.approx([i / 25 for i in range(40)], abs=1e-3)
    with pytest.raises(ImageError, match="read once"):
        list(stream)


def test_a_slow_reader_gets_the_newest_frames(tmp_path: Path) -> None:
    with sender(recorded(tmp_path, 60), pause=0.004) as address:
        latest = Latest(Stream(address).decode())
        indices = []
        for decoded in latest:
            indices.append(decoded.index)
            time.sleep(0.05)
    assert indices == sorted(set(indices))
    assert len(indices) < 60
    assert len(indices) + latest.dropped == 60
    assert indices[-1] == 59


def test_a_stream_that_gives_nothing_more_ends(tmp_path: Path) -> None:
    with sender(recorded(tmp_path, 40), hold=3) as address:
        stream = Stream(address, patience=0.5)
        begun = time.monotonic()
        found = list(stream)
        assert time.monotonic() - begun < 2.5
    assert len(found) >= 39  # the last may wait for the next packet
    assert [f.time for f in found] == pytest.approx([i / 25 for i in range(len(found))], abs=1e-3)
    assert stream.broken
    assert any("broke off" in remark for remark in stream.remarks())


def test_what_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
    with pytest.raises(ImageError, match=rf"tcp://127.0.0.1:{port}: cannot be opened as a video"):
        Stream(f"tcp://user:secret@127.0.0.1:{port}", patience=1)
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(ConfigError, match="cameras are read on Linux alone"):
        Stream("camera:0")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="cameras are read on Linux")
def test_a_camera_that_is_not_there() -> None:
    with pytest.raises(ImageError, match=r"camera:97: cannot be opened as a video"):
        Stream("camera:97")


def test_a_pipe_is_read_frame_by_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = io.BytesIO(recorded(tmp_path, 12))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(pipe))
    stream = Stream("-")
    assert not stream.live
    assert [f.index for f in stream] == list(range(12))


def test_a_stream_has_no_percentiles_of_the_whole_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where its frames have more than 8 bits."""
    grey = [np.full((48, 64), 30000 + 50 * k, np.uint16) for k in range(3)]
    deep = encoded(tmp_path / "v.mkv", grey, "ffv1", "gray16le", "gray16le").read_bytes()
    for content, rule in (
        (deep, "percentiles:video"),
        (deep, "values:30000..30100"),
        (recorded(tmp_path, 12), "percentiles:video"),
    ):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        stream = Stream("-", intensity=Intensity.parse(rule))
        if content is deep and rule == "percentiles:video":
            with pytest.raises(ConfigError, match="a stream gives them once"):
                list(stream)
        elif content is deep:
            assert [f.image.mean() for f in stream] == pytest.approx([0, 127.5, 255], abs=1)
        else:
            assert len(list(stream)) == 12
