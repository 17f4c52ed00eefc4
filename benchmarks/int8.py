"""A YOLACT in INT8 in both runtimes against float32 and bf16 in PyTorch, from uint8 image to boolean masks.

    python -m benchmarks.int8 --data instances_val.json --images images/ [--model yolact_r50] [--runs 7]

The weights are those of the golden tests, generated from the names of the tensors: they find instances, though none
that are right, so that the loss of AP says nothing here and is allowed. --data: annotated images, twenty of which
are calibrated on. All alternate in one process on 2 threads; figures are medians over the turns. The score threshold is
that of the 20 best instances of the network in float32.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

import maskwright
from benchmarks.measure import THREADS
from benchmarks.yolact import checkpoint, ours, predict, source_image
from maskwright.data.formats import coco

CALIBRATED, DRAWN = 20, 20


def candidates(arguments: argparse.Namespace, folder: Path) -> dict[str, maskwright.Predictor]:
    """The predictors by name, float32 in PyTorch first."""
    weights = checkpoint(arguments.model, folder)
    network = ours(arguments.model, weights, "float32")
    data = coco.load(arguments.data, arguments.images)
    data = data.subset(range(min(CALIBRATED, len(data))))
    own = [data.path(i) for i in range(len(data))]
    out = {"PyTorch float32": network, "PyTorch bf16": ours(arguments.model, weights, "bf16")}
    for name, file in (("ONNX Runtime INT8", "a.onnx"), ("OpenVINO INT8", "a.xml")):
        done = maskwright.export(
            network, folder / file, int8=True, data=data, calibrate=own, max_drop=100.0, images=own[:1]
        )
        out[name] = maskwright.load(done.path)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--model", default="yolact_r50")
    parser.add_argument("--runs", type=int, default=7, metavar="TURNS")
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)
    image = source_image()
    with tempfile.TemporaryDirectory() as folder:
        predictors = candidates(arguments, Path(folder))
        network = next(iter(predictors.values()))
        score = float(np.sort(network.predict(image, score_threshold=0.0).scores)[-DRAWN])
        seconds: dict[str, list[float]] = {name: [] for name in predictors}
        for _ in range(arguments.runs + 1):  # the first warms up
            for name, predictor in predictors.items():
                start = time.perf_counter()
                predict(predictor, image, score)
                seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(runs[1:]) for name, runs in seconds.items()}
    base = next(iter(medians.values()))
    for name, value in medians.items():
        print(f"{name:20}{1000 * value:8.1f} ms{base / value:8.2f} times")


if __name__ == "__main__":
    main()
