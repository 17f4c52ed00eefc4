"""Pascal VOC's layout, with masks or with boxes alone, read.

    JPEGImages/NAME.jpg              the images
    SegmentationObject/NAME.png      indexed: 0 background, k the object k, 255 void
    SegmentationClass/NAME.png       indexed: 0 background, k the class k, 255 void
    Annotations/NAME.xml             a box and remarks for each object; beside masks it may be missing
    ImageSets/Segmentation/*.txt     the names in train, val ...; may be missing (of boxes: ImageSets/Main)
    class_names.txt or labelmap.txt  the classes; without them the 20 of the challenge

Void pixels are the border that VOC draws around its objects and undecided regions. Here they belong to no object, and a
note counts them. Coloured PNGs are read by VOC's colours, or those of labelmap.txt. A pixel has one object: the masks
do not say what is below it.
Letters: H W image, h w box of an object. Boxes in VOC's XML count pixels from 1, the last one included.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL.PngImagePlugin import PngImageFile

from maskwright.data.dataset import Dataset, ImageRecord
from maskwright.data.doubt import Tally
from maskwright.data.formats.shared.fields import Faults, Record, noted, read_names, short
from maskwright.data.formats.shared.image_files import require_folder, size_of
from maskwright.data.formats.shared.outlines import FileObject, annotations, collect, label_masks, rle_of
from maskwright.data.formats.voc import boxes
from maskwright.data.formats.voc.files import CHALLENGE, VocClasses, image_folder, list_of, several, splits_of, stems
from maskwright.errors import DataError
from maskwright.media import MAX_PIXELS, SUFFIXES
from maskwright.ops import boxes as box_ops
from maskwright.types import Classes, Size
from maskwright.wording import counted

Index = NDArray[np.integer[Any]]

VOID = 255
"""The index of pixels that are neither object nor background."""

VOID_NAMES = ("ignored", "void", "ignore", "border")
"""What labelmap.txt calls the colour of void; none of them is a class there."""

MASKS = ("SegmentationObject", "SegmentationClass")
"""The folders of the masks."""

_BACKGROUND = ("_background_", "background")
_PNG = ("png", *("".join(letters) for letters in product("Pp", "Nn", "Gg")))  # the usual first
_SAME = 0.5  # IoU from which a box of the XML is that of a mask


def recognise(place: Path) -> bool:
    """A folder with masks or with XML files of this form, or a list in its ImageSets."""
    base = _base(place)
    if not base.is_dir():
        return False
    return any((base / name).is_dir() for name in MASKS) or boxes.is_annotated(base)


def load(place: Path, images: Path | None = None, faults: Faults = None) -> Dataset:
    """Read the images that have a mask in SegmentationObject or are listed; of a list such as train.txt those in it.

    Without masks, and for a list of ImageSets/Main, the objects are the boxes of Annotations. An image that is listed,
    and has neither mask nor boxes, has no objects. The field "split" of an image's record is the list it is in
    (trainval is none). Raises DataError, naming the file, for masks that disagree, objects without a class and unknown
    names. faults: gets those of images and objects, which are then left out.
    """
    base = _base(place)
    masks = base / MASKS[0]
    require_folder(images, place)
    root = images or image_folder(base)
    drawn = masks.is_dir() and (not boxes.is_annotated(base) or next(masks.rglob("*.[pP][nN][gG]"), None) is not None)
    if not drawn or (place.is_file() and place.parent.name == "Main"):
        if masks.is_dir() or boxes.is_annotated(base):
            return boxes.load(place, base, root, _class_names(base), faults)
        found = "SegmentationClass alone: the class of each pixel, and no objects" if (base / MASKS[1]).is_dir() else ""
        raise DataError(
            f"{place}: a VOC data set has the folder SegmentationObject, or Annotations with boxes; {base} has "
            f"{found or 'neither'}."
        )
    splits, twice = splits_of(base, "Segmentation")
    files = stems(root, SUFFIXES) if root.is_dir() else {}

    def blank(name: str) -> bool:
        with noted(None if faults is None else []):  # it comes again when the image is read
            return not boxes.are_in(base, name)
        return True

    if place.is_file():
        names = dict.fromkeys(list_of(place))
    else:
        names = dict.fromkeys([*stems(masks, (".png",)), *(n for n in splits if n in files and blank(n))])
    reader = _Reader(base, _class_names(base), faults)
    if not reader.known.names:
        raise DataError(f"{reader.known.source}: names no class but the background.")

    def stated(k: int, name: str) -> tuple[ImageRecord, list[FileObject]] | None:
        extra = {"split": splits[name]} if name in splits else {}
        with noted(faults):
            if _mask(masks, name).is_file():
                size, found = reader.read(name)
            elif name in files and not boxes.are_in(base, name):
                size, found = size_of(root / files[name], place, faults), []
            else:
                other = f"no image in {root}" if name not in files else "boxes in Annotations"
                problem = f"'{name}' has no mask {masks / f'{name}.png'}, and {other}."
                raise DataError(f"{place}: {problem} Add the mask, or remove the line.")
            return ImageRecord(k + 1, files.get(name, f"{name}.jpg"), size, extra), found
        return None  # an image whose objects are not known is no background

    records, rows = collect(filter(None, (stated(k, name) for k, name in enumerate(names))), faults)
    notes = [
        *reader.notes(),
        *boxes.difficult(rows),
        *several([name for name in names if name in twice], "Segmentation"),
    ]
    unmasked = len(files.keys() - names.keys())
    if unmasked and not place.is_file():
        notes.append(f"{counted(unmasked, 'image')} in {root} without a mask not read.")
    doubt = reader.tally.doubt()
    return Dataset(Classes(reader.known.names), records, rows, root, place, tuple(notes), doubt=doubt)


def colours() -> NDArray[np.uint8]:
    """(256, 3) VOC's palette: bit 3j + c of an index is bit 7 - j of channel c."""
    index = np.arange(256)
    out = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        out[:, bit % 3] |= (((index >> bit) & 1) << (7 - bit // 3)).astype(np.uint8)
    return out


# ---- files and names ------------------------------------------------------------------------------------------------


def _base(place: Path) -> Path:
    listed = place.suffix.lower() == ".txt" and place.parent.name in ("Segmentation", "Main") and place.is_file()
    return place.parent.parent.parent if listed else place


def _mask(folder: Path, name: str) -> Path:
    """The mask of this name, whatever the letter case of its suffix; NAME.png where there is none."""
    paths = [folder / f"{name}.{suffix}" for suffix in _PNG]
    return next((path for path in paths if path.is_file()), paths[0])


def _class_names(base: Path) -> VocClasses:
    path = base / "class_names.txt"
    if path.is_file():
        names = [n for n in dict.fromkeys(read_names(path)) if n != "__ignore__"]
        return VocClasses(tuple(names[1:] if names and names[0] in _BACKGROUND else names), path)
    path = base / "labelmap.txt"
    return _labelmap(path) if path.is_file() else VocClasses(tuple(CHALLENGE), None)


def _labelmap(path: Path) -> VocClasses:
    """The classes and their colours; where no line has a colour they are VOC's own, in the order of the lines."""
    rows = [row.partition(":") for row in read_names(path) if not row.startswith("#")]
    shades = [(name, rest.partition(":")[0]) for name, _, rest in rows]
    if shades and shades[0][0] in _BACKGROUND and not any(shade.strip() for _, shade in shades):
        return VocClasses(tuple(name for name, _ in shades[1:]), path)
    found: dict[int, str] = {}
    for name, shade in shades:
        values = shade.split(",")
        if len(values) != 3 or not all(v.strip().isdecimal() and int(v) < 256 for v in values):
            raise DataError(
                f"{path}: expected lines such as 'cat:64,0,0::' (name, red, green, blue) or all without a colour, the "
                f"background first; got {short(f'{name}:{shade}')}."
            )
        packed = _packed(np.array([int(v) for v in values])).item()
        if not (name in VOID_NAMES and packed == _packed(colours()[VOID]).item()):
            found[packed] = name
    kept = [name for name in found.values() if name not in _BACKGROUND]
    index = {name: k + 1 for k, name in enumerate(kept)}
    return VocClasses(tuple(kept), path, {colour: index.get(name, 0) for colour, name in found.items()})


# ---- masks ----------------------------------------------------------------------------------------------------------


def _packed(rgb: NDArray[Any]) -> Index:
    """(...) one number for each colour (..., 3)."""
    return np.asarray(rgb.astype(np.int64) @ [1 << 16, 1 << 8, 1])


@contextmanager
def _opened(path: Path) -> Iterator[PngImageFile]:
    """A PNG of at most MAX_PIXELS, its pixels not yet decoded. Whatever its reading raises becomes a DataError."""
    try:
        with PngImageFile(path) as image:
            if image.size[0] * image.size[1] > MAX_PIXELS:
                raise DataError(f"{path}: {image.size[1]}x{image.size[0]} pixels (H x W) are more than {MAX_PIXELS}.")
            yield image
    except DataError:
        raise
    except Exception as error:  # a damaged file fails in many ways
        raise DataError(f"{path}: not a PNG that can be read ({error}). Was it cut off, or saved as JPEG?") from error


def _indices(path: Path, known: Mapping[int, int] | None = None) -> Index:
    """(H, W) the index of each pixel; VOID is void whatever the depth. known: packed colours to indices."""
    with _opened(path) as image:
        image.load()
        plain = image.mode in ("P", "L", "1", "I", "I;16") and (known is None or image.mode != "P")
        pixels = np.array(image if plain else image.convert("RGB"))
    if not plain:
        return _from_colours(path, pixels, known)
    index = pixels.astype(np.int32)
    if index.max() > 65535 or index.min() < 0:
        raise DataError(f"{path}: its pixels are {index.min()}..{index.max()}; indices are 0..65535.")
    if pixels.dtype == np.uint8:
        return index
    return np.where(index == 65535, VOID, np.where(index == VOID, 65535, index))  # 16 bits: the last index is void


def _from_colours(path: Path, rgb: NDArray[np.uint8], known: Mapping[int, int] | None) -> Index:
    """(H, W) indices of coloured pixels."""
    shades, inverse = np.unique(_packed(rgb), return_inverse=True)
    if known is None:
        index = np.zeros_like(shades)
        for bit in range(24):  # the reverse of `colours`, beyond 255 too
            channel, level = bit % 3, 7 - bit // 3
            index |= ((shades >> (16 - 8 * channel + level)) & 1) << bit
    else:
        border = _packed(colours()[VOID]).item()
        strange = next((s for s in shades.tolist() if s not in known and s != border), None)
        if strange is not None:
            shade = ",".join(map(str, strange.to_bytes(3, "big")))
            text = f"the colour {shade} is no class of labelmap.txt. Add it there, or correct the image."
            raise DataError(f"{path}: {text}")
        index = np.array([known.get(s, VOID) for s in shades.tolist()], np.int64)
    return np.asarray(index[inverse].reshape(rgb.shape[:2]))


@dataclass
class _Reader:
    """Reads the masks and boxes of one image after the other, and counts what is unusual."""

    base: Path
    known: VocClasses
    faults: Faults
    used: set[int] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)
    tally: Tally = field(default_factory=Tally)

    def read(self, name: str) -> tuple[Size, list[FileObject]]:
        """The size of an image and its objects."""
        path, other = (_mask(self.base / kind, name) for kind in ("SegmentationObject", "SegmentationClass"))
        with _opened(path) as image:
            width, height = image.size
        if not other.is_file():
            raise DataError(f"{path}: its classes {other} are missing. Add the file, or remove this one.")
        with _opened(other) as image:
            if image.size != (width, height):  # before anything is decoded: a damaged header may ask for much memory
                sizes = f"{path} is {(height, width)}, {other} is {image.size[::-1]} (H, W)"
                raise DataError(f"{sizes}. They must be of one size.")
        size: Size = (height, width)
        objects, classes = _indices(path), _indices(other, self.known.colours)
        stray = int(((objects == 0) & (classes != 0) & (classes != VOID)).sum())
        self.counts["stray pixels"] += stray
        self.counts["stray images"] += stray > 0
        void = int((objects == VOID).sum())
        self.counts["void pixels"] += void
        self.counts["void images"] += void > 0
        return size, self._with_boxes(name, list(self._objects(path, objects, classes)), size)

    def _objects(self, path: Path, objects: Index, classes: Index) -> Iterator[FileObject]:
        size: Size = (objects.shape[0], objects.shape[1])
        found, masks = label_masks(objects, without=VOID)
        self.tally.add(masks)
        for value, window, crop in zip(found.tolist(), masks.windows, masks.bitmaps, strict=True):
            indices, votes = np.unique(classes[window][crop], return_counts=True)  # an index may be a colour of 24 bits
            index = int(indices[votes.argmax()])
            self.counts["mixed"] += len(indices) > 1
            with noted(self.faults):
                if index in (0, VOID) or index > len(self.known.names):
                    what = "background" if index == 0 else "void" if index == VOID else f"class {index}"
                    raise Record(path, f"object {value}").fault(
                        f"it is {what} in SegmentationClass; the classes are 1..{len(self.known.names)} "
                        f"({', '.join(self.known.names[:5])}, ...). Correct it, or name the classes in "
                        f"class_names.txt."
                    )
                self.used.add(index - 1)
                outline = rle_of(crop, window[0].start, window[1].start, size)
                yield FileObject(f"{path}: object {value}", index - 1, outline)

    def _with_boxes(self, name: str, found: list[FileObject], size: Size) -> list[FileObject]:
        """The same objects with the boxes and remarks of the XML file, where there is one."""
        path = self.base / "Annotations" / f"{name}.xml"
        if not path.is_file() or not found:
            return found
        tight = torch.tensor([a.box for a in annotations(ImageRecord(0, name, size), found, 0)], dtype=torch.float64)
        free = set(range(len(found)))
        stated = list[FileObject]()
        with noted(self.faults):
            stated = boxes.objects(path, self.known.names, first=1, faults=self.faults)[1]
        for one in stated:
            ious = box_ops.iou(tight, tight.new_tensor([one.box]))[:, 0].tolist()
            best = max((k for k in free if found[k].label == one.label), key=ious.__getitem__, default=None)
            if best is None or ious[best] < _SAME:
                self.counts["boxes"] += 1
                continue
            free.remove(best)
            found[best] = replace(found[best], box=one.box, extra=one.extra)
        return found

    def notes(self) -> Iterator[str]:
        """What is unusual, one sentence each."""
        if self.known.source is None:
            yield (
                "No class_names.txt and no labelmap.txt: the classes are taken as the 20 of the VOC challenge "
                f"(used: {', '.join(self.known.names[k] for k in sorted(self.used)) or 'none'})."
            )
        if self.counts["void pixels"]:
            yield (
                f"Void, which counts as background: {counted(self.counts['void pixels'], 'pixel')} of "
                f"{counted(self.counts['void images'], 'image')}."
            )
        if self.counts["stray pixels"]:
            yield (
                f"{counted(self.counts['stray pixels'], 'pixel')} of {counted(self.counts['stray images'], 'image')} "
                f"with a class in SegmentationClass and no object in SegmentationObject, taken as background."
            )
        if self.counts["mixed"]:
            yield f"{counted(self.counts['mixed'], 'object')} of several classes got the most frequent of them."
        if self.counts["boxes"]:
            yield f"{counted(self.counts['boxes'], 'box', 'es')} in Annotations without a mask left out."
