"""Writing Pascal VOC's layout, which `read` describes.

Letters: H W image. An index mask holds one object a pixel: where objects overlap, `painting_order` says which lies on
top.
"""

import math
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maskwright.atomic import new_folder
from maskwright.data.dataset import Annotation, Dataset, usual_part
from maskwright.data.formats.shared.image_files import copy_images, inner_names, require_distinct
from maskwright.data.formats.shared.losses import Lost, add_covered, check_names, lost_fields, sentences
from maskwright.data.formats.shared.outlines import painting_order
from maskwright.data.formats.shared.saving import write_text
from maskwright.data.formats.shared.xml_tree import node
from maskwright.data.formats.voc.boxes import DATABASE, REMARKS
from maskwright.data.formats.voc.read import MASKS, VOID, VOID_NAMES, colours
from maskwright.errors import DataError
from maskwright.ops.masks import painted
from maskwright.types import Size

_MOST = VOID - 1  # objects of an image, and classes


def save(place: Path, dataset: Dataset, copy: bool = True) -> tuple[str, ...]:
    """Write the layout into a new folder, with class_names.txt and labelmap.txt, and the images with `copy`.

    Where no object has an outline, there are no masks, and the boxes are the data set. Raises DataError for more than
    254 classes or 254 objects in one image: the index masks have 8 bits.
    """
    names = _check(place, dataset, copy)
    stems = [PurePosixPath(name).with_suffix("").as_posix() for name in names]
    lost: Lost = {}
    rows = [a for own in dataset.annotations.values() for a in own]
    masked = dataset.has_masks or any(a.segmentation is not None and not a.crowd for a in rows)
    with new_folder(place) as folder:
        if copy:
            copy_images(dataset, folder / "JPEGImages", names)
        for i, stem in enumerate(stems):
            for kind, index in zip(MASKS, _draw(dataset, i, lost) if masked else (), strict=False):
                _write_png(folder / kind / f"{stem}.png", index)
            write_text(folder / "Annotations" / f"{stem}.xml", _xml(dataset, i, names[i], masked=masked))
        for split, members in _lists(dataset, stems).items():
            for kind in ("Main", "Segmentation")[: 1 + masked]:
                write_text(folder / "ImageSets" / kind / f"{split}.txt", "".join(f"{m}\n" for m in members))
        (folder / (MASKS[0] if masked else "Annotations")).mkdir(exist_ok=True)
        write_text(folder / "class_names.txt", "\n".join(("_background_", *dataset.classes.names)) + "\n")
        write_text(
            folder / "labelmap.txt", _labelmap(dataset.classes.names, void=masked and any(a.crowd for a in rows))
        )
    crowds, boxes = "turned into void, which names no class", "written to Annotations alone, and not read back"
    return (*sentences(lost), *(lost_fields(dataset, crowds, boxes) if masked else lost_fields(dataset, boxes="")))


def _lists(dataset: Dataset, stems: Sequence[str]) -> dict[str, list[str]]:
    """The names by part, "Validation" being val in any letter case; trainval has those of train, of val and of none."""
    out: dict[str, list[str]] = {"trainval": []}
    for stem, record in zip(stems, dataset.images, strict=True):
        stated = str(record.extra.get("split", "trainval"))
        split = usual_part(stated) or ("trainval" if stated.lower() == "trainval" else stated)
        out.setdefault(split, []).append(stem)
        if split in ("train", "val"):
            out["trainval"].append(stem)
    return out


def _check(place: Path, dataset: Dataset, copy: bool) -> list[str]:
    """The images' new names. Raises DataError for whatever the layout cannot hold."""
    check_names(dataset, place, forbidden=":")
    if copy:
        dataset.require_files()
    if len(dataset.classes) > _MOST:
        raise DataError(f"{place}: VOC's masks hold {_MOST} classes, {dataset.source} has {len(dataset.classes)}.")
    for i, record in enumerate(dataset.images):
        count = sum(not a.crowd and a.segmentation is not None for a in dataset.of(i))
        if count > _MOST:
            raise DataError(
                f"{place}: {record.file_name} has {count} objects, and VOC's 8-bit masks hold {_MOST} in an image. "
                f"Write another format, such as coco."
            )
        split = record.extra.get("split")
        if split is not None and (not isinstance(split, str) or Path(split).name != split or not split):
            raise DataError(f"{place}: {record.file_name} is in the part {split!r}, which cannot name a file.")
    names = inner_names(dataset)
    require_distinct(dataset, [PurePosixPath(name).with_suffix(".png").as_posix() for name in names], "the mask")
    return names


def _draw(dataset: Dataset, i: int, lost: Lost) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The two index masks (H, W) of an image."""
    record, rows = dataset.images[i], [a for a in dataset.of(i) if a.segmentation is not None]
    masks = dataset.draw(i, rows)
    areas = masks.areas()
    index = {k: n + 1 for n, k in enumerate(k for k in range(len(rows)) if not rows[k].crowd)}
    order = list(painting_order(rows, areas.tolist()))
    objects = painted(masks, order, [index.get(k, VOID) for k in range(len(rows))], np.uint8)
    classes = painted(masks, order, [VOID if row.crowd else row.label + 1 for row in rows], np.uint8)
    seen = np.bincount(objects.reshape(-1), minlength=256)
    add_covered(lost, record.file_name, seen[list(index.values())], areas[list(index)])
    return objects, classes


def _write_png(path: Path, index: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(index)
    image.putpalette(colours().tobytes())
    image.save(path, "PNG")


def _labelmap(names: Sequence[str], *, void: bool) -> str:
    """Each class with its colour; void too where the masks have it: readers refuse colours that are not declared."""
    shades = colours()
    pairs = list(enumerate(("background", *names)))
    pairs += [(VOID, next(name for name in VOID_NAMES if name not in names))] if void else []
    rows = (f"{name}:{','.join(map(str, shades[k].tolist()))}::" for k, name in pairs)
    return "# label:color_rgb:parts:actions\n" + "".join(f"{row}\n" for row in rows)


def _xml(dataset: Dataset, i: int, name: str, *, masked: bool) -> str:
    height, width = dataset.images[i].size
    objects = "".join(
        _xml_object(dataset.classes.names[a.label], a, (height, width)) for a in dataset.of(i) if not a.crowd
    )
    size = f"  <size>{node('width', width)}{node('height', height)}{node('depth', 3)}</size>\n"
    head = f"  {node('filename', name)}\n  <source>{node('database', DATABASE)}</source>\n"
    return f"<annotation>\n{head}{size}  {node('segmented', int(masked))}\n{objects}</annotation>\n"


def _xml_object(name: str, row: Annotation, size: Size) -> str:
    """One object; pixels count from 1, the last one included, so a box is rounded outward."""
    x0, y0 = (max(0, math.floor(v)) + 1 for v in row.box[:2])
    x1, y1 = min(size[1], math.ceil(row.box[2])), min(size[0], math.ceil(row.box[3]))
    box = "".join(node(k, v) for k, v in (("xmin", x0), ("ymin", y0), ("xmax", x1), ("ymax", y1)))
    remarks = {
        "pose": "Unspecified",
        "truncated": 0,
        "difficult": 0,
        **{k: row.extra[k] for k in REMARKS if k in row.extra},
    }
    return (
        f"  <object>\n    {node('name', name)}\n    {''.join(node(k, v) for k, v in remarks.items())}\n"
        f"    <bndbox>{box}</bndbox>\n  </object>\n"
    )
