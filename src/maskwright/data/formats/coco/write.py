"""COCO JSON, written whole or not at all."""

import os
from collections.abc import Sequence
from pathlib import Path

from maskwright.data.dataset import Dataset
from maskwright.data.formats.coco.read import LAYOUT
from maskwright.data.formats.coco.rows import annotation_row, category_rows, image_row
from maskwright.data.formats.shared.fields import write_sections
from maskwright.data.formats.shared.outlines import in_form


def save(path: str | os.PathLike[str], dataset: Dataset) -> None:
    """Write the annotations of a data set as COCO JSON, replacing the file; `load` gives the same back.

    Crowd regions have run lengths, as in COCO.
    """
    _save(Path(path), in_form(dataset, None), [r.file_name for r in dataset.images])


def save_place(place: Path, dataset: Dataset, copy: bool = False, segmentation: str | None = None) -> tuple[str, ...]:
    """Write a new .json file (annotations alone), or a new folder of annotations.json and, with `copy`, images/.

    segmentation: the form of all outlines, see `in_form`.
    """
    rows = in_form(dataset, segmentation)
    return LAYOUT.save(place, rows, copy, lambda path, names: _save(path, rows, names))


def _save(path: Path, dataset: Dataset, names: Sequence[str]) -> tuple[str, ...]:
    sections = dict(dataset.extra)
    sections["images"] = (image_row(r, name) for r, name in zip(dataset.images, names, strict=True))
    ids = dataset.classes.ids
    sections["annotations"] = (annotation_row(a, ids) for i in range(len(dataset)) for a in dataset.of(i))
    sections["categories"] = category_rows(dataset)
    write_sections(path, sections)
    return ()
