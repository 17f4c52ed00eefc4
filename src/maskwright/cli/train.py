"""`maskwright train`: Train a model."""

from pathlib import Path
from typing import Annotated, Any

import typer

from maskwright.cli.app import app
from maskwright.cli.options import Data, DataFormat, Debug, Images, Precision, Size


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
    data_format: DataFormat = None,
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
        "images": str(images) if images else None,
        "data_format": data_format,
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
