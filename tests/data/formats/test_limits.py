"""What a few letters of a file may ask for: depth, digits, counts and names are limited before memory is taken."""

import json
from pathlib import Path
from typing import Any

import pytest

from maskwright.data import formats
from maskwright.data.faults.check import check
from maskwright.data.faults.repair import repair
from maskwright.data.formats import coco
from maskwright.data.formats.shared.fields import MOST_LEVELS, read_json
from maskwright.data.formats.shared.losses import sentence
from maskwright.data.formats.shared.xml_tree import parse_xml
from maskwright.data.formats.shared.yaml_tree import read_yaml
from maskwright.data.synthetic import coco_fixture
from maskwright.errors import LONGEST_MESSAGE, ConfigError, DataError, shortened
from maskwright.training import settings

ALIASES = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{n}: &{n} [{', '.join([f'*{m}'] * 9)}]\n" for m, n in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (ALIASES, r"line 2 \(the alias \*a stands for a list or table"),
        ("x: &a [*a]\n", r"the alias \*a stands for"),
        ("x: " + "[" * 3000 + "]" * 3000, r"line 1 \(lists and tables lie in each other on more than 64 levels"),
        ("".join(" " * k + "a:\n" for k in range(700)), "more than 64 levels"),
        ("- a\n" * 300_000, "1200000 characters, at most 1000000 are read"),
    ],
)
def test_yaml_neither_grows_nor_nests_without_end(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "data.yaml"
    path.write_text(text)
    with pytest.raises(DataError, match=said) as caught:
        read_yaml(path)
    assert str(caught.value).startswith(str(path))


def test_an_alias_of_a_text_is_read(tmp_path: Path) -> None:
    path = tmp_path / "data.yaml"
    path.write_text("train: &t images/a\nval: *t\n")
    assert read_yaml(path) == {"train": "images/a", "val": "images/a"}


@pytest.mark.parametrize("opened", ["[", '{"a":', "[1, "])
def test_json_levels_are_limited(tmp_path: Path, opened: str) -> None:
    path, closed = tmp_path / "a.json", "}" if "{" in opened else "]"
    for levels, encoding in ((MOST_LEVELS, "utf-8"), (MOST_LEVELS, "utf-16")):
        path.write_text(opened * (levels - 1) + '["[[\\"[["]' + closed * (levels - 1), encoding)
        read_json(path)
    for levels in (MOST_LEVELS + 1, 900, 100_000):
        path.write_text(opened * levels + "1" + closed * levels)
        with pytest.raises(DataError, match=r"a\.json: .* more than 64 levels"):
            read_json(path)


def test_elements_of_xml_and_lists_of_toml_are_limited(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.xml: line 1: elements lie in each other on more than 64 levels"):
        parse_xml(b"<a>" * 5000 + b"</a>" * 5000, "a.xml")
    for value in ("[" * 3000 + "]" * 3000, "9" * 5000):
        (tmp_path / "run.toml").write_text(f"size = {value}\n")
        with pytest.raises(ConfigError, match=r"run\.toml is not a TOML file"):
            settings.read(tmp_path / "run.toml")


def test_a_repair_of_deep_records_is_refused(tmp_path: Path) -> None:
    path = changed(tmp_path, "annotations", extra="@")
    path.write_text(path.read_text().replace('"@"', "[" * 400 + "]" * 400))
    assert [f.fault for f in check(path).findings] == ["unreadable-annotations"]
    with pytest.raises(ConfigError, match=r"cannot be repaired: .* more than 64 levels"):
        repair(path, tmp_path / "out")


def changed(folder: Path, section: str, **fields: Any) -> Path:
    """A small COCO file, the first record of a section changed."""
    path = coco_fixture(folder, 1, images=2, size=(24, 32), objects=2)
    content = json.loads(path.read_text())
    content[section][0] |= fields
    path.write_text(json.dumps(content))
    return path


def test_numbers_of_thousands_of_digits_name_their_record(tmp_path: Path) -> None:
    path = changed(tmp_path, "annotations", area="@")
    path.write_text(path.read_text().replace('"@"', "9" * 5000))
    with pytest.raises(DataError, match=r"annotation id \d+: 'area' must be a finite number, got inf"):
        coco.load(path)


def test_landmark_counts_are_limited(tmp_path: Path) -> None:
    place = tmp_path / "set"
    formats.save(place, formats.load(coco_fixture(tmp_path, 1, images=2, size=(24, 32), objects=2)), "yolo")
    text = (place / "data.yaml").read_text()
    for count in ("1000000000", "9" * 5000):
        (place / "data.yaml").write_text(f"{text}kpt_shape: [{count}, 3]\n")
        with pytest.raises(DataError, match=r"data\.yaml: top level: 'kpt_shape' must be \[number of landmarks, 0 to"):
            formats.load(place)


@pytest.mark.parametrize(("name", "said"), [("a\ud800", "half a character"), ("a" * 300, "too long")])
def test_names_that_no_file_can_have(tmp_path: Path, name: str, said: str) -> None:
    section = "categories" if "\ud800" in name else "images"
    path = changed(tmp_path, section, **{"name" if section == "categories" else "file_name": name})
    report = check(path)
    assert report.text()
    data = formats.load(path)
    with pytest.raises(DataError, match=said):
        formats.save(tmp_path / "out", data, "masks", copy=section == "categories")
    assert not (tmp_path / "out").exists()


def test_sentences_of_losses_are_short_and_take_any_name() -> None:
    assert sentence(2, "object{s} without {}", ["{a}", "{0}"]) == ("2 objects without {} ({a}, {0}).",)
    assert len(sentence(1, "class{es}", ["x" * 100_000])[0]) < 400


def test_a_video_id_that_is_no_number_is_kept(tmp_path: Path) -> None:
    record = coco.load(changed(tmp_path, "images", video_id={"a": 1})).images[0]
    assert (record.frame, record.extra["video_id"]) == (None, {"a": 1})


def test_messages_are_short() -> None:
    assert shortened("a.json: nothing long") == "a.json: nothing long"
    assert shortened("a.json: '" + "x" * 100_000 + "' is unknown.") == f"a.json: '{'x' * 199}...{'x' * 49}' is unknown."
    assert len(str(DataError("word " * 40_000))) < LONGEST_MESSAGE
    assert str(DataError("begin " + "word " * 40_000 + "end")).endswith("end")
