"""The tiny networks of all families, exported; `python -m tests.exporting.variants` compares every one of them.

python -m tests.exporting.variants                 all, in both runtimes
python -m tests.exporting.variants rcnn-panoptic   one
"""

import sys
import tempfile
from pathlib import Path

from tests.models.test_contract import VARIANTS, lively

from maskwright.exporting.compare import compare, own_images
from maskwright.exporting.export import export
from maskwright.models.base import Config
from maskwright.models.family import FAMILIES
from maskwright.predictor.load import load
from maskwright.predictor.predictor import Predictor
from maskwright.runtimes.table import KINDS
from maskwright.types import Classes

NAMES = [name for name, config in VARIANTS.items() if config.box_search is None]
"""Those that find their objects themselves."""


def predictor_of(name: str) -> Predictor:
    """A network of random weights that finds something."""
    config = VARIANTS[name]
    landmarks = [None] * config.num_classes
    return Predictor(
        lively(config), Classes([f"kind {i}" for i in range(config.num_classes)], None, landmarks), name=name
    )


def fullest() -> list[str]:
    """Of each family the variant that returns most."""

    def returned(name: str) -> tuple[int, int]:
        config: Config = VARIANTS[name]
        return len(config.parts), -config.num_classes

    own = ([name for name in NAMES if name.partition("-")[0] == family] for family in FAMILIES)
    return [max(names, key=returned) for names in own]


def main() -> None:
    for name in sys.argv[1:] or NAMES:
        predictor = predictor_of(name)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "tiny.onnx"
            print(f"{name}\n  onnx      {export(predictor, path).difference}", flush=True)
            other = path.with_suffix(".xml")
            KINDS["openvino"].save(path, other, header_of(path))
            print(f"  openvino  {compare(predictor, load(other), own_images())}", flush=True)


def header_of(path: Path) -> str:
    import onnx

    return {row.key: row.value for row in onnx.load(path).metadata_props}["maskwright"]


if __name__ == "__main__":
    main()
