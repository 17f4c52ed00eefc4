"""Writing masks as images, in the two layouts that `read` describes.

Letters: H W image, k position of an object among those of its image that have pixels.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from maskwright import media
from maskwright.atomic import new_folder
from maskwright.data.dataset import Annotation, Dataset
from maskwright.data.formats.masks.class_table import CLASSES, OBJECTS, objects_text
from maskwright.data.formats.masks.read import MASKS
from maskwright.data.formats.shared.image_files import copy_images, inner_names, require_distinct
from maskwright.data.formats.shared.losses import GONE, Lost, add_covered, check_names, lost_fields, sentences
from maskwright.data.formats.shared.saving import write_text
from maskwright.errors import ConfigError, DataError
from maskwright.ops.masks import painted
from maskwright.types import Masks

_MOST = int(np.iinfo(np.uint16).max)

_Rows = list[tuple[str, int | None, str]]


def save_masks(place: Path, dataset: Dataset, copy: bool = True) -> tuple[str, ...]:
    """Write masks/NAME.png (16 bit, object k has the value k + 1), classes.txt and, with `copy`, images/NAME.

    With several classes objects.csv has the class of each object. Where objects overlap the smaller one is visible, of
    equally large ones the later.
    """
    check_names(dataset, place)
    names = inner_names(dataset)
    paths = [f"{MASKS}/{Path(name).with_suffix('.png').as_posix()}" for name in names]
    require_distinct(dataset, paths, "the mask")
    if copy:
        dataset.require_files()
    lost: Lost = {}
    rows: _Rows = []
    with new_folder(place) as folder:
        for i, path in enumerate(paths):
            kept, masks = _drawn(dataset, i, lost)
            values = _label_image(masks, dataset.source, dataset.images[i].file_name, lost)
            media.write_image(folder / path, values)
            rows += [(path, int(v), dataset.classes[kept[v - 1].label]) for v in np.unique(values) if v]
        _write_classes(folder, dataset, rows)
        if copy:
            copy_images(dataset, folder / "images", names)
    return (*sentences(lost), *lost_fields(dataset))


def save_objects(place: Path, dataset: Dataset, copy: bool = True) -> tuple[str, ...]:
    """Write ID/images/ID.png, ID/masks/0001.png ... (0 and 255) and classes.txt; ID is the image's name.

    With several classes objects.csv has the class of each object. An image without objects has an empty masks folder.
    """
    if not copy:
        raise ConfigError("The layout 'dsb2018' has a folder for each image: its images must be copied too.")
    check_names(dataset, place)
    dataset.require_files()
    files = [Path(name) for name in inner_names(dataset)]
    ids = ["_".join(file.with_suffix("").parts) for file in files]
    require_distinct(dataset, ids, "the folder")
    lost: Lost = {}
    rows: _Rows = []
    with new_folder(place) as folder:
        for i, name in enumerate(ids):
            (folder / name / MASKS).mkdir(parents=True)
            kept, masks = _drawn(dataset, i, lost)
            for k, (a, mask) in enumerate(zip(kept, masks, strict=True), start=1):
                path = f"{name}/{MASKS}/{k:04d}.png"
                media.write_image(folder / path, mask.dense()[0].astype(np.uint8) * 255)
                rows.append((path, None, dataset.classes[a.label]))
        _write_classes(folder, dataset, rows)
        copy_images(dataset, folder, [f"{n}/images/{n}{f.suffix}" for n, f in zip(ids, files, strict=True)])
    return (*sentences(lost), *lost_fields(dataset))


def _drawn(dataset: Dataset, i: int, lost: Lost) -> tuple[list[Annotation], Masks]:
    """The objects of image `i` that have pixels, and their masks; others are counted."""
    rows = [a for a in dataset.of(i) if a.segmentation is not None and not a.crowd]
    masks = dataset.draw(i, rows)
    kept = [k for k, crop in enumerate(masks.bitmaps) if crop.any()]
    lost.setdefault(GONE, []).extend([dataset.images[i].file_name] * (len(rows) - len(kept)))
    return [rows[k] for k in kept], masks[kept] if kept else Masks.empty(masks.size)


def _label_image(masks: Masks, source: Path, name: str, lost: Lost) -> NDArray[np.uint16]:
    """(H, W), object k as k + 1, smaller ones over larger ones."""
    if len(masks) > _MOST:
        raise DataError(f"{source}: {name}: a label image holds at most {_MOST} objects, this one has {len(masks)}.")
    areas = masks.areas()
    out = painted(masks, np.argsort(-areas, kind="stable").tolist(), range(1, len(masks) + 1), np.uint16)
    seen = np.bincount(out.ravel(), minlength=len(masks) + 1)[1:]
    add_covered(lost, name, seen, areas)
    return out


def _write_classes(folder: Path, dataset: Dataset, rows: _Rows) -> None:
    write_text(folder / CLASSES, "".join(name + "\n" for name in dataset.classes.names))
    if len(dataset.classes) > 1:
        write_text(folder / OBJECTS, objects_text(rows))
