"""`maskwright data`: look at, check and convert annotated data sets."""

import typer

from maskwright.cli.app import app

data = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown", pretty_exceptions_enable=False)
app.add_typer(data, name="data", help="Look at, check and convert annotated data sets.")
