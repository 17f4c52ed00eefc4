"""YOLACT R50 550 px end to end, uint8 image to boolean masks, against torchvision's Mask R-CNN R50-FPN 800 px.

    python -m benchmarks.yolact [--precision float32|bf16] [--runs N] [--model yolact_r50]
    python -m benchmarks.yolact --nuclei

torchvision's network is always float32. Both alternate in one process on 2 threads, for about the same time each, on
an image of 1280 x 720; the figure is the median over the turns. Weights are generated from the names of the tensors,
as in the golden tests, so that each finds about 100 objects, all of which are drawn. Then for each of our stages the
time, the arithmetic, counted as direct convolution, and its rate as a share of this machine's measured matrix-product
peak; Winograd convolutions save multiplications, so that the share can exceed 1. Peak memory (Linux) is that of a
separate process for each.

--nuclei compares the two models in the package, `nuclei_fast` (YOLACT) with `nuclei` (Mask R-CNN), on synthetic images
of bright nuclei on a dark background, of 256 x 256 and 520 x 696, each at its default score threshold.
"""

import argparse
import functools
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import skimage.data
import torch
from PIL import Image
from tests.golden.recorded import Extract
from tests.golden.yolact_recorded import ZOO_NAMES, write_checkpoint

import maskwright
from benchmarks.mask_rcnn import peer, run_peer
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
from maskwright.models.yolact import Yolact
from maskwright.models.yolact.network import YolactTrace
from maskwright.ops.warp import pad_batch
from maskwright.predictor.detector import DTYPES
from maskwright.predictor.finish import finish
from maskwright.predictor.prepare import prepare
from maskwright.predictor.timing import StageTimer
from maskwright.types import Classes, Inputs
from maskwright.weights.load import load_file

SHORT_EDGE, IMAGE = 800, (1280, 720)
SYNTHETIC = (((256, 256), 24), ((520, 696), 90))


def source_image() -> np.ndarray:
    return np.array(Image.fromarray(skimage.data.coffee()).resize(IMAGE, Image.Resampling.BICUBIC))


def checkpoint(model: str, folder: Path) -> Path:
    """The golden tests' weights, in the published format."""
    recorded = next(name for name, known in ZOO_NAMES.items() if known == model)
    return write_checkpoint(Extract(recorded), folder)


def ours(model: str, weights: Path, precision: str) -> maskwright.Predictor:
    return maskwright.load(model, weights=weights, precision=precision, progress=False)


def predict(predictor: maskwright.Predictor, image: np.ndarray, score: float = 0.0) -> int:
    """uint8 image to boolean masks."""
    found = predictor.predict(image, score_threshold=score)
    assert found.masks is not None
    return len(found)


@torch.inference_mode()
def one_by_one(
    model: Yolact,
    classes: Classes,
    image: np.ndarray,
    timer: StageTimer,
    dtype: torch.dtype = torch.float32,
    score: float = 0.0,
) -> None:
    """`Predictor.predict`, stage by stage, for models without a mask scorer."""
    spec, output = model.config.spec, replace(model.config.output, score_threshold=score)
    with timer.stage("resize, normalise, pad"):
        pixels, geometry = prepare(image, spec)
        inputs = Inputs(pad_batch([pixels], spec.multiple, spec.square).to(dtype))
    with timer.stage("body"):
        body = model.backbone(inputs.images)
    with timer.stage("pyramid"):
        features = model.fpn(body)
    with timer.stage("prototypes"):
        prototypes = model.protonet(features[0])
    with timer.stage("head"):
        outputs = model.head(features)
    with timer.stage("priors, scores, NMS"):
        priors = model.priors(features, inputs.padded)
        found = model.select(outputs, priors, model.config.limits_for())
    with timer.stage("masks"):
        coefficients = model.coefficients(outputs, found)
        raw = YolactTrace(prototypes, inputs.padded, outputs, priors, found, coefficients, None).raw
        result = finish(raw, 0, geometry, classes, output)
    with timer.stage("whole bitmaps"):
        assert result.masks is not None


def memory_of(arguments: argparse.Namespace) -> None:
    image = source_image()
    if arguments.memory_of == "torchvision":
        model = peer(SHORT_EDGE)
        for _ in range(2):
            run_peer(model, image)
    else:
        predictor = ours(arguments.model, arguments.weights, arguments.precision)
        for _ in range(2):
            predict(predictor, image)
    print_peak_memory()


def compare(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Median ratio over the turns, median seconds of both, stages and peak memory."""
    image, model, weights = source_image(), peer(SHORT_EDGE), checkpoint(arguments.model, folder)
    predictor = ours(arguments.model, weights, arguments.precision)
    network, dtype = predictor.model, DTYPES[predictor.precision]
    assert isinstance(network, Yolact)
    plain = Yolact(network.config).eval()
    load_file(plain, weights, zoo.known())
    common = ["--weights", str(weights), "--model", arguments.model, "--precision", arguments.precision]
    return {
        "found": (run_peer(model, image), predict(predictor, image)),
        **in_turn(lambda: run_peer(model, image), lambda: predict(predictor, image), arguments.runs),
        "stages_s": stage_seconds(
            lambda timer: one_by_one(network, predictor.classes, image, timer, dtype), 2 * arguments.runs
        ),
        "gflop": stage_gflop(functools.partial(one_by_one, plain, predictor.classes, image)),
        "peak_gflops": matrix_peak(dtype),
        "memory_mb": {
            which: peak_memory("benchmarks.yolact", "--memory-of", which, *common)
            for which in ("torchvision", "maskwright")
            if not arguments.no_memory
        },
    }


def synthetic_image(size: tuple[int, int], count: int) -> np.ndarray:
    """An image (H, W, 3) of about `count` soft bright ellipses."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float32)
    image = np.full(size, 8.0, np.float32)
    for cy, cx, ry, rx in zip(*rng.uniform((0, 0, 7, 7), (*size, 12, 12), (count, 4)).T, strict=True):
        distance = np.hypot((y - cy) / ry, (x - cx) / rx)
        image = np.maximum(image, 120 / (1 + np.exp(8 * (distance.clip(0, 3) - 1))))
    noisy = image + rng.normal(0, 2, size)
    return np.repeat(noisy.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)


def compare_nuclei(size: tuple[int, int], count: int, turns: int) -> dict[str, Any]:
    image, model, small = synthetic_image(size, count), maskwright.load("nuclei"), maskwright.load("nuclei_fast")
    network, score = small.model, small.score_threshold
    assert isinstance(network, Yolact)
    plain = Yolact(network.config).eval()
    return {
        "size": size,
        "found": (predict(model, image, model.score_threshold), predict(small, image, score)),
        **in_turn(lambda: predict(model, image, model.score_threshold), lambda: predict(small, image, score), turns),
        "stages_s": stage_seconds(lambda timer: one_by_one(network, small.classes, image, timer, score=score), turns),
        "gflop": stage_gflop(functools.partial(one_by_one, plain, small.classes, image)),
    }


def report(result: dict[str, Any], arguments: argparse.Namespace) -> None:
    print(f"{arguments.model}, {arguments.precision}, {THREADS} threads, image of {IMAGE[0]} x {IMAGE[1]}")
    print(f"  torchvision Mask R-CNN {result['peer_s']:.3f} s ({result['found'][0]} found, float32)")
    print(f"  maskwright             {result['ours_s']:.3f} s ({result['found'][1]} found)")
    print(
        f"  1 / {result['ratio']:.2f} of the time (median of {arguments.runs} turns; "
        f"1 / {result['best_ratio']:.2f} of the fastest runs)"
    )
    if result["memory_mb"]:
        print("  peak memory: " + ", ".join(f"{which} {mb:.0f} MB" for which, mb in result["memory_mb"].items()))
    print(f"  measured matrix-product peak: {result['peak_gflops']:.0f} GFLOP/s\n")
    print_stages(result["stages_s"], result["gflop"], result["peak_gflops"])


def report_nuclei(rows: list[dict[str, Any]]) -> None:
    peak = matrix_peak(torch.float32)
    for row in rows:
        print(f"image of {row['size'][0]} x {row['size'][1]}, {THREADS} threads, float32")
        print(f"  nuclei (Mask R-CNN)  {1000 * row['peer_s']:.0f} ms ({row['found'][0]} found)")
        print(f"  nuclei_fast (YOLACT) {1000 * row['ours_s']:.0f} ms ({row['found'][1]} found)")
        print(f"  {row['ratio']:.2f} times faster ({row['best_ratio']:.2f} of the fastest runs)\n")
        print_stages(row["stages_s"], row["gflop"], peak)
        print()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--precision", default="float32", choices=["float32", "bf16"])
    parser.add_argument("--runs", type=int, default=7, metavar="TURNS")
    parser.add_argument("--model", default="yolact_r50", choices=["yolact_r50", "yolact_darknet53"])
    parser.add_argument("--nuclei", action="store_true", help="compare the two nuclei models instead")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--no-memory", action="store_true", help="leave out peak memory")
    parser.add_argument("--memory-of", choices=["torchvision", "maskwright"], help=argparse.SUPPRESS)
    parser.add_argument("--weights", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)
    if arguments.memory_of:
        memory_of(arguments)
        return
    if arguments.nuclei:
        rows = [compare_nuclei(size, count, arguments.runs) for size, count in SYNTHETIC]
        print(json.dumps(rows, indent=2)) if arguments.json else report_nuclei(rows)
        return
    with tempfile.TemporaryDirectory() as folder:
        result = compare(arguments, Path(folder))
    print(json.dumps(result, indent=2)) if arguments.json else report(result, arguments)


if __name__ == "__main__":
    main()
