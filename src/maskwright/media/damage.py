"""What Pillow's PNG and JPEG readers do not tell: damaged or missing pixels, low bytes, EXIF tags behind the pixels."""

import io
import re
import zlib
from collections.abc import Iterator
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, JpegImagePlugin, PngImagePlugin


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


_LOW_BYTES = {"RGB;16B": ("RGB", "RGB;16L"), "RGBA;16B": ("RGBA", "RGBA;16L"), "LA;16B": ("RGBA", "RGBA")}


def deep_png(image: ImageFile.ImageFile, stream: IO[bytes]) -> NDArray[np.uint16] | None:
    """(H, W, C) of a PNG with colours or opacity of 16 bits, which Pillow reads with 8; None of others.

    It is decoded twice: once for the high bytes and once, as of the other byte order, for the low ones. Grey with
    opacity has as many bytes a pixel as RGBA of 8 bits, so one decoding gives them all.
    """
    raw = _raw_mode(image)
    if raw not in _LOW_BYTES:
        return None
    low = _decoded_as(stream, *_LOW_BYTES[raw])
    if raw == "LA;16B":
        high, low = low[:, :, ::2], low[:, :, 1::2]
    else:
        image.load()
        high = np.asarray(image)
    return np.bitwise_or(np.left_shift(high, 8, dtype=np.uint16), low, dtype=np.uint16)


def is_deep_png(image: ImageFile.ImageFile) -> bool:
    """Whether `deep_png` reads it."""
    return _raw_mode(image) in _LOW_BYTES


def _raw_mode(image: ImageFile.ImageFile) -> str:
    """Pillow's word for the bytes of a PNG before it is decoded; of an animation "", which has 8 bits."""
    if not image.tile or getattr(image, "is_animated", False):
        return ""
    raw = image.tile[0][3]
    return str(raw[0] if isinstance(raw, tuple) else raw)


def _decoded_as(stream: IO[bytes], mode: str, raw: str) -> NDArray[np.uint8]:
    """The pixels of a PNG, its bytes taken as those of another raw mode of the same length."""
    stood = stream.tell()
    stream.seek(0)
    image = PngImagePlugin.PngImageFile(stream)
    image._mode = mode
    image.tile = [type(tile)(*tile[:3], raw) for tile in image.tile]
    image.load()
    stream.seek(stood)
    return np.asarray(image)


def check_jpeg(image: Image.Image, stream: IO[bytes]) -> None:
    """Raises ValueError where the pixels end before the image does, which libjpeg fills with grey.

    Where the last pixels are of just that grey, or a progressive image lacks scans, it is decoded once more with other
    bytes before its end: in a whole image they are behind the last pixel and change nothing.
    """
    last = np.asarray(image.crop((max(0, image.width - 8), image.height - 1, image.width, image.height)))
    if not (last == 128).all() and not image.info.get("progressive"):
        return
    stream.seek(0)
    content = stream.read()
    end = content.rfind(b"\xff\xd9")
    if end < 0 or not ((last == 128).all() or _lacks_scans(content)):
        return
    more = b"".join(bytes(range(1, 201)) + bytes([0xFF, 0xD0 + k]) for k in range(8)) * 4
    with JpegImagePlugin.JpegImageFile(io.BytesIO(content[:end] + more + content[end:])) as other:
        other.load()
        if other.size == image.size and other.tobytes() != image.tobytes():
            raise ValueError("its pixels end before its last row")


_MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])")


def _lacks_scans(content: bytes) -> bool:
    """Whether some bit of a coefficient of a progressive JPEG is in none of its scans."""
    missing: dict[int, list[int]] = {}  # by component: the lowest bit known of each of its 64 coefficients, 14 for none
    place = 2
    while found := _MARKER.search(content, place):
        kind, place = found[1][0], found.end()
        if kind == 0xD9:
            break
        body = content[place + 2 : place + int.from_bytes(content[place : place + 2], "big")]
        if kind == 0xC2 and len(body) > 5:
            missing = {body[6 + 3 * k]: [14] * 64 for k in range(body[5]) if 6 + 3 * k < len(body)}
        elif kind == 0xDA and body and len(body) >= 4 + 2 * body[0]:
            first, last, bits = body[1 + 2 * body[0] : 4 + 2 * body[0]]
            for k in range(body[0]):
                lows = missing.get(body[1 + 2 * k], [0] * 64)
                lows[first : last + 1] = [bits & 15] * len(lows[first : last + 1])
        place += 2 + len(body)
    return any(any(lows) for lows in missing.values())
