"""Videos that are not as they should be: read right, or counted and told."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from maskwright.errors import ConfigError, ImageError
from maskwright.media.intensity import Readings
from maskwright.media.video import Clock, Moment, Span, Video, join_videos, write_video
from maskwright.types import Intensity


def encoded(
    path: Path,
    images: list[np.ndarray],
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    source: str = "rgb24",
    times: list[float] | None = None,
    turn: int = 0,
    options: dict[str, str] | None = None,
) -> Path:
    """A video of these arrays. times: of its frames, seconds."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10, options=options or {})
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = pix_fmt
        if turn:
            stream.set_display_rotation(turn)
        stream.codec_context.time_base = Fraction(1, 1000)
        for i, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format=source)
            frame.pts, frame.time_base = round(1000 * (i / 10 if times is None else times[i])), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def marked(count: int = 5, size: tuple[int, int] = (48, 64)) -> list[np.ndarray]:
    """Grey, with a white square in the upper left corner."""
    out = np.full((count, *size, 3), 60, np.uint8)
    out[:, :16, :16] = 250
    return list(out)


@pytest.mark.parametrize("turn", [90, -90, 180, 0])
def test_turned_videos_are_upright(tmp_path: Path, turn: int) -> None:
    """The marked corner goes where a viewer shows it."""
    video = Video(encoded(tmp_path / "v.mp4", marked(), turn=turn))
    image = next(iter(video)).image
    assert image.shape[:2] == ((64, 48) if turn in (90, -90) else (48, 64)) == video.size
    bright = np.argwhere(image.mean(axis=2) > 150).mean(axis=0) / image.shape[:2]
    assert video.remarks() == []
    stored = np.array([0.16, 0.12])
    wanted = {0: stored, 180: 1 - stored, 90: [1 - 0.12, 0.16], -90: [0.12, 1 - 0.16]}[turn]
    assert bright == pytest.approx(wanted, abs=0.03)


@pytest.mark.parametrize(
    ("codec", "pix_fmt"),
    [("libx265", "yuv420p10le"), ("ffv1", "gray"), ("ffv1", "gray16le"), ("ffv1", "yuv444p"), ("mpeg4", "yuv420p")],
)
def test_depth_and_colour(tmp_path: Path, codec: str, pix_fmt: str) -> None:
    options = {"x265-params": "log-level=none"} if codec == "libx265" else {}
    video = Video(encoded(tmp_path / "v.mkv", marked(), codec, pix_fmt, options=options))
    for frame in video:
        assert frame.image.dtype == np.uint8
        assert frame.image[40, 40].tolist() == pytest.approx([60] * 3, abs=6)
        assert frame.image[5, 5].tolist() == pytest.approx([250] * 3, abs=8)


def raw_frames(top: int = 36863) -> list[np.ndarray]:
    """Grey of 16 bits as of a microscope: values in a small part of the range, brighter from frame to frame."""
    ramp = np.linspace(32978, top - 300, 64).astype(np.uint16)
    return [np.repeat(ramp[None], 48, axis=0) + np.uint16(100 * k) for k in range(4)]


@pytest.mark.parametrize(
    ("rule", "ends"),
    [
        ("full", [(128, 142)] * 4),
        ("values:32768..36863", [(13, 236), (19, 243), (26, 249), (32, 255)]),
        ("percentiles:0..100", [(0, 255)] * 4),
        ("percentiles:0..100:video", [(0, 235), (7, 242), (13, 248), (20, 255)]),
    ],
)
def test_all_bits_of_a_video_are_read_by_the_intensity(tmp_path: Path, rule: str, ends: list[tuple[int, int]]) -> None:
    """As images of 16 bits are, and with the same words."""
    path, told = encoded(tmp_path / "v.mkv", raw_frames(), "ffv1", "gray16le", "gray16le"), Readings()
    video = Video(path, Intensity.parse(rule), told)
    found = [(int(f.image.min()), int(f.image.max())) for f in video]
    assert np.abs(np.array(found) - ends).max() <= 1
    first, *rest = told.notes(Intensity.parse(rule))
    assert first.startswith("4 images with more than 8 bits (uint16")
    assert ("4 images with values in less than a quarter of it" in first) == (rule == "full")
    assert not rest


@pytest.mark.parametrize(
    ("pix_fmt", "codec", "source"), [("gray10le", "ffv1", "gray10le"), ("yuv420p10le", "libx265", "gray10le")]
)
def test_values_of_10_bits_are_those_of_their_own_range(tmp_path: Path, pix_fmt: str, codec: str, source: str) -> None:
    ramp = [np.repeat(np.linspace(0, 1023, 64).astype(np.uint16)[None], 48, axis=0)] * 2
    options = {"x265-params": "log-level=none:lossless=1:bframes=0"} if codec == "libx265" else {}
    path = encoded(tmp_path / "v.mkv", ramp, codec, pix_fmt, source, options=options)
    for rule in ("full", "bits:10"):
        told = Readings()
        frame = next(Video(path, Intensity.parse(rule), told).read())
        assert np.abs(frame.image[5, :, 1].astype(float) - np.linspace(0, 255, 64)).max() <= 1.5
        assert "uint16 of 10 bits" in told.notes(Intensity.parse(rule))[0]


def test_colours_and_opacity_of_many_bits(tmp_path: Path) -> None:
    rgba = np.zeros((48, 64, 4), np.uint16)
    rgba[..., 0], rgba[..., 3] = 40000, 65535
    rgba[:, 32:, 3] = 32768
    video = Video(encoded(tmp_path / "v.mkv", [rgba] * 2, "ffv1", "gbrap16le", "rgba64le"))
    image = next(iter(video)).image
    assert image[20, 10].tolist() == [156, 0, 0]
    assert image[20, 50].tolist() == pytest.approx([205, 127, 127], abs=1)


def test_names_of_frames_take_no_memory(tmp_path: Path) -> None:
    told = Readings()
    list(Video(encoded(tmp_path / "v.mkv", raw_frames() * 3, "ffv1", "gray16le", "gray16le"), told=told))
    assert (told.flat.total, len(told.flat)) == (12, 3)


def test_transparent_frames_lie_over_white(tmp_path: Path) -> None:
    rgba = np.zeros((48, 64, 4), np.uint8)
    rgba[:, :32] = (200, 0, 0, 255)
    rgba[:, 32:] = (200, 0, 0, 128)
    rgba[:8] = 0
    video = Video(encoded(tmp_path / "v.mov", [rgba] * 2, "qtrle", "argb", "rgba"))
    image = next(iter(video)).image
    assert image[20, 10].tolist() == [200, 0, 0]
    assert image[20, 50].tolist() == pytest.approx([227, 127, 127], abs=1)
    assert image[2, 10].tolist() == [255, 255, 255]


def test_times_of_a_variable_frame_rate(tmp_path: Path) -> None:
    times = [0, 0.1, 0.15, 0.5, 20.5]
    video = Video(encoded(tmp_path / "v.mkv", marked(), times=times))
    assert [f.time for f in video] == pytest.approx(times, abs=2e-3)
    assert video.remarks() == ["1 gap of 10 seconds or more between two frames"]


def test_times_that_are_missing_or_go_back() -> None:
    clock = Clock(10.0)
    given = [5.0, 5.1, None, 5.3, 2.0, 2.1, 2.1, 40.0]
    assert [clock.at(t) for t in given] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 38.5])
    assert (clock.wrong, clock.jumps) == (3, 1)
    unknown = Clock(None)
    assert [unknown.at(t) for t in (None, None, 3.0, 3.5)] == [None, None, 0.0, 0.5]


def test_a_change_of_the_frame_size_is_told(tmp_path: Path) -> None:
    """Two recordings of different size in one stream of H.264."""
    parts = [encoded(tmp_path / f"{k}.h264", marked(4, size)) for k, size in enumerate(((48, 64), (64, 80)))]
    (tmp_path / "v.h264").write_bytes(b"".join(p.read_bytes() for p in parts))
    video = Video(tmp_path / "v.h264")
    sizes = [f.image.shape[:2] for f in video]
    assert sizes == [(48, 64)] * 4 + [(64, 80)] * 4
    assert "1 change of the frame size" in video.remarks()


def test_damaged_parts_are_counted(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 255, (96, 128, 3)).astype(np.uint8) for _ in range(20)]
    content = bytearray(encoded(tmp_path / "v.mkv", noise, options={"bf": "0"}).read_bytes())
    for place in range(len(content) // 3, len(content) // 3 + 4000):
        content[place] = rng.integers(256)
    (tmp_path / "bad.mkv").write_bytes(bytes(content))
    video = Video(tmp_path / "bad.mkv")
    found = list(video)
    assert 5 < len(found) <= 20
    assert any("could not be decoded" in r or "damaged" in r for r in video.remarks())
    assert [f.index for f in found] == list(range(len(found)))


def sound(container: Any) -> None:
    stream = container.add_stream("aac", rate=44100)
    frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
    frame.sample_rate = 44100
    container.mux(stream.encode(frame))
    container.mux(stream.encode())


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "v.mp4"), "w") as container:
        sound(container)
    with pytest.raises(ImageError, match=r"v\.mp4: there is no video in this file"):
        Video(tmp_path / "v.mp4")


def test_of_several_streams_the_first_is_read_and_the_others_told(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "v.mkv"), "w") as container:
        streams = [container.add_stream("libx264", rate=10) for _ in range(2)]
        for k, stream in enumerate(streams):
            stream.height, stream.width, stream.pix_fmt = 48 + 16 * k, 64, "yuv420p"
        for k, stream in enumerate(streams):
            for image in marked(3, (48 + 16 * k, 64)):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode())
    video = Video(tmp_path / "v.mkv")
    assert [f.image.shape[:2] for f in video] == [(48, 64)] * 3
    assert video.remarks() == ["1 other video stream in the file"]


def test_interlaced_frames_are_told(tmp_path: Path) -> None:
    video = Video(encoded(tmp_path / "v.mkv", marked(), options={"x264-params": "interlaced=1"}))
    assert len(list(video)) == 5
    assert video.remarks() == ["5 interlaced frames: both fields are in one image"]


def test_a_video_without_a_length(tmp_path: Path) -> None:
    video = Video(encoded(tmp_path / "v.h264", marked()))
    assert video.frames is None
    assert len(list(video)) == 5


def test_pieces_become_one_video_with_their_times(tmp_path: Path) -> None:
    times = [0, 0.04, 0.08, 0.5, 0.6, 0.61, 3.0]
    for k, part in enumerate((times[:3], times[3:5], times[5:])):
        with write_video(tmp_path / f"{k}.mp4", 25, options={"bf": "0"}) as writer:
            for time in part:
                writer.write(np.full((48, 64, 3), times.index(time) * 30, np.uint8), time)
    join_videos(sorted(tmp_path.glob("?.mp4")), tmp_path / "whole.mp4")
    found = list(Video(tmp_path / "whole.mp4"))
    assert [f.time for f in found] == pytest.approx(times, abs=1e-4)
    assert [f.image.mean() for f in found] == pytest.approx([30 * k for k in range(7)], abs=3)


def test_places_in_a_video() -> None:
    assert Moment.of("250") == Moment(frames=250)
    assert Moment.of("12.5s") == Moment(seconds=12.5)
    assert Moment.of("1:30") == Moment(seconds=90)
    assert Moment.of("1:00:01.5") == Moment(seconds=3601.5)
    for wrong in ("", "soon", "-3", "1h", "1:3", "9" * 40):
        with pytest.raises(ConfigError, match="A place in a video"):
            Moment.of(wrong)
    assert Span(every=3, start=Moment(frames=4), end=Moment(frames=12)).count(10, None) == 2
    assert Span(start=Moment(seconds=1)).count(30, 10) == 20
    assert Span(start=Moment(seconds=1)).count(30, None) is None
    assert Span().count(None, 10) is None
