"""`maskwright data show`: a sheet of training samples."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from maskwright.cli.data import data
from maskwright.cli.options import DataFormat, Debug, Images, Size, say
from maskwright.errors import ConfigError, suggest

KINDS = ("default", "none", "strong")


@data.command(
    epilog="""Examples:

`maskwright data show leaves.json --images photos/ --out sheet.png`

`maskwright data show leaves.json --out sheet.png --augment strong --count 24`

`maskwright data show leaves.json --out sheet.png --config run.toml`

Each row begins with an image as it is annotated, followed by what the network sees of it in the first epochs. Check
whether the outlines lie on the objects, whether the objects are large enough to be told apart, and whether an augmented
image could be one of yours."""
)
def show(
    source: Annotated[Path, typer.Argument(metavar="DATA", help="Annotations: a file or folder of any format.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE.png", help="The sheet, a new file.")],
    images: Images = None,
    data_format: DataFormat = None,
    count: Annotated[int, typer.Option(min=1, max=120, metavar="N", help="Training samples on the sheet.")] = 12,
    augment: Annotated[
        str | None,
        typer.Option(
            metavar="|".join(KINDS),
            help="Augmentation.  [default: that of the settings, else training's choice]",
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", metavar="FILE.toml", help="Settings of a training run, with [augment].")
    ] = None,
    size: Size = None,
    seed: Annotated[int | None, typer.Option(min=0, metavar="N", help="Of the run.  [default: 0]")] = None,
    debug: Debug = False,
) -> None:
    """Write a sheet of training samples with their outlines, boxes and landmarks, beside the originals."""
    from maskwright import media
    from maskwright.codec import UNSET
    from maskwright.data import formats
    from maskwright.samples.augment import STRONG
    from maskwright.samples.sheet import sheet
    from maskwright.training import settings
    from maskwright.training.config import TrainConfig
    from maskwright.training.defaults import default_model, resolve
    from maskwright.training.network import find_start, input_spec

    if augment is not None and augment not in KINDS:
        raise ConfigError(f"--augment is one of {', '.join(KINDS)}, got '{augment}'.{suggest(augment, KINDS)}")
    if out.exists():
        raise ConfigError(f"{out} exists already and is not overwritten. Choose another name.")
    given: dict[str, Any] = {k: v for k, v in {"size": size, "seed": seed}.items() if v is not None}
    run = TrainConfig(**given) if config is None else settings.read(config, **given)
    dataset = formats.load(source, images, data_format)
    if augment is not None:
        strong = STRONG if dataset.has_masks else replace(STRONG, copy_paste=0.0)
        run = run.changed(augment={"default": UNSET, "none": None, "strong": strong}[augment])
    start = find_start(run.network, default_model(dataset, run.network))
    decided = resolve(run, dataset, start)
    spec = input_spec(start.config.spec, decided.network)
    media.write_image(out, sheet(dataset, spec, decided.sampling(), count))
    for line in decided.explained("size", "max_size", "shrink", "enlarge", "augment"):
        say(line)
    typer.echo(str(out))
