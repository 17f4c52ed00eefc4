"""What several commands share: common options, messages on stderr, the progress bar."""

import dataclasses
import inspect
import itertools
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from maskwright.atomic import require_file_or_nothing
from maskwright.errors import ConfigError
from maskwright.predictor.track_options import TrackOptions

if TYPE_CHECKING:
    from maskwright.predictor.predictor import Predictor


def say(text: str | Text) -> None:
    Console(stderr=True, soft_wrap=True, highlight=False, markup=False).print(text)


def _debug(ctx: typer.Context, value: bool) -> bool:
    ctx.meta["maskwright.debug"] = value
    return value


Debug = Annotated[bool, typer.Option("--debug", callback=_debug, help="Show the traceback of an error.")]
Model = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME|FILE",
        help="A name of `maskwright models`, a checkpoint of yours, or a file of `maskwright export`.",
    ),
]
Data = Annotated[Path, typer.Option("--data", metavar="PATH", help="Annotations: a file or folder of any format.")]
DataFormat = Annotated[
    str | None,
    typer.Option("--format", metavar="NAME", help="Format of the annotations.  [default: recognised from the files]"),
]
Images = Annotated[
    Path | None, typer.Option("--images", metavar="DIR", help="Folder of its images.  [default: the format's own]")
]
Weights = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Published checkpoint to load into the named model, instead of fetching."),
]
ClassNames = Annotated[
    str | None,
    typer.Option(
        "--class-names",
        metavar="NAME,...",
        help="Names of the classes that --weights were trained for.  [default: those of the published ones]",
    ),
]
Size = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="PIXELS",
        help="Size of the network's input: the short edge, or the square's side.  [default: the model's]",
    ),
]
FitKind = Literal["short_edge", "stretch", "letterbox"]
Fit = Annotated[
    FitKind | None,
    typer.Option(
        help="How images are resized to the input: by their short edge, stretched to a square, or fitted into one and "
        "padded.  [default: the model's]",
    ),
]
IntensityText = Annotated[
    str | None,
    typer.Option(
        "--intensity",
        metavar="HOW",
        help="How images with more than 8 bits become 0..255: full (0..65535), values:0..4095, percentiles or "
        "percentiles:1..99.8 of each image, percentiles:video of a whole stack.  [default: the model's]",
    ),
]
Bits = Annotated[
    int | None,
    typer.Option(min=1, max=16, metavar="N", help="Short for --intensity of a camera of N bits; often 12."),
]
Nms = Annotated[
    Literal["cross", "by_class", "fast", "fast_cross", "exact"] | None,
    typer.Option(
        help="Non-maximum suppression. cross: over all classes together, so that no object is found as two classes. "
        "R-CNN: by_class. YOLACT: fast (Fast NMS), fast_cross (the same as cross), exact (greedy).  "
        "[default: the model's]",
    ),
]
CropMargin = Annotated[
    float | None,
    typer.Option(
        min=0,
        metavar="CELLS",
        help="YOLACT: how far a mask may extend beyond its box, in prototype cells; inf: anywhere.  [default: the "
        "model's]",
    ),
]
Upsample = Annotated[
    Literal["masks", "logits"] | None,
    typer.Option(
        help="YOLACT: crop the masks, then upsample them; or upsample the logits and crop exactly at the box.  "
        "[default: the model's]",
    ),
]
LargestComponent = Annotated[
    bool | None,
    typer.Option(
        "--largest-component/--all-components",
        help="Keep only the largest connected part of each mask, or all.  [default: the model's]",
        show_default=False,
    ),
]
Score = Annotated[
    float | None, typer.Option(min=0, max=1, metavar="0..1", help="Lowest score to keep.  [default: the model's]")
]
OnlyClasses = Annotated[
    str | None, typer.Option("--classes", metavar="NAME,...", help="Keep only these classes.  [default: all]")
]
MaxInstances = Annotated[
    int | None,
    typer.Option(
        "--max", "--max-instances", min=1, metavar="N", help="Most instances of an image.  [default: the model's]"
    ),
]
Colour = Annotated[
    Literal["class", "instance", "score", "track"] | None,
    typer.Option(
        "--colour",
        "--color",
        help="What the colours of overlays tell apart.  [default: tracks where there are some, else instances]",
    ),
]
Tta = Annotated[
    Literal["off", "horizontal", "both"] | None,
    typer.Option(
        help="Test-time augmentation: compute mirror images too, left-right (twice the time) or in both directions "
        "(four times), and join what they show.  [default: off]",
    ),
]
Device = Annotated[
    str, typer.Option(metavar="auto|cpu|cuda|cuda:1", help="Where to compute; auto: on a GPU where there is one.")
]
Precision = Annotated[
    str,
    typer.Option(
        metavar="float32|bf16|auto",
        help="bf16 is slightly less exact, and faster on devices with instructions for it; auto takes it there.",
    ),
]


def pairs(words: list[str]) -> dict[str, str]:
    pairs = [word.partition("=") for word in words]
    for word, (_, sign, _) in zip(words, pairs, strict=True):
        if not sign:
            raise ConfigError(f"--rename takes MODEL=DATA, for example nucleus=cell; got '{word}'.")
    return {model: data for model, _, data in pairs}


Tiles = Annotated[
    str | None,
    typer.Option(
        "--tiles",
        metavar="auto|off|SIZE",
        help="Compute large images in overlapping tiles of SIZE pixels, a multiple of 32, and join the objects at "
        "their borders. auto: only images far larger than the model's input, whose objects one pass would make too "
        "small.  [default: auto]",
    ),
]
Overlap = Annotated[
    int | None,
    typer.Option(
        "--overlap",
        min=0,
        metavar="PIXELS",
        help="Overlap of tiles, at most half of SIZE.  [default: room for the largest objects]",
    ),
]


# ---- options that several commands have, joined into one value -------------------------------------------------------


def joined(**groups: Callable[..., Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of groups: each of its parameters that is named here gets what its group returns.

    A group is a function whose parameters are options. On the command line they stand in the place of the parameter, so
    that an option which several commands have is written once.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        parts = {name: inspect.signature(group).parameters for name, group in groups.items()}
        own = inspect.signature(command).parameters
        listed = [p for name in own for p in (parts[name].values() if name in parts else [own[name]])]
        hints = {k: v for f in (*groups.values(), command) for k, v in get_type_hints(f, include_extras=True).items()}

        def run(**given: Any) -> None:
            values = {name: group(**{p: given.pop(p) for p in parts[name]}) for name, group in groups.items()}
            command(**given, **values)

        run.__name__, run.__doc__, run.__module__ = command.__name__, command.__doc__, command.__module__
        run.__annotations__ = {p.name: hints[p.name] for p in listed}
        run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [p.replace(kind=p.KEYWORD_ONLY, annotation=hints[p.name]) for p in listed]
        )
        return run

    return decorate


def loader(
    model: Model = "nuclei",
    weights: Weights = None,
    classes: ClassNames = None,
    size: Size = None,
    fit: Fit = None,
    nms: Nms = None,
    intensity: IntensityText = None,
    bits: Bits = None,
    device: Device = "auto",
    precision: Precision = "float32",
) -> Callable[[], Any]:
    """Loads the model that was asked for, when it is called."""

    def run() -> "Predictor":
        from maskwright.media import chosen_intensity
        from maskwright.predictor.load import load

        predictor = load(
            model,
            weights=weights,
            classes=names(classes),
            size=size,
            fit=fit,
            nms=nms,
            intensity=chosen_intensity(intensity, bits),
            device=device,
            precision=precision,
        )
        if device == "auto" and predictor.device.type == "cuda":
            from maskwright.wording import device_name

            say(f"computing on {device_name(predictor.device)}; --device cpu uses the processor")
        return predictor

    return run


def mask_options(
    crop_margin: CropMargin = None, upsample: Upsample = None, largest_component: LargestComponent = None
) -> dict[str, Any]:
    """How masks are finished, fields of `FindOptions`."""
    return {"crop_margin": crop_margin, "upsample": upsample, "largest_component": largest_component}


def pass_options(tiles: Tiles = None, tile_overlap: Overlap = None, tta: Tta = None) -> dict[str, Any]:
    """How an image goes through the network, fields of `FindOptions`."""
    return {"tiles": tiles, "tile_overlap": tile_overlap, "tta": tta}


def of_section(kind: type[Any]) -> Callable[..., Any]:
    """A group for `joined` of the fields of a `codec.Section`, and of those of the sections in it: what the docstring
    says of a field is its help."""
    fields, inner = dataclasses.fields(kind), {}
    hints = get_type_hints(kind)
    rows: dict[str, inspect.Parameter] = {}
    about = " ".join((kind.__doc__ or "").split())
    marks = "|".join(f.name for f in fields)
    for f in fields:
        if dataclasses.is_dataclass(hints[f.name]):
            inner[f.name] = of_section(hints[f.name])
            rows |= inspect.signature(inner[f.name]).parameters
            continue
        said = re.search(rf"\b{f.name}: (.*?)(?= (?:{marks}): |$)", about)
        text = said[1][0].upper() + said[1][1:] if said else ""
        hint: Any = Annotated.__class_getitem__((hints[f.name], typer.Option(help=text)))  # type: ignore[attr-defined]
        rows[f.name] = inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default, annotation=hint)

    def group(**given: Any) -> Any:
        for name, make in inner.items():
            given[name] = make(**{k: given.pop(k) for k in inspect.signature(make).parameters})
        return kind(**given)

    group.__signature__ = inspect.Signature(list(rows.values()))  # type: ignore[attr-defined]
    group.__annotations__ = {name: row.annotation for name, row in rows.items()}
    return group


track_options = of_section(TrackOptions)


def check_places(places: dict[str, Path | None], overwrite: bool) -> None:
    """Refuse before the work what would fail, or destroy something, after it. places: by option."""
    given = {option: place for option, place in places.items() if place is not None}
    for option, place in given.items():
        try:
            require_file_or_nothing(place)
        except FileExistsError as error:
            raise ConfigError(f"{option}: {error}") from error
        if place.exists() and not overwrite:
            raise ConfigError(f"{place} exists already. Add --overwrite to replace it, or give another {option}.")
    if len({os.path.abspath(place) for place in given.values()}) < len(given):
        raise ConfigError(f"{' and '.join(given)} are one file: {place}. Give two names.")


def names(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


class _Rate(ProgressColumn):
    """How many a second."""

    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:.1f}/s")


@contextmanager
def progress(what: str) -> Iterator[Callable[[int | None], None]]:
    """A bar on stderr, where that is a terminal; gives a function that takes the total and moves it on by one."""
    with frame_progress(what) as move:
        done = itertools.count(1)
        yield lambda total: move(next(done), total)


@contextmanager
def tile_progress(what: str) -> Iterator[tuple[Callable[[int | None], None], Callable[[int, int], None]]]:
    """A bar of images as `progress`, and one of the tiles of an image beside it, where it has several: gives the
    function that moves each."""
    console, done = Console(stderr=True), itertools.count(1)
    bar = _bar(console)
    with bar:
        images = bar.add_task(what, total=None)
        tiles = bar.add_task("tiles", total=None, visible=False)

        def advance(total: int | None) -> None:
            bar.update(images, completed=next(done), total=total)
            bar.reset(tiles, visible=False)

        yield advance, lambda number, total: bar.update(tiles, completed=number, total=total, visible=number < total)


@contextmanager
def frame_progress(what: str) -> Iterator[Callable[[int, int | None], None]]:
    """The same, with a rate; gives a function that takes the number done and the total, None where it is not known."""
    with _bar(Console(stderr=True)) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
        redirect_stdout=sys.stdout.isatty(),
    )
