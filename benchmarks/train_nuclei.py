"""Train the `nuclei` model from random weights, as the one in the package was; see docs/accuracy.md.

    python -m benchmarks.train_nuclei --data instances_train.json --images images/ --out runs/nuclei

Two parts: mild variations first, then strong ones of colour (hue, grey, negatives), which carry what is learnt from
the many fluorescence pictures over to stained tissue. Writes OUT/nuclei.safetensors in half precision.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import maskwright
from maskwright.data.augment import Augment
from maskwright.engine.load import load
from maskwright.models import zoo
from maskwright.weights.files import read, save_checkpoint

MILD = Augment(
    flip_horizontal=0.5, flip_vertical=0.5, rot90=0.75, scale=(0.7, 1.5), crop=(256, 256), brightness=0.25,
    contrast=0.25, saturation=0.25,
)  # fmt: skip
STRONG = replace(
    MILD, rotate=15, scale=(0.6, 1.6), contrast=0.3, saturation=0.5, hue=0.5, grey=0.2, invert=0.4, blur=1.0, noise=8
)
COMMON: dict[str, Any] = {
    "model": "mask_rcnn_small", "epochs": None, "batch_size": 8, "weight_decay": 0.02, "clip": 5.0, "ema": 0.998,
    "precision": "bf16",
}  # fmt: skip


def pack(best: Path, place: Path) -> None:
    """The checkpoint as it is shipped: half precision, without the run's paths."""
    file, predictor = read(best), load(best)
    assert file.header is not None
    header = {
        **zoo.describe(predictor.model, predictor.classes, "nuclei"),
        "metrics": file.header["metrics"],
        "licence": "Apache-2.0",
        "data": "Data Science Bowl 2018, stage 1 (CC0 1.0)",
    }
    save_checkpoint(place, file.tensors, header, half=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--images", required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/nuclei"))
    parser.add_argument("--minutes", type=float, nargs=2, default=(50, 42), help="of the two parts (default: 50 42)")
    arguments = parser.parse_args()
    given = {"data": arguments.data, "images": arguments.images, **COMMON}
    maskwright.train(
        maskwright.TrainConfig(
            out=str(arguments.out / "mild"), lr=6e-4, warmup=150, augment=MILD, max_minutes=arguments.minutes[0],
            evaluate_every=8, **given,
        )
    )  # fmt: skip
    best = maskwright.train(
        maskwright.TrainConfig(
            out=str(arguments.out / "strong"), weights=str(arguments.out / "mild" / "last.safetensors"), lr=5e-4,
            warmup=30, augment=STRONG, max_minutes=arguments.minutes[1], evaluate_every=7, **given,
        )
    )  # fmt: skip
    pack(best, arguments.out / "nuclei.safetensors")


if __name__ == "__main__":
    main()
