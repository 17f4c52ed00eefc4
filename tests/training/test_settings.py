"""Settings files: what is written is read back exactly; what cannot be meant is refused with its line."""

import math
import tomllib
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from maskwright.errors import ConfigError
from maskwright.samples.augment import Augment
from maskwright.training import settings
from maskwright.training.config import TrainConfig
from maskwright.training.defaults import Reason, is_open
from maskwright.training.undecided import Undecided, plain, undecided

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
    "norm": st.sampled_from(["auto", "live", "frozen"]),
    "precision": st.sampled_from(["float32", "bf16"]),
    "augment": st.none() | AUGMENTS,
    "keep_empty": st.booleans(),
    "seed": st.integers(0, 2**63 - 1),
}


@hypothesis_settings(max_examples=60, deadline=None)
@given(st.fixed_dictionaries({"max_minutes": st.floats(1e-9, 1e9)}, optional=CHOSEN))
def test_what_is_written_is_read_back_exactly(values: dict[str, Any]) -> None:
    config = TrainConfig(**values)
    reasons = [Reason("size", config.size, 'why "this"\nand # that\x00')]
    text = settings.text(config, reasons)
    read = settings._fields(TrainConfig, tomllib.loads(text), settings._Place(Path("x"), text))
    assert TrainConfig(**read) == config
    for field in fields(config):
        assert type(plain(getattr(config, field.name))) is type(read.get(field.name)) or field.name == "resume"


def test_a_key_that_is_not_there_is_not_chosen(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text("batch_size = 4\nepochs = 50\n")
    config = settings.config_of(path)
    assert config == TrainConfig()
    assert not is_open(config, "batch_size")
    assert is_open(config, "lr")
    path.write_text(settings.text(config))
    assert not any(is_open(settings.config_of(path), n) for n in ("lr", "augment", "model", "workers", "precision"))


def test_off_is_written_as_false(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_bytes(
        b"\xef\xbb\xbfclip = false\r\nema = false\r\naugment = false\r\nepochs = false\r\nmax_minutes = 3\r\n"
    )
    config = settings.config_of(path)
    assert (config.clip, config.ema, config.augment, config.epochs) == (None, None, None, None)
    assert config.max_minutes == 3.0
    assert isinstance(config.max_minutes, float)


def test_the_command_line_goes_before_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text('lr = 0.1\ndata = "a.json"\n[augment]\nhue = 0.2\n')
    config = settings.config_of(path, lr=0.2)
    assert (config.lr, config.data) == (0.2, "a.json")
    assert config.augment == Augment(hue=0.2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed = 1\nbatchsize = 4\n", r"line 2: there is no setting 'batchsize'\. Did you mean 'batch_size'"),
        ("seed = 1\n\n[augment]\nrotat = 5\n", r"line 4: there is no setting 'rotat'\. Did you mean 'rotate'"),
        ("[augment]\nhue = 0.1\n[augmant]\nhue = 0.1\n", r"line 3: there is no setting 'augmant'"),
        ("size = 5.5\n", r"line 1: size is a whole number, or false for none, got 5\.5"),
        ("size = true\n", "line 1: size is a whole number"),
        ('lr = "0.1"\n', r'line 1: lr is a number, got "0\.1"'),
        ("keep_empty = 1\n", "line 1: keep_empty is true or false, got 1"),
        ("model = 5\n", "line 1: model is a text in quotes"),
        ("fit = 5\n", r'line 1: fit is "short_edge" or "stretch" or "letterbox", or false for none, got 5'),
        ('fit = "box"\n', "fit is one of short_edge, stretch, letterbox, got 'box'"),
        ("anchors = 5\n", "line 1: anchors is a list of numbers, or false for none"),
        ("[augment]\nscale = [1]\n", r"line 2: scale is a list of 2 numbers, got \[1\]"),
        ("augment = 5\n", "line 1: augment is a table of its own"),
        ("optimizer = 5\n", 'line 1: optimizer is "adamw" or "sgd"'),
        ('optimizer = "adam"\n', r"a\.toml: TrainConfig: optimizer is one of adamw, sgd, got 'adam'"),
        ("lr = -1\n", r"a\.toml: TrainConfig: lr is above 0"),
        ("[augment]\nhue = 3\n", r"line 1: Augment: hue is between 0 and 0\.5"),
        ("lr = \n", r"is not a TOML file: .*line 1"),
        ("lr = 1\nlr = 2\n", "is not a TOML file"),
    ],
)
def test_what_cannot_be_meant_names_the_line(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        settings.config_of(path)
    assert "a.toml" in str(caught.value)


def test_files_that_are_not_there_or_no_text(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no settings file at .*gone\.toml"):
        settings.read(tmp_path / "gone.toml")
    with pytest.raises(ConfigError, match="cannot be read as settings"):
        settings.read(tmp_path)
    (tmp_path / "b.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"b\.toml is not a TOML file"):
        settings.read(tmp_path / "b.toml")


def test_nothing_is_written_over(tmp_path: Path) -> None:
    path = settings.write(tmp_path / "new" / "ä b.toml", TrainConfig(data='ü \\ " 日本.json'))
    assert settings.config_of(path).data == 'ü \\ " 日本.json'
    with pytest.raises(ConfigError, match="there already"):
        settings.write(path, TrainConfig())
    assert settings.write(path, TrainConfig(seed=5), over=True) == path
    assert settings.config_of(path).seed == 5
    with pytest.raises(ConfigError, match="not valid text"):
        settings.write(tmp_path / "c.toml", TrainConfig(data="\udcff"))
    assert not (tmp_path / "c.toml").exists()


def test_reasons_stand_beside_the_settings() -> None:
    text = settings.text(TrainConfig(size=512), [Reason("size", 512, "small objects"), Reason("augment", None, "few")])
    assert "size = 512  # small objects\n" in text
    assert "[augment]  # few\n" in text


def test_a_resumed_run_goes_on_as_it_was_started(tmp_path: Path) -> None:
    then = replace(TrainConfig(lr=0.5, batch_size=7, size=320, augment=Augment(hue=0.25)), epochs=None, max_minutes=9.0)
    path = settings.write(tmp_path / "train.toml", then)
    now = settings.as_started(TrainConfig(max_minutes=9.0, lr=0.125, resume=True), path)
    assert (now.batch_size, now.size, now.augment, now.epochs) == (7, 320, Augment(hue=0.25), None)
    assert now.lr == 0.125  # chosen now: the run itself refuses it
    assert settings.as_started(TrainConfig(), tmp_path / "none.toml") == TrainConfig()


def test_undecided_values_work_as_plain_ones() -> None:
    for value in (3, 0.25, "x"):
        marked = undecided(value)
        assert marked == value
        assert isinstance(marked, type(value))
        assert isinstance(marked, Undecided)
        assert type(plain(marked)) is type(value)
    assert not isinstance(undecided(3) + 1, Undecided)
    assert plain(math.pi) == math.pi
