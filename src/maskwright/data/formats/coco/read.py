"""COCO JSON, read with every fault named.

Letters: H W image. In the files boxes are x, y, width, height; in memory xyxy.
"""

import os
from dataclasses import replace
from pathlib import Path

from maskwright.data.dataset import Dataset
from maskwright.data.formats.coco.rows import AnnotationReader, Categories, read_images, section
from maskwright.data.formats.shared.fields import json_keys, read_json
from maskwright.data.formats.shared.image_files import found_name, with_slashes
from maskwright.errors import DataError

ANNOTATIONS = "annotations.json"
"""The annotation file of a data set that is a folder; its images are in `images` beside it."""


def recognise(place: Path) -> bool:
    """A JSON file with images and annotations, or a folder with such an annotations.json."""
    path = place / ANNOTATIONS if place.is_dir() else place
    if path.suffix.lower() != ".json" or not path.is_file():
        return False
    return json_keys(path, ("images", "annotations")) == {"images", "annotations"}


def load_place(place: Path, images: Path | None = None) -> Dataset:
    """Read the file, or the folder's annotations.json.

    Without `images` the images' folder is the first of these that has the first image: the file's own folder, the
    folder `images` in it, and the folder `images` beside it; where none has it, the file's own.
    """
    path = place / ANNOTATIONS if place.is_dir() else place
    dataset = load(path, images)
    if images is not None:
        return dataset
    near = (path.parent, path.parent / "images", path.parent.parent / "images")
    first = dataset.images[0].file_name if dataset.images else ""
    return replace(dataset, root=next((folder for folder in near if found_name(folder, first)), path.parent))


def load(json_path: str | os.PathLike[str], images_dir: str | os.PathLike[str] | None = None) -> Dataset:
    r"""Read an annotated data set. Labels follow the category ids in rising order.

    json_path: COCO JSON with images, annotations and categories. images_dir: the folder its file names are relative
    to; without it boxes and masks can be had, images cannot.
    iscrowd that is missing or null is 0, such a bbox is the extent of the outline, such an area is the pixels of the
    mask; what is only odd (a box beyond its image, an object of no area) is kept and counted in `Dataset.notes`.
    Fields and sections that have no place of their own are kept in `extra` and `class_extra`. A file name with the \ of
    Windows gets / where the file lies so.
    Raises DataError, naming the file, the record and what to do, for anything that cannot be meant.
    """
    source = Path(json_path)
    root = None if images_dir is None else Path(images_dir)
    if root is not None and not root.is_dir():
        raise DataError(f"{root}: the image folder of {source} does not exist or is not a folder.")
    content = read_json(source)
    if not isinstance(content, dict):
        hint = ""
        if isinstance(content, list):
            hint = " This looks like a result list, that is, predictions. Give the annotation file that it belongs to."
        raise DataError(
            f"{source}: expected an object of images, annotations and categories, got {type(content).__name__}.{hint}"
        )
    rows = {name: section(source, content, name) for name in ("images", "annotations", "categories")}
    for name in rows:
        del content[name]
    found = Categories(source, rows["categories"])
    images = read_images(source, rows["images"])
    reader = AnnotationReader(source, images, found.classes, found.landmarks)
    annotations = reader.read(rows["annotations"])
    notes = (*found.notes, *reader.notes())
    return with_slashes(
        Dataset(found.classes, images, annotations, root, source, notes, found.landmarks, found.extra, extra=content)
    )
