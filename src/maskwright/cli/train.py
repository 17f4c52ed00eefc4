"""`maskwright train`: Train a model."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from maskwright.cli.app import app
from maskwright.cli.options import Debug, FitKind, say

if TYPE_CHECKING:
    from maskwright.training.config import TrainConfig
    from maskwright.training.try_out import Advice

_what: Any = partial(typer.Option, rich_help_panel="What to train")
_how: Any = partial(typer.Option, rich_help_panel="How long and how")
_other: Any = partial(typer.Option, rich_help_panel="Other ways to start")


@app.command(
    epilog="""Examples:

`maskwright train --data leaves.json --images photos/ --out runs/leaf --check`

`maskwright train --data leaves.json --images photos/ --out runs/leaf`

`maskwright train --data train.json --images train2017/ --val val.json --val-images val2017/ --out runs/own`

`maskwright train --data cells/ --orientation free --minutes 60 --device cuda --out runs/cells`

`maskwright train --data leaves.json --images photos/ --weights mask_rcnn_r50_fpn.torchvision --out runs/leaf`

`maskwright train --data leaves.json --images photos/ --model yolact_small --out runs/fast`

`maskwright train --data leaves.json --images photos/ --write-config leaf.toml`

`maskwright train --config leaf.toml --lr 0.0003 --out runs/leaf`

`maskwright train --out runs/leaf --resume`

The classes come from the annotations. What you do not give is decided from the images, and told with the
reason before the first step. OUT receives best.safetensors, which `maskwright predict --model` takes, train.toml, the
settings, log.csv, metrics.csv, and at the end report.html, a page with curves and images. One Ctrl-C stops the run
after its step with everything saved. With --check: exit code 0, the set-up can learn; 1, it did not."""
)
def train(
    data: Annotated[Path | None, _what("--data", metavar="PATH",
        help="Annotations: a file or folder of any format.")] = None,
    images: Annotated[Path | None, _what("--images", metavar="DIR",
        help="Folder of the images.  [default: the format's own]")] = None,
    data_format: Annotated[str | None, _what("--format", metavar="NAME",
        help="Of the annotations.  [default: recognised]")] = None,
    out: Annotated[Path | None, _what("--out", "-o", metavar="DIR",
        help="Folder of the run.  [default: runs/train]")] = None,
    model: Annotated[str | None, _what("--model", "-m", metavar="NAME",
        help="Architecture: a name of `maskwright models`.  [default: that of --weights, or a light one that suits the "
             "objects]")] = None,
    weights: Annotated[str | None, _what(metavar="NAME|FILE",
        help="Begin with published weights or a checkpoint, of any classes.  [default: random weights]")] = None,
    rename: Annotated[list[str] | None, _what(metavar="OLD=NEW",
        help="A class of --weights that has another name in the data, as nucleus=mushroom, keeps its part of the "
             "heads. Repeat for several.  [default: one class is kept for one class]")] = None,
    backbone_weights: Annotated[str | None, _what(metavar="auto|timm|FILE|none",
        help="Without --weights, what the backbone begins with: an image classifier's weights (ImageNet) as timm "
             "publishes them, from a file of timm or torchvision, or random ones. auto: for models over a backbone "
             "those of an installed package (maskwright[imagenet]), else timm's.  [default: auto]")] = None,
    orientation: Annotated[str | None, _what(metavar="upright|free",
        help="free: images have no up and down, as seen through a microscope or from above.  [default: "
             "upright]")] = None,
    mirror: Annotated[bool | None, _what("--mirror/--no-mirror", show_default=False,
        help="Mirror training images left-right; left and right classes and landmarks are exchanged in them.  "
             "[default: yes, unless a name says a side and has no counterpart]")] = None,
    val: Annotated[Path | None, _what("--val", metavar="PATH",
        help="Annotations of the images to measure on.  [default: the data's own part, or a share of it]")] = None,
    val_images: Annotated[Path | None, _what("--val-images", metavar="DIR",
        help="Their folder.  [default: that of --images]")] = None,
    val_fraction: Annotated[float | None, _what(min=0, max=0.9, metavar="0..0.9",
        help="Share held out where nothing else says which.  [default: 0.2]")] = None,
    max_instances: Annotated[int | None, _how("--max", "--max-instances", min=1, metavar="N",
        help="Most instances of an image that the trained model reports.  [default: by the fullest image]")] = None,
    epochs: Annotated[int | None, _how(min=1, metavar="N",
        help="Passes over the images.  [default: by the data]")] = None,
    minutes: Annotated[float | None, _how(metavar="M", help="Stop after this time, the rate falling to it.")] = None,
    size: Annotated[int | None, _how(min=1, metavar="PIXELS",
        help="Short edge, or side of the square, images are resized to.  [default: by the objects' size]")] = None,
    fit: Annotated[FitKind | None, _how(
        help="By their short edge, stretched to a square, or padded to one.  [default: the model's]")] = None,
    intensity: Annotated[str | None, _how("--intensity", metavar="HOW",
        help="How images with more than 8 bits become 0..255: auto, full (0..65535), values:0..4095, percentiles or "
             "percentiles:1..99.8 of each image.  [default: by the images]")] = None,
    bits: Annotated[int | None, _how(min=1, max=16, metavar="N",
        help="Short for --intensity of a camera of N bits; often 12.")] = None,
    batch: Annotated[int | None, _how(min=1, metavar="N",
        help="Images at once.  [default: by size and memory]")] = None,
    lr: Annotated[float | None, _how(metavar="RATE",
        help="Highest learning rate.  [default: by weights and batch]")] = None,
    patience: Annotated[int | None, _how(min=1, metavar="N",
        help="Stop after N evaluations without gain.  [default: never]")] = None,
    device: Annotated[str | None, _how(metavar="auto|cpu|cuda", help="Where to compute.  [default: auto]")] = None,
    precision: Annotated[str | None, _how(metavar="float32|bf16|fp16",
        help="[default: bf16 on GPUs that have it, else float32]")] = None,
    workers: Annotated[int | None, _how(min=0, metavar="N",
        help="Processes that prepare images.  [default: by device]")] = None,
    seed: Annotated[int | None, _how(min=0, metavar="N", help="Of everything random.  [default: 0]")] = None,
    config: Annotated[Path | None, _other("--config", metavar="FILE.toml",
        help="Settings; options of the command line take precedence.")] = None,
    write_config: Annotated[Path | None, _other("--write-config", metavar="FILE.toml",
        help="Write all settings, with the reasons of those decided from the data, and stop.")] = None,
    check: Annotated[bool, _other("--check",
        help="Overfit 8 images in a minute (or --minutes), and say whether the set-up can learn.")] = False,
    tensorboard: Annotated[bool, _other("--tensorboard", help="Write events for TensorBoard too.")] = False,
    resume: Annotated[bool, _other("--resume", help="Continue the run in --out.")] = False,
    debug: Debug = False,
) -> None:  # fmt: skip
    """Train a model on your own annotated images."""
    from maskwright.training import settings
    from maskwright.training.processes import is_first
    from maskwright.training.train import plan
    from maskwright.training.train import train as run

    given = {
        "data": data, "images": images, "data_format": data_format, "out": out, "model": model, "weights": weights,
        "backbone_weights": backbone_weights,
        "rename": tuple(rename) if rename else None, "val": val, "val_images": val_images, "val_fraction": val_fraction,
        "orientation": orientation, "mirror": mirror, "epochs": epochs, "max_minutes": minutes, "size": size,
        "max_instances": max_instances, "fit": fit,
        "intensity": _intensity(intensity, bits),
        "batch_size": batch, "lr": lr, "patience": patience, "device": device, "precision": precision,
        "workers": workers, "seed": seed, "resume": resume or None,
        "tensorboard": tensorboard or None,
    }  # fmt: skip
    chosen = _config({k: str(v) if isinstance(v, Path) else v for k, v in given.items() if v is not None}, config)
    if check:
        _check(chosen, minutes)
    elif write_config is not None:
        planned = plan(chosen)
        say(planned.report())
        typer.echo(settings.write(write_config, planned.settings))
    else:
        best = run(chosen)
        if is_first():  # of the processes that torchrun started
            typer.echo(best)


def _intensity(text: str | None, bits: int | None) -> str | None:
    from maskwright.media import chosen_intensity

    return text if bits is None and text in (None, "auto") else str(chosen_intensity(text, bits))


def _config(given: dict[str, Any], file: Path | None) -> "TrainConfig":
    """The settings: those of the file, or of the run that is resumed, under those given in the command."""
    from maskwright.errors import ConfigError
    from maskwright.training import settings
    from maskwright.training.config import TrainConfig
    from maskwright.training.train import SETTINGS
    from maskwright.training.watch import RunSettings

    started = Path(given.get("out", RunSettings.out)) / SETTINGS
    if file is None and given.get("resume") and started.exists():
        file = started
        given = {"out": str(started.parent), **given}
    config = TrainConfig(**given) if file is None else settings.read(file, **given)
    if config.run.resume:
        _check_run(Path(config.run.out), config.dataset.data)
    if not config.dataset.data:
        raise ConfigError("train needs annotated images: give --data PATH, or --config FILE.toml with a `data` in it.")
    return config


def _check_run(folder: Path, data: str) -> None:
    """Raises ConfigError where there is no run in the folder, or it does not say what it learns from."""
    from maskwright.errors import ConfigError
    from maskwright.training.run import STATE
    from maskwright.training.train import SETTINGS

    begun, saved = (folder / SETTINGS).exists(), (folder / STATE).exists()
    if not (begun or saved):
        raise ConfigError(
            f"There is no run to resume in {folder}: expected its {SETTINGS} or {STATE}. Give the folder of a run with "
            f"--out, or begin one: leave out --resume, and give --data PATH."
        )
    if not begun and not data:
        raise ConfigError(
            f"The run in {folder} has no {SETTINGS}: give --data and the other options it was begun with."
        )


def _check(config: "TrainConfig", minutes: float | None) -> None:
    from maskwright.training.train import plan
    from maskwright.training.try_out import SECONDS, try_out

    planned = plan(config.changed(resume=False))
    say(planned.report())
    trial = try_out(planned, seconds=SECONDS if minutes is None else 60 * minutes)
    typer.echo(trial.report(_typed))
    if not trial.learns:
        raise typer.Exit(1)


def _typed(advice: "Advice") -> str:
    """A piece of advice as it is typed: `--size` for the setting size, a command in quotes."""
    from dataclasses import replace

    from maskwright.training.try_out import said

    return said(replace(advice, name=f"`maskwright {advice.name}`" if advice.change == "run" else f"--{advice.name}"))
