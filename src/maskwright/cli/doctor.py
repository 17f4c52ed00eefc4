"""`maskwright doctor`: what this installation is and what this machine can do."""

import json
from typing import Annotated

import typer

from maskwright.cli.app import app
from maskwright.cli.options import Debug


@app.command(
    epilog="""Examples:

`maskwright doctor`

`maskwright doctor --json > doctor.json`

Put the text into a report of a fault. It names folders of this machine, and nothing is sent anywhere."""
)
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    debug: Debug = False,
) -> None:
    """Print versions, device, processor, missing extras with the command that installs them, cache and free disk."""
    from maskwright.doctor import examine, report

    facts = examine()
    typer.echo(json.dumps(facts, indent=1, ensure_ascii=False) if as_json else report(facts))
