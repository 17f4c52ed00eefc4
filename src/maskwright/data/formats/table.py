"""One table of the annotation formats: name -> how to recognise, read and write it.

A format is one folder of `data/formats/` and one row of `FORMATS`.
"""

import errno
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any

from maskwright.data.dataset import Dataset
from maskwright.data.formats import coco, coco_panoptic, ctc, cvat, label_studio, labelme, masks, voc, yolo, youtube_vis
from maskwright.data.formats.shared.image_files import with_slashes
from maskwright.data.formats.shared.losses import NOTHING, Kept, lost_extra, sentence
from maskwright.errors import ConfigError, DataError, suggest
from maskwright.media import SUFFIXES, TURNED
from maskwright.wording import counted

_ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar")
_FILES = {
    "annotations.json": "coco",
    "panoptic.json": "coco_panoptic",
    "instances.json": "youtube_vis",
    "annotations.xml": "cvat",
}
_MOST_LOOKED_AT, _MOST_SUFFIXES = 100_000, 5  # files and suffixes that the message about an unknown folder counts


@dataclass(frozen=True)
class Format:
    """How one annotation format is handled.

    recognise: whether a file or folder probably has this format; reads as little as possible and never raises.
    load: (file or folder, the images' folder or None for the layout's own) to the data set, whose root is always
        set. Annotations are read and checked; of images at most the header is read. The first fault is raised; a list,
        `faults`, as the third argument gets that of each record instead, which is then left out.
    save: (place, data set, copy) writes the place whole or not at all and returns a sentence for each kind of
        information that the format cannot hold (empty: nothing is lost). The place must not exist, or be an empty
        folder. copy: also copy the image files, byte for byte, to their place in the layout. Raises ConfigError where
        the layout needs its images, or cannot hold them, and `copy` says otherwise; DataError, before anything is
        written, where images are missing or names clash. `shared.saving` and `shared.image_files` do most of it. None
        where the format is read only.
    crowds: whether crowd regions are kept.
    fields: those without a place of their own that are kept.
    segmentation: whether `save` takes the form of the outlines, "polygon" or "rle", as its last argument.
    one_file: the suffix of a place that is a single annotation file (".json"), None where every place is a folder.
    keeps: what a round trip keeps and what it loses, in words.
    maps: whether panoptic maps are kept.
    """

    name: str
    summary: str
    recognise: Callable[[Path], bool]
    load: Callable[..., Dataset]
    save: Callable[..., tuple[str, ...]] | None
    keeps: str
    one_file: str | None = None
    crowds: bool = True
    segmentation: bool = False
    fields: Kept = NOTHING
    maps: bool = False

    def read(self, *arguments: Any) -> Dataset:
        """`load`, with a DataError also for what the operating system refuses, such as a name that is too long."""
        try:
            return self.load(*arguments)
        except OSError as error:
            raise DataError(
                f"{arguments[0]}: {error.filename or 'a file'} cannot be read ({error.strerror})."
            ) from error


_ROWS = (
    Format("coco", "COCO JSON: one file, or a folder of annotations.json and images/",
           coco.recognise, coco.load_place, coco.save_place, "everything",
           one_file=".json", segmentation=True, fields=Kept(None, None, classes=True, file=True)),
    Format("coco_panoptic", "COCO panoptic: panoptic.json, images/ and panoptic/ with a PNG for each image, whose "
           "colours are its segments",
           coco_panoptic.recognise, coco_panoptic.load, coco_panoptic.save,
           "the pixels of segments that do not overlap, things and stuff, classes and their ids, crowds; not "
           "landmarks, tracks, objects with a box only, the ids of segments, and fields of stuff",
           fields=Kept(None, None, classes=True, file=True), maps=True),
    Format("yolo", "YOLO (Ultralytics): data.yaml, images/ and labels/ with one text file for each image",
           yolo.recognise, yolo.load, yolo.save,
           "outlines to a thousandth of a pixel (parts and holes become one polygon, joined by seams that enclose "
           "nothing: the pixels stay the same), boxes, class names and their order, train, val and test; landmarks "
           "only where no object has an outline; not crowds, tracks and ids",
           crowds=False, fields=Kept(images=["split"])),
    Format("masks", "label images (Cellpose, StarDist): images/ and masks/, the value of a pixel is its object",
           masks.recognise_masks, masks.load_masks, masks.save_masks,
           "the pixels of objects that do not overlap, class names and their order; not crowds, landmarks, tracks, "
           "objects with a box only, and ids", crowds=False),
    Format("foreground", "foreground or class masks, laid out as label images: a pixel's value is its class (is read "
           "only, and must be named)",
           lambda place: False, masks.load_foreground, None,
           "connected pieces of one value are objects, so that objects of one class that touch are one"),
    Format("dsb2018", "one mask image for each object (Data Science Bowl): ID/images/ID.png and ID/masks/*.png",
           masks.recognise_objects, masks.load_objects, masks.save_objects,
           "the pixels of objects, class names and their order; not crowds, landmarks, tracks, objects with a box "
           "only, and ids", crowds=False),
    Format("youtube_vis", "YouTube-VIS JSON (videos): one file, or a folder of instances.json and JPEGImages/",
           youtube_vis.recognise, youtube_vis.load, youtube_vis.save,
           "everything but landmarks, the annotations' own ids, and fields of images or of single frames",
           one_file=".json", segmentation=True, fields=Kept(objects=None, classes=True, file=True)),
    Format("ctc", "Cell Tracking Challenge (2D videos): 01/t000.tif, 01_GT/TRA/man_track000.tif and man_track.txt (is "
           "read only)",
           ctc.recognise, ctc.load, None, "the pixels of tracks, their ids and parents; outlines (SEG) for evaluation"),
    Format("labelme", "LabelMe: a folder with one JSON file for each image",
           labelme.recognise, labelme.load, labelme.save,
           "outlines with parts and holes, boxes, classes, crowds, landmarks, tracks, clips; not the ids",
           segmentation=True, fields=Kept(None, None)),
    Format("voc", "Pascal VOC: JPEGImages/, Annotations/, ImageSets/, SegmentationObject/, SegmentationClass/",
           voc.recognise, voc.load, voc.save,
           "the pixels of objects that do not overlap (254 in an image at most), boxes rounded to pixels, classes, "
           "train and val; crowds become void; not landmarks, tracks, ids, and beside masks objects with a box only",
           crowds=False, fields=Kept(["split"], voc.REMARKS)),
    Format("cvat", "CVAT XML 1.1: one file, or a folder of annotations.xml and images/ (of videos it is read only)",
           cvat.recognise, cvat.load, cvat.save,
           "outlines with parts and holes, boxes, classes, crowds, landmarks, tracks; not the ids",
           one_file=".xml", segmentation=True, fields=Kept(["split"], ["attributes", "occluded", "z_order"])),
    Format("label_studio", "Label Studio JSON: one file, or a folder with it and images/ (is read only)",
           label_studio.recognise, label_studio.load, None, "outlines, boxes, brush strokes, class names"),
)  # fmt: skip

FORMATS: Mapping[str, Format] = MappingProxyType({row.name: row for row in _ROWS})


def load(
    path: str | os.PathLike[str], images: str | os.PathLike[str] | None = None, format: str | None = None
) -> Dataset:
    r"""Read a data set of any known format; without `format` it is recognised from the files.

    Where the objects may not be what was meant (`Dataset.doubt`), a format that is named becomes a note of it, and one
    that is not an error.

    images: the images' folder, where it is not the format's own. A \ in the name of an image is read as / where the
    file is found only so.
    Raises ConfigError for an unknown format name, DataError where nothing or more than one format fits.
    """
    place, folder = Path(path), None if images is None else Path(images)
    chosen = None if format is None else find(format)
    if not place.exists():
        raise DataError(f"{place}: there is no such file or folder (working folder: {os.getcwd()}).")
    dataset = with_slashes((chosen or recognise(place)).read(place, folder))
    if not dataset.doubt:
        return dataset
    if chosen is None:
        name = recognise(place).name
        pieces = "'foreground' makes an object of each connected piece, " if name == "masks" else ""
        raise DataError(
            f"{place}: {dataset.doubt} Correct the masks, or name the format: {pieces}'{name}' takes the objects as "
            f"they are.",
            options=("data_format", "format"),
        )
    return replace(dataset, notes=(*dataset.notes, f"{dataset.doubt[:1].upper()}{dataset.doubt[1:]}"))


def save(
    path: str | os.PathLike[str],
    dataset: Dataset,
    format: str,
    copy: bool | None = None,
    segmentation: str | None = None,
) -> tuple[str, ...]:
    """Write a data set as `format` to a new place; returns a sentence for each kind of information that is lost.

    copy: with the image files; None: yes, unless the place is a single annotation file. segmentation: all outlines as
    polygons ("polygon") or run lengths ("rle"; in LabelMe bitmaps), which fill the same pixels; None: as they are.
    Raises ConfigError for an unknown format or a choice it does not offer, DataError where images are missing or of
    another size than their record says, the place is taken, or all annotations are crowd regions, which the format
    leaves out.
    """
    chosen, place = find(format), Path(path)
    if copy is None:
        copy = chosen.one_file is None or place.suffix.lower() != chosen.one_file
    if segmentation is not None and not chosen.segmentation:
        others = ", ".join(f.name for f in FORMATS.values() if f.segmentation)
        text = f"{format} has one form of outlines, so 'segmentation' cannot be chosen; it can for {others}."
        raise ConfigError(text, options=("segmentation",))
    missing, either = _require_writable(chosen, dataset)
    assert chosen.save is not None
    with _as_data_error(place, dataset):
        lost = chosen.save(place, dataset, copy, *(() if segmentation is None else (segmentation,)))
    kept = dataset.semantic_maps is None or (chosen.maps and dataset.panoptic_maps is not None)
    unseen = sentence(len(missing), "image{s} without a file, so not compared with the record", list(map(str, missing)))
    semantic = sentence(0 if kept else len(dataset), "image{s} without the semantic maps of the data set")
    marked = sentence(
        0 if dataset.outline_maps is None else len(dataset), "image{s} without the masks beside the markers"
    )
    turned = sentence(len(either), f"image{{s}} {TURNED}", list(map(str, either)))
    return (*lost, *lost_extra(dataset, chosen.fields), *unseen, *turned, *semantic, *marked)


def _require_writable(chosen: Format, dataset: Dataset) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """Raises as `save` where a format cannot be written, or the data set should not; the rest is `require_sizes`."""
    if chosen.save is None:
        others = ", ".join(f.name for f in FORMATS.values() if f.save is not None)
        text = f"The format '{chosen.name}' is only read. It can be written as one of {others}."
        raise ConfigError(text, options=("to",))
    if not chosen.crowds and any(a.crowd for rows in dataset.annotations.values() for a in rows):
        dataset.require_objects()  # else nothing would be left of the annotations
    return ((), ()) if dataset.root is None else dataset.require_sizes()


@contextmanager
def _as_data_error(place: Path, dataset: Dataset) -> Iterator[None]:
    """Whatever keeps a data set from being written because of its content, as a DataError that names a file."""
    try:
        yield
    except FileExistsError as error:
        raise DataError(str(error)) from error
    except DataError as error:
        if any(str(named) in str(error) for named in (dataset.source, place)):
            raise
        raise DataError(f"{dataset.source}: {error}", options=error.options) from error
    except UnicodeEncodeError as error:
        text = f"{error.object!r} holds half a character (a lone surrogate), which no text file can. Rename it."
        raise DataError(f"{dataset.source}: {text}") from error
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        raise DataError(f"{dataset.source}: {error}. Give the image or class a shorter name.") from error


def recognise(place: Path) -> Format:
    """The only format that fits a file or folder.

    Where none fits, COCO's reader gets a .json file, and the reader of the format whose annotation file it has by name
    gets a folder: the file may be empty or cut off, and the reader's error says so. Raises DataError where none or
    several fit.
    """
    fitting = [f for f in FORMATS.values() if f.recognise(place)]
    if not fitting and place.suffix.lower() == ".json" and place.is_file():
        return FORMATS["coco"]
    fitting = fitting or [FORMATS[name] for file, name in _FILES.items() if (place / file).is_file()][:1]
    if not fitting:
        raise DataError(_unlike_any(place), options=("data_format",))
    if len(fitting) > 1:
        found = " and ".join(f.name for f in fitting)
        raise DataError(
            f"{place}: the annotation format is not clear (fits: {found}). Name it: {', '.join(FORMATS)}.",
            options=("data_format",),
        )
    return fitting[0]


def _unlike_any(place: Path) -> str:
    """The message for a place that fits no format: what it is, what each format looks for, and what to do."""
    formats = "\n".join(f"  {f.name:12} {f.summary}" for f in FORMATS.values())
    if place.is_file() and place.name.lower().endswith(_ARCHIVES):
        return f"{place}: archives are not read. Unpack it first, then give the folder."
    found = _content(place) if place.is_dir() else f"a file of suffix '{place.suffix}'" if place.suffix else "a file"
    return (
        f"{place}: no annotation format fits; this is {found}. Looked for:\n{formats}\n"
        f"Give the file or folder of the annotations, or name its format."
    )


def _content(folder: Path) -> str:
    """The content of a folder and those below it in words; of a very large one its first files."""
    walk = (Path(name) for _, _, names in os.walk(folder) for name in names if not name.startswith("."))
    suffixes = Counter(path.suffix.lower() for path in islice(walk, _MOST_LOOKED_AT))
    if not suffixes:
        return "an empty folder" if not any(folder.iterdir()) else "a folder without a file in it"
    images = sum(count for suffix, count in suffixes.items() if suffix in SUFFIXES)
    others = [(suffix, count) for suffix, count in suffixes.most_common() if suffix not in SUFFIXES]
    words = [counted(images, "image")] if images else []
    for suffix, count in others[:_MOST_SUFFIXES]:
        kind = f"of suffix '{suffix}'" if suffix else "without suffix"
        words.append(f"{counted(count, 'file')} {kind}")
    words += ["others"] if len(others) > _MOST_SUFFIXES else []
    first = "at least " if suffixes.total() == _MOST_LOOKED_AT else ""
    return f"a folder of {first}{', '.join(words)}{'' if others else ' and no annotations'}"


def find(name: str) -> Format:
    """The format of this name. Raises ConfigError, with a suggestion, for an unknown one."""
    if name not in FORMATS:
        raise ConfigError(f"There is no format '{name}'.{suggest(name, list(FORMATS))}")
    return FORMATS[name]
