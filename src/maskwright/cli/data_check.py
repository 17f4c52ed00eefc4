"""`maskwright data check`: every fault of an annotated data set, and a repaired copy."""

import json
from pathlib import Path
from typing import Annotated

import typer

from maskwright.cli.data import data
from maskwright.cli.options import DataFormat, Debug, Images, check_places, progress, say


@data.command(
    epilog="""Examples:

`maskwright data check cells.json --images cells/`

`maskwright data check train.json --images photos/ --val val.json --strict`

`maskwright data check train.json --images photos/ --fix repaired`

Prints each kind of fault with its number, what it means, some examples and what repairs it, the most severe first.
Exit code 1: there are errors, or warnings with --strict; with --fix, those that are left in the copy count."""
)
def check(
    source: Annotated[Path, typer.Argument(metavar="DATA", help="Annotations: a file or folder of any format.")],
    images: Images = None,
    data_format: DataFormat = None,
    val: Annotated[
        Path | None, typer.Option("--val", metavar="DATA2", help="Validation set to compare with, not to check.")
    ] = None,
    val_images: Annotated[
        Path | None, typer.Option("--val-images", metavar="DIR", help="Folder of its images.  [default: --images]")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write all findings to this file as well.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing --json file.")] = False,
    fix: Annotated[
        Path | None, typer.Option("--fix", metavar="OUT_DIR", help="Write a repaired copy to this new folder.")
    ] = None,
    drop: Annotated[
        bool, typer.Option("--drop", help="Let --fix lose more than 2% of the objects, where it cannot repair them.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit code 1 for warnings too.")] = False,
    no_images: Annotated[
        bool, typer.Option("--no-images", help="Do not open the images: check the annotations alone.")
    ] = False,
    no_pictures: Annotated[bool, typer.Option("--no-pictures", hidden=True)] = False,  # what --no-images was called
    examples: Annotated[int, typer.Option(min=0, metavar="N", help="Examples shown for each fault.")] = 3,
    debug: Debug = False,
) -> None:
    """Find every fault of an annotated data set; --fix writes a repaired copy and never touches the original."""
    from maskwright.atomic import replacing
    from maskwright.data.faults.check import CheckOptions
    from maskwright.data.faults.check import check as find_faults
    from maskwright.data.faults.repair import repair

    check_places({"--json": json_file}, overwrite)
    with progress("check") as advance:
        options = CheckOptions(
            format=data_format, val=val, val_images=val_images, files=not (no_images or no_pictures), progress=advance
        )
        made = None if fix is None else repair(source, fix, images, drop=drop, **options)
        report = find_faults(source, images, **options) if made is None else made.before
        after = report if made is None else made.after
    typer.echo(report.text(examples, repair="--fix"))
    if made is not None:
        typer.echo("\n" + made.text(examples))
    if json_file is not None:
        content = report.as_json() | ({} if made is None else {"repair": made.as_json()})
        with replacing(json_file) as part:
            text = json.dumps(content, indent=1, ensure_ascii=False)
            part.write_text(text, encoding="utf-8", errors="backslashreplace")  # lone surrogates, as JSON writes them
        say(f"All findings: {json_file}")
    if after.failed(strict=strict):
        raise typer.Exit(1)
