"""The `maskwright` command: one file for each subcommand, which puts itself into `app` when it is imported."""

from maskwright.cli import (  # noqa: F401
    benchmark,
    data,
    data_check,
    data_show,
    doctor,
    evaluate,
    explain,
    export,
    models,
    predict,
    serve,
    track,
    train,
)
from maskwright.cli.app import app, main

__all__ = ["app", "main"]
