"""Generate synthetic scenes of five classes that occlude each other, and train a light YOLACT on them from scratch.

    python -m benchmarks.train_scenes --out runs/scenes

3000 scenes of 192 x 256 pixels for training, 200 others for evaluation. Two parts: benchmarks/scenes.toml, then
benchmarks/scenes_fine.toml from the weights of the first. Prints the COCO mask AP of the best checkpoint of each. The
same command resumes a stopped run.
"""

import argparse
from pathlib import Path

import maskwright
from maskwright.data.formats import coco
from maskwright.data.synthetic import scenes_fixture
from maskwright.evaluation.evaluate import evaluate
from maskwright.training import settings

PARTS = ("scenes", "scenes_fine")
SIZE, OBJECTS, CLASSES = (192, 256), 8, 5


def recipe(part: str) -> Path:
    return Path(__file__).with_name(f"{part}.toml")


def scenes(folder: Path, seed: int, images: int) -> Path:
    """The annotation file of a data set of scenes, generated unless it exists."""
    file = folder / "annotations.json"
    if not file.is_file():
        scenes_fixture(folder, seed, images=images, size=SIZE, objects=OBJECTS, classes=CLASSES)
    return file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/scenes"))
    arguments = parser.parse_args()
    train, val = scenes(arguments.out / "train", 0, 3000), scenes(arguments.out / "val", 100, 200)
    best: Path | None = None
    for part in PARTS:
        run, weights = arguments.out / part, None if best is None else str(best)
        resume = (run / "last.state").exists()
        best = maskwright.train(
            settings.read(recipe(part), data=str(train), val=str(val), out=str(run), weights=weights, resume=resume)
        )
        masks = evaluate(maskwright.load(best), coco.load(val, val.parent / "images"), progress=False).result.masks
        assert masks is not None
        print(f"{part}: mask AP {masks['AP']:.3f}, AP50 {masks['AP50']:.3f}, AP75 {masks['AP75']:.3f} on 200 scenes")


if __name__ == "__main__":
    main()
