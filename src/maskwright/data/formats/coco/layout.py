"""Folders with COCO files as the common tools lay them out.

    annotations.json, images/                                  our own
    annotations/instances_train2017.json, train2017/           COCO's own site
    annotations/instances_train.json, images/train/            Datumaro, CVAT
    annotations/instances_default.json, images/                CVAT, a task without subsets
    train/_annotations.coco.json and the images beside it      Roboflow; valid/ and test/ likewise
    labels.json, data/                                         FiftyOne
    result.json, images/                                       Label Studio

Several files are the parts of one data set.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

from maskwright.data.dataset import Dataset, ImageRecord, usual_part
from maskwright.data.formats.shared.fields import json_keys
from maskwright.data.formats.shared.image_files import image_files, relative_names
from maskwright.data.formats.shared.losses import sentence
from maskwright.errors import DataError

_KEYS = frozenset(("images", "annotations"))
PANOPTIC = "segments_info"
"""The key of panoptic annotations."""


def is_coco(path: Path) -> bool:
    """Whether a JSON file has the keys of an annotation file of objects; found without parsing it."""
    return path.suffix.lower() == ".json" and json_keys(path, {*_KEYS, PANOPTIC}) == _KEYS


@dataclass(frozen=True)
class FileNames:
    """How the annotation files of a kind are called, and what shows that one is of this kind.

    alone: a file in the folder of a data set or part. prefixes: of files in annotations/; the first that one has
    decides.
    """

    alone: tuple[str, ...]
    prefixes: tuple[str, ...]
    fits: Callable[[Path], bool]


OBJECTS = FileNames(
    ("annotations.json", "_annotations.coco.json", "labels.json", "result.json"),
    ("instances_", "person_keypoints_", ""),
    is_coco,
)


@dataclass(frozen=True)
class AnnotationFile:
    """One annotation file. name: of the part, "" where the file is the only one, unless that is a part to be held out.

    folders: where its images may lie.
    """

    file: Path
    name: str
    folders: tuple[Path, ...]


def parts_of(place: Path, names: FileNames = OBJECTS) -> tuple[AnnotationFile, ...]:
    """The annotation files of a folder, or the file itself; none where the folder has none."""
    if not place.is_dir():
        return (AnnotationFile(place, "", (place.parent, place.parent / "images", place.parent.parent / "images")),)
    if (place / names.alone[0]).is_file():
        return (_alone(place / names.alone[0], ""),)
    found = _alone_in(place, "", names)
    if not found:
        found = _listed(place, names)
    if not found:
        below = (p for p in sorted(place.iterdir()) if p.is_dir() and usual_part(p.name))
        found = [part for folder in below for part in _alone_in(folder, folder.name, names)]
    if len(found) == 1 and usual_part(found[0].name) not in ("val", "test"):
        return (replace(found[0], name=""),)
    return tuple(found)


def bare_parts(place: Path, names: FileNames = OBJECTS) -> tuple[str, ...]:
    """A sentence about folders called like parts that have images and no annotation file, where others have one."""
    below = [p for p in sorted(place.iterdir()) if p.is_dir() and usual_part(p.name)] if place.is_dir() else []
    filled = [p for p in below if _alone_in(p, p.name, names)]
    bare = {p.name: len(image_files(p)) for p in below if p not in filled} if filled else {}
    words = [name for name, number in bare.items() if number]
    return sentence(sum(bare.values()), "image{s} in folders without an annotation file left out", words)


def _alone(file: Path, name: str) -> AnnotationFile:
    near = (file.parent, file.parent / "images", file.parent / "data", file.parent.parent / "images")
    return AnnotationFile(file, name, near)


def _alone_in(folder: Path, name: str, names: FileNames) -> list[AnnotationFile]:
    file = next((folder / file for file in names.alone if names.fits(folder / file)), None)
    return [] if file is None else [_alone(file, name)]


def _listed(place: Path, names: FileNames) -> list[AnnotationFile]:
    """The files of annotations/, with those folders for their images that are called like them."""
    files = [p for p in sorted((place / "annotations").glob("*.json")) if names.fits(p)]
    for prefix in names.prefixes:
        chosen = [p for p in files if p.name.startswith(prefix)]
        if chosen:
            return [_of_list(place, p, p.stem.removeprefix(prefix)) for p in chosen]
    return []


def _of_list(place: Path, file: Path, stem: str) -> AnnotationFile:
    name = usual_part(re.sub(r"[\d_-]+$", "", stem)) or stem  # train2017 is train
    folders = [base / word for word in dict.fromkeys((stem, name)) for base in (place / "images", place)]
    return AnnotationFile(file, name, (*folders, place / "images", place, file.parent))


def named(part: AnnotationFile, data: Dataset) -> Dataset:
    """The data set with the part in the field "split" of its images."""
    return replace(data, images=tuple(replace(r, extra={"split": part.name, **r.extra}) for r in data.images))


def joined(place: Path, parts: Sequence[tuple[AnnotationFile, Dataset]]) -> Dataset:
    """The parts as one data set: file names relative to `place`, the part of an image in its field "split".

    Ids are numbered anew where two files share one. Raises DataError where the classes differ, or where two files name
    one image.
    """
    first = parts[0][1]
    for part, data in parts[1:]:
        _require_same_classes(parts[0][0].file, first, part.file, data)
    notes = [f"{part.file.name}: {note}" for part, data in parts for note in data.notes]
    notes += [f"{part.file} lists no images." for part, data in parts if not len(data)]
    parts = [(part, named(part, data)) for part, data in parts]
    of_images = [record.id for _, data in parts for record in data.images]
    of_objects = [a.id for _, data in parts for own in data.annotations.values() for a in own]
    if any(len(set(ids)) < len(ids) for ids in (of_images, of_objects)):
        parts = _numbered(parts)
        notes.append(f"The {len(parts)} annotation files use the same ids; images and annotations are numbered anew.")
    images: list[ImageRecord] = []
    owner: dict[str, Path] = {}
    for part, data in parts:
        names = relative_names([data.path(i) for i in range(len(data))], place)
        for record, name in zip(data.images, names, strict=True):
            if owner.setdefault(name, part.file) != part.file:
                both = f"{owner[name].name} and {part.file.name} both name the image {name}"
                raise DataError(f"{place}: {both}. Give one of the files instead of the folder.")
            images.append(replace(record, file_name=name))
    annotations = {k: rows for _, data in parts for k, rows in data.annotations.items()}
    extra = {k: v for _, data in reversed(parts) for k, v in data.extra.items()}
    found = replace(first, images=tuple(images), annotations=annotations, root=place, source=place)
    return replace(found, notes=tuple(notes), extra=extra)


def _numbered(parts: Sequence[tuple[AnnotationFile, Dataset]]) -> list[tuple[AnnotationFile, Dataset]]:
    """The same parts with images and annotations numbered from 1 through all of them."""
    out, images, objects = [], count(1), count(1)
    for part, data in parts:
        ids = {record.id: next(images) for record in data.images}
        rows = {ids[k]: tuple(replace(a, id=next(objects), image_id=ids[k]) for a in data.annotations[k]) for k in ids}
        records = tuple(replace(record, id=ids[record.id]) for record in data.images)
        out.append((part, replace(data, images=records, annotations=rows)))
    return out


def _require_same_classes(file: Path, data: Dataset, other: Path, rest: Dataset) -> None:
    one, two = (list(zip(d.classes.ids, d.classes.names, strict=True)) for d in (data, rest))
    if one != two or data.classes.landmarks != rest.classes.landmarks:
        differ = [f"{i} {n}" for i, n in dict.fromkeys([*one, *two]) if (i, n) not in one or (i, n) not in two]
        what = f"their classes differ ({', '.join(differ[:5])})" if differ else "their landmarks differ"
        raise DataError(
            f"{other}: it belongs to one data set with {file}, but {what}. Make them equal, or give one of the files "
            f"instead of the folder."
        )
