"""Which frame of which clip an image is, in the formats that have fields for it."""

import json
from pathlib import Path
from typing import Any

import pytest

from maskwright.data import formats
from maskwright.data.dataset import Dataset
from maskwright.data.formats import coco
from maskwright.data.formats.shared.fields import frame_fields, split_frame
from maskwright.data.synthetic import clips_fixture
from maskwright.types import Clip, Frame


@pytest.mark.parametrize("frame", [Frame(Clip(3), 0), Frame(Clip(3, "yard"), 7)])
def test_fields_and_frame_are_one_thing(frame: Frame) -> None:
    assert split_frame({"license": 4, **frame_fields(frame)}) == (frame, {"license": 4})
    assert frame_fields(None) == {}


@pytest.mark.parametrize(
    "fields", [{}, {"video_id": 3}, {"frame_index": 3}, {"video_id": "3", "frame_index": 0}, {"video_id": True}]
)
def test_fields_that_name_no_frame_stay_as_they_are(fields: dict[str, Any]) -> None:
    assert split_frame(fields) == (None, fields)


def test_coco_counts_frames_where_the_file_does_not(tmp_path: Path) -> None:
    rows = [
        {"id": k, "file_name": f"{k}.png", "height": 4, "width": 4, "video_id": 7 + k % 2, "frame_id": k}
        for k in range(4)
    ]
    content = {"images": rows, "annotations": [], "categories": [{"id": 1, "name": "a"}]}
    (tmp_path / "a.json").write_text(json.dumps(content))
    data = coco.load(tmp_path / "a.json")
    assert [r.frame for r in data.images] == [Frame(Clip(7 + k % 2), k // 2) for k in range(4)]
    assert data.images[3].extra == {"frame_id": 3}


@pytest.mark.parametrize("name", ["coco", "youtube_vis", "labelme"])
def test_clips_come_back(tmp_path: Path, name: str) -> None:
    data: Dataset = clips_fixture(5, tmp_path / "clips", clips=2, frames=3, objects=3)
    formats.save(tmp_path / "out", data, name)
    again = formats.load(tmp_path / "out")
    frames = {r.file_name: r.frame for r in again.images}
    for record in data.images:
        found = frames[record.file_name]
        assert found is not None
        assert record.frame is not None
        assert (found.clip.id, found.index) == (record.frame.clip.id, record.frame.index)
