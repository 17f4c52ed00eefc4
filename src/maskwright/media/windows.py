"""An image file that is read window by window, so that memory follows the window: TIFF in tiles or strips.

Letters: H W image, upright; C channels.
"""

import math
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Self

import numpy as np
from PIL import Image

from maskwright import web
from maskwright.errors import ImageError
from maskwright.media import tiff
from maskwright.media.blocks import Blocks
from maskwright.media.intensity import Readings, of_sample, rgb_of
from maskwright.media.sources import Source
from maskwright.media.stored import ImageFile, Stored, opened, turned
from maskwright.types import FULL, ImageArray, Intensity, Size

SAMPLE = 1 << 22
"""Pixels of the reduced reading that percentiles are of, at least where there are as many."""

OVERVIEW = 4096
"""Longest side of the overview, in pixels."""


class Windows:
    """A page of an image file whose pixels are read in windows; upright uint8 RGB, as `media.read_image` gives them.

    source: the file. size: (H, W). reduction: pixels of the image for one of `overview`, (h, w, 3), which has what was
    read so far and is black elsewhere. page: from 1. Raises ImageError where a part is damaged or lies outside. Close
    it when it is no longer needed; it is a context manager.
    """

    def __init__(
        self,
        file: ImageFile,
        source: Source,
        page: int,
        intensity: Intensity,
        told: Readings | None,
        opened: ExitStack,
    ) -> None:
        self.source, self._file, self._turn, self._opened = source, file, file.turn(page), opened
        self._blocks = Blocks(file.directory(page), file.name)
        self.size = file.size(page)
        self.reduction = max(1, math.ceil(max(self.size) / OVERVIEW))
        self.overview: ImageArray = np.zeros((*(-(-side // self.reduction) for side in self.size), 3), np.uint8)
        self._band: tuple[tuple[int, int], ImageArray] | None = None
        with file.damage("pixels"):
            self._intensity = self._measured(intensity, told)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *args: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._opened.close()

    def read(self, top: int, left: int, size: Size) -> ImageArray:
        """The pixels of a window, (h, w, 3)."""
        bottom, right = top + size[0], left + size[1]
        if not (0 <= top < bottom <= self.size[0] and 0 <= left < right <= self.size[1]):
            raise ImageError(
                f"{self._file.name}: the window of {size[0]}x{size[1]} pixels at ({top}, {left}) leaves the image of "
                f"{self.size[0]}x{self.size[1]}."
            )
        with self._file.damage("pixels"):
            rows, columns = self._stored_window((top, bottom), (left, right))
            pixels = np.ascontiguousarray(turned(self._rgb(rows, columns), self._turn))
        self._see(pixels, top, left)
        return pixels

    def look(self) -> ImageArray:
        """The overview of the whole image, for which all of it is read."""
        side = max(OVERVIEW // 4, 1)
        for top in range(0, self.size[0], side):
            for left in range(0, self.size[1], side):
                self.read(top, left, (min(side, self.size[0] - top), min(side, self.size[1] - left)))
        return self.overview

    def _stored_window(self, rows: Size, columns: Size) -> tuple[Size, Size]:
        """Rows and columns (first, end) of the stored page that a window of the upright one shows."""
        height, width = self.size
        if self._turn in (2, 3, 6, 7):
            columns = width - columns[1], width - columns[0]
        if self._turn in (3, 4, 7, 8):
            rows = height - rows[1], height - rows[0]
        return (columns, rows) if self._turn >= 5 else (rows, columns)

    def _rgb(self, rows: Size, columns: Size) -> ImageArray:
        """Stored rows and columns as RGB. Of strips, whole rows are kept, for the next window beside this one."""
        if self._blocks.tiled:
            stored, (top, left) = self._blocks.decode(rows, columns)
            pixels = rgb_of(stored, self._intensity, self._file.name)
            return pixels[rows[0] - top : rows[1] - top, columns[0] - left : columns[1] - left]
        if self._band is None or self._band[0] != rows:
            self._band = None
            stored, (top, _) = self._blocks.decode(rows, columns)
            pixels = rgb_of(stored, self._intensity, self._file.name)
            self._band = rows, pixels[rows[0] - top : rows[1] - top]
        return self._band[1][:, columns[0] : columns[1]]

    def _see(self, pixels: ImageArray, top: int, left: int) -> None:
        """Put a window into the overview."""
        step = self.reduction
        y, x = -(-top // step), -(-left // step)
        part = pixels[y * step - top :, x * step - left :]
        if part.size:
            small = np.asarray(Image.fromarray(part).reduce(step))
            self.overview[y : y + small.shape[0], x : x + small.shape[1]] = small

    # ---- intensity ----------------------------------------------------------------------------------------------

    def _measured(self, intensity: Intensity, told: Readings | None) -> Intensity:
        """The same for every window: of percentiles the values that they are, in a reduced reading.

        told: gets what is said of the image.
        """
        first, _ = self._blocks.decode((0, 1), (0, 1))
        if first.values is None or first.values.dtype == np.uint8:
            rgb_of(first, intensity, self._file.name, told)
            return intensity
        sample = self._sample()
        rgb_of(sample, intensity, self._file.name, told)
        if told is not None and intensity.rule == "percentiles" and sample.size != self._blocks.size:
            told.reduced.append(self._file.name)
        return of_sample(sample, intensity)

    def _sample(self) -> Stored:
        """A reduced copy of all pixels: the smallest of a pyramid that is large enough, else every k-th of the page."""
        copies = [Blocks(page, self._file.name) for page in self._copies()]
        large = [copy for copy in copies if math.prod(copy.size) >= SAMPLE // 4 and copy.apart]
        blocks = min(large, key=lambda copy: math.prod(copy.size), default=self._blocks)
        step = max(1, int(math.sqrt(math.prod(blocks.size) / SAMPLE)))
        parts, first = [], None
        for rows in _bands(blocks.size[0], step * max(1, SAMPLE // max(1, blocks.size[1] * step))):
            stored, (top, _) = blocks.decode(rows, (0, blocks.size[1]))
            assert stored.values is not None
            parts.append(stored.values[rows[0] - top : rows[1] - top : step, : blocks.size[1] : step])
            first = first or stored
        assert first is not None
        return replace(first, values=np.concatenate(parts))

    def _copies(self) -> Iterator[tiff.Page]:
        """Smaller copies of the page with its numbers: in the chain behind the only page, or that the page names."""
        own = self._blocks.page
        every = [*tiff.copies(own), *(page for page in tiff.pages(own.stream) if page.index and page.is_copy)]
        for page in every if self._file.pages == 1 else tiff.copies(own):
            (height, width), (h, w) = own.size, page.size
            alike = (page.dtype, page.channels, page.inverted) == (own.dtype, own.channels, own.inverted)
            if alike and 0 < h < height and abs(width * h / height - w) <= max(2, 0.02 * w):
                yield page


def windows_of(
    source: object,
    wanted: Callable[[Size], bool],
    *,
    intensity: Intensity | None = None,
    page: int | None = None,
    told: Readings | None = None,
) -> Windows | None:
    """The image of a local file, to be read in windows; None where it is not wanted at its size (H, W), or has to be
    decoded as a whole: what is no TIFF, and TIFFs that are one compressed strip.

    page: None is the first, and the others are told. intensity, told: as for `media.read_image`. Raises ImageError for
    what is no image.
    """
    if not isinstance(source, (str, os.PathLike)) or web.is_address(os.fspath(source)):
        return None
    with ExitStack() as stack:
        file = stack.enter_context(opened(source))
        if file.kind != "TIFF" or not wanted(file.size(page or 1)):
            return None
        with file.damage("header"):
            if not Blocks(file.directory(page or 1), file.name).apart:
                return None
        if told is not None:
            (told.look if page is None else told.look_beside)(file)
        return Windows(file, source, page or 1, intensity or FULL, told, stack.pop_all())


def _bands(height: int, rows: int) -> Iterator[Size]:
    """Rows (first, end) of an image, some at a time."""
    for top in range(0, height, rows):
        yield top, min(top + rows, height)
