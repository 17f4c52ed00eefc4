"""Make synthetic scenes of five classes that hide each other, and train a light YOLACT on them from random weights.

    python -m benchmarks.train_scenes --out runs/scenes [--epochs 20]

3000 scenes of 192 x 256 pixels to learn from, 200 others to measure on; benchmarks/scenes.toml is the recipe. Prints
the COCO mask AP of the best checkpoint. A run that was stopped goes on with the same command.
"""

import argparse
from pathlib import Path

import maskwright
from maskwright.data import coco
from maskwright.data.synthetic import scenes_fixture
from maskwright.engine.evaluate import evaluate
from maskwright.engine.settings import config_of

RECIPE = Path(__file__).with_name("scenes.toml")
SIZE, OBJECTS, CLASSES = (192, 256), 8, 5


def scenes(folder: Path, seed: int, pictures: int) -> Path:
    """The annotation file of a data set of scenes, made unless it is there."""
    file = folder / "annotations.json"
    if not file.is_file():
        scenes_fixture(folder, seed, pictures=pictures, size=SIZE, objects=OBJECTS, classes=CLASSES)
    return file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/scenes"))
    parser.add_argument("--epochs", type=int, help="instead of the recipe's")
    arguments = parser.parse_args()
    train, val = scenes(arguments.out / "train", 0, 3000), scenes(arguments.out / "val", 100, 200)
    run = arguments.out / "run"
    changes = {} if arguments.epochs is None else {"epochs": arguments.epochs}
    best = maskwright.train(
        config_of(RECIPE, data=str(train), val=str(val), out=str(run), resume=(run / "last.state").exists(), **changes)
    )
    masks = evaluate(maskwright.load(best), coco.load(val), progress=False).result.masks
    assert masks is not None
    print(f"mask AP {masks['AP']:.3f}, AP50 {masks['AP50']:.3f}, AP75 {masks['AP75']:.3f} on 200 scenes")


if __name__ == "__main__":
    main()
