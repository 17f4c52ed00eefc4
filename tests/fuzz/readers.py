"""The table of readers that are fuzzed: a row for each, with its sound inputs and what a user does with them."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random

from tests.fuzz import inputs
from tests.fuzz.inputs import Case

from maskwright import media
from maskwright.data import formats
from maskwright.evaluation.evaluate import evaluate_results
from maskwright.results.prediction import Prediction
from maskwright.training import settings

Verb = list[str] | Callable[[], object]
"""Arguments of the command line, or a call of the Python API."""


@dataclass(frozen=True)
class Reader:
    """cases: writes sound inputs into an empty folder. verbs: what is done with one of them.

    The verbs may write at `out`, which does not exist, and beside it at names that begin with its.
    """

    cases: Callable[[Path], list[Case]]
    verbs: Callable[[Case, Path, Random], list[Verb]]


def data_set(case: Case, out: Path, rng: Random) -> list[Verb]:
    """Check it, half of the time with a repaired copy; then statistics, a copy in one format, or a sheet."""
    known = ["--format", case.format] if rng.random() < 0.5 else []
    place = [str(case.place), *known]
    repaired = ["--fix", f"{out}"] if rng.random() < 0.5 else []
    to = rng.choice([name for name, format in formats.FORMATS.items() if format.save is not None])
    suffix = (formats.FORMATS[to].one_file or "") if rng.random() < 0.3 else ""
    copy = ["data", "convert", *place, "--to", to, "--out", f"{out}-copy{suffix}"]
    stats = ["data", "stats", *place, *rng.choice(([], ["--draw"], ["--json"]))]
    show = ["data", "show", *place, "--out", f"{out}.png", "--size", "64", "--count", "2"]
    check = ["data", "check", *place, "--json", f"{out}.json", *repaired]
    return [check, rng.choice((copy, copy, copy, copy, stats, stats, stats, show))]


def image(case: Case, out: Path, rng: Random) -> list[Verb]:
    how = rng.choice(("full", "bits:12", "percentiles", "percentiles:video", "values:-9..1000"))
    shown = partial(media.read_image, case.place, intensity=how)
    return [shown, partial(media.read_size, case.place), partial(media.read_values, case.place), windows(case, how)]


def windows(case: Case, how: str) -> Callable[[], object]:
    """Both ends of an image that is read in windows, and what is told of it."""

    def read() -> None:
        told, intensity = media.Readings(), media.chosen_intensity(how, None)
        found = media.windows_of(case.place, lambda size: True, intensity=intensity, told=told)
        if found is not None:
            with found:
                height, width = (min(side, 40) for side in found.size)
                found.read(0, 0, (height, width))
                found.read(found.size[0] - height, found.size[1] - width, (height, width))

    return read


def result_list(case: Case, out: Path, rng: Random) -> list[Verb]:
    metrics = ("coco", "nuclei") if case.place.stem == "masks" else ("coco",)
    return [partial(evaluate_results, case.place, case.place.parent / "annotations.json", metrics=metrics)]


def tracks(case: Case, out: Path, rng: Random) -> list[Verb]:
    """The ground truth as a data set, and the results on it."""
    return [
        ["data", "check", str(case.place), "--format", "ctc"],
        partial(evaluate_results, case.place, case.place, data_format="ctc", metrics=("ctc", "hota")),
    ]


def track_list(case: Case, out: Path, rng: Random) -> list[Verb]:
    return [partial(evaluate_results, case.place, case.place.parent / "truth.json", metrics=("youtube_vis", "hota"))]


def prediction(case: Case, out: Path, rng: Random) -> list[Verb]:
    def again() -> None:
        found = Prediction.load(case.place)
        found.save(out.with_suffix(".json"))
        json.dumps([found.to_coco(1), found.to_polygons()] if found.crops is not None else [])

    return [again]


def config(case: Case, out: Path, rng: Random) -> list[Verb]:
    return [lambda: settings.text(settings.read(case.place))]


def image_list(case: Case, out: Path, rng: Random) -> list[Verb]:
    return [lambda: [media.read_image(source) for source in media.find_images(case.place)]]


_COCO = inputs.written("coco", ["annotations.json", "annotations.json", "images/*.png"], inputs.still, inputs.points)
_PANOPTIC = inputs.written("coco_panoptic", ["panoptic.json", "panoptic.json", "panoptic/*.png"], inputs.scenes)
_YOLO = inputs.written("yolo", ["data.yaml", "data.yaml", "labels/**/*.txt"], inputs.still, inputs.pose)
_MASKS = inputs.written("masks", ["masks/*.png"], inputs.still)
_DSB = inputs.written("dsb2018", ["*/masks/*.png"], inputs.still)
_VIS = inputs.written("youtube_vis", ["instances.json"], inputs.clips)
_VOC = inputs.written("voc", ["Segmentation*/*.png", "Annotations/*.xml", "*.txt"], inputs.still)

READERS = {
    "coco": Reader(_COCO, data_set),
    "coco_panoptic": Reader(_PANOPTIC, data_set),
    "yolo": Reader(_YOLO, data_set),
    "masks": Reader(_MASKS, data_set),
    "foreground": Reader(inputs.foreground, data_set),
    "dsb2018": Reader(_DSB, data_set),
    "youtube_vis": Reader(_VIS, data_set),
    "labelme": Reader(inputs.labelme, data_set),
    "voc": Reader(_VOC, data_set),
    "cvat": Reader(inputs.cvat, data_set),
    "tables": Reader(inputs.tables, data_set),
    "images": Reader(inputs.images, image),
    "lists": Reader(inputs.image_lists, image_list),
    "results": Reader(inputs.results, result_list),
    "ctc": Reader(inputs.tracks, tracks),
    "track_lists": Reader(inputs.track_lists, track_list),
    "predictions": Reader(inputs.predictions, prediction),
    "settings": Reader(inputs.configs, config),
}
