"""The check: every fault is found where it was put, nothing else is, and real data is judged fairly."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.data.seeded_faults import SEEDS, make, seeded
from tests.reference.crossing import crosses_itself as slow_crosses_itself
from typer.testing import CliRunner, Result

from maskwright.cli import app
from maskwright.data import formats, synthetic
from maskwright.data.check import Report, check
from maskwright.data.faults.crossing import crosses_itself
from maskwright.data.faults.fixes import FIXES
from maskwright.data.faults.table import FAULTS
from maskwright.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean training set with a clean validation set in its folder val/."""
    folder = tmp_path_factory.mktemp("clean")
    make(folder)
    return folder


def look(folder: Path) -> Report:
    return check(
        folder / "annotations.json",
        folder / "images",
        val=folder / "val/annotations.json",
        val_images=folder / "val/images",
    )


def counted(report: Report) -> Counter[str]:
    return Counter(f.fault for f in report.findings)


def test_every_fault_has_a_seed_and_a_repair_if_it_says_so() -> None:
    assert set(SEEDS) == set(FAULTS)
    assert {name for name, fault in FAULTS.items() if fault.repair} == set(FIXES)
    for fault in FAULTS.values():
        assert fault.repair or fault.advice, fault.name
        assert fault.after <= set(FAULTS), fault.name


def test_a_clean_set_has_no_fault(clean: Path) -> None:
    assert counted(look(clean)) == {"empty-picture": 1}


@pytest.mark.parametrize("fault", SEEDS)
def test_a_seeded_fault_is_found_and_nothing_else(fault: str, clean: Path, tmp_path: Path) -> None:
    seed = SEEDS[fault]
    seeded(clean, tmp_path / "set", seed)
    report = look(tmp_path / "set")
    fresh = set(counted(report) - counted(look(clean)))
    assert fault in fresh, report.text()
    assert fresh - {fault} <= seed.also, report.text()
