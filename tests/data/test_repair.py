"""The repair: each fault that can be repaired is gone from the copy, and the original keeps every byte."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.data.seeded_faults import SEEDS, make, seeded

from maskwright.data import coco
from maskwright.data.faults.fixes import FIXES
from maskwright.data.repair import Repair, repair


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean training set with a clean validation set in its folder val/."""
    folder = tmp_path_factory.mktemp("clean")
    make(folder)
    return folder


def mend(folder: Path) -> Repair:
    return repair(
        folder / "annotations.json",
        folder.parent / "out",
        folder / "images",
        val=folder / "val/annotations.json",
        val_images=folder / "val/images",
    )


def bytes_of(folder: Path) -> Mapping[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.mark.parametrize("fault", [name for name, seed in SEEDS.items() if name in FIXES])
def test_a_repaired_copy_is_clean_and_the_original_untouched(fault: str, clean: Path, tmp_path: Path) -> None:
    seed, folder = SEEDS[fault], tmp_path / "set"
    seeded(clean, folder, seed)
    before = bytes_of(folder)
    done = mend(folder)
    assert bytes_of(folder) == before
    assert fault in {f.fault for f, _ in done.done}, done.text()
    left = {f.fault for f in done.after.findings}
    assert left <= {"empty-picture", "val-classes-differ"}, done.text()
    assert "val-classes-differ" not in left or fault == "unknown-category", done.text()
    data = coco.load(tmp_path / "out/annotations.json", tmp_path / "out/images")
    for i in range(len(data)):
        data.image(i)
        if data.has_masks:
            data.masks(i)
