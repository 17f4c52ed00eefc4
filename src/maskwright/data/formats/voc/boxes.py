"""VOC's XML files: the objects of an image as boxes.

VOC itself counts pixels from 1, the last one included, and so do our own files. Other tools (LabelMe, CVAT, labelImg,
Roboflow) write the edges in continuous pixels. The name of the database, which VOC's files state, decides.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path, PureWindowsPath
from xml.etree.ElementTree import Element

from maskwright.data.dataset import Annotation, Dataset, ImageRecord
from maskwright.data.formats.shared.fields import Box, Faults, Record, noted, short
from maskwright.data.formats.shared.image_files import size_of
from maskwright.data.formats.shared.outlines import FileObject, collect
from maskwright.data.formats.shared.xml_tree import line, read_xml, text_of
from maskwright.data.formats.voc.files import CHALLENGE, VocClasses, list_of, several, splits_of, stems
from maskwright.errors import DataError, suggest
from maskwright.media import SUFFIXES
from maskwright.types import Classes, Size
from maskwright.wording import counted

REMARKS = ("pose", "truncated", "difficult", "occluded")
DATABASE = "maskwright"
"""What our own files name as their database."""

_FROM_ONE = ("The VOC", DATABASE)


def folder_of(base: Path) -> Path:
    """Where the XML files lie: Annotations, or the folder itself, beside the images."""
    return base / "Annotations" if (base / "Annotations").is_dir() else base


def is_annotated(base: Path) -> bool:
    """Whether the first XML file of a folder has this form; reads its beginning."""
    folder = folder_of(base)
    try:
        first = next(islice(folder.rglob("*.xml") if folder != base else folder.glob("*.xml"), 1), None)
        text = b"" if first is None else first.read_bytes()[:65536]
        return (
            re.search(rb"<annotation[\s>]", text) is not None and b"<pt>" not in text
        )  # LabelMe's web tool has points
    except OSError:
        return False


def are_in(base: Path, name: str) -> bool:
    """Whether the XML file of an image has an object."""
    path = folder_of(base) / f"{name}.xml"
    return path.is_file() and read_xml(path).find("object") is not None


def load(place: Path, base: Path, root: Path, known: VocClasses, faults: Faults = None) -> Dataset:
    """The data set of boxes: the images with an XML file and those that are listed, or those of the list `place`.

    faults: gets those of files and objects, which are then left out.
    """
    folder = folder_of(base)
    splits, twice = splits_of(base, "Main")
    files = stems(root, SUFFIXES) if root.is_dir() else {}
    there = stems(folder, (".xml",))
    listed = [name for name in splits if name in files or name in there]
    names = list_of(place) if place.is_file() else list(dict.fromkeys([*there, *listed]))
    classes = known.names if known.source is not None else _used(folder, there.values(), faults)
    counts = Counter[str]()

    def stated(k: int, name: str) -> tuple[ImageRecord, list[FileObject]] | None:
        with noted(faults):
            if name not in there and name not in files:
                problem = f"'{name}' has no file {folder / f'{name}.xml'} and no image. Remove the line."
                raise DataError(f"{place}: {problem}")
            tree, found = Element("annotation"), list[FileObject]()
            if name in there:
                tree, found = objects(folder / there[name], classes, counts, faults=faults)
            own = PureWindowsPath(text_of(tree, "filename") or f"{name}.jpg").name
            file = files.get(name, own)
            extra = {"split": splits[name]} if name in splits else {}
            size = _size(tree, root / file, place, faults)
            return ImageRecord(k + 1, file, size, extra), found if all(size) else []
        return None  # an image whose objects are not known is no background

    found = filter(None, (stated(k, name) for k, name in enumerate(names)))
    records, rows = collect(found, faults)
    notes = [
        *_notes(known, classes, counts),
        *difficult(rows),
        *several([name for name in names if name in twice], "Main"),
    ]
    return Dataset(Classes(classes), records, rows, root, place, tuple(notes))


def objects(
    path: Path,
    names: Sequence[str],
    counts: Counter[str] | None = None,
    first: int | None = None,
    faults: Faults = None,
) -> tuple[Element, list[FileObject]]:
    """The file's tree and its objects, boxes with remarks. first: the number of the first pixel; None: see above.

    faults: gets those of objects, which are then left out.
    """
    tree, found = read_xml(path), []
    counts = Counter() if counts is None else counts
    if first is None:
        first = int((text_of(tree, "source/database") or "").startswith(_FROM_ONE))
    for element in tree.iterfind("object"):
        at = Record(path, f"line {line(element)}")
        name = text_of(element, "name")
        with noted(faults):
            if name not in names:
                raise at.fault(f"the class {short(name)} is not known.{suggest(name or '', names)} Correct it.")
            box = _box(at, element, first)
            remarks = {key: text_of(element, key) or "0" for key in REMARKS}
            extra = {key: text for key, text in remarks.items() if text not in ("0", "Unspecified")}
            counts["polygons"] += element.find("polygon") is not None
            counts["from zero"] += first == 0
            found.append(FileObject(f"{path}: {at.name}", names.index(name), None, box, extra=extra))
    return tree, found


def _box(at: Record, element: Element, first: int) -> Box:
    x0, y0, x1, y1 = (_number(at, element, f"bndbox/{key}") for key in ("xmin", "ymin", "xmax", "ymax"))
    if x1 < x0 or y1 < y0:
        raise at.fault(f"the box {short([x0, y0, x1, y1])} (x, y, x, y) ends before it begins. Correct it.")
    return x0 - first, y0 - first, x1, y1


def _number(at: Record, element: Element, path: str) -> float:
    text = text_of(element, path)
    try:
        value = float(text or "")
    except ValueError:
        value = float("nan")
    if not abs(value) < 1e9:
        raise at.fault(f"{path} must be a number, got {short(text)}.")
    return value


def _size(tree: Element, image: Path, place: Path, faults: Faults) -> Size:
    """(H, W) as the file states it, else that of the image."""
    texts = [text_of(tree, f"size/{key}") or "" for key in ("height", "width")]
    height, width = (int(t) if t.isdecimal() and len(t) < 9 else 0 for t in texts)
    return (height, width) if min(height, width) > 0 else size_of(image, place, faults)


def _used(folder: Path, files: Iterable[str], faults: Faults) -> tuple[str, ...]:
    """The classes of sets without a list of them: the challenge's where they are all of these, else those used."""
    used = set[str | None]()
    for file in files:
        with noted(None if faults is None else []):  # it comes again when the file's objects are read
            used |= {text_of(element, "name") for element in read_xml(folder / file).iterfind("object")}
    names = sorted(name for name in used if name)
    if not names:
        raise DataError(f"{folder}: no object in any file, so no class. Name the classes in class_names.txt.")
    return CHALLENGE if set(names) <= set(CHALLENGE) else tuple(names)


def difficult(rows: Mapping[int, Sequence[Annotation]]) -> list[str]:
    """A note that counts the objects that are marked so."""
    count = sum(row.extra.get("difficult") == "1" for own in rows.values() for row in own)
    left_out = "which the measure of the VOC challenge leaves out; they are objects as the others here"
    return [f"{counted(count, 'object')} marked as difficult, {left_out}."] if count else []


def _notes(known: VocClasses, classes: Sequence[str], counts: Counter[str]) -> list[str]:
    notes = ["The objects are the boxes of Annotations: there are no masks."]
    if known.source is None:
        which = "the 20 of the VOC challenge" if classes == CHALLENGE else "those of the objects, sorted by name"
        notes.append(f"No class_names.txt and no labelmap.txt: the classes are {which}.")
    if counts["from zero"]:
        notes.append("The files are not VOC's own: their boxes are read as edges in pixels, not as pixels from 1 on.")
    if counts["polygons"]:
        notes.append(
            f"{counted(counts['polygons'], 'object')} with a polygon in the XML, which is not VOC's, read as a box."
        )
    return notes
