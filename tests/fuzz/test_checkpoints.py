"""A few damaged checkpoints of every kind; `python -m tests.fuzz.checkpoints` makes as many as wanted."""

from pathlib import Path

import pytest
from tests.fuzz.checkpoints import KINDS, run


@pytest.mark.filterwarnings("ignore")  # of torch, about kinds of tensors that are no longer made
@pytest.mark.parametrize("kind", KINDS)
def test_damaged_checkpoints_are_read_or_refused(kind: str, tmp_path: Path) -> None:
    """By an error of ours that names the file."""
    counts, wrong = run(kind, 15, 0, tmp_path)
    assert wrong == []
    assert counts["refused"] > 0
