"""Train `nuclei` or `nuclei_fast` from random weights by the recipe benchmarks/NAME.toml, and pack it for the package.

    python -m benchmarks.train_nuclei --data instances_train.json --images images/ [--model nuclei] [--minutes 600]
    python -m benchmarks.train_nuclei --pack runs/nuclei/best.safetensors [--model nuclei]

Writes OUT/NAME.safetensors in half precision; OUT is runs/NAME unless given. The same command resumes a stopped run.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import maskwright
from maskwright.models import zoo
from maskwright.predictor.load import load
from maskwright.training import settings
from maskwright.types import PrototypeMasks
from maskwright.weights.files import read, save_checkpoint

MODELS = ("nuclei", "nuclei_fast")


def recipe(model: str) -> Path:
    return Path(__file__).with_name(f"{model}.toml")


def pack(best: Path, model: str, place: Path) -> None:
    """Write the checkpoint for the package: half precision, the recipe's score threshold, without the run's paths.

    Prototype masks keep only their largest component: the others are mostly strips of neighbours.
    """
    file, predictor = read(best), load(best)
    network, score = predictor.model, settings.read(recipe(model)).network.score_threshold
    assert file.header is not None
    assert score is not None
    output = replace(network.config.output, largest_component=PrototypeMasks in network.config.parts)
    config = replace(network.config, output=replace(output, score_threshold=score))
    header = {
        **zoo.describe(config, predictor.classes, file.header["architecture"]),
        "metrics": file.header["metrics"],
        "licence": "Apache-2.0",
        "data": "Data Science Bowl 2018, stage 1 (CC0 1.0)",
    }
    save_checkpoint(place, file.tensors, header, half=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=MODELS, default=MODELS[0])
    parser.add_argument("--data")
    parser.add_argument("--images")
    parser.add_argument("--out", type=Path, help="default: runs/MODEL")
    parser.add_argument("--minutes", type=float, help="of training (default: the recipe's)")
    parser.add_argument("--weights", help="begin with these instead of random ones")
    parser.add_argument("--pack", type=Path, metavar="FILE", help="train nothing, pack this checkpoint")
    arguments = parser.parse_args()
    if arguments.pack is None and not (arguments.data and arguments.images):
        parser.error("give --data and --images, or --pack")
    out = arguments.out or Path("runs") / arguments.model
    minutes = {} if arguments.minutes is None else {"max_minutes": arguments.minutes}
    best = arguments.pack or maskwright.train(
        settings.read(
            recipe(arguments.model),
            data=arguments.data,
            images=arguments.images,
            out=str(out),
            weights=arguments.weights,
            resume=(out / "last.state").exists(),
            **minutes,
        )
    )
    pack(best, arguments.model, out / f"{arguments.model}.safetensors")


if __name__ == "__main__":
    main()
