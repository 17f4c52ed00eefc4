"""`maskwright evaluate`: Measure a model."""

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from maskwright.cli.app import app
from maskwright.cli.options import (
    ClassNames,
    CropMargin,
    Data,
    DataFormat,
    Debug,
    Device,
    Fit,
    Images,
    LargestComponent,
    Model,
    Nms,
    Precision,
    Size,
    Upsample,
    Weights,
    check_places,
    mask_options,
    names,
    pairs,
    say,
)
from maskwright.errors import ConfigError


@app.command(
    epilog="""Examples:

`maskwright evaluate --data val.json --images val/ --model runs/leaf/best.safetensors --out accuracy.json`

`maskwright evaluate --data val.json --images val/ --model runs/leaf/best.safetensors --report leaf.html`

`maskwright evaluate --data instances_val2017.json --images val2017 --model mask_rcnn_r50_fpn.torchvision --limit 500`

`maskwright evaluate --data cells.json --images cells/ --model nuclei --rename nucleus=cell --metric nuclei`

Prints AP and AR of boxes and masks, a table by class and the time of each stage; `--metric nuclei` adds
TP / (TP + FP + FN) of disjoint masks at IoU 0.5 to 0.95, as the Data Science Bowl and StarDist report it. Exit code 1:
images were left out because of --skip; they are listed."""
)
def evaluate(
    data: Data,
    images: Images = None,
    data_format: DataFormat = None,
    model: Model = "nuclei",
    weights: Weights = None,
    class_names: ClassNames = None,
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="Only the first N images.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE.json", help="Write all numbers to this file as well.")
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(metavar="FILE.html", help="Write a page with curves, tables and the worst and best images."),
    ] = None,
    rename: Annotated[
        list[str] | None,
        typer.Option(metavar="MODEL=DATA", help="A class that the model and the data call differently. Repeatable."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the files of --out and --report that are there already.")
    ] = False,
    skip: Annotated[bool, typer.Option("--skip", help="Leave out images that cannot be read, and list them.")] = False,
    metric: Annotated[
        list[str] | None, typer.Option(metavar="coco|nuclei", help="What to measure beside COCO AP. Repeatable.")
    ] = None,
    score: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            metavar="0..1",
            help="Lowest score that counts for --metric nuclei.  [default: that of `maskwright predict`]",
        ),
    ] = None,
    best_threshold: Annotated[
        bool, typer.Option("--best-threshold", help="Also give --metric nuclei at the score that suits it best.")
    ] = False,
    size: Size = None,
    fit: Fit = None,
    nms: Nms = None,
    crop_margin: CropMargin = None,
    upsample: Upsample = None,
    largest_component: LargestComponent = None,
    device: Device = "cpu",
    precision: Precision = "float32",
    debug: Debug = False,
) -> None:
    """Measure a model on annotated images: COCO box and mask AP, by class, and the time of each stage."""
    from maskwright.evaluation.evaluate import evaluate as run
    from maskwright.evaluation.report import report as run_and_report
    from maskwright.predictor.load import load

    check_places({"--out": out, "--report": report}, overwrite)
    same = pairs(rename or [])
    asked: dict[str, Any] = {"metrics": metric, "nuclei_score": score, "best_threshold": best_threshold or None}
    if (score is not None or best_threshold) and "nuclei" not in (metric or ()):
        raise ConfigError("--score and --best-threshold belong to --metric nuclei: give that too.")
    predictor = load(
        model,
        weights=weights,
        classes=names(class_names),
        size=size,
        fit=fit,
        nms=nms,
        device=device,
        precision=precision,
    )
    evaluation = (run if report is None else partial(run_and_report, report))(
        predictor,
        data,
        images,
        data_format=data_format,
        limit=limit,
        skip=skip,
        class_names=same,
        progress=Console(stderr=True).is_terminal,
        **{name: value for name, value in asked.items() if value is not None},
        **mask_options(crop_margin, upsample, largest_component),
    )
    typer.echo(evaluation.report())
    if out is not None:
        evaluation.save(out)
        say(f"Numbers: {out}")
    if report is not None:
        say(f"Report: {report}")
    if evaluation.failed:
        raise typer.Exit(1)
