"""API keys, and the ranges of options."""

from pathlib import Path

import pytest

from maskwright.errors import ConfigError
from maskwright.serving.settings import KEY_VARIABLE, ServeOptions, read_keys

KEY = "0123456789abcdef"


def test_keys_of_a_file_and_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    assert read_keys(None) == ()
    file = tmp_path / "keys.txt"
    file.write_text(f"# of the laboratory\n{KEY}\n\n{KEY}\n  {KEY}2 \n")
    assert read_keys(file) == (KEY, KEY + "2")
    monkeypatch.setenv(KEY_VARIABLE, KEY + "3")
    assert read_keys(file) == (KEY + "3", KEY, KEY + "2")


@pytest.mark.parametrize("text", ["secret", "a secret, with spaces in it", "größer-als-sechzehn-zeichen", "\n# none\n"])
def test_keys_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    file = tmp_path / "keys.txt"
    file.write_text(text)
    with pytest.raises(ConfigError, match="API key") as told:
        read_keys(file)
    assert str(file) in str(told.value)
    assert "secret," not in str(told.value)
    with pytest.raises(ConfigError, match="expected a text file"):
        read_keys(tmp_path / "gone.txt")


def test_options_have_ranges_and_do_not_show_keys() -> None:
    for wrong in ({"port": 70000}, {"timeout": 0}, {"max_bytes": 0}, {"queue": -1}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            ServeOptions(**wrong)  # type: ignore[arg-type]
    assert KEY not in repr(ServeOptions(keys=(KEY,)))
