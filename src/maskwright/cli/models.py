"""`maskwright models`: List the models."""

import json
from typing import Annotated, Any

import typer

from maskwright.cli.app import app
from maskwright.cli.options import Debug


@app.command(
    epilog="""Examples:

`maskwright models`

`maskwright models --json`"""
)
def models(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    debug: Debug = False,
) -> None:
    """List the models: parameters, size, published AP, licence and where the weights come from."""
    from maskwright.models import zoo

    typer.echo(json.dumps(zoo.table(), indent=1) if as_json else _listing(zoo.table()))


def _listing(rows: list[dict[str, Any]]) -> str:
    """A line of numbers for each model, then its description and the address of its weights."""
    lines = [f"{'NAME':36}{'PARAMETERS':>10}{'SIZE':>10}{'BOX AP':>8}{'MASK AP':>10}  LICENCE"]
    for row in rows:
        name = row["name"]
        if row["default_of"]:
            name = f"{row['default_of']}[{name.removeprefix(row['default_of'])}]"
        parameters = "" if row["parameters"] is None else f"{row['parameters'] / 1e6:.1f} M"
        size = "" if row["megabytes"] is None else f"{row['megabytes']:.1f} MB"
        box, mask = (_ap(row, key) for key in ("box_ap", "mask_ap"))
        lines.append(f"{name:36}{parameters:>10}{size:>10}{box:>9}{mask:>10} {row['licence'] or ''}".rstrip())
        lines.append(f"    {row['summary']}")
        if row["source"] and "://" in row["source"]:
            lines.append(f"    {row['source']}")
    lines.append(
        "\nAP in percent on COCO val2017, with * on test-dev, as published. No size: the publisher gives none."
    )
    lines.append("The part of a name in [ ] may be omitted.")
    return "\n".join(lines)


def _ap(row: dict[str, Any], key: str) -> str:
    """A published AP, with * if it is of test-dev."""
    return "" if row[key] is None else f"{row[key]:.1f}{'*' if row['measured_on'] == 'COCO test-dev' else ' '}"
