"""Videos are read frame by frame, upright and in order, and what is damaged is counted."""

from pathlib import Path

import numpy as np
import pytest

from maskwright.errors import ImageError
from maskwright.media.video import Video, write_video
from maskwright.types import ImageArray


def frames(count: int = 30, size: tuple[int, int] = (96, 128)) -> list[ImageArray]:
    """Noise, so that packets are large, with a bright bar that moves: its place is the number of the frame."""
    rng = np.random.default_rng(0)
    out = []
    for i in range(count):
        image = rng.integers(0, 120, (*size, 3)).astype(np.uint8)
        image[:, 4 * i : 4 * i + 4] = 255
        out.append(image)
    return out


def place(image: ImageArray) -> int:
    return int(image.astype(np.int64).sum(axis=(0, 2)).reshape(-1, 4).sum(axis=1).argmax())


def written(path: Path, images: list[ImageArray]) -> Path:
    with write_video(path, 12.5) as writer:
        for image in images:
            writer.write(image)
    return path


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.mov", "a.avi"])
def test_frames_come_back_in_order(tmp_path: Path, name: str) -> None:
    video = Video(written(tmp_path / name, frames()))
    assert video.size == (96, 128)
    assert video.rate == pytest.approx(12.5)
    for _ in range(2):  # an iteration begins anew
        found = list(video)
        assert [f.index for f in found] == [place(f.image) for f in found] == list(range(30))
        assert video.undecoded == 0
        times = [f.time for f in found]
        assert times == pytest.approx([i / 12.5 for i in range(30)], abs=1e-3)


def test_odd_sides_are_extended(tmp_path: Path) -> None:
    video = Video(written(tmp_path / "odd.mp4", frames(3, (97, 131))))
    assert video.size == (98, 132)


def test_a_video_that_is_cut_off_ends_there(tmp_path: Path) -> None:
    whole = written(tmp_path / "whole.mkv", frames()).read_bytes()
    (tmp_path / "cut.mkv").write_bytes(whole[: len(whole) * 2 // 3])
    video = Video(tmp_path / "cut.mkv")
    found = [place(f.image) for f in video]
    assert 5 < len(found) < 30
    assert found == sorted(found)


def test_what_is_no_video_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    whole = written(tmp_path / "whole.mp4", frames()).read_bytes()
    (tmp_path / "head.mp4").write_bytes(whole[:2000])
    for name, reason in (("text.mp4", "cannot be opened"), ("head.mp4", "cannot be opened"), ("none.mp4", "no such")):
        with pytest.raises(ImageError, match=rf"{name}: {reason}"):
            Video(tmp_path / name)


def test_writing_is_all_or_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with write_video(tmp_path / "video.mp4") as writer:
            writer.write(frames(1)[0])
            writer.write(np.zeros((10, 10, 3), np.uint8))

    with pytest.raises(ImageError, match=r"frames of one size; it began with \(96, 128\), got \(10, 10\)"):
        fail()
    with pytest.raises(ImageError, match=r"video\.xyz: a video is written as"), write_video(tmp_path / "video.xyz"):
        pass
    assert list(tmp_path.iterdir()) == []
