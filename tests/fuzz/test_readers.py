"""Every reader on damaged files: a result or an error of ours, in bounded time and memory.

`python -m tests.fuzz` tries more of them.
"""

import pytest
from tests.fuzz.readers import READERS
from tests.fuzz.run import run

SHARE = 3
"""Tests of each reader, so that processes share them."""


@pytest.mark.parametrize("share", range(SHARE))
@pytest.mark.parametrize("name", READERS)
def test_damaged_files_are_read_or_refused(name: str, share: int) -> None:
    outcome = run(name, range(share, 60, SHARE))
    assert not outcome.times, f"python -m tests.fuzz --seed 0 --reader {name}\n{outcome.text()}"


@pytest.mark.parametrize("name", [name for name in READERS if name != "images"])  # of those some have no label values
def test_sound_files_are_read(name: str) -> None:
    outcome = run(name, range(12), damaged=False)
    assert not outcome.times, outcome.text()
    assert outcome.counts["done"] > 8 * outcome.counts["refused"]  # a box without an outline cannot be drawn
