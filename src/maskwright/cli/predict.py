"""`maskwright predict`: Outline the objects in images."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from maskwright.cli.app import app
from maskwright.cli.options import (
    Colour,
    Debug,
    MaxInstances,
    OnlyClasses,
    Score,
    joined,
    loader,
    mask_options,
    names,
    pass_options,
    say,
    tile_progress,
)

if TYPE_CHECKING:
    from maskwright.prediction.batch import Done, Failed


@app.command(
    epilog="""Examples:

`maskwright predict cells.png --out results`

`maskwright predict photos/ "more/*.jpg" --model mask_rcnn_r50_fpn.torchvision --save overlay,csv --out results`

`maskwright predict slide.tif --save polygons --out results`

`maskwright predict cells/ --boxes drawn.json --save labels,coco --out results`

`maskwright predict photos.txt --model runs/leaf/best.safetensors --classes leaf --score 0.5 --out results`

Prints one line per image: path, tab, number of instances. Exit code 1: some images could not be read; they are
listed at the end and the others are done."""
)
@joined(load=loader, masks=mask_options, passes=pass_options)
def predict(
    sources: Annotated[
        list[str], typer.Argument(metavar="SOURCE", help="Files, folders, globs, .txt lists of these, or URLs.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for the results; made if missing.")],
    load: Callable[[], Any],
    masks: dict[str, Any],
    passes: dict[str, Any],
    save: Annotated[
        list[str],
        typer.Option(
            metavar="KIND,...",
            help="What to write: overlay, json, polygons (GeoJSON), labelme, cutouts (transparent PNGs), labels "
            "(16-bit PNG), csv (measurements), landmarks (a table), coco (results), cvat (annotations); of models of "
            "things and stuff panoptic (COCO's format) "
            "and segments (drawn). Joined by commas, or given again.",
        ),
    ] = ["overlay,json"],  # noqa: B006
    score: Score = None,
    only: OnlyClasses = None,
    max_instances: MaxInstances = None,
    batch: Annotated[int, typer.Option(min=1, metavar="N", help="Images that are computed together.")] = 1,
    max_pixels: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="Largest image to read, height x width; 0: any.  [default: 200000000]"),
    ] = None,
    ids: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Annotations whose image and category ids the results get, so that they can be measured against them.",
        ),
    ] = None,
    colour: Colour = None,
    boxes: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Annotations of any format, or COCO results (with --ids): each of their boxes gets a class and a "
            "mask, and nothing else is found. For R-CNNs.",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing results.")] = False,
    debug: Debug = False,
) -> None:
    """Outline the objects in images and write what was found."""
    from maskwright.prediction.batch import RunOptions, predict_files
    from maskwright.predictor.options import FindOptions

    options = RunOptions(
        save=save,
        find=FindOptions(
            score_threshold=score,
            classes=names(only),
            max_instances=max_instances,
            batch_size=batch,
            **masks,
            **passes,
        ),
        overwrite=overwrite,
        ids=ids,
        colour=colour,
        boxes=boxes,
        **({} if max_pixels is None else {"max_pixels": max_pixels or None}),
    )
    predictor = load()
    with tile_progress("predict") as (advance, on_tile):

        def show(result: "Done | Failed", total: int) -> None:
            if hasattr(result, "count"):
                print(f"{result.source}\t{result.count}", flush=True)  # seen by the bar, which stays below it
            advance(total)

        report = predict_files(predictor, sources, out, options, show, on_tile)
    say(report.summary())
    if report.failed:
        raise typer.Exit(1)
