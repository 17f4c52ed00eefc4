"""What Pillow's PNG and JPEG readers do not tell: damaged or missing pixels, EXIF tags behind the pixels."""

import io
import struct
import zlib
from collections.abc import Iterator
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, JpegImagePlugin


def _chunks(stream: IO[bytes]) -> Iterator[tuple[bytes, int, int]]:
    """Name, place and length of each chunk of a PNG; the stream stands where it stood after each."""
    place, stood = 8, stream.tell()
    end = stream.seek(0, io.SEEK_END)
    while True:
        stream.seek(place)
        head = stream.read(8)
        stream.seek(stood)
        if len(head) < 8:
            return
        length = min(int.from_bytes(head[:4], "big"), end - place)  # reading takes memory for all that is asked for
        yield head[4:], place + 8, length
        place += 12 + length


def late_exif(stream: IO[bytes]) -> Image.Exif | None:
    """The EXIF tags of a PNG that has them behind its pixels, which only decoding would find."""
    late, stood = False, stream.tell()
    for kind, place, length in _chunks(stream):
        late = late or kind == b"IDAT"
        if late and kind == b"eXIf":
            stream.seek(place)
            exif = Image.Exif()
            exif.load(b"Exif\0\0" + stream.read(length))
            stream.seek(stood)
            return exif
    return None


def check_png(stream: IO[bytes]) -> None:
    """Raises ValueError where a chunk of pixels is not what its checksum says; the decoder does not look."""
    stood = stream.tell()
    for kind, place, length in _chunks(stream):
        if kind in (b"IDAT", b"fdAT"):
            stream.seek(place)
            data, stated = stream.read(length), stream.read(4)
            stream.seek(stood)
            if len(stated) == 4 and zlib.crc32(data, zlib.crc32(kind)) != int.from_bytes(stated, "big"):
                raise ValueError("the checksum of its pixels is wrong")


_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""Of an interlaced PNG: first column and row, and steps of columns and rows."""


def check_png_rows(stream: IO[bytes], last: NDArray[Any]) -> None:
    """Raises ValueError where the pixels of a PNG end before the image does, which the decoder leaves 0.

    last: its last row. Where that is not 0 it was decoded; else the pixels are decompressed once more, to count them.
    """
    if last.any():
        return
    stood, unpacked, count = stream.tell(), zlib.decompressobj(), 0
    for kind, place, length in _chunks(stream):
        if kind not in (b"IHDR", b"IDAT"):
            continue
        stream.seek(place)
        data = stream.read(length)
        stream.seek(stood)
        if kind == b"IHDR":
            wanted = _png_bytes(*struct.unpack(">IIBBxxB", data[:13]))
            continue
        while data and count < wanted:
            count += len(unpacked.decompress(data, 1 << 20))
            data = unpacked.unconsumed_tail
    if count < wanted:
        raise ValueError("its pixels end before its last row")


def _png_bytes(width: int, height: int, depth: int, colour: int, interlaced: int) -> int:
    """Bytes of the rows of a PNG, each behind one that says its filter."""
    bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    passes = _PASSES if interlaced else ((0, 0, 1, 1),)
    sides = [(-(-(width - x) // dx), -(-(height - y) // dy)) for x, y, dx, dy in passes if x < width and y < height]
    return sum(rows * (1 + (columns * bits + 7) // 8) for columns, rows in sides)


def check_jpeg(image: Image.Image, stream: IO[bytes]) -> None:
    """Raises ValueError where the pixels end before the image does, which libjpeg fills with grey.

    Where the last pixels are of just that grey, or the image is progressive, whose last pixel comes early, it is
    decoded once more with other bytes before its end: in a whole image they are behind the last pixel and change
    nothing. A progressive image that ends exactly behind one of its scans is whole, for all that can be told: coarser,
    as some are made.
    """
    last = np.asarray(image.crop((max(0, image.width - 8), image.height - 1, image.width, image.height)))
    if not (last == 128).all() and not image.info.get("progressive"):
        return
    stream.seek(0)
    content = stream.read()
    end = content.rfind(b"\xff\xd9")
    if end < 0:
        return
    more = b"".join(bytes(range(1, 201)) + bytes([0xFF, 0xD0 + k]) for k in range(8)) * 4
    with JpegImagePlugin.JpegImageFile(io.BytesIO(content[:end] + more + content[end:])) as other:
        other.load()
        if other.size == image.size and other.tobytes() != image.tobytes():
            raise ValueError("its pixels end before its last row")


def check_end(image: Image.Image, stream: IO[bytes]) -> None:
    """Raises ValueError where the pixels of a decoded JPEG or PNG end before the image does."""
    if image.format in ("JPEG", "MPO"):
        check_jpeg(image, stream)
    elif image.format == "PNG":
        check_png_rows(stream, np.asarray(image.crop((0, image.height - 1, image.width, image.height))))
