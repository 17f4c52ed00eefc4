"""The trial before a run: can this set-up learn? A minute of training on eight typical images must overfit them.

The trial uses the run's own network, input scale, learning rate, precision and annotations, on windows of the
images, without variations. Letters: N objects.
"""

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from maskwright.data.dataset import Dataset
from maskwright.data.doubt import Tally
from maskwright.errors import NOTHING_TO_LEARN, DataError, MaskwrightError, TrainingError
from maskwright.evaluation.evaluate import evaluate
from maskwright.evaluation.report import NOT_LOSSES
from maskwright.metrics.coco import CocoMetric
from maskwright.metrics.metric import GroundTruth
from maskwright.models.base import AnyModel
from maskwright.ops import boxes as box_ops
from maskwright.predictor.predictor import Predictor
from maskwright.samples.excerpt import typical, windows
from maskwright.samples.loader import Batches, Sampling
from maskwright.training.fit import History, fit
from maskwright.training.network import build
from maskwright.training.resolved import Resolved
from maskwright.training.survey import Array, input_scales, object_sides
from maskwright.training.train import RunPlan
from maskwright.types import Classes, Instances, IntArray
from maskwright.wording import counted

IMAGES = 8
SECONDS = 60.0
LEARNT = 0.5  # AP50 on the images learnt from, from which a set-up passes
LEARNING, FALLEN = 0.35, 0.6  # AP50 that passes too where the loss has also fallen to this share
TREND_STEPS = 20  # steps from which a trend is one
BLOWN_UP = 5.0  # times the untrained network's: a loss that rose so far shows too high a rate, even if it fell again
FEW_STEPS, STEPS_PER_CLASS = 40, 12  # fewer steps than these tell little of what has been learnt, but show a trend
FALLING, STILL_FALLING = 0.8, 0.97  # losses at the end over the first, and over those of the middle, that show learning
BATCH, WARMUP = 2, 10
WINDOWS = (128, 384, 800)  # sides: the usual least, the usual most, and the most where objects are larger
MINUTES = "minutes"  # the length of the trial itself, in advice
ANY_CLASS = Classes(["object"])
TINY = 12.0  # pixels at the input below which objects are hard to find


@dataclass(frozen=True)
class Advice:
    """A setting, or a command, that may help, by its name. change: "raise", "lower", "lighter", "run" or a value."""

    name: str
    change: str


@dataclass(frozen=True)
class Cause:
    """A likely reason of a failure, and what may help against it."""

    text: str
    advice: tuple[Advice, ...] = ()


def said(advice: Advice) -> str:
    """The advice in words, with the names that settings have in code."""
    if advice.change in ("raise", "lower", "run"):
        return f"{advice.change} {advice.name}"
    return f"a lighter {advice.name}" if advice.change == "lighter" else f"{advice.name} {advice.change}"


@dataclass(frozen=True)
class Trial:
    """What a trial found.

    learns: the verdict. files: the images. side: of the windows. steps, seconds: of training. first, last: losses at
    the beginning and the end, by name. ap: AP50 of boxes, and of masks where there are any; "any class" where classes
    are ignored. causes: likely reasons of a failure, most telling first; where it learns, what is unusual nevertheless.
    """

    learns: bool
    files: tuple[str, ...]
    side: int
    steps: int
    seconds: float
    first: dict[str, float]
    last: dict[str, float]
    ap: dict[str, float]
    causes: tuple[Cause, ...]

    def report(self, spell: Callable[[Advice], str] = said) -> str:
        """The findings and the verdict, as plain text. spell: writes a piece of advice."""
        lines = [f"{counted(len(self.files), 'image')}, windows of {self.side} pixels: {', '.join(self.files)}"]
        lines.append(f"{counted(self.steps, 'step')} in {self.seconds:.0f} s")
        if self.first:
            lines.append("loss         first     last")
            lines += [f"  {name:<9} {self.first[name]:7.3f}  {self.last[name]:7.3f}" for name in _terms(self.first)]
        if self.ap:
            lines.append("AP50 on these images: " + ", ".join(f"{k} {v:.2f}" for k, v in self.ap.items()))
        for cause in self.causes:
            advice = ", or ".join(spell(one) for one in cause.advice)
            lines.append(f"- {cause.text}" + (f": {advice}" if advice else ""))
        lines.append("The set-up can learn." if self.learns else "The set-up did NOT learn these images.")
        return "\n".join(lines)


def try_out(plan: RunPlan, model: AnyModel | None = None, *, seconds: float = SECONDS) -> Trial:
    """Train on `IMAGES` typical images for `seconds`, measure on them, and judge.

    model: one that was built for the data's classes, instead of the plan's. Nothing is written that stays.
    Raises what training raises, but for losses that are not finite: they are a verdict.
    """
    positions = typical(plan.data, IMAGES)
    faults = outline_faults(plan.data.subset(positions))
    if model is None:
        model, _ = build(plan.settings.network, plan.data.classes, plan.start, plan.settings.compute.seed, plan.data)
    else:
        model = copy.deepcopy(model)
    with TemporaryDirectory(prefix="maskwright-") as folder:
        side = _side(plan, model)
        data = windows(plan.data, positions, model.config.spec, side, Path(folder))
        whole = replace(model.config.spec, fit="short_edge", size=1, max_size=None, shrink=False, enlarge=None)
        model = model.with_spec(whole)  # windows stay as they are
        files = tuple(plan.data.images[i].file_name for i in positions)
        settings = shortened(plan.settings, seconds, folder)
        began = time.perf_counter()
        try:
            history = fit(model, data, None, settings)
        except (TrainingError, DataError) as error:
            faults += _of_error(error, settings)
            return Trial(False, files, side, 0, time.perf_counter() - began, {}, {}, {}, tuple(faults))
        ap = _measure(model, data)
        faults += _of_inputs(model, data)
    classes = len({a.label for rows in data.annotations.values() for a in rows if not a.crowd})
    return _judge(files, side, history, ap, faults, settings.learning.lr, classes)


def shortened(settings: Resolved, seconds: float, folder: str) -> Resolved:
    """The run's settings, but short, on few images, and without anything that is kept."""
    return settings.changed(
        out=str(Path(folder) / "run"),
        epochs=None,
        max_minutes=seconds / 60,
        batch_size=min(BATCH, settings.batches.batch_size),
        accumulate=1,
        repeats=1,
        short_edges=(),
        augment=None,
        ema=None,
        warmup=min(WARMUP, settings.learning.warmup),
        evaluate_every=1_000_000,
        patience=None,
        checkpoint_minutes=1e9,
        log_every=1,
        workers=0,
        resume=False,
    )


def _side(plan: RunPlan, model: AnyModel) -> int:
    """Windows twice as wide as the large objects are at the network's scale."""
    sides, _ = _input_sides(plan.data, model)
    large = float(np.quantile(sides, 0.9)) if len(sides) else 0.0
    low, usual, most = WINDOWS
    wanted = 32 * int(np.ceil(max(2 * large, low) / 32))
    return wanted if wanted <= usual else min(max(usual, 32 * int(np.ceil(1.2 * large / 32))), most)


def _input_sides(data: Dataset, model: AnyModel) -> tuple[Array, IntArray]:
    """(N,) sides of all objects at the input, and (P,) how many each image has."""
    sides, counts = object_sides(data)
    return sides * np.repeat(input_scales([record.size for record in data.images], model.config.spec), counts), counts


# ---- measuring ------------------------------------------------------------------------------------------------------


def _measure(model: AnyModel, data: Dataset) -> dict[str, float]:
    """AP50 on the images that were learnt from."""
    predictor, found = Predictor(model, data.classes, device=str(next(model.parameters()).device)), list[Instances]()
    result = evaluate(
        predictor, data, metrics=("coco",), watch=lambda i, image, rows: found.append(rows), progress=False
    ).result
    ap = {} if result.masks is None else {"masks": float(result.masks["AP50"])}
    ap["boxes"] = float(result.boxes["AP50"])
    if len(data.classes) > 1:
        rows = {k: tuple(replace(a, label=0) for a in v) for k, v in data.annotations.items()}
        one = replace(data, classes=ANY_CLASS, annotations=rows, class_extra=())
        metric = CocoMetric(one)
        for i, instances in enumerate(found):
            metric.update(without_classes(instances), GroundTruth(one, i))
        ap["boxes of any class"] = float(metric.result().boxes["AP50"])
    return ap


def without_classes(found: Instances) -> Instances:
    """The same objects, all of one class."""
    return replace(found, labels=np.zeros(len(found), np.int64), classes=ANY_CLASS)


def _curve(history: History) -> tuple[dict[str, float], dict[str, float]]:
    """Mean losses of the first and of the last steps, by name."""
    rows = history.losses
    few = max(1, len(rows) // 10)
    ends = rows[:few], rows[-few:]
    first, last = ({k: float(np.mean([r[k] for r in part])) for k in _terms(rows[0])} for part in ends)
    return first, last


def _terms(row: dict[str, float]) -> list[str]:
    return [k for k in row if k not in NOT_LOSSES]


# ---- judging --------------------------------------------------------------------------------------------------------


def _judge(
    files: tuple[str, ...],
    side: int,
    history: History,
    ap: dict[str, float],
    faults: list[Cause],
    lr: float,
    classes: int,
) -> Trial:
    """classes: how many the images show."""
    first, last = _curve(history)
    peak = max(row["loss"] for row in history.losses) / max(history.losses[0]["loss"], 1e-9)
    main = ap.get("masks", ap["boxes"])
    fall = last["loss"] / max(first["loss"], 1e-9)
    mixed = ap.get("boxes of any class", 0.0) >= LEARNT and ap["boxes"] < 0.6 * ap["boxes of any class"]
    learns = not mixed and (main >= LEARNT or (main >= LEARNING and fall <= FALLEN))
    few = history.iterations < max(FEW_STEPS, STEPS_PER_CLASS * classes)
    if learns:
        causes = []
    elif few and peak <= BLOWN_UP and _falls_steadily(history):
        learns, steps = True, counted(history.iterations, "step")
        text = f"{steps} are few for {counted(classes, 'class', 'es')}, but the loss fell to {fall:.0%} and still falls"
        causes = [Cause(f"{text}; more minutes would show how far", (Advice(MINUTES, "raise"),))]
    else:
        causes = _causes(history, ap, fall, peak, mixed, lr)
    return Trial(learns, files, side, history.iterations, history.seconds, first, last, ap, (*causes, *faults))


def _falls_steadily(history: History) -> bool:
    """Whether the losses of a third of the steps are clearly below those of the third before, from first to last."""
    losses = np.array([row["loss"] for row in history.losses])
    if len(losses) < TREND_STEPS:
        return False
    first, middle, last = (float(np.median(part)) for part in np.array_split(losses, 3))
    return last <= FALLING * first and last <= STILL_FALLING * middle and middle < first


def _causes(history: History, ap: dict[str, float], fall: float, peak: float, mixed: bool, lr: float) -> list[Cause]:
    """fall: last losses over the first ones. peak: the largest loss over that of the first step, before any update."""
    out = []
    if history.iterations < FEW_STEPS:
        few = f"only {counted(history.iterations, 'step')} in {history.seconds:.0f} s, too few to tell"
        faster = (Advice("size", "lower"), Advice("model", "lighter"), Advice("precision", "bf16"))
        out.append(Cause(few, (Advice(MINUTES, "raise"), *faster)))
    if mixed:
        out.append(Cause("objects are found, but not their classes: are class names mixed up in the annotations?"))
    if "masks" in ap and ap["boxes"] >= LEARNT and ap["masks"] < 0.5 * ap["boxes"]:
        out.append(Cause("boxes are found, but not the masks: do the outlines belong to these objects and images?"))
    if fall > 1.05 or peak > BLOWN_UP:
        rose = "the loss rose" if fall > 1.05 else f"the loss first rose to {peak:.0f} times its beginning"
        slower = Advice("lr", f"{lr / 10:g}")
        out.append(Cause(f"{rose}, the learning rate {lr:g} is probably too high; try a tenth of it", (slower,)))
    elif fall > 0.9:
        low = f"the loss hardly moved, the learning rate {lr:g} is probably too low; try ten times as much"
        out.append(Cause(low, (Advice("lr", f"{lr * 10:g}"),)))
    if not out:
        help_ = (Advice("data show", "run"), Advice("size", "raise"), Advice(MINUTES, "raise"))
        out.append(Cause(f"the loss fell to {fall:.0%}, but objects are not found yet", help_))
    return out


def _of_error(error: MaskwrightError, settings: Resolved) -> list[Cause]:
    if error.code == NOTHING_TO_LEARN:
        return [Cause("after drawing them at the network's scale no object is left to learn from")]
    lr, precision = settings.learning.lr, settings.compute.precision
    slower = (Advice("lr", f"{lr / 10:g}"), Advice("precision", "float32"))
    return [Cause(str(error)), Cause(f"learning rate {lr:g}, precision {precision}", slower)]


def outline_faults(data: Dataset) -> list[Cause]:
    """What is wrong with the annotations of these images: outlines without a pixel, elsewhere than their boxes, or of
    several things."""
    empty, apart, total, tally = 0, 0, 0, Tally()
    for i in range(len(data)):
        rows = [k for k, a in enumerate(data.of(i)) if not a.crowd]
        if any(data.of(i)[k].segmentation is None for k in rows):
            continue
        masks, boxes = data.masks(i)[rows], data.boxes(i)[rows]
        tally.add(masks)
        drawn, full = masks.boxes(), masks.areas() > 0
        total, empty = total + len(rows), empty + int((~full).sum())
        overlap = box_ops.matched_iou(torch.from_numpy(boxes[full]), torch.from_numpy(drawn[full]))
        apart += int((overlap < 0.5).sum())
    check, out = (Advice("data check", "run"),), []
    if empty:
        out.append(Cause(f"{empty} of {total} outlines hold no pixel", check))
    if apart:
        out.append(Cause(f"{apart} of {total} outlines do not lie in their boxes (IoU below 0.5)", check))
    if tally.doubt():
        out.append(Cause(tally.doubt(), check))
    return out


def _of_inputs(model: AnyModel, data: Dataset) -> list[Cause]:
    """What is unusual about the inputs: objects too small, more than the model reports, images without contrast."""
    sides, counts = _input_sides(data, model)
    out = []
    if len(sides) and np.median(sides) < TINY:
        found = f"objects are {np.median(sides):.0f} pixels at the input (median), hard to find"
        out.append(Cause(found, (Advice("size", "raise"),)))
    if counts.max(initial=0) > model.config.output.max_instances:
        most = f"a window holds {counts.max()} objects, the model reports {model.config.output.max_instances} at most"
        out.append(Cause(most))
    batches = Batches(data, model.config.spec, Sampling(batch_size=1, masks=model.config.draws_masks))
    flat, off = [], []
    for batch in batches.start():
        flat.append(float(batch.images.std()))
        off.append(abs(float(batch.images.mean())))
    if np.median(flat) < 0.05:
        flatness = f"deviation {np.median(flat):.3f} of about 1"
        out.append(Cause(f"images have next to no contrast after normalisation ({flatness})"))
    if np.median(off) > 5 * max(1.0, float(np.median(flat))):
        out.append(Cause(f"images are far from the expected brightness (mean {np.median(off):.1f} of about 0)"))
    return out
