"""`track_videos`: every frame once and in order, results that agree with each other, and runs that are resumed."""

import csv
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.media.test_live import recorded, sender
from tests.media.test_odd_videos import encoded
from tests.tracking.videos import images, predictor, video

from maskwright import media
from maskwright.data.formats.ctc import tracks
from maskwright.errors import ConfigError, DataError, ImageError
from maskwright.media.video import Video, write_video
from maskwright.models import rcnn
from maskwright.models.family import build
from maskwright.predictor.options import FindOptions
from maskwright.predictor.predictor import Predictor
from maskwright.predictor.timing import StageTimer
from maskwright.predictor.track_options import LinkOptions, TrackOptions
from maskwright.results.prediction import Prediction
from maskwright.results.video import VideoResults
from maskwright.tracking import challenge, job, track_rows
from maskwright.tracking.options import TrackRunOptions
from maskwright.tracking.outputs import KINDS
from maskwright.tracking.overlay import ENCODER
from maskwright.tracking.track import track_videos
from maskwright.types import Classes

pytestmark = pytest.mark.usefixtures("one_thread")

FIND = FindOptions(score_threshold=0.0, max_instances=6)
ALL = tuple(KINDS)


@pytest.fixture(scope="module")
def model() -> Predictor:
    return predictor()


@pytest.fixture(autouse=True)
def short_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "SEGMENT", 4)


def options(**changes: Any) -> TrackRunOptions:
    return TrackRunOptions(**{"find": FIND, "save": ALL, **changes})


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_frames_are_those_of_predictor_track(model: Predictor, tmp_path: Path) -> None:
    place = video(tmp_path / "v.mkv", 11)
    timer = StageTimer()
    seen = []
    result = track_videos(
        model, [place], tmp_path / "out", options(track=TrackOptions(4)), lambda *a: seen.append(a), timer
    )
    assert seen == [(i, 11) for i in range(1, 12)]
    results = VideoResults.open(tmp_path / "out" / "frames.jsonl")
    wanted = list(model.track(place, FIND, track=TrackOptions(4)))
    assert results.head["rate"] == pytest.approx(10)
    found = list(results)
    assert [f.frame for f in found] == list(range(11))
    assert [f.document["key"] for f in found] == [i % 4 == 0 for i in range(11)]
    assert [f.time for f in found] == pytest.approx([i / 10 for i in range(11)], abs=1e-3)
    for frame, want in zip(found, wanted, strict=True):
        same(frame.found, want)
    assert (result.done[0].frames, result.done[0].tracks) == (11, max(max(w.track_ids, default=0) for w in wanted))
    assert {"network", "link", "write", "overlay", "files", "wait for frames"} <= set(timer.totals)
    assert not (tmp_path / "out" / "unfinished").exists()


def same(a: Prediction, b: Prediction) -> None:
    for name in ("boxes", "scores", "labels", "track_ids", "masks"):
        assert np.array_equal(getattr(a, name), getattr(b, name)), name


def test_the_table_has_every_object_with_its_speed(model: Predictor, tmp_path: Path) -> None:
    track_videos(model, [video(tmp_path / "v.mkv")], tmp_path / "out", options(every=2))
    with open(tmp_path / "out" / "tracks.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    frames = list(VideoResults.open(tmp_path / "out" / "frames.jsonl"))
    assert [f.document["index"] for f in frames] == [0, 2, 4, 6, 8, 10]
    assert len(rows) == sum(len(f.rows) for f in frames)
    assert {r["class"] for r in rows} <= {"a", "'=b", "c"}  # a spreadsheet takes none for a formula
    last: dict[str, dict[str, str]] = {}
    moved = 0
    for row in rows:
        before = last.get(row["id"])
        assert (row["speed"] == "") == (before is None)
        if before is not None:
            way = np.hypot(*(float(row[k]) - float(before[k]) for k in ("centroid_x", "centroid_y")))
            apart = int(row["frame"]) - int(before["frame"])
            assert float(row["speed"]) == pytest.approx(way / apart, abs=2e-3)
            assert float(row["speed_per_second"]) == pytest.approx(10 * way / apart, rel=2e-2, abs=2e-2)
            moved += way > 0
        last[row["id"]] = row
    assert moved


def test_coco_results_have_the_track_of_each_object(model: Predictor, tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    for i, image in enumerate(images(3)):
        Image.fromarray(image).save(folder / f"{i:03}.png")
    track_videos(model, [folder], tmp_path / "out", options(save=["coco", "jsonl"]))
    rows = json.loads((tmp_path / "out" / "results.json").read_text())
    frames = list(VideoResults.open(tmp_path / "out" / "frames.jsonl"))
    assert [(r["image_id"], r["track_id"]) for r in rows] == [
        (f.frame + 1, r["track_id"]) for f in frames for r in f.rows
    ]
    assert {r["category_id"] for r in rows} <= {4, 7, 9}
    assert {Path(r["file_name"]).name for r in rows} == {"000.png", "001.png", "002.png"}


def test_the_overlay_keeps_the_times_of_the_source(model: Predictor, tmp_path: Path) -> None:
    times = [0, 0.1, 0.2, 0.7, 0.8, 2.0, 2.04, 2.08, 2.5, 3.0, 3.1]
    track_videos(model, [video(tmp_path / "v.mp4", times=times)], tmp_path / "out", options())
    found = list(Video(tmp_path / "out" / "overlay.mp4"))
    assert [f.time for f in found] == pytest.approx(times, abs=1e-4)
    found_ = [f.time for f in VideoResults.open(tmp_path / "out" / "frames.jsonl")]
    assert found_ == pytest.approx(times, abs=1e-4)


KILL = """
import os, signal, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from maskwright.predictor.track_options import TrackOptions
from maskwright.tracking import challenge, job, track_rows
from maskwright.tracking.track import track_videos
from tests.tracking.test_track import options
from maskwright.types import Classes
from tests.media.test_live import recorded, sender
from tests.tracking.videos import predictor
job.SEGMENT = 4
written = job._Writer.write
def write(self, tracked):  # in the thread behind the network, so that what is on the disk does not depend on timing
    written(self, tracked)
    if self.count == 10:
        os.kill(os.getpid(), signal.SIGKILL)
job._Writer.write = write
track_videos(predictor(), [sys.argv[1]], sys.argv[2], options(track=TrackOptions(3)))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_a_run_that_is_killed_is_resumed_to_equal_files(model: Predictor, tmp_path: Path) -> None:
    place, chosen = video(tmp_path / "v.mkv", 15), options(track=TrackOptions(3))
    track_videos(model, [place], tmp_path / "whole", chosen)
    run = subprocess.run(
        [sys.executable, "-c", KILL, str(place), str(tmp_path / "killed")], check=False, cwd=Path(__file__).parents[2]
    )
    assert run.returncode == -9
    work = tmp_path / "killed" / "unfinished"
    lines = (work / "frames.jsonl").read_text().splitlines()
    done = json.loads((work / "state.json").read_text())["frames"]
    assert (done, len(lines)) == (8, 1 + 10)
    with open(work / "frames.jsonl", "a") as file:  # the kill may leave a part of a line
        file.write('{"frame": 9, "ind')
    with pytest.raises(ConfigError, match=r"unfinished exists already.*finish an interrupted run"):
        track_videos(model, [place], tmp_path / "killed", chosen)
    with pytest.raises(ConfigError, match=r"begun with track .*'interval': 3.* not .*'interval': 5"):
        track_videos(model, [place], tmp_path / "killed", options(track=TrackOptions(5), resume=True))
    seen = []
    resumed = options(track=TrackOptions(3), resume=True)
    result = track_videos(model, [place], tmp_path / "killed", resumed, lambda *a: seen.append(a[0]))
    assert seen == list(range(done + 1, 16))
    assert result.done[0].frames == 15
    assert files(tmp_path / "killed") == files(tmp_path / "whole")
    again = track_videos(model, [place], tmp_path / "killed", resumed)
    assert again.done[0].notes == ["It was finished already."]


def test_the_encoder_of_overlays_gives_the_same_bytes_every_time(tmp_path: Path) -> None:
    """The other settings are x264's own, with which an order of threads that changes the bytes is frequent."""
    frames, coded = images(6, (72, 96)), set[bytes]()
    for _ in range(50):
        with write_video(tmp_path / "a.mp4", 10, options={"mbtree": ENCODER["mbtree"]}) as writer:
            for image in frames:
                writer.write(image)
        coded.add((tmp_path / "a.mp4").read_bytes())
    assert len(coded) == 1


def test_ctrl_c_leaves_a_file_to_be_resumed(model: Predictor, tmp_path: Path) -> None:
    place = video(tmp_path / "v.mkv", 11)

    def stop(count: int, total: int | None) -> None:
        if count == 3:  # before the first segment ends
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        track_videos(model, [place], tmp_path / "out", options(), stop)
    assert len((tmp_path / "out" / "unfinished" / "frames.jsonl").read_text().splitlines()) == 4
    track_videos(model, [place], tmp_path / "out", options(resume=True))
    track_videos(model, [place], tmp_path / "whole", options())
    assert files(tmp_path / "out") == files(tmp_path / "whole")


@pytest.mark.parametrize("when", ["files", "moved"])
def test_a_run_that_ends_while_files_are_made_is_resumed(
    model: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    place = video(tmp_path / "v.mkv", 6)
    track_videos(model, [place], tmp_path / "whole", options())

    def fail(*given: Any) -> None:
        raise OSError("no space")

    with monkeypatch.context() as patch:
        patch.setattr(job, "join_videos", fail) if when == "files" else patch.setattr(job.Work, "remove", fail)
        with pytest.raises(OSError, match="no space"):
            track_videos(model, [place], tmp_path / "out", options())
    seen: list[int] = []
    track_videos(model, [place], tmp_path / "out", options(resume=True), lambda *a: seen.append(a[0]))
    assert seen == []  # no frame is computed again
    assert files(tmp_path / "out") == files(tmp_path / "whole")


def test_several_videos_have_a_folder_each(model: Predictor, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    video(tmp_path / "in" / "a.mkv", 3)
    video(tmp_path / "in" / "b.mp4", 2)
    (tmp_path / "in" / "c.mp4").write_text("no video")
    result = track_videos(model, [tmp_path / "in"], tmp_path / "out", options(save=["csv"]))
    assert [(v.frames, v.out.name) for v in result.done] == [(3, "a"), (2, "b")]
    assert sorted(files(tmp_path / "out")) == ["a/tracks.csv", "b/tracks.csv"]
    assert not result.complete
    assert "c.mp4" in result.failed[0][0]
    assert "cannot be opened as a video" in result.summary()


def test_images_that_cannot_be_read_are_told_and_the_others_done(model: Predictor, tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    for i, image in enumerate(images(4)):
        Image.fromarray(image).save(folder / f"{i:03}.png")
    (folder / "001.png").write_bytes(b"no image")
    result = track_videos(model, [folder], tmp_path / "out", options(save=["jsonl"]))
    found = [(f.frame, f.document["index"]) for f in VideoResults.open(tmp_path / "out" / "frames.jsonl")]
    assert found == [(0, 0), (1, 2), (2, 3)]
    assert not result.complete
    assert any("001.png could not be read" in note for note in result.done[0].notes)


def test_frames_with_more_than_8_bits_are_read_with_all_of_them_and_told(model: Predictor, tmp_path: Path) -> None:
    deep = [30000 + 8 * image[..., 0].astype(np.uint16) for image in images(2)]
    path = encoded(tmp_path / "deep.mkv", deep, "ffv1", "gray16le", "gray16le")
    find = FindOptions(max_instances=5, intensity="values:30000..32040")
    done = track_videos(model, [path], tmp_path / "a", options(save=["jsonl"], find=find)).done[0]
    assert "2 images with more than 8 bits (uint16) became 0..255 by the values 30000 to 32040." in done.notes
    plain = [np.repeat((image[..., None] - 30000) // 8, 3, axis=2).astype(np.uint8) for image in deep]
    with pytest.warns(UserWarning, match="2 images with more than 8 bits"):
        found = list(model.track(path, find))
    for frame, expected in zip(found, model.track(plain, find), strict=True):
        same(frame, expected)
    written = VideoResults.open(tmp_path / "a" / "frames.jsonl")
    assert [frame.found.boxes.tolist() for frame in written] == [frame.boxes.tolist() for frame in found]


@pytest.mark.parametrize(
    ("chosen", "indices"),
    [
        ({"start": "3", "end": "7"}, [3, 4, 5, 6]),
        ({"start": "0.25s", "every": 3}, [3, 6, 9]),
        ({"end": "0:00.3"}, [0, 1, 2]),
        ({"start": "9", "every": 5}, [9]),
    ],
)
def test_a_part_of_a_video(model: Predictor, tmp_path: Path, chosen: dict[str, Any], indices: list[int]) -> None:
    totals = set()
    track_videos(
        model,
        [video(tmp_path / "v.mp4")],
        tmp_path / "out",
        options(save=["jsonl"], **chosen),
        lambda count, total: totals.add(total),
    )
    assert [f.document["index"] for f in VideoResults.open(tmp_path / "out" / "frames.jsonl")] == indices
    assert totals <= {len(indices), len(indices) + 1}  # a time between two frames is told from the rate


def test_what_is_refused(model: Predictor, tmp_path: Path) -> None:
    place = video(tmp_path / "v.mkv", 2)
    with pytest.raises(ConfigError, match=r"no output kind 'jsnl'. Did you mean 'jsonl'"):
        options(save=["jsnl"])
    with pytest.raises(ConfigError, match="a number of frames"):
        options(start="soon")
    with pytest.raises(ConfigError, match="resumed or replaced"):
        options(resume=True, overwrite=True)
    with pytest.raises(ImageError, match="there is no frame"):
        track_videos(model, [place], tmp_path / "out", options(start="5"))
    assert not files(tmp_path / "out")
    with pytest.raises(ImageError, match="no such file"):
        track_videos(model, [tmp_path / "none"], tmp_path / "out")
    with pytest.raises(ConfigError, match="is a file"):
        track_videos(model, [place], place)
    track_videos(model, [place], tmp_path / "out", options(save=["csv"]))
    with pytest.raises(ConfigError, match=r"tracks.csv exists already"):
        track_videos(model, [place], tmp_path / "out", options(save=["csv"]))
    track_videos(model, [place], tmp_path / "out", options(save=["csv"], overwrite=True))
    with pytest.raises(ConfigError, match="have no times"):
        track_videos(model, [folder_of_one(tmp_path)], tmp_path / "other", options(start="1s"))


def folder_of_one(tmp_path: Path) -> Path:
    (tmp_path / "one").mkdir()
    Image.fromarray(images(1)[0]).save(tmp_path / "one" / "0.png")
    return tmp_path / "one"


def test_results_that_are_none(tmp_path: Path) -> None:
    place = tmp_path / "x.jsonl"
    with pytest.raises(DataError, match="no such file"):
        VideoResults.open(place)
    place.write_text("{}\n")
    with pytest.raises(DataError, match="not results of a video"):
        VideoResults.open(place)
    place.write_text('{"format": "maskwright.video", "version": 1}\n{"frame": 0, \n')
    with pytest.raises(DataError, match="line 2: not JSON"):
        list(VideoResults.open(place))
    place.write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="line 1: not JSON"):
        VideoResults.open(place)


def test_divisions_need_masks(tmp_path: Path) -> None:
    torch.manual_seed(0)
    boxes = Predictor(build(replace(rcnn.tiny(), masks=False)), Classes(["a", "b", "c"]), name="boxes")
    chosen = TrackRunOptions(save=["csv"], track=TrackOptions(link=LinkOptions(divisions=True)))
    with pytest.raises(ConfigError, match="divisions cannot be made without masks"):
        track_videos(boxes, [video(tmp_path / "v.mkv", 2)], tmp_path / "out", chosen)


def with_gaps(model: Predictor, tmp_path: Path, kinds: list[str]) -> list[Any]:
    """The frames of a run over noise and objects, in which tracks vanish and come back."""
    frames = images(8)
    frames[3] = np.zeros_like(frames[3])
    place = tmp_path / "in"
    place.mkdir()
    for i, image in enumerate(frames):
        Image.fromarray(image).save(place / f"{i}.png")
    track_videos(model, [place], tmp_path / "out", TrackRunOptions(save=kinds, find=FindOptions(score_threshold=0.1)))
    return list(VideoResults.open(tmp_path / "out" / "frames.jsonl"))


def test_youtube_vis_has_a_row_for_each_track(
    model: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(track_rows, "KEPT", 2000)  # outlines go to the file several times
    frames = with_gaps(model, tmp_path, ["jsonl", "youtube-vis"])
    rows = json.loads((tmp_path / "out" / "youtube_vis.json").read_text())
    seen: dict[int, dict[int, dict[str, Any]]] = {}
    for frame in frames:
        for row, area in zip(frame.rows, frame.found.crops.areas(), strict=True):
            if area:
                seen.setdefault(row["track_id"], {})[frame.frame] = row
    assert len(rows) == len(seen) > 3
    for row, (_, own) in zip(rows, sorted(seen.items()), strict=True):
        assert set(row) == {"video_id", "score", "category_id", "segmentations"}
        assert row["video_id"] == 1
        assert row["segmentations"] == [own[k]["segmentation"] if k in own else None for k in range(len(frames))]
        assert row["score"] == pytest.approx(np.mean([r["score"] for r in own.values()]), abs=1e-6)
        sums = {k: sum(r["score"] for r in own.values() if r["label"] == k) for k in range(3)}
        assert row["category_id"] == (4, 7, 9)[max(sums, key=lambda k: sums[k])]


def test_label_images_have_the_ids_of_the_tracks(model: Predictor, tmp_path: Path) -> None:
    frames = with_gaps(model, tmp_path, ["jsonl", "labels"])
    for frame in frames:
        values = media.read_values(tmp_path / "out" / "labels" / f"{frame.frame:06}.png")
        order = np.argsort(-frame.found.scores, kind="stable")
        best = np.zeros(frame.found.size, np.int64)
        for i in order:
            best[(best == 0) & frame.found.masks[i]] = frame.found.track_ids[i]
        assert np.array_equal(values, best)


def test_too_many_tracks_for_labels_lose_nothing(
    model: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "MOST_LABELS", 1)
    with pytest.raises(ConfigError, match=r"hold 1\. Resume the run without labels"):
        with_gaps(model, tmp_path, ["jsonl", "labels"])
    chosen = TrackRunOptions(save=["jsonl"], find=FindOptions(score_threshold=0.1), resume=True)
    result = track_videos(model, [tmp_path / "in"], tmp_path / "out", chosen)
    assert (result.done[0].frames, result.done[0].computed) == (8, 0)


def test_the_challenge_folder_is_read_without_complaint(model: Predictor, tmp_path: Path) -> None:
    """The reader refuses labels outside their frames, missing at their ends, or with a parent that has not ended."""
    frames = with_gaps(model, tmp_path, ["jsonl", "ctc"])
    folder = tmp_path / "out" / "01_RES"
    table = tracks.read_table(folder / "res_track.txt")
    files = tracks.numbered(folder, "mask")
    assert list(files) == list(range(8))
    shown: dict[int, list[int]] = {}
    for number, labels, masks in tracks.frames_of(files, table, folder / "res_track.txt"):
        for label in labels.tolist():
            shown.setdefault(label, []).append(number)
        union = np.any(frames[number].found.masks, axis=0) if len(frames[number].found) else np.zeros(masks.size, bool)
        assert np.array_equal(np.any(masks.dense(), axis=0), union)
    for label, numbers in shown.items():  # no gap
        assert numbers == list(range(table[label].begin, table[label].end + 1))
    assert any(span.parent for span in table.values())  # a track that came back


def test_daughters_name_their_mother(tmp_path: Path) -> None:
    pieces = challenge._Table()
    for frame in (0, 1, 2):
        assert pieces.label(7, frame, None) == 1
    assert [pieces.label(8, 3, 7), pieces.label(9, 3, 7)] == [2, 3]
    assert pieces.label(8, 5, 7) == 4  # after a gap the earlier piece is the parent, not the mother
    assert [(p.label, p.first, p.last, p.parent) for p in pieces.pieces] == [
        (1, 0, 2, 0),
        (2, 3, 3, 1),
        (3, 3, 3, 1),
        (4, 5, 5, 2),
    ]
    assert pieces.gaps == 1


def test_a_live_source_gives_its_newest_frames_and_tells_what_was_left_out(model: Predictor, tmp_path: Path) -> None:
    with sender(recorded(tmp_path, 60), pause=0.002) as address:
        result = track_videos(model, [address], tmp_path / "out", options(), lambda *a: time.sleep(0.03))
    done = result.done[0]
    frames = list(VideoResults.open(tmp_path / "out" / "frames.jsonl"))
    assert [f.frame for f in frames] == list(range(done.frames))
    assert frames[-1].document["index"] == 59
    assert f"{60 - done.frames} frames that came while others were computed, left out." in done.notes
    shown = list(Video(tmp_path / "out" / "overlay.mp4"))
    times = [f.time for f in frames]  # the first frame that was taken need not be the first of the stream
    assert [f.time for f in shown] == pytest.approx([time - times[0] for time in times], abs=1e-4)
    assert result.complete


def test_ctrl_c_ends_a_live_source_with_what_came(model: Predictor, tmp_path: Path) -> None:
    def stop(count: int, total: int | None) -> None:
        assert total is None
        if count == 2:
            raise KeyboardInterrupt

    with sender(recorded(tmp_path, 60), pause=0.004, hold=0.5) as address:
        result = track_videos(model, [address], tmp_path / "out", options(), stop)
    assert result.done[0].stopped
    assert "It was stopped." in result.done[0].notes
    assert len(list(VideoResults.open(tmp_path / "out" / "frames.jsonl"))) == result.done[0].frames == 2
    assert len(list(Video(tmp_path / "out" / "overlay.mp4"))) == 2
    assert not (tmp_path / "out" / "unfinished").exists()
