"""Mask R-CNN R50-FPN end to end, uint8 picture to boolean masks, against torchvision's model with the same weights.

    python -m benchmarks.mask_rcnn [--precision float32|bf16] [--runs N] [--short-edge 800]

Both run in turn in one process on 2 threads; the figure is the median of the ratios of neighbouring runs. Then the
time of each of our stages, the arithmetic of each, and how near it comes to this machine's measured matrix product.
Arithmetic is counted for direct convolution; where Winograd's form saves multiplications the share can exceed 1.
Peak memory (Linux) is that of a process of its own for each model. Weights are made from the names of the tensors, as
the recorded tests have them, so that about 100 objects are found.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import skimage.data
import torch
import torchvision
from tests.golden.fill import fill_all
from torch.utils.flop_counter import FlopCounterMode
from torchvision.ops.misc import FrozenBatchNorm2d

import maskwright
from maskwright.engine.prepare import prepare
from maskwright.engine.timing import StageTimer
from maskwright.models.rcnn import RCNN, torchvision_v1
from maskwright.ops.warp import pad_batch
from maskwright.weights.load import load_file

THREADS = 2


def peer(short_edge: int) -> torch.nn.Module:
    """torchvision's model as its builder makes it for COCO weights: frozen norms with eps 0."""
    model = torchvision.models.detection.maskrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, min_size=short_edge, norm_layer=lambda n: FrozenBatchNorm2d(n, eps=0.0)
    )
    spec = [(name, list(t.shape), str(t.dtype).removeprefix("torch.")) for name, t in model.state_dict().items()]
    model.load_state_dict(fill_all(spec))
    return model.eval()


def run_peer(model: torch.nn.Module, picture: np.ndarray) -> int:
    """uint8 picture to boolean masks, as torchvision's reference evaluation does it."""
    with torch.inference_mode():
        found = model([torch.from_numpy(picture).permute(2, 0, 1) / 255])[0]
        return len((found["masks"] > 0.5)[:, 0].numpy())


def ours(weights: Path, short_edge: int, precision: str) -> maskwright.Predictor:
    return maskwright.load(
        "mask_rcnn_r50_fpn.torchvision", weights=weights, size=short_edge, precision=precision, progress=False
    )


def stages(predictor: maskwright.Predictor, picture: np.ndarray, runs: int) -> dict[str, float]:
    """Median seconds of each stage of the network."""
    model: Any = predictor.model
    times: dict[str, list[float]] = {}
    for _ in range(runs):
        timer = StageTimer()
        one_by_one(model, predictor, picture, timer)
        for name, seconds in timer.totals.items():
            times.setdefault(name, []).append(seconds)
    return {name: statistics.median(values) for name, values in times.items()}


@torch.inference_mode()
def one_by_one(model: Any, predictor: maskwright.Predictor, picture: np.ndarray, timer: StageTimer) -> None:
    """`RCNN.detect`, stage by stage."""
    with timer.stage("resize, normalise, pad"):
        pixels, _ = prepare(picture, predictor.spec)
        sizes = [(pixels.shape[1], pixels.shape[2])]
        dtype = torch.bfloat16 if predictor.precision == "bf16" else torch.float32
        images = pad_batch([pixels], predictor.spec.multiple).to(dtype)
    with timer.stage("body"):
        body = model.backbone(images)
    with timer.stage("FPN"):
        features = model.fpn(body)
    with timer.stage("RPN head"):
        logits, deltas = model.rpn(features)
    with timer.stage("RPN decode, NMS"):
        anchors = model.rpn.anchors(features, tuple(images.shape[-2:]))
        boxes = [b for b, _ in model.rpn.propose(logits, deltas, anchors, sizes, training=False)]
    with timer.stage("box RoIAlign"):
        pooled = model.box_pooler(features, boxes[0], torch.zeros(len(boxes[0]), dtype=torch.int64))
    with timer.stage("box head"):
        classes, offsets = model.box_predictor(model.box_head(pooled))
    with timer.stage("select, NMS"):
        rows = model.select(classes, offsets, boxes, sizes)
    with timer.stage("mask RoIAlign"):
        pooled = model.mask_pooler(features, rows[0][0], torch.zeros(len(rows[0][0]), dtype=torch.int64))
    with timer.stage("mask head"):
        model.mask_head(pooled, rows[0][2])


def arithmetic(predictor: maskwright.Predictor, picture: np.ndarray, weights: Path) -> dict[str, float]:
    """GFLOP of each stage, counted on the plain model."""
    plain = RCNN(torchvision_v1()).eval()
    load_file(plain, weights)
    plain.spec = predictor.spec
    counter = FlopCounterMode(display=False)

    class Counting(StageTimer):
        def stage(self, name: str) -> Any:
            before = counter.get_total_flops()
            self.close()
            self.open = (name, before)
            return super().stage(name)

        open: tuple[str, int] | None = None

        def close(self) -> None:
            if self.open is not None:
                self.totals[self.open[0]] = (counter.get_total_flops() - self.open[1]) / 1e9
                self.open = None

    timer = Counting()
    with counter:
        float_predictor = maskwright.Predictor(plain, predictor.classes)
        one_by_one(plain, float_predictor, picture, timer)
        timer.close()
    return timer.totals


def matrix_peak(dtype: torch.dtype) -> float:
    """GFLOP/s of the best of some matrix products of 2048 x 2048 and of a 256-channel 3x3 convolution."""
    a, b = (torch.randn(2048, 2048).to(dtype) for _ in range(2))
    x = torch.randn(1, 256, 100, 152).to(dtype).to(memory_format=torch.channels_last)
    w = torch.randn(256, 256, 3, 3).to(dtype).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        product = 2 * 2048**3 / best(lambda: a @ b)
        convolution = 2 * 100 * 152 * 256 * 256 * 9 / best(lambda: torch.conv2d(x, w, padding=1))
    return max(product, convolution) / 1e9


def best(call: Callable[[], object], runs: int = 7) -> float:
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def peak_memory(which: str, arguments: argparse.Namespace, weights: Path) -> float:
    """MB that a process of its own needs at most for one prediction with model `which`."""
    command = [sys.executable, "-m", "benchmarks.mask_rcnn", "--memory-of", which, "--weights", str(weights)]
    command += ["--precision", arguments.precision, "--short-edge", str(arguments.short_edge)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def memory_of(arguments: argparse.Namespace, picture: np.ndarray) -> None:
    if arguments.memory_of == "torchvision":
        model = peer(arguments.short_edge)
        for _ in range(2):
            run_peer(model, picture)
    else:
        predictor = ours(arguments.weights, arguments.short_edge, arguments.precision)
        for _ in range(2):
            assert predictor.predict(picture).masks is not None
    # Not getrusage: a child's figure there begins with its parent's.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    print(int(status["VmHWM"].split()[0]) / 1024)


def compare(arguments: argparse.Namespace, picture: np.ndarray, folder: Path) -> dict[str, Any]:
    """Ratios of neighbouring runs, median seconds of both, and peak memory."""
    model = peer(arguments.short_edge)
    weights = folder / "weights.pth"
    torch.save(model.state_dict(), weights)
    predictor = ours(weights, arguments.short_edge, arguments.precision)
    found = (run_peer(model, picture), len(predictor.predict(picture)))
    times: list[tuple[float, float]] = []
    for _ in range(arguments.runs):
        start = time.perf_counter()
        run_peer(model, picture)
        middle = time.perf_counter()
        assert predictor.predict(picture).masks is not None
        times.append((middle - start, time.perf_counter() - middle))
    return {
        "found": found,
        "torchvision_s": statistics.median(t for t, _ in times),
        "maskwright_s": statistics.median(t for _, t in times),
        "ratio": statistics.median(t / o for t, o in times),
        "stages_s": stages(predictor, picture, arguments.runs),
        "gflop": arithmetic(predictor, picture, weights),
        "peak_gflops": matrix_peak(torch.bfloat16 if predictor.precision == "bf16" else torch.float32),
        "memory_mb": {w: peak_memory(w, arguments, weights) for w in ("torchvision", "maskwright")},
    }


def report(result: dict[str, Any], arguments: argparse.Namespace) -> None:
    print(f"Mask R-CNN R50-FPN, short edge {arguments.short_edge}, {arguments.precision}, {THREADS} threads")
    print(f"  torchvision {result['torchvision_s']:.3f} s ({result['found'][0]} found, float32)")
    print(f"  maskwright  {result['maskwright_s']:.3f} s ({result['found'][1]} found)")
    print(f"  {result['ratio']:.2f} times faster (median of {arguments.runs} neighbouring pairs)")
    memory = result["memory_mb"]
    print(f"  peak memory: torchvision {memory['torchvision']:.0f} MB, maskwright {memory['maskwright']:.0f} MB")
    print(f"  measured matrix-product peak: {result['peak_gflops']:.0f} GFLOP/s\n")
    print(f"  {'stage':<24}{'seconds':>9}{'GFLOP':>9}{'GFLOP/s':>9}{'of peak':>9}")
    for name, seconds in result["stages_s"].items():
        work = result["gflop"].get(name, 0.0)
        rate = f"{work / seconds:9.0f}{work / seconds / result['peak_gflops']:9.2f}" if work > 0.5 else ""
        print(f"  {name:<24}{seconds:9.3f}{work:9.1f}{rate}")
    total = sum(result["stages_s"].values())
    print(f"  {'sum':<24}{total:9.3f}{sum(result['gflop'].values()):9.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--precision", default="float32", choices=["float32", "bf16"])
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--short-edge", type=int, default=800)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--memory-of", choices=["torchvision", "maskwright"], help=argparse.SUPPRESS)
    parser.add_argument("--weights", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)
    picture = skimage.data.coffee()
    if arguments.memory_of:
        memory_of(arguments, picture)
        return
    with tempfile.TemporaryDirectory() as folder:
        result = compare(arguments, picture, Path(folder))
    print(json.dumps(result, indent=2)) if arguments.json else report(result, arguments)


if __name__ == "__main__":
    main()
