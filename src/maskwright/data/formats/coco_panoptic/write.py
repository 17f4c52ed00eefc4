"""Writing COCO panoptic, as `read` describes it.

Letters: H W image. A pixel has one segment: where objects overlap, `painting_order` says which lies on top.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from maskwright import media
from maskwright.atomic import new_folder
from maskwright.data.dataset import Dataset
from maskwright.data.formats.coco.layout import PANOPTIC
from maskwright.data.formats.coco.rows import category_rows, image_row
from maskwright.data.formats.coco_panoptic.read import FILE
from maskwright.data.formats.coco_panoptic.segments import MAPS
from maskwright.data.formats.shared.fields import Row, write_sections
from maskwright.data.formats.shared.image_files import copy_images, inner_names, require_distinct
from maskwright.data.formats.shared.losses import Lost, add_covered, lost_fields, sentence, sentences
from maskwright.data.formats.shared.outlines import painting_order
from maskwright.errors import DataError
from maskwright.ops.masks import painted
from maskwright.types import Classes, Panoptic, Segment


def save(place: Path, dataset: Dataset, copy: bool = True) -> tuple[str, ...]:
    """Write panoptic.json, a PNG for each image in panoptic/, and, with `copy`, images/.

    Stuff is that of the panoptic maps, and the objects lie on it; the segments of an image are numbered 1, 2, ... Of a
    data set without such maps the objects alone are written, and the other pixels are void.
    """
    names = inner_names(dataset)
    maps = [PurePosixPath(name).with_suffix(".png").as_posix() for name in names]
    require_distinct(dataset, maps, "the panoptic map")
    if copy:
        dataset.require_files()
    classes, things = _classes(dataset)
    lost: Lost = {}
    bare: list[str] = []

    def rows(folder: Path) -> Iterator[Row]:
        for i, (record, name) in enumerate(zip(dataset.images, maps, strict=True)):
            found = dataset.panoptic(i)
            bare.extend([record.file_name] if found is None else [])
            drawn, extra = _drawn(dataset, i, found, Panoptic(np.zeros((0, 0), np.int32), (), classes, things), lost)
            media.write_image(folder / name, drawn.to_rgb())
            info = [{**extra[row["id"]], **row} for row in drawn.to_coco()]
            yield {"image_id": record.id, "file_name": name, PANOPTIC: info}

    with new_folder(place) as folder:
        (folder / MAPS).mkdir()
        sections: dict[str, Any] = dict(dataset.extra)
        sections["images"] = (image_row(r, name) for r, name in zip(dataset.images, names, strict=True))
        sections["annotations"] = rows(folder / MAPS)
        stuff = zip(classes.ids, classes, things, strict=True)
        kinds = [{**row, "isthing": 1} for row in category_rows(dataset)]
        kinds += [{"id": number, "name": name, "isthing": 0} for number, name, thing in stuff if not thing]
        write_sections(folder / FILE, {**sections, "categories": kinds})
        if copy:
            copy_images(dataset, folder / "images", names)
    without = "image{s} without stuff, as there is no map of it; pixels outside of the objects are void"
    return (*sentence(len(bare), without, bare), *sentences(lost), *lost_fields(dataset, crowds="", frames=False))


def _classes(dataset: Dataset) -> tuple[Classes, tuple[bool, ...]]:
    """The classes of the segments, things first, and by label whether it is a thing."""
    things, stuff = dataset.classes, None if dataset.panoptic_maps is None else dataset.semantic_classes
    names, ids = ((), ()) if stuff is None else (stuff.names[1:], stuff.ids[1:])
    if taken := set(ids) & set(things.ids):
        raise DataError(f"{dataset.source}: the id {min(taken)} is that of a thing and of stuff. Give them other ids.")
    return Classes([*things.names, *names], [*things.ids, *ids]), (True,) * len(things) + (False,) * len(names)


def _drawn(
    dataset: Dataset, i: int, found: Panoptic | None, kinds: Panoptic, lost: Lost
) -> tuple[Panoptic, list[Mapping[str, Any]]]:
    """The map to write, and by the id of a segment its other fields. kinds: has the classes."""
    rows = [a for a in dataset.of(i) if a.segmentation is not None]
    masks = dataset.draw(i, rows)
    areas = masks.areas()
    order = painting_order(rows, areas.tolist())
    ids = painted(masks, order, range(1, len(rows) + 1), np.int32)
    segments = [Segment(k, a.label, crowd=a.crowd) for k, a in enumerate(rows, 1)]
    if found is not None:
        for s in (s for s in found.segments if not found.things[s.label]):
            label = kinds.classes.ids.index(found.classes.ids[s.label])
            segments.append(Segment(len(segments) + 1, label, crowd=s.crowd))
            ids[(found.ids == s.id) & (ids == 0)] = len(segments)
    seen = np.bincount(ids.reshape(-1), minlength=len(segments) + 1)
    add_covered(lost, dataset.images[i].file_name, seen[1 : len(rows) + 1], areas)
    kept = tuple(s for s in segments if seen[s.id])
    extra: list[Mapping[str, Any]] = [{}, *(a.extra for a in rows), *({} for _ in segments[len(rows) :])]
    return replace(kinds, ids=ids, segments=kept), extra
