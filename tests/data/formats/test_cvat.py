"""CVAT's XML: what is read, what is refused and how it is said, and that writing gives the same back."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from maskwright.data import formats, synthetic
from maskwright.data.dataset import Annotation, Dataset, ImageRecord
from maskwright.data.formats import coco, cvat
from maskwright.errors import ConfigError, DataError
from maskwright.ops import masks as mask_ops
from maskwright.types import Classes, Clip, Frame, Landmarks, Masks

LABELS = """
<label><name>car</name><type>any</type><attributes></attributes></label>
<label><name>fly</name><attributes></attributes></label>
<label><name>good</name><type>tag</type></label>
<label><name>road</name><type>polyline</type></label>
<label><name>pose</name><type>skeleton</type><svg>&lt;line x1="1" data-type="edge" data-node-from="2"
 data-node-to="1"&gt;&lt;/line&gt;&lt;circle data-node-id="1" data-label-name="head"&gt;&lt;/circle&gt;
 &lt;circle data-node-id="2" data-label-name="tail"&gt;&lt;/circle&gt;</svg></label>
<label><name>head</name><type>points</type><parent>pose</parent></label>
<label><name>tail</name><type>points</type><parent>pose</parent></label>
"""
POSE = (
    '<skeleton label="pose" z_order="0"{}><points label="head" outside="0" occluded="1" points="3.5,4"></points>'
    '<points label="tail" outside="{}" occluded="0" points="7,8"></points></skeleton>'
)
MASK = '<mask label="car" occluded="0" rle="1, 2, 1, 3, 2" left="4" top="7" width="3" height="3" z_order="0"></mask>'
SQUARE = '<polygon label="car" occluded="0" points="2,3;8,3;8,9;2,9" z_order="0"{}></polygon>'


def write(folder: Path, *shapes: str, labels: str = LABELS, image: str = 'name="a.png"') -> Path:
    """annotations.xml of one image, 20 high and 30 wide, and the image in images/."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (30, 20)).save(folder / "images/a.png")
    inside = "\n".join(shapes)
    meta = f"<meta><task><size>1</size><labels>{labels}</labels></task></meta>" if labels else ""
    text = f'<image id="0" {image} width="30" height="20">\n{inside}\n</image>'
    (folder / "annotations.xml").write_text(
        f'<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version>{meta}\n{text}\n</annotations>\n'
    )
    return folder


def video(folder: Path, *tracks: str, frames: int = 6, meta: str = "") -> Path:
    text = f"<size>{frames}</size>{meta}<original_size><width>30</width><height>20</height></original_size>"
    (folder / "annotations.xml").write_text(
        f"<annotations><meta><task>{text}<labels>{LABELS}</labels></task></meta>\n"
        + "\n".join(tracks)
        + "</annotations>"
    )
    return folder


# ---- for images -----------------------------------------------------------------------------------------------------


def test_every_kind_of_shape(tmp_path: Path) -> None:
    write(
        tmp_path,
        SQUARE.format(""),
        MASK,
        '<box label="fly" occluded="1" xtl="1.5" ytl="2" xbr="9" ybr="8" z_order="3"></box>',
        '<box label="car" occluded="0" xtl="10" ytl="5" xbr="20" ybr="7" rotation="90.0" z_order="0"></box>',
        '<ellipse label="car" occluded="0" cx="15" cy="10" rx="8" ry="4" z_order="0"></ellipse>',
        POSE.format("", 0),
    )
    data = formats.load(tmp_path)
    assert data.classes.names == ("car", "fly", "pose")
    assert [data.classes[k] for k in data.labels(0)] == ["car", "car", "fly", "car", "car", "pose"]
    rows = data.of(0)
    assert [a.segmentation is None for a in rows] == [False, False, True, False, False, True]
    np.testing.assert_array_equal(
        data.draw(0, rows[1:2]).dense()[0][7:10, 4:7], [[False, True, True], [False, True, True], [True, False, False]]
    )
    assert rows[0].area == 36
    assert rows[2].box == (1.5, 2, 9, 8)
    assert rows[2].extra == {"occluded": True, "z_order": 3}
    np.testing.assert_allclose(rows[3].box, (14, 1, 16, 11))
    np.testing.assert_allclose(rows[4].box, (7, 6, 23, 14), atol=0.06)
    assert rows[5].keypoints is not None
    assert rows[5].keypoints.tolist() == [[3.5, 4, 1], [7, 8, 2]]
    assert rows[5].box == (3.5, 4, 7, 8)
    assert data.classes.landmarks == (None, None, Landmarks(("head", "tail"), ((1, 0),)))
    assert data.notes == ()
    assert data.image(0).shape == (20, 30, 3)


def test_groups_join_parts_and_give_landmarks(tmp_path: Path) -> None:
    """A skeleton that is only ever in the group of another object is no class of its own."""
    write(
        tmp_path,
        POSE.format(' group_id="3"', 1),
        SQUARE.format(' group_id="3"'),
        '<polygon label="car" occluded="0" points="20,3;25,3;25,6" z_order="0" group_id="3"></polygon>',
        '<points label="antenna" occluded="1" points="5,5" group_id="3"></points>',
        '<points label="leg" occluded="0" points="6,6;7,7" group_id="3"></points>',
        '<points label="leg" occluded="0" points="6,6;7,7"></points>',
    )
    data = cvat.load(tmp_path)
    assert data.classes.names == ("car", "fly")
    (row,) = data.of(0)
    assert len(row.segmentation or ()) == 2
    assert data.classes.landmarks == (Landmarks(("head", "tail", "antenna", "leg 1", "leg 2"), ((1, 0),)), None)
    assert row.keypoints is not None
    assert row.keypoints.tolist() == [[3.5, 4, 1], [0, 0, 0], [5, 5, 1], [6, 6, 2], [7, 7, 2]]
    assert data.notes == ("Left out, being no objects: 1 point without an object.",)


def test_boxes_of_a_group_are_parts_of_its_object(tmp_path: Path) -> None:
    """As rectangles are in LabelMe: with an outline a box is a part of it, two boxes alone are one box."""
    write(
        tmp_path,
        '<box label="car" xtl="20" ytl="3" xbr="25" ybr="6" group_id="1"></box>',
        SQUARE.format(' group_id="1"'),
        '<box label="car" xtl="1" ytl="10" xbr="3" ybr="12" group_id="2"></box>',
        '<box label="car" xtl="5" ytl="11" xbr="8" ybr="13" group_id="2"></box>',
    )
    data = cvat.load(tmp_path)
    both, boxes = data.of(0)
    assert both.box == (2, 3, 25, 9)
    assert both.area == 6 * 6 + 5 * 3
    assert data.draw(0, [both]).areas().tolist() == [6 * 6 + 5 * 3]
    assert boxes.segmentation is None
    assert boxes.box == (1, 10, 8, 13)


@pytest.mark.parametrize("second", ["antenna", "head"])
def test_two_points_of_one_name_in_a_group(tmp_path: Path, second: str) -> None:
    point = '<points label="{}" occluded="0" points="5,5" group_id="3"></points>'
    write(tmp_path, POSE.format(' group_id="3"', 1), point.format("antenna"), point.format(second))
    with pytest.raises(DataError, match=rf"annotations\.xml: line \d+: .*the group has two points called '{second}'"):
        cvat.load(tmp_path)


def test_what_is_no_object_is_counted(tmp_path: Path) -> None:
    lines = '<polyline label="road" occluded="0" points="1,1;2,2" z_order="0"></polyline>'
    data = cvat.load(
        write(tmp_path, lines, lines, '<tag label="good"></tag>', POSE.format("", 1).replace('"0"', '"1"'))
    )
    assert data.of(0) == ()
    assert data.notes == (
        "Left out, being no objects: 2 lines.",
        "Left out, being no objects: 1 tag of whole images.",
        "Left out, being no objects: 1 skeleton without a point inside.",
    )


def test_attributes_say_crowd_and_track(tmp_path: Path) -> None:
    attributes = "".join(
        f'<attribute name="{k}">{v}</attribute>'
        for k, v in (("is_crowd", "True"), ("track_id", 9), ("colour", "a &amp; b"))
    )
    data = cvat.load(write(tmp_path, SQUARE.format("").replace("></", f">{attributes}</")))
    (row,) = data.of(0)
    assert (row.crowd, row.track_id, row.extra) == (True, 9, {"attributes": {"colour": "a & b"}})


def test_files_of_several_tasks(tmp_path: Path) -> None:
    """A project's file: labels in its own head, ids that repeat, images in folders by subset."""
    folder = write(tmp_path, SQUARE.format(""), image='name="a.png" subset="train" task_id="1"')
    text = (folder / "annotations.xml").read_text().replace("<task>", "<project>").replace("</task>", "</project>")
    more = '<image id="0" name="b.png" subset="val" task_id="2" width="30" height="20"></image></annotations>'
    (folder / "annotations.xml").write_text(text.replace("</annotations>", more))
    (folder / "images/val").mkdir()
    Image.new("RGB", (30, 20)).save(folder / "images/val/b.png")
    data = cvat.load(folder)
    assert [(r.id, r.file_name, r.extra) for r in data.images] == [
        (0, "a.png", {"split": "train"}),
        (1, "val/b.png", {"split": "val"}),
    ]
    assert data.missing_files() == ()


def test_a_file_without_labels_takes_those_of_its_shapes(tmp_path: Path) -> None:
    data = cvat.load(write(tmp_path, SQUARE.format(""), MASK.replace("car", "bus"), labels=""))
    assert data.classes.names == ("car", "bus")


def test_the_file_alone_finds_its_images(tmp_path: Path) -> None:
    write(tmp_path / "x", SQUARE.format(""))
    assert formats.load(tmp_path / "x/annotations.xml").missing_files() == ()
    (tmp_path / "x/images").rename(tmp_path / "photos")
    assert formats.load(tmp_path / "x/annotations.xml", tmp_path / "photos").missing_files() == ()
    assert [p.name for p in cvat.load(tmp_path / "x").missing_files()] == ["a.png"]


# ---- for video ------------------------------------------------------------------------------------------------------


def test_shapes_hold_until_the_next_row(tmp_path: Path) -> None:
    first = '<polygon frame="{}" outside="{}" occluded="0" keyframe="1" points="{}"></polygon>'
    square, triangle = "2,3;8,3;8,9;2,9", "10,10;15,10;15,15"
    video(
        tmp_path,
        '<track id="7" label="car">'
        + first.format(4, 0, square)
        + first.format(1, 0, square)
        + first.format(3, 1, square)
        + "</track>",
        '<track id="9" label="fly">' + first.format(0, 0, triangle) + first.format(2, 0, square) + "</track>",
        '<track id="10" label="road"><polyline frame="0" outside="0" points="1,1;2,2"></polyline></track>',
    )
    (tmp_path / "images").mkdir()
    for k in range(6):
        Image.new("RGB", (30, 20)).save(tmp_path / f"images/frame_{k:06d}.PNG")
    data = formats.load(tmp_path)
    assert len(data) == 6
    assert data.images[2].file_name == "frame_000002.PNG"
    assert data.images[2].frame == Frame(Clip(1), 2)
    assert [[a.track_id for a in data.of(i)] for i in range(6)] == [[9], [7, 9], [7, 9], [9], [7, 9], [7, 9]]
    assert [data.of(i)[-1].box[0] for i in range(6)] == [10, 10, 2, 2, 2, 2]
    assert data.notes == (
        "Left out, being no objects: 1 track of points, lines or cuboids.",
        "6 shapes are repeated from an earlier frame, until the next row of their track.",
    )
    assert data.missing_files() == ()


def test_skeletons_and_masks_move_too(tmp_path: Path) -> None:
    pose = POSE.format(' frame="1" keyframe="1"', 1)
    gone = pose.replace('frame="1"', 'frame="2"').replace('outside="0"', 'outside="1"')
    mask = MASK.replace("<mask", '<mask frame="2" outside="0"')
    video(
        tmp_path, f'<track id="0" label="pose">{pose}{gone}</track><track id="1" label="car">{mask}</track>', frames=4
    )
    data = cvat.load(tmp_path)
    assert [[a.track_id for a in data.of(i)] for i in range(4)] == [[], [0], [1], [1]]
    assert data.of(1)[0].keypoints is not None
    assert data.of(3)[0].area == 5


def test_frames_that_were_chosen_and_named_otherwise(tmp_path: Path) -> None:
    row = '<track id="0" label="car"><box frame="{}" outside="0" xtl="1" ytl="1" xbr="5" ybr="5"></box></track>'
    meta = "<start_frame>10</start_frame><stop_frame>20</stop_frame><frame_filter>step=5</frame_filter>"
    data = cvat.load(video(tmp_path, row.format(15), frames=3, meta=meta))
    assert [r.file_name for r in data.images] == ["frame_000010.png", "frame_000015.png", "frame_000020.png"]
    assert [len(data.of(i)) for i in range(3)] == [0, 1, 1]
    (tmp_path / "images").mkdir()
    for name in ("x1.jpg", "x2.jpg", "x3.jpg"):
        Image.new("RGB", (30, 20)).save(tmp_path / "images" / name)
    assert [r.file_name for r in cvat.load(tmp_path).images] == ["x1.jpg", "x2.jpg", "x3.jpg"]


@settings(max_examples=50, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 12), st.booleans()), min_size=1, max_size=5, unique_by=lambda r: r[0]),
    start=st.integers(0, 4),
    step=st.integers(1, 3),
)
def test_held_frames_are_those_of_a_slow_walk(
    rows: list[tuple[int, bool]], start: int, step: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Frame by frame: the last row not after the frame decides."""
    folder = tmp_path_factory.mktemp("walk")
    boxes = "".join(
        f'<box frame="{f}" outside="{int(out)}" xtl="0" ytl="0" xbr="{f + 1}" ybr="5"></box>' for f, out in rows
    )
    meta = f"<start_frame>{start}</start_frame><stop_frame>12</stop_frame><frame_filter>step={step}</frame_filter>"
    data = cvat.load(video(folder, f'<track id="0" label="car">{boxes}</track>', meta=meta))
    for i, frame in enumerate(range(start, 13, step)):
        before = [row for row in rows if row[0] <= frame]
        last = max(before, default=None)
        expected = [] if last is None or last[1] else [last[0] + 1]
        assert [a.box[2] for a in data.of(i)] == expected


TASK = """<task><id>{}</id><name>{}</name><size>{}</size><mode>interpolation</mode><start_frame>0</start_frame>
<stop_frame>{}</stop_frame><original_size><width>{}</width><height>{}</height></original_size></task>"""
TRACK = (
    '<track id="{}" label="car" task_id="{}" subset="{}"><box frame="{}" outside="0" keyframe="1" '
    'xtl="1" ytl="1" xbr="{}" ybr="5"></box></track>'
)


def project(folder: Path, *tracks: str) -> Path:
    """A project of three videos of 2, 3 and 1 frames, the last in a subset of its own."""
    tasks = TASK.format(5, "one", 2, 1, 30, 20) + TASK.format(7, "two", 3, 2, 40, 10) + TASK.format(9, "x", 1, 0, 9, 9)
    head = f"<meta><project><id>3</id><tasks>{tasks}</tasks><labels>{LABELS}</labels></project></meta>"
    (folder / "annotations.xml").write_text(f"<annotations>{head}{''.join(tracks)}</annotations>")
    return folder


def test_the_videos_of_a_project_have_frames_of_their_own(tmp_path: Path) -> None:
    tracks = (TRACK.format(0, 5, "a", 1, 6), TRACK.format(1, 7, "a", 0, 9), TRACK.format(2, 9, "b", 0, 8))
    data = cvat.load(project(tmp_path, *tracks))
    assert [(r.size, r.frame) for r in data.images] == [
        ((20, 30), Frame(Clip(1, "one"), 0)),
        ((20, 30), Frame(Clip(1, "one"), 1)),
        *(((10, 40), Frame(Clip(2, "two"), k)) for k in range(3)),
        ((9, 9), Frame(Clip(3, "x"), 0)),
    ]
    assert [[a.box[2] for a in data.of(i)] for i in range(6)] == [[], [6], [9], [9], [9], [8]]
    assert [r.extra["split"] for r in data.images] == ["a"] * 5 + ["b"]
    assert len({r.id for r in data.images}) == 6


@pytest.mark.parametrize("of_tasks", [False, True])
def test_the_frames_of_a_project_are_found(tmp_path: Path, of_tasks: bool) -> None:
    """In the folder of the subset, as CVAT writes them, or in one for each task."""
    (tmp_path / "images").mkdir()
    stems = {
        "one": ["a/frame_000000", "a/frame_000001"],
        "two": ["a/frame_000000_1", "a/frame_000001_1", "a/frame_000002"],
        "x": ["b/frame_000000"],
    }
    names = [
        f"{task}/frame_{k:06d}.PNG" if of_tasks else f"{stem}.PNG"
        for task, own in stems.items()
        for k, stem in enumerate(own)
    ]
    for name in names:
        (tmp_path / "images" / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (30, 20)).save(tmp_path / "images" / name)
    tracks = (TRACK.format(0, 5, "a", 1, 6), TRACK.format(1, 7, "a", 0, 9), TRACK.format(2, 9, "b", 0, 8))
    data = cvat.load(project(tmp_path, *tracks))
    assert [r.file_name for r in data.images] == names


def test_tracks_of_unknown_tasks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"line \d+: its task_id 8 is no task of the project"):
        cvat.load(project(tmp_path, TRACK.format(0, 8, "a", 0, 6)))
    video(tmp_path, TRACK.format(0, 8, "a", 0, 6), TRACK.format(0, 9, "a", 0, 6))
    with pytest.raises(DataError, match="the tracks are of several tasks, and the head of the file describes one"):
        cvat.load(tmp_path)


def test_the_only_file_of_a_folder_may_have_any_name(tmp_path: Path) -> None:
    """Datumaro calls it train.xml."""
    folder = write(tmp_path, SQUARE.format(""))
    (folder / "annotations.xml").rename(folder / "train.xml")
    assert formats.recognise(folder).name == "cvat"
    assert formats.load(folder).missing_files() == ()


def test_the_files_of_a_folder_are_one_data_set(tmp_path: Path) -> None:
    folder = write(tmp_path, SQUARE.format(""))
    (folder / "annotations.xml").rename(folder / "train.xml")
    text = (folder / "train.xml").read_text()
    (folder / "val.xml").write_text(text.replace('"a.png"', '"b.png"'))
    (folder / "images/b.png").write_bytes((folder / "images/a.png").read_bytes())
    assert formats.recognise(folder).name == "cvat"
    data = formats.load(folder)
    assert [(r.id, r.file_name, r.extra["split"]) for r in data.images] == [(0, "a.png", "train"), (1, "b.png", "val")]
    assert [len(data.of(i)) for i in (0, 1)] == [1, 1]
    assert data.missing_files() == ()
    assert {name: len(part) for name, part in data.parts().items()} == {"train": 1, "val": 1}

    (folder / "val.xml").write_text(text)
    with pytest.raises(DataError, match=r"val.xml: the image a.png is named by another file of the data set too"):
        formats.load(folder)
    (folder / "val.xml").write_text(text.replace(">car<", ">bus<").replace('"car"', '"bus"'))
    with pytest.raises(DataError, match=r"val.xml: it belongs to one data set .* labels differ \(bus, car\)"):
        formats.load(folder)


def test_exports_of_several_tasks_are_one_data_set(tmp_path: Path) -> None:
    """A folder for each, which may use the same names for their images and videos."""
    for name in ("one", "two"):
        write(tmp_path / name, SQUARE.format(""))
    data = formats.load(tmp_path)
    assert [r.file_name for r in data.images] == ["one/images/a.png", "two/images/a.png"]
    assert data.missing_files() == ()
    assert [a.id for i in (0, 1) for a in data.of(i)] == [1, 2]
    rows = '<track id="0" label="car"><box frame="0" xtl="1" ytl="1" xbr="9" ybr="9" outside="0"/></track>'
    for name in ("one", "two"):
        (tmp_path / "videos" / name).mkdir(parents=True)
        video(tmp_path / "videos" / name, rows, frames=2)
    data = formats.load(tmp_path / "videos")
    frames = [r.frame for r in data.images if r.frame is not None]
    assert [(f.clip.id, f.clip.name, f.index) for f in frames] == [
        (1, "one", 0), (1, "one", 1), (2, "two", 0), (2, "two", 1),
    ]  # fmt: skip
    assert data.previous_frames(2, 1) == ()


def test_images_without_ids_and_shapes_with_empty_groups(tmp_path: Path) -> None:
    """As globox writes them: images are numbered as they come."""
    far = SQUARE.format(' group_id=""').replace("2,3;8,3;8,9;2,9", "12,3;18,3;18,9")
    folder = write(tmp_path, SQUARE.format(' group_id=""'), far)
    text = (folder / "annotations.xml").read_text().replace('<image id="0" ', "<image ")
    more = '<image name="b.png" width="30" height="20"></image></annotations>'
    (folder / "annotations.xml").write_text(text.replace("</annotations>", more))
    data = cvat.load(folder)
    assert [r.id for r in data.images] == [0, 1]
    assert len(data.of(0)) == 2


# ---- round trips ----------------------------------------------------------------------------------------------------


def same(one: Dataset, other: Dataset) -> None:
    """Everything that the format keeps."""
    assert one.classes.names == other.classes.names
    assert one.classes.landmarks == other.classes.landmarks
    for i in range(len(one)):
        assert one.images[i].size == other.images[i].size
        np.testing.assert_array_equal(one.masks(i).dense(), other.masks(i).dense())
        np.testing.assert_allclose(one.boxes(i), other.boxes(i), atol=1e-4)
        np.testing.assert_array_equal(one.labels(i), other.labels(i))
        np.testing.assert_array_equal(one.crowd(i), other.crowd(i))
        assert [a.track_id for a in one.of(i)] == [a.track_id for a in other.of(i)]
        for a, b in zip(one.of(i), other.of(i), strict=True):
            assert isinstance(a.segmentation, tuple) == isinstance(b.segmentation, tuple)
            if a.keypoints is not None and (a.keypoints[:, 2] > 0).any():
                assert b.keypoints is not None
                seen = a.keypoints[:, 2] > 0
                np.testing.assert_array_equal(a.keypoints[seen], b.keypoints[seen])
                assert not b.keypoints[~seen].any()


def test_round_trip_is_exact(tmp_path: Path) -> None:
    path = synthetic.coco_fixture(tmp_path / "coco", 3)
    data = coco.load(path, tmp_path / "coco/images")
    assert cvat.save(tmp_path / "ü b", data, True) == ()
    assert formats.recognise(tmp_path / "ü b").name == "cvat"
    back = cvat.load(tmp_path / "ü b")
    same(data, back)
    np.testing.assert_array_equal(back.image(0), data.image(0))
    assert cvat.save(tmp_path / "alone.xml", data, False) == ()
    assert formats.recognise(tmp_path / "alone.xml").name == "cvat"
    same(data, cvat.load(tmp_path / "alone.xml", tmp_path / "coco/images"))


def test_landmarks_and_tracks_come_back(tmp_path: Path) -> None:
    data = synthetic.scenes_fixture(tmp_path / "scenes", 5, images=3)
    assert cvat.save(tmp_path / "out", data, True) == ()
    back = cvat.load(tmp_path / "out")
    same(data, back)
    assert [m and m.links for m in back.classes.landmarks] == [m and m.links for m in data.classes.landmarks]
    clips = synthetic.clips_fixture(4, tmp_path / "clips", clips=1, frames=3)
    lost = cvat.save(tmp_path / "clips_out", clips, True)
    assert lost == ("3 images without the clip and the place in it that they had.",)
    back = cvat.load(tmp_path / "clips_out")
    assert [[a.track_id for a in back.of(i)] for i in range(3)] == [[a.track_id for a in clips.of(i)] for i in range(3)]
    assert back.images[0].file_name == "clip_000/00000.png"


@settings(max_examples=50, deadline=None)
@given(bitmap=hnp.arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12))))
def test_any_bitmap_comes_back(bitmap: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("any")
    masks = Masks.from_dense(bitmap[None])
    row = Annotation(1, 1, 0, (0, 0, 1, 1), mask_ops.encode(masks)[0], float(bitmap.sum()))
    record = ImageRecord(1, "x.png", masks.size)
    data = Dataset(Classes(["a"]), (record,), {1: (row,)}, None, folder / "none.json")
    lost = cvat.save(folder / "out", data, False)
    back = cvat.load(folder / "out")
    if bitmap.any():
        assert lost == ()
        np.testing.assert_array_equal(back.masks(0).dense()[0], bitmap)
        text = (folder / "out/annotations.xml").read_text()
        runs = [int(n) for n in re.findall(r'rle="([\d, ]+)"', text)[0].split(",")]
        window = [int(re.findall(rf' {key}="(\d+)"', text)[-1]) for key in ("left", "top", "width", "height")]
        crop = np.concatenate([np.full(n, k % 2 == 1) for k, n in enumerate(runs)]).reshape(window[3], window[2])
        np.testing.assert_array_equal(crop, bitmap[window[1] :, window[0] :][: window[3], : window[2]])
    else:
        assert lost == ("1 object without a single pixel left out (annotation 1 of x.png).",)


def test_names_are_escaped_and_remarks_kept(tmp_path: Path) -> None:
    extra = {"occluded": True, "z_order": 2, "attributes": {'a"b': "<x> & 'y'"}}
    ring = np.array([0.1, 1 / 3, 4, 0, 4, 4])
    rows = (
        Annotation(1, 1, 0, (0.1, 0, 4, 4), (ring, ring + 5), 8.0, extra=extra),
        Annotation(2, 1, 0, (0, 0, 1, 1), None, 1.0),
    )
    record = ImageRecord(1, "a & <b>.png", (20, 20), {"split": "val"})
    data = Dataset(Classes(['<"é"> & co']), (record,), {1: rows}, None, Path("n"))
    cvat.save(tmp_path / "out", data, False)
    back = cvat.load(tmp_path / "out")
    assert back.classes.names == data.classes.names
    assert (back.images[0].file_name, back.images[0].extra) == ("a & <b>.png", {"split": "val"})
    assert back.of(0)[0].extra == extra
    np.testing.assert_array_equal(back.of(0)[0].segmentation, rows[0].segmentation)
    assert back.of(0)[1].box == (0, 0, 1, 1)
    assert back.of(0)[1].segmentation is None


def test_what_cannot_be_written(tmp_path: Path) -> None:
    def data(names: list[str], *landmarks: Landmarks | None) -> Dataset:
        record = ImageRecord(1, "x.png", (4, 4))
        return Dataset(Classes(names, landmarks=landmarks or None), (record,), {1: ()}, tmp_path, Path("n"))

    tip = Landmarks(("tip",))
    for broken, message in (
        (data(["a", "a"]), "several classes called 'a'"),
        (data(["a", "a landmarks"], tip, None), "'a landmarks' would clash with the skeleton of 'a'"),
        (data(["a"], Landmarks(("t", "t"))), "two landmarks of 'a' have one name"),
        (data(["a\x01"]), "which XML cannot"),
    ):
        with pytest.raises(DataError, match=message):
            cvat.save(tmp_path / "out", broken, False)
    with pytest.raises(ConfigError, match="one XML file holds no images"):
        cvat.save(tmp_path / "out.xml", data(["a"]), True)
    with pytest.raises(DataError, match="1 of 1 image files are missing"):
        cvat.save(tmp_path / "out", data(["a"]), True)
    assert list(tmp_path.iterdir()) == []
    lost = cvat.save(tmp_path / "m.xml", data(["a"], Landmarks(("x", "y"), mirrored=(1, 0))), False)
    assert lost == ("1 class lost the pairs that change places in a mirror (a).",)
    with pytest.raises(DataError, match="exists already"):
        formats.save(tmp_path / "m.xml", data(["a"]), "cvat")


# ---- faults ---------------------------------------------------------------------------------------------------------


BOX = '<box label="car" xtl="1" ytl="1" xbr="5" ybr="5"></box>'
FAULTS: dict[str, tuple[Any, str]] = {
    "label": (SQUARE.format("").replace("car", "cra"), r"line \d+: the label 'cra' is not .* Did you mean 'car'"),
    "no label": (SQUARE.format("").replace('label="car"', ""), r"line \d+: the shape has no label"),
    "two points": (
        '<polygon label="car" points="1,1;2,2"></polygon>',
        r"a polygon needs at least 3 points .*'1,1;2,2'",
    ),
    "no pairs": ('<polygon label="car" points="1,1;2,2;3"></polygon>', r"a polygon needs at least 3 points"),
    "text": ('<polygon label="car" points="1,1;2,x;3,3"></polygon>', r"points must be finite numbers"),
    "nan": ('<polygon label="car" points="1,1;2,nan;3,3"></polygon>', r"points must be finite numbers"),
    "far": ('<polygon label="car" points="1,1;2,2e7;3,3"></polygon>', r"line \d+: .*within 1000000 pixels"),
    "rle short": (MASK.replace("1, 2, 1, 3, 2", "1, 2"), r"rle must add up to its window of 3x3 = 9 pixels, got 3"),
    "rle text": (MASK.replace("1, 2, 1", "1, -2, 1"), r"rle must add up to .* got not all whole numbers"),
    "rle huge": (MASK.replace("1, 2, 1", f"1, {'9' * 5000}, 1"), r"rle must add up to .* got not all whole numbers"),
    "no rle": ('<mask label="car" left="0" top="0" width="1" height="1"></mask>', r"rle must add up to .* got 0"),
    "window": (MASK.replace('left="4"', 'left="28"'), r"the mask's window \(left 28, .* leaves the image of 20x30"),
    "left": (MASK.replace('left="4"', 'left="--4"'), r"'left' must be a whole number, got '--4'"),
    "box": (BOX.replace('xbr="5"', 'xbr="0"'), r"the box \[1.0, 1.0, 0.0, 5.0\] ends before it begins"),
    "box text": (BOX.replace('xbr="5"', 'xbr="five"'), r"'xbr' must be finite numbers, got 'five'"),
    "shape": ("<blob></blob>", r"<blob> is not a known shape"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_name_file_and_line(tmp_path: Path, name: str) -> None:
    text, message = FAULTS[name]
    write(tmp_path, text)
    with pytest.raises(DataError, match=message) as caught:
        cvat.load(tmp_path)
    assert "annotations.xml: line 1" in str(caught.value)


def test_faults_of_the_whole_file(tmp_path: Path) -> None:
    path = write(tmp_path, SQUARE.format("")) / "annotations.xml"
    good = path.read_text()
    bomb = '<!DOCTYPE a [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    for text, message in (
        (good[:-20], r"annotations\.xml: not valid XML at line \d+, column \d+"),
        ("", r"annotations\.xml: not valid XML at line 1"),
        (good.replace("<annotations>", bomb + "<annotations>", 1), r"line 2: document type declarations"),
        (good.replace("<annotations>", '<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotations>', 1), r"document type"),
        (good.replace("annotations>", "annotation>"), r"begins with <annotations>, this with <annotation>"),
        (good.replace('width="30"', 'width="wide"'), r"line \d+: 'width' must be a whole number, got 'wide'"),
        (good.replace('width="30"', 'width="0"'), r"height and width must be at least 1, got 20 and 0"),
        (good.replace('name="a.png"', ""), r"line \d+: the image has no name"),
        (good.replace("<name>car</name>", ""), r"line \d+: the label has no name"),
        (good.replace("</annotations>", '<track id="1" label="car"/></annotations>'), r"has both <image> and <track>"),
        ("<annotations></annotations>", r"no label of this file is a class"),
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=message) as caught:
            cvat.load(tmp_path)
        assert "annotations.xml" in str(caught.value)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"annotations\.xml: not valid XML"):
        cvat.load(tmp_path)
    with pytest.raises(DataError, match="cannot be read"):
        cvat.load(tmp_path / "gone.xml")
    with pytest.raises(DataError, match="the image folder of"):
        cvat.load(tmp_path, tmp_path / "gone")
    assert not cvat.recognise(tmp_path / "gone.xml")


def test_two_rows_of_one_frame(tmp_path: Path) -> None:
    row = BOX.replace("<box", '<box frame="3" outside="0"')
    with pytest.raises(DataError, match=r"annotations\.xml: line \d+: the track has two rows for frame 3"):
        cvat.load(video(tmp_path, f'<track id="0" label="car">{row}{row}</track>'))


def test_a_drawing_of_a_skeleton_is_read_as_safely(tmp_path: Path) -> None:
    labels = LABELS.replace("&lt;line", '&lt;!DOCTYPE svg [&lt;!ENTITY a "b"&gt;]&gt;&lt;line')
    with pytest.raises(DataError, match=r"the drawing of the skeleton 'pose': (line 1: a document|not valid XML)"):
        cvat.load(write(tmp_path, POSE.format("", 0), labels=labels))


@pytest.mark.parametrize(
    "stated", ["", 'width="" height=""', 'width="None" height="None"', 'width="null" height="null"']
)
def test_a_size_that_the_file_lacks_is_that_of_the_image(stated: str, tmp_path: Path) -> None:
    path = write(tmp_path, SQUARE.format("")) / "annotations.xml"
    path.write_text(path.read_text().replace('width="30" height="20">', f"{stated}>"))
    data = formats.load(tmp_path)
    assert data.images[0].size == (20, 30)
    assert data.notes == ("1 image without height and width in the file; they are those of the image files.",)
    (tmp_path / "images/a.png").unlink()
    with pytest.raises(DataError, match="'height' must be a whole number, got '"):
        formats.load(tmp_path)
