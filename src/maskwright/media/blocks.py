"""The strips and tiles of a TIFF page, of which a window needs a few: a small TIFF of these alone.

What decodes whole pages decodes it, whatever their compression and colours are.

Letters: H W page, in pixels as they are stored. A block is a strip or a tile.
"""

import io
import itertools
import math
import struct
from dataclasses import dataclass
from functools import cached_property

from maskwright.media import tiff
from maskwright.media.stored import ImageFile, Stored
from maskwright.types import Size

MOST = 1 << 26
"""Pixels of the largest block that is decoded as a part of a page."""

_KEPT = (258, 259, 262, 266, 277, 284, 292, 293, 317, 320, 338, 339, 347, 529, 530, 531, 532)
"""Tags that say how pixels are coded."""

_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}
_LONG, _PLAIN, _YCBCR = 4, 1, 6


@dataclass(frozen=True)
class Blocks:
    """The blocks of a page. name: of its file, for messages."""

    page: tiff.Page
    name: str

    @property
    def size(self) -> Size:
        """(H, W)."""
        return self.page.size

    @cached_property
    def tiled(self) -> bool:
        """Whether they are tiles, not strips over the whole width."""
        return tiff.TILES in self.page.entries

    @cached_property
    def shape(self) -> Size:
        """(height, width) of a block."""
        return tiff.block_shape(self.page)

    @cached_property
    def grid(self) -> tuple[int, int, int]:
        """How many there are: of channels that are stored apart, down, across."""
        (height, width), (tall, wide) = self.size, self.shape
        apart = self.page.value(tiff.PLANES, 1) == 2
        return self.page.channels if apart else 1, -(-height // tall), -(-width // wide)

    @cached_property
    def places(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Where each is in the file, and its bytes. TiffError where some are missing."""
        return tiff.places(self.page, math.prod(self.grid))

    @property
    def _rows(self) -> bool:
        """Whether single rows can be read, as those of strips that are not compressed."""
        plain = self.page.value(259, 1) == _PLAIN and self.page.value(262, 1) != _YCBCR
        return plain and not self.tiled

    @property
    def apart(self) -> bool:
        """Whether a part can be decoded without the rest."""
        small = self._rows or math.prod(self.shape) <= MOST
        return small and (self._rows or len(self.places[1]) > 0) and self.page.value(259, 1) != 6  # JPEG of TIFF 6.0

    def decode(self, rows: tuple[int, int], columns: tuple[int, int]) -> tuple[Stored, Size]:
        """Pixels that contain these rows and columns (first, end), not turned, and the place (top, left) of the first.

        Raises ImageError for damaged ones.
        """
        if self._rows:
            data, size, corner = self._strip(rows), (rows[1] - rows[0], self.size[1]), (rows[0], 0)
        else:
            data, size, corner = self._some(rows, columns)
        stored = ImageFile(io.BytesIO(data), self.name).decode(1, None)  # not closed: the pixels are the file's
        assert stored.size == size
        return stored, corner

    def _some(self, rows: tuple[int, int], columns: tuple[int, int]) -> tuple[bytes, Size, Size]:
        (height, _), (tall, wide), (planes, down, across) = self.size, self.shape, self.grid
        first, last = rows[0] // tall, -(-rows[1] // tall)
        left, right = columns[0] // wide, -(-columns[1] // wide)
        places, counts = self.places
        numbers = [(p * down + y) * across + x for p in range(planes) for y in range(first, last)
                   for x in range(left, right)]  # fmt: skip
        blocks = [tiff.bytes_at(self.page.stream, places[k], counts[k]) for k in numbers]
        end = last * tall if self.tiled else min(last * tall, height)
        size = end - first * tall, (right - left) * wide if self.tiled else self.size[1]
        return self._file(blocks, size, min(tall, size[0])), size, (first * tall, left * wide)

    def _strip(self, rows: tuple[int, int]) -> bytes:
        """These rows as one strip of each plane, of strips that are not compressed."""
        (_, width), tall, (planes, down, _) = self.size, self.shape[0], self.grid
        bits = self.page.values(258) or (1,)
        each = bits[0] * self.page.channels if planes == 1 else bits[0]
        pitch, parts = -(-width * each // 8), []
        for p in range(planes):
            part, y = bytearray(), rows[0]
            while y < rows[1]:
                end = min(rows[1], (y // tall + 1) * tall)
                place = self.places[0][p * down + y // tall] + y % tall * pitch
                part += tiff.bytes_at(self.page.stream, place, (end - y) * pitch)
                y = end
            parts.append(bytes(part))
        return self._file(parts, (rows[1] - rows[0], width), rows[1] - rows[0])

    def _file(self, blocks: list[bytes], size: Size, tall: int) -> bytes:
        """A TIFF of `size` of these blocks, coded as those of the page."""
        order, tags = self.page.order, {tag: value for tag in _KEPT if (value := self._kept(tag)) is not None}
        long = lambda *values: (_LONG, len(values), struct.pack(f"{order}{len(values)}L", *values))  # noqa: E731
        tags |= {256: long(size[1]), 257: long(size[0])}
        names = (tiff.TILES, tiff.TILE_BYTES) if self.tiled else (tiff.STRIPS, tiff.STRIP_BYTES)
        if self.tiled:
            tags |= {tiff.TILE_WIDTH: long(self.shape[1]), tiff.TILE_HEIGHT: long(self.shape[0])}
        else:
            tags |= {tiff.ROWS: long(tall)}
        tags |= {names[0]: long(*[0] * len(blocks)), names[1]: long(*map(len, blocks))}
        begin = 8 + 2 + 12 * len(tags) + 4
        begin += sum(len(data) + len(data) % 2 for _, _, data in tags.values() if len(data) > 4)
        tags[names[0]] = long(*itertools.accumulate(map(len, blocks[:-1]), initial=begin))
        return _classic(order, tags) + b"".join(blocks)

    def _kept(self, tag: int) -> tuple[int, int, bytes] | None:
        """Type, count and values of a tag; None where it is missing."""
        kind, count, raw = self.page.entries.get(tag, (0, 0, b""))
        size = _BYTES.get(kind, 0) * count
        if size > len(raw):
            place = struct.unpack(f"{self.page.order}{'Q' if len(raw) == 8 else 'L'}", raw)[0]
            raw = tiff.bytes_at(self.page.stream, place, size)
        return (kind, count, raw[:size]) if size else None


def _classic(order: str, tags: dict[int, tuple[int, int, bytes]]) -> bytes:
    """A header, a directory and its values."""
    head = struct.pack(f"{order}2sHL", b"II" if order == "<" else b"MM", 42, 8)
    entries, values, place = b"", b"", 8 + 2 + 12 * len(tags) + 4
    for tag, (kind, count, data) in sorted(tags.items()):
        if len(data) > 4:
            raw = struct.pack(f"{order}L", place + len(values))
            values += data + bytes(len(data) % 2)
        else:
            raw = data.ljust(4, b"\0")
        entries += struct.pack(f"{order}HHL4s", tag, kind, count, raw)
    return head + struct.pack(f"{order}H", len(tags)) + entries + bytes(4) + values
