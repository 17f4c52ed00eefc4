"""Masks kept as images: one label image for each image, or one image for each object.

"masks", as Cellpose, StarDist and many microscopes have it. The value of a pixel is its object, 0 is background:
    images/a.png   masks/a.png               the mask may end in _masks, _mask, _labels, _label or _cp_masks
    images/a.png   masks/CLASS/a.png         a folder for each class
    a.png          a_masks.png               all in one folder; the image may end in _img or _image
"foreground": the same files, but a value is that of a class, and each of its connected pieces is an object.
"dsb2018", as in the Data Science Bowl. What is not black is the object; objects may overlap:
    ID/images/ID.png   ID/masks/*.png        or ID/masks/CLASS/*.png
Several classes need such folders, or the files of `class_table`.

Letters: H W image, h w the rectangle around an object.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from maskwright import media
from maskwright.data.dataset import Annotation, Dataset, ImageRecord
from maskwright.data.doubt import Tally
from maskwright.data.formats.masks.class_table import CLASSES, ClassTable
from maskwright.data.formats.shared.fields import Faults, box_tuple, noted, read_classes
from maskwright.data.formats.shared.image_files import image_files, is_image_file, relative_names, size_of
from maskwright.data.formats.shared.losses import sentence
from maskwright.data.formats.shared.outlines import label_masks
from maskwright.errors import DataError, ImageError
from maskwright.ops import masks as mask_ops
from maskwright.types import Classes, Masks, Size
from maskwright.wording import counted

MASKS = "masks"
"""The folder of the masks in what is written."""

_MASK_FOLDERS = (MASKS, "mask", "labels", "label")
_MASK_ENDS = ("_cp_masks", "_masks", "_mask", "_labels", "_label")
_MOST_CLASSES = 64  # values of class masks
_IMAGE_ENDS = ("_img", "_image")
_BLANK = "An image without objects needs a mask that is 0 everywhere; remove images that are not annotated."


@dataclass(frozen=True)
class _Masked:
    """An image, its masks, and the class that the folder of each mask names, or None."""

    image: Path
    masks: list[tuple[Path, str | None]] = field(default_factory=list)


def recognise_masks(place: Path) -> bool:
    """A folder with images/ and masks/, or with a.png and a_masks.png side by side.

    Where the images are elsewhere: masks/ and classes.txt, as `write` writes them.
    """
    if (place / CLASSES).is_file() and _has_images(place / MASKS):
        return True
    if any(_has_images(place / name) for name in _MASK_FOLDERS) and _has_images(place / "images"):
        return True
    stems = {p.stem for p in image_files(place)}
    return any(_bare(s, _MASK_ENDS) in stems or f"{_bare(s, _MASK_ENDS)}_img" in stems for s in stems if _is_mask(s))


def recognise_objects(place: Path) -> bool:
    """A folder of folders that hold images/ and masks/."""
    return next(_samples(place), None) is not None


def load_masks(place: Path, images: Path | None = None, faults: Faults = None) -> Dataset:
    """Read a folder of label images. images: the images' folder, where it is not in the layout.

    Raises DataError, naming the files, where an image has no mask, a mask no image, their sizes differ, or a mask is
    stored with losses. faults: gets those of images, masks and objects, which are then left out.
    """
    return _dataset(place, images or place, _label_images(place, images, faults), _labelled, faults)


def load_foreground(place: Path, images: Path | None = None, faults: Faults = None) -> Dataset:
    """Read a folder of foreground or class masks, laid out as label images: connected pieces are the objects.

    The classes are the values: the lines of classes.txt, where it has one for each; else the values themselves. Masks
    stored with losses (JPEG) are black and white, divided at half of their highest value.
    """
    rows = _label_images(place, images, faults)
    return _dataset(place, images or place, rows, _connected, faults, _value_names(place, rows, faults))


def _label_images(place: Path, images: Path | None, faults: Faults) -> list[_Masked]:
    """The images of a folder with their masks."""
    folder = next((place / name for name in _MASK_FOLDERS if _has_images(place / name)), place)
    masks = image_files(folder, deep=folder != place)
    if folder == place:
        masks = [p for p in masks if _is_mask(p.stem)]
    inside = images or (place if folder == place else place / "images")
    source_images = [p for p in image_files(inside, deep=inside != place) if p not in set(masks)]
    if not masks or not source_images:
        raise DataError(
            f"{place}: found {len(source_images)} images in {inside} and {len(masks)} masks in {folder}. Expected "
            f"images/ and masks/ with images of the same names, or a.png and a_masks.png side by side. Where the "
            f"images lie elsewhere, give their folder.",
            options=("images",),
        )
    return _paired(place, inside, source_images, folder, masks, faults)


def load_objects(place: Path, images: Path | None = None, faults: Faults = None) -> Dataset:
    """Read a folder with a folder for each image, which holds one mask image for each object.

    images: where the folders of the images lie, if not beside those of the masks. faults: gets those of images, masks
    and objects, which are then left out.
    """
    rows, samples = [], sorted(_samples(place))
    for sample in samples:
        inside = (images or place) / sample.name / "images"
        source_images = image_files(inside)
        with noted(faults):
            if len(source_images) != 1:
                found = f"the one image that {sample / MASKS} is of, found {len(source_images)}"
                raise DataError(f"{inside}: expected {found}.")
            masks = [(m, m.parent.name) for m in image_files(sample / MASKS, deep=True)]
            rows.append(_Masked(source_images[0], [(m, None if kind == MASKS else kind) for m, kind in masks]))
    if not samples:
        raise DataError(f"{place}: expected folders ID with ID/images/ID.png and ID/masks/*.png, found none.")
    return _dataset(place, images or place, rows, _whole, faults)


# ---- which masks belong to which image ----------------------------------------------------------------------------


def _has_images(folder: Path) -> bool:
    return folder.is_dir() and any(map(is_image_file, folder.rglob("*")))


def _is_mask(stem: str) -> bool:
    return _bare(stem, _MASK_ENDS) != stem


def _bare(stem: str, ends: Sequence[str]) -> str:
    return next((stem.removesuffix(end) for end in ends if stem.endswith(end) and stem != end), stem)


def _samples(place: Path) -> Iterator[Path]:
    """The folders of the Data Science Bowl's layout."""
    if place.is_dir():
        yield from (p.parent for p in place.glob(f"*/{MASKS}") if p.is_dir() and (p.parent / "images").is_dir())


def _paired(
    place: Path, inside: Path, images: list[Path], folder: Path, masks: list[Path], faults: Faults
) -> list[_Masked]:
    """Each image with its masks, matched by their names without suffixes and usual endings."""
    own: dict[str, _Masked] = {}
    for path in images:
        key = path.relative_to(inside).with_suffix("").as_posix()
        with noted(faults):
            if key in own:
                raise DataError(f"{place}: {own[key].image.name} and {path.name} would have the same mask. Rename one.")
            own[key] = _Masked(path)
    by_bare = {_bare(key, _IMAGE_ENDS): row for key, row in own.items()}
    spare = []
    for path in masks:
        key = path.relative_to(folder).with_suffix("").as_posix()
        kind, _, rest = key.partition("/")
        for name, group in ((key, None), (rest, kind)):
            row = own.get(name) or own.get(_bare(name, _MASK_ENDS)) or by_bare.get(_bare(name, _MASK_ENDS))
            if row is not None:
                row.masks.append((path, group))
                break
        else:
            spare.append(path)
    lost = [row.image for row in own.values() if not row.masks]
    if faults is not None:
        faults += (DataError(f"{path}: there is no image of its name in {inside}.") for path in spare)
        faults += (DataError(f"{path}: it has no mask in {folder}. {_BLANK}") for path in lost)
    elif spare:
        raise DataError(
            f"{place}: {counted(len(spare), 'mask')} without an image of the same name in {inside}: {_some(spare)}."
        )
    elif lost:
        raise DataError(f"{place}: {counted(len(lost), 'image')} without a mask: {_some(lost)}. {_BLANK}")
    return [row for row in own.values() if row.masks]


def _some(paths: Sequence[Path]) -> str:
    return ", ".join(str(p) for p in paths[:5]) + (", ..." if len(paths) > 5 else "")


# ---- reading the masks ----------------------------------------------------------------------------------------------


_Split = Callable[[NDArray[np.int64]], tuple[Masks, list[int]]]
"""The values of a mask image to its objects and the value of each."""


def _dataset(
    place: Path,
    root: Path,
    rows: Sequence[_Masked],
    split: _Split,
    faults: Faults,
    names: Mapping[int, str] | None = None,
) -> Dataset:
    """names: the class of each value, where values are classes."""
    names = names or {}
    groups = (group for row in rows for _, group in row.masks if group is not None)
    table = ClassTable(place, (*groups, *names.values()), faults)
    records, by_image, blank, tally, first = [], {}, list[str](), Tally(), 1
    for number, (name, row) in enumerate(zip(relative_names([r.image for r in rows], root), rows, strict=True), 1):
        record = ImageRecord(number, name, size_of(row.image, place, faults))
        found: list[Annotation] = []
        unread = 0
        for path, group in row.masks if all(record.size) else ():
            unread += 1
            with noted(faults):
                masks, values = split(_values(path, row.image, record.size, halve=split is _connected))
                unread -= 1
                tally.add(masks)
                if not values and split is _whole:
                    blank.append(path.relative_to(place).as_posix())
                objects = zip(values, masks.boxes(), mask_ops.encode(masks), masks.areas().tolist(), strict=True)
                for value, box, rle, area in objects:
                    with noted(faults):
                        label = table.label(path, value, names.get(value) if group is None else group)
                        found.append(Annotation(first + len(found), number, label, box_tuple(box), rle, float(area)))
        if unread and unread == len(row.masks):
            continue  # an image whose objects are not known is no background
        records.append(record)
        by_image[number] = tuple(found)
        first += len(found)
    table.check_used()
    notes = sentence(len(blank), "mask{s} without a pixel left out", blank)
    return Dataset(Classes(table.names), tuple(records), by_image, root, place, notes, doubt=tally.doubt())


def _value_names(place: Path, rows: Sequence[_Masked], faults: Faults) -> dict[int, str]:
    """The class of each value of foreground or class masks; none where all have one value and no class is named."""
    found: set[int] = set()
    for row in rows:
        for path, group in row.masks:
            own = set[int]()
            with noted(None if faults is None else []):  # it comes again when the objects are read
                if not group:
                    own = set(np.unique(_values(path, row.image, size_of(row.image, place), halve=True)).tolist())
            found |= own - {0}
            if len(found) > _MOST_CLASSES:
                raise DataError(
                    f"{path}: the masks have over {_MOST_CLASSES} values, too many for classes. Are they label images, "
                    f"or were they resized with smoothing? Divide those at half of the highest value, and save them."
                )
    values, stated = sorted(found), read_classes(place / CLASSES) if (place / CLASSES).is_file() else []
    if stated and values:
        names = dict(enumerate(stated, 1)) if values[-1] <= len(stated) else dict(zip(values, stated, strict=False))
        if set(values) - set(names):
            raise DataError(
                f"{place / CLASSES}: names {len(stated)} classes, the masks have {len(values)} values: {values}."
            )
        return {v: names[v] for v in values}
    return {v: str(v) for v in values} if len(values) > 1 else {}


def _values(path: Path, image: Path, size: Size, *, halve: bool = False) -> NDArray[np.int64]:
    """halve: divide the values of a file that is stored with losses at half of the highest, into 0 and 255."""
    lossy = _is_lossy(path)
    if lossy and not halve:
        raise DataError(
            f"{path}: {lossy} stores values inexactly, so edges would become objects that nobody drew. Save masks as "
            f"PNG or TIFF. Foreground masks, whose objects are white, can be read as the format 'foreground'.",
            options=("data_format", "format"),
        )
    try:
        values = media.read_values(path)
    except ImageError as error:
        raise DataError(str(error)) from error
    if values.shape != size:
        raise DataError(
            f"{path}: the mask is {values.shape[0]}x{values.shape[1]} (height x width), its image {image} is "
            f"{size[0]}x{size[1]}. They must be of one size: was one of them resized or turned?"
        )
    if values.min() < 0:
        raise DataError(f"{path}: the values of a mask are 0 (background) or positive, found {values.min()}.")
    return np.where(2 * values > values.max(), 255, 0) if lossy else values


def _is_lossy(path: Path) -> str:
    """The name of a file's format, where that does not keep values; else empty."""
    with open(path, "rb") as file:
        begin = file.read(16)
    kinds = {
        "JPEG": begin.startswith(b"\xff\xd8"),
        "AVIF": begin[4:12] == b"ftypavif",
        "WebP": begin[8:] == b"WEBPVP8 ",
    }
    return next((name for name, is_so in kinds.items() if is_so), "")


def _labelled(values: NDArray[np.int64]) -> tuple[Masks, list[int]]:
    """One object for each value except 0, in rising order."""
    found, masks = label_masks(values)
    return masks, found.tolist()


def _whole(values: NDArray[np.int64]) -> tuple[Masks, list[int]]:
    """One object of all pixels that are not 0, if there are any."""
    masks = Masks.from_dense((values > 0)[None])
    return (masks, [int(values.max())]) if values.any() else (masks[:0], [])


def _connected(values: NDArray[np.int64]) -> tuple[Masks, list[int]]:
    """One object for each connected piece of a value except 0, in rising order of the values; corners connect."""
    whole, found = _labelled(values)
    corners, crops, of = [], [], []
    for value, (top, left), crop in zip(found, whole.corners, whole.bitmaps, strict=True):
        parts, _ = ndimage.label(crop, np.ones((3, 3), np.int8))
        for k, window in enumerate(ndimage.find_objects(parts), start=1):
            corners.append((top + window[0].start, left + window[1].start))
            crops.append(parts[window] == k)
            of.append(value)
    return Masks(whole.size, np.array(corners, np.int64).reshape(-1, 2), tuple(crops)), of
