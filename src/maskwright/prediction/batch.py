"""Predict many files and write what was found, holding no more than one batch of images in memory."""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path

from maskwright import media
from maskwright.data import formats
from maskwright.draw import ColourBy, check_colour
from maskwright.errors import ConfigError, DataError, ImageError
from maskwright.models.base import finds_stuff
from maskwright.prediction.boxes import RunBoxes, run_boxes
from maskwright.prediction.ids import image_ids, with_category_ids
from maskwright.predictor.options import FindOptions, intensity_of
from maskwright.predictor.predictor import Predictor
from maskwright.predictor.tiles import OnTile, tiling_of
from maskwright.results.outputs import WRITERS, LoadedImage, RunImage, Writer, parse_kinds, printable, run_images
from maskwright.results.prediction import MISSING, Prediction, reached, remedy
from maskwright.types import FULL, Classes, HeatMaps, ImageArray, Intensity, Size
from maskwright.wording import counted


@dataclass(frozen=True)
class Done:
    """An image that was predicted and written, and how many instances were found in it.

    limits, tiles: see `Prediction`.
    """

    source: str
    count: int
    limits: Mapping[str, float] = field(default_factory=dict)
    tiles: str = ""


@dataclass(frozen=True)
class Failed:
    """An image that could not be read, and why."""

    source: str
    reason: str


@dataclass
class BatchResult:
    """What a run did. done, failed: in order. seconds: from the first image to the last file. notes: what a reader of
    the results should know, one sentence each."""

    out: Path
    done: list[Done] = field(default_factory=list)
    failed: list[Failed] = field(default_factory=list)
    seconds: float = 0.0
    notes: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """Instances found in all images."""
        return sum(d.count for d in self.done)

    def summary(self) -> str:
        """One line: images, instances, time and place; then limits reached, notes, and each image that failed."""
        rate = f", {len(self.done) / self.seconds:.1f} a second" if self.seconds > 0 and len(self.done) > 1 else ""
        lines = [
            f"{counted(self.count, 'instance')} in {counted(len(self.done), 'image')}, "
            f"{self.seconds:.1f} s{rate}. Results: {self.out}"
        ]
        if limited := [f"{d.source} ({reached(d.limits, d.count)})" for d in self.done if d.limits]:
            some = ", ".join(limited[:5]) + (", ..." if len(limited) > 5 else "")
            raising = remedy({name for d in self.done for name in d.limits})
            lines.append(f"{MISSING} in {counted(len(limited), 'image')}: {some}. {raising}")
        for text, count in Counter(d.tiles for d in self.done if d.tiles).items():
            lines.append(text if len(self.done) == 1 else f"{counted(count, 'image')}: {text}")
        lines += [f"Note: {note}" for note in self.notes]
        if self.failed:
            lines.append(f"{counted(len(self.failed), 'image')} could not be read:")
            lines += [f"  {f.source}: {f.reason}" for f in self.failed]
        return "\n".join(lines)


@dataclass(frozen=True)
class RunOptions:
    """How a run predicts and writes.

    save: kinds of results, keys of `outputs.WRITERS`. find: which instances are found. overwrite: replace results that
    exist already. max_pixels, bits: see `media.read_image`. ids: an annotation file or folder of any format, whose
    image and category ids the results have; without it images have the numbers that are their names, or 1, 2, ..., and
    categories the ids of the model. colour: what the colours of overlays tell apart, see `draw.overlay`. boxes: an
    annotation file or folder of any format, or COCO results (with `ids`): the model gives each of its boxes a class and
    a mask, and finds nothing itself.
    """

    save: Sequence[str] = ("overlay", "json")
    find: FindOptions = field(default_factory=FindOptions)
    overwrite: bool = False
    max_pixels: int | None = media.MAX_PIXELS
    bits: int | None = None
    ids: str | os.PathLike[str] | None = None
    colour: ColourBy | None = None
    boxes: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "save", parse_kinds(self.save))
        if self.colour is not None:
            check_colour(self.colour)
        intensity = media.chosen_intensity(self.find.intensity, self.bits)
        object.__setattr__(self, "find", replace(self.find, intensity=intensity))
        object.__setattr__(self, "bits", None)  # said by the intensity now
        if self.find.max_instances == 0:  # a run that writes nothing is a mistake; a call of `predict` may want none
            raise ConfigError("max_instances is at least 1, got 0.", options=("max_instances",))


def predict_files(
    predictor: Predictor,
    sources: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    options: RunOptions | None = None,
    on_image: Callable[[Done | Failed, int], None] | None = None,
    on_tile: OnTile | None = None,
) -> BatchResult:
    """Predict every image of `sources` and write the chosen results under the folder `out`.

    sources: files, folders, globs, .txt lists, URLs (see `media.find_images`). on_image: called after each image
    with what became of it and the number of images in all. on_tile: as for `Predictor.predict`.
    An image that cannot be found or read is kept in `BatchResult.failed` and the others are done. Before anything is
    written, raises ConfigError where an option is wrong or a result exists already, ImageError where no source leads to
    an image, DataError where the annotation file of the ids does not have an image.
    """
    options, out = options or RunOptions(), Path(out)
    worker = _Worker(predictor, out, options, on_tile=on_tile)
    if options.boxes is not None:
        worker.boxes = RunBoxes("", {}, {}, ())
    worker.predict([])  # raises for a wrong class or score before anything is read
    _check_kinds(predictor, options)
    notes: list[str] = []
    images, missing = _find(sources, notes)
    ids = known = None
    if options.ids is not None:
        known = formats.load(options.ids)
        worker.classes = with_category_ids(predictor.classes, known, options.find.classes)
        ids = image_ids(images, known)
    if options.boxes is not None:
        worker.boxes = run_boxes(options.boxes, images, predictor.classes, known)
        notes += worker.boxes.notes
    single = ids is not None or options.boxes is not None  # a file is one image of the annotations
    todo = run_images(images, ids, None if single else [_pages(image) for image in images])
    _check_places(todo, out, options)
    result = BatchResult(out)
    start = time.perf_counter()

    def note(image: Done | Failed) -> None:
        if isinstance(image, Done):
            result.done.append(image)
        else:
            result.failed.append(image)
        if on_image is not None:
            on_image(image, len(todo) + len(missing))

    for failed in missing:
        note(failed)
    with ExitStack() as stack:
        worker.writers = _open(todo, out, options, stack)
        rest = iter(todo)
        while batch := list(islice(rest, options.find.batch_size or 1)):
            for image in worker.batch(batch):
                note(image)
        worker.close()
    result.seconds = time.perf_counter() - start
    result.notes = (*notes, *worker.told.notes(worker.intensity), *worker.notes)
    return result


def _pages(image: str | Path) -> int:
    """How many images a file holds; 1 of an address, which is read once, and of what cannot be read."""
    try:
        return 1 if isinstance(image, str) else media.page_count(image)
    except (ImageError, OSError):
        return 1


def _find(sources: Sequence[str | os.PathLike[str]], notes: list[str]) -> tuple[list[str | Path], list[Failed]]:
    """The images, each once, and the sources without any. notes: get a line about files of folders left out."""
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
    return media.find_images(good, notes), missing


def _check_kinds(predictor: Predictor, options: RunOptions) -> None:
    """Refuse what needs masks, if the network has none, or tracks, before the first image."""
    lacking = [kind for kind in options.save if WRITERS[kind].needs_masks and not predictor.draws_masks]
    if lacking:
        raise ConfigError(
            f"{', '.join(lacking)} cannot be made without masks, and this model finds boxes only. Leave that out.",
            options=("save",),
        )
    lacking = [kind for kind in options.save if WRITERS[kind].needs_stuff]
    if lacking and not finds_stuff(predictor.detector.parts):
        raise ConfigError(
            f"{', '.join(lacking)} cannot be made without a class for every pixel, which this model does not find. "
            "Leave that out, or use a model such as 'panoptic_fpn_r50'.",
            options=("save",),
        )
    lacking = [kind for kind in options.save if WRITERS[kind].needs_landmarks]
    if lacking and HeatMaps not in predictor.detector.parts:
        raise ConfigError(
            f"{', '.join(lacking)} cannot be made without landmarks, which this model does not find. Leave that out, "
            "or use a model such as 'keypoint_rcnn_r50_fpn'.",
            options=("save",),
        )
    if options.colour == "track":
        raise ConfigError(
            "colour is 'track', but images predicted one by one have no track ids; `Predictor.track` gives them.",
            options=("colour",),
        )


def _check_places(todo: Sequence[RunImage], out: Path, options: RunOptions) -> None:
    """Refuse places that cannot be written, or hold results already, before the first image."""
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out} is a file; results need a folder. Name another place.", options=("out",))
    if options.overwrite or not out.exists():
        return
    places = {WRITERS[kind].place(out, item) for kind in options.save for item in todo}
    taken = sorted(str(place) for place in places if place.exists())
    if taken:
        more = f" and {len(taken) - 1} more" if len(taken) > 1 else ""
        raise ConfigError(
            f"{taken[0]}{more} exist already. Name another folder, or let them be replaced.",
            options=("out", "overwrite"),
        )


def _open(todo: Sequence[RunImage], out: Path, options: RunOptions, stack: ExitStack) -> dict[str, Writer]:
    """Make the folders and open the run's files."""
    writers = {}
    for kind in options.save:
        place = WRITERS[kind].place(out, todo[0])
        place.parent.mkdir(parents=True, exist_ok=True)
        writers[kind] = stack.enter_context(WRITERS[kind].open(place))
    return writers


@dataclass
class _Worker:
    """Reads, predicts and writes images. classes: with the ids that results are written with; None is the
    model's. boxes: those that masks are made for; None: the model finds its own."""

    predictor: Predictor
    out: Path
    options: RunOptions
    classes: Classes | None = None
    boxes: RunBoxes | None = None
    writers: dict[str, Writer] = field(default_factory=dict)
    told: media.Readings = field(default_factory=media.Readings)
    stack: tuple[Path | str, media.ImageFile] | None = None
    opened: ExitStack = field(default_factory=ExitStack)
    of_stack: Intensity = FULL
    notes: list[str] = field(default_factory=list)
    on_tile: OnTile | None = None

    @property
    def intensity(self) -> Intensity:
        """How images with more than 8 bits become 0..255."""
        return intensity_of(self.predictor, self.options.find)

    def batch(self, batch: Sequence[RunImage]) -> Iterator[Done | Failed]:
        """Read, predict and write these images; results in their order."""
        read = [self.read(item) for item in batch]
        found = self.found([image for image in read if isinstance(image, LoadedImage)])
        for image in read:
            prediction = image if isinstance(image, Failed) else next(found)
            if isinstance(prediction, Failed):
                yield prediction
                continue
            assert isinstance(image, LoadedImage)
            self.write(image, prediction)
            yield Done(image.item.shown, len(prediction), prediction.limits, prediction.tiles)

    def read(self, item: RunImage) -> LoadedImage | Failed:
        """The image, or why there is none."""
        try:
            image = LoadedImage(item, self.windows(item) or self.pixels(item), self.options.colour)
            if self.boxes is not None:
                self.boxes.of(item.source, image.size)
        except (DataError, ImageError, OSError) as error:
            return _failed(item.shown, error)
        return image

    def pixels(self, item: RunImage) -> ImageArray:
        """The whole image."""
        if item.page is None:
            most = self.options.max_pixels
            return media.read_image(item.source, max_pixels=most, intensity=self.intensity, told=self.told)
        stored = self.pages(item.source).decode(item.page, self.options.max_pixels)
        return media.rgb_of(stored, self.of_stack, item.shown, self.told)

    def windows(self, item: RunImage) -> media.Windows | None:
        """The image to be read in windows, where it is computed in tiles and its file allows it; else None.

        The percentiles of a whole stack are measured in its pages, which are decoded.
        """
        predictor, find, intensity = self.predictor, self.options.find, self.intensity
        if not isinstance(predictor, Predictor) or (item.page is not None and intensity.per == "video"):
            return None

        def tiled(size: Size) -> bool:
            return tiling_of(predictor, find, size) is not None

        return media.windows_of(item.source, tiled, intensity=intensity, page=item.page, told=self.told)

    def pages(self, source: Path | str) -> media.ImageFile:
        """The file, which stays open until another is asked for: frames of an animation build on the one before."""
        if self.stack is None or self.stack[0] != source:
            self.close()
            file = self.opened.enter_context(media.opened(source))
            self.of_stack = media.measured(partial(media.all_pages, file, self.options.max_pixels), self.intensity)
            self.stack = source, file
            self.told.look_beside(file)
        return self.stack[1]

    def close(self) -> None:
        """Close the file of the last pages."""
        self.opened.close()
        self.stack = None

    def found(self, images: Sequence[LoadedImage]) -> Iterator[Prediction | Failed]:
        """What was found in each image, or why nothing: one that is read in windows may turn out to be damaged, or a
        box that is given to lie in no tile."""
        try:
            predictions: Sequence[Prediction | Failed] = self.predict(images)
        except (DataError, ImageError, OSError) as error:
            if len(images) > 1:
                predictions = [found for image in images for found in self.found([image])]
            else:
                predictions = [_failed(images[0].item.shown, error)]
                if isinstance(images[0].pixels, media.Windows):
                    images[0].pixels.close()
        yield from predictions

    def predict(self, images: Sequence[LoadedImage]) -> list[Prediction]:
        """One prediction for each image."""
        pixels = [image.pixels for image in images]
        if self.boxes is None:
            return self.predictor.predict(pixels, self.options.find, on_tile=self.on_tile)
        own = [self.boxes.of(image.item.source, image.size) for image in images]
        return self.predictor.predict(pixels, self.options.find, boxes=own, on_tile=self.on_tile)

    def write(self, image: LoadedImage, prediction: Prediction) -> None:
        """Write every chosen kind."""
        if self.classes is not None:
            prediction = replace(prediction, classes=self.classes)
        for kind, write in self.writers.items():
            write(prediction, image, WRITERS[kind].place(self.out, image.item))
        if isinstance(image.pixels, media.Windows):
            image.pixels.close()
            if image.pixels.reduction > 1 and "overlay" in self.writers:
                self.notes.append(f"The overlay of {image.item.shown} is reduced {image.pixels.reduction} times.")


def _failed(shown: str, error: Exception) -> Failed:
    return Failed(shown, str(error).removeprefix(f"{shown}: "))
