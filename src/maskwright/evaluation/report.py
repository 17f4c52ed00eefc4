"""From an evaluation, and the logs of a training run, to one HTML file."""

import csv
import datetime
import math
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

import maskwright
from maskwright.atomic import replacing
from maskwright.data.dataset import Dataset
from maskwright.errors import ConfigError
from maskwright.evaluation.evaluate import Data, Evaluation, evaluate, opened
from maskwright.evaluation.gallery import COLORS, Gallery
from maskwright.metrics.coco import CocoScores
from maskwright.metrics.nuclei import NucleiResult
from maskwright.predictor.predictor import Predictor
from maskwright.report import charts, page
from maskwright.report.charts import Bars, Series
from maskwright.report.page import Column, Html
from maskwright.wording import counted, of_input

Facts = Sequence[tuple[str, object]]
Point = tuple[float, float]

CURVES = 100
"""Precision-recall curves of single classes drawn at most, those with most objects first."""

NOT_LOSSES = ("iteration", "epoch", "lr", "grad_norm", "images_per_second", "waiting_share")


def report(
    path: str | os.PathLike[str],
    predictor: Predictor,
    data: Data,
    images: str | os.PathLike[str] | None = None,
    *,
    title: str = "",
    run: str | os.PathLike[str] | None = None,
    config: Mapping[str, object] | None = None,
    **options: Any,
) -> Evaluation:
    """Evaluate a model and write what was found to an HTML file that needs nothing beside it.

    title: heading of the page. run: folder of a training run, whose log.csv and metrics.csv are drawn as well; None is
    the folder of the model's file, where that is one. config: shown as the run's settings. options: as `evaluate`'s.
    Raises what `evaluate` raises, ConfigError for a path that cannot be a report, OSError where it cannot be written.
    """
    target = Path(path)
    if target.suffix.lower() not in (".html", ".htm") or target.is_dir():
        raise ConfigError(f"A report is an HTML file: give a name that ends in .html, got {target}.")
    dataset = opened(data, images, options.pop("limit", None), options.pop("data_format", None))
    threshold = options.get("nuclei_score")
    shown = max(predictor.score_threshold, options.get("score_threshold") or 0.0) if threshold is None else threshold
    gallery = Gallery(dataset, shown)
    evaluation = evaluate(predictor, dataset, watch=gallery, **options)
    content = [
        _tiles(evaluation),
        *curves(_folder(run, predictor)),
        *_accuracy(evaluation, gallery),
        *_images(gallery),
        _about(evaluation, dataset, predictor, config or {}),
        page.notes("Notes", _notes(evaluation)),
    ]
    subtitle = f"{predictor.name} on {evaluation.images} images of {dataset.source}."
    write(target, title or f"Evaluation of {predictor.name}", subtitle, content)
    return evaluation


def write(path: Path, title: str, subtitle: str, content: Sequence[Html]) -> None:
    now = datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M")
    with replacing(path) as part:
        part.write_text(page.page(title, f"{subtitle} {now}", content), encoding="utf-8")


# ---- the parts of the page, from top to bottom ----------------------------------------------------------------------


def _tiles(evaluation: Evaluation) -> Html:
    masks, boxes = evaluation.result.masks, evaluation.result.boxes
    values = [
        (f"{what} {name}", _shown(scores[name]))
        for what, scores in (("mask", masks), ("box", boxes))
        if scores is not None
        for name in ("AP", "AP50", "AP75")[: 3 if what == "mask" or masks is None else 1]
    ]
    if evaluation.nuclei is not None:
        values += [(f"TP/(TP+FP+FN) at IoU {iou:g}", _shown(evaluation.nuclei.overall.at(iou).ap_by_image))
                   for iou in (0.5, 0.75)]  # fmt: skip
    values += [("images", str(evaluation.images)), ("images a second", f"{evaluation.images_per_second:.2f}")]
    return page.tiles(values)


def _folder(run: str | os.PathLike[str] | None, predictor: Predictor) -> Path | None:
    if run is None:
        return Path(predictor.name).parent if Path(predictor.name).is_file() else None
    return Path(run)


def curves(folder: Path | None) -> list[Html]:
    """The curves of the training run in a folder; nothing where there is none."""
    if folder is None:
        return []
    steps, measured = read_columns(folder / "log.csv"), read_columns(folder / "metrics.csv")
    if not steps and not measured:
        return []
    losses = [name for name in steps if name not in NOT_LOSSES]
    losses.sort(key=lambda name: name != "loss")
    numbers = [name for name in measured if name not in ("iteration", "epoch")]

    end = max([1.0, *steps.get("iteration", []), *measured.get("iteration", [])])

    def chart(title: str, table: Mapping[str, list[float]], names: Sequence[str], y_label: str) -> Html:
        lines = [
            Series(_long_name(name), list(zip(table["iteration"], table[name], strict=True)))
            for name in names
            if name in table and "iteration" in table
        ]
        return charts.line_chart(title, lines, x_label="iteration", y_label=y_label, x_range=(0, end))

    drawn = [
        chart("Losses", steps, losses, "loss"),
        chart("On the validation images", measured, numbers, "value"),
        chart("Learning rate", steps, ["lr"], "learning rate"),
        chart("Gradient norm", steps, ["grad_norm"], "norm"),
    ]
    return [page.section("Training", [page.grid(drawn)])]


def _long_name(column: str) -> str:
    return column.replace("segm/", "mask ").replace("bbox/", "box ").replace("_", " ")


def _accuracy(evaluation: Evaluation, gallery: Gallery) -> list[Html]:
    result = evaluation.result
    scores = result.boxes if result.masks is None else result.masks
    what = "boxes" if result.masks is None else "masks"
    drawn = [_precision_recall(scores, iou, what) for iou in (0.5, 0.75)]
    kinds = [("masks", result.masks), ("boxes", result.boxes)]
    bars = [Bars(name, [_measured(s[f"AP{size}"]) for size in "sml"]) for name, s in kinds if s is not None]
    drawn.append(
        charts.bar_chart("AP by size of the objects", ("under 32²", "32² to 96²", "over 96² px"), bars, y_label="AP")
    )
    if evaluation.nuclei is not None:
        drawn.append(_nuclei(evaluation.nuclei))
    lead = (
        f"Right, false and missed: one class, IoU of 0.5, score of {gallery.score_threshold:.2f} and more. AP counts "
        "all detections whatever their score."
    )
    return [
        page.section("Accuracy", [page.grid(drawn)]),
        page.section("Classes", [_classes(evaluation, gallery)], lead),
    ]


def _precision_recall(scores: CocoScores, iou: float, what: str) -> Html:
    recall = [k / (len(scores.precision[0]) - 1) for k in range(len(scores.precision[0]))]

    def points(label: int | None) -> list[Point]:
        reached = [(r, float(p)) for r, p in zip(recall, scores.curve(iou, label), strict=True) if p >= 0]
        return [p for p in reached if p[1] > 0] or reached

    rows = list(enumerate(scores.per_class))
    measured = sorted((row for row in rows if row[1].objects), key=lambda row: -row[1].objects)[:CURVES]
    few = len(measured) < charts.COLORS
    name = "all classes" if len(scores.per_class) > 1 else scores.per_class[0].name
    series = [Series(name, points(None))]
    if len(scores.per_class) > 1:
        series += [Series(row.name, points(k), thin=not few) for k, row in measured]
    return charts.line_chart(
        f"Precision and recall of {what} at IoU {iou:g}",
        series,
        x_label="recall",
        y_label="precision",
        x_range=(0, 1),
        y_range=(0, 1),
    )


def _nuclei(result: NucleiResult) -> Html:
    rows = result.overall.rows
    series = [
        Series("mean over images", [(row.iou, _gap(row.ap_by_image)) for row in rows]),
        Series("summed over images", [(row.iou, _gap(row.ap)) for row in rows]),
    ]
    title = f"TP / (TP + FP + FN) at score {result.score_threshold:.2f} and more"
    return charts.line_chart(title, series, x_label="IoU threshold", y_label="AP", y_range=(0, 1))


def _classes(evaluation: Evaluation, gallery: Gallery) -> Html:
    masks, boxes = evaluation.result.masks, evaluation.result.boxes
    kinds = [("mask", masks.per_class)] if masks is not None else []
    kinds.append(("box", boxes.per_class))
    columns = [Column("class"), Column("objects", "annotated, crowds not counted"), Column("found", "at any score")]
    for kind, _ in kinds:
        columns += [Column(f"{kind} AP", "mean over IoU 0.50 to 0.95", share=True), Column("AP50", share=True)]
        columns += [Column("AP75", share=True), Column("AR", "recall of 100 detections an image", share=True)]
    columns += [Column("right"), Column("false"), Column("missed")]
    rows: list[list[str | float | None]] = []
    for k, row in enumerate(boxes.per_class):
        cells: list[str | float | None] = [row.name, row.objects, row.found]
        for _, per_class in kinds:
            cells += [_measured(v) for v in (per_class[k].ap, per_class[k].ap50, per_class[k].ap75, per_class[k].ar)]
        rows.append([*cells, *(int(v) for v in gallery.counts[k])])
    return page.table(columns, rows)


def _images(gallery: Gallery) -> list[Html]:
    worst, best = gallery.examples()
    lead = (
        f"Ordered by panoptic quality (summed IoU / (right + false / 2 + missed / 2)) at score "
        f"{gallery.score_threshold:.2f} and more."
    )
    out = [page.section("Worst images", [page.swatches(COLORS), page.examples(worst)], lead)] if worst else []
    return [*out, page.section("Best images", [page.examples(best)])] if best else out


def _about(evaluation: Evaluation, dataset: Dataset, predictor: Predictor, config: Mapping[str, object]) -> Html:
    objects = sum(len(dataset.of(i)) for i in range(len(dataset)))
    more = ", ..." if len(dataset.classes) > 20 else ""
    parts = [
        page.facts(
            "Data and model",
            [
                ("annotations", dataset.source),
                ("images' folder", dataset.root),
                ("images", len(dataset)),
                ("annotated objects", objects),
                ("classes", f"{len(dataset.classes)}: {', '.join(dataset.classes[:20])}{more}"),
                ("model", predictor.name),
                ("parameters", f"{sum(p.numel() for p in predictor.model.parameters()):,}"),
                ("input", of_input(predictor.spec)),
            ],
        ),
        page.facts("Time and machine", [*_times(evaluation), *_machine(predictor)]),
    ]
    if config:
        parts.append(page.facts("Settings of the run", [(k, setting(v)) for k, v in config.items()], closed=True))
    return page.section("About", parts)


def _times(evaluation: Evaluation) -> Facts:
    count = max(evaluation.images, 1)
    stages = [(name, f"{1000 * s / count:.1f} ms an image") for name, s in evaluation.seconds.items()]
    return [("evaluation", f"{evaluation.wall_seconds:.1f} s"), *stages]


def _machine(predictor: Predictor) -> Facts:
    device = predictor.device
    threads = f"{device}, {counted(torch.get_num_threads(), 'thread')}"
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else threads
    return [
        ("device", name),
        ("precision", predictor.precision),
        ("system", f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"),
        ("software", f"maskwright {maskwright.__version__}, torch {torch.__version__}, "
                     f"Python {platform.python_version()}"),
    ]  # fmt: skip


def _notes(evaluation: Evaluation) -> list[str]:
    nuclei = [] if evaluation.nuclei is None else list(evaluation.nuclei.notes)
    failed = [f"Left out: {name}: {reason}" for name, reason in evaluation.failed]
    return [*evaluation.result.notes, *nuclei, *evaluation.notes, *failed[:100],
            *([f"and {len(failed) - 100} more images"] if len(failed) > 100 else [])]  # fmt: skip


# ---- values ---------------------------------------------------------------------------------------------------------


def read_columns(path: Path) -> dict[str, list[float]]:
    """The columns of a log, by name; a missing number is NaN. No file has none; rows that were cut off are left out."""
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as stream:
        head, *rows = list(csv.reader(stream)) or [[]]
    rows = [row for row in rows if len(row) == len(head)]
    return {name: [_parsed(row[k]) for row in rows] for k, name in enumerate(head)}


def _parsed(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _measured(value: float) -> float | None:
    return value if value >= 0 else None


def _gap(value: float) -> float:
    return value if value >= 0 else math.nan


def _shown(value: float) -> str:
    return f"{value:.3f}" if value >= 0 else "–"


def setting(value: object) -> str:
    if isinstance(value, Mapping):
        return "\n".join(f"{k}: {v}" for k, v in value.items())
    return str(value)
