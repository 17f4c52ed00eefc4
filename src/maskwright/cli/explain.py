"""`maskwright explain`: Show how a result came about."""

from pathlib import Path
from typing import Annotated

import typer

from maskwright.cli.app import app
from maskwright.cli.options import (
    ClassNames,
    CropMargin,
    Debug,
    Device,
    Fit,
    LargestComponent,
    Model,
    Nms,
    Precision,
    Size,
    Upsample,
    Weights,
    mask_options,
    names,
)
from maskwright.errors import ConfigError


@app.command(
    epilog="""Examples:

`maskwright explain cells.png`

`maskwright explain cells.png --instance 12 --out why.html`

`maskwright explain street.jpg --model mask_rcnn_r50_fpn.torchvision --score 0.7 --out why.png`

Instances are numbered from 0, best score first, as in the files that `maskwright predict` writes.
Prints the name of the file."""
)
def explain(
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="An image: file or URL.")],
    model: Model = "nuclei",
    weights: Weights = None,
    class_names: ClassNames = None,
    instance: Annotated[int, typer.Option(min=0, metavar="K", help="The instance to explain.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help="What to write, a new file: .png, .jpg, or .html, a page in one file.  [default: NAME_explained.png]",
        ),
    ] = None,
    score: Annotated[
        float | None, typer.Option(min=0, max=1, metavar="0..1", help="Lowest score to keep.  [default: the model's]")
    ] = None,
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
    """Show in one image how a model came to one of its results: step by step, with its own numbers."""
    from maskwright.explanation.explain import explain as explained
    from maskwright.explanation.explanation import checked_suffix
    from maskwright.predictor.load import load

    target = checked_suffix(Path(f"{Path(image).stem}_explained.png") if out is None else out)
    if target.exists():
        raise ConfigError(f"{target} is there already; it is not written over. Choose another name with --out.")
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
    masks = mask_options(crop_margin, upsample, largest_component)
    typer.echo(str(explained(predictor, image, instance, score_threshold=score, **masks).save(target)))
