"""Images in and out: `images` reads and writes them, `sources` finds them. Import all of it from here."""

from maskwright.media.images import (
    MAX_PIXELS,
    as_image,
    load_pixels,
    open_image,
    orientation,
    read_image,
    read_size,
    read_values,
    write_image,
)
from maskwright.media.sources import SUFFIXES, find_images

__all__ = [
    "MAX_PIXELS",
    "SUFFIXES",
    "as_image",
    "find_images",
    "load_pixels",
    "open_image",
    "orientation",
    "read_image",
    "read_size",
    "read_values",
    "write_image",
]
