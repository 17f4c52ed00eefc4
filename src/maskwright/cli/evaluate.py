"""`maskwright evaluate`: measure a model, or a file of results."""

from collections.abc import Callable
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from maskwright.cli.app import app
from maskwright.cli.options import (
    Data,
    DataFormat,
    Debug,
    Images,
    MaxInstances,
    check_places,
    joined,
    loader,
    mask_options,
    pairs,
    pass_options,
    say,
)
from maskwright.errors import ConfigError

OF_MODELS = (
    "skip",
    "class_names",
    "max_instances",
    *(name for group in (loader, mask_options, pass_options) for name in signature(group).parameters),
)
"""Parameters that mean nothing where a result file is measured."""


@app.command(
    epilog="""Examples:

`maskwright evaluate --data val.json --images val/ --model runs/leaf/best.safetensors --out accuracy.json`

`maskwright evaluate --data val.json --images val/ --model runs/leaf/best.safetensors --report leaf.html`

`maskwright evaluate --data instances_val2017.json --images val2017 --model mask_rcnn_r50_fpn.torchvision --limit 500`

`maskwright evaluate --data cells.json --images cells/ --model nuclei --rename nucleus=cell --metric nuclei`

`maskwright evaluate --data instances_val2017.json --results results.json`

`maskwright evaluate --data panoptic_val2017.json --images val2017 --results predictions.json`

`maskwright evaluate --data valid/instances.json --model yolact_edge_vid_r50 --metric hota --metric key_frames`

`maskwright evaluate --data Fluo-N2DL-HeLa --results Fluo-N2DL-HeLa --metric ctc`

Prints AP and AR of boxes and masks, a table by class and the time of each stage; `--metric nuclei` adds
TP / (TP + FP + FN) of disjoint masks at IoU 0.5 to 0.95, as the Data Science Bowl and StarDist report it. In videos
whose objects have track ids the model follows the objects, and their tracks are measured. Exit code 1:
images were left out because of --skip; they are listed."""
)
@joined(load=loader, masks=mask_options, passes=pass_options)
def evaluate(
    ctx: typer.Context,
    data: Data,
    load: Callable[[], Any],
    masks: dict[str, Any],
    passes: dict[str, Any],
    images: Images = None,
    data_format: DataFormat = None,
    results: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json|DIR",
            help="Measure these results, of whatever program, instead of a model: a COCO result file; a panoptic JSON "
            "file whose PNG files lie in a folder of its name; tracks in videos "
            "as a YouTube-VIS result file, or a folder with 01_RES (Cell Tracking Challenge).",
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="Only the first N images.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE.json", help="Write all numbers to this file as well.")
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(metavar="FILE.html", help="Write a page with curves, tables and the worst and best images."),
    ] = None,
    class_names: Annotated[
        list[str] | None,
        typer.Option(
            "--rename",
            metavar="MODEL=DATA",
            help="A class that the model and the data call differently. Repeatable.",
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace existing files of --out and --report.")
    ] = False,
    skip: Annotated[bool, typer.Option("--skip", help="Leave out images that cannot be read, and list them.")] = False,
    metrics: Annotated[
        list[str] | None,
        typer.Option(
            "--metric",
            metavar="NAME",
            help="Beside coco: nuclei, keypoints, panoptic, semantic; in videos youtube_vis, hota, ctc, key_frames. "
            "Repeatable; coco alone measures nothing else.  [default: keypoints where there are landmarks; panoptic "
            "and semantic where there are panoptic maps; in videos with tracks youtube_vis and hota, for cells ctc "
            "as well]",
        ),
    ] = None,
    metric_score: Annotated[
        float | None,
        typer.Option(
            "--score",
            min=0,
            max=1,
            metavar="0..1",
            help="Lowest score that counts for --metric nuclei, keypoints (PCK), panoptic, hota and ctc.  [default: "
            "that of `maskwright predict`; 0.5 with --results]",
        ),
    ] = None,
    best_threshold: Annotated[
        bool, typer.Option("--best-threshold", help="Also give --metric nuclei at the score that suits it best.")
    ] = False,
    sigmas: Annotated[
        list[str] | None,
        typer.Option(
            "--sigma",
            metavar="VALUE|NAME=VALUE",
            help="How far annotators of a landmark differ, for --metric keypoints: for all, or of one landmark. "
            "Repeatable.  [default: COCO's for the landmarks of people, else 0.05]",
        ),
    ] = None,
    max_instances: MaxInstances = None,
    max_detections: Annotated[
        int | None,
        typer.Option(
            "--max-detections",
            min=1,
            metavar="N",
            help="Detections of an image and class that count in AP.  [default: COCO's 100, or more where an image has "
            "more objects; AP at 100 then stands beside it]",
        ),
    ] = None,
    debug: Debug = False,
) -> None:
    """Measure a model on annotated images: COCO box and mask AP, by class, and the time of each stage."""
    from maskwright.evaluation import report as pages
    from maskwright.evaluation.evaluate import evaluate as evaluate_model
    from maskwright.evaluation.evaluate import evaluate_results
    from maskwright.metrics.table import METRICS
    from maskwright.predictor.options import FindOptions

    check_places({"--out": out, "--report": report}, overwrite)
    scored = {"--score": [name for name, kind in METRICS.items() if kind.uses_score],
              "--best-threshold": [name for name, kind in METRICS.items() if kind.best_score]}  # fmt: skip
    for option, given in (("--score", metric_score is not None), ("--best-threshold", best_threshold)):
        if given and not set(scored[option]).intersection(metrics or ()):
            raise ConfigError(f"{option} belongs to --metric {' or '.join(scored[option])}: give that too.")
    asked = {"metrics": metrics, "metric_score": metric_score, "best_threshold": best_threshold or None,
             "max_detections": max_detections, "sigmas": _sigmas(sigmas or [])}  # fmt: skip
    options: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
    options |= {"data_format": data_format, "limit": limit}
    if results is not None:
        _refuse_options_of_models(ctx)
        run = evaluate_results if report is None else partial(pages.report_results, report)
        evaluation = run(results, data, images, **options)
    else:
        options |= {"skip": skip, "class_names": pairs(class_names or []), "progress": Console(stderr=True).is_terminal}
        measure = evaluate_model if report is None else partial(pages.report, report)
        evaluation = measure(
            load(), data, images, FindOptions(max_instances=max_instances, **masks, **passes), **options
        )
    typer.echo(evaluation.report())
    if out is not None:
        evaluation.save(out)
        say(f"Numbers: {out}")
    if report is not None:
        say(f"Report: {report}")
    if evaluation.failed:
        raise typer.Exit(1)


def _sigmas(texts: list[str]) -> float | dict[str, float] | None:
    """What --sigma says: one value for all landmarks, or values by name."""
    if not texts:
        return None
    named = {name: value for name, sign, value in (text.rpartition("=") for text in texts) if sign}
    try:
        if len(named) == len(texts):
            return {name: float(value) for name, value in named.items()}
        (value,) = texts
        return float(value)
    except ValueError:
        raise ConfigError(
            f"--sigma takes one number for all landmarks, or NAME=NUMBER for each; got {', '.join(texts)}."
        ) from None


def _refuse_options_of_models(ctx: typer.Context) -> None:
    sources = {name: ctx.get_parameter_source(name) for name in OF_MODELS}
    given = [name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"]
    if given:
        raise ConfigError("A result file is measured without a model: leave out what concerns a model.", options=given)
