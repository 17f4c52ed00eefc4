"""YouTube-VIS files: an image for each frame, a track for each object, and back."""

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from maskwright.data import formats
from maskwright.data.dataset import Dataset
from maskwright.data.formats import coco, youtube_vis
from maskwright.errors import DataError
from maskwright.types import Classes, Clip, Frame

SQUARE = [[1, 1, 5, 1, 5, 4, 1, 4]]
RUNS = {"size": [8, 10], "counts": [8, 3, 69]}


def content() -> dict[str, Any]:
    return {
        "info": {"version": "1"},
        "videos": [
            {"id": 7, "file_names": ["v7/0.png", "v7/5.png", "v7/10.png"], "width": 10, "height": 8, "length": 3,
             "license": 2},
            {"id": 0, "file_names": ["v0/a.png"], "width": 4, "height": 3, "length": 1},
        ],
        "annotations": [
            {"id": 12, "video_id": 7, "category_id": 3, "iscrowd": 0, "length": 3, "width": 10, "height": 8,
             "occlusion": "slight", "segmentations": [RUNS, None, SQUARE],
             "bboxes": [[1, 0, 1, 3], None, [1, 1, 4, 3]], "areas": [3, None, 12]},
            {"id": 5, "video_id": 7, "category_id": 1, "segmentations": [None, SQUARE, None]},
            {"id": 9, "video_id": 0, "category_id": 1, "segmentations": [None], "bboxes": [[0, 0, 2, 2]]},
        ],
        "categories": [{"id": 3, "name": "duck", "supercategory": "bird"}, {"id": 1, "name": "hen"}],
    }  # fmt: skip


def write(folder: Path, value: Any, images: bool = True) -> Path:
    for video in value["videos"] if images else ():
        for k, name in enumerate(video["file_names"]):
            path = folder / "JPEGImages" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (video["width"], video["height"]), 20 * k).save(path)
    path = folder / "instances.json"
    path.write_text(json.dumps(value))
    return path


def test_frames_become_images_and_rows_tracks(tmp_path: Path) -> None:
    path = write(tmp_path, content())
    assert formats.recognise(path).name == formats.recognise(tmp_path).name == "youtube_vis"
    data = formats.load(path)
    assert data.root == tmp_path / "JPEGImages"
    assert data.missing_files() == ()
    assert data.classes == Classes(["hen", "duck"], [1, 3])
    assert [(r.id, r.file_name, r.size) for r in data.images] == [
        (1, "v7/0.png", (8, 10)),
        (2, "v7/5.png", (8, 10)),
        (3, "v7/10.png", (8, 10)),
        (4, "v0/a.png", (3, 4)),
    ]
    assert data.images[2].frame == Frame(Clip(7, "v7"), 2)
    assert data.extra == {"info": {"version": "1"}, "videos": [{"id": 7, "license": 2}, {"id": 0}]}
    first, second, third, last = (data.of(i) for i in range(4))
    assert [(a.track_id, a.label, a.box, a.area, a.extra) for a in (*first, *second, *third)] == [
        (12, 1, (1, 0, 2, 3), 3, {"occlusion": "slight"}),
        (5, 0, (1, 1, 5, 4), 12, {}),
        (12, 1, (1, 1, 5, 4), 12, {"occlusion": "slight"}),
    ]
    assert (last[0].track_id, last[0].segmentation, last[0].area) == (9, None, 4)
    assert data.truth(0).track_ids.tolist() == [12]
    assert data.masks(0).areas().tolist() == [3]


def test_a_file_comes_back_as_it_was(tmp_path: Path) -> None:
    data = formats.load(write(tmp_path, content()))
    assert youtube_vis.save(tmp_path / "again.json", data, copy=False) == ()
    said = json.loads((tmp_path / "again.json").read_text())
    given = content()
    assert {v["id"]: v for v in said["videos"]} == {v["id"]: v for v in given["videos"]}
    assert said["info"] == given["info"]
    rows = {row["id"]: row for row in said["annotations"]}
    assert rows[12] == given["annotations"][0]
    assert rows[5]["bboxes"] == [None, [1, 1, 4, 3], None]
    assert rows[9]["segmentations"] == [None]
    assert formats.save(tmp_path / "set", data, "youtube_vis") == ()
    assert formats.load(tmp_path / "set").missing_files() == ()


def test_through_coco_and_back(tmp_path: Path) -> None:
    data = formats.load(write(tmp_path, content()))
    formats.save(tmp_path / "c", data, "coco")
    formats.save(tmp_path / "v.json", formats.load(tmp_path / "c"), "youtube_vis")
    rows = json.loads((tmp_path / "v.json").read_text())
    assert [v["file_names"] for v in rows["videos"]] == [v["file_names"] for v in content()["videos"]]
    assert {row["id"]: row["segmentations"][0] for row in rows["annotations"]} == {12: RUNS, 5: None, 9: None}


def test_sets_that_are_no_video(tmp_path: Path) -> None:
    """Tracks that two videos number alike, objects without track, frames out of order, images without video."""
    data = formats.load(write(tmp_path, content()))
    box = data.annotations[4][0]
    rows = {**data.annotations, 4: (replace(box, track_id=12), replace(box, id=77, track_id=None))}
    alone = replace(data.images[3], frame=None)
    mixed = replace(data, images=(data.images[2], data.images[0], data.images[1], alone), annotations=rows)
    lost = youtube_vis.save(tmp_path / "m.json", mixed, copy=False)
    assert lost == ("1 track renumbered: another video uses the same ids.",)
    again = formats.load(tmp_path / "m.json")
    assert [r.file_name for r in again.images] == ["v7/0.png", "v7/5.png", "v7/10.png", "v0/a.png"]
    assert [r.frame.clip.id for r in again.images] == [7, 7, 7, 8]
    assert [a.track_id for a in again.of(3)] == [13, 14]
    assert [a.track_id for a in again.of(0)] == [12]


def test_no_track_is_written_as_zero(tmp_path: Path) -> None:
    """CVAT's tracks begin with 0, and evaluation tools take a match with that id for a miss."""
    value = content()
    for row, number in zip(value["annotations"], (0, 4, 1), strict=True):
        row["id"] = number
    data = formats.load(write(tmp_path, value))
    lost = youtube_vis.save(tmp_path / "z.json", data, copy=False)
    assert lost == ("3 tracks with 1 added to the id: evaluation tools count a match with the id 0 as a miss.",)
    again = formats.load(tmp_path / "z.json")
    assert [[a.track_id for a in again.of(i)] for i in range(4)] == [[1], [5], [1], [2]]
    assert youtube_vis.save(tmp_path / "y.json", again, copy=False) == ()
    below = {1: tuple(replace(a, track_id=-2) for a in data.annotations[1]), 2: (), 3: (), 4: data.annotations[4]}
    assert youtube_vis.save(tmp_path / "x.json", replace(data, annotations=below), copy=False) == ()
    below[4] = tuple(replace(a, track_id=0) for a in below[4])
    youtube_vis.save(tmp_path / "w.json", replace(data, annotations=below), copy=False)
    assert [row["id"] for row in json.loads((tmp_path / "w.json").read_text())["annotations"]] == [1, 3]


def test_what_a_track_cannot_be(tmp_path: Path) -> None:
    data = formats.load(write(tmp_path, content()))
    (first,), (second,) = data.annotations[1], data.annotations[2]
    twice = replace(data, annotations={**data.annotations, 1: (first, replace(first, id=99))})
    other = replace(data, annotations={**data.annotations, 2: (replace(second, track_id=12),)})
    sizes = replace(data, images=(replace(data.images[0], size=(8, 11)), *data.images[1:]))
    for bad, said in (
        (twice, r"track 12 is twice in v7/0\.png \(annotation 99\)"),
        (other, r"track 12 changes its class or crowd flag in v7/5\.png"),
        (sizes, r"video 7 has frames of two sizes .*v7/0\.png of \(8, 11\) and v7/5\.png of \(8, 10\)"),
    ):
        with pytest.raises(DataError, match=said):
            youtube_vis.save(tmp_path / "bad", bad)
        assert not (tmp_path / "bad").exists()


def broken(section: str, position: int, **fields: Any) -> dict[str, Any]:
    value = copy.deepcopy(content())
    value[section][position].update(fields)
    return value


FAULTS = [
    (broken("videos", 0, id="x"), "video 0 of the list: 'id' must be an integer"),
    (broken("videos", 1, id=7), "the video id 7 is used twice"),
    (broken("videos", 0, length=4), "video id 7: 'length' says 4 frames, but 'file_names' has 3"),
    (broken("videos", 0, file_names=[1]), "video id 7: 'file_names' must be the list"),
    (broken("videos", 0, height=0), "video id 7: height and width must be at least 1"),
    (broken("annotations", 1, id=12), "the annotation id 12 is used twice"),
    (broken("annotations", 0, video_id=3), "annotation id 12: video_id 3 is not in the list 'videos'"),
    (broken("annotations", 0, category_id=2), "annotation id 12, frame 0: category_id 2 is not in the list"),
    (broken("annotations", 0, areas=[3]), "'areas' must have one entry for each of the 3 frames of video 7"),
    (broken("annotations", 0, segmentations={}), "'segmentations' must have one entry for each of the 3 frames"),
    (broken("annotations", 0, segmentations=[None, RUNS, [[1, 2, 3]]]), "annotation id 12, frame 2: a polygon needs"),
    (broken("annotations", 0, bboxes=[[1, 1, "x", 2], None, None]), "annotation id 12, frame 0: 'bbox' must be 4"),
    ({"videos": [], "annotations": []}, "a YouTube-VIS data set needs the list 'categories'"),
]


@pytest.mark.parametrize(("value", "said"), FAULTS, ids=[f[1][:30] for f in FAULTS])
def test_faults_say_where_and_what(tmp_path: Path, value: Any, said: str) -> None:
    path = write(tmp_path, value, images=False)
    with pytest.raises(DataError) as caught:
        youtube_vis.load(path)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)


def test_cut_off_files_and_objects_never_seen(tmp_path: Path) -> None:
    path = write(tmp_path, broken("annotations", 1, segmentations=[None, None, None]))
    assert youtube_vis.load(path).notes == ("1 object that no frame shows left out, annotation ids (5).",)
    path.write_text(path.read_text()[:-30])
    with pytest.raises(DataError, match=r"instances\.json: not valid JSON at line 1, column"):
        formats.load(path)


def test_real_clips_come_back(shared: Path, tmp_path: Path) -> None:
    source = shared / "data" / "desk5_video" / "annotations" / "instances_train.json"
    first: Dataset = formats.load(source)
    formats.save(tmp_path / "v.json", first, "youtube_vis")
    second = formats.load(tmp_path / "v.json", first.root)
    assert [r.file_name for r in second.images] == [r.file_name for r in first.images]
    for i in range(0, len(first), 15):
        for a, b in zip(first.of(i), second.of(i), strict=True):
            assert (a.track_id, a.label, a.box, a.area) == (b.track_id, b.label, b.box, b.area)
            np.testing.assert_array_equal(a.segmentation, b.segmentation)
    coco.save(tmp_path / "c.json", second)
    assert len(coco.load(tmp_path / "c.json")) == 150


@pytest.mark.parametrize("null", [True, False])
def test_sizes_that_the_file_lacks_are_those_of_the_first_frames(null: bool, tmp_path: Path) -> None:
    path, value = write(tmp_path, content()), content()
    for key in ("width", "height"):
        value["videos"][0].pop(key)
        value["videos"][0] |= {key: None} if null else {}
    path.write_text(json.dumps(value))
    data = formats.load(path)
    assert [r.size for r in data.images] == [(8, 10)] * 3 + [(3, 4)]
    told = "1 video without height and width in the file; they are those of the first frame (v7/0.png)."
    assert told in data.notes
    (tmp_path / "JPEGImages/v7/0.png").unlink()
    with pytest.raises(DataError, match=rf"video id 7: .* {'null' if null else 'missing'}, and the image"):
        formats.load(path)
