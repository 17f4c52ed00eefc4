"""Train the `nuclei` model from random weights as benchmarks/nuclei.toml says, and pack it as it is shipped.

    python -m benchmarks.train_nuclei --data instances_train.json --images images/ --out runs/nuclei [--minutes 600]
    python -m benchmarks.train_nuclei --pack runs/nuclei/best.safetensors --out runs/nuclei

Writes OUT/nuclei.safetensors in half precision. A run that was stopped goes on with the same command.
"""

import argparse
from pathlib import Path

import maskwright
from maskwright.engine.load import load
from maskwright.engine.settings import config_of
from maskwright.models import zoo
from maskwright.weights.files import read, save_checkpoint

RECIPE = Path(__file__).with_name("nuclei.toml")


def pack(best: Path, place: Path) -> None:
    """The checkpoint as it is shipped: half precision, without the run's paths."""
    file, predictor = read(best), load(best)
    assert file.header is not None
    header = {
        **zoo.describe(predictor.model, predictor.classes, "mask_rcnn_small"),
        "metrics": file.header["metrics"],
        "licence": "Apache-2.0",
        "data": "Data Science Bowl 2018, stage 1 (CC0 1.0)",
    }
    save_checkpoint(place, file.tensors, header, half=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data")
    parser.add_argument("--images")
    parser.add_argument("--out", type=Path, default=Path("runs/nuclei"))
    parser.add_argument("--minutes", type=float, default=600, help="of training (default: 600)")
    parser.add_argument("--weights", help="begin with these instead of random ones")
    parser.add_argument("--pack", type=Path, metavar="FILE", help="train nothing, pack this checkpoint")
    arguments = parser.parse_args()
    if arguments.pack is None and not (arguments.data and arguments.images):
        parser.error("give --data and --images, or --pack")
    best = arguments.pack or maskwright.train(
        config_of(
            RECIPE,
            data=arguments.data,
            images=arguments.images,
            out=str(arguments.out),
            max_minutes=arguments.minutes,
            weights=arguments.weights,
            resume=(arguments.out / "last.state").exists(),
        )
    )
    pack(best, arguments.out / "nuclei.safetensors")


if __name__ == "__main__":
    main()
