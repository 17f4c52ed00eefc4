"""The PNG files of COCO panoptic: the id of a segment is R + 256 G + 65536 B; 0 is void, which belongs to none.

Letters: H W image, S segments of an image.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from maskwright import media
from maskwright.data.dataset import ImageRecord
from maskwright.errors import DataError, ImageError
from maskwright.types import Classes, IntArray, Panoptic, Segment, Size
from maskwright.wording import of_size

MOST_ID = (1 << 24) - 1
"""What three bytes hold."""


def read_ids(path: Path, size: Size, image: str) -> NDArray[np.int32]:
    """(H, W) the id of each pixel's segment. Colours of a palette count; opacity does not.

    size, image: of the image that the map belongs to, and its name. Raises DataError, naming the file, for a map of
    another size, grey or deep files, stacks, and what cannot be read.
    """
    try:
        with media.opened(path) as file:
            if file.pages != 1:
                raise DataError(f"{path}: expected one panoptic map, found a stack of {file.pages} images.")
            pixels = _colours(path, file.decode())
    except ImageError as error:
        raise DataError(str(error)) from error
    if pixels.shape[:2] != size:
        raise DataError(
            f"{path}: the panoptic map is {of_size(pixels.shape[:2])}, its image {image} is {of_size(size)}. They must "
            f"be of one size: was one of them resized or turned?"
        )
    ids: NDArray[np.int32] = pixels[..., 2].astype(np.int32)
    for channel in (1, 0):
        ids <<= 8
        ids |= pixels[..., channel]
    return ids


def _colours(path: Path, stored: media.Stored) -> NDArray[np.uint8]:
    """(H, W, 3)."""
    image = stored.image
    if image is None or image.mode not in ("RGB", "RGBA", "P"):
        kind = "deeper values" if image is None else f"the mode {image.mode}"
        raise DataError(
            f"{path}: expected a colour PNG of 8 bits a channel, whose colours are the ids (R + 256 G + 65536 B), "
            f"found {kind}. Write the ids as colours."
        )
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


@dataclass(frozen=True, slots=True)
class MapFile:
    """The map of one image. table: (S, 3) the id, the label and whether it is a crowd, of each segment."""

    path: Path
    table: IntArray


@dataclass(frozen=True)
class PanopticMaps:
    """Reads the map of an image when it is asked for. files: by the id of the image.

    classes, things: as `Panoptic` has them, things first.
    """

    files: Mapping[int, MapFile]
    classes: Classes
    things: tuple[bool, ...]

    def __call__(self, record: ImageRecord) -> Panoptic | None:
        """The segments of an image, None where it has no map. Raises DataError, naming the file, for a bad one."""
        file = self.files.get(record.id)
        if file is None:
            return None
        ids = read_ids(file.path, record.size, record.file_name)
        segments = tuple(Segment(number, label, crowd=bool(crowd)) for number, label, crowd in file.table.tolist())
        try:
            return Panoptic(ids, segments, self.classes, self.things)
        except DataError as error:
            raise DataError(f"{file.path}: {error}") from error

    def semantic(self, record: ImageRecord) -> IntArray | None:
        """The classes of its pixels, as `Dataset.semantic` has them, with all things as the first."""
        found = self(record)
        return None if found is None else found.semantic()
