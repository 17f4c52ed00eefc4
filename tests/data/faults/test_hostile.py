"""Damaged sets that cost much: copies, rings that run around many times, removed records."""

import json
from pathlib import Path

import numpy as np

from maskwright.data.faults.check import check
from maskwright.data.faults.crossing import crosses_itself
from maskwright.data.faults.repair import repair
from maskwright.data.synthetic import coco_fixture


def test_each_of_many_copies_is_found_once(tmp_path: Path) -> None:
    path = coco_fixture(tmp_path, 1, images=2, size=(24, 32), objects=2)
    content = json.loads(path.read_text())
    one = content["annotations"][0]
    content["annotations"] += [{**one, "id": 10_000 + k} for k in range(40)]
    path.write_text(json.dumps(content))
    found = check(path).by_fault()["duplicate-object"]
    assert [f.at for f in found] == list(range(len(content["annotations"]) - 40, len(content["annotations"])))


def test_a_ring_that_runs_around_many_times() -> None:
    square = np.array([[0, 0], [9, 0], [9, 9], [0, 9]], np.float64)
    assert not crosses_itself(np.tile(square, (300, 1)))
    bow = np.array([[0, 0], [9, 9], [9, 0], [0, 9]], np.float64)
    assert crosses_itself(np.concatenate([np.tile(square, (300, 1)), bow]))


def test_a_wrong_size_of_an_image_whose_objects_were_removed(tmp_path: Path) -> None:
    path = coco_fixture(tmp_path, 1, images=2, size=(24, 32), objects=2)
    content = json.loads(path.read_text())
    content["images"][0] |= {"height": 12, "width": 16}
    for row in content["annotations"]:
        row |= {"segmentation": "gone", "bbox": None}
    path.write_text(json.dumps(content))
    assert repair(path, tmp_path / "out", drop=True).images
