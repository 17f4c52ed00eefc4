"""The image files of a data set: found, named safely in a new layout, copied byte for byte.

Letters: H W image.
"""

import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath, PureWindowsPath

from maskwright import media
from maskwright.data.dataset import Dataset
from maskwright.data.formats.shared.fields import Faults
from maskwright.data.formats.shared.losses import sentence
from maskwright.errors import DataError, ImageError
from maskwright.types import Size


def require_folder(images: Path | None, place: Path) -> None:
    """Raises DataError where the given folder of images is no folder."""
    if images is not None and not images.is_dir():
        text = f"{images}: the image folder of {place} does not exist or is not a folder."
        raise DataError(text, options=("images",))


def image_files(folder: Path, *, deep: bool = False) -> list[Path]:
    """The image files in a folder (deep: and below it), sorted, without hidden ones; none where it does not exist."""
    if not folder.is_dir():
        return []
    return sorted(filter(is_image_file, folder.rglob("*") if deep else folder.iterdir()))


def is_image_file(path: Path) -> bool:
    """Whether this is a file, not hidden, with the suffix of an image."""
    return path.suffix.lower() in media.SUFFIXES and path.name[0] != "." and path.is_file()


def found_name(folder: Path, name: str) -> str | None:
    r"""The name of an image's file in `folder`: as given, else with / for the \ of Windows; None where neither is."""
    return next((n for n in (name, name.replace("\\", "/")) if os.path.isfile(folder / n)), None)


def with_slashes(dataset: Dataset) -> Dataset:
    r"""The data set with / for \ in the names of images whose files are found only so; a note counts them."""
    root, changed, images = dataset.root, [], []
    for record in dataset.images:
        name = found_name(root, record.file_name) if root is not None and "\\" in record.file_name else None
        if name not in (None, record.file_name):
            changed.append(record.file_name)
            record = replace(record, file_name=str(name))
        images.append(record)
    if not changed:
        return dataset
    notes = sentence(len(changed), "image name{s} with \\ between folders read with /, as the files lie", changed)
    return replace(dataset, images=tuple(images), notes=(*dataset.notes, *notes))


def inner_names(dataset: Dataset) -> list[str]:
    """A name for each image inside a new images folder, with / between folders, all distinct.

    It is the record's file name without a leading "images/" that all of them have; of a name that is absolute or leaves
    the folder (..) only the last part is kept. Raises DataError where two images get one name,
    ignoring case.
    """
    names = [_inside(r.file_name) for r in dataset.images]
    if all(name.startswith("images/") for name in names):
        names = [name.removeprefix("images/") for name in names]
    require_distinct(dataset, names)
    return names


def require_distinct(dataset: Dataset, names: Sequence[str], what: str = "the name") -> None:
    """Raises DataError where two images of the data set would share one of `names` (in the order of the images)."""
    owner: dict[str, str] = {}
    for name, record in zip(names, dataset.images, strict=True):
        if name.casefold() in owner:
            raise DataError(
                f"{dataset.source}: the images '{owner[name.casefold()]}' and '{record.file_name}' would both get "
                f"{what} '{name}' in the new layout. Rename or remove one of them, in the folder and the annotations."
            )
        owner[name.casefold()] = record.file_name


def copy_images(dataset: Dataset, folder: Path, names: Sequence[str]) -> None:
    """Copy every image file into `folder` under its new name, bytes and time unchanged.

    Raises DataError, naming the file, where one cannot be copied.
    """
    for i, name in enumerate(names):
        source, target = dataset.path(i), folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copy2(source, target)
        except OSError as error:
            raise DataError(f"{source}: cannot be copied to {target} ({error.strerror or error}).") from error


def size_of(path: Path, asked_by: Path, faults: Faults = None) -> Size:
    """(H, W) of an image from its header, upright. Raises DataError that names both files.

    Where there is a list of faults, an image that cannot be read is 0 x 0: those who look at the images find it.
    """
    try:
        return media.read_size(path)
    except ImageError as error:
        if faults is not None:
            return 0, 0
        raise DataError(f"{asked_by}: its image cannot be read: {error}") from error


def relative_names(paths: Sequence[Path], folder: Path) -> list[str]:
    """The paths relative to `folder`, with /; one that lies outside it stays absolute."""
    base = Path(os.path.abspath(folder))
    full = [Path(os.path.abspath(path)) for path in paths]
    return [(p.relative_to(base) if p.is_relative_to(base) else p).as_posix() for p in full]


def _inside(name: str) -> str:
    path = PurePosixPath(name)
    parts = [part for part in path.parts if part != "."]
    if path.is_absolute() or ".." in parts or PureWindowsPath(name).is_absolute() or not parts:
        return PureWindowsPath(name).name or path.name
    return "/".join(parts)
