"""COCO panoptic, read with every fault named: things become objects with masks, all segments the maps of the images.

    panoptic.json, panoptic/*.png, images/                                                  our own
    annotations/panoptic_val2017.json, annotations/panoptic_val2017/*.png, val2017/         COCO's own site
    annotations/panoptic_val.json, panoptic_val/*.png, images/ or val/                      detectron2
    train/panoptic.json and the folders beside it; valid/ and test/ likewise

Several files are the parts of one data set.
Letters: H W image, S segments of an image.
"""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from maskwright.data.dataset import Annotation, Dataset, ImageRecord
from maskwright.data.formats.coco.layout import PANOPTIC, FileNames, bare_parts, joined, named, parts_of
from maskwright.data.formats.coco.rows import Categories, read_images, read_sections, unread
from maskwright.data.formats.coco_panoptic.maps import MapFile, PanopticMaps, read_ids
from maskwright.data.formats.coco_panoptic.segments import folder_of_maps, infos_of, require_equal
from maskwright.data.formats.shared.fields import Faults, Record, Row, box_tuple, json_keys, noted, short, whole
from maskwright.data.formats.shared.image_files import require_folder, with_slashes
from maskwright.data.formats.shared.losses import sentence
from maskwright.data.formats.shared.outlines import label_masks
from maskwright.data.formats.shared.saving import folder_of_first
from maskwright.errors import DataError
from maskwright.ops import masks as mask_ops
from maskwright.types import THINGS, Classes, Masks, ranked

FILE = "panoptic.json"
"""The annotation file in what is written."""

_KEYS = frozenset(("images", "annotations", PANOPTIC))
_SEGMENT = frozenset(("id", "category_id", "area", "bbox", "iscrowd"))
_MOST_THREADS = 8


def is_panoptic(path: Path) -> bool:
    """Whether a JSON file has the keys of panoptic annotations; found without parsing it."""
    return path.suffix.lower() == ".json" and json_keys(path, _KEYS) == _KEYS


_NAMES = FileNames((FILE,), ("panoptic_", ""), is_panoptic)


def recognise(place: Path) -> bool:
    """A JSON file with panoptic annotations, or a folder with such files and none of objects."""
    if place.is_dir() and parts_of(place):
        return False
    parts = parts_of(place, _NAMES)
    return bool(parts) and all(is_panoptic(part.file) for part in parts)


def load(place: Path, images: Path | None = None, faults: Faults = None) -> Dataset:
    """Read the file, or the files of a folder; several files are the parts of one data set.

    Segments of categories with isthing 1 are objects, numbered 1, 2, ... in the file's order. `Dataset.panoptic_maps`
    has all segments, and `semantic_maps` the classes of the pixels: all things are its first class, stuff the others,
    void is -1. The maps are read once for the masks of the things, and again whenever they are asked for.
    Raises DataError, naming the file and the record, where a map is missing, damaged or of another size than its image,
    and where map and segments do not have the same ids. faults: gets those of images, which are then left out.
    """
    parts = parts_of(place, _NAMES) or parts_of(place / FILE, _NAMES)
    loaded, numbers = [], count(1)
    for part in parts:
        folders = part.folders if images is None else (images, images / part.file.stem, images / part.name)
        if images is not None and len(parts) == 1:
            require_folder(images, part.file)
            folders = (images,)
        loaded.append((part, _load(part.file, folders, numbers, faults)))
    data = loaded[0][1]
    if len(parts) > 1:
        data = _joined(joined(place, loaded), [one for _, one in loaded])
    elif parts[0].name:
        data = named(parts[0], data)
    return replace(data, notes=(*data.notes, *bare_parts(place, _NAMES)))


def _joined(whole: Dataset, parts: Sequence[Dataset]) -> Dataset:
    """The joined data set with the maps of its parts, whose images may have got other ids."""
    maps = [part.panoptic_maps for part in parts if isinstance(part.panoptic_maps, PanopticMaps)]
    for part, own in zip(parts, maps, strict=True):
        if own.classes != maps[0].classes:
            raise DataError(f"{part.source}: its stuff differs from that of {parts[0].source}. Make them equal.")
    before = (own.files[record.id] for part, own in zip(parts, maps, strict=True) for record in part.images)
    files = {record.id: file for record, file in zip(whole.images, before, strict=True)}
    return _with_maps(whole, replace(maps[0], files=files))


def _with_maps(data: Dataset, maps: PanopticMaps) -> Dataset:
    """The data set with these maps, and with semantic ones where there is stuff."""
    first = len(data.classes)
    names, ids = list(maps.classes.names[first:]), list(maps.classes.ids[first:])
    if not names:
        return replace(data, panoptic_maps=maps)
    classes = Classes([THINGS, *names], [0 if 0 not in ids else 1 + max(ids), *ids])
    return replace(data, panoptic_maps=maps, semantic_maps=maps.semantic, semantic_classes=classes)


# ---- one file -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Kinds:
    """The classes, things first. label_of: by category id."""

    classes: Classes
    things: tuple[bool, ...]
    extra: tuple[Row, ...]
    notes: Sequence[str]

    @property
    def label_of(self) -> dict[int, int]:
        return {number: label for label, number in enumerate(self.classes.ids)}


def _load(source: Path, folders: Sequence[Path], numbers: Iterator[int], faults: Faults) -> Dataset:
    rows, extra = read_sections(source, "images", "COCO panoptic")
    if rows["annotations"] and not any(PANOPTIC in row for row in rows["annotations"] if isinstance(row, dict)):
        raise DataError(f"{source}: no annotation has '{PANOPTIC}': these are objects. Read it as the format 'coco'.")
    image = rows["images"][0] if rows["images"] else None
    name = image.get("file_name") if isinstance(image, dict) else None
    root = folder_of_first(folders, name if isinstance(name, str) else "")
    kinds = _kinds(source, rows["categories"])
    stated = list(rows["images"])
    images, notes = read_images(source, rows["images"], root, faults)
    lost = unread((r.id for r in images), stated)
    found = _Segments(source, folder_of_maps(source, rows["annotations"]), kinds, numbers)
    by_image = found.read(images, rows["annotations"], lost, faults)
    images = tuple(record for record in images if record.id in by_image)
    first = sum(kinds.things)
    classes = Classes(kinds.classes[:first], kinds.classes.ids[:first], kinds.classes.landmarks[:first])
    notes = (*kinds.notes, *notes, *sentence(len(found.odd), "segment{s} whose stated area is not that of the map; the "
             "map counts", found.odd))  # fmt: skip
    data = Dataset(classes, images, by_image, root, source, notes, kinds.extra[:first], extra)
    return with_slashes(_with_maps(data, PanopticMaps(found.files, kinds.classes, kinds.things)))


def _kinds(source: Path, rows: list[Any]) -> _Kinds:
    found = Categories(source, rows)
    extra = [dict(own) for own in found.extra] or [{} for _ in found.classes]
    things = []
    for number, name, own in zip(found.classes.ids, found.classes, extra, strict=True):
        value = own.pop("isthing", None)
        if value not in (0, 1):
            is_so = "has no 'isthing'" if value is None else f"has 'isthing' {short(value)}"
            raise Record(source, f"category id {number} '{name}'").fault(
                f"{is_so}. Write 1 where its objects are counted (things), 0 where they are not (stuff, such as sky)."
            )
        things.append(bool(value))
    if not any(things):
        raise DataError(f"{source}: all categories have isthing 0; there are no objects to find. Set it to 1 for some.")
    order = sorted(range(len(things)), key=lambda k: not things[k])
    names, ids, marks = found.classes.names, found.classes.ids, found.classes.landmarks
    classes = Classes([names[k] for k in order], [ids[k] for k in order], [marks[k] for k in order])
    kept = tuple(extra[k] for k in order) if any(extra[k] for k in order if things[k]) else ()
    return _Kinds(classes, tuple(things[k] for k in order), kept, found.notes)


class _Segments:
    """Reads the annotations of a file: objects by image, `files` for the maps, and in `odd` those of another area."""

    def __init__(self, source: Path, folder: Path, kinds: _Kinds, numbers: Iterator[int]) -> None:
        self.source, self.folder, self.kinds, self.label_of = source, folder, kinds, kinds.label_of
        self.numbers, self.files = numbers, dict[int, MapFile]()
        self.odd: list[str] = []

    def read(
        self, images: Sequence[ImageRecord], rows: list[Any], lost: set[int | None], faults: Faults
    ) -> dict[int, tuple[Annotation, ...]]:
        """The objects of the images that have a sound map. lost: the ids of images with a fault of their own."""
        records = {record.id: record for record in images}
        own: dict[int, tuple[Record, Row]] = {}
        for position, row in enumerate(rows):
            with noted(faults):
                at = Record(self.source, f"annotation {position} of the list")
                image = at.whole(at.table(row), "image_id")
                if image in own:
                    raise at.fault(
                        f"image_id {image} has an annotation already. Each image has one, with all segments."
                    )
                if image not in records and image not in lost:
                    raise at.fault(
                        f"image_id {image} is not in the list 'images'. Add the image or remove the annotation."
                    )
                own[image] = Record(self.source, f"annotation of image id {image}"), row
        pool = ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1))
        tasks = [(record, pool.submit(self._image, record, *own[record.id])) for record in images if record.id in own]
        found: dict[int, tuple[Annotation, ...]] = {}
        try:
            for record, task in tasks:
                with noted(faults):
                    self.files[record.id], objects, odd = task.result()
                    self.odd += odd
                    found[record.id] = tuple(replace(a, id=next(self.numbers)) for a in objects)
        finally:
            pool.shutdown(cancel_futures=True)
        for record in images:
            with noted(faults):
                if record.id not in own:
                    raise Record(self.source, f"image id {record.id}").fault(
                        f"{record.file_name} has no annotation. Add one, with its segments, or remove the image."
                    )
        return found

    def _image(self, record: ImageRecord, at: Record, row: Row) -> tuple[MapFile, list[Annotation], list[str]]:
        """The map, the objects and the odd segments of one image."""
        name = row.get("file_name")
        if not isinstance(name, str) or not name:
            raise at.fault(f"'file_name' must be the name of the panoptic map, got {short(name)}.")
        infos = infos_of(at, row, self.label_of, self.kinds.classes)
        path = self.folder / name
        found, ranks, areas = ranked(read_ids(path, record.size, record.file_name))
        inside = {int(k): int(area) for k, area in zip(found, areas, strict=True) if k}
        require_equal(at, path, inside, infos)
        stated = {number: info["area"] for number, (_, _, info) in infos.items() if info.get("area") is not None}
        odd = [f"{name}: {number}" for number, area in stated.items() if whole(area) != inside[number]]
        things = {number: label for number, (label, _, _) in infos.items() if self.kinds.things[label]}
        places, masks = label_masks(np.where(np.isin(found, list(things)), np.arange(1, len(found) + 1), 0)[ranks])
        numbers = [int(found[place - 1]) for place in places]
        objects = self._objects(record, numbers, masks, infos, path)
        table = np.array([(k, label, crowd) for k, (label, crowd, _) in infos.items()], np.int64).reshape(-1, 3)
        return MapFile(path, table), objects, odd

    def _objects(
        self,
        record: ImageRecord,
        numbers: Sequence[int],
        masks: Masks,
        infos: dict[int, tuple[int, bool, Row]],
        path: Path,
    ) -> list[Annotation]:
        """The things of an image in the order of the table."""
        place = {number: k for k, number in enumerate(numbers)}
        boxes, lengths, areas = masks.boxes(), mask_ops.encode(masks), masks.areas()
        out = []
        for number, (label, crowd, info) in infos.items():
            if number not in place:
                continue
            k = place[number]
            extra = {key: value for key, value in info.items() if key not in _SEGMENT}
            out.append(
                Annotation(
                    0,
                    record.id,
                    label,
                    box_tuple(boxes[k]),
                    lengths[k],
                    float(areas[k]),
                    crowd,
                    extra=extra,
                    place=f"{path}: segment {number}",
                )
            )
        return out
