"""How mask AP grows in the same minutes: maskwright's defaults with and without ImageNet weights, torchvision's recipe.

    python -m benchmarks.curves random|pretrained|peer --data instances_train.json --images images/ \\
        --val instances_test.json --minutes 15 [--points 5] [--size 256] [--frames 3]

One side a call, so that several can run at the same time with one thread each. `random` and `pretrained` are
`maskwright train` with all settings decided from the data, `--backbone-weights none` and `auto`. `peer` is
torchvision's Mask R-CNN of full width over EfficientNet-Lite0 with the same ImageNet weights as `pretrained`, by its
reference recipe for weights of ImageNet: the backbone's batch norms are frozen, and so are its layers up to stride 4;
all else as in `benchmarks.training`. --size: the peer's short edge; give what maskwright decides for the data.

The weights are kept at equal distances of time, and measured after training by the same code, so that no side's
minutes hold an evaluation. Prints, for each point: minutes, images learnt from, seconds of the processor, mask AP and
AP50.
"""

import argparse
import json
import os
import shutil
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torchvision
from torchvision.models.detection import MaskRCNN
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

import maskwright
from benchmarks.training import BATCH, Peer, peer_steps
from maskwright.data.dataset import Dataset
from maskwright.data.formats import coco
from maskwright.evaluation.evaluate import evaluate
from maskwright.nn.backbones import TimmBackbone
from maskwright.training import checkpoint, settings
from maskwright.weights.files import read, save_checkpoint
from maskwright.weights.pretrained import PACKAGED, of_package

STATE = "last.state"
POLL = 0.2  # seconds between two looks for a new state
FROZEN = ("body.conv_stem.", "body.blocks.0.", "body.blocks.1.")  # up to stride 4


@dataclass
class Point:
    """Weights at one time of a run."""

    minutes: float
    images: int
    processor: float
    path: Path


# ---- ours -----------------------------------------------------------------------------------------------------------


def train_ours(arguments: argparse.Namespace) -> tuple[list[Point], Path]:
    out = arguments.out
    config = maskwright.TrainConfig(
        data=str(arguments.data), images=str(arguments.images), val_fraction=0.0, out=str(out),
        backbone_weights="none" if arguments.side == "random" else "auto", max_minutes=arguments.minutes,
        checkpoint_minutes=arguments.minutes / arguments.points, report=False, progress=False,
    )  # fmt: skip
    points: list[Point] = []
    done = threading.Event()
    watcher = threading.Thread(target=keep_states, args=(out / STATE, points, done))
    watcher.start()
    try:
        last = maskwright.train(config)  # without images to measure on: its whole time goes into learning
    finally:
        done.set()
        watcher.join()
    batch = settings.read(out / "train.toml").batches.batch_size
    assert batch is not None
    for point in points:
        position = checkpoint.load(point.path)["position"]
        point.minutes, point.images = position["seconds"] / 60, position["iteration"] * batch
    once = {point.images: point for point in reversed(points)}  # at its end the run writes its state twice
    return list(reversed(once.values())), last


def keep_states(state: Path, points: list[Point], done: threading.Event) -> None:
    """Copy each state that a run writes, until it has ended."""
    seen = 0
    while True:
        ended = done.wait(POLL)
        if state.exists() and state.stat().st_mtime_ns != seen:
            seen = state.stat().st_mtime_ns
            kept = state.with_name(f"point{len(points)}.state")
            shutil.copyfile(state, kept)
            points.append(Point(0.0, 0, processor_seconds(), kept))
        if ended:
            return


# ---- the peer -------------------------------------------------------------------------------------------------------


class Body(torch.nn.Module):
    """EfficientNet-Lite0 with a feature pyramid as torchvision's models want it, from ImageNet weights."""

    out_channels = 256

    def __init__(self) -> None:
        super().__init__()
        self.backbone = TimmBackbone(PACKAGED)
        state = of_package(PACKAGED).state
        self.backbone.load_state_dict({name: state[name] for name in self.backbone.state_dict()})
        for name, parameter in self.backbone.named_parameters():
            parameter.requires_grad_(not name.startswith(FROZEN))
        for norm in self.norms():
            norm.requires_grad_(False)
        channels = list(self.backbone.channels)
        self.fpn = FeaturePyramidNetwork(channels, self.out_channels, extra_blocks=LastLevelMaxPool())

    def norms(self) -> list[torch.nn.Module]:
        return [module for module in self.backbone.modules() if isinstance(module, torch.nn.BatchNorm2d)]

    def train(self, mode: bool = True) -> "Body":
        super().train(mode)
        for norm in self.norms():
            norm.eval()
        return self

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        maps: dict[str, torch.Tensor] = self.fpn(
            OrderedDict((str(i), level) for i, level in enumerate(self.backbone(x)))
        )
        return maps


def train_peer(arguments: argparse.Namespace, data: Dataset) -> tuple[list[Point], Peer]:
    torch.manual_seed(0)
    weights = of_package(PACKAGED)
    mean, std = ([value / 255 for value in values] for values in (weights.mean, weights.std))
    model = MaskRCNN(
        Body(), len(data.classes) + 1, min_size=arguments.size, max_size=2000, image_mean=mean, image_std=std
    )
    points: list[Point] = []
    began, every = time.perf_counter(), arguments.minutes / arguments.points
    for steps, _ in peer_steps(model.train(), data, arguments.minutes):
        used = (time.perf_counter() - began) / 60
        if used >= every * (len(points) + 1):
            points.append(Point(used, steps * BATCH, processor_seconds(), arguments.out / f"point{len(points)}.pth"))
            torch.save(model.state_dict(), points[-1].path)
    return points, Peer(model, data.classes)


# ---- both -----------------------------------------------------------------------------------------------------------


def processor_seconds() -> float:
    """What this process has used so far."""
    times = os.times()
    return times.user + times.system


def at(point: Point, last: Path | Peer) -> Any:
    """A predictor with the weights of a point. last: our run's last weights, or the peer's predictor."""
    if isinstance(last, Peer):
        last.model.load_state_dict(torch.load(point.path, weights_only=True))
        last.model.eval()
        return last
    state, file = checkpoint.load(point.path), read(last)
    tensors = state["model"] if state["ema"] is None else state["ema"]["model"]
    assert file.header is not None
    place = point.path.with_suffix(".safetensors")
    save_checkpoint(place, {name: tensors[name] for name in file.tensors}, file.header)
    return maskwright.load(place)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("side", choices=("random", "pretrained", "peer"))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--val", type=Path, required=True, help="annotations to measure on")
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--points", type=int, default=5, help="of the curve (default: 5)")
    parser.add_argument("--size", type=int, default=256, help="short edge of the peer's images (default: 256)")
    parser.add_argument("--frames", type=int, default=1, metavar="N", help="measure on each Nth image of --val")
    parser.add_argument("--out", type=Path, help="a new folder (default: runs/curves/SIDE)")
    arguments = parser.parse_args()
    arguments.out = arguments.out or Path("runs/curves") / arguments.side
    arguments.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    data, held_out = (coco.load(path, arguments.images) for path in (arguments.data, arguments.val))
    held_out = held_out.subset(range(0, len(held_out), arguments.frames))
    start = processor_seconds()
    points, last = train_peer(arguments, data) if arguments.side == "peer" else train_ours(arguments)
    print(f"{'minutes':>10}{'images':>10}{'processor':>12}{'mask AP':>10}{'AP50':>8}", flush=True)
    for point in points:
        masks = evaluate(at(point, last), held_out, progress=False).result.masks
        assert masks is not None
        row = f"{point.minutes:>10.1f}{point.images:>10}{point.processor - start:>10.0f} s"
        print(f"{row}{masks['AP']:>10.3f}{masks['AP50']:>8.3f}", flush=True)
    print(json.dumps({"side": arguments.side, "torch": torch.__version__, "torchvision": torchvision.__version__}))


if __name__ == "__main__":
    main()
