"""COCO JSON, read with every fault named.

Letters: H W image. In the files boxes are x, y, width, height; in memory xyxy.
"""

import os
from dataclasses import replace
from pathlib import Path

from maskwright.data.dataset import Dataset
from maskwright.data.formats.coco.rows import AnnotationReader, Categories, read_images, read_sections
from maskwright.data.formats.shared.image_files import require_folder, with_slashes
from maskwright.data.formats.shared.saving import FileOrFolder, folder_of_first

LAYOUT = FileOrFolder("annotations.json", "images")


def recognise(place: Path) -> bool:
    """A JSON file with images and annotations, or a folder with such an annotations.json."""
    return LAYOUT.has_keys(place, {"images", "annotations"})


def load_place(place: Path, images: Path | None = None) -> Dataset:
    """Read the file, or the folder's annotations.json.

    Without `images` the images' folder is the first of these that has the first image: the file's own folder, the
    folder `images` in it, and the folder `images` beside it; where none has it, the file's own.
    """
    path = LAYOUT.file(place)
    dataset = load(path, images)
    if images is not None:
        return dataset
    near = (path.parent, path.parent / "images", path.parent.parent / "images")
    return replace(dataset, root=folder_of_first(near, dataset.images[0].file_name if dataset.images else ""))


def load(json_path: str | os.PathLike[str], images_dir: str | os.PathLike[str] | None = None) -> Dataset:
    r"""Read an annotated data set. Labels follow the category ids in rising order.

    json_path: COCO JSON with images, annotations and categories. images_dir: the folder its file names are relative
    to; without it boxes and masks are available, images are not.
    A missing or null iscrowd is read as 0, such a bbox as the extent of the outline, such an area as the pixels of the
    mask; what is unusual but usable (a box beyond its image, an object of no area) is kept and counted in
    `Dataset.notes`. Fields and sections without a place of their own are kept in `extra` and `class_extra`. A \ in a
    file name is read as / where the file is found only so.
    Raises DataError, naming the file, the record and what to do, for anything else.
    """
    source = Path(json_path)
    root = None if images_dir is None else Path(images_dir)
    require_folder(root, source)
    rows, extra = read_sections(source, "images")
    found = Categories(source, rows["categories"])
    images = read_images(source, rows["images"])
    reader = AnnotationReader(source, images, found.classes, found.landmarks)
    annotations = reader.read(rows["annotations"])
    notes = (*found.notes, *reader.notes())
    return with_slashes(
        Dataset(found.classes, images, annotations, root, source, notes, found.landmarks, found.extra, extra)
    )
