"""Training for the same time on the same images: maskwright against torchvision's Mask R-CNN and reference recipe.

    python -m benchmarks.training --data instances_train.json --images images/ --minutes 60 [--only ours|peer]

Both hold out the same fifth of the images, start from random weights, and are Mask R-CNNs of full width with a
ResNet-18 and a feature pyramid; both resize every image to the same short edge (512). The peer's recipe is that of its
reference script: SGD, momentum 0.9, weight decay 1e-4, learning rate 0.02 for 16 images, scaled with the batch, linear
warm-up over the first epoch (at most 1000 steps), a tenth of the rate after 16/26 and 22/26 of the run, horizontal
flips, float32, batches of 2; batch norms are trained, as there are no published weights to freeze. Ours is
benchmarks/nuclei.toml with windows of 384 x 384 instead of whole images, bf16, anchors of the nuclei's size, AdamW,
batches of 4, on a GPU 16 at twice the learning rate. `--model mask_rcnn_small` is the lighter network of `nuclei`.

One after the other; for each: images per second, the share of the time spent waiting for data, and the mask AP after
training, measured by the same code. With --only, --threads 1 and twice the minutes the two can run at the same time.
--workers: data-loading processes, the same number for both.
"""

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torchvision
from torch.utils.data import DataLoader, IterableDataset, get_worker_info
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

import maskwright
from benchmarks.train_nuclei import recipe
from maskwright.data.dataset import Dataset
from maskwright.data.formats import coco
from maskwright.evaluation.evaluate import Predicts, evaluate
from maskwright.results.prediction import Prediction
from maskwright.training import settings
from maskwright.types import Classes, Masks

SHORT_EDGE, BATCH, WARMUP = 512, 2, 1000
WINDOW = (384, 384)
OURS = {"cpu": {"batch_size": 4, "lr": 5e-4}, "cuda": {"batch_size": 16, "lr": 1e-3}}
ANCHORS = (12.0, 24.0, 48.0, 96.0, 192.0)  # of the five levels; mask_rcnn_small has four


@dataclass
class Outcome:
    """The result of one side."""

    name: str
    images: int
    seconds: float
    waiting: float
    mask_ap: float | None = None
    mask_ap50: float | None = None

    def line(self) -> str:
        rate, share = self.images / self.seconds, self.waiting / self.seconds
        text = f"{self.name:14}{self.images:>10}{rate:>10.2f}{share:>10.1%}"
        return text if self.mask_ap is None else f"{text}{self.mask_ap:>9.3f}{self.mask_ap50:>7.3f}"


# ---- ours -----------------------------------------------------------------------------------------------------------


def train_ours(arguments: argparse.Namespace, held_out: Dataset | None) -> Outcome:
    out = arguments.out / "ours"
    config = settings.read(
        recipe("nuclei"), data=str(arguments.data), images=str(arguments.images), out=str(out), model=arguments.model,
        anchors=ANCHORS[:4] if arguments.model == "mask_rcnn_small" else ANCHORS, size=SHORT_EDGE, shrink=True,
        max_minutes=arguments.minutes, evaluate_every=10_000, progress=False, report=False, workers=arguments.workers,
        device=arguments.device, seed=5, warmup=60, **OURS[arguments.device],
    )  # fmt: skip
    assert config.augment is not None
    best = maskwright.train(config.changed(augment=replace(config.augment, crop=WINDOW)))
    rows = np.atleast_1d(np.genfromtxt(out / "log.csv", delimiter=",", names=True))
    steps = np.diff(rows["iteration"], prepend=0)  # of each row; evaluations are not counted
    images = steps * config.batches.batch_size
    seconds = images / rows["images_per_second"]
    waiting = float((rows["waiting_share"] * seconds).sum())
    learnt = maskwright.load(best, device=arguments.device)
    return measured("maskwright", learnt, held_out, int(images.sum()), float(seconds.sum()), waiting)


# ---- the peer -------------------------------------------------------------------------------------------------------


class Peer:
    """torchvision's model with the interface that `evaluate` needs."""

    lowest_score = 0.05

    def __init__(self, model: MaskRCNN, classes: Classes) -> None:
        self.model, self.classes = model.eval(), classes
        self.max_instances: int = model.roi_heads.detections_per_img
        self.score_threshold: float = model.roi_heads.score_thresh

    @torch.inference_mode()
    def predict(self, source: np.ndarray, *_: object, **__: object) -> Prediction:
        device = next(self.model.parameters()).device
        found = {name: value.cpu() for name, value in self.model([as_tensor(source).to(device)])[0].items()}
        size = (source.shape[0], source.shape[1])
        masks = Masks.from_dense((found["masks"][:, 0] >= 0.5).numpy(), size)
        return Prediction(
            found["boxes"].numpy(), found["scores"].numpy(), found["labels"].numpy() - 1, self.classes, size, masks
        )


def build_peer(classes: int) -> MaskRCNN:
    body = resnet_fpn_backbone(
        backbone_name="resnet18", weights=None, trainable_layers=5, norm_layer=torch.nn.BatchNorm2d
    )
    return MaskRCNN(body, classes + 1, min_size=SHORT_EDGE, max_size=2000, box_detections_per_img=400)


def as_tensor(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image).permute(2, 0, 1) / 255


Pair = tuple[torch.Tensor, dict[str, torch.Tensor]]
"""An image and its target as torchvision's loss takes them."""


def peer_sample(data: Dataset, i: int, mirrored: bool) -> Pair:
    image, boxes = as_tensor(data.image(i)), torch.from_numpy(data.boxes(i))
    masks = torch.from_numpy(data.masks(i).dense()).to(torch.uint8)
    if mirrored:
        width = image.shape[-1]
        image, masks = image.flip(-1), masks.flip(-1)
        boxes = torch.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], dim=1)
    return image, {"boxes": boxes, "masks": masks, "labels": torch.from_numpy(data.labels(i)) + 1}


class PeerEpochs(IterableDataset[Pair]):
    """Endless epochs of shuffled images, each divided among the workers."""

    def __init__(self, data: Dataset) -> None:
        self.data = data

    def __iter__(self) -> Iterator[Pair]:
        worker = get_worker_info()
        mine, count = (0, 1) if worker is None else (worker.id, worker.num_workers)
        order, mirror = np.random.default_rng(0), np.random.default_rng([1, mine])
        torch.set_num_threads(1 if worker else torch.get_num_threads())
        while True:
            for i in order.permutation(len(self.data))[mine::count].tolist():
                yield peer_sample(self.data, i, bool(mirror.random() < 0.5))


def train_peer(arguments: argparse.Namespace, data: Dataset, held_out: Dataset | None) -> Outcome:
    torch.manual_seed(0)
    model = build_peer(len(data.classes)).train().to(arguments.device)
    began = time.perf_counter()
    waits = [waited for _, waited in peer_steps(model, data, arguments.minutes, arguments.workers)]
    seconds = time.perf_counter() - began
    torch.save(model.state_dict(), arguments.out / "peer.pth")
    return measured("torchvision", Peer(model, data.classes), held_out, len(waits) * BATCH, seconds, sum(waits))


def peer_steps(model: MaskRCNN, data: Dataset, minutes: float, workers: int = 0) -> Iterator[tuple[int, float]]:
    """Train by the peer's recipe; after each step the number of steps done, and the seconds it waited for images.

    What the caller does between two steps is part of the minutes.
    """
    device = next(model.parameters()).device
    lr, warmup = 0.02 * BATCH / 16, max(1, min(WARMUP, len(data) // BATCH - 1))
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=lr, momentum=0.9, weight_decay=1e-4)
    stream = iter(DataLoader(PeerEpochs(data), BATCH, num_workers=workers, collate_fn=list))
    budget, began, steps = 60 * minutes, time.perf_counter(), 0
    while (used := time.perf_counter() - began) < budget:
        asked = time.perf_counter()
        pairs = next(stream)
        waited = time.perf_counter() - asked
        drops = sum(used / budget >= share for share in (16 / 26, 22 / 26))
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1.0, (steps + 1) / warmup) * 0.1**drops
        images = [image.to(device) for image, _ in pairs]
        losses = model(images, [{name: value.to(device) for name, value in target.items()} for _, target in pairs])
        optimizer.zero_grad()
        total = sum(losses.values())
        if not torch.isfinite(total):
            raise SystemExit(f"torchvision's loss is {total.item()} in step {steps}: its recipe does not train here.")
        total.backward()
        optimizer.step()
        steps += 1
        yield steps, waited


# ---- both -----------------------------------------------------------------------------------------------------------


def measured(
    name: str, predictor: Predicts, data: Dataset | None, images: int, seconds: float, waiting: float
) -> Outcome:
    if data is None:
        return Outcome(name, images, seconds, waiting)
    masks = evaluate(predictor, data, progress=False).result.masks
    assert masks is not None
    return Outcome(name, images, seconds, waiting, masks["AP"], masks["AP50"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=60, help="for each of the two (default: 60)")
    parser.add_argument("--rate-only", action="store_true", help="do not measure what was learnt")
    parser.add_argument("--only", choices=("ours", "peer"))
    parser.add_argument("--model", default="mask_rcnn_fpn.resnet18", help="ours (default: mask_rcnn_fpn.resnet18)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/training"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.out.mkdir(parents=True, exist_ok=True)
    data, held_out = coco.load(arguments.data, arguments.images).split(0.2)
    measure = None if arguments.rate_only else held_out
    outcomes = []
    if arguments.only != "peer":
        outcomes.append(train_ours(arguments, measure))
    if arguments.only != "ours":
        outcomes.append(train_peer(arguments, data, measure))
    print(f"{'':14}{'images':>10}{'a second':>10}{'waiting':>10}{'mask AP':>9}{'AP50':>7}")
    for outcome in outcomes:
        print(outcome.line())
    versions = {"torch": torch.__version__, "torchvision": torchvision.__version__, "minutes": arguments.minutes}
    print(json.dumps(versions))


if __name__ == "__main__":
    main()
