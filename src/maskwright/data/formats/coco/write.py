"""COCO JSON, written whole or not at all."""

import os
from collections.abc import Sequence
from pathlib import Path

from maskwright.atomic import new_folder
from maskwright.data.dataset import Dataset
from maskwright.data.formats.coco.read import ANNOTATIONS
from maskwright.data.formats.coco.rows import annotation_row, category_rows, image_row
from maskwright.data.formats.shared.fields import write_sections
from maskwright.data.formats.shared.image_files import copy_images, inner_names
from maskwright.errors import ConfigError


def save(path: str | os.PathLike[str], dataset: Dataset) -> None:
    """Write the annotations of a data set as COCO JSON, replacing the file; `load` gives the same back."""
    _save(Path(path), dataset, [r.file_name for r in dataset.images])


def _save(path: Path, dataset: Dataset, names: Sequence[str]) -> None:
    sections = dict(dataset.extra)
    sections["images"] = (image_row(r, name) for r, name in zip(dataset.images, names, strict=True))
    ids = dataset.classes.ids
    sections["annotations"] = (annotation_row(a, ids) for i in range(len(dataset)) for a in dataset.of(i))
    sections["categories"] = category_rows(dataset.classes, dataset.landmarks, dataset.class_extra)
    write_sections(path, sections)


def save_place(place: Path, dataset: Dataset, copy: bool = False) -> tuple[str, ...]:
    """Write a new .json file (annotations alone), or a new folder of annotations.json and, with `copy`, images/."""
    if place.suffix.lower() == ".json":
        if copy:
            raise ConfigError(f"{place}: a JSON file holds no images. Name a folder, or leave the images out.")
        if place.exists():
            raise FileExistsError(f"{place} exists already. Nothing is overwritten: name a new file, or remove it.")
        save(place, dataset)
        return ()
    if copy:
        dataset.require_files()
    names = inner_names(dataset) if copy else [r.file_name for r in dataset.images]
    with new_folder(place) as folder:
        if copy:
            copy_images(dataset, folder / "images", names)
        _save(folder / ANNOTATIONS, dataset, names)
    return ()
