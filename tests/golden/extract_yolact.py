"""Make `data/yolact_*.npz` from the whole recordings, as `extract` does for R-CNN.

    python -m tests.golden.extract_yolact [FOLDER of the recordings, ../shared/golden/yolact]

Boxes are stored in pixels of the input (`rows/`) or of the image; of the masks about thirty are kept, of big tensors
every s-th value ("raw" in `meta` gives the strides).
"""

import sys
from pathlib import Path

import numpy as np
from pycocotools import mask as coco_mask
from tests.golden.extract import Arrays, save
from tests.golden.fill import digest
from tests.golden.recorded import image_digest, source_image
from tests.golden.yolact_recorded import CHOICES, CONFIGS, IMAGES, SIZE, Recording, kind_of, steps

MASKS = 30
VALUES = 1500
"""Of each tensor about so many values are kept."""

RAW = ("P3_0", "P4_0", "P5_0", "P6_0", "P7_0", "loc0", "conf0", "coef0", "proto0")


def main(folder: Path) -> None:
    """Write every extract and say how big it is."""
    for name in CONFIGS:
        recording = Recording(folder / name)
        arrays: Arrays = {}
        for key in IMAGES:
            arrays |= chosen(recording, key) | results(recording, key)
        raw, strides = raw_values(recording)
        meta = {
            "spec": recording.spec,
            "fill_sha256": digest(recording.weights()),
            "pictures": {key: of_image(recording, key) for key in IMAGES},
            "raw": strides,
        }
        save(name, arrays | raw, meta)
        if recording.trained:
            save(f"train_{name}", *training(recording))


def of_image(recording: Recording, key: str) -> dict[str, str]:
    """Name and digest of an image; it must be the one scikit-image carries."""
    image = recording.image(key)
    assert np.array_equal(image, source_image(IMAGES[key])), f"{recording.name}: image {key} is not {IMAGES[key]}"
    return {"name": IMAGES[key], "sha256": image_digest(image)}


def chosen(recording: Recording, key: str) -> Arrays:
    """What each way to suppress leaves over, in the frame of the input."""
    out: Arrays = {}
    for kind, prefix in CHOICES.items():
        if f"{prefix}{key}_box" in recording:
            out[f"{key}/{kind}/boxes"] = recording[f"{prefix}{key}_box"] * np.float32(SIZE)
            out[f"{key}/{kind}/labels"] = recording[f"{prefix}{key}_class"].astype(np.uint8)
            out[f"{key}/{kind}/scores"] = recording[f"{prefix}{key}_score"]
    return out


def results(recording: Recording, key: str) -> Arrays:
    """What is shown on the image; in the order of the class scores."""
    masks = recording.masks(f"pp{key}")
    rows = np.arange(0, len(masks), max(len(masks) // MASKS, 1))
    out: Arrays = {
        f"{key}/boxes": recording[f"pp{key}_box"].astype(np.int16),
        f"{key}/labels": recording[f"pp{key}_class"].astype(np.uint8),
        f"{key}/scores": recording[f"pp{key}_score"],
        f"{key}/areas": masks.sum(axis=(1, 2)).astype(np.int32),
        f"{key}/rle_rows": rows.astype(np.uint8),
        f"{key}/rles": np.array([coco_mask.encode(np.asfortranarray(masks[r]))["counts"] for r in rows]),
    }
    if f"pp{key}_maskscore" in recording:
        out[f"{key}/mask_scores"] = recording[f"pp{key}_maskscore"]
    return out


def raw_values(recording: Recording) -> tuple[Arrays, dict[str, list[int]]]:
    """Some values on the way to the first image's detections, and what is known of the whole tensors."""
    arrays: Arrays = {}
    strides: dict[str, list[int]] = {}
    for key in RAW:
        value, kind = recording[key], kind_of(key)
        thinner = [1] * value.ndim
        while value[tuple(slice(None, None, t) for t in thinner)].size > VALUES:
            axis = int(np.argmax([n / t for n, t in zip(value.shape, thinner, strict=True)]))
            thinner[axis] += 1
        arrays[key] = value[tuple(slice(None, None, t) for t in thinner)]
        whole = {"loc": 4, "conf": 81, "coef": 32}
        shape = (len(recording["priors"]), whole[kind]) if kind in whole else WHOLE[key]
        strides[key] = [s * t for s, t in zip(steps(kind, shape), thinner, strict=True)]
        arrays[f"stats/{key}"] = recording.stats[key][:3]
    return arrays, strides


def training(recording: Recording) -> tuple[Arrays, dict[str, dict[str, list[int]]]]:
    """A training step: targets, who answers for what, losses and gradients whole; of the network's answers less."""
    arrays, thinner = dict(recording.loss), {}
    for kind, by in THINNER.items():
        for key in (f"{kind}0", f"{kind}1"):
            arrays[key] = arrays[key][tuple(slice(None, None, t) for t in by)]
            thinner[key] = list(by)
    return arrays, {"thinner": thinner}


THINNER = {"in": (1, 7, 7), "conf_logits": (40, 1), "segm": (2, 2, 2)}
"""Of the values kept of these tensors, every n-th along each axis."""

WHOLE: dict[str, tuple[int, ...]] = {
    f"P{level}_0": (256, side, side) for level, side in zip(range(3, 8), (69, 35, 18, 9, 5), strict=True)
} | {"proto0": (138, 138, 32)}
"""Shapes of the tensors before they were cut."""


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[3] / "shared/golden/yolact")
