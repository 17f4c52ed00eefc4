"""One idea at a time, from R-CNN to Mask R-CNN: the same backbone, data and budget, on synthetic scenes.

    python -m benchmarks.family [--seconds 180] [--only NAME ...]

Each network learns from random weights for as many seconds of one thread's computing, selective search included, from
120 scenes of 192 x 256 pixels, three classes, and is measured on 40 others: COCO AP of boxes and masks, and the seconds
of computing that an image takes, in all and of its proposals by selective search.
"""

import argparse
import math
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.measure import CpuTimer
from maskwright.data.dataset import Dataset
from maskwright.data.synthetic import scenes_fixture
from maskwright.metrics.coco import CocoMetric
from maskwright.metrics.metric import GroundTruth
from maskwright.models import rcnn
from maskwright.models.rcnn import RCNN, RCNNConfig
from maskwright.predictor.predictor import Predictor
from maskwright.samples.augment import Augment
from maskwright.samples.loader import Batches, Sampling
from maskwright.types import InputSpec, OutputSpec

SIZE, OBJECTS, CLASSES = (192, 256), 5, 3
RATE, WARMUP, BATCH = 1e-3, 0.1, 2


def variants() -> dict[str, RCNNConfig]:
    """The rows of the table; each differs from the one before it in the one thing that its name says."""
    base = rcnn.compact(CLASSES)
    rpn = replace(base.rpn, before=300, after=300, train_before=300, train_after=150)
    roi = replace(base.roi, box_width=256, mask_width=64, keep=50, samples=48)
    spec = InputSpec(size=SIZE[0], max_size=None, resize="pillow", multiple=16)
    output = OutputSpec(max_instances=50)
    mask = replace(base, channels=64, rpn=rpn, roi=roi, spec=spec, output=output)
    pool, boxes = replace(mask, roi=replace(roi, pooling="pool")), replace(mask, masks=False)
    return {
        "R-CNN": rcnn.crops(mask, 64),
        "Fast R-CNN, RoIPool": rcnn.fast(mask),
        "Fast R-CNN, RoIAlign": replace(boxes, proposals="search"),
        "Faster R-CNN, RoIPool": replace(pool, masks=False),
        "Faster R-CNN, RoIAlign": boxes,
        "Mask R-CNN, RoIPool": pool,
        "Mask R-CNN, RoIAlign": mask,
    }


def learnt(config: RCNNConfig, data: Dataset, seconds: float) -> tuple[RCNN, int]:
    """The network after so many seconds of computing, and its steps. AdamW; the rate rises and falls along a cosine."""
    torch.manual_seed(0)
    model = RCNN(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.02)
    sampling = Sampling(BATCH, epochs=None, augment=Augment(), masks=config.masks, search=config.box_search)
    start, steps = time.process_time(), 0
    for batch in Batches(data, config.spec, sampling).start():
        share = (time.process_time() - start) / seconds
        if share >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1, share / WARMUP + 0.02) * (0.5 + 0.5 * math.cos(math.pi * share))
        losses = model.loss(batch.inputs, batch.targets, torch.Generator().manual_seed(steps))
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        steps += 1
    return model.eval(), steps


def measured(model: RCNN, data: Dataset) -> str:
    """The numbers of a row."""
    predictor, timer, metric = Predictor(model, data.classes), CpuTimer(), CocoMetric(data)
    for i in range(len(data)):
        found = predictor.predict(data.image(i), score_threshold=predictor.lowest_score, timer=timer)
        metric.update(found, GroundTruth(data, i))
    result = metric.result()
    masks = "    " if result.masks is None else f"{result.masks['AP']:.3f}"
    each = {name: value / len(data) for name, value in timer.totals.items()}
    search = f"{each['search']:.3f}" if "search" in each else "     "
    return f"{result.boxes['AP']:.3f}  {result.boxes['AP50']:.3f}  {masks:5}  {sum(each.values()):7.3f}  {search}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=180.0)
    parser.add_argument("--only", nargs="*")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'':23}  steps  box AP  AP50   mask   s/image  search", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        train, val = (
            scenes_fixture(Path(folder) / name, seed, images=count, size=SIZE, objects=OBJECTS, classes=CLASSES)
            for name, seed, count in (("train", 0, 120), ("val", 100, 40))
        )
        for name, config in variants().items():
            if not arguments.only or name in arguments.only:
                model, steps = learnt(config, train, arguments.seconds)
                print(f"{name:23}  {steps:5}  {measured(model, val)}", flush=True)


if __name__ == "__main__":
    main()
