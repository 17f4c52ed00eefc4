"""Mask R-CNN R50-FPN end to end, uint8 image to boolean masks, against torchvision's model with the same weights.

    python -m benchmarks.mask_rcnn [--precision float32|bf16] [--runs N] [--short-edge 800]

Both alternate in one process on 2 threads, for about the same time each; the figure is the median over the turns. Then
for each of our stages the time, the arithmetic, and its rate as a share of this machine's measured matrix-product peak.
Arithmetic is counted as direct convolution; Winograd convolutions save multiplications, so that the share can exceed 1.
Peak memory (Linux) is that of a separate process for each model. Weights are generated from the names of the tensors,
as in the golden tests, so that about 100 objects are found.
"""

import argparse
import functools
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import skimage.data
import torch
import torchvision
from tests.golden.fill import fill_all
from torchvision.ops.misc import FrozenBatchNorm2d

import maskwright
from benchmarks.measure import (
    THREADS,
    in_turn,
    matrix_peak,
    peak_memory,
    print_peak_memory,
    print_stages,
    stage_gflop,
    stage_seconds,
)
from maskwright.models import zoo
from maskwright.models.rcnn import RCNN, torchvision_v1
from maskwright.models.rcnn.proposer import Anchored, Proposals
from maskwright.ops.warp import pad_batch
from maskwright.predictor.detector import DTYPES
from maskwright.predictor.prepare import prepare
from maskwright.predictor.timing import StageTimer
from maskwright.types import Inputs, InputSpec
from maskwright.weights.load import load_file


def peer(short_edge: int) -> torch.nn.Module:
    """torchvision's model with generated weights, built as for its COCO weights: frozen norms with eps 0."""
    model: torch.nn.Module = torchvision.models.detection.maskrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, min_size=short_edge, norm_layer=lambda n: FrozenBatchNorm2d(n, eps=0.0)
    )
    spec = [(name, list(t.shape), str(t.dtype).removeprefix("torch.")) for name, t in model.state_dict().items()]
    model.load_state_dict(fill_all(spec))
    return model.eval()


def run_peer(model: torch.nn.Module, image: np.ndarray) -> int:
    """uint8 image to boolean masks, as torchvision's reference evaluation does it."""
    with torch.inference_mode():
        found = model([torch.from_numpy(image).permute(2, 0, 1) / 255])[0]
        return len((found["masks"] > 0.5)[:, 0].numpy())


def ours(weights: Path, short_edge: int, precision: str) -> maskwright.Predictor:
    return maskwright.load(
        "mask_rcnn_r50_fpn.torchvision", weights=weights, size=short_edge, precision=precision, progress=False
    )


@torch.inference_mode()
def one_by_one(
    model: RCNN, spec: InputSpec, image: np.ndarray, timer: StageTimer, dtype: torch.dtype = torch.float32
) -> None:
    """`RCNN.trace`, stage by stage; poolers and heads apart, which its branches run together."""
    box, mask, limits, rpn = model.box_branch, model.mask_branch, model.config.limits_for(), model.rpn
    assert mask is not None
    assert rpn is not None
    with timer.stage("resize, normalise, pad"):
        pixels, _ = prepare(image, spec)
        inputs = Inputs(pad_batch([pixels], spec.multiple).to(dtype), [(pixels.shape[1], pixels.shape[2])])
    with timer.stage("body"):
        body = model.backbone(inputs.images)
    with timer.stage("FPN"):
        features = model.fpn(body)
    with timer.stage("RPN head"):
        logits, deltas = rpn(features)
    with timer.stage("RPN decode, NMS"):
        anchored = Anchored(logits, deltas, rpn.anchors(features, inputs.padded))
        proposals = rpn.best(anchored, inputs.sizes, rpn.config.before, rpn.config.after)
    with timer.stage("box RoIAlign"):
        boxes = proposals.of(0)
        pooled = box.reader(features, boxes, torch.zeros(len(boxes), dtype=torch.int64))
    with timer.stage("box head"):
        classes, offsets = box.predictor(box.head(pooled))
    with timer.stage("select, NMS"):
        count = len(boxes)
        live = Proposals(proposals.boxes[:, :count], proposals.scores[:, :count], proposals.alive[:, :count])
        found = box.detect(classes.float().softmax(dim=1)[None], offsets[None], live, inputs.sizes, limits)
    with timer.stage("mask RoIAlign"):
        boxes, labels = found.boxes[found.alive], found.labels[found.alive]
        pooled = mask.reader(features, boxes, torch.zeros(len(boxes), dtype=torch.int64))
    with timer.stage("mask head"):
        mask.head(pooled, labels)


def plain(weights: Path) -> RCNN:
    """The same model without acceleration, so that its arithmetic can be counted."""
    model = RCNN(torchvision_v1()).eval()
    load_file(model, weights, zoo.known())
    return model


def memory_of(arguments: argparse.Namespace, image: np.ndarray) -> None:
    if arguments.memory_of == "torchvision":
        model = peer(arguments.short_edge)
        for _ in range(2):
            run_peer(model, image)
    else:
        predictor = ours(arguments.weights, arguments.short_edge, arguments.precision)
        for _ in range(2):
            assert predictor.predict(image).masks is not None
    print_peak_memory()


def compare(arguments: argparse.Namespace, image: np.ndarray, folder: Path) -> dict[str, Any]:
    """Median ratio over the turns, median seconds of both, stages and peak memory."""
    model = peer(arguments.short_edge)
    weights = folder / "weights.pth"
    torch.save(model.state_dict(), weights)
    predictor = ours(weights, arguments.short_edge, arguments.precision)
    network, spec, dtype = predictor.model, predictor.spec, DTYPES[predictor.precision]
    assert isinstance(network, RCNN)
    found = (run_peer(model, image), len(predictor.predict(image)))
    times = in_turn(lambda: run_peer(model, image), lambda: predictor.predict(image).masks, arguments.runs)
    common = ["--weights", str(weights), "--precision", arguments.precision, "--short-edge", str(arguments.short_edge)]
    return {
        "found": found,
        "torchvision_s": times["peer_s"],
        "maskwright_s": times["ours_s"],
        "ratio": times["ratio"],
        "stages_s": stage_seconds(lambda timer: one_by_one(network, spec, image, timer, dtype), arguments.runs),
        "gflop": stage_gflop(functools.partial(one_by_one, plain(weights), spec, image)),
        "peak_gflops": matrix_peak(dtype),
        "memory_mb": {
            which: peak_memory("benchmarks.mask_rcnn", "--memory-of", which, *common)
            for which in ("torchvision", "maskwright")
        },
    }


def report(result: dict[str, Any], arguments: argparse.Namespace) -> None:
    print(f"Mask R-CNN R50-FPN, short edge {arguments.short_edge}, {arguments.precision}, {THREADS} threads")
    print(f"  torchvision {result['torchvision_s']:.3f} s ({result['found'][0]} found, float32)")
    print(f"  maskwright  {result['maskwright_s']:.3f} s ({result['found'][1]} found)")
    print(f"  {result['ratio']:.2f} times faster (median of {arguments.runs} turns)")
    memory = result["memory_mb"]
    print(f"  peak memory: torchvision {memory['torchvision']:.0f} MB, maskwright {memory['maskwright']:.0f} MB")
    print(f"  measured matrix-product peak: {result['peak_gflops']:.0f} GFLOP/s\n")
    print_stages(result["stages_s"], result["gflop"], result["peak_gflops"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--precision", default="float32", choices=["float32", "bf16"])
    parser.add_argument("--runs", type=int, default=7, metavar="TURNS")
    parser.add_argument("--short-edge", type=int, default=800)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--memory-of", choices=["torchvision", "maskwright"], help=argparse.SUPPRESS)
    parser.add_argument("--weights", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)
    image = skimage.data.coffee()
    if arguments.memory_of:
        memory_of(arguments, image)
        return
    with tempfile.TemporaryDirectory() as folder:
        result = compare(arguments, image, Path(folder))
    print(json.dumps(result, indent=2)) if arguments.json else report(result, arguments)


if __name__ == "__main__":
    main()
