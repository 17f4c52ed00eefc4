"""Videos through a predictor: the frames in order, key frames where they belong, objects with their ids."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from PIL import Image

from maskwright.data.synthetic import Motion, clip
from maskwright.errors import ConfigError, ImageError
from maskwright.media.video import Video, VideoFrame, write_video
from maskwright.models import rcnn, yolact_edge
from maskwright.models.family import build
from maskwright.predictor.options import FindOptions
from maskwright.predictor.predictor import Predictor
from maskwright.predictor.session import TrackedFrame, VideoSession
from maskwright.predictor.timing import StageTimer
from maskwright.predictor.track_options import TrackOptions
from maskwright.types import Classes, ImageArray, Inputs

pytestmark = pytest.mark.usefixtures("one_thread")

CLASSES = Classes(["a", "b", "c"])


def frames(count: int = 7, size: tuple[int, int] = (64, 96)) -> list[ImageArray]:
    return [s.image for s in clip(1, count, size, 4, 3, motion=Motion(camera=0.3))]


@pytest.fixture(scope="module")
def video() -> Predictor:
    torch.manual_seed(0)
    return Predictor(build(yolact_edge.tiny_variants()["video"]), CLASSES, name="video")


def same(a: list, b: list) -> bool:
    return len(a) == len(b) and all(
        np.array_equal(x.boxes, y.boxes) and np.array_equal(x.scores, y.scores) for x, y in zip(a, b, strict=True)
    )


@pytest.mark.parametrize("interval", [1, 3, None])
def test_frames_are_those_of_start_and_step(video: Predictor, interval: int | None) -> None:
    images, every = frames(), interval or 5
    found = list(video.track(images, track=TrackOptions(interval), score_threshold=0.0))
    network, state = video.model, None
    assert isinstance(network, yolact_edge.YolactEdge)
    plan = video.plan(FindOptions(score_threshold=0.0))
    for i, (image, one) in enumerate(zip(images, found, strict=True)):
        tensor, geometry = video.prepare(image)
        inputs: Inputs = video.batch([tensor])
        with torch.inference_mode():
            raw, state = (
                network.start(inputs, plan.limits) if i % every == 0 else network.step(inputs, state, plan.limits)
            )
        wanted = video.finish(raw, 0, geometry, plan)
        assert np.array_equal(wanted.boxes, one.boxes)
        assert one.track_ids is not None
        assert len(set(one.track_ids.tolist())) == len(one)


def test_a_frame_of_another_size_is_a_key_frame(video: Predictor) -> None:
    """What was carried would not fit."""
    images = frames(2) + frames(2, (80, 64))
    found = list(video.track(images, score_threshold=0.0))
    assert same(found[2:], list(video.track(images[2:], score_threshold=0.0)))


def test_models_that_carry_nothing_find_what_they_find_in_single_images() -> None:
    torch.manual_seed(0)
    p, images = Predictor(build(rcnn.tiny("compact")), CLASSES, name="boxes"), frames(3)
    found = list(p.track(images, score_threshold=0.05))
    assert same(found, [p.predict(image, score_threshold=0.05) for image in images])
    with pytest.raises(ConfigError, match=r"carries nothing from frame to frame.*interval of 4"):
        p.track(images, track=TrackOptions(4))


def test_videos_folders_stacks_and_generators_are_the_same_frames(video: Predictor, tmp_path: Path) -> None:
    images = frames(6)
    folder = tmp_path / "frames"
    folder.mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{i:03}.png")
    pages = [Image.fromarray(image) for image in images]
    pages[0].save(tmp_path / "stack.tif", save_all=True, append_images=pages[1:])
    with write_video(tmp_path / "whole.mkv", 10) as writer:
        for image in images:
            writer.write(image)
    wanted = list(video.track(images, score_threshold=0.0))
    for source in (folder, tmp_path / "stack.tif", str(folder / "*.png"), (image for image in images)):
        assert same(list(video.track(source, score_threshold=0.0)), wanted)
    assert len(list(video.track(tmp_path / "whole.mkv", score_threshold=0.0))) == 6


def test_frames_are_read_when_they_are_asked_for(video: Predictor) -> None:
    """An endless source is no problem."""
    read = []

    def endless() -> Iterator[ImageArray]:
        while True:
            read.append(1)
            yield from frames(1)

    timer = StageTimer()
    found = video.track(endless(), timer=timer)
    for _ in range(3):
        next(found)
    assert len(read) == 3
    assert {"read", "prepare", "network", "finish", "link"} <= set(timer.totals)


def test_what_is_no_video(video: Predictor, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(ImageError, match=r"text\.mp4: cannot be opened as a video"):
        list(video.track(tmp_path / "text.mp4"))
    with pytest.raises(ConfigError, match="A video is a path"):
        list(video.track(3))
    with pytest.raises(ConfigError, match="interval is at least 1 and at most 1000000, got 0"):
        TrackOptions(0)


def test_packets_that_cannot_be_decoded_are_told(
    video: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = frames(4)
    with write_video(tmp_path / "clip.mkv", 10) as writer:
        for image in images:
            writer.write(image)
    decoded = Video._decoded

    def damaged(self: Video, *given: Any) -> Iterator[Any]:
        yield from decoded(self, *given)
        self.undecoded += 2

    monkeypatch.setattr(Video, "_decoded", damaged)
    with pytest.warns(UserWarning, match=r"Not read in 1 file: .*clip\.mkv, 2 packets that could not be decoded"):
        assert len(list(video.track(tmp_path / "clip.mkv"))) == 4


# ---- the fast mode --------------------------------------------------------------------------------------------------


def boxes_only() -> Predictor:
    torch.manual_seed(0)
    return Predictor(build(rcnn.tiny("compact")), CLASSES, name="boxes")


def session(p: Predictor, images: list[ImageArray], options: TrackOptions) -> list[TrackedFrame]:
    one = VideoSession(p, FindOptions(score_threshold=0.05), options)
    return list(one.run(VideoFrame(image, i) for i, image in enumerate(images)))


def test_fast_runs_the_network_on_key_frames_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    p, images, seen = boxes_only(), frames(7), []
    run, whole = p.run, session(p, images, TrackOptions(mode="frames"))
    monkeypatch.setattr(p, "run", lambda *given: seen.append(1) or run(*given))
    for lookahead, keys in ((True, [1, 4, 6]), (False, [0, 3, 6])):
        found = session(p, images, TrackOptions(3, mode="fast", lookahead=lookahead))
        assert [t.frame.index for t in found] == list(range(7))
        assert [i for i, t in enumerate(found) if t.key] == keys
        assert [t.distance for t in found] == [min(abs(i - k) for k in keys if lookahead or k <= i) for i in range(7)]
        assert [t.why for t in found if t.key] == ["first", "interval", "interval"]
        assert same([t.found for t in found if t.key], [whole[i].found for i in keys])
    assert len(seen) == 6


@pytest.mark.parametrize(("lookahead", "waiting"), [(True, 2), (False, 0)])
def test_frames_wait_for_the_key_frame_behind_them_and_no_longer(lookahead: bool, waiting: int) -> None:
    """Those of a live source do not wait."""
    p, read = boxes_only(), []

    def source() -> Iterator[VideoFrame]:
        for i, image in enumerate(frames(12)):
            read.append(i)
            yield VideoFrame(image, i)

    one = VideoSession(p, FindOptions(score_threshold=0.05), TrackOptions(5, mode="fast", lookahead=lookahead))
    for tracked in one.run(source()):
        assert len(read) - 1 - tracked.frame.index <= waiting


def test_every_run_of_a_session_begins_anew() -> None:
    """A segment of a long video needs nothing of the one before or behind it but the tracks."""
    p, images = boxes_only(), frames(8)
    one = VideoSession(p, FindOptions(score_threshold=0.05), TrackOptions(5, mode="fast"))
    parts = [[VideoFrame(image, i) for i, image in enumerate(images)][k : k + 4] for k in (0, 4)]
    found = [t for part in parts for t in one.run(part)]
    alone = session(p, images[4:], TrackOptions(5, mode="fast"))
    assert same([t.found for t in found[4:]], [t.found for t in alone])
    assert [t.key for t in found] == [False, False, True, False] * 2


@pytest.mark.parametrize("key_frames", ["fixed", "adaptive"])
def test_a_still_video_gives_what_its_key_frame_gives(key_frames: Literal["fixed", "adaptive"]) -> None:
    p, images = boxes_only(), frames(1) * 5
    found = session(p, images, TrackOptions(5, mode="fast", key_frames=key_frames))
    key = found[2]
    assert [t.key for t in found] == [False, False, True, False, False]
    for t in found:
        assert same([t.found], [key.found])
        assert t.found.masks is not None
        assert key.found.masks is not None
        assert np.array_equal(t.found.masks, key.found.masks)
    for t in (found[0], found[4]):
        assert t.shifts is not None
        assert not t.shifts.any()


@pytest.mark.parametrize("mode", ["fast", "faithful"])
def test_a_scene_cut_is_a_key_frame(video: Predictor, mode: Literal["fast", "faithful"]) -> None:
    dark = [np.full((64, 96, 3), 20, np.uint8)] * 2
    for image in dark:
        image[:32] = 90
    light = [np.full((64, 96, 3), 230, np.uint8)] * 2
    for image in light:
        image[:32] = 10
    wanted = ["first", "", "cut", ""] if mode == "faithful" else ["", "first", "", "cut"]  # its key frame waits
    found = session(video, dark + light, TrackOptions(9, mode=mode))
    assert [t.why for t in found] == wanted
    if mode == "fast":  # nothing is carried over the cut, neither way
        assert [t.distance for t in found] == [1, 0, 1, 0]


def test_adaptive_key_frames_follow_the_motion() -> None:
    p = boxes_only()
    quick = [s.image for s in clip(1, 8, (64, 96), 4, 3, motion=Motion(speed=0.08, camera=1.0, period=20))]
    still = frames(1) * 8
    options = TrackOptions(8, mode="fast", key_frames="adaptive")
    assert sum(t.key for t in session(p, quick, options)) > 2
    assert sum(t.key for t in session(p, still, options)) == 1
    assert {t.why for t in session(p, quick, options)} <= {"first", "change", "travel", "cut", ""}


def test_modes_that_a_model_does_not_have() -> None:
    p = boxes_only()
    with pytest.raises(ConfigError, match="carries no features from frame to frame, so mode 'faithful' is not"):
        p.track(frames(1), track=TrackOptions(mode="faithful"))
    with pytest.raises(ConfigError, match="Key frames are adaptive in mode 'fast' alone, the mode is 'frames'"):
        p.track(frames(1), track=TrackOptions(key_frames="adaptive"))
    with pytest.raises(ConfigError, match="mode is 'auto', 'frames', 'faithful' or 'fast', got 'slow'"):
        TrackOptions(mode="slow")  # type: ignore[arg-type]
