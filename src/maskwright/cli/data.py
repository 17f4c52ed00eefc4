"""`maskwright data`: look at, check and convert annotated data sets; its commands `convert` and `stats`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from maskwright.cli.app import Commands, app
from maskwright.cli.options import DataFormat, Debug, Images, say

data = typer.Typer(cls=Commands, no_args_is_help=True, rich_markup_mode="markdown", pretty_exceptions_enable=False)
app.add_typer(data, name="data", help="Look at, check and convert annotated data sets.")

Source = Annotated[Path, typer.Argument(metavar="DATA", help="Annotations: a file or folder of any format.")]


@data.command(
    epilog="""Examples:

`maskwright data convert leaves/ --to coco --out leaves_coco`

`maskwright data convert leaves.json --images photos/ --to yolo --out leaves_yolo`

`maskwright data convert VOC2012/ImageSets/Segmentation/train.txt --to coco --out train.json`

`maskwright data convert annotations.xml --from cvat --images frames/ --to labelme --out labelme --no-copy-images`

Prints what was written, and counts what the new format cannot hold. A folder gets copies of the images, a single
file does not. Formats: `maskwright data formats`. Nothing is overwritten, and a folder appears whole or not at all."""
)
def convert(
    source: Source,
    to: Annotated[str, typer.Option("--to", metavar="NAME", help="Format to write; see `maskwright data formats`.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="PLACE", help="New folder, or new file (.json, .xml).")],
    images: Images = None,
    data_format: Annotated[
        str | None,
        typer.Option(
            "--from", "--format", metavar="NAME", help="Format of DATA.  [default: recognised from the files]"
        ),
    ] = None,
    copy_images: Annotated[
        bool | None,
        typer.Option("--copy-images/--no-copy-images", help="Copy the images.  [default: yes for a folder]"),
    ] = None,
    copy_pictures: Annotated[bool | None, typer.Option("--pictures/--no-pictures", hidden=True)] = None,  # the old name
    segmentation: Annotated[
        str | None,
        typer.Option(
            metavar="polygon|rle",
            help="Write all outlines in this form (coco, cvat, labelme, youtube_vis).  [default: as they are]",
        ),
    ] = None,
    unpack: Annotated[
        bool, typer.Option("--unpack", help="First write images that LabelMe files hold inside beside these files.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Write a data set in another format."""
    from maskwright.data import formats
    from maskwright.data.formats import labelme
    from maskwright.data.stats import summary
    from maskwright.errors import DataError, MaskwrightError

    formats.find(to)  # before anything is read
    copy_images = copy_pictures if copy_images is None else copy_images
    if unpack:
        typer.echo(f"Images unpacked: {len(labelme.unpack(source))}")
    dataset = formats.load(source, images, data_format)
    for note in dataset.notes:
        say(note)
    lost = formats.save(out, dataset, to, copy_images, segmentation)
    staying = copy_images is False or out.is_file()
    try:
        written = formats.load(out, dataset.root if staying else None, to)  # what the counts are of
    except MaskwrightError as error:
        raise DataError(f"{out} was written, but cannot be read back: {error}") from error
    typer.echo(f"{out} ({to}): {summary(written)}")
    for sentence in lost:
        typer.echo(f"Not kept: {sentence}")
    if staying:
        say(f"The images stay where they are: {dataset.root}")


@data.command(
    epilog="""Examples:

`maskwright data stats leaves.json --images photos/`

`maskwright data stats leaves_yolo/ --json`

`maskwright data stats VOC2012 --draw`

Sizes come from the areas and boxes in the files. --draw draws every mask instead, for exact areas and overlaps; that
takes longer."""
)
def stats(
    source: Source,
    images: Images = None,
    data_format: DataFormat = None,
    draw: Annotated[bool, typer.Option("--draw", help="Draw all masks, for exact areas and overlaps.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    debug: Debug = False,
) -> None:
    """Count and measure what is in a data set: images, classes, sizes, overlaps."""
    from maskwright.data import formats
    from maskwright.data.stats import stats as measure

    dataset = formats.load(source, images, data_format)
    for note in dataset.notes:
        say(note)
    found = measure(dataset, draw=draw)
    typer.echo(json.dumps(found.as_json(), indent=1, ensure_ascii=False) if as_json else found.report())


@data.command(name="formats")
def formats_(debug: Debug = False) -> None:
    """List the annotation formats: how each is laid out, and what it keeps."""
    from maskwright.data.formats import FORMATS

    for f in FORMATS.values():
        typer.echo(f"{f.name:13}{f.summary}\n{'':13}keeps: {f.keeps}")
