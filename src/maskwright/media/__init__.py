"""Images in and out. Import all of it from here.

`images` reads and writes them, `sources` finds them, `stored` opens files and pages, `tiff` decodes what Pillow cannot,
`intensity` brings deep values to 8 bits.
"""

from maskwright.media.images import (
    as_image,
    chosen_intensity,
    page_count,
    read_image,
    read_size,
    read_values,
    write_image,
)
from maskwright.media.intensity import PERCENTILES, Readings, rgb_of
from maskwright.media.sources import SUFFIXES, find_images
from maskwright.media.stored import MAX_PIXELS, ImageFile, Stored, opened

__all__ = [
    "MAX_PIXELS",
    "PERCENTILES",
    "SUFFIXES",
    "ImageFile",
    "Readings",
    "Stored",
    "as_image",
    "chosen_intensity",
    "find_images",
    "opened",
    "page_count",
    "read_image",
    "read_size",
    "read_values",
    "rgb_of",
    "write_image",
]
