"""What Pillow brings to 8 bits or scales: the stored numbers of PNG, PNM, JPEG 2000, AVIF and of grey below 8 bits.

Letters: H W image, C channels.
"""

import io
import re
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import ImageFile, PngImagePlugin, PpmImagePlugin


@dataclass(frozen=True, eq=False)
class StoredValues:
    """Stored values: (H, W) or (H, W, C). top: the highest that a value can be. inverted: 0 is white."""

    values: NDArray[Any]
    top: int | None = None
    inverted: bool = False


def depth(image: ImageFile.ImageFile, stream: IO[bytes]) -> int:
    """Bits of a channel that the header states, of an image that is not decoded yet; 8 where it states none."""
    raw = raw_mode(image)
    if raw in _LOW_BYTES or raw.endswith((";16B", ";16L", ";16N")):
        return 16
    if image.format == "PPM":
        head = _pnm_head(stream)
        return 8 if head is None else head.top.bit_length()
    if image.format == "JPEG2000":
        return _sizes(_head(stream))[0]
    if image.format == "AVIF":
        return _av1_depth(_head(stream, 1 << 16))
    return int(image.info.get("bit_depth", 8)) if image.format == "HEIF" else 8


def decoded(image: ImageFile.ImageFile, stream: IO[bytes]) -> StoredValues | None:
    """The numbers of the file; None where Pillow's own pixels are those. `image` is decoded afterwards.

    Raises ValueError, or what Pillow raises, where the pixels are damaged.
    """
    raw, kind = raw_mode(image), image.format
    if kind == "PNG":
        values = _deep_png(image, stream, raw)
        return _small_grey(image, raw) if values is None else StoredValues(values)
    if kind == "PPM":
        return _pnm(stream)
    if kind == "JPEG2000":
        return _jpeg2000(image, stream)
    if kind == "AVIF":
        return _avif(image, stream)
    return _small_grey(image, raw) if kind in ("TIFF", "BMP") else None


def raw_mode(image: ImageFile.ImageFile) -> str:
    """Pillow's word for the bytes of an image before it is decoded; "" of an animated PNG, which has 8 bits."""
    if not image.tile or (image.format == "PNG" and getattr(image, "is_animated", False)):
        return ""
    raw = image.tile[0][3]
    return str(raw[0] if isinstance(raw, tuple) else raw)


def _small_grey(image: ImageFile.ImageFile, raw: str) -> StoredValues | None:
    """Grey of 2 and 4 bits, and where 0 is white; Pillow spreads it over 0..255 and inverts it.

    Of 1 bit, black and white, it is taken as it is shown: which of them is 1 differs among programs.
    """
    found = re.fullmatch(r"L;([24]?)(I?)R?", raw)
    if found is None:
        return None
    top = (1 << int(found[1] or 8)) - 1
    image.load()
    values = np.asarray(image)
    return StoredValues((255 - values if found[2] else values) // (255 // top), top, bool(found[2]))


# ---- PNG ------------------------------------------------------------------------------------------------------------

_LOW_BYTES = {"RGB;16B": ("RGB", "RGB;16L"), "RGBA;16B": ("RGBA", "RGBA;16L"), "LA;16B": ("RGBA", "RGBA")}


def _deep_png(image: ImageFile.ImageFile, stream: IO[bytes], raw: str) -> NDArray[np.uint16] | None:
    """(H, W, C) of a PNG with colours or opacity of 16 bits, which Pillow reads with 8; None of others.

    It is decoded twice: once for the high bytes and once, as of the other byte order, for the low ones. Grey with
    opacity has as many bytes a pixel as RGBA of 8 bits, so one decoding gives them all. One grey or colour may be
    stated to be clear.
    """
    key = image.info.get("transparency")
    if raw == "I;16B" and isinstance(key, int):
        image.load()
        return _keyed(np.asarray(image)[:, :, None].astype(np.uint16), (key,))
    if raw not in _LOW_BYTES:
        return None
    low = _decoded_as(stream, *_LOW_BYTES[raw])
    if raw == "LA;16B":
        high, low = low[:, :, ::2], low[:, :, 1::2]
    else:
        image.load()
        high = np.asarray(image)
    values = np.bitwise_or(np.left_shift(high, 8, dtype=np.uint16), low, dtype=np.uint16)
    return _keyed(values, key) if raw == "RGB;16B" and isinstance(key, tuple) and len(key) == 3 else values


def _keyed(values: NDArray[np.uint16], key: tuple[int, ...]) -> NDArray[np.uint16]:
    """The values with opacity as another channel: none where they are the key."""
    clear = (values == np.array(key)).all(axis=2, keepdims=True)
    return np.concatenate([values, np.where(clear, 0, 65535).astype(np.uint16)], axis=2)


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


# ---- PNM ------------------------------------------------------------------------------------------------------------

_NUMBER = rb"(?:\s|#[^\r\n]*[\r\n])+(\d{1,10})"
_PNM = re.compile(rb"P([2356])" + 3 * _NUMBER + rb"\s")


@dataclass(frozen=True)
class _PnmHead:
    kind: int
    size: tuple[int, int]
    top: int
    length: int


def _pnm_head(stream: IO[bytes]) -> _PnmHead | None:
    """Kind, (W, H), highest value and length of the header of grey and RGB; None of black and white, and of floats."""
    head = _head(stream, 4096)
    if head[:2] not in (b"P2", b"P3", b"P5", b"P6"):
        return None
    found = _PNM.match(head)
    if found is None or not 0 < int(found[4]) < 65536:
        raise ValueError("its header is longer than 4096 bytes, or its highest value is not in 1..65535")
    return _PnmHead(int(found[1]), (int(found[2]), int(found[3])), int(found[4]), found.end())


def _pnm(stream: IO[bytes]) -> StoredValues | None:
    """PNM whose highest value is not 255, to which Pillow scales it, or of grey to 65535.

    Three channels are read as a grey image of three times the width, of which Pillow keeps all bits.
    """
    head = _pnm_head(stream)
    if head is None or head.top == 255:
        return None
    width, height = head.size
    channels = 3 if head.kind in (3, 6) else 1
    stream.seek(head.length)
    grey = b"P%d\n%d %d\n%d\n" % (2 if head.kind < 4 else 5, channels * width, height, head.top) + stream.read()
    with PpmImagePlugin.PpmImageFile(io.BytesIO(grey)) as image:
        image.load()
        scaled = np.asarray(image).astype(np.float64)
    whole = np.rint(scaled * (head.top / (255 if head.top < 256 else 65535)))
    values = whole.astype(np.uint8 if head.top < 256 else np.uint16)
    return StoredValues(values.reshape(height, width, channels) if channels > 1 else values, head.top)


# ---- JPEG 2000 and AVIF, by FFmpeg ----------------------------------------------------------------------------------


def _jpeg2000(image: ImageFile.ImageFile, stream: IO[bytes]) -> StoredValues | None:
    """Of 9 to 16 bits a channel; signed ones as such. Pillow decodes first: it finds more damage."""
    bits, signed = _sizes(_head(stream))
    if bits <= 8:
        return None
    if bits > 16:
        raise ValueError(f"it has {bits} bits a channel, at most 16 are read")
    image.load()
    if image.mode == "I;16":
        values = np.asarray(image)
    else:
        from av import CodecContext, Packet

        stream.seek(0)
        decoder = CodecContext.create("jpeg2000", "r")
        decoder.thread_count = 1
        frames = [*decoder.decode(Packet(stream.read())), *decoder.decode(None)]
        form = "rgba64le" if "A" in image.getbands() else "rgb48le"
        values = frames[0].to_ndarray(format=form) if len(frames) == 1 else np.zeros((0, 0), np.uint16)
        if values.shape[:2] != image.size[::-1]:
            raise ValueError("its pixels cannot be decoded with all their bits")
    values = values >> (16 - bits)
    if signed:
        return StoredValues((values.astype(np.int32) - (1 << (bits - 1))).astype(np.int16))
    return StoredValues(values.astype(np.uint16), (1 << bits) - 1)


def _sizes(head: bytes) -> tuple[int, bool]:
    """Bits of a channel and whether it is signed, by the marker SIZ of a JPEG 2000 codestream, of its first channel."""
    place = head.find(b"\xff\x4f\xff\x51")
    if place < 0 or len(head) < place + 43:
        return 8, False
    return (head[place + 42] & 127) + 1, head[place + 42] > 127


_FAR = 2.0
"""Mean difference to what Pillow reads, of 255, from which a decoder has misunderstood the colours."""


def _avif(image: ImageFile.ImageFile, stream: IO[bytes]) -> StoredValues | None:
    """A still AVIF of 10 or 12 bits; None of one with 8, an animation, one with opacity, or one made of tiles."""
    bits = _av1_depth(_head(stream, 1 << 16))
    if bits <= 8 or getattr(image, "is_animated", False) or image.mode not in ("L", "RGB"):
        return None
    import av

    image.load()
    stream.seek(0)
    try:
        with av.open(stream, "r") as container:
            if len(container.streams) != 1:
                return None
            frame = next(container.decode(video=0))
        values = frame.to_ndarray(format="gray16le" if image.mode == "L" else "rgb48le")
    except (av.error.FFmpegError, StopIteration, ValueError):
        return None
    if values.shape[:2] != image.size[::-1] or np.abs(values / 257.0 - np.asarray(image)).mean() > _FAR:
        return None
    top = (1 << bits) - 1
    return StoredValues(np.rint(values * (top / 65535)).astype(np.uint16), top)


def _av1_depth(head: bytes) -> int:
    """Bits of a channel by the box av1C."""
    place = head.find(b"av1C")
    if place < 0 or len(head) < place + 7 or not head[place + 6] & 64:
        return 8
    return 12 if head[place + 6] & 32 else 10


def _head(stream: IO[bytes], size: int = 4096) -> bytes:
    """The first bytes of a file; the stream stands where it stood."""
    stood = stream.tell()
    stream.seek(0)
    head = stream.read(size)
    stream.seek(stood)
    return head
