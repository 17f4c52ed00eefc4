"""The two layouts of a place, the folder of the images, and text files."""

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from maskwright.atomic import new_folder
from maskwright.data.dataset import Dataset
from maskwright.data.formats.shared.fields import json_keys
from maskwright.data.formats.shared.image_files import copy_images, found_name, inner_names
from maskwright.errors import ConfigError


@dataclass(frozen=True)
class FileOrFolder:
    """The layout of a format that is one annotation file, alone or in a folder with the images.

    annotations: the file's name in such a folder. images: the name of the images' folder in it.
    """

    annotations: str
    images: str

    def file(self, place: Path) -> Path:
        """The annotation file of a place that is the file or its folder."""
        return place / self.annotations if place.is_dir() else place

    def has_keys(self, place: Path, keys: Set[str], without: str = "") -> bool:
        """Whether the file of a place is JSON with all of `keys`, and not the key `without`; found without parsing."""
        path = self.file(place)
        return path.suffix.lower() == ".json" and json_keys(path, {*keys, without}) == keys

    def save(
        self, place: Path, dataset: Dataset, copy: bool, write: Callable[[Path, list[str]], tuple[str, ...]]
    ) -> tuple[str, ...]:
        """Write the file alone or the folder; `write` gets the path of the file and the images' names in it.

        copy: with the image files. Raises ConfigError where a single file is to hold images, FileExistsError where
        the place is taken.
        """
        suffix = Path(self.annotations).suffix
        alone = place.suffix.lower() == suffix
        if alone and copy:
            kind = suffix[1:].upper()
            raise ConfigError(f"{place}: one {kind} file holds no images. Name a folder, or leave the images out.")
        if alone and place.exists():
            raise FileExistsError(f"{place} exists already. Nothing is overwritten: name a new file, or remove it.")
        if copy:
            dataset.require_files()
        names = inner_names(dataset) if copy else [r.file_name for r in dataset.images]
        if alone:
            return write(place, names)
        with new_folder(place) as folder:
            lost = write(folder / self.annotations, names)
            if copy:
                copy_images(dataset, folder / self.images, names)
        return lost


def folder_of_first(folders: Sequence[Path], first: str) -> Path:
    """The first of the folders in which the file `first` lies, else the first folder."""
    return next((folder for folder in folders if first and found_name(folder, first)), folders[0])


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file with \\n line ends; missing folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")
