"""Predict many files and write what was found, holding no more than one batch of images in memory."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from maskwright import media
from maskwright.errors import ConfigError, ImageError
from maskwright.predictor.predictor import MaskOptions, Predictor
from maskwright.results.outputs import WRITERS, Entry, NamedImage, Save, entries, parse_kinds, printable
from maskwright.results.prediction import Prediction
from maskwright.wording import counted


@dataclass(frozen=True)
class Done:
    """An image that was predicted and written, and how many instances were found in it."""

    source: str
    count: int


@dataclass(frozen=True)
class Failed:
    """An image that could not be read, and why."""

    source: str
    reason: str


@dataclass
class Report:
    """What a run did. done, failed: in the order of the run. seconds: from the first image to the last file."""

    out: Path
    done: list[Done] = field(default_factory=list)
    failed: list[Failed] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def count(self) -> int:
        """Instances found in all images."""
        return sum(d.count for d in self.done)

    def summary(self) -> str:
        """One line: images, instances, time and place; after it, one line for each image that failed."""
        rate = f", {len(self.done) / self.seconds:.1f} a second" if self.seconds > 0 and len(self.done) > 1 else ""
        lines = [
            f"{counted(self.count, 'instance')} in {counted(len(self.done), 'image')}, "
            f"{self.seconds:.1f} s{rate}. Results: {self.out}"
        ]
        if self.failed:
            lines.append(f"{counted(len(self.failed), 'image')} could not be read:")
            lines += [f"  {f.source}: {f.reason}" for f in self.failed]
        return "\n".join(lines)


@dataclass(frozen=True)
class RunOptions:
    """How a run predicts and writes.

    save: kinds of results, keys of `outputs.WRITERS`. score_threshold, max_instances: None takes the model's own.
    classes: names to keep, None for all. masks: see `predict.MaskOptions`. batch: images that go through the network
    together. overwrite: replace results that are there already. max_pixels, bits: see `media.read_image`.
    """

    save: Sequence[str] = ("overlay", "json")
    score_threshold: float | None = None
    classes: Sequence[str] | None = None
    max_instances: int | None = None
    masks: MaskOptions = field(default_factory=MaskOptions)
    batch: int = 1
    overwrite: bool = False
    max_pixels: int | None = media.MAX_PIXELS
    bits: int = 16

    def __post_init__(self) -> None:
        object.__setattr__(self, "save", parse_kinds(self.save))
        if self.batch < 1:
            raise ConfigError(f"A batch is at least 1 image, got {self.batch}.")
        if not 1 <= self.bits <= 16:
            raise ConfigError(f"A grey value has 1 to 16 bits, got {self.bits}.")
        if self.max_instances is not None and self.max_instances < 1:
            raise ConfigError(f"The most instances to keep is at least 1, got {self.max_instances}.")
        if self.score_threshold is not None and not 0 <= self.score_threshold <= 1:
            raise ConfigError(f"The score threshold lies in 0..1, got {self.score_threshold}.")


def predict_files(
    predictor: Predictor,
    sources: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    options: RunOptions | None = None,
    on_image: Callable[[Done | Failed, int], None] | None = None,
) -> Report:
    """Predict every image of `sources` and write the chosen results under the folder `out`.

    sources: files, folders, globs, .txt lists, URLs (see `media.find_images`). on_image: called after each image
    with what became of it and the number of images in all.
    An image that cannot be found or read is kept in `Report.failed` and the others are done. Before anything is
    written, raises ConfigError where an option is wrong or a result is there already, ImageError where no source
    leads to an image.
    """
    options = options or RunOptions()
    out = Path(out)
    run = _Run(predictor, out, options, {})
    run.predict([])  # a wrong class or score is told before anything is read
    _check_kinds(predictor, options)
    images, missing = _find(sources)
    todo = entries(images)
    _check_places(todo, out, options)
    report = Report(out)
    start = time.perf_counter()

    def note(result: Done | Failed) -> None:
        if isinstance(result, Done):
            report.done.append(result)
        else:
            report.failed.append(result)
        if on_image is not None:
            on_image(result, len(todo) + len(missing))

    for failed in missing:
        note(failed)
    with ExitStack() as stack:
        run.savers.update(_open(todo, out, options, stack))
        for batch in _batches(todo, options.batch):
            for result in run.batch(batch):
                note(result)
    report.seconds = time.perf_counter() - start
    return report


def _find(sources: Sequence[str | os.PathLike[str]]) -> tuple[list[str | Path], list[Failed]]:
    """The images, each once, and the sources that lead to none."""
    good, missing = [], []
    for source in sources:
        try:
            media.find_images([source])
            good.append(source)
        except ImageError as error:
            if len(sources) == 1:
                raise
            missing.append(_failed(printable(source), error))
    if not good:
        listed = "; ".join(f"{f.source}: {f.reason}" for f in missing)
        raise ImageError(f"None of the sources leads to an image. {listed}" if missing else "No source was given.")
    return media.find_images(good), missing


def _check_kinds(predictor: Predictor, options: RunOptions) -> None:
    """Refuse before the first image what a network without masks cannot give."""
    lacking = [kind for kind in options.save if WRITERS[kind].needs_masks and not predictor.model.draws_masks]
    if lacking:
        raise ConfigError(f"--save {','.join(lacking)} needs masks, and this model finds boxes only. Leave that out.")


def _check_places(todo: Sequence[Entry], out: Path, options: RunOptions) -> None:
    """Refuse before the first image what would fail, or destroy something, after the last."""
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out} is a file; results need a folder. Give another --out.")
    if options.overwrite or not out.exists():
        return
    places = {WRITERS[kind].place(out, entry) for kind in options.save for entry in todo}
    taken = sorted(str(place) for place in places if place.exists())
    if taken:
        more = f" and {len(taken) - 1} more" if len(taken) > 1 else ""
        raise ConfigError(f"{taken[0]}{more} exist already. Add --overwrite to replace them, or give another --out.")


def _open(todo: Sequence[Entry], out: Path, options: RunOptions, stack: ExitStack) -> dict[str, Save]:
    """Make the folders and open the run's files."""
    savers = {}
    for kind in options.save:
        place = WRITERS[kind].place(out, todo[0])
        place.parent.mkdir(parents=True, exist_ok=True)
        savers[kind] = stack.enter_context(WRITERS[kind].open(place))
    return savers


def _batches(todo: Sequence[Entry], size: int) -> Iterator[list[Entry]]:
    rest = iter(todo)
    while batch := list(islice(rest, size)):
        yield batch


@dataclass(frozen=True)
class _Run:
    predictor: Predictor
    out: Path
    options: RunOptions
    savers: dict[str, Save]

    def batch(self, batch: Sequence[Entry]) -> Iterator[Done | Failed]:
        """Read, predict and write these images; results in their order."""
        read = [self.read(entry) for entry in batch]
        found = iter(self.predict([image for image in read if isinstance(image, NamedImage)]))
        for image in read:
            if isinstance(image, Failed):
                yield image
                continue
            prediction = next(found)
            self.save(image, prediction)
            yield Done(image.entry.shown, len(prediction))

    def read(self, entry: Entry) -> NamedImage | Failed:
        """The image, or why there is none."""
        try:
            pixels = media.read_image(entry.source, max_pixels=self.options.max_pixels, bits=self.options.bits)
        except (ImageError, OSError) as error:
            return _failed(entry.shown, error)
        return NamedImage(entry, pixels)

    def predict(self, images: Sequence[NamedImage]) -> list[Prediction]:
        """One prediction for each image."""
        return self.predictor.predict(
            [image.pixels for image in images],
            score_threshold=self.options.score_threshold,
            classes=self.options.classes,
            max_instances=self.options.max_instances,
            batch_size=self.options.batch,
            **self.options.masks,
        )

    def save(self, image: NamedImage, prediction: Prediction) -> None:
        """Write every chosen kind."""
        for kind, save in self.savers.items():
            save(prediction, image, WRITERS[kind].place(self.out, image.entry))


def _failed(shown: str, error: Exception) -> Failed:
    return Failed(shown, str(error).removeprefix(f"{shown}: "))
