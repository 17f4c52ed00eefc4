"""The `maskwright` command: parse, call one function, print. Results go to stdout, all else to stderr.

Exit codes: 0 done; 1 done, but some pictures could not be read (they are listed); 2 wrong use or an error; 130 stopped
by Ctrl-C. torch is imported inside the commands, so that `--help` is quick.
"""

import io
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text
from typer.core import TyperGroup

from maskwright import __version__
from maskwright.errors import ConfigError, MaskwrightError

if TYPE_CHECKING:
    from maskwright.engine.batch import Done, Failed


class _Commands(TyperGroup):
    """Turns our own errors into one line and an exit code; with --debug they are raised."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (MaskwrightError, OSError) as error:
            if ctx.meta.get("maskwright.debug") or isinstance(error, BrokenPipeError):
                raise
            _say(Text.assemble(("error: ", "bold red"), (str(error) or type(error).__name__, "red")))
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            _say("stopped")
            raise typer.Exit(130) from None


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Entry point of the installed command and of `python -m maskwright`."""
    # torch reads this once, when it is imported: tensors of 2 MiB and more are then backed by huge pages, which made
    # 1x1 convolutions up to twice as fast on the Linux machines measured. Elsewhere it does nothing.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    for stream in (sys.stdout, sys.stderr):  # a file name that the terminal cannot show must not end a run
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    app()


def _say(text: str | Text) -> None:
    Console(stderr=True, soft_wrap=True, highlight=False, markup=False).print(text)


def _debug(ctx: typer.Context, value: bool) -> bool:
    ctx.meta["maskwright.debug"] = value
    return value


def _version(value: bool) -> None:
    if value:
        typer.echo(f"maskwright {__version__}")
        raise typer.Exit


Debug = Annotated[bool, typer.Option("--debug", callback=_debug, help="Show the traceback of an error.")]
Model = Annotated[
    str,
    typer.Option("--model", "-m", metavar="NAME|FILE", help="A name of `maskwright models`, or a checkpoint of yours."),
]
Data = Annotated[Path, typer.Option("--data", metavar="COCO.json", help="Annotation file in COCO format.")]
Images = Annotated[
    Path | None, typer.Option("--images", metavar="DIR", help="Folder of its pictures.  [default: that of the file]")
]
Weights = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Published checkpoint to load into the named model, instead of fetching."),
]
Size = Annotated[
    int | None,
    typer.Option(min=1, metavar="PIXELS", help="Short edge the picture is resized to.  [default: the model's]"),
]
Device = Annotated[str, typer.Option(metavar="NAME", help="Where to compute: cpu, cuda, cuda:1, mps.")]
Precision = Annotated[str, typer.Option(metavar="float32|bf16", help="bf16 is faster and slightly less exact.")]


@app.callback()
def maskwright(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Find and outline every object in pictures: predict, evaluate and train instance segmentation."""


@app.command(
    epilog="""Examples:

`maskwright predict cells.png --out results`

`maskwright predict photos/ "more/*.jpg" --model mask_rcnn_r50_fpn.torchvision --save overlay,csv --out results`

`maskwright predict photos.txt --model runs/leaf/best.safetensors --classes leaf --score 0.5 --out results`

Prints one line per picture: path, tab, number of instances. Exit code 1: some pictures could not be read; they are
listed at the end and the others are done."""
)
def predict(
    sources: Annotated[
        list[str], typer.Argument(metavar="SOURCE", help="Files, folders, globs, .txt lists of these, or URLs.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for the results; made if missing.")],
    model: Model = "nuclei",
    weights: Weights = None,
    save: Annotated[
        list[str],
        typer.Option(
            metavar="KIND,...",
            help="What to write: overlay, json, polygons (GeoJSON), labelme, cutouts (transparent PNGs), labels "
            "(16-bit PNG), csv (measurements), coco (results). Joined by commas, or given again.",
        ),
    ] = ["overlay,json"],  # noqa: B006
    score: Annotated[
        float | None, typer.Option(min=0, max=1, metavar="0..1", help="Lowest score to keep.  [default: the model's]")
    ] = None,
    classes: Annotated[
        str | None, typer.Option(metavar="NAME,...", help="Keep only these classes.  [default: all]")
    ] = None,
    max_instances: Annotated[
        int | None,
        typer.Option("--max", min=1, metavar="N", help="Most instances per picture.  [default: the model's]"),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, metavar="N", help="Pictures that are computed together.")] = 1,
    size: Size = None,
    device: Device = "cpu",
    precision: Precision = "float32",
    max_pixels: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="Largest picture to read, height x width; 0: any.  [default: 200000000]"),
    ] = None,
    bits: Annotated[
        int, typer.Option(min=1, max=16, metavar="N", help="Bits that 16-bit grey pictures use; often 12.")
    ] = 16,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results that are there already.")] = False,
    debug: Debug = False,
) -> None:
    """Outline the objects in pictures and write what was found."""
    from maskwright.engine.batch import RunOptions, predict_files
    from maskwright.engine.load import load

    options = RunOptions(
        save=save,
        score_threshold=score,
        classes=_names(classes),
        max_instances=max_instances,
        batch=batch,
        overwrite=overwrite,
        bits=bits,
        **({} if max_pixels is None else {"max_pixels": max_pixels or None}),
    )
    predictor = load(model, weights=weights, size=size, device=device, precision=precision)
    with _progress("predict") as advance:

        def show(result: "Done | Failed", total: int) -> None:
            if hasattr(result, "count"):
                print(f"{result.source}\t{result.count}", flush=True)  # seen by the bar, which stays below it
            advance(total)

        report = predict_files(predictor, sources, out, options, show)
    _say(report.summary())
    if report.failed:
        raise typer.Exit(1)


@app.command(
    epilog="""Examples:

`maskwright evaluate --data val.json --images val/ --model runs/leaf/best.safetensors --out accuracy.json`

`maskwright evaluate --data instances_val2017.json --images val2017 --model mask_rcnn_r50_fpn.torchvision --limit 500`

`maskwright evaluate --data cells.json --images cells/ --model nuclei --rename nucleus=cell`

Prints AP and AR of boxes and masks, a table by class and the time of each stage. Exit code 1: pictures were left out
because of --skip; they are listed."""
)
def evaluate(
    data: Data,
    images: Images = None,
    model: Model = "nuclei",
    weights: Weights = None,
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="Only the first N pictures.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE.json", help="Write all numbers to this file as well.")
    ] = None,
    rename: Annotated[
        list[str] | None,
        typer.Option(metavar="MODEL=DATA", help="A class that the model and the data call differently. Repeatable."),
    ] = None,
    skip: Annotated[
        bool, typer.Option("--skip", help="Leave out pictures that cannot be read, and list them.")
    ] = False,
    size: Size = None,
    device: Device = "cpu",
    precision: Precision = "float32",
    debug: Debug = False,
) -> None:
    """Measure a model on annotated pictures: COCO box and mask AP, by class, and the time of each stage."""
    from maskwright.engine.evaluate import evaluate as run
    from maskwright.engine.load import load

    same = _pairs(rename or [])
    predictor = load(model, weights=weights, size=size, device=device, precision=precision)
    evaluation = run(
        predictor, data, images, limit=limit, skip=skip, class_names=same, progress=Console(stderr=True).is_terminal
    )
    typer.echo(evaluation.report())
    if out is not None:
        evaluation.save(out)
        _say(f"Numbers: {out}")
    if evaluation.failed:
        raise typer.Exit(1)


@app.command(
    epilog="""Examples:

`maskwright train --data leaves.json --images photos/ --out runs/leaf`

`maskwright train --data leaves.json --images photos/ --out runs/leaf --minutes 60 --device cuda --precision bf16`

`maskwright train --data leaves.json --images photos/ --out runs/leaf --resume`

The classes come from the annotation file. The folder receives best.safetensors, which `maskwright predict --model`
takes. One Ctrl-C stops the run after its step with everything saved; the same command with --resume continues it."""
)
def train(
    data: Data,
    images: Images = None,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder of the run.")] = Path("runs/train"),
    model: Annotated[
        str, typer.Option("--model", "-m", metavar="NAME", help="Architecture: a name of `maskwright models`.")
    ] = "mask_rcnn_small",
    weights: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Checkpoint of that model and these classes to begin with.  [default: none]"),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Passes over the pictures.  [default: 50, none with --minutes]"),
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(metavar="M", help="Stop after this time, the rate falling to it.")
    ] = None,
    batch: Annotated[int | None, typer.Option(min=1, metavar="N", help="Pictures at once.  [default: 4]")] = None,
    lr: Annotated[float | None, typer.Option(metavar="RATE", help="Highest learning rate.  [default: 0.0002]")] = None,
    val_fraction: Annotated[
        float | None, typer.Option(min=0, max=0.9, metavar="0..0.9", help="Share held out to measure.  [default: 0.2]")
    ] = None,
    size: Size = None,
    seed: Annotated[int | None, typer.Option(min=0, metavar="N", help="Of everything random.  [default: 0]")] = None,
    workers: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Processes that prepare pictures.  [default: 0]")
    ] = None,
    device: Annotated[str, typer.Option(metavar="auto|cpu|cuda", help="Where to compute.")] = "auto",
    precision: Precision = "float32",
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")] = False,
    debug: Debug = False,
) -> None:
    """Train a model on your own annotated pictures."""
    from maskwright.engine.train import TrainConfig
    from maskwright.engine.train import train as run

    given: dict[str, Any] = {
        "data": str(data),
        "images": str(images or data.parent),
        "out": str(out),
        "model": model,
        "weights": str(weights) if weights else None,
        "epochs": epochs,
        "max_minutes": minutes,
        "batch_size": batch,
        "lr": lr,
        "val_fraction": val_fraction,
        "size": size,
        "seed": seed,
        "workers": workers,
        "device": device,
        "precision": precision,
        "resume": resume,
    }
    limits: dict[str, Any] = {"epochs": None} if minutes is not None and epochs is None else {}
    typer.echo(run(TrainConfig(**{k: v for k, v in given.items() if v is not None} | limits)))


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
    """The numbers of each model on a line; below it what it is and where its weights come from."""
    lines = [f"{'NAME':36}{'PARAMETERS':>10}{'SIZE':>10}{'BOX AP':>8}{'MASK AP':>9}  LICENCE"]
    for row in rows:
        name = row["name"]
        if row["default_of"]:
            name = f"{row['default_of']}[{name.removeprefix(row['default_of'])}]"
        parameters = "" if row["parameters"] is None else f"{row['parameters'] / 1e6:.1f} M"
        size = "" if row["megabytes"] is None else f"{row['megabytes']:.1f} MB"
        box, mask = ("" if row[key] is None else f"{row[key]:.1f}" for key in ("box_ap", "mask_ap"))
        lines.append(f"{name:36}{parameters:>10}{size:>10}{box:>8}{mask:>9}  {row['licence'] or ''}".rstrip())
        lines.append(f"    {row['summary']}")
        if row["source"] and "://" in row["source"]:
            lines.append(f"    {row['source']}")
    lines.append("\nAP in percent on COCO val2017, as published. What stands in [ ] may be left out of a name.")
    return "\n".join(lines)


def _pairs(words: list[str]) -> dict[str, str]:
    pairs = [word.partition("=") for word in words]
    for word, (_, sign, _) in zip(words, pairs, strict=True):
        if not sign:
            raise ConfigError(f"--rename takes MODEL=DATA, for example nucleus=cell; got '{word}'.")
    return {model: data for model, _, data in pairs}


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int], None]]:
    """A bar on stderr, where that is a terminal; gives a function that takes the total and moves it on by one."""
    console = Console(stderr=True)
    bar = Progress(
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
        redirect_stdout=sys.stdout.isatty(),
    )
    with bar:
        task = bar.add_task(what, total=None)
        yield lambda total: bar.update(task, advance=1, total=total)
