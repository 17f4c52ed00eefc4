"""From an annotation file to weights that predict: data, model, measure, then `fit`."""

import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from maskwright.codec import encode, filled
from maskwright.data.dataset import Dataset
from maskwright.errors import ConfigError
from maskwright.models import zoo
from maskwright.models.base import AnyModel, finds_stuff
from maskwright.training import settings as files
from maskwright.training.config import TrainConfig
from maskwright.training.defaults import default_model, resolve
from maskwright.training.fit import Evaluate, History, fit
from maskwright.training.network import Start, build, find_start
from maskwright.training.processes import is_first
from maskwright.training.report import report_run
from maskwright.training.resolved import Resolved
from maskwright.training.run import STATE
from maskwright.training.split import split_data
from maskwright.training.survey import file_notes
from maskwright.types import Classes
from maskwright.weights.files import save_checkpoint
from maskwright.wording import counted

SETTINGS = "train.toml"
"""File of a run's settings in its folder."""


@dataclass(frozen=True, eq=False)
class RunPlan:
    """A run before its first step.

    settings: with everything decided, and why. start: where the network comes from. data: to learn from; held_out: to
    measure on, or None; held_out_from: where that comes from. notes: what should be known of these images.
    """

    settings: Resolved
    start: Start
    data: Dataset
    held_out: Dataset | None
    held_out_from: str = ""
    notes: tuple[str, ...] = ()

    def report(self) -> str:
        """The text before the run: the data, and each decision with its reason."""
        held = 0 if self.held_out is None else len(self.held_out)
        learnt, classes = counted(len(self.data), "image"), counted(len(self.data.classes), "class", "es")
        measured = f"{held} to measure on ({self.held_out_from})"
        if not held:
            measured = f"none to measure on ({self.held_out_from}; the weights to use are last.safetensors)"
        first = f"{learnt} to learn from, {measured}, {classes}"
        return "\n".join([first, *self.notes, *(f"  {line}" for line in self.settings.explained())])


def plan(config: TrainConfig, model: AnyModel | None = None) -> RunPlan:
    """Read the annotations, split them, and decide what was left open. Raises ConfigError, DataError, WeightsError."""
    if config.run.resume:
        config = files.as_started(config, Path(config.run.out) / SETTINGS)
    chosen = split_data(config.dataset)
    if model is None:
        start = find_start(config.network, default_model(chosen.data, config.network))
    else:
        start = Start(filled(config.network).model, model.config, built=True)
    return RunPlan(
        resolve(config, chosen.data, start, whole=chosen.whole),
        start,
        chosen.data,
        chosen.held_out,
        chosen.chosen_by,
        (*chosen.notes, *file_notes(chosen.data, chosen.held_out)),
    )


def train(config: TrainConfig, model: AnyModel | None = None) -> Path:
    """Train on the images of an annotation file; gives the file of the best weights, ready for `maskwright.load`.

    What is left open is decided from the data; the decisions are printed on stderr with their reasons, and kept in
    `train.toml` and in the checkpoints.
    model: one that was built for the file's classes, instead of the configured one with random weights.
    """
    out = Path(config.run.out)
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out} is a file; a run needs a folder. Give another `out`.", options=("out",))
    run = plan(config, model)
    settings, classes = run.settings, run.data.classes
    tell: Callable[[str], object] = str
    if settings.run.progress and is_first():
        tell = partial(print, file=sys.stderr, flush=True)
    tell(run.report())
    moved = None
    if model is None:
        model, moved = build(settings.network, classes, run.start, settings.compute.seed, run.data)
        if moved is not None:
            tell(moved.report())

    def on_start() -> None:
        begun = (out / STATE).exists() and (out / SETTINGS).exists()
        if not begun or Resolved.of(files.read(out / SETTINGS)).length != settings.length:  # made longer on resuming
            files.write(out / SETTINGS, settings, over=True)

    def save(trained: AnyModel, path: Path, metrics: Mapping[str, float]) -> None:
        about = zoo.describe(trained.config, classes, run.start.architecture)
        decided = {"training": encode(settings), "decided": dict(settings.reasons)}
        save_checkpoint(path, trained.state_dict(), {**about, "metrics": dict(metrics), **decided})

    history = fit(
        model,
        run.data,
        run.held_out,
        settings,
        average_precision(classes),
        save,
        on_start,
        measure_first=moved is not None and moved.finds,
    )
    measured = history.best is not None  # else a file of that name is of another run
    best, page = out / ("best.safetensors" if measured else "last.safetensors"), None
    if settings.run.report and is_first() and history.stopped in ("finished", "time", "no progress"):
        page = report_run(best, run.held_out, settings)
    tell(ending(history, settings, best, page))
    return best


def ending(history: History, settings: Resolved, weights: Path, page: Path | None) -> str:
    """The text after the run: why it ended, the best value and where it was reached, and the files.

    page: the report, or None where there is none.
    """
    why = {
        "finished": "all epochs are done",
        "time": "the time is used up",
        "no progress": f"no gain in {counted(settings.length.patience or 0, 'evaluation')}",
    }.get(history.stopped, f"stopped by {history.stopped}")
    took = "under a minute" if history.seconds < 60 else f"{history.seconds / 60:.0f} min"
    done = f"{counted(history.iterations, 'step')}, {counted(history.epochs, 'epoch')}"
    lines = [f"The run ended, {why}: {done} in {took}."]
    if history.best is not None:
        row = next((r for r in history.metrics if r["iteration"] == history.best_iteration), {})
        name = next((n for n in history.metrics[-1] if "/" in n), "AP") if history.metrics else "AP"
        epoch = f" (epoch {row['epoch']:.0f})" if row else ""  # unknown where it was measured before a resume
        own = f"; {row[f'{name}@100']:.3f} at COCO's 100 detections an image" if f"{name}@100" in row else ""
        lines.append(f"Best {name} {history.best:.3f} at iteration {history.best_iteration}{epoch}{own}.")
    if page is not None:
        lines.append(f"Report: {page}")
    lines.append(f"Weights: {weights}")
    if history.stopped.startswith("SIG"):
        lines.append(f"To go on, train again with resume and out {shlex.quote(settings.run.out)}.")
    return "\n".join(lines)


def average_precision(classes: Classes) -> Evaluate:
    """COCO mask AP (box AP where there are no masks) decides; AP50 and AP75 of both are noted too.

    Of a model of things and stuff panoptic quality decides, where the data set has panoptic maps.
    As in `evaluate`, more than COCO's 100 detections count where an image has more objects; AP at 100 is noted then.
    """

    def measure(model: AnyModel, data: Dataset) -> dict[str, float]:
        from maskwright.evaluation.evaluate import evaluate
        from maskwright.predictor.predictor import Predictor

        device = next(model.parameters()).device
        stuff = finds_stuff(model.config.parts) and data.panoptic_maps is not None
        metrics = ("coco", "panoptic") if stuff else ("coco",)
        done = evaluate(Predictor(model, classes, device=str(device)), data, metrics=metrics, progress=False)
        found = [s for s in (done.result.masks, done.result.boxes) if s is not None]
        segments = {k: v for k, v in done.values.items() if k in ("panoptic/PQ", "panoptic/SQ", "panoptic/RQ")}
        return segments | {k: v for scores in found for k, v in scores.values(("AP", "AP50", "AP75")).items()}

    return measure
