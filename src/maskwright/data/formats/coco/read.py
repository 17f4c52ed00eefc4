"""COCO JSON, read with every fault named.

Objects may overlap, and no object lies on top of another: each keeps its pixels.
Letters: H W image. In the files boxes are x, y, width, height; in memory xyxy.
"""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from maskwright.data.dataset import Dataset
from maskwright.data.formats.coco.ids import notes_of, number_names
from maskwright.data.formats.coco.layout import bare_parts, is_coco, joined, named, parts_of
from maskwright.data.formats.coco.rows import AnnotationReader, Categories, read_images, read_sections, unread
from maskwright.data.formats.shared.fields import Faults
from maskwright.data.formats.shared.foreign import panoptic
from maskwright.data.formats.shared.image_files import require_folder, with_slashes
from maskwright.data.formats.shared.saving import FileOrFolder, folder_of_first
from maskwright.errors import DataError

LAYOUT = FileOrFolder("annotations.json", "images")


def recognise(place: Path) -> bool:
    """A JSON file with images and annotations, or a folder with such files where the common tools put them."""
    parts = parts_of(place)
    return bool(parts) and all(is_coco(part.file) for part in parts)


def load_place(place: Path, images: Path | None = None, faults: Faults = None) -> Dataset:
    """Read the file, or the files of a folder, which `layout` describes; several files are the parts of one data set.

    Without `images` the images' folder is the first of those that the layout allows which has the first image; where
    none has it, the first of them. faults: gets those of images and annotations, which are then left out.
    """
    parts = parts_of(place) or parts_of(LAYOUT.file(place))
    if len(parts) == 1:
        data = _load(parts[0].file, parts[0].folders if images is None else (images,), faults)
        data = named(parts[0], data) if parts[0].name else data
        return replace(data, notes=(*data.notes, *bare_parts(place)))
    loaded = []
    for part in parts:
        folders = part.folders if images is None else (images, images / part.file.stem, images / part.name)
        loaded.append((part, _load(part.file, folders, faults)))
    data = joined(place, loaded)
    return replace(data, notes=(*data.notes, *bare_parts(place)))


def load(json_path: str | os.PathLike[str], images_dir: str | os.PathLike[str] | None = None) -> Dataset:
    r"""Read an annotated data set. Labels follow the category ids in rising order.

    json_path: COCO JSON with images, annotations and categories. images_dir: the folder its file names are relative
    to; without it boxes and masks are available, images are not.
    A missing or null iscrowd is read as 0, such a bbox as the extent of the outline, such an area as the pixels of the
    mask, such a size of an image as that of its file. "ignore": 1 makes a crowd region, "rotation" in the attributes of
    a box without outline (CVAT) a turned box, and ids that are names become numbers; notes count them. What is unusual
    but usable (a box beyond its image, an object of no area) is kept and counted in `Dataset.notes`. Fields and
    sections without a place of their own are kept in `extra` and `class_extra`. A \ in a file name is read as / where
    the file is found only so.
    Raises DataError, naming the file, the record and what to do, for anything else.
    """
    return _load(Path(json_path), () if images_dir is None else (Path(images_dir),))


def _load(source: Path, folders: Sequence[Path], faults: Faults = None) -> Dataset:
    """folders: the images are in the first of these that has the first image; without any they are not available."""
    if len(folders) == 1:
        require_folder(folders[0], source)
    rows, extra = read_sections(source, "images")
    if (other := panoptic(rows)) is not None:
        raise DataError(f"{source}: {other}")
    named = number_names(rows)
    first = rows["images"][0] if rows["images"] else None
    name = first.get("file_name") if isinstance(first, dict) else None
    root = folder_of_first(folders, name if isinstance(name, str) else "") if folders else None
    found = Categories(source, rows["categories"])
    stated = list(rows["images"])
    images, notes = read_images(source, rows["images"], root, faults)
    lost = unread((r.id for r in images), stated)
    reader = AnnotationReader(source, images, found.classes, faults, lost)
    annotations = reader.read(rows["annotations"])
    notes = (*notes_of(named), *found.notes, *notes, *reader.notes())
    return with_slashes(Dataset(found.classes, images, annotations, root, source, notes, found.extra, extra))
