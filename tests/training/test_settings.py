"""Settings files: what is written is read back exactly; what cannot be meant is refused with its line."""

import re
import tomllib
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from maskwright.codec import decode
from maskwright.errors import ConfigError
from maskwright.samples.augment import Augment
from maskwright.training import settings
from maskwright.training.config import PATHS, SECTIONS, TrainConfig
from maskwright.training.learning import LearningSettings
from maskwright.training.resolved import Resolved

TEXT = st.text(st.characters(codec="utf-8"), max_size=30)
SHARES = st.floats(0, 1, exclude_min=True)
AUGMENTS = st.builds(
    Augment,
    flip_horizontal=SHARES,
    rotate=st.floats(0, 180),
    scale=st.tuples(st.floats(0.1, 1), st.floats(1, 50)),
    crop=st.none() | st.tuples(st.integers(1, 4000), st.integers(1, 4000)),
    cut=st.sampled_from(["drop", "ignore"]),
)
CHOSEN: dict[str, st.SearchStrategy[Any]] = {
    "data": TEXT,
    "images": TEXT,
    "out": TEXT,
    "weights": st.none() | TEXT,
    "data_format": st.none() | TEXT,
    "model": TEXT,
    "size": st.none() | st.integers(1, 10**6),
    "fit": st.none() | st.sampled_from(["short_edge", "stretch", "letterbox"]),
    "shrink": st.none() | st.booleans(),
    "enlarge": st.none() | st.floats(1, 10),
    "anchors": st.none() | st.lists(st.floats(0.1, 999), min_size=1, max_size=5).map(tuple),
    "short_edges": st.lists(st.integers(1, 2000), max_size=4).map(tuple),
    "epochs": st.none() | st.integers(1, 10**9),
    "lr": st.floats(1e-300, 1e3),
    "clip": st.none() | st.floats(1e-5, 1e5),
    "ema": st.none() | st.floats(0, 0.9999),
    "norm": st.sampled_from([None, "live", "frozen"]),
    "precision": st.sampled_from(["float32", "bf16"]),
    "augment": st.none() | AUGMENTS,
    "keep_empty": st.booleans(),
    "seed": st.integers(0, 2**63 - 1),
}


@hypothesis_settings(max_examples=60, deadline=None)
@given(st.fixed_dictionaries({"max_minutes": st.floats(1e-9, 1e9)}, optional=CHOSEN))
def test_what_is_written_is_read_back_exactly(values: dict[str, Any]) -> None:
    reasons = {"network.size": 'why "this"\nand # that\x00', "augment": "few"}
    for config in (TrainConfig(**values), Resolved(reasons=reasons, **values)):
        text = settings.text(config)
        read = decode(TrainConfig, tomllib.loads(text), off=True)
        assert Resolved.of(read) == Resolved.of(config)
        for name in PATHS:
            if not read.is_open(name):  # what is None for want of a choice is not written
                assert type(config.value(name)) is type(read.value(name))
            else:
                assert config.is_open(name) or config.value(name) is None


def test_a_key_that_is_not_there_is_not_chosen(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text("[batches]\nbatch_size = 4\n[length]\nepochs = 50\n")
    config = settings.read(path)
    assert config == TrainConfig(batch_size=4, epochs=50)
    assert not config.is_open("batch_size")
    assert config.is_open("lr")
    path.write_text(settings.text(Resolved.of(config)))
    assert not any(settings.read(path).is_open(n) for n in ("lr", "augment", "model", "workers", "precision"))


def test_names_are_unique_over_all_sections() -> None:
    assert len(PATHS) == sum(len(fields(kind)) for kind in SECTIONS.values()) + 1
    assert not PATHS.keys() & SECTIONS.keys()


def test_the_page_names_every_setting_in_its_table() -> None:
    page = Path(__file__).parents[2] / "docs" / "train.md"
    if not page.is_file():
        pytest.skip(f"needs {page}, which is not there")
    rows = dict(re.findall(r"^\| `\[(\w+)\]` \| (.*) \|$", page.read_text(encoding="utf-8"), re.MULTILINE))
    for section, kind in SECTIONS.items():
        assert re.findall(r"`(\w+)`", rows[section]) == [f.name for f in fields(kind)]


def test_settings_may_stand_above_the_tables(tmp_path: Path) -> None:
    """As in files of versions that had no sections."""
    path = tmp_path / "a.toml"
    path.write_text('lr = 0.5\nnorm = "auto"\ndata = "a.json"\naugment = false\n[learning]\nwarmup = 7\n')
    assert settings.read(path) == TrainConfig(lr=0.5, data="a.json", augment=None, warmup=7)


def test_a_file_of_the_version_without_sections_means_the_same(tmp_path: Path) -> None:
    config = settings.read(Path(__file__).parent / "earlier" / "train.toml")
    assert config == TrainConfig(
        data="leaves.json", images="photos", out="runs/leaf", model="mask_rcnn_small", size=64, epochs=4,
        anchors=(10.0, 16.0, 32.0, 64.0), batch_size=2, lr=0.00028, warmup=1, clip=None, norm="live", workers=0,
        precision="float32", orientation="free", evaluate_every=25,
        augment=Augment(
            flip_vertical=0.5, rot90=0.75, scale=(0.75, 1.33), brightness=0.2, contrast=0.2, saturation=0.2
        ),
    )  # fmt: skip
    assert settings.read(settings.write(tmp_path / "new.toml", config)) == config


def test_off_is_written_as_false(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_bytes(
        b"\xef\xbb\xbfclip = false\r\nema = false\r\naugment = false\r\nepochs = false\r\nmax_minutes = 3\r\n"
    )
    config = settings.read(path)
    assert (config.learning.clip, config.learning.ema, config.augment, config.length.epochs) == (None, None, None, None)
    assert config.length.max_minutes == 3.0
    assert isinstance(config.length.max_minutes, float)


def test_the_command_line_goes_before_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text('[dataset]\ndata = "a.json"\n[augment]\nhue = 0.2\n[learning]\nlr = 0.1\n')
    config = settings.read(path, lr=0.2)
    assert (config.learning.lr, config.dataset.data) == (0.2, "a.json")
    assert config.augment == Augment(hue=0.2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed = 1\nbatchsize = 4\n", r"line 2: There is no setting 'batchsize'\. Did you mean 'batch_size'"),
        ("[batches]\n\nbatchsize = 4\n", r"line 3: BatchSettings has no field 'batchsize'\. Did you mean 'batch_size'"),
        ("[learning]\nlr = 1\nbatch_size = 4\n", r"line 3: 'batch_size' belongs in \[batches\], not in \[learning\]"),
        ("seed = 1\n\n[augment]\nrotat = 5\n", r"line 4: Augment has no field 'rotat'\. Did you mean 'rotate'"),
        ("[augment]\nhue = 0.1\n[augmant]\nhue = 0.1\n", r"line 3: There is no setting 'augmant'"),
        ("[network]\nsize = 5.5\n", r"line 2: size is a whole number, or false for none, got 5\.5"),
        ("size = true\n", "line 1: size is a whole number"),
        ('lr = "0.1"\n', r"line 1: lr is a number, got '0\.1'"),
        ("[compute]\nseed = 2\n[batches]\nkeep_empty = 1\n", "line 4: keep_empty is true or false, got 1"),
        ("model = 5\n", "line 1: model is a text"),
        ("fit = 5\n", r"line 1: fit is 'short_edge', 'stretch' or 'letterbox', or false for none, got 5"),
        ('fit = "box"\n', "line 1: fit is 'short_edge', 'stretch' or 'letterbox', or false for none, got 'box'"),
        ("anchors = 5\n", "line 1: anchors is a list of numbers, or false for none"),
        ("[augment]\nscale = [1]\n", r"line 2: scale is a list of 2 numbers, got \[1\]"),
        ("augment = 5\n", "line 1: augment is a table with the fields of Augment"),
        ("learning = 5\n", "line 1: learning is a table with the fields of LearningSettings"),
        ("optimizer = 5\n", "line 1: optimizer is 'adamw' or 'sgd'"),
        ("lr = -1\n", r"a\.toml, line 1: lr is above 0"),
        ("[augment]\nhue = 3\n", r"line 2: hue is at least 0 and at most 0\.5"),
        ("lr = \n", r"is not a TOML file: .*line 1"),
        ("lr = 1\nlr = 2\n", "is not a TOML file"),
    ],
)
def test_wrong_values_name_the_line(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        settings.read(path)
    assert "a.toml" in str(caught.value)


def test_files_that_are_missing_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no settings file at .*gone\.toml"):
        settings.read(tmp_path / "gone.toml")
    with pytest.raises(ConfigError, match="cannot be read as settings"):
        settings.read(tmp_path)
    (tmp_path / "b.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"b\.toml is not a TOML file"):
        settings.read(tmp_path / "b.toml")


def test_nothing_is_written_over(tmp_path: Path) -> None:
    path = settings.write(tmp_path / "new" / "ä b.toml", TrainConfig(data='ü \\ " 日本.json'))
    assert settings.read(path).dataset.data == 'ü \\ " 日本.json'
    with pytest.raises(ConfigError, match="there already"):
        settings.write(path, TrainConfig())
    assert settings.write(path, TrainConfig(seed=5), over=True) == path
    assert settings.read(path).compute.seed == 5
    with pytest.raises(ConfigError, match="not valid text"):
        settings.write(tmp_path / "c.toml", TrainConfig(data="\udcff"))
    assert not (tmp_path / "c.toml").exists()


def test_reasons_stand_beside_the_settings() -> None:
    text = settings.text(Resolved(reasons={"network.size": "small objects", "augment": "few"}, size=512))
    assert "[network]\nmodel = " in text
    assert "size = 512  # small objects\n" in text
    assert "[augment]  # few\n" in text
    assert "augment = false  # few\n" in settings.text(Resolved(reasons={"augment": "few"}, augment=None))


def test_a_resumed_run_goes_on_as_it_was_started(tmp_path: Path) -> None:
    then = TrainConfig(lr=0.5, batch_size=7, size=320, augment=Augment(hue=0.25), epochs=None, max_minutes=9.0)
    path = settings.write(tmp_path / "train.toml", then)
    now = settings.as_started(TrainConfig(max_minutes=9.0, lr=0.125, resume=True), path)
    assert (now.batches.batch_size, now.network.size, now.augment, now.length.epochs) == (
        7,
        320,
        Augment(hue=0.25),
        None,
    )
    assert now.learning.lr == 0.125  # chosen now: the run itself refuses it
    assert settings.as_started(TrainConfig(), tmp_path / "none.toml") == TrainConfig()


def test_sections_and_single_settings_make_one_config() -> None:
    config = TrainConfig(learning=LearningSettings(lr=0.5, warmup=3), lr=0.25, data="a.json")
    assert (config.learning.lr, config.learning.warmup, config.dataset.data) == (0.25, 3, "a.json")
    assert config.changed(lr=0.5) == replace(config, learning=LearningSettings(lr=0.5, warmup=3))
    assert config.values()["learning.lr"] == 0.25
    assert "network.size" not in config.values()
    with pytest.raises(ConfigError, match=r"There is no setting 'batchsize'\. Did you mean 'batch_size'"):
        TrainConfig(batchsize=3)
    with pytest.raises(ConfigError, match="TrainConfig: learning is a LearningSettings, got 'adamw'"):
        TrainConfig(learning="adamw")
