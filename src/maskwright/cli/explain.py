"""`maskwright explain`: Show how a result came about."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from maskwright.cli.app import app
from maskwright.cli.options import Debug, MaxInstances, Score, joined, loader, mask_options, say
from maskwright.errors import ConfigError


@app.command(
    epilog="""Examples:

`maskwright explain cells.png`

`maskwright explain cells.png --instance 12 --out why.html`

`maskwright explain street.jpg --model mask_rcnn_r50_fpn.torchvision --score 0.7 --out why.png`

Instances are numbered from 0, best score first, as in the files that `maskwright predict` writes.
Prints the name of the file."""
)
@joined(load=loader, masks=mask_options)
def explain(
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="An image: file or URL.")],
    load: Callable[[], Any],
    masks: dict[str, Any],
    page: Annotated[int, typer.Option(min=1, metavar="N", help="Which image of a stack or an animation.")] = 1,
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
    score: Score = None,
    max_instances: MaxInstances = None,
    debug: Debug = False,
) -> None:
    """Show in one image how a model came to one of its results: step by step, with its own numbers."""
    from maskwright.explanation.explain import explain as explained
    from maskwright.media import Readings
    from maskwright.results.explanation import checked_suffix

    target = checked_suffix(Path(f"{Path(image).stem}_explained.png") if out is None else out)
    if target.exists():
        raise ConfigError(f"{target} is there already; it is not written over. Choose another name with --out.")
    predictor, told = load(), Readings()
    found = explained(
        predictor, image, instance, score_threshold=score, max_instances=max_instances, page=page, told=told, **masks
    )
    for note in told.notes(predictor.spec.intensity):
        say(f"Note: {note}")
    typer.echo(str(found.save(target)))
    if found.prediction.limits:
        say(found.prediction.limit_note)
