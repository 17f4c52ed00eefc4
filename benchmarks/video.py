"""What the modes of `Predictor.track` cost and what they lose, from an encoded video to masks with track ids.

    python -m benchmarks.video --speed [--model yolact_r50] [--frames 40] [--turns 3] [--clock wall|cpu]
    python -m benchmarks.video [--data nuclei|scenes|FILE] [--images FOLDER] [--weights FILE] [--frames 40]

--speed: random weights under which some hundred priors find something, on a synthetic video of 1280 x 720 in H.264.
The modes take turns in one process on 2 threads; figures are medians over the turns, in milliseconds per frame: of
all, and of each stage. The score threshold is that of the 20 best instances of the first frame, so that all modes draw
as many masks. Where other jobs use the processor, `--clock cpu --threads 1` measures the processor's time instead.

--data: mask AP of each mode against the truth and, as "agreement", against what the same model finds frame by frame
(score at least 0.5); then AP by the distance from the key frame. "nuclei": moving nuclei, for `nuclei_fast`;
"scenes": synthetic clips; FILE: COCO annotations with `video_id`. All clips are one video, with scene cuts.
The row "fixed at equal cost" has as many key frames as the adaptive one, or a few more.
"""

import argparse
import statistics
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

import maskwright
from benchmarks.measure import THREADS, CpuTimer
from maskwright import media
from maskwright.data.dataset import Dataset, ImageRecord
from maskwright.data.formats import coco
from maskwright.data.synthetic import Motion, clip, clips_fixture
from maskwright.data.synthetic.fixtures import annotations
from maskwright.data.synthetic.nuclei import moving_nuclei
from maskwright.media.video import Video, write_video
from maskwright.metrics.coco import CocoMetric
from maskwright.metrics.metric import GroundTruth
from maskwright.models import zoo
from maskwright.models.yolact import Yolact
from maskwright.models.yolact_edge import YolactEdge
from maskwright.ops.warp import pad_batch
from maskwright.predictor.options import FindOptions
from maskwright.predictor.prepare import prepare
from maskwright.predictor.session import TrackedFrame, VideoSession
from maskwright.predictor.timing import StageTimer
from maskwright.predictor.track_options import TrackOptions
from maskwright.types import Classes, Clip, Frame, ImageArray, Instances

MODES = {
    "frames": TrackOptions(mode="frames"),
    "fast, 5": TrackOptions(5, mode="fast"),
    "fast, adaptive": TrackOptions(mode="fast", key_frames="adaptive"),
    "live, 5": TrackOptions(5, mode="fast", lookahead=False),
}

FAITHFUL = {"frames": TrackOptions(mode="frames"), "faithful, 5": TrackOptions(5, mode="faithful")}

CANDIDATES = 300
"""Priors that find something in the first frame of `--speed`."""

STAGES = ("read", "prepare", "motion", "network", "finish", "carry", "link")


@dataclass(eq=False)
class Run:
    """One pass over a video: its frames, and the seconds of each stage."""

    tracked: list[TrackedFrame] = field(default_factory=list)
    timer: StageTimer = field(default_factory=StageTimer)

    @property
    def keys(self) -> int:
        return sum(t.key for t in self.tracked)

    def distances(self) -> list[int]:
        """Of each frame how far its key frame is."""
        return [t.distance for t in self.tracked]


def run(
    predictor: maskwright.Predictor, path: Path, options: TrackOptions, score: float, timer: StageTimer | None = None
) -> Run:
    one = Run(timer=timer or StageTimer())
    session = VideoSession(predictor, FindOptions(score_threshold=score), options, one.timer)
    for tracked in session.run(Video(path)):
        if predictor.draws_masks:
            assert tracked.found.crops is not None
        one.tracked.append(tracked)
    return one


def encode(path: Path, images: Iterable[ImageArray]) -> Path:
    with write_video(path, 25) as writer:
        for image in images:
            writer.write(image)
    return path


# ---- speed ----------------------------------------------------------------------------------------------------------


@torch.inference_mode()
def untrained(name: str, image: ImageArray) -> maskwright.Predictor:
    """A YOLACT of the zoo with random weights, its background's bias such that `CANDIDATES` priors find something."""
    torch.manual_seed(0)
    entry = zoo.resolve(name)
    model = zoo.build(entry).eval()
    assert isinstance(model, Yolact)
    for part, value in model.backbone.state_dict().items():
        if part.endswith("bn3.weight"):  # else what the blocks add grows from block to block
            value.fill_(0.2)
    for part, value in model.state_dict().items():
        if part.startswith(("flow.predictors", "refine")) and part.endswith("weight"):
            value.mul_(0.02)  # else what is carried has little to do with the frame
    pixels = prepare(image, model.config.spec)[0]
    inputs = pad_batch([pixels], model.config.spec.multiple, model.config.spec.square)
    features = model.features(inputs)
    model.head.logits.weight.mul_(2 / model.head(features).logits.std())
    model.head.coefficients.weight.mul_(1 / model.head.coefficients(features[0]).std())
    logits = model.head(features).logits[0].double()  # (N, Q + 1), the background last
    odds = logits[:, :-1].amax(dim=1).exp() / model.config.nms.score - logits[:, :-1].exp().sum(dim=1)
    needed = odds.clamp(min=1e-9).log() - logits[:, -1]  # the bias up to which each prior finds something
    bias = model.head.logits.bias
    assert bias is not None
    bias.view(-1, logits.shape[1])[:, -1] += needed.topk(CANDIDATES).values[-1]
    return maskwright.Predictor(model, entry.classes, name=name)


def speed(arguments: argparse.Namespace, folder: Path) -> None:
    scenes = clip(1, arguments.frames, (720, 1280), 8, 5, motion=Motion(speed=0.004, camera=0.3))
    path = encode(folder / "video.mp4", (s.image for s in scenes))
    first = next(iter(Video(path))).image
    predictor = untrained(arguments.model, first)
    modes = {**FAITHFUL, **MODES} if isinstance(predictor.model, YolactEdge) else MODES
    timer = CpuTimer if arguments.clock == "cpu" else StageTimer
    score = float(np.sort(predictor.predict(first, score_threshold=0.0).scores)[-20:].min())
    times: dict[str, list[dict[str, float]]] = {name: [] for name in modes}
    keys = {}
    for _ in range(arguments.turns):
        for name, options in modes.items():
            one = run(predictor, path, options, score, timer())
            times[name].append({k: 1000 * v / arguments.frames for k, v in one.timer.totals.items()})
            keys[name] = one.keys
    clock = f"ms per frame ({arguments.clock})"
    print(f"{arguments.model}, {arguments.frames} frames of 1280 x 720, {arguments.threads} threads, {clock}")
    print(f"{'mode':<16}{'key frames':>11}" + "".join(f"{s:>9}" for s in STAGES) + f"{'all':>9}{'times':>7}")
    whole = {name: [sum(t.values()) for t in rows] for name, rows in times.items()}
    for name, rows in times.items():
        medians = [statistics.median(t.get(s, 0.0) for t in rows) for s in STAGES]
        ratio = statistics.median(a / b for a, b in zip(whole["frames"], whole[name], strict=True))
        columns = "".join(f"{m:>9.1f}" for m in medians)
        print(f"{name:<16}{keys[name]:>11}{columns}{statistics.median(whole[name]):>9.1f}{ratio:>7.2f}")


# ---- accuracy -------------------------------------------------------------------------------------------------------


def nuclei_data(folder: Path, frames: int) -> Dataset:
    rows, classes = {}, Classes(["nucleus"])
    for v, speed in enumerate((0.2, 0.8, 2.0, 4.0)):
        for t, (image, masks) in enumerate(moving_nuclei(v, frames, speed)):
            record = ImageRecord(frames * v + t + 1, f"{v}/{t:03}.png", masks.size, frame=Frame(Clip(v + 1), t))
            media.write_image(folder / record.file_name, image)
            labels = np.zeros(len(masks), np.int64)
            truth = Instances(masks.boxes(), np.ones(len(masks), np.float32), labels, classes, masks.size, masks)
            rows[record] = annotations(truth, record, polygons=False, first_id=1000 * record.id)
    return Dataset(classes, tuple(rows), {record.id: found for record, found in rows.items()}, folder, folder)


def scenes_data(folder: Path, frames: int) -> Dataset:
    motion = Motion(speed=0.004, spin=0.01, camera=0.5)
    return clips_fixture(7, folder, clips=4, frames=frames, size=(192, 256), objects=6, classes=5, motion=motion)


def data_of(arguments: argparse.Namespace, folder: Path) -> Dataset:
    if arguments.data in ("nuclei", "scenes"):
        return {"nuclei": nuclei_data, "scenes": scenes_data}[arguments.data](folder, arguments.frames)
    return coco.load(Path(arguments.data), arguments.images)


def mask_ap(data: Dataset, found: Sequence[Instances], rows: Iterable[int]) -> float:
    metric = CocoMetric(data)
    for i in rows:
        metric.update(found[i], GroundTruth(data, i))
    masks = metric.result().masks
    return -1.0 if masks is None else float(masks["AP"])


def as_truth(data: Dataset, found: Sequence[Instances]) -> Dataset:
    """What was found surely, as if it were annotated."""
    rows = {
        r.id: annotations(f[f.scores >= 0.5], r, polygons=False, first_id=1000 * r.id)
        for r, f in zip(data.images, found, strict=True)
    }
    return Dataset(data.classes, data.images, rows, data.root, data.source)


def accuracy(arguments: argparse.Namespace, folder: Path) -> None:
    data = data_of(arguments, folder)
    predictor = maskwright.load(arguments.weights or "nuclei_fast")
    assert data.root is not None
    path = encode(folder / "video.mp4", (media.read_image(data.root / r.file_name) for r in data.images))
    runs = {name: run(predictor, path, options, 0.05) for name, options in MODES.items()}
    equal = len(data.images) // max(runs["fast, adaptive"].keys, 1)
    runs["fixed at equal cost"] = run(predictor, path, TrackOptions(max(equal, 1), mode="fast"), 0.05)
    every = range(len(data.images))
    sure = as_truth(data, [t.found for t in runs["frames"].tracked])
    print(f"{'mode':<20}{'key frames':>11}{'ms':>8}{'mask AP':>9}{'lost':>7}{'agreement':>11}")
    base = 0.0
    for name, one in runs.items():
        found = [t.found for t in one.tracked]
        ap = mask_ap(data, found, every)
        base = ap if name == "frames" else base
        agreement, each = mask_ap(sure, found, every), 1000 * sum(one.timer.totals.values()) / len(found)
        print(f"{name:<20}{one.keys:>11}{each:>8.1f}{100 * ap:>9.1f}{100 * (base - ap):>7.1f}{100 * agreement:>11.1f}")
    print("\nmask AP by distance from the key frame, and frame by frame on the same frames")
    for name, one in list(runs.items())[1:]:
        far, pairs = np.array(one.distances()), []
        for d in range(int(far.max()) + 1):
            rows = np.flatnonzero(far == d)
            own, whole = (mask_ap(data, [t.found for t in r.tracked], rows) for r in (one, runs["frames"]))
            pairs.append(f"{d}: {100 * own:.1f} ({100 * whole:.1f})")
        print(f"{name:<20}" + "  ".join(pairs[:10]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speed", action="store_true", help="measure time instead of accuracy")
    parser.add_argument("--model", default="yolact_r50", help="of --speed")
    parser.add_argument("--frames", type=int, default=40, help="of the video, or of each clip that is made")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--clock", default="wall", choices=["wall", "cpu"], help="of --speed")
    parser.add_argument("--threads", type=int, default=THREADS)
    parser.add_argument("--data", default="nuclei", metavar="nuclei|scenes|FILE")
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="of an annotation FILE")
    parser.add_argument("--weights", metavar="FILE", help="a checkpoint; default: nuclei_fast")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        speed(arguments, Path(folder)) if arguments.speed else accuracy(arguments, Path(folder))


if __name__ == "__main__":
    main()
