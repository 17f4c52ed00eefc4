"""What the `nuclei` model reaches on the held-out fifth of the Data Science Bowl pictures, overall and by kind.

    python -m benchmarks.nuclei --data instances_train.json --images images/ [--model nuclei] [--overlays DIR]

The fifth is the one that training holds out (`Dataset.split(0.2)`). --overlays writes pictures of each kind with what
was found on the left and the annotation on the right.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

import maskwright
from maskwright.data import coco
from maskwright.data.dataset import Dataset
from maskwright.draw import overlay
from maskwright.engine.evaluate import evaluate
from maskwright.media import write_image

OVERLAYS = 4


def by_kind(data: Dataset) -> dict[str, Dataset]:
    """The pictures of each kind, as their records say it."""
    kinds = [str(record.extra.get("kind", "unknown")) for record in data.images]
    return {kind: data.subset([i for i, k in enumerate(kinds) if k == kind]) for kind in sorted(set(kinds))}


def draw(predictor: maskwright.Predictor, data: Dataset, kind: str, folder: Path, score: float) -> None:
    for i in range(min(OVERLAYS, len(data))):
        picture = data.image(i)
        found = predictor.predict(picture, score_threshold=score)
        pair = [overlay(picture, shown, labels=False) for shown in (found, data.truth(i))]
        write_image(folder / f"{kind}_{i}.png", np.hstack(pair))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("--score", type=float, default=0.5, help="lowest score drawn (default: 0.5)")
    parser.add_argument("--overlays", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    predictor = maskwright.load(arguments.model)
    _, held_out = coco.load(arguments.data, arguments.images).split(0.2)
    print(
        f"{'pictures':<20}{'number':>8}{'nuclei':>8}{'mask AP':>9}{'AP50':>7}{'AP75':>7}{'box AP':>8}{'a second':>10}"
    )
    for kind, data in {"all": held_out, **by_kind(held_out)}.items():
        result = evaluate(predictor, data, progress=False)
        masks, boxes = result.result.masks, result.result.boxes
        assert masks is not None
        count = sum(len(data.of(i)) for i in range(len(data)))
        figures = f"{masks['AP']:9.3f}{masks['AP50']:7.3f}{masks['AP75']:7.3f}{boxes['AP']:8.3f}"
        print(f"{kind:<20}{len(data):>8}{count:>8}{figures}{result.pictures_per_second:10.2f}")
        if arguments.overlays and kind != "all":
            draw(predictor, data, kind, arguments.overlays, arguments.score)


if __name__ == "__main__":
    main()
