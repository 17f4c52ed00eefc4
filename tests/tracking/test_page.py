"""The page of a video says of every frame what was carried to it, from where, and how far it moved."""

import re
from pathlib import Path

import pytest
from tests.tracking.videos import predictor, video

from maskwright.predictor.options import FindOptions
from maskwright.predictor.track_options import TrackOptions
from maskwright.results.video import VideoResults
from maskwright.tracking import page
from maskwright.tracking.options import TrackRunOptions
from maskwright.tracking.track import track_videos

pytestmark = pytest.mark.usefixtures("one_thread")


def test_what_was_carried(tmp_path: Path) -> None:
    options = TrackRunOptions(("jsonl", "page"), FindOptions(score_threshold=0.0), TrackOptions(5, mode="fast"))
    track_videos(predictor(), [video(tmp_path / "v.mkv", 7)], tmp_path / "out", options)
    frames = list(VideoResults.open(tmp_path / "out" / "frames.jsonl"))
    assert [f.document.get("key_frame") for f in frames] == [2, 2, None, 2, 2, 6, None]
    assert [f.document.get("why") for f in frames if f.document["key"]] == ["first", "interval"]
    for f in frames:
        if not f.document["key"]:
            assert len(f.document["shifts"]) == len(f.rows)
            assert f.document["fit"].keys() == {"change", "travel", "misfit"}
    text = (tmp_path / "out" / "page.html").read_text()
    assert re.findall(r"<b>(Frame \d)</b> ([^<]*)", text) == [
        ("Frame 0", "from key frame 2, 2 frames later"),
        ("Frame 1", "from key frame 2, 1 frame later"),
        ("Frame 2", "key frame: the first frame, or that of a segment"),
        ("Frame 3", "from key frame 2, 1 frame earlier"),
        ("Frame 4", "from key frame 2, 2 frames earlier"),
        ("Frame 5", "from key frame 6, 1 frame later"),
        ("Frame 6", "key frame: the interval was over"),
    ]
    assert text.count("data:image/jpeg") == 7
    assert "0 to 4" in text  # the frames that the first key frame serves


def test_long_videos_have_some_images_and_other_modes_say_what_they_carry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "MOST_IMAGES", 3)
    monkeypatch.setattr(page, "MOST_ROWS", 5)
    options = TrackRunOptions(("page",), FindOptions(score_threshold=0.0), TrackOptions(3))
    track_videos(predictor(), [video(tmp_path / "v.mkv", 7)], tmp_path / "out", options)
    text = (tmp_path / "out" / "page.html").read_text()
    assert re.findall(r"<b>Frame (\d)</b>", text) == ["0", "3", "6"]
    assert "2 frames more have no row" in text
    assert "<dd>features</dd>" in text
