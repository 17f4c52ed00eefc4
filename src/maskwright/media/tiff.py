"""TIFF: the pages of a file, and the values of those that Pillow has no form for, with more than 8 bits a channel.

Pillow knows a few combinations of depth, sign and channels. Here the tags are read, each strip or tile is decoded
(Deflate; other compressions by Pillow's libtiff, as bytes), and NumPy makes numbers of it: whole numbers and floats of
8 to 64 bits, both byte orders, channels together or apart.

Letters: H W image, S channels. A block is a strip or a tile.
"""

import io
import itertools
import math
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import TiffImagePlugin

MOST_PAGES = 65536
_TYPES = {1: "B", 3: "H", 4: "L", 6: "b", 8: "h", 9: "l", 13: "L", 16: "Q", 17: "q", 18: "Q"}
_NUMBERS = {1: "u", 2: "i", 3: "f", 4: "u"}  # sample format to NumPy's kind
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _COLOURS, _ORDER = 256, 257, 258, 259, 262, 266
STRIPS, _CHANNELS, ROWS, STRIP_BYTES, PLANES, _PREDICTOR = 273, 277, 278, 279, 284, 317
TILE_WIDTH, TILE_HEIGHT, TILES, TILE_BYTES, _EXTRA, _FORMAT = 322, 323, 324, 325, 338, 339
_PLAIN, _DEFLATE = (1,), (8, 32946)
_BYTEWISE = (*_PLAIN, *_DEFLATE, 5, 32773, 34925, 50000)  # also LZW, PackBits, LZMA, Zstandard
_PIECE, _MOST_BLOCKS = 1 << 20, 1 << 20  # bytes unpacked at once; strips and tiles that are looked at
_REVERSED = bytes(int(f"{i:08b}"[::-1], 2) for i in range(256))


class TiffError(Exception):
    """The file is damaged, cut off or of an unknown variety."""


@dataclass(frozen=True)
class Page:
    """A directory of the file. index: its number in the chain, from 0. order: "<" or ">". entries: (type, count, raw
    value) by tag."""

    stream: IO[bytes]
    index: int
    order: str
    entries: dict[int, tuple[int, int, bytes]]

    def values(self, tag: int, most: int = 16) -> tuple[int, ...]:
        """The whole numbers of a tag, at most `most`; none where it is missing or holds something else."""
        kind, count, raw = self.entries.get(tag, (0, 0, b""))
        if kind not in _TYPES:
            return ()
        form = struct.Struct(f"{self.order}{min(count, most)}{_TYPES[kind]}")
        if struct.calcsize(self.order + _TYPES[kind]) * count > len(raw):
            place = struct.unpack(f"{self.order}{'Q' if len(raw) == 8 else 'L'}", raw)[0]
            raw = bytes_at(self.stream, place, form.size)
        if len(raw) < form.size:
            raise TiffError(f"the values of tag {tag} lie beyond its end")
        return form.unpack(raw[: form.size])

    def value(self, tag: int, default: int) -> int:
        """The first number of a tag."""
        found = self.values(tag, 1)
        return found[0] if found else default

    def text(self, tag: int, most: int) -> bytes:
        """The first bytes of a text; none where it is missing."""
        kind, count, raw = self.entries.get(tag, (0, 0, b""))
        if kind != 2 or count <= len(raw):
            return raw[: min(count, most)] if kind == 2 else b""
        return bytes_at(self.stream, int.from_bytes(raw, "little" if self.order == "<" else "big"), min(count, most))

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) as stored."""
        return self.value(_HEIGHT, 0), self.value(_WIDTH, 0)

    @property
    def turn(self) -> int:
        """The orientation tag; 1 where it is missing or none of the eight."""
        turn = self.value(274, 1)
        return turn if 1 <= turn <= 8 else 1

    @property
    def is_copy(self) -> bool:
        """Whether it is a smaller copy or a transparency mask of another page; of a slide scanner's (Aperio) file also
        the image of the label and of the whole slide."""
        if bool(self.value(254, 0) & 5) or self.value(255, 1) == 2:
            return True
        return self.index > 0 and self.text(270, 6) == b"Aperio"

    @property
    def inverted(self) -> bool:
        """Whether 0 is white."""
        return self.value(_COLOURS, 1) == 0

    @cached_property
    def dtype(self) -> np.dtype[Any] | None:
        """The numbers of a channel, in the file's byte order; None where NumPy has none."""
        bits, kinds = set(self.values(_BITS)) or {1}, set(self.values(_FORMAT)) or {1}
        if len(bits) != 1 or len(kinds) != 1:
            return None
        (depth,), kind = bits, _NUMBERS.get(kinds.pop())
        known = {"u": (8, 16, 32, 64), "i": (8, 16, 32, 64), "f": (16, 32, 64)}
        return np.dtype(f"{self.order}{kind}{depth // 8}") if kind and depth in known[kind] else None

    @property
    def channels(self) -> int:
        return self.value(_CHANNELS, 1)

    @property
    def alpha(self) -> bool:
        """Whether the last channel is opacity."""
        return any(v in (1, 2) for v in self.values(_EXTRA))

    @property
    def premultiplied(self) -> bool:
        """Whether the colours are multiplied by the opacity."""
        return 1 in self.values(_EXTRA)

    @property
    def big(self) -> bool:
        """Whether it is of a BigTIFF."""
        return any(len(raw) == 8 for _, _, raw in self.entries.values())

    @property
    def ours(self) -> bool:
        """Whether `read` is to read it, not Pillow: grey and RGB of more than 8 bits, and channels without a colour."""
        colours = self.value(_COLOURS, 1)
        if self.dtype is None or colours not in (0, 1, 2) or self.value(_COMPRESSION, 1) not in _BYTEWISE:
            return False
        plain = colours > 1 or self.channels == 1 or self.alpha
        return self.dtype.str[1:] != "u1" or not plain or (self.big and self.order == ">")  # which Pillow misreads


def bytes_at(stream: IO[bytes], place: int, size: int) -> bytes:
    """Bytes of the file from a place on, as many as are there."""
    try:
        stream.seek(place)
        return stream.read(size)
    except (OSError, OverflowError, ValueError):  # a place that no file can have
        return b""


def pages(stream: IO[bytes]) -> Iterator[Page]:
    """The pages of a file in order. Raises TiffError where its directories are damaged."""
    stream.seek(0)
    head = stream.read(16)
    order = "<" if head[:2] == b"II" else ">"
    try:
        big = struct.unpack(f"{order}H", head[2:4])[0] == 43
        (place,) = struct.unpack(f"{order}Q", head[8:16]) if big else struct.unpack(f"{order}L", head[4:8])
        yield from _chain(stream, order, big, place)
    except (struct.error, OverflowError, OSError, ValueError) as error:
        raise TiffError(f"its directories are damaged or cut off ({error})") from error


def _chain(stream: IO[bytes], order: str, big: bool, place: int) -> Iterator[Page]:
    """The directories from the one at a place on."""
    try:
        seen: set[int] = set()
        for index in itertools.count():
            if place in seen or not place:
                return
            if index == MOST_PAGES:
                raise TiffError(f"it has more than {MOST_PAGES} pages")
            seen.add(place)
            stream.seek(place)
            (count,) = struct.unpack(f"{order}{'Q' if big else 'H'}", stream.read(8 if big else 2))
            width = 20 if big else 12
            if count > 65535:
                raise TiffError(f"the directory of page {index + 1} has {count} entries")
            block = stream.read(count * width + (8 if big else 4))
            form = struct.Struct(f"{order}HH{'Q8s' if big else 'L4s'}")
            rows = [form.unpack_from(block, k * width) for k in range(count)]
            (place,) = struct.unpack_from(f"{order}{'Q' if big else 'L'}", block, count * width)
            yield Page(stream, index, order, {tag: (kind, n, raw) for tag, kind, n, raw in reversed(rows)})
    except (struct.error, OverflowError, OSError, ValueError) as error:
        raise TiffError(f"its directories are damaged or cut off ({error})") from error


def copies(page: Page) -> list[Page]:
    """The smaller copies of a page of which it states the places itself (SubIFDs)."""
    found = []
    for place in page.values(330, MOST_PAGES):
        found += list(itertools.islice(_chain(page.stream, page.order, page.big, place), 1))
    return found


def read(page: Page) -> NDArray[Any]:
    """The stored values: (H, W) or (H, W, S), in the machine's byte order, not turned. Raises TiffError."""
    (height, width), channels, dtype = page.size, page.channels, page.dtype
    assert dtype is not None
    apart = page.value(PLANES, 1) == 2 and channels > 1
    out = np.zeros((height, width, channels), dtype.newbyteorder("="))
    planes: Sequence[NDArray[Any]] = [out[:, :, k : k + 1] for k in range(channels)] if apart else [out]
    tiled = TILES in page.entries
    rows, across = block_shape(page)
    if rows * across * out.itemsize > 2 * out.nbytes + 2**24:
        raise TiffError(f"its strips or tiles of {rows}x{across} pixels are larger than the image")
    need = -(-height // rows) * -(-width // across) * len(planes)
    starts, counts = places(page, need)
    corners = itertools.product(range(0, height, rows), range(0, width, across))
    for k, (plane, (y, x)) in enumerate(itertools.product(planes, corners)):
        tall = rows if tiled else min(rows, height - y)
        shape = tall, across, plane.shape[2]
        block = _block(page, starts[k], counts[k] if counts else None, shape)
        part = plane[y : y + rows, x : x + across]
        part[:] = block[: part.shape[0], : part.shape[1]]
    return out[:, :, 0] if channels == 1 else out


def block_shape(page: Page) -> tuple[int, int]:
    """(height, width) of the strips or tiles. Raises TiffError where they have none."""
    height, width = page.size
    tiled = TILES in page.entries
    rows = page.value(TILE_HEIGHT, 0) if tiled else min(page.value(ROWS, height), height)
    across = page.value(TILE_WIDTH, 0) if tiled else width
    if across < 1 or rows < 1:
        raise TiffError("it has no height or width of its strips or tiles")
    return rows, across


def places(page: Page, need: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Where the strips or tiles are, and how many bytes each has, which may be missing."""
    tags = (TILES, TILE_BYTES) if TILES in page.entries else (STRIPS, STRIP_BYTES)
    starts, counts = (page.values(tag, need) for tag in tags)
    if len(starts) < need or 0 < len(counts) < need:
        raise TiffError(f"it has {len(starts)} of {need} strips or tiles")
    return starts, counts


def check(page: Page) -> None:
    """Raises TiffError where a strip or tile that Deflate packed is not what its checksum says.

    libtiff does not look at it where the damaged bytes unpack to more than is needed.
    """
    if page.value(_COMPRESSION, 1) not in _DEFLATE or page.value(_ORDER, 1) == 2:
        return
    tags = (TILES, TILE_BYTES) if TILES in page.entries else (STRIPS, STRIP_BYTES)
    need = min(count for _, count, _ in (page.entries.get(tag, (0, 0, b"")) for tag in tags))
    for place, count in zip(*places(page, min(need, _MOST_BLOCKS)), strict=False):
        unpacker, data = zlib.decompressobj(), bytes_at(page.stream, place, count)
        try:
            while data and not unpacker.eof:
                unpacker.decompress(data, _PIECE)
                data = unpacker.unconsumed_tail
        except zlib.error as error:
            raise TiffError(f"a strip or tile cannot be decompressed ({error})") from error


def _block(page: Page, place: int, count: int | None, shape: tuple[int, int, int]) -> NDArray[Any]:
    """One strip or tile (h, w, S), its compression and predictor undone."""
    dtype, kind, predictor = page.dtype, page.value(_COMPRESSION, 1), page.value(_PREDICTOR, 1)
    assert dtype is not None
    size = math.prod(shape) * dtype.itemsize
    most = size if kind in _PLAIN else 2 * size + 1024  # no compression doubles what it cannot shrink
    data = bytes_at(page.stream, place, most if count is None else min(count, most))
    if page.value(_ORDER, 1) == 2:
        data = data.translate(_REVERSED)
    data = _unpacked(data, kind, shape[1] * shape[2] * dtype.itemsize, shape[0])
    if len(data) < size:
        raise TiffError(f"{len(data)} of {size} bytes of a strip or tile are there")
    flat = np.frombuffer(data, np.uint8, size)
    if kind in _PLAIN or predictor == 1:
        return flat.view(dtype).reshape(shape)
    if predictor == 2:
        return flat.view(dtype).reshape(shape).cumsum(axis=1, dtype=dtype.newbyteorder("="))
    if predictor == 3 and dtype.kind == "f":
        rows, across, channels = shape
        sums = flat.reshape(rows, -1, channels).cumsum(axis=1, dtype=np.uint8)
        planes = sums.reshape(rows, dtype.itemsize, across * channels).transpose(0, 2, 1)
        return np.ascontiguousarray(planes).view(f">f{dtype.itemsize}").reshape(shape)
    raise TiffError(f"its predictor {predictor} is not known for {dtype.name}")


def _unpacked(data: bytes, kind: int, row: int, rows: int) -> bytes:
    """A block's bytes without their compression; too few where they are cut off."""
    if kind in _PLAIN:
        return data
    try:
        if kind in _DEFLATE:
            unpacker = zlib.decompressobj()
            found = unpacker.decompress(data, row * rows)
            unpacker.decompress(unpacker.unconsumed_tail, row * rows)  # to the checksum, also behind rows that pad it
            return found
        with TiffImagePlugin.TiffImageFile(io.BytesIO(_wrapped(data, kind, row, rows)), "") as image:
            return image.tobytes()
    except MemoryError:
        raise
    except Exception as error:  # libtiff and zlib fail in their own ways
        raise TiffError(f"a strip or tile cannot be decompressed ({error})") from error


def _wrapped(data: bytes, kind: int, row: int, rows: int) -> bytes:
    """A TIFF of 8-bit grey with these compressed bytes as its only strip."""
    entries = [(_WIDTH, row), (_HEIGHT, rows), (_BITS, 8), (_COMPRESSION, kind), (_COLOURS, 1), (STRIPS, 0)]
    entries += [(_CHANNELS, 1), (ROWS, rows), (STRIP_BYTES, len(data))]
    begin = 8 + 2 + 12 * len(entries) + 4
    table = b"".join(struct.pack("<HHLL", tag, 4, 1, begin if tag == STRIPS else v) for tag, v in entries)
    return struct.pack("<2sHLH", b"II", 42, 8, len(entries)) + table + bytes(4) + data
