"""What Pillow's PNG and JPEG readers do not tell: damaged or missing pixels, EXIF tags behind the pixels."""

import io
import re
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


_MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd7\xff])")
"""The beginning of a segment of a JPEG: neither a byte of its pixels nor a restart."""

_SEQUENTIAL, _PROGRESSIVE = (0xC0, 0xC1, 0xC9), (0xC2, 0xCA)
"""Frames of 64 coefficients a block, with Huffman and with arithmetic coding."""

_SCAN, _END = 0xDA, 0xD9

_NONE = 16
"""More than any number of a bit: nothing of a coefficient has come."""


def _segments(content: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Kind, place and content of each segment of the first image of a JPEG file, with its end as the last one."""
    place = 2
    while found := _MARKER.search(content, place):
        kind, start = found[1][0], found.end()
        if kind == _END:
            yield kind, found.start(), b""
            return
        place = start + int.from_bytes(content[start : start + 2], "big")
        yield kind, found.start(), content[start + 2 : place]


def _jpeg_scans(content: bytes) -> tuple[str, int]:
    """What the scans of a JPEG do not bring, in words, "" for nothing; the place of its end, -1 for none.

    Source: ITU-T T.81, B.2.2 (frames), B.2.3 (scans) and G.1.1 (which bits of which coefficients).
    """
    lowest: dict[int, NDArray[np.int64]] = {}  # of each component, the lowest bit that has come of each coefficient
    progressive, refined, end = False, False, -1
    for kind, place, segment in _segments(content):
        if kind in (*_SEQUENTIAL, *_PROGRESSIVE):
            progressive = kind in _PROGRESSIVE
            lowest = {component: np.full(64, _NONE) for component in segment[6::3]}
        elif kind == _SCAN:
            head = 1 + 2 * segment[0]
            first, last, bits = segment[head : head + 3] if progressive else (0, 63, 0)
            refined = refined or bits >> 4 > 0
            for component in segment[1:head:2]:
                if component in lowest:
                    lowest[component][first : last + 1] = bits & 15
        elif kind == _END:
            end = place
    found = np.array(list(lowest.values()))
    if not refined and found.size and found.max() == found.min() != _NONE:
        return "", end
    for number, own in enumerate(found, 1):
        if (own == _NONE).any():
            return f"of its component {number} {(own == _NONE).sum()} of 64 coefficients are missing", end
        if own.any():
            return f"of its component {number} the last bits of {(own > 0).sum()} of 64 coefficients are missing", end
    return "", end


def check_jpeg(image: Image.Image, stream: IO[bytes]) -> None:
    """Raises ValueError where a JPEG ends before its image does, which libjpeg shows grey or coarse.

    Its scans have to bring all bits of all coefficients of all components. One that was made to lack some is legal and
    refused nevertheless: it cannot be told from one that was cut between two scans, and common encoders make none. One
    whose coefficients all lack the same bits, with no scan that refines any, was made so, and is read.

    Where the last pixel is of just the grey of missing ones, or the image is progressive, whose last pixel comes early,
    it is decoded once more with other bytes before its end: in a whole image they are behind the last pixel and change
    nothing. A sequential image cut within its last block is therefore not found.
    """
    stream.seek(0)
    content = stream.read()
    missing, end = _jpeg_scans(content)
    if missing:
        raise ValueError(f"its pixels end before its last scan, {missing}")
    last = np.asarray(image.crop((image.width - 1, image.height - 1, image.width, image.height)))
    grey = (last == (127 if image.mode == "CMYK" else 128)).all()  # Pillow inverts CMYK
    if end < 0 or not (grey or image.info.get("progressive")):
        return
    more = b"".join(bytes(range(90, 250)) + bytes([0xFF, 0xD0 + k]) for k in range(8)) * 4
    if content[:end].endswith(b"\xff"):
        more = b"\0" + more  # else its first byte would make a marker of the last one
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
