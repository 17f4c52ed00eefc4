"""One table of the annotation formats: name -> how to recognise, read and write it.

A format is one file of `data/` and one line of `FORMATS`.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from maskwright.data import (
    coco,
    cvat,
    cvat_save,
    instance_png,
    instance_png_save,
    labelme,
    labelme_save,
    voc,
    voc_save,
    yolo,
    yolo_save,
    youtube_vis,
)
from maskwright.data.dataset import Dataset
from maskwright.errors import ConfigError, DataError, suggest


@dataclass(frozen=True)
class Format:
    """How one annotation format is handled.

    recognise: whether a file or folder is probably this format; reads as little as it can and never raises.
    load: (file or folder, the pictures' folder or None for the layout's own) to the data set, whose root is always
        set. Annotations are read and checked, pictures are not opened beyond their header.
    save: (place, data set, copy) writes everything the format needs, whole or not at all, and gives one sentence for
        each kind of thing that the format cannot hold and that was left out (empty: all of it is there).
        place must not exist (an empty folder may). copy: the picture files too, byte for byte, at the layout's place
        for them; where a layout cannot be without its pictures, or cannot hold them, the other choice is a
        ConfigError. Raises DataError, before anything is written, where pictures are missing or names clash.
        `atomic.new_folder` and `data.pictures` do most of it.
    one_file: the suffix of a place that is a single annotation file (".json"), None where every place is a folder.
    keeps: what a round trip through it keeps, and what not, in a person's words.
    """

    name: str
    summary: str
    recognise: Callable[[Path], bool]
    load: Callable[[Path, Path | None], Dataset]
    save: Callable[[Path, Dataset, bool], tuple[str, ...]]
    keeps: str
    one_file: str | None = None


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        f.name: f
        for f in (
            Format(
                "coco",
                "COCO JSON: one file, or a folder of annotations.json and images/",
                coco.recognise,
                coco.load_place,
                coco.save_place,
                "everything",
                one_file=".json",
            ),
            Format(
                "yolo",
                "YOLO (Ultralytics): data.yaml, images/ and labels/ with one text file for each picture",
                yolo.recognise,
                yolo.load,
                yolo_save.save,
                "outlines to a thousandth of a pixel (parts and holes become one polygon, joined by seams that enclose "
                "nothing: the pixels stay the same), boxes, class names and their order, train, val and test; "
                "landmarks only where no object has an outline; not crowds, tracks and ids",
            ),
            Format(
                "masks",
                "label pictures (Cellpose, StarDist): images/ and masks/, the value of a pixel is its object",
                instance_png.recognise_masks,
                instance_png.load_masks,
                instance_png_save.save_masks,
                "the pixels of objects that do not overlap, class names and their order; not crowds, landmarks, "
                "tracks, objects with a box only, and ids",
            ),
            Format(
                "dsb2018",
                "one mask picture for each object (Data Science Bowl): ID/images/ID.png and ID/masks/*.png",
                instance_png.recognise_objects,
                instance_png.load_objects,
                instance_png_save.save_objects,
                "the pixels of objects, class names and their order; not crowds, landmarks, tracks, objects with a box "
                "only, and ids",
            ),
            Format(
                "youtube_vis",
                "YouTube-VIS JSON (videos): one file, or a folder of instances.json and JPEGImages/",
                youtube_vis.recognise,
                youtube_vis.load,
                youtube_vis.save,
                "everything but landmarks, the annotations' own ids, and fields of pictures or of single frames",
                one_file=".json",
            ),
            Format(
                "labelme",
                "LabelMe: a folder with one JSON file for each picture",
                labelme.recognise,
                labelme.load,
                labelme_save.save,
                "outlines with parts and holes, boxes, classes, crowds, landmarks, tracks; not the ids",
            ),
            Format(
                "voc",
                "Pascal VOC: JPEGImages/, SegmentationObject/, SegmentationClass/, Annotations/, ImageSets/",
                voc.recognise,
                voc.load,
                voc_save.save,
                "the pixels of objects that do not overlap (254 in a picture at most), boxes rounded to pixels, "
                "classes, train and val; crowds become void; not landmarks, tracks, objects with a box only, and ids",
            ),
            Format(
                "cvat",
                "CVAT XML 1.1: one file, or a folder of annotations.xml and images/ (of videos it is read only)",
                cvat.recognise,
                cvat.load,
                cvat_save.save,
                "outlines with parts and holes, boxes, classes, crowds, landmarks, tracks; not the ids",
                one_file=".xml",
            ),
        )
    }
)


def load(
    path: str | os.PathLike[str], images: str | os.PathLike[str] | None = None, format: str | None = None
) -> Dataset:
    """Read a data set of any known format; without `format` it is recognised from the files.

    images: the pictures' folder, where it is not the format's own.
    Raises ConfigError for an unknown format name, DataError where nothing or more than one format fits.
    """
    place, folder = Path(path), None if images is None else Path(images)
    chosen = None if format is None else find(format)
    if not place.exists():
        raise DataError(f"{place}: there is no such file or folder (working folder: {os.getcwd()}).")
    return (chosen or recognise(place)).load(place, folder)


def save(path: str | os.PathLike[str], dataset: Dataset, format: str, copy: bool | None = None) -> tuple[str, ...]:
    """Write a data set as `format` to a new place; gives what the format cannot hold, one sentence each.

    copy: with the picture files; None: yes, unless the place is a single annotation file.
    Raises ConfigError for an unknown format or a choice it does not offer, DataError where pictures are missing or the
    place is taken.
    """
    chosen, place = find(format), Path(path)
    if copy is None:
        copy = chosen.one_file is None or place.suffix.lower() != chosen.one_file
    try:
        return chosen.save(place, dataset, copy)
    except FileExistsError as error:
        raise DataError(str(error)) from error


def recognise(place: Path) -> Format:
    """The one format that a file or folder has; a .json that is like none is left to COCO's reader to find fault with.

    Raises DataError where none or more than one fits.
    """
    fitting = [f for f in FORMATS.values() if f.recognise(place)]
    if not fitting and place.suffix.lower() == ".json" and place.is_file():
        return FORMATS["coco"]
    if len(fitting) != 1:
        found = " and ".join(f.name for f in fitting) or "none"
        raise DataError(
            f"{place}: the annotation format is not clear (fits: {found}). Name it (--format): {', '.join(FORMATS)}."
        )
    return fitting[0]


def find(name: str) -> Format:
    """The format of this name. Raises ConfigError, with a suggestion, for an unknown one."""
    if name not in FORMATS:
        raise ConfigError(f"There is no format '{name}'.{suggest(name, list(FORMATS))}")
    return FORMATS[name]
