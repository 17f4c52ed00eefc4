"""COCO JSON: annotated data sets and result lists, read with every fault named, written whole or not at all.

Letters: H W picture. In the files boxes are x, y, width, height; in memory xyxy.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from maskwright.data.dataset import RLE, Annotation, Dataset, ImageRecord, Polygons, draw_segmentations
from maskwright.data.fields import Box, Record, Row, box_to_xywh, box_tuple, read_json, short, write_sections
from maskwright.errors import DataError
from maskwright.ops import masks as mask_ops
from maskwright.types import Classes, Instances, Masks

_BEYOND = 1.0  # pixels a box may reach beyond its picture before it is worth a note: annotation tools round


@dataclass(frozen=True, slots=True)
class ResultRow:
    """One row of a result file. label: 0..Q-1. box_xywh: as the file has it, or None. rle: compressed, or None."""

    label: int
    score: float
    box_xywh: Box | None
    rle: RLE | None


def load(json_path: str | os.PathLike[str], images_dir: str | os.PathLike[str] | None = None) -> Dataset:
    """Read an annotated data set. Labels follow the category ids in rising order.

    json_path: COCO JSON with images, annotations and categories. images_dir: the folder its file names are relative
    to; without it boxes and masks can be had, pictures cannot.
    Missing iscrowd is 0, missing bbox is the extent of the outline, missing area is the pixels of the mask; what is
    only odd (a box beyond its picture, an object of no area) is kept and counted in `Dataset.notes`.
    Raises DataError, naming the file, the record and what to do, for anything that cannot be meant.
    """
    source = Path(json_path)
    root = None if images_dir is None else Path(images_dir)
    if root is not None and not root.is_dir():
        raise DataError(f"{root}: the picture folder of {source} does not exist or is not a folder.")
    content = read_json(source)
    if not isinstance(content, dict):
        hint = " This looks like a result list: read it with load_results." if isinstance(content, list) else ""
        raise DataError(
            f"{source}: expected an object of images, annotations and categories, got {type(content).__name__}.{hint}"
        )
    rows = {name: _section(source, content, name) for name in ("images", "annotations", "categories")}
    content.clear()
    classes = _categories(source, rows["categories"])
    images = _images(source, rows["images"])
    reader = _AnnotationReader(source, {r.id: r for r in images}, {c: k for k, c in enumerate(classes.ids)}, classes)
    annotations = reader.read(rows["annotations"])
    notes = _name_notes(classes) + reader.notes()
    return Dataset(classes, images, annotations, root, source, notes)


def save(path: str | os.PathLike[str], dataset: Dataset) -> None:
    """Write an annotated data set as COCO JSON; `load` gives the same back."""
    ids = dataset.classes.ids
    images = (
        {**r.extra, "id": r.id, "file_name": r.file_name, "height": r.size[0], "width": r.size[1]}
        for r in dataset.images
    )
    annotations = (_annotation_row(a, ids) for i in range(len(dataset)) for a in dataset.of(i))
    categories = ({"id": i, "name": n} for i, n in zip(ids, dataset.classes.names, strict=True))
    write_sections(Path(path), {"images": images, "annotations": annotations, "categories": categories})


def save_results(path: str | os.PathLike[str], results: Iterable[tuple[int, Instances]]) -> None:
    """Write (image id, instances) pairs as a COCO result list: bbox, score, category id, and RLE where masks exist.

    Numbers are written in full, so that `load_results` gives the same float32 values back.
    """
    rows = (row for image_id, found in results for row in _result_rows(image_id, found))
    write_sections(Path(path), {"": rows})


def load_results(path: str | os.PathLike[str], dataset: Dataset) -> dict[int, Instances]:
    """Read a COCO result list for `dataset`: instances by image id, every picture present, file order kept.

    A row without bbox takes its box from its mask. Raises DataError for unknown pictures and categories, and where
    only some rows of one picture have masks. Instances hold float32; to measure the file, use `read_results`, which
    keeps its digits: an overlap may lie exactly on a threshold.
    """
    found = read_results(path, dataset)
    return {r.id: _to_instances(Path(path), r, found[r.id], dataset.classes) for r in dataset.images}


def read_results(path: str | os.PathLike[str], dataset: Dataset) -> dict[int, tuple[ResultRow, ...]]:
    """The rows of a COCO result list by image id, checked, numbers untouched; every picture present, maybe empty."""
    source = Path(path)
    rows = read_json(source)
    if not isinstance(rows, list):
        hint = " This looks like an annotation file: read it with load." if isinstance(rows, dict) else ""
        raise DataError(f"{source}: expected a JSON list of results, got {type(rows).__name__}.{hint}")
    images = {r.id: r for r in dataset.images}
    label_of = {c: k for k, c in enumerate(dataset.classes.ids)}
    by_image: dict[int, list[ResultRow]] = {i: [] for i in images}
    for position, row in enumerate(rows):
        image_id, result = _read_result(Record(source, f"result {position}"), row, images, label_of, dataset)
        by_image[image_id].append(result)
        rows[position] = None
    return {i: tuple(found) for i, found in by_image.items()}


# ---- reading an annotated data set ----------------------------------------------------------------------------------


def _section(source: Path, content: Row, name: str) -> list[Any]:
    rows = content.get(name)
    if not isinstance(rows, list):
        found = f"found {short(sorted(content))}" if rows is None else f"it is {short(rows)}"
        hint = ' A set without annotations says so with "annotations": [].' if name == "annotations" else ""
        raise DataError(f"{source}: a COCO data set needs the list '{name}'; {found}.{hint}")
    return rows


def _categories(source: Path, rows: list[Any]) -> Classes:
    names: dict[int, str] = {}
    for position, row in enumerate(rows):
        at = Record(source, f"category {position} of the list")
        row = at.table(row)
        number = at.whole(row, "id")
        name = row.get("name")
        if not isinstance(name, str) or not name.strip():
            raise at.fault(f'category id {number} has no name (got {short(name)}). Add "name".')
        if number in names:
            raise at.fault(
                f"the category id {number} is used twice, for '{names[number]}' and '{name}'. Ids must differ."
            )
        names[number] = name
    if not names:
        raise DataError(f"{source}: the list 'categories' is empty. A data set needs at least one class.")
    return Classes([names[i] for i in sorted(names)], sorted(names))


def _images(source: Path, rows: list[Any]) -> tuple[ImageRecord, ...]:
    records: dict[int, ImageRecord] = {}
    for position, row in enumerate(rows):
        at = Record(source, f"image {position} of the list")
        row = at.table(row)
        number, name = at.whole(row, "id"), row.get("file_name")
        at = Record(source, f"image id {number}")
        if number in records:
            raise at.fault(f"the id is used twice, for {records[number].file_name} and {short(name)}. Ids must differ.")
        if not isinstance(name, str) or not name:
            raise at.fault(f"'file_name' must be the name of the picture file, got {short(name)}.")
        size = at.whole(row, "height"), at.whole(row, "width")
        if min(size) < 1:
            raise at.fault(f"height and width must be at least 1, got {size[0]} and {size[1]} ({name}).")
        extra = {k: v for k, v in row.items() if k not in ("id", "file_name", "height", "width")}
        records[number] = ImageRecord(number, name, size, extra)
    return tuple(records.values())


class _AnnotationReader:
    """Turns annotation rows into `Annotation`s by picture, and remembers what was odd."""

    def __init__(self, source: Path, images: Mapping[int, ImageRecord], label_of: Mapping[int, int], classes: Classes):
        self.source, self.images, self.label_of, self.classes = source, images, label_of, classes
        self.odd: dict[str, list[int]] = {}

    def read(self, rows: list[Any]) -> dict[int, tuple[Annotation, ...]]:
        """Annotations by image id. Empties `rows` on the way: the parsed JSON is ten times larger than the result."""
        by_image: dict[int, list[Annotation]] = {}
        seen: set[int] = set()
        for position, row in enumerate(rows):
            at = Record(self.source, f"annotation {position} of the list")
            row = at.table(row)
            number = at.whole(row, "id")
            if number in seen:
                raise at.fault(f"the annotation id {number} is used twice. Ids must differ.")
            seen.add(number)
            annotation = self._annotation(Record(self.source, f"annotation id {number}"), number, row)
            by_image.setdefault(annotation.image_id, []).append(annotation)
            rows[position] = None
        return {i: tuple(by_image.get(i, ())) for i in self.images}

    def _annotation(self, at: Record, number: int, row: Row) -> Annotation:
        image = self.images.get(at.whole(row, "image_id"))
        if image is None:
            raise at.fault(
                f"image_id {row['image_id']} is not in the list 'images'. Add the image or remove the annotation."
            )
        label = self.label_of.get(at.whole(row, "category_id"))
        if label is None:
            raise at.fault(
                f"category_id {row['category_id']} is not in the list 'categories' ({_known(self.classes)})."
            )
        outline = at.segmentation(row.get("segmentation"), image.size)
        box = self._box(at, row, outline, image)
        area = self._area(at, row, outline, image, box)
        crowd = row.get("iscrowd", 0)
        if crowd not in (0, 1):
            raise at.fault(f"'iscrowd' must be 0 or 1, got {short(crowd)}.")
        if area == 0 or box[2] == box[0] or box[3] == box[1]:
            self.odd.setdefault("have no area", []).append(number)
        return Annotation(number, image.id, label, box, outline, area, bool(crowd))

    def _box(self, at: Record, row: Row, outline: Polygons | RLE | None, image: ImageRecord) -> Box:
        if row.get("bbox") is not None:
            box = at.box(row["bbox"])
        elif isinstance(outline, dict):
            box = box_tuple(_drawn(at, outline, image).boxes()[0])
        elif outline is not None:
            points = np.concatenate(outline).reshape(-1, 2)
            box = box_tuple(np.concatenate([points.min(axis=0), points.max(axis=0)]))
        else:
            raise at.fault("has neither 'bbox' nor 'segmentation'. One of them is needed to know where the object is.")
        height, width = image.size
        if box[0] > width or box[1] > height or box[2] < 0 or box[3] < 0:
            raise at.fault(
                f"the box {short(list(box))} (x1, y1, x2, y2) lies outside its picture {image.file_name} of "
                f"{height}x{width} (height x width). Are height and width exchanged, or the coordinates relative?"
            )
        if box[0] < -_BEYOND or box[1] < -_BEYOND or box[2] > width + _BEYOND or box[3] > height + _BEYOND:
            self.odd.setdefault("reach beyond their picture", []).append(int(row["id"]))
        return box

    def _area(self, at: Record, row: Row, outline: Polygons | RLE | None, image: ImageRecord, box: Box) -> float:
        if row.get("area") is not None:
            area = at.number(row, "area")
            if area < 0:
                raise at.fault(f"'area' must not be negative, got {area}.")
            return area
        if outline is None:
            return (box[2] - box[0]) * (box[3] - box[1])
        return float(_drawn(at, outline, image).areas()[0])

    def notes(self) -> tuple[str, ...]:
        return tuple(
            f"Annotations that {what}: {len(ids)} (ids {', '.join(map(str, ids[:5]))}"
            f"{', ...' if len(ids) > 5 else ''}); kept as they are."
            for what, ids in self.odd.items()
        )


def _drawn(at: Record, outline: Polygons | RLE, image: ImageRecord) -> Masks:
    try:
        return draw_segmentations([outline], image.size)
    except DataError as error:
        raise at.fault(str(error)) from error


def _known(classes: Classes) -> str:
    pairs = [f"{i} {n}" for i, n in zip(classes.ids, classes.names, strict=True)]
    return "known: " + ", ".join(pairs[:10]) + (", ..." if len(pairs) > 10 else "")


def _name_notes(classes: Classes) -> tuple[str, ...]:
    twice = sorted({n for n in classes.names if classes.names.count(n) > 1})
    return tuple(f"Several categories are called '{n}'; they are kept apart by their ids." for n in twice)


# ---- results --------------------------------------------------------------------------------------------------------


def _read_result(
    at: Record, row: Any, images: Mapping[int, ImageRecord], label_of: Mapping[int, int], dataset: Dataset
) -> tuple[int, ResultRow]:
    row = at.table(row)
    image = images.get(at.whole(row, "image_id"))
    if image is None:
        raise at.fault(
            f"image_id {row['image_id']} is not a picture of {dataset.source}. Do the two files belong together?"
        )
    label = label_of.get(at.whole(row, "category_id"))
    if label is None:
        raise at.fault(
            f"category_id {row['category_id']} is not a class of {dataset.source} ({_known(dataset.classes)})."
        )
    box = at.box_xywh(row["bbox"]) if row.get("bbox") is not None else None
    outline = at.segmentation(row.get("segmentation"), image.size)
    if outline is not None and not (isinstance(outline, dict) and isinstance(outline["counts"], str)):
        outline = mask_ops.encode(_drawn(at, outline, image))[0]
    if box is None and outline is None:
        raise at.fault("has neither 'bbox' nor 'segmentation'. A result needs at least one of them.")
    score = at.number(row, "score")
    if not 0 <= score <= 1:
        raise at.fault(
            f"'score' must lie in 0..1, got {score}. Divide percentages by 100; apply the sigmoid to logits."
        )
    return image.id, ResultRow(label, score, box, outline)


def _to_instances(source: Path, image: ImageRecord, rows: Sequence[ResultRow], classes: Classes) -> Instances:
    lengths = [r.rle for r in rows if r.rle is not None]
    if len(lengths) not in (0, len(rows)):
        raise DataError(
            f"{source}: {len(lengths)} of {len(rows)} results of {image.file_name} (image id {image.id}) have masks. "
            f"Give all of them one, or none."
        )
    try:
        masks = mask_ops.decode(lengths) if lengths else None
    except DataError as error:
        raise DataError(f"{source}: {image.file_name} (image id {image.id}): {error}") from error
    boxes = np.zeros((len(rows), 4)) if masks is None else masks.boxes().astype(np.float64)
    for box, row in zip(boxes, rows, strict=True):
        if row.box_xywh is not None:
            x, y, width, height = row.box_xywh
            box[:] = x, y, x + width, y + height
    return Instances(
        boxes=boxes.astype(np.float32),
        scores=np.array([r.score for r in rows], np.float32),
        labels=np.array([r.label for r in rows], np.int64),
        classes=classes,
        size=image.size,
        crops=masks,
    )


def _result_rows(image_id: int, found: Instances) -> list[Row]:
    lengths = [None] * len(found) if found.crops is None else mask_ops.encode(found.crops)
    rows = []
    for box, score, label, rle in zip(
        found.boxes.astype(np.float64).tolist(), found.scores.tolist(), found.labels.tolist(), lengths, strict=True
    ):
        row: Row = {"image_id": int(image_id), "category_id": found.classes.ids[label], "bbox": box_to_xywh(box)}
        rows.append(row | {"score": score} | ({} if rle is None else {"segmentation": rle}))
    return rows


# ---- writing an annotation ------------------------------------------------------------------------------------------


def _annotation_row(a: Annotation, category_ids: Sequence[int]) -> Row:
    outline = a.segmentation if isinstance(a.segmentation, dict) else [p.tolist() for p in a.segmentation or ()]
    return {
        "id": a.id,
        "image_id": a.image_id,
        "category_id": category_ids[a.label],
        "bbox": box_to_xywh(a.box),
        "area": a.area,
        "iscrowd": int(a.crowd),
        "segmentation": outline,
    }
