"""What YOLACT's mask options do, measured: print the table of docs/predict.md and make mask_options.jpg beside it.

python docs/images/mask_options.py

No network: each object's mask, averaged over the cells of a 138 x 138 map, is a prototype, so that only finishing is
measured. `tight` boxes are the truth's; `loose` ones are off by 8 % of their sides (standard deviation). In `leaks` a
detection's sum also holds the other objects of the image, as where a network leaves it to the box to part them.

Letters: N objects, h w map, H W image.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from maskwright import draw
from maskwright.data.synthetic import Scene, compose
from maskwright.geometry import Geometry
from maskwright.ops.warp import input_size
from maskwright.predictor.finish import finish
from maskwright.types import InputSpec, Instances, OutputSpec, PrototypeMasks, RawDetections

OUT = Path(__file__).with_suffix(".jpg")
SIZE, WIDE, INPUT, MAP = (480, 640), (270, 1080), (550, 550), (138, 138)
OPTIONS = {
    "published": {},
    "crop_margin=0": {"crop_margin": 0.0},
    "crop_margin=3": {"crop_margin": 3.0},
    "crop_margin=inf": {"crop_margin": float("inf")},
    "upsample=logits": {"upsample": "logits"},
    "upsample=logits, crop_margin=0": {"upsample": "logits", "crop_margin": 0.0},
    "largest_component": {"largest_component": True},
    "all three": {"upsample": "logits", "crop_margin": 0.0, "largest_component": True},
}


def detections(scene: Scene, fit: str, *, loose: bool, leaks: bool) -> tuple[RawDetections, Geometry]:
    """What a network would say of the scene."""
    truth, rng = scene.instances, np.random.default_rng(0)
    geometry = Geometry.resize(truth.size, input_size(truth.size, InputSpec(size=INPUT[0], fit=fit)))
    masks = torch.from_numpy(truth.masks).float()  # (N, H, W)
    side = max(truth.size) if fit == "letterbox" else 0
    masks = F.pad(masks, (0, max(0, side - truth.size[1]), 0, max(0, side - truth.size[0])))
    maps = F.interpolate(masks[None], MAP, mode="bilinear", antialias=True, align_corners=False)[0]  # (N, h, w)
    prototypes = torch.cat([maps, torch.ones(1, *MAP)]).permute(1, 2, 0)  # (h, w, N + 1): the last one is constant
    sums = torch.eye(len(truth)) if not leaks else torch.ones(len(truth), len(truth))
    coefficients = torch.cat([12 * sums, torch.full((len(truth), 1), -6.0)], dim=1)
    boxes = geometry.boxes(truth.boxes)
    if loose:
        boxes += rng.normal(0, 0.08, boxes.shape) * np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    rows = [torch.from_numpy(a)[None] for a in (boxes, truth.scores, truth.labels)]
    return RawDetections(*rows, (PrototypeMasks(coefficients[None], prototypes[None], INPUT),)), geometry


def found(scene: Scene, options: dict, fit: str = "stretch", *, loose: bool = False, leaks: bool = False) -> Instances:
    """The finished instances; as many and in the order of the truth's."""
    raw, geometry = detections(scene, fit, loose=loose, leaks=leaks)
    return finish(raw, 0, geometry, scene.instances.classes, OutputSpec(clip=False, **options))


def mean_iou(scenes: list[Scene], options: dict, fit: str = "stretch", **how: bool) -> float:
    """Of all objects with the truth."""
    ious = []
    for scene in scenes:
        masks, truth = found(scene, options, fit, **how).masks, scene.instances.masks
        ious += ((masks & truth).sum((1, 2)) / (masks | truth).sum((1, 2))).tolist()
    return float(np.mean(ious))


def panel(scene: Scene, instances: Instances) -> np.ndarray:
    """A part of the image with its instances, enlarged."""
    whole = draw.overlay(scene.image, instances, labels=False, scores=False)
    return np.asarray(Image.fromarray(whole[100:420, 150:470]).resize((480, 480), Image.Resampling.NEAREST))


def main() -> None:
    """Print the table and write the image."""
    scenes = [compose(seed, SIZE, objects=14) for seed in range(20)]
    settings = [(loose, leaks) for leaks in (False, True) for loose in (False, True)]
    titles = [f"{'loose' if a else 'tight'} boxes{', leaks' if b else ''}" for a, b in settings]
    print("| option | " + " | ".join(titles) + " |\n|---|" + "---|" * len(settings))
    for name, options in OPTIONS.items():
        cells = [f"{mean_iou(scenes, options, loose=loose, leaks=leaks):.3f}" for loose, leaks in settings]
        print(f"| {name} | " + " | ".join(cells) + " |")
    wide = [compose(seed, WIDE, objects=14) for seed in range(20)]
    print({fit: round(mean_iou(wide, {}, fit), 3) for fit in ("stretch", "letterbox")}, f"on {WIDE} images")
    scene, exact = compose(1, SIZE, objects=14), OPTIONS["upsample=logits, crop_margin=0"]
    rows = [[scene.instances, found(scene, {}), found(scene, exact)],
            [found(scene, o, leaks=True) for o in ({}, exact, OPTIONS["all three"])]]  # fmt: skip
    sheet = np.vstack([np.hstack([panel(scene, instances) for instances in row]) for row in rows])
    Image.fromarray(sheet).save(OUT, quality=75)


if __name__ == "__main__":
    main()
