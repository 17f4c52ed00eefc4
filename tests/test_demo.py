"""The demo of videos: nuclei that are generated are followed, and what was found lies beside the video."""

from pathlib import Path

import numpy as np
import pytest

from maskwright import demo
from maskwright.data.synthetic.nuclei import moving_nuclei

pytestmark = pytest.mark.usefixtures("one_thread")


def test_generated_nuclei_are_bright_where_their_masks_are() -> None:
    frames = list(moving_nuclei(0, 3, 1.0, count=12, size=128))
    for image, masks in frames:
        inside = np.any(masks.dense(), axis=0)
        assert image[inside].mean() > 3 * image[~inside].mean()
        assert masks.dense().sum(axis=0).max() == 1
    assert not np.array_equal(frames[0][1].boxes(), frames[2][1].boxes())


def test_a_generated_video_is_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "FRAMES", 3)
    demo.main(["--track", "--out", str(tmp_path)])
    assert "tracks in 3 frames" in capsys.readouterr().out
    lines = (tmp_path / "tracks" / "tracks.csv").read_text().splitlines()
    ids = [line.split(",")[2] for line in lines[1:]]
    assert len(ids) > 30  # most of 24 nuclei in each of 3 frames
    assert len(set(ids)) < 30
    assert {p.name for p in (tmp_path / "tracks").iterdir()} == {"overlay.mp4", "tracks.csv", "page.html"}
