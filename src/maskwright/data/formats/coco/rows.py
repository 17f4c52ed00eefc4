"""The rows of COCO JSON and of files built like it: categories, images and annotations, every fault named.

Letters: H W image, P landmarks. In the files boxes are x, y, width, height; in memory xyxy.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskwright.data.dataset import RLE, Annotation, Dataset, ImageRecord, Polygons, draw_named
from maskwright.data.formats.shared.fields import (
    Box,
    Faults,
    Record,
    Row,
    box_area,
    box_to_xywh,
    box_tuple,
    frame_fields,
    identified,
    noted,
    read_json,
    short,
    split_frame,
    whole,
)
from maskwright.data.formats.shared.foreign import named_tool
from maskwright.data.formats.shared.image_files import found_name, size_of
from maskwright.data.formats.shared.losses import sentence
from maskwright.data.formats.shared.outlines import box_corners, extent, turned
from maskwright.errors import DataError
from maskwright.types import Classes, Landmarks, Masks, Size

_BEYOND = 1.0  # pixels a box may reach beyond its image before it is worth a note: annotation tools round
_WRONG_COUNT = "state a wrong num_keypoints"
_IGNORED = 'have "ignore": 1'
_TURNED = 'are boxes with a "rotation"'
_OUTCOMES = {
    _WRONG_COUNT: "counted again",
    _IGNORED: "read as crowd regions, which are neither learnt nor counted as objects",
    _TURNED: "read as turned outlines, whose extent is the box",
}
_CATEGORY = frozenset(("id", "name", "keypoints", "skeleton"))
_IMAGE = frozenset(("id", "file_name", "height", "width"))
_ANNOTATION = frozenset(("id", "image_id", "category_id", "bbox", "area", "iscrowd", "segmentation"))
_LANDMARKS = frozenset(("keypoints", "num_keypoints"))


def read_sections(source: Path, first: str, kind: str = "COCO") -> tuple[dict[str, list[Any]], Row]:
    """The lists `first`, annotations and categories of a JSON file, and its other sections.

    Raises DataError where the file is no object, or a list is missing or no list.
    """
    content, names = read_json(source), (first, "annotations", "categories")
    tool = named_tool(content)
    if tool is not None:
        raise DataError(f"{source}: {tool}")
    if not isinstance(content, dict):
        hint = ""
        if isinstance(content, list):
            hint = " This looks like a result list, that is, predictions. Give the annotation file that it belongs to."
        wanted = f"{first}, annotations and categories"
        raise DataError(f"{source}: expected an object of {wanted}, got {type(content).__name__}.{hint}")
    for name in names:
        rows = content.get(name)
        if not isinstance(rows, list):
            found = f"found {short(sorted(content))}" if rows is None else f"it is {short(rows)}"
            hint = ' A set without annotations has the empty list "annotations": [].' if name == "annotations" else ""
            raise DataError(f"{source}: a {kind} data set needs the list '{name}'; {found}.{hint}")
    return {name: content.pop(name) for name in names}, content


def known(classes: Classes) -> str:
    """The classes with their ids, for messages."""
    pairs = [f"{i} {n}" for i, n in zip(classes.ids, classes.names, strict=True)]
    return "known: " + ", ".join(pairs[:10]) + (", ..." if len(pairs) > 10 else "")


# ---- categories -----------------------------------------------------------------------------------------------------


class Categories:
    """The category rows, in the order of their ids: classes, landmarks, extra (as in `Dataset`), and notes."""

    def __init__(self, source: Path, rows: list[Any]) -> None:
        self.notes: list[str] = []
        found: dict[int, Row] = {}
        for at, number, row in identified(source, rows, "category"):
            name = row.get("name")
            if not isinstance(name, str) or not name.strip():
                raise at.fault(f'category id {number} has no name (got {short(name)}). Add "name".')
            found[number] = row
        if not found:
            raise DataError(f"{source}: the list 'categories' is empty. A data set needs at least one class.")
        ordered = [found[number] for number in sorted(found)]
        landmarks = [self._landmarks(Record(source, f"category '{row['name']}'"), row) for row in ordered]
        self.classes = Classes([row["name"] for row in ordered], sorted(found), landmarks)
        extra = tuple({k: v for k, v in row.items() if k not in _CATEGORY} for row in ordered)
        self.extra = extra if any(extra) else ()
        twice = sorted({n for n in self.classes.names if self.classes.names.count(n) > 1})
        self.notes += [f"Several categories are called '{n}'; they are kept apart by their ids." for n in twice]

    def _landmarks(self, at: Record, row: Row) -> Landmarks | None:
        names = row.get("keypoints")
        if names is None or names == []:
            return None
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise at.fault(f"'keypoints' must be the list of the landmarks' names, got {short(names)}.")
        links = [at.pair(pair, "'skeleton'") for pair in at.listed(row.get("skeleton") or [], "'skeleton'")]
        first = 1
        if any(0 in pair for pair in links):
            first = 0
            self.notes.append(f"The skeleton of {at.name} counts from 0 (COCO: from 1) and was read so.")
        if any(not first <= end < first + len(names) for pair in links for end in pair):
            raise at.fault(
                f"'skeleton' joins landmarks 1 to {len(names)} (COCO counts from 1), got {short(row['skeleton'])}."
            )
        return Landmarks(tuple(names), tuple((a - first, b - first) for a, b in links), self._mirrored(at, row, names))

    def _mirrored(self, at: Record, row: Row, names: list[str]) -> tuple[int, ...] | None:
        """The field "swap", which some files have: for each landmark the name of its mirror image, "" where none.

        Pairs that name each other come first, then pairs that only one of two unpaired landmarks names.
        """
        swap = row.get("swap")
        if not isinstance(swap, list) or len(swap) != len(names) or not all(s == "" or s in names for s in swap):
            return None
        stated = [names.index(s) if s else k for k, s in enumerate(swap)]
        partner = [p if stated[p] == k else k for k, p in enumerate(stated)]
        for k, p in enumerate(stated):
            if partner[k] == k and partner[p] == p and stated[p] != p:
                partner[k], partner[p] = p, k
        if partner != stated:
            odd = ", ".join(names[k] for k, p in enumerate(stated) if partner[k] != p)
            self.notes.append(f"The 'swap' of {at.name} does not pair all landmarks ({odd}); the pairs in it are used.")
        return tuple(partner)


def category_rows(dataset: Dataset) -> Iterable[Row]:
    """The rows to write."""
    classes, extra = dataset.classes, dataset.class_extra
    for label, (number, name, marks) in enumerate(zip(classes.ids, classes, classes.landmarks, strict=True)):
        row: Row = {**(extra[label] if extra else {}), "id": number, "name": name}
        if marks is not None:
            row["keypoints"] = list(marks.names)
            row["skeleton"] = [[a + 1, b + 1] for a, b in marks.links]
            if marks.mirrored is not None and marks.mirrored != Landmarks(marks.names).mirrored:
                row.setdefault("swap", ["" if k == p else marks.names[p] for k, p in enumerate(marks.mirrored)])
        yield row


# ---- images ---------------------------------------------------------------------------------------------------------


def read_images(
    source: Path, rows: list[Any], root: Path | None = None, faults: Faults = None
) -> tuple[tuple[ImageRecord, ...], tuple[str, ...]]:
    """The image rows, in the file's order, and notes. root: the images' folder, for sizes that the file lacks."""
    records: list[ImageRecord] = []
    measured: list[str] = []
    frames = Counter[Any]()
    for at, number, row in identified(source, rows, "image", faults):
        with noted(faults):
            name = row.get("file_name")
            if not isinstance(name, str) or not name:
                raise at.fault(f"'file_name' must be the name of the image file, got {short(name)}.")
            if row.get("height") is None or row.get("width") is None:
                size = size_of_file(at, row, name, root)
                measured.append(name)
            else:
                size = at.size(row)
            video = whole(row.get("video_id"))
            frame, extra = split_frame({k: v for k, v in row.items() if k not in _IMAGE}, frames[video])
            frames[video] += 1
            records.append(ImageRecord(number, name, size, extra, frame))
    what = "image{s} without height and width in the file; they are those of the image files"
    return tuple(records), sentence(len(measured), what, measured)


def size_of_file(at: Record, row: Row, name: str, root: Path | None) -> Size:
    """(H, W) of the image `name`, whose record has none (Label Studio writes null)."""
    lacking = [key for key in ("height", "width") if row.get(key) is None]
    named = " and ".join(f"'{key}'" for key in lacking) + (" is" if len(lacking) == 1 else " are")
    state = "null" if set(lacking) <= set(row) else "missing"
    found = None if root is None else found_name(root, name)
    if root is None or found is None:
        where = "no folder of images is given" if root is None else f"{root / name} does not exist"
        raise DataError(
            f"{at.source}: {at.name}: {named} {state}, and the image, which would give the size, is not found "
            f"({where}). Give the images' folder, or add the numbers.",
            options=("images",),
        )
    return size_of(root / found, at.source)


def unread(ids: Iterable[int], rows: Iterable[Any]) -> set[int | None]:
    """The ids of those rows that are none of `ids`: of records with a fault. None is in it for rows without an id."""
    return {whole(row.get("id")) for row in rows if isinstance(row, dict)} - set(ids) - {None}


def image_row(record: ImageRecord, file_name: str) -> Row:
    """The row to write."""
    height, width = record.size
    own = {"id": record.id, "file_name": file_name, "height": height, "width": width}
    return {**record.extra, **frame_fields(record.frame), **own}


# ---- annotations ----------------------------------------------------------------------------------------------------


class AnnotationReader:
    """Turns annotation rows into `Annotation`s by image, and counts what is unusual.

    faults: gets those of rows, which are then left out, as are those of the images `unread`.
    """

    def __init__(
        self,
        source: Path,
        images: Iterable[ImageRecord],
        classes: Classes,
        faults: Faults = None,
        unread: Collection[int | None] = (),
    ) -> None:
        self.source, self.classes, self.faults, self.unread = source, classes, faults, unread
        self.images = {r.id: r for r in images}
        self.label_of = {c: k for k, c in enumerate(classes.ids)}
        self.unusual: dict[str, list[int]] = {}

    def read(self, rows: list[Any]) -> dict[int, tuple[Annotation, ...]]:
        """Annotations by image id."""
        by_image: dict[int, list[Annotation]] = {i: [] for i in self.images}
        for at, number, row in identified(self.source, rows, "annotation", self.faults):
            if whole(row.get("image_id")) in self.unread:
                continue
            with noted(self.faults):
                annotation = self.annotation(at, number, row)
                by_image[annotation.image_id].append(annotation)
        return {i: tuple(own) for i, own in by_image.items()}

    def annotation(self, at: Record, number: int, row: Row) -> Annotation:
        """One checked row."""
        image = self.images.get(at.whole(row, "image_id"))
        if image is None:
            raise at.fault(
                f"image_id {row['image_id']} is not in the list 'images'. Add the image or remove the annotation."
            )
        label = self.label_of.get(at.whole(row, "category_id"))
        if label is None:
            raise at.fault(f"category_id {row['category_id']} is not in the list 'categories' ({known(self.classes)}).")
        outline = at.segmentation(row.get("segmentation"), image.size)
        box = self._box(at, row, outline, image)
        if outline is None and (degrees := _rotation(row)):
            outline = (turned(box_corners(box), (box[0] + box[2]) / 2, (box[1] + box[3]) / 2, degrees).reshape(-1),)
            box = extent(outline)
            row["attributes"] = {k: v for k, v in row["attributes"].items() if k != "rotation"}
            self.unusual.setdefault(_TURNED, []).append(number)
        area = self._area(at, row, outline, image, box)
        crowd = 0 if row.get("iscrowd") is None else row["iscrowd"]
        if crowd not in (0, 1):
            raise at.fault(f"'iscrowd' must be 0 or 1, got {short(crowd)}.")
        if not crowd and is_ignored(row):
            crowd = 1
            self.unusual.setdefault(_IGNORED, []).append(number)
        if area == 0 or box[2] == box[0] or box[3] == box[1]:
            self.unusual.setdefault("have no area", []).append(number)
        points = self._keypoints(at, row, label)
        track = row["track_id"] if type(row.get("track_id")) is int else None
        own = (
            _ANNOTATION | (_LANDMARKS if points is not None else set()) | ({"track_id"} if track is not None else set())
        )
        extra = {k: v for k, v in row.items() if k not in own}
        return Annotation(number, image.id, label, box, outline, area, bool(crowd), points, track, extra)

    def _box(self, at: Record, row: Row, outline: Polygons | RLE | None, image: ImageRecord) -> Box:
        if row.get("bbox") is not None:
            box = at.box(row["bbox"])
        elif outline is None:
            raise at.fault("has neither 'bbox' nor 'segmentation'. One of them is needed to know where the object is.")
        else:
            box = box_tuple(drawn(at, outline, image).boxes()[0]) if isinstance(outline, dict) else extent(outline)
        height, width = image.size
        if box[0] > width or box[1] > height or box[2] < 0 or box[3] < 0:
            raise at.fault(
                f"the box {short(list(box))} (x1, y1, x2, y2) lies outside its image {image.file_name} of "
                f"{height}x{width} (height x width). Are height and width exchanged, or the coordinates relative?"
            )
        if box[0] < -_BEYOND or box[1] < -_BEYOND or box[2] > width + _BEYOND or box[3] > height + _BEYOND:
            self.unusual.setdefault("reach beyond their image", []).append(int(row["id"]))
        return box

    def _area(self, at: Record, row: Row, outline: Polygons | RLE | None, image: ImageRecord, box: Box) -> float:
        if row.get("area") is None:
            return box_area(box) if outline is None else float(drawn(at, outline, image).areas()[0])
        area = at.number(row, "area")
        if area < 0:
            raise at.fault(f"'area' must not be negative, got {area}.")
        return area

    def _keypoints(self, at: Record, row: Row, label: int) -> NDArray[np.float64] | None:
        values = row.get("keypoints")
        if values is None or values == []:
            return None
        marks = self.classes.landmarks[label]
        if marks is None:
            self.unusual.setdefault("have keypoints, but their category names none", []).append(int(row["id"]))
            return None
        what = f"'keypoints' of the {len(marks)} landmarks of '{self.classes[label]}' (x, y, visibility each)"
        points = np.array(at.numbers(values, 3 * len(marks), what)).reshape(-1, 3)
        if not np.isin(points[:, 2], (0, 1, 2)).all():
            raise at.fault(
                f"the visibility of a keypoint is 0 (not annotated), 1 (hidden) or 2 (seen), got "
                f"{short(points[:, 2].tolist())}."
            )
        stated = row.get("num_keypoints")
        if stated is not None and stated != int(np.count_nonzero(points[:, 2])):
            self.unusual.setdefault(_WRONG_COUNT, []).append(int(row["id"]))
        return points

    def notes(self) -> tuple[str, ...]:
        """What is unusual, one sentence each."""
        return tuple(
            f"Annotations that {what}: {len(ids)} (ids {', '.join(map(str, ids[:5]))}"
            f"{', ...' if len(ids) > 5 else ''}); {_OUTCOMES.get(what, 'kept as they are')}."
            for what, ids in self.unusual.items()
        )


def is_ignored(row: Row) -> bool:
    """Whether an annotation is a region to ignore ("ignore": 1 of VisDrone, CrowdHuman and WIDER as COCO, or an
    attribute of this name)."""
    attributes = row.get("attributes")
    values = (row.get("ignore"), attributes.get("ignore") if isinstance(attributes, dict) else None)
    return any(str(value).lower() in ("1", "1.0", "true", "yes") for value in values)


def _rotation(row: Row) -> float:
    """Degrees, clockwise, by which CVAT's COCO turns a box around its centre; 0 where it says none."""
    attributes = row.get("attributes")
    degrees = attributes.get("rotation") if isinstance(attributes, dict) else None
    return float(degrees) if isinstance(degrees, (int, float)) and abs(degrees) < 1e6 and degrees % 360 else 0.0


def drawn(at: Record, outline: Polygons | RLE, image: ImageRecord) -> Masks:
    """The mask of one outline; the error names its record."""
    return draw_named([(outline, f"{at.source}: {at.name}")], image.size)


def annotation_row(a: Annotation, category_ids: Sequence[int]) -> Row:
    """The row to write."""
    outline = a.segmentation if isinstance(a.segmentation, dict) else [p.tolist() for p in a.segmentation or ()]
    row: Row = {
        **a.extra,
        "id": a.id,
        "image_id": a.image_id,
        "category_id": category_ids[a.label],
        "bbox": box_to_xywh(a.box),
        "area": a.area,
        "iscrowd": int(a.crowd),
        "segmentation": outline,
    }
    if a.keypoints is not None:
        row["keypoints"] = [v for x, y, seen in a.keypoints.tolist() for v in (x, y, int(seen))]
        row["num_keypoints"] = int(np.count_nonzero(a.keypoints[:, 2]))
    if a.track_id is not None:
        row["track_id"] = a.track_id
    return row
