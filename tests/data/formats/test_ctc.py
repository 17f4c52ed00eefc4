"""Folders of the Cell Tracking Challenge: ground truth as a data set, results as tracks, and what is refused."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskwright.data import formats
from maskwright.data.formats import ctc
from maskwright.errors import DataError

SIZE = (8, 10)
TABLE = "1 0 1 0\n2 2 2 1\n3 2 2 1\n"


def labels(path: Path, blocks: Mapping[int, tuple[int, int, int, int]], size: tuple[int, int] = SIZE) -> None:
    """A label image; blocks: top, bottom, left, right of each label."""
    values = np.zeros(size, np.uint16)
    for label, (top, bottom, left, right) in blocks.items():
        values[top:bottom, left:right] = label
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


FRAMES = [{1: (0, 4, 0, 4)}, {1: (0, 4, 1, 5)}, {2: (0, 2, 1, 5), 3: (2, 4, 1, 5)}]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A cell that divides, in two videos; SEG for one frame of the first."""
    for video in ("01", "02"):
        for t, blocks in enumerate(FRAMES):
            labels(tmp_path / f"{video}_GT/TRA/man_track{t:03d}.tif", blocks)
            labels(tmp_path / f"{video}_RES/mask{t:03d}.tif", blocks)
            labels(tmp_path / video / f"t{t:03d}.tif", {})
        (tmp_path / f"{video}_GT/TRA/man_track.txt").write_text(TABLE)
        (tmp_path / f"{video}_RES/res_track.txt").write_text(TABLE)
    labels(tmp_path / "01_GT/SEG/man_seg001.tif", {9: (0, 5, 0, 6)})
    return tmp_path


def test_the_tracks_are_annotations_with_parents(place: Path) -> None:
    data = formats.load(place)
    assert formats.recognise(place).name == formats.recognise(place / "01_GT").name == "ctc"
    assert [record.file_name for record in data.images[:3]] == ["01/t000.tif", "01/t001.tif", "01/t002.tif"]
    assert data.missing_files() == ()
    assert {clip.name: len(frames) for clip, frames in data.clips.items()} == {"01": 3, "02": 3}
    rows = [[(a.track_id, a.extra.get("parent"), a.area) for a in data.of(i)] for i in range(6)]
    assert rows[:3] == [[(1, None, 16)], [(1, None, 16)], [(2, 1, 8), (3, 1, 8)]]
    assert rows[3:] == [[(4, None, 16)], [(4, None, 16)], [(5, 4, 8), (6, 4, 8)]]
    assert (data.masks(1).dense()[0] == (np.array(Image.open(place / "01_GT/TRA/man_track001.tif")) == 1)).all()


def test_outlines_are_those_of_seg_where_it_has_the_frame(place: Path) -> None:
    data = formats.load(place)
    assert data.outline_maps is not None
    assert [data.outline_maps(record) is not None for record in data.images] == [False, True] + [False] * 4
    drawn = data.outline_maps(data.images[1])
    assert drawn is not None
    assert drawn.areas().tolist() == [30]
    assert "outlines (SEG) of 1 image." in data.notes[-1]
    assert formats.load(place / "02_GT").outline_maps is None


def test_parents_survive_youtube_vis(place: Path, tmp_path: Path) -> None:
    lost = formats.save(tmp_path / "copy.json", formats.load(place), "youtube_vis")
    again = formats.load(tmp_path / "copy.json")
    assert [(a.track_id, a.extra.get("parent")) for a in again.of(5)] == [(5, 4), (6, 4)]
    assert any("masks beside the markers" in sentence for sentence in lost)


def test_results_are_tracks_with_parents(place: Path) -> None:
    data = formats.load(place)
    results = ctc.read_results(place, data)
    second = list(data.clips)[1]
    found = dict(results.frames(second))
    assert list(found) == [3, 4, 5]
    assert found[5].track_ids is not None
    assert found[5].track_ids.tolist() == [2, 3]
    assert {i: facts.parent for i, facts in results.tracks[second.id].items()} == {1: None, 2: 1, 3: 1}
    one = formats.load(place / "01_GT")
    assert [position for position, _ in ctc.read_results(place / "01_RES", one).frames(next(iter(one.clips)))] == [
        0,
        1,
        2,
    ]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("1 0 1\n", "line 1: expected four whole numbers"),
        ("1 0 -1 0\n", "line 1: expected four whole numbers"),
        ("\n0 0 1 0\n", "line 2: 0 is background"),
        ("1 0 1 0\n1 0 1 0\n", "line 2: label 1 occurs twice"),
        ("1 1 0 0\n", "ends before it begins"),
        ("1 0 1 7\n", "its parent 7 has no line"),
        ("1 0 1 0\n2 1 2 1\n", "its parent 1 ends in frame 1"),
        ("1 0 1 0\n2 2 2 1\n", "track 3: it is shown, and has no line"),
        ("1 0 0 0\n2 2 2 1\n3 2 2 1\n", "track 1: it is shown, and says frames 0 to 0"),
        (TABLE + "4 0 0 0\n", "track 4: it has frames 0 to 0, but no image shows it"),
        ("1 0 1 0\n2 2 9 1\n3 2 2 1\n", "track 2: it has frames 2 to 9, but images show it from 2 to 2"),
    ],
)
def test_tables_that_cannot_be_are_refused(place: Path, table: str, words: str) -> None:
    (place / "01_GT/TRA/man_track.txt").write_text(table)
    with pytest.raises(DataError, match=words):
        formats.load(place)


def test_tables_with_tabs_and_empty_lines_are_read(place: Path) -> None:
    (place / "01_GT/TRA/man_track.txt").write_bytes(TABLE.replace(" ", "\t").replace("\n", "\r\n\r\n").encode())
    assert len(formats.load(place)) == 6


def test_volumes_are_refused(place: Path) -> None:
    pages = [Image.fromarray(np.zeros(SIZE, np.uint16)) for _ in range(3)]
    pages[0].save(place / "01_GT/TRA/man_track001.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(DataError, match="3 planes; volumes"):
        formats.load(place)


def test_outlines_of_another_size_are_refused(place: Path) -> None:
    labels(place / "01_GT/SEG/man_seg001.tif", {1: (0, 2, 0, 2)}, (9, 10))
    data = formats.load(place)
    assert data.outline_maps is not None
    with pytest.raises(DataError, match=r"man_seg001.tif: is \(9, 10\)"):
        data.outline_maps(data.images[1])


def test_results_that_lack_something_are_refused(place: Path) -> None:
    data = formats.load(place)
    first = next(iter(data.clips))
    (place / "01_RES/mask001.tif").unlink()
    with pytest.raises(
        DataError, match=r"1 of 3 frames of video '01' have no image of results; the first is mask001\.tif"
    ):
        list(ctc.read_results(place, data).frames(first))
    labels(place / "01_RES/mask001.tif", FRAMES[1], (8, 11))
    with pytest.raises(DataError, match=r"is \(8, 11\)"):
        list(ctc.read_results(place, data).frames(first))
    shutil.rmtree(place / "02_RES")
    with pytest.raises(DataError, match="no results of video '02'"):
        ctc.read_results(place, data)
