"""The repair: each fault that can be repaired is gone from the copy, and the original keeps every byte."""

import copy
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.data.faults.seeded_faults import (
    SEEDS,
    Content,
    Row,
    Seed,
    exif,
    image_of,
    keypoints,
    lengths,
    make,
    outline,
    polygon,
    seeded,
)
from typer.testing import CliRunner

from maskwright import media
from maskwright.cli import app
from maskwright.data import formats
from maskwright.data.faults.check import CheckedSet, examine, prepare
from maskwright.data.faults.fixes import FIXES
from maskwright.data.faults.repair import RepairReport, repair
from maskwright.data.formats import coco
from maskwright.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean training set with a clean validation set in its folder val/."""
    folder = tmp_path_factory.mktemp("clean")
    make(folder)
    return folder


def mend(folder: Path, *, val: bool = False) -> RepairReport:
    sides = {"val": folder / "val/annotations.json", "val_images": folder / "val/images"} if val else {}
    return repair(folder / "annotations.json", folder.parent / "out", folder / "images", drop=True, **sides)


def bytes_of(folder: Path) -> Mapping[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.mark.parametrize("fault", [name for name, seed in SEEDS.items() if name in FIXES])
def test_a_repaired_copy_is_clean_and_the_original_untouched(fault: str, clean: Path, tmp_path: Path) -> None:
    seed, folder = SEEDS[fault], tmp_path / "set"
    seeded(clean, folder, seed)
    before = bytes_of(folder)
    done = mend(folder, val=fault == "in-train-and-val")
    assert bytes_of(folder) == before
    assert fault in {f.fault for f, _ in done.done}, done.text()
    assert {f.fault for f in done.after.findings} <= {"empty-image"}, done.text()
    data = coco.load(tmp_path / "out/annotations.json", tmp_path / "out/images")
    for i in range(len(data)):
        data.image(i)
        if data.has_masks:
            data.masks(i)


def result(folder: Path) -> dict[str, Any]:
    out: dict[str, Any] = json.loads((folder.parent / "out/annotations.json").read_text())
    return out


@pytest.mark.parametrize("fault", ["self-crossing", "repeated-points", "crowd-as-polygon"])
def test_outlines_are_rewritten_so_that_the_mask_stays_the_same(fault: str, clean: Path, tmp_path: Path) -> None:
    seeded(clean, tmp_path / "set", SEEDS[fault])
    mend(tmp_path / "set")
    masks = [
        {a.id: m.dense().tobytes() for i in range(len(d)) for a, m in zip(d.of(i), d.masks(i), strict=True)}
        for d in (coco.load(tmp_path / place / "annotations.json") for place in ("set", "out"))
    ]
    assert masks[0] == masks[1]


@pytest.mark.parametrize(
    "fault",
    [
        "box-as-corners",
        "bad-box",
        "rle-size",
        "rle-length",
        "missing-field",
        "box-mask-disagree",
        "odd-count",
        "bad-area",
    ],
)
def test_what_can_be_restored_is(fault: str, clean: Path, tmp_path: Path) -> None:
    seeded(clean, tmp_path / "set", SEEDS[fault])
    mend(tmp_path / "set")
    first, second = coco.load(clean / "annotations.json"), coco.load(tmp_path / "out/annotations.json")
    for i in range(len(first)):
        assert [(a.id, a.box, a.area) for a in first.of(i)] == [(a.id, a.box, a.area) for a in second.of(i)]
        np.testing.assert_array_equal(first.masks(i).dense(), second.masks(i).dense())


def test_fractions_become_the_pixels_they_were(clean: Path, tmp_path: Path) -> None:
    seeded(clean, tmp_path / "set", SEEDS["normalised-coordinates"])
    mend(tmp_path / "set")
    before, after = json.loads((clean / "annotations.json").read_text()), result(tmp_path / "set")
    for a, b in zip(before["annotations"], after["annotations"], strict=True):
        np.testing.assert_allclose(a["bbox"], b["bbox"], atol=1e-9)
        if isinstance(a["segmentation"], list):
            for one, other in zip(a["segmentation"], b["segmentation"], strict=True):
                np.testing.assert_allclose(one, other, atol=1e-9)


@pytest.mark.parametrize("fields", [("bbox",), ("segmentation",), ("keypoints",), ("bbox", "segmentation")])
def test_each_field_has_units_of_its_own(fields: tuple[str, ...], clean: Path, tmp_path: Path) -> None:
    """An outline in 0..1 beside a box in pixels was left out as an object without area."""
    points = [40.0, 45.0, 2, 60.0, 50.0, 1]

    def ruin(f: Path, c: Content) -> None:
        keypoints(c, list(points), num_keypoints=2)
        for row in (r for r in c["annotations"] if isinstance(r["segmentation"], list) and not r["iscrowd"]):
            image = image_of(c, row)
            w, h = image["width"], image["height"]
            for name in fields:
                if name == "segmentation":
                    row[name] = [[v / (w, h)[k % 2] for k, v in enumerate(part)] for part in row[name]]
                elif name in row:
                    row[name] = [v / (w, h, 1, w, h, 1)[k] if name == "keypoints" else v / (w, h)[k % 2]
                                 for k, v in enumerate(row[name])]  # fmt: skip

    seeded(clean, tmp_path / "set", Seed(ruin))
    done = repair(tmp_path / "set/annotations.json", tmp_path / "out", tmp_path / "set/images")
    assert {f.fault for f, _ in done.done} == {"normalised-coordinates"}
    before, after = coco.load(clean / "annotations.json"), coco.load(tmp_path / "out/annotations.json")
    for i in range(len(before)):
        np.testing.assert_allclose(after.boxes(i), before.boxes(i), rtol=1e-5)
        assert after.masks(i).areas().tolist() == before.masks(i).areas().tolist()
    np.testing.assert_allclose(polygon(result(tmp_path / "set"))["keypoints"], points)


def test_a_repair_that_would_lose_many_objects_asks_first(clean: Path, tmp_path: Path) -> None:
    folder = tmp_path / "set"
    seeded(clean, folder, SEEDS["outline-outside"])
    place = folder / "annotations.json", tmp_path / "out", folder / "images"
    with pytest.raises(
        DataError, match=r"leave out 1 of \d+ objects .*\(outline-outside 1\).*first is annotation"
    ) as error:
        repair(*place)
    assert error.value.options == ("drop",)
    assert not (tmp_path / "out").exists()
    assert repair(*place, drop=True).after.count("error") == 0
    told = CliRunner().invoke(
        app, ["data", "check", str(place[0]), "--images", str(place[2]), "--fix", str(folder / "f")]
    )
    assert told.exit_code == 2
    assert "(--drop)" in told.output


TEXTS: dict[str, Callable[[Row], object]] = {
    "box": lambda r: r.update(bbox=[str(v) for v in r["bbox"]]),
    "box as one text": lambda r: r.update(bbox=str(r["bbox"])),
    "area": lambda r: r.update(area=str(r["area"])),
    "outline": lambda r: r.update(segmentation=[[str(v) for v in part] for part in r["segmentation"]]),
    "outline as one text": lambda r: r.update(segmentation=json.dumps(r["segmentation"])),
    "keypoints": lambda r: r.update(keypoints=[str(v) for v in r["keypoints"]]),
    "Python": lambda r: r.update(segmentation=repr(r["segmentation"]), bbox=repr(tuple(r["bbox"]))),
}


@pytest.mark.parametrize("write", TEXTS.values(), ids=list(TEXTS))
def test_numbers_that_are_text_become_the_numbers(write: Callable[[Row], object], clean: Path, tmp_path: Path) -> None:
    wanted: Row = {}

    def ruin(f: Path, c: Content) -> None:
        keypoints(c, [40, 45.5, 2, 60, 50, 1], num_keypoints=2)
        wanted.update(copy.deepcopy(polygon(c)))
        write(polygon(c))

    seeded(clean, tmp_path / "set", Seed(ruin))
    done = repair(tmp_path / "set/annotations.json", tmp_path / "out", tmp_path / "set/images")
    assert [f.fault for f, _ in done.done] == ["number-as-text"]
    assert next(r for r in result(tmp_path / "set")["annotations"] if r["id"] == wanted["id"]) == wanted


@pytest.mark.parametrize("write", [lambda s: str(s.encode()), lambda s: f'b"{s}"'.replace("\\", "\\\\")])
def test_run_lengths_as_python_prints_them_are_read(write: Callable[[str], str], clean: Path, tmp_path: Path) -> None:
    kept = lengths(json.loads((clean / "annotations.json").read_text()))["segmentation"]
    seeded(clean, tmp_path / "set", Seed(lambda f, c: lengths(c)["segmentation"].update(counts=write(kept["counts"]))))
    done = repair(tmp_path / "set/annotations.json", tmp_path / "out", tmp_path / "set/images")
    assert [f.fault for f, _ in done.done] == ["number-as-text"]
    assert lengths(result(tmp_path / "set"))["segmentation"] == kept


@pytest.mark.parametrize("turn", range(2, 9))
def test_a_turned_image_is_written_as_its_annotations_see_it(turn: int, clean: Path, tmp_path: Path) -> None:
    folder = tmp_path / "set"
    seeded(clean, folder, Seed(lambda f, c: exif(f, "0001.png", turn)))
    done = mend(folder)
    with Image.open(clean / "images/0001.png") as image:
        stored = np.asarray(image)
    record = result(folder)["images"][1]
    written = media.read_image(tmp_path / "out/images" / record["file_name"])
    if turn >= 5:  # sizes are exchanged, so it is sure that the annotations mean the pixels as stored
        np.testing.assert_array_equal(written, stored)
    else:
        assert [f.fault for f, _ in done.left] == ["exif-tag", "empty-image"]
        assert (tmp_path / "out/images/0001.png").read_bytes() == (folder / "images/0001.png").read_bytes()


def photos(folder: Path, rows: Mapping[str, tuple[int, int]], *, upright: bool = True) -> Path:
    """JPEGs without objects: file name to (what it shows, EXIF orientation). upright: annotated as it is shown."""
    (folder / "images").mkdir(parents=True)
    records = []
    for number, (name, (seed, turn)) in enumerate(rows.items(), start=1):
        pixels = np.random.default_rng(seed).integers(0, 256, (5, 8, 3), np.uint8)
        tags = Image.Exif()
        tags[0x0112] = turn
        image = Image.fromarray(pixels).resize((48, 30), Image.Resampling.BICUBIC)
        image.save(folder / "images" / name, quality=95, exif=tags)
        height, width = (48, 30) if upright and turn >= 5 else (30, 48)
        records.append({"id": number, "file_name": name, "height": height, "width": width})
    content = {"images": records, "annotations": [], "categories": [{"id": 1, "name": "cell"}]}
    (folder / "annotations.json").write_text(json.dumps(content))
    return folder


SIX = {"a.jpg": (1, 6), "b.jpg": (2, 1), "c.jpg": (3, 6), "d.jpg": (4, 1), "e.jpg": (5, 6), "f.jpg": (6, 1)}


@pytest.mark.parametrize("upright", [True, False])
def test_different_turned_images_all_stay(upright: bool, tmp_path: Path) -> None:
    done = mend(photos(tmp_path / "set", SIX, upright=upright))
    assert [Path(r["file_name"]).stem for r in result(tmp_path / "set")["images"]] == list("abcdef"), done.text()
    assert sum(f.fault in ("exif-tag", "exif-rotation") for f, _ in done.done) == 3
    assert done.images == 6


@pytest.mark.parametrize("upright", [True, False])
def test_the_same_turned_image_is_kept_once(upright: bool, tmp_path: Path) -> None:
    done = mend(photos(tmp_path / "set", {**SIX, "g.jpg": (3, 6), "h.jpg": (4, 1)}, upright=upright))
    assert [f.where for f, _ in done.done if f.fault == "duplicate-image"] == [
        "image 7 (g.jpg)", "image 8 (h.jpg)",
    ]  # fmt: skip
    assert len(result(tmp_path / "set")["images"]) == done.images == 6


def test_an_image_that_shows_another_only_once_its_tag_is_gone_is_found(tmp_path: Path) -> None:
    folder = photos(tmp_path / "set", SIX, upright=False)
    with Image.open(folder / "images/c.jpg") as image:
        Image.fromarray(np.asarray(image)).save(folder / "images/d.png")  # as stored
    content = json.loads((folder / "annotations.json").read_text())
    content["images"][3]["file_name"] = "d.png"
    (folder / "annotations.json").write_text(json.dumps(content))
    done = mend(folder)
    assert [(f.where, f.message) for f, _ in done.done if f.fault == "duplicate-image"] == [
        ("image 4 (d.png)", "the same pixels as image 3 (c.png)"),
    ]


@pytest.mark.parametrize("upright", [True, False])
def test_turned_images_that_validation_has_are_told_after_the_turn(upright: bool, tmp_path: Path) -> None:
    """Most are in validation, so none is dropped, and the tags are taken away nonetheless."""
    folder = photos(tmp_path / "set", SIX, upright=upright)
    others = {"v.jpg": (1, 6), "w.jpg": (3, 6), "x.jpg": (5, 6), "y.jpg": (6, 1), "z.jpg": (9, 6)}
    photos(folder / "val", others, upright=upright)
    done = mend(folder, val=True)
    assert len(result(folder)["images"]) == 6
    told = {f.where.rpartition("(")[2]: f.message for f, _ in done.left if f.fault == "in-train-and-val"}
    assert {name: text.split(" in ")[0] for name, text in told.items()} == {
        "a.png)": "the same bytes as v.jpg",
        "c.png)": "the same bytes as w.jpg",
        "e.png)": "the same bytes as x.jpg",
        "f.jpg)": "the same bytes as y.jpg",
    }


def test_an_unknown_hash_equals_none(tmp_path: Path) -> None:
    """A look that was not taken at the bytes or the pixels has empty hashes."""
    folder = photos(tmp_path / "set", SIX)
    material, _ = prepare(folder, None)
    bare = {at: replace(look, digest=b"", pixels=b"") for at, look in material.looks.items()}
    blind = CheckedSet(material.rows, material.folder, bare)
    assert {f.fault for f in examine(blind, blind)} & {"duplicate-image", "in-train-and-val"} == set()


def test_the_objects_of_an_image_that_was_resized_are_scaled(clean: Path, tmp_path: Path) -> None:
    folder = tmp_path / "set"

    def halve(f: Path, c: Content) -> None:
        source_image = c["images"][1]
        c["annotations"] = [r for r in c["annotations"] if r["image_id"] != source_image["id"] or r is polygon(c)]
        outline(polygon(c), [100, 80, 120, 80, 120, 98, 100, 98])
        source_image.update(width=132, height=98)
        with Image.open(f / "images/0001.png") as image:
            image.resize((66, 49)).save(f / "images/0001.png")

    seeded(clean, folder, Seed(halve))
    mend(folder)
    row = polygon(result(folder))
    assert row["segmentation"] == [[50, 40, 60, 40, 60, 49, 50, 49]]
    assert (row["bbox"], row["area"]) == ([50, 40, 10, 9], 90)


def test_nothing_is_removed_from_an_image_in_doubt(clean: Path, tmp_path: Path) -> None:
    seeded(clean, tmp_path / "set", SEEDS["exchanged-axes"])
    before = json.loads((tmp_path / "set/annotations.json").read_text())
    done = mend(tmp_path / "set")
    assert done.done == ()
    assert result(tmp_path / "set") == before
    assert "exchanged-axes" in {f.fault for f, _ in done.left}


def test_a_wrong_folder_does_not_empty_the_set(clean: Path, tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    done = repair(clean / "annotations.json", tmp_path / "out", tmp_path / "nothing")
    assert done.done == ()
    assert len(result(tmp_path / "set")["images"]) == 6
    assert "image folder" in done.left[0][1]
    same = repair(clean / "annotations.json", tmp_path / "two", clean / "images", val=clean / "annotations.json")
    assert same.done == ()
    assert "validation set" in same.left[0][1]


def misnamed(old: str, new: str, **more: Any) -> Seed:
    """The record of an image gets another name."""

    def ruin(f: Path, c: Content) -> None:
        next(p for p in c["images"] if p["file_name"] == old).update(file_name=new, **more)

    return Seed(ruin)


@pytest.mark.parametrize("name", ["images/0001.png", "a\\b\\0001.png", "C:/data/images/0001.png"])
def test_an_image_whose_file_lies_in_another_folder_gets_its_name(name: str, clean: Path, tmp_path: Path) -> None:
    seeded(clean, tmp_path / "set", misnamed("0001.png", name))
    done = mend(tmp_path / "set")
    assert [text for f, text in done.done if f.fault == "missing-image"] == [
        "named '0001.png', the only file of this name",
    ]
    first, second = coco.load(clean / "annotations.json"), coco.load(tmp_path / "out/annotations.json")
    assert [r.file_name for r in second.images] == [r.file_name for r in first.images]
    assert [len(second.of(i)) for i in range(6)] == [len(first.of(i)) for i in range(6)]
    assert (tmp_path / "out/images/0001.png").read_bytes() == (clean / "images/0001.png").read_bytes()


def test_an_image_is_looked_for_in_folders_below(clean: Path, tmp_path: Path) -> None:
    def bury(f: Path, c: Content) -> None:
        (f / "images/deep/er").mkdir(parents=True)
        (f / "images/0001.png").rename(f / "images/deep/er/0001.png")
        c["images"][1]["file_name"] = "er/0001.png"

    seeded(clean, tmp_path / "set", Seed(bury))
    done = mend(tmp_path / "set")
    assert done.images == 6
    assert (tmp_path / "out/images/deep/er/0001.png").is_file()


def test_a_file_that_may_be_another_image_is_not_taken(clean: Path, tmp_path: Path) -> None:
    """It is another record's, of another size, or lies in a folder of another name."""

    def move(f: Path, c: Content) -> None:
        (f / "images/b").mkdir()
        (f / "images/0001.png").rename(f / "images/b/0001.png")
        c["images"][1]["file_name"] = "a/0001.png"

    seeds = {
        "taken": misnamed("0002.png", "images/0001.png"),
        "size": misnamed("0001.png", "images/0001.png", height=50),
        "folder": Seed(move),
    }
    for name, seed in seeds.items():
        (tmp_path / name).mkdir()
        seeded(clean, tmp_path / name / "set", seed)
        done = mend(tmp_path / name / "set")
        assert [text.split(" with")[0] for f, text in done.done if f.fault == "missing-image"] == ["left out"]
        assert done.images == 5


def test_several_faults_of_one_object_are_repaired_together(clean: Path, tmp_path: Path) -> None:
    def ruin(f: Path, c: Content) -> None:
        row = polygon(c)
        outline(row, [40, 40, 60, 60, 60, 40, 40, 60, 40, 60], box=[1, 2, float("nan"), 4], area=9000)
        row.update(id="5", iscrowd="false", note=float("inf"))
        row["segmentation"].append([1, 2])

    seeded(clean, tmp_path / "set", Seed(ruin))
    done = mend(tmp_path / "set")
    assert {"non-finite-coordinate", "few-points", "self-crossing", "area-disagrees", "id-as-text", "bad-crowd"} <= {
        f.fault for f, _ in done.done
    }
    assert {f.fault for f in done.after.findings} == {"empty-image"}
    row = next(r for r in result(tmp_path / "set")["annotations"] if r["id"] == 5)
    assert (row["bbox"], row["note"], row["iscrowd"]) == ([40, 40, 20, 20], None, 0)


def test_a_lost_outline_becomes_a_crowd_region(clean: Path, tmp_path: Path) -> None:
    seeded(clean, tmp_path / "set", SEEDS["bad-outline"])
    before = polygon(json.loads((clean / "annotations.json").read_text()))
    mend(tmp_path / "set")
    row = next(r for r in result(tmp_path / "set")["annotations"] if r["id"] == before["id"])
    assert row["iscrowd"] == 1
    assert row["bbox"] == before["bbox"]
    assert row["area"] == before["bbox"][2] * before["bbox"][3]


PAIRED = {
    "pairs in a part": [[[40, 40], [80, 40], [80, 70], [40, 70]]],
    "pairs alone": [[40, 40], [80, 40], [80, 70], [40, 70]],
    "one row": [40, 40, 80, 40, 80, 70, 40, 70],
}


@pytest.mark.parametrize("resized", [False, True])
@pytest.mark.parametrize("written", PAIRED.values(), ids=list(PAIRED))
def test_an_outline_whose_meaning_is_plain_is_written_as_it_should_be(
    written: list[Any], resized: bool, clean: Path, tmp_path: Path
) -> None:
    """Points as pairs, or a polygon that is not in a list: the object was left out, or became a crowd region."""

    def ruin(f: Path, c: Content) -> None:
        row = polygon(c)
        row.update(segmentation=written, bbox=[40, 40, 40, 30], area=1200)
        if resized:
            source_image = next(p for p in c["images"] if p["id"] == row["image_id"])
            c["annotations"] = [r for r in c["annotations"] if r["image_id"] != row["image_id"] or r is row]
            with Image.open(f / "images" / source_image["file_name"]) as image:
                image.resize((image.width // 2, image.height // 2)).save(f / "images" / source_image["file_name"])
            source_image.update(width=source_image["width"] // 2 * 2, height=source_image["height"] // 2 * 2)

    seeded(clean, tmp_path / "set", Seed(ruin))
    number = polygon(json.loads((clean / "annotations.json").read_text()))["id"]
    mend(tmp_path / "set")
    row = next(r for r in result(tmp_path / "set")["annotations"] if r["id"] == number)
    factor = 0.5 if resized else 1
    assert row["segmentation"] == [[v * factor for v in (40, 40, 80, 40, 80, 70, 40, 70)]]
    assert (row["iscrowd"], row["area"]) == (0, 1200 * factor**2)


def test_two_files_of_one_image_with_different_objects_need_a_person(clean: Path, tmp_path: Path) -> None:
    folder = tmp_path / "set"
    seeded(clean, folder, SEEDS["duplicate-image"])
    content = json.loads((folder / "annotations.json").read_text())
    content["annotations"].pop()
    (folder / "annotations.json").write_text(json.dumps(content))
    done = mend(folder)
    finding, why = done.left[0]
    assert (finding.fault, why) == ("duplicate-image", "the two have different annotations")


def test_the_place_must_be_new_and_nothing_stays_after_a_failure(clean: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(ConfigError, match="exists already"):
        repair(clean / "annotations.json", tmp_path / "there", clean / "images")
    (tmp_path / "bad.json").write_text("[1, 2")
    with pytest.raises(ConfigError, match=r"cannot be repaired.*not valid JSON"):
        repair(tmp_path / "bad.json", tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.json", "there"]


def test_annotations_alone(clean: Path, tmp_path: Path) -> None:
    done = repair(clean / "annotations.json", tmp_path / "out", files=False)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["annotations.json"]
    assert done.images == 0


def test_another_format_becomes_a_coco_copy(clean: Path, tmp_path: Path) -> None:
    data = formats.load(clean / "annotations.json", clean / "images")
    formats.save(tmp_path / "labelme", data, "labelme")
    done = repair(tmp_path / "labelme", tmp_path / "out")
    copied = coco.load(tmp_path / "out/annotations.json", tmp_path / "out/images")
    assert done.images == len(copied) == 6
    assert copied.image(0).shape == data.image(0).shape
