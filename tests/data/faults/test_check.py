"""The check: every fault is found where it was put, nothing else is, and real data is judged fairly."""

import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.data.faults.seeded_faults import SEEDS, Content, Seed, make, seeded
from tests.reference.crossing import crosses_itself as slow_crosses_itself
from typer.testing import CliRunner, Result

from maskwright import media
from maskwright.cli import app
from maskwright.data import formats
from maskwright.data.faults.check import CheckReport, check
from maskwright.data.faults.crossing import crosses_itself
from maskwright.data.faults.fixes import FIXES
from maskwright.data.faults.repair import repair
from maskwright.data.faults.table import FAULTS, SETS, SEVERITIES
from maskwright.data.formats import coco
from maskwright.errors import ConfigError, DataError
from maskwright.samples.loader import Sampling, TrainingSamples
from maskwright.types import InputSpec


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean training set with a clean validation set in its folder val/."""
    folder = tmp_path_factory.mktemp("clean")
    make(folder)
    return folder


def look(folder: Path, *, val: bool = False) -> CheckReport:
    sides = {"val": folder / "val/annotations.json", "val_images": folder / "val/images"} if val else {}
    return check(folder / "annotations.json", folder / "images", **sides)


def counted(report: CheckReport) -> Counter[str]:
    return Counter(f.fault for f in report.findings)


def test_every_fault_has_a_seed_and_a_repair_if_it_says_so() -> None:
    assert set(SEEDS) == set(FAULTS)
    assert {name for name, fault in FAULTS.items() if fault.repair} == set(FIXES)
    for fault in FAULTS.values():
        assert fault.repair or fault.advice, fault.name
        assert fault.after <= set(FAULTS), fault.name


def test_a_clean_set_has_no_fault(clean: Path) -> None:
    assert counted(look(clean, val=True)) == {"empty-image": 1}


@pytest.mark.parametrize("fault", SEEDS)
def test_a_seeded_fault_is_found_and_nothing_else(fault: str, clean: Path, tmp_path: Path) -> None:
    seed = SEEDS[fault]
    seeded(clean, tmp_path / "set", seed)
    report = look(tmp_path / "set", val=fault in {f.name for f in SETS})
    fresh = set(counted(report) - Counter({"empty-image": 1}))
    assert fault in fresh, report.text()
    assert fresh - {fault} <= seed.also, report.text()
    assert report.failed() == any(FAULTS[name].severity == "error" for name in fresh)


@pytest.mark.parametrize("data", ["nuclei_dsb2018", "coco_open"])
def test_real_data_has_no_errors(data: str, shared: Path) -> None:
    folder = shared / "data" / data
    report = check(folder / "annotations/instances_train.json", folder / "images", files=data == "coco_open")
    found = counted(report)
    assert report.count("error") == 0, report.text()
    if data == "coco_open":  # two outlines do cross themselves, one crowd region states another area than it has
        assert (found["self-crossing"], found["area-disagrees"], found["class-without-objects"]) == (2, 1, 18)
        assert report.count("warning") == 22
    else:
        assert not found


# ---- the parts ------------------------------------------------------------------------------------------------------

whole = st.integers(0, 6).map(float)
ring = st.lists(st.tuples(st.floats(0, 10), st.floats(0, 10)), min_size=3, max_size=12)


@settings(max_examples=200, deadline=None)
@given(ring | st.lists(st.tuples(whole, whole), min_size=3, max_size=12))
def test_crossings_are_those_of_the_slow_twin(points: list[tuple[float, float]]) -> None:
    fast, slow = crosses_itself(np.array(points)), slow_crosses_itself(points)
    assert fast or not slow  # the twin knows crossings inside edges only, not those through a corner


@settings(max_examples=100, deadline=None)
@given(ring)
def test_without_corners_on_edges_the_twins_agree(points: list[tuple[float, float]]) -> None:
    rng = np.random.default_rng(len(points))
    moved = np.array(points) + rng.uniform(0, 0.01, (len(points), 2))  # no three of them in a line
    assert crosses_itself(moved) == slow_crosses_itself(moved.tolist())


@pytest.mark.parametrize(
    ("points", "crosses"),
    [
        ([[0, 0], [4, 0], [4, 4], [0, 4]], False),
        ([[0, 0], [4, 4], [4, 0], [0, 4]], True),
        ([[0, 0], [1, 1], [2, 2], [2, 0], [1, 1], [0, 2]], True),  # through a corner that is visited twice
        ([[0, 0], [2, 0], [1, 1], [2, 2], [0, 2], [1, 1]], False),  # two squares' corners touch
        ([[0, 0], [4, 0], [2, 0], [2, 3]], False),  # back along its own edge
        ([[0, 0], [4, 0], [4, 4], [2, 0], [0, 4]], False),  # a corner touches an edge
        ([[0, 0], [4, 0], [4, 4], [2, -1e-13], [0, 4]], True),  # and passes it by next to nothing
        ([[0, 0], [4, 0], [4, 4], [2, 0], [1, -2], [0, 4]], True),  # through an edge with a corner on it
        ([[0, 0], [1, 1], [0.2, 0.9], [0.25, 0.25 + 2**-54], [0.75, 0.75 - 2**-53], [0.9, 0.1]], True),  # nearly along
        ([[0, 0], [3, 0], [0, 0]], False),
        ([[1, 1]] * 6, False),
    ],
)
def test_crossings_by_hand(points: list[list[float]], crosses: bool) -> None:
    for k in range(len(points)):
        turned = np.array(points[k:] + points[:k], np.float64)
        assert crosses_itself(turned) == crosses
        assert crosses_itself(turned[::-1]) == crosses
        assert crosses_itself(np.concatenate([turned, turned[:1]])) == crosses


def test_a_long_outline_is_checked_in_pieces() -> None:
    angle = np.linspace(0, 2 * np.pi, 4000, endpoint=False)
    radius = np.random.default_rng(0).uniform(50, 100, 4000)
    star = np.stack([np.cos(angle) * radius, np.sin(angle) * radius], axis=1)
    assert not crosses_itself(star)
    star[[100, 3000]] = star[[3000, 100]]
    assert crosses_itself(star)


def test_every_fault_of_a_file_is_seen_at_once(clean: Path, tmp_path: Path) -> None:
    def ruin(folder: Path, content: Content) -> None:
        for name in (
            "bad-crowd",
            "rle-length",
            "annotation-id-clash",
            "missing-image",
            "unknown-category",
            "bad-size",
        ):
            SEEDS[name].breaks(folder, content)

    seeded(clean, tmp_path / "set", Seed(ruin))
    found = counted(look(tmp_path / "set"))
    assert {"bad-crowd", "rle-length", "annotation-id-clash", "missing-image", "unknown-category", "bad-size"} <= set(
        found
    )


@pytest.mark.parametrize(
    "content", ["", "[1, 2]", "{}", '{"images": []}', "\ufeff{", '{"images": 5, "annotations": {}}']
)
def test_any_file_gives_a_report(content: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(content, encoding="utf-8")
    report = check(tmp_path / "a.json", format="coco")
    assert set(counted(report)) == {"unreadable-annotations"}
    assert report.failed()


JUNK = st.sampled_from(
    [
        None,
        0,
        -1,
        1e9,
        1.5,
        float("nan"),
        float("inf"),
        "",
        "x",
        "7",
        True,
        [],
        {},
        [1, 2, 3],
        [[]],
        [[1, 2]],
        10**30,
        "0O",
    ]
)


@pytest.mark.parametrize(("mode", "faults"), [("LAB", set()), ("RGBA", {"alpha-channel"}), ("LA", {"alpha-channel"})])
def test_only_an_alpha_channel_is_transparency(mode: str, faults: set[str], clean: Path, tmp_path: Path) -> None:
    """The A of LAB is from green to red."""

    def repaint(folder: Path, content: Content) -> None:
        values = np.random.default_rng(0).integers(0, 250, (99, 133, len(Image.new(mode, (1, 1)).getbands())), np.uint8)
        Image.frombytes(mode, (133, 99), values.tobytes()).save(folder / "images/0005.tif")
        (folder / "images/0005.png").unlink()
        content["images"][5].update(file_name="0005.tif", height=99, width=133)

    seeded(clean, tmp_path / "set", Seed(repaint))
    assert set(counted(look(tmp_path / "set"))) - {"empty-image", "mixed-colour"} == faults


def test_a_polygon_may_end_where_it_begins(clean: Path, tmp_path: Path) -> None:
    """Many tools close their polygons; only a point that repeats the one before it is worth a note."""
    content = json.loads((clean / "annotations.json").read_text())
    for row in content["annotations"]:
        if isinstance(row["segmentation"], list):
            row["segmentation"] = [[*part, *part[:2]] for part in row["segmentation"]]
    (tmp_path / "a.json").write_text(json.dumps(content))
    assert "repeated-points" not in check(tmp_path / "a.json", files=False).by_fault()


def test_an_absurd_size_is_a_finding(clean: Path, tmp_path: Path) -> None:
    seeded(clean, tmp_path / "set", Seed(lambda f, c: c["images"][1].update(height=10**9)))
    assert set(counted(look(tmp_path / "set"))) == {"bad-size", "empty-image"}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_what_the_check_calls_sound_the_strict_reader_takes(data: st.DataObject, clean: Path, tmp_path: Path) -> None:
    content = json.loads((clean / "annotations.json").read_text())
    for _ in range(data.draw(st.integers(1, 3))):
        rows = content[data.draw(st.sampled_from(["images", "annotations", "categories"]))]
        row = rows[data.draw(st.integers(0, len(rows) - 1))]
        key = data.draw(st.sampled_from(sorted(row)))
        row[key] = data.draw(JUNK)
    file = tmp_path / "junk.json"
    file.write_text(json.dumps(content))
    report = check(file, files=False)
    if not report.failed():
        loaded = coco.load(file)
        for i in range(len(loaded)):
            loaded.masks(i)


def test_wrong_use_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(DataError, match="no such file"):
        check(tmp_path / "gone.json")
    with pytest.raises(DataError, match="found a file"):
        check(tmp_path / "a.json", tmp_path / "a.json")
    with pytest.raises(ConfigError, match="no format 'coca'"):
        check(tmp_path / "a.json", format="coca")


@pytest.mark.parametrize("name", ["yolo", "labelme", "masks", "cvat"])
def test_other_formats_are_checked_too(name: str, clean: Path, tmp_path: Path) -> None:
    data = formats.load(clean / "annotations.json", clean / "images")
    formats.find(name).save(tmp_path / "other", data, True)
    report = check(tmp_path / "other")
    assert report.counts["opened"] == 6
    assert set(counted(report)) <= {"empty-image", "repeated-points"}, report.text()


# ---- the command ----------------------------------------------------------------------------------------------------


def command(*words: str | Path) -> Result:
    return CliRunner().invoke(app, ["data", "check", *map(str, words)])


GOOD = "0 0.25 0.25 0.625 0.25 0.625 0.5 0.25 0.5\n"


def yolo(folder: Path, labels: dict[str, str | bytes]) -> Path:
    for name, text in labels.items():
        media.write_image(folder / f"images/{name}.png", np.full((60, 80, 3), 10 * len(name), np.uint8))
        (folder / "labels").mkdir(exist_ok=True)
        (folder / f"labels/{name}.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
    (folder / "data.yaml").write_text("train: images\nval: images\nnames: [a, b]\n")
    return folder


def test_every_bad_line_of_yolo_is_listed_and_left_out_of_a_repair(tmp_path: Path) -> None:
    bad = {
        "a": GOOD + "0 -0.5 0.1 1.5 0.1 1.5 0.5\n",
        "bb": "x y z\n",
        "ccc": f"7 {GOOD[2:]}",
        "eeeee": GOOD,
        "ffffff": b"\xff\xfe",
    }
    place = yolo(tmp_path / "set", {**bad, "dddd": GOOD})
    (place / "images/eeeee.png").write_bytes(b"GIF8 cut")
    found = check(place).by_fault()
    lines = [f"{place}/labels/a.txt: line 2", f"{place}/labels/bb.txt: line 1", f"{place}/labels/ccc.txt: line 1"]
    assert [f.where for f in found["malformed-record"]] == [*lines, f"{place}/labels/ffffff.txt"]
    assert [f.where for f in found["unreadable-image"]] == ["image 5 (images/eeeee.png)"]
    assert "unreadable-annotations" not in found
    repair(place, tmp_path / "out")
    data = formats.load(tmp_path / "out")
    assert [(r.file_name, len(data.of(i))) for i, r in enumerate(data.images)] == [
        ("images/a.png", 1), ("images/bb.png", 0), ("images/ccc.png", 0), ("images/dddd.png", 1),
    ]  # fmt: skip
    (place / "data.yaml").write_text("train: images\nval: images\nnames: []\n")
    assert set(check(place).by_fault()) == {"unreadable-annotations"}


def test_every_bad_shape_of_labelme_is_listed(clean: Path, tmp_path: Path) -> None:
    data = formats.load(clean / "annotations.json", clean / "images")
    formats.save(tmp_path / "set", data, "labelme")
    files = sorted((tmp_path / "set").glob("*.json"))
    shapes = [
        {"label": "disc", "shape_type": "polygon", "points": [[1, 1], [2, 2]]},
        {"label": "", "shape_type": "polygon", "points": [[1, 1], [2, 2], [3, 1]]},
        {"label": "unheard of", "shape_type": "polygon", "points": [[1, 1], [9, 9], [3, 1]]},
        {"label": "disc", "shape_type": "cube", "points": []},
    ]
    for file, more in zip(files, (shapes[:2], shapes[2:]), strict=False):
        content = json.loads(file.read_text())
        file.write_text(json.dumps({**content, "shapes": [*content["shapes"], *more]}))
    files[2].write_text("[1, 2")
    found = check(tmp_path / "set").by_fault()
    said = " ".join(f"{f.where}: {f.message}" for f in found["malformed-record"])
    for words in (
        "3 points, got 2",
        "must be the name of the class",
        "'unheard of' is not in",
        "'cube'",
        "not valid JSON",
    ):
        assert words in said
    assert len(found["malformed-record"]) == 5
    assert "unreadable-annotations" not in found


def test_a_missing_image_may_be_there_under_another_name(clean: Path, tmp_path: Path) -> None:
    """With another suffix, or with spaces where the record has %20."""
    make(tmp_path)
    path = tmp_path / "annotations.json"
    content = json.loads(path.read_text())
    first, second = content["images"][:2]
    (tmp_path / "images" / second["file_name"]).rename(tmp_path / "images/my pic.png")
    first["file_name"] = first["file_name"].replace(".png", ".jpg")
    second["file_name"] = "my%20pic.png"
    path.write_text(json.dumps(content))
    found = look(tmp_path).by_fault()
    (missing,) = found["missing-image"]
    there = (tmp_path / "images" / first["file_name"]).with_suffix(".png")
    assert missing.message == f"{there.with_suffix('.jpg')} does not exist. There is {there}."
    assert [f.message for f in found["file-name-spelling"]] == ["the file is called 'my pic.png'"]
    with pytest.raises(DataError, match=re.escape(f"There is {there}: correct the file names")):
        formats.load(path, tmp_path / "images").require_files()
    repair(path, tmp_path / "out", tmp_path / "images")
    assert look(tmp_path / "out").count("error") == 0
    assert len(formats.load(tmp_path / "out")) == len(content["images"])


def test_all_images_with_another_suffix_are_the_right_folder(tmp_path: Path) -> None:
    make(tmp_path)
    path = tmp_path / "annotations.json"
    path.write_text(path.read_text().replace(".png", ".jpg"))
    report = look(tmp_path)
    assert counted(report)["missing-image"] == 6
    assert "give the right folder" not in report.text()
    repair(path, tmp_path / "out", tmp_path / "images")
    assert look(tmp_path / "out").count("error") == 0


def test_a_panoptic_file_is_read_as_one(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    row = {"image_id": 1, "file_name": "a.png", "segments_info": []}
    path.write_text(json.dumps({"images": [], "categories": [], "annotations": [row]}))
    (found,) = check(path).findings
    with pytest.raises(DataError) as caught:
        formats.load(path)
    assert str(caught.value) == f"{path}: {found.message}"
    assert "the list 'categories' is empty" in found.message
    with pytest.raises(DataError) as caught:
        formats.load(path, format="coco")
    assert str(caught.value) == f"{path}: {check(path, format='coco').findings[0].message}"
    assert "this is COCO's panoptic annotation" in str(caught.value)


def test_objects_of_formats_without_ids_are_named_by_file_and_line(tmp_path: Path) -> None:
    place = yolo(tmp_path, {"a": GOOD + "1 0.5 0.5 0.25 0.5\n", "bb": GOOD + GOOD})
    line = f"{place}/labels/a.txt: line 2"
    found = check(place).by_fault()
    assert [f.where for f in found["box-only-object"]] == [line]
    (double,) = found["duplicate-object"]
    assert double.where == f"{place}/labels/bb.txt: line 2"
    assert double.message == f"the same pixels as {place}/labels/bb.txt: line 1"
    data = formats.load(place)
    with pytest.raises(DataError, match=re.escape(f"1 of 4 annotations have a box but no outline ({line})")):
        TrainingSamples(data, InputSpec(size=32), Sampling())
    with pytest.raises(DataError, match=re.escape(f"{line} has no segmentation")):
        data.masks(0)


def test_the_command_reports_and_ends_by_severity(clean: Path, tmp_path: Path) -> None:
    done = command(clean / "annotations.json")
    assert done.exit_code == 0, done.output
    assert "6 images (6 opened), 25 annotations, 3 classes" in done.stdout
    seeded(clean, tmp_path / "set", SEEDS["self-crossing"])
    bad = tmp_path / "set/annotations.json"
    assert command(bad).exit_code == 0
    assert command(bad, "--strict").exit_code == 1
    done = command(bad, "--strict", "--fix", tmp_path / "out", "--json", tmp_path / "report.json")
    assert done.exit_code == 0, done.output
    assert "repaired: self-crossing: 1" in done.stdout
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert report["totals"] == {"error": 0, "warning": 1, "note": 1}
    assert report["findings"][0]["fault"] == "self-crossing"
    assert [row["fault"] for row in report["repair"]["done"]] == ["self-crossing"]


def test_the_command_asks_for_the_folder_where_most_images_are_missing(clean: Path, tmp_path: Path) -> None:
    (tmp_path / "few").mkdir()
    names = sorted(p.name for p in (clean / "images").iterdir())
    for name in names[:3]:
        (tmp_path / "few" / name).write_bytes((clean / "images" / name).read_bytes())
    said = command(clean / "annotations.json", "--images", tmp_path / "few").stdout
    assert "missing-image: 3" in said
    assert "first:" not in said
    (tmp_path / "few" / names[0]).unlink()
    said = command(clean / "annotations.json", "--images", tmp_path / "few").stdout
    assert f"first: give the right folder of the images (searched: {tmp_path / 'few'})\n  --fix" in said


def test_a_file_that_cannot_be_read_is_named_once(tmp_path: Path) -> None:
    (tmp_path / "e.json").write_text("{")
    said = command(tmp_path / "e.json").stdout
    assert "    e.json: " in said
    assert said.count("e.json: ") == 2  # the heading, and the finding


def test_the_command_ends_with_2_for_wrong_use(clean: Path, tmp_path: Path) -> None:
    assert command(tmp_path / "gone.json").exit_code == 2
    assert command(clean / "annotations.json", "--format", "coca").exit_code == 2
    assert command(clean / "annotations.json", "--fix", tmp_path).exit_code == 2


def test_the_pages_list_and_count_every_fault() -> None:
    root = Path(__file__).parents[3]
    page = (root / "docs/data-check.md").read_text(encoding="utf-8")
    assert fault_table() in page, "data-check.md is behind: python -m tests.data.faults.test_check writes its table"
    assert f"# {len(FAULTS)} kinds of fault" in (root / "README.md").read_text(encoding="utf-8")


def fault_table() -> str:
    """The table of all faults, for the page."""
    lines = ["| fault | | what is wrong | `--fix` |", "|---|---|---|---|"]
    order = sorted(FAULTS.values(), key=lambda f: SEVERITIES.index(f.severity))
    rows = [f"| `{f.name}` | {f.severity} | {f.summary} | {f.repair or f'by hand: {f.advice}'} |" for f in order]
    return "\n".join(lines + rows)


if __name__ == "__main__":
    page = Path("docs/data-check.md")
    text = page.read_text(encoding="utf-8")
    begin, end = text.index("| fault |"), text.index("<!-- end of the table -->")
    page.write_text(f"{text[:begin]}{fault_table()}\n\n{text[end:]}", encoding="utf-8")


@pytest.mark.parametrize("part", ["val", "test"])
def test_what_leaks_into_the_held_out_part_of_one_set_is_said_as_such(part: str, tmp_path: Path) -> None:
    """A YOLO folder: two images to learn from are held out as well, one is in the training part twice."""
    rng = np.random.default_rng(0)
    for name, split in (("a", "train"), ("b", "train"), ("c", "train"), ("d", part)):
        place = tmp_path / "y/images" / split / f"{name}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        media.write_image(place, rng.integers(0, 256, (40, 50, 3), np.uint8))
        label = tmp_path / "y/labels" / split / f"{name}.txt"
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text("0 0.2 0.2 0.8 0.2 0.8 0.8\n")
    for name, split, copy in (("a", part, "e"), ("b", part, "f"), ("c", "train", "g")):
        for kind, suffix in (("images", ".png"), ("labels", ".txt")):
            target = tmp_path / "y" / kind / split / f"{copy}{suffix}"
            target.write_bytes((tmp_path / "y" / kind / "train" / f"{name}{suffix}").read_bytes())
    (tmp_path / "y/data.yaml").write_text(f"train: images/train\n{part}: images/{part}\nnames: [thing]\n")
    report = check(tmp_path / "y")
    assert counted(report) == {"in-train-and-val": 2, "duplicate-image": 1}
    told = {f.where: f.message for f in report.by_fault()["in-train-and-val"]}
    assert told["image 1 (images/train/a.png)"] == (
        f"the same bytes as images/{part}/e.png in {'validation' if part == 'val' else 'test'}"
    )
    assert report.failed()
    done = repair(tmp_path / "y", tmp_path / "fixed")
    assert counted(done.after) == {}
    kept = Counter(record.extra["split"] for record in formats.load(tmp_path / "fixed").images)
    assert kept == {"train": 1, part: 3}
