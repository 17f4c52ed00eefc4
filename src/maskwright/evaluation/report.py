"""The page of an evaluation: what the metrics measured, the curves of a training run, images, and the circumstances."""

import csv
import datetime
import math
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import maskwright
from maskwright import media
from maskwright.atomic import replacing
from maskwright.data.dataset import Dataset
from maskwright.errors import ConfigError, DataError, ImageError
from maskwright.evaluation.evaluate import SCORE, Data, evaluate, evaluate_results, opened
from maskwright.evaluation.gallery import COLORS, Gallery
from maskwright.evaluation.outcome import Evaluation
from maskwright.metrics.metric import PageSection
from maskwright.predictor.options import FindOptions, intensity_of
from maskwright.predictor.predictor import Predictor
from maskwright.report import charts, page
from maskwright.report.charts import Series
from maskwright.report.page import Column, Html
from maskwright.wording import counted, device_name, of_input

RunFacts = Sequence[tuple[str, object]]

NOT_LOSSES = ("iteration", "epoch", "lr", "grad_norm", "images_per_second", "waiting_share")


def report(
    path: str | os.PathLike[str],
    predictor: Predictor,
    data: Data,
    images: str | os.PathLike[str] | None = None,
    find: FindOptions | None = None,
    *,
    title: str = "",
    run: str | os.PathLike[str] | None = None,
    config: Mapping[str, object] | None = None,
    **options: Any,
) -> Evaluation:
    """Evaluate a model and write the results to a self-contained HTML file.

    find: see `FindOptions`. title: heading of the page. run: folder of a training run, whose log.csv and metrics.csv
    are drawn as well; None is the folder of the model's file, where that is one. config: shown as the run's settings.
    options: as `evaluate`'s.
    Raises what `evaluate` raises, ConfigError for a path that cannot be a report, OSError where it cannot be written.
    """
    target = _checked(path)
    dataset = opened(data, images, options.pop("limit", None), options.pop("data_format", None))
    score, find = options.get("metric_score"), find or FindOptions()
    score = max(predictor.score_threshold, find.score_threshold or 0.0) if score is None else score
    gallery = Gallery(replace(dataset, intensity=intensity_of(predictor, find)), score)
    evaluation = evaluate(predictor, dataset, None, find, watch=lambda i, _, found: gallery.add(i, found), **options)
    facts = [
        ("model", predictor.name),
        *_parameters(predictor),
        ("input", of_input(predictor.spec)),
    ]
    about = _about(evaluation, dataset, facts, _device(predictor), config or {})
    sections, training = _sections(evaluation), curves(_folder(run, predictor))
    content = [_tiles(evaluation, sections), *training, *_accuracy(sections, gallery), *_examples(gallery), about]
    _write(target, title, predictor.name, dataset, evaluation, content)
    return evaluation


def report_results(
    path: str | os.PathLike[str],
    results: str | os.PathLike[str],
    data: Data,
    images: str | os.PathLike[str] | None = None,
    **options: Any,
) -> Evaluation:
    """The same for a COCO result file; options as `evaluate_results` has them.

    Only the images that the page shows are read; where one of these cannot be read it shows none, and says why.
    """
    target, whole = _checked(path), opened(data, images, None, options.pop("data_format", None))
    dataset = opened(whole, None, options.get("limit"), None)
    score = options.get("metric_score")
    gallery = Gallery(replace(dataset, intensity=media.PERCENTILES), SCORE if score is None else score)
    evaluation = evaluate_results(results, whole, watch=gallery.add, **options)
    try:
        examples = _examples(gallery)
    except (DataError, ImageError, OSError) as error:
        examples = [page.notes("Images", [f"No images are shown: {error}"])]
    about = _about(evaluation, dataset, [("results", results)], [], {})
    sections = _sections(evaluation)
    content = [_tiles(evaluation, sections), *_accuracy(sections, gallery), *examples, about]
    _write(target, "", os.fspath(results), dataset, evaluation, content)
    return evaluation


def _parameters(predictor: Predictor) -> RunFacts:
    """How many the network has; of an exported file nothing."""
    try:
        return [("parameters", f"{sum(p.numel() for p in predictor.model.parameters()):,}")]
    except ConfigError:
        return []


def _checked(path: str | os.PathLike[str]) -> Path:
    target = Path(path)
    if target.suffix.lower() not in (".html", ".htm") or target.is_dir():
        raise ConfigError(f"A report is an HTML file: give a name that ends in .html, got {target}.")
    return target


def _write(
    path: Path, title: str, name: str, dataset: Dataset, evaluation: Evaluation, content: Sequence[Html]
) -> None:
    subtitle = f"{name} on {counted(evaluation.images, 'image')} of {dataset.source}."
    write(path, title or f"Evaluation of {name}", subtitle, [*content, page.notes("Notes", _notes(evaluation))])


def write(path: Path, title: str, subtitle: str, content: Sequence[Html]) -> None:
    now = datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M")
    with replacing(path) as part:
        part.write_text(page.page(title, f"{subtitle} {now}", content), encoding="utf-8")


# ---- the parts of the page, from top to bottom ----------------------------------------------------------------------


def _tiles(evaluation: Evaluation, sections: Sequence[PageSection]) -> Html:
    values = [tile for section in sections for tile in section.tiles]
    values.append(("images", str(evaluation.images)))
    if evaluation.images_per_second:
        values.append(("images a second", f"{evaluation.images_per_second:.2f}"))
    return page.tiles(values)


def _sections(evaluation: Evaluation) -> list[PageSection]:
    return [result.section() for result in evaluation.results.values()]


def _folder(run: str | os.PathLike[str] | None, predictor: Predictor) -> Path | None:
    if run is None:
        return Path(predictor.name).parent if Path(predictor.name).is_file() else None
    return Path(run)


def curves(folder: Path | None) -> list[Html]:
    """The curves of the training run in a folder; empty without one."""
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


def _accuracy(sections: Sequence[PageSection], gallery: Gallery) -> list[Html]:
    lead = (
        f"Right, false and missed: one class, IoU of 0.5, score of {gallery.score_threshold:.2f} and more. AP counts "
        "all detections whatever their score."
    )
    drawn = [chart for section in sections for chart in section.charts]
    return [
        page.section("Accuracy", [page.grid(drawn)]),
        page.section("Classes", [_classes(sections, gallery)], lead),
    ]


def _classes(sections: Sequence[PageSection], gallery: Gallery) -> Html:
    judged = zip(("right", "false", "missed"), gallery.counts.T.tolist(), strict=True)
    columns = [column for section in sections for column in section.columns]
    columns += [(Column(name), values) for name, values in judged]
    rows = zip(gallery.dataset.classes, *(values for _, values in columns), strict=True)
    return page.table([Column("class"), *(column for column, _ in columns)], list(rows))


def _examples(gallery: Gallery) -> list[Html]:
    worst, best = gallery.examples()
    lead = (
        f"Ordered by panoptic quality (summed IoU / (right + false / 2 + missed / 2)) at score "
        f"{gallery.score_threshold:.2f} and more."
    )
    out = [page.section("Worst images", [page.swatches(COLORS), page.examples(worst)], lead)] if worst else []
    return [*out, page.section("Best images", [page.examples(best)])] if best else out


def _about(
    evaluation: Evaluation, dataset: Dataset, model: RunFacts, device: RunFacts, config: Mapping[str, object]
) -> Html:
    objects = sum(len(dataset.of(i)) for i in range(len(dataset)))
    more = ", ..." if len(dataset.classes) > 20 else ""
    count = max(evaluation.images, 1)
    stages = [(name, f"{1000 * s / count:.1f} ms an image") for name, s in evaluation.seconds.items()]
    parts = [
        page.facts(
            "Data and model",
            [
                ("annotations", dataset.source),
                ("images' folder", dataset.root),
                ("images", len(dataset)),
                ("annotated objects", objects),
                ("classes", f"{len(dataset.classes)}: {', '.join(dataset.classes[:20])}{more}"),
                *model,
            ],
        ),
        page.facts(
            "Time and machine",
            [
                ("evaluation", f"{evaluation.wall_seconds:.1f} s"),
                *stages,
                *device,
                ("system", f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"),
                ("software", f"maskwright {maskwright.__version__}, torch {torch.__version__}, "
                             f"Python {platform.python_version()}"),
            ],
        ),
    ]  # fmt: skip
    if config:
        parts.append(page.facts("Settings of the run", [(k, setting(v)) for k, v in config.items()], closed=True))
    return page.section("About", parts)


def _device(predictor: Predictor) -> RunFacts:
    return [("device", device_name(predictor.device)), ("precision", predictor.precision)]


def _notes(evaluation: Evaluation) -> list[str]:
    notes = [note for result in evaluation.results.values() for note in result.notes]
    failed = [f"Left out: {name}: {reason}" for name, reason in evaluation.failed]
    more = [f"and {len(failed) - 100} more images"] if len(failed) > 100 else []
    return [*notes, *evaluation.notes, *failed[:100], *more]


# ---- values ---------------------------------------------------------------------------------------------------------


def read_columns(path: Path) -> dict[str, list[float]]:
    """The columns of a log by name, none without a file; a missing number is NaN, an incomplete row is left out."""
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


def setting(value: object) -> str:
    if isinstance(value, Mapping):
        return "\n".join(f"{k}: {v}" for k, v in value.items())
    return str(value)
