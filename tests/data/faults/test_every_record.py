"""The check goes on after a bad record, in every format: all are named, and good ones are still checked."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskwright import media
from maskwright.data import formats
from maskwright.data.faults.check import check
from maskwright.data.faults.repair import repair
from maskwright.data.formats.table import FORMATS
from maskwright.errors import DataError


def three(folder: Path) -> Path:
    """COCO with three images of an object each, and one more in the last, which covers the same pixels."""
    images, annotations = [], []
    for k in range(3):
        pixels = np.random.default_rng(k).integers(0, 256, (20, 30, 3), np.uint8)
        media.write_image(folder / f"images/{k}.png", pixels)
        images.append({"id": k + 1, "file_name": f"{k}.png", "height": 20, "width": 30})
    for k, image in enumerate((1, 2, 3, 3), start=1):
        corners = [5, 5, 15, 5, 15, 15, 5, 15]
        row = {"id": k, "image_id": image, "category_id": 1, "segmentation": [corners], "bbox": [5, 5, 10, 10]}
        annotations.append({**row, "area": 100, "iscrowd": 0})
    path = folder / "annotations.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "c"}]}))
    return path


def replaced(path: Path, old: str, new: str, count: int = 2) -> None:
    text = path.read_text()
    assert len(re.findall(old, text)) >= count
    path.write_text(re.sub(old, new, text, count=count))


def edited(path: Path, change: Callable[[dict[str, list[dict[str, object]]]], None]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def bad_shapes(folder: Path) -> list[str]:
    replaced(folder / "annotations.xml", 'points="[^"]*"', 'points="1,2"')
    return ["annotations.xml: line", "annotations.xml: line"]


def bad_boxes(folder: Path) -> list[str]:
    for kind in ("SegmentationObject", "SegmentationClass"):
        for path in (folder / kind).iterdir():
            path.unlink()
        (folder / kind).rmdir()
    for k in range(2):
        replaced(folder / f"Annotations/{k}.xml", "<xmin>", "<xmin>x", 1)
    return ["0.xml: line", "1.xml: line"]


def bad_classes(folder: Path) -> list[str]:
    for k in range(2):
        path = folder / f"SegmentationClass/{k}.png"
        with Image.open(path) as image:
            pixels = np.where(np.asarray(image) == 1, 77, 0).astype(np.uint8)
        Image.fromarray(pixels).save(path)
    return ["0.png: object 1", "1.png: object 1"]


def cut_masks(folder: Path) -> list[str]:
    names = sorted(path for path in folder.rglob("*.png") if "masks" in path.parts)[:2]
    for path in names:
        path.write_bytes(path.read_bytes()[:40])
    return [str(path.relative_to(folder)) for path in names]


def bad_tracks(folder: Path) -> list[str]:
    def change(content: dict[str, list[dict[str, object]]]) -> None:
        for row in content["annotations"][:2]:
            row["category_id"] = 99

    edited(folder / "instances.json", change)
    return ["annotation id 1, frame 0", "annotation id 2, frame 0"]


def bad_parts(folder: Path) -> list[str]:
    """COCO in two files, with a bad row in each."""
    for part in ("train", "valid"):
        three(folder / part).rename(folder / part / "_annotations.coco.json")
        (folder / part / "images").rename(folder / part / "data")

        def change(content: dict[str, list[dict[str, object]]]) -> None:
            content["annotations"][0]["bbox"] = [1, 2]

        edited(folder / part / "_annotations.coco.json", change)
    return ["train/_annotations.coco.json: annotation id 1", "valid/_annotations.coco.json: annotation id 1"]


def bad_lines(folder: Path) -> list[str]:
    for k in range(2):
        next(folder.rglob(f"{k}.txt")).write_text("0 0.5\n")
    return ["0.txt: line 1", "1.txt: line 1"]


def bad_files(folder: Path) -> list[str]:
    for k in range(2):
        replaced(folder / f"{k}.json", '"polygon"', '"cube"', 1)
    return ["0.json: shape 0", "1.json: shape 0"]


def bad_segments(folder: Path) -> list[str]:
    def change(content: dict[str, list[dict[str, object]]]) -> None:
        for row in content["annotations"][:2]:
            row["segments_info"] = []

    edited(folder / "panoptic.json", change)
    return ["annotation of image id 1", "annotation of image id 2"]


def bad_tasks(folder: Path) -> list[str]:
    tasks = []
    for k in range(4):
        corners = [[16.6, 25], [50, 25], [50, 75], [16.6, 75]][: 2 if k < 2 else 4]
        value = {"points": corners, "polygonlabels": ["c"]}
        result = {"type": "polygonlabels", "original_width": 30, "original_height": 20, "value": value}
        tasks.append({"id": k, "data": {"image": f"{min(k, 2)}.png"}, "annotations": [{"result": [result]}]})
    tasks[2]["annotations"][0]["result"] *= 2
    three(folder)
    (folder / "annotations.json").write_text(json.dumps(tasks[:3]))
    return ["task id 0, polygon 'c'", "task id 1, polygon 'c'"]


def bad_labels(folder: Path) -> list[str]:
    """A video of three frames with an object each, and labels in two of them that the table lacks."""
    for k in range(3):
        values = np.zeros((20, 30), np.uint16)
        values[2:8, 2:8] = 1
        values[10:15, 10:15] = 7 if k < 2 else 0
        for path in (folder / f"01/t{k:03d}.tif", folder / f"01_GT/TRA/man_track{k:03d}.tif"):
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(values).save(path)
    (folder / "01_GT/TRA/man_track.txt").write_text("1 0 2 0\n")
    return ["man_track000.tif: track 7", "man_track001.tif: track 7"]


DAMAGE: list[tuple[str, Callable[[Path], list[str]]]] = [
    ("coco", bad_parts),
    ("coco_panoptic", bad_segments),
    ("yolo", bad_lines),
    ("masks", cut_masks),
    ("foreground", cut_masks),
    ("dsb2018", cut_masks),
    ("youtube_vis", bad_tracks),
    ("labelme", bad_files),
    ("voc", bad_classes),
    ("voc", bad_boxes),
    ("cvat", bad_shapes),
    ("label_studio", bad_tasks),
    ("ctc", bad_labels),
]


def test_all_formats_are_tried() -> None:
    assert {name for name, _ in DAMAGE} == set(FORMATS)


@pytest.mark.parametrize(("name", "damage"), DAMAGE)
def test_the_check_names_every_bad_record(name: str, damage: Callable[[Path], list[str]], tmp_path: Path) -> None:
    place = tmp_path / "set"
    if damage not in (bad_parts, bad_tasks, bad_labels):
        data = formats.load(three(tmp_path))
        formats.save(place, data, "masks" if name == "foreground" else name)
    places = damage(place)
    with pytest.raises(DataError):
        formats.load(place, format=name)
    found = check(place, format=name).by_fault()
    assert "unreadable-annotations" not in found
    said = [f"{f.where}: {f.message}" for f in found["malformed-record"]]
    assert len(said) == 2
    for where, text in zip(places, said, strict=True):
        assert where in text
    if name not in (
        "masks",
        "foreground",
        "voc",
        "ctc",
        "coco_panoptic",
    ):  # an object that lies over another has no pixel there
        assert len(found["duplicate-object"]) == (2 if name == "coco" else 1)
    repair(place, tmp_path / "out", format=name, drop=True)
    kept = formats.load(tmp_path / "out")
    assert {r.file_name.rpartition("/")[2] for i, r in enumerate(kept.images) if kept.of(i)} & {
        "2.png",
        "t002.tif",
        "t002.png",
    }


def test_masks_and_images_without_the_other_are_all_named(tmp_path: Path) -> None:
    formats.save(tmp_path / "set", formats.load(three(tmp_path)), "masks")
    for k in range(2):
        (tmp_path / f"set/masks/{k}.png").rename(tmp_path / f"set/masks/other {k}.png")
    found = check(tmp_path / "set").by_fault()["malformed-record"]
    assert [Path(f.where).name for f in found] == ["other 0.png", "other 1.png", "0.png", "1.png"]


def test_the_annotations_of_a_bad_image_record_are_not_faults_of_their_own(tmp_path: Path) -> None:
    bad_parts(tmp_path)

    def change(content: dict[str, list[dict[str, object]]]) -> None:
        content["images"][1]["height"] = "tall"

    edited(tmp_path / "train/_annotations.coco.json", change)
    found = check(tmp_path).by_fault()["malformed-record"]
    assert ["image id 2" in f.where for f in found] == [True, False, False]
