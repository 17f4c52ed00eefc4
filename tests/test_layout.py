"""What the documents promise of the source: no module is too long to read, and the module map names every one."""

import re
from pathlib import Path

import pytest

import maskwright

ROOT = Path(maskwright.__file__).parent
MODULES = sorted(path.relative_to(ROOT) for path in ROOT.rglob("*.py") if not path.name.startswith("__"))
FORMATS = {
    "coco",
    "coco_panoptic",
    "ctc",
    "yolo",
    "masks",
    "youtube_vis",
    "labelme",
    "voc",
    "cvat",
    "label_studio",
    "shared",
}
TOGETHER = {"cli", "faults", "synthetic", "rcnn", "yolact", "yolact_edge"} | FORMATS
"""Packages that the map names as one."""


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_no_module_is_longer_than_400_lines(module: Path) -> None:
    assert len((ROOT / module).read_text().splitlines()) <= 400


def test_the_module_map_names_every_module() -> None:
    page = ROOT.parents[1] / "docs" / "architecture.md"
    if not page.is_file():
        pytest.skip(f"needs {page}, which is not there")
    block = next(b for b in page.read_text().split("```") if b.lstrip().startswith("src/maskwright/"))
    named = set(re.findall(r"[a-z_0-9]+", block))
    parts = {module.parent.name if module.parent.name in TOGETHER else module.stem for module in MODULES}
    assert sorted(parts - named) == []
