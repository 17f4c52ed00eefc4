"""`maskwright export`: write a model to a file that other programs run."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from maskwright.cli.app import app
from maskwright.cli.options import (
    Bits,
    ClassNames,
    DataFormat,
    Debug,
    Fit,
    IntensityText,
    MaxInstances,
    Nms,
    Size,
    Weights,
    check_places,
    loader,
    say,
)
from maskwright.errors import ConfigError


@app.command(
    epilog="""Examples:

`maskwright export runs/leaf/best.safetensors --out leaf.onnx`

`maskwright export nuclei_fast --to openvino --images cells/ --out nuclei.xml`

`maskwright predict cells/ --model leaf.onnx --out results`

`maskwright export nuclei_fast --int8 --data val.json --images val/ --out nuclei.onnx`

`maskwright export runs/leaf/best.safetensors --verify leaf.onnx --images photos/`

The file is compared with the network before it gets its name, and is not written where it does not give the same
detections. It has everything that `predict`, `evaluate` and `track` need: give it to them as `--model`."""
)
def export(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A name of `maskwright models`, or a checkpoint of yours.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="What to write: FILE.onnx or FILE.xml.")
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(metavar="onnx|openvino", help="Kind of file.  [default: by the suffix of --out]"),
    ] = None,
    verify: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write nothing: compare this file, exported earlier, with MODEL."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="PATH", help="Annotations, of any format, of images to compare on."),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(
            "--images",
            metavar="PATH",
            help="Images to compare on: a folder, pattern or file; with --data their folder.  [default: scenes of the "
            "package]",
        ),
    ] = None,
    data_format: DataFormat = None,
    int8: Annotated[
        bool,
        typer.Option(
            "--int8",
            help="Layers compute in 8 bits. Needs --data: a part of its images gives the ranges, on the rest AP is "
            "measured before and after.",
        ),
    ] = False,
    max_drop: Annotated[
        float | None,
        typer.Option(
            "--max-drop",
            min=0,
            metavar="POINTS",
            help="Points (hundredths) of AP that --int8 may cost. Layers that cost more stay in float32; where that is "
            "not enough nothing is written.  [default: 0.3]",
        ),
    ] = None,
    calibrate: Annotated[
        Path | None,
        typer.Option(
            "--calibrate",
            metavar="PATH",
            help="Images that give the ranges of --int8, a folder, pattern or file, instead of a part of --data.",
        ),
    ] = None,
    max_instances: MaxInstances = None,
    weights: Weights = None,
    classes: ClassNames = None,
    size: Size = None,
    fit: Fit = None,
    nms: Nms = None,
    intensity: IntensityText = None,
    bits: Bits = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
    debug: Debug = False,
) -> None:
    """Write a model to one file that ONNX Runtime or OpenVINO runs, and that gives the same detections."""
    from maskwright.evaluation.evaluate import opened
    from maskwright.exporting.export import ExportOptions, some_images
    from maskwright.exporting.export import export as write
    from maskwright.exporting.export import verify as compared
    from maskwright.exporting.int8 import CALIBRATED

    if (out is None) == (verify is None):
        raise ConfigError("Give --out FILE to write a file, or --verify FILE to compare one.")
    if not int8 and (max_drop is not None or calibrate is not None):
        raise ConfigError("--max-drop and --calibrate are of --int8 alone: add it, or leave them out.")
    if int8 and (data is None or out is None):
        raise ConfigError("--int8 needs --out FILE, and --data ANNOTATIONS: images on which its loss is measured.")
    check_places({"--out": out}, overwrite)
    annotated = None if data is None else opened(data, images, None, data_format)
    shown = some_images(annotated, images if annotated is None else None)
    load = loader(model, weights, classes, size, fit, nms, intensity, bits, "cpu", "float32")
    if out is None:
        assert verify is not None
        typer.echo(f"{verify}: {compared(load(), verify, shown)}")
        return
    options = ExportOptions(to=to, max_instances=max_instances, int8=int8)
    if max_drop is not None:
        options = replace(options, max_drop=max_drop)
    ranges = None if calibrate is None else some_images(None, calibrate, count=CALIBRATED)
    done = write(load(), out, options, images=shown, data=annotated if int8 else None, calibrate=ranges)
    typer.echo(done.report())
    say(f"Use it: maskwright predict IMAGES --model {out} --out results")
