"""The `maskwright` command: parse, call one function, print. Results go to stdout, all else to stderr.

Exit codes: 0 done; 1 done, but some images could not be read (they are listed); 2 wrong use or an error; 130 stopped
by Ctrl-C. torch is imported inside the commands, so that `--help` is quick.
"""

import errno
import io
import os
import sys
from typing import Annotated, Any

import typer
from rich.text import Text
from typer.core import TyperGroup

from maskwright import __version__
from maskwright.atomic import FULL
from maskwright.cli.options import say
from maskwright.errors import MaskwrightError


def _flags(error: MaskwrightError, ctx: Any) -> str:
    """The options that the error names, as the running command spells them: ` (--images)`; empty if it has none."""
    command = ctx.command.get_command(ctx, ctx.invoked_subcommand)
    known = {p.name: max(p.opts, key=len) for p in command.params} if command is not None else {}
    found = [known[name] for name in error.options if name in known]
    return f" ({', '.join(found)})" if found else ""


def _words(error: Exception) -> str:
    """The error as a sentence: ours unchanged; of the operating system the file, the reason and advice."""
    if not isinstance(error, OSError) or isinstance(error, MaskwrightError) or not error.strerror:
        return str(error) or type(error).__name__
    name, why, advice = error.filename, error.strerror, ""
    if error.errno in FULL:
        why, advice = FULL[error.errno], " Free some space, then start again."
        if name is None:
            return f"{why.capitalize()}, and something could not be written.{advice}"
    elif error.errno == errno.EROFS:
        advice = " Name another place."
    elif isinstance(error, PermissionError):
        advice = " Change its permissions, or name another place."
    return f"{why if name is None else f'{name}: {why}'}.{advice}"


class Commands(TyperGroup):
    """Prints our own errors as one line and sets the exit code; with --debug they are raised."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (MaskwrightError, OSError) as error:
            if ctx.meta.get("maskwright.debug") or isinstance(error, BrokenPipeError):
                raise
            flags = _flags(error, ctx) if isinstance(error, MaskwrightError) else ""
            say(Text.assemble(("error: ", "bold red"), (_words(error) + flags, "red")))
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            say("stopped")
            raise typer.Exit(130) from None


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"maskwright {__version__}")
        raise typer.Exit


@app.callback()
def maskwright(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Find and outline every object in images: predict, evaluate and train instance segmentation."""


def main() -> None:
    """Entry point of the installed command and of `python -m maskwright`."""
    # torch reads this once, when it is imported: tensors of 2 MiB and more are then backed by huge pages, which made
    # 1x1 convolutions up to twice as fast on the Linux machines measured. Elsewhere it does nothing.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    for stream in (sys.stdout, sys.stderr):  # a file name that the terminal cannot show must not end a run
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    app()
