"""Images from and to files: any common format becomes a uint8 RGB array (H, W, 3), and arrays become files.

Letters: H W image in pixels. Colour profiles are not applied: values are used as stored.
"""

import os
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maskwright.atomic import replacing
from maskwright.errors import ImageError
from maskwright.media.sources import Source, one_line, open_source
from maskwright.types import ImageArray

MAX_PIXELS = 200_000_000
"""Default limit of an image's pixels, against decompression bombs."""

# Only formats that are recognised by their content and run no program, unlike PostScript.
_FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF", "PPM", "JPEG2000", "AVIF")

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ORIENTATION = 0x0112

_SAVED_AS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".bmp": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}


# ---- reading ----------------------------------------------------------------------------------------------------


def read_image(source: Source, *, max_pixels: int | None = MAX_PIXELS, bits: int = 16) -> ImageArray:
    """The image in a file, in bytes or behind an http(s) URL (up to 200 MiB), as upright RGB: uint8 (H, W, 3).

    - The EXIF orientation is applied; of an animation or a stack, the first frame is read.
    - Transparency is composed over white, as viewers do; opaque pixels keep their values exactly.
    - Grey becomes three equal channels. 16-bit grey is scaled from its full range (v / 257, rounded), the same for
      every image regardless of its content. Images of cameras that use fewer bits (often 12) come out dark that way;
      with `bits`, the range 0..2**bits - 1 is scaled instead, and higher values become white.
    - 32-bit integers are accepted if they fit into 16 bits; floats have no known range and are refused.

    max_pixels: limit of H x W, checked in the header before decoding; None: no limit.
    Raises ImageError, naming the file, for whatever cannot be read.
    """
    if not 1 <= bits <= 16:
        raise ImageError(f"read_image: bits must be 1 to 16, got {bits}.")
    name, stream = open_source(source)
    with stream, open_image(stream, name) as image:
        return _rgb(_upright(image, name, max_pixels), name, bits)


def read_size(source: Source) -> tuple[int, int]:
    """(H, W) of the upright image, as `read_image` returns it, from the file's header alone.

    Raises ImageError, naming the file, if it is not an image or its header cannot be read.
    """
    name, stream = open_source(source)
    with stream, open_image(stream, name) as image:
        width, height = image.size
        return (width, height) if orientation(image) >= 5 else (height, width)


def read_values(source: Source, *, max_pixels: int | None = MAX_PIXELS) -> NDArray[np.int64]:
    """The stored values of an image whose pixels are numbers, such as a label mask: upright int64 (H, W), not scaled.

    Grey of 1 to 32 bits, palette indices, and floats that are whole numbers; of RGB with equal channels one of them,
    ignoring opacity. max_pixels: as in `read_image`. Raises ImageError, naming the file, for other colours, stacks of
    images, and what cannot be read.
    """
    name, stream = open_source(source)
    with stream, open_image(stream, name) as image:
        frames = getattr(image, "n_frames", 1)
        if frames != 1:
            raise ImageError(f"{name}: expected one image, found a stack of {frames}. Save them one by one.")
        values = np.asarray(_upright(image, name, max_pixels))
    if values.ndim == 3:
        colours = values[:, :, :3] if values.shape[2] >= 3 else values[:, :, :1]
        if (colours != colours[:, :, :1]).any():
            raise ImageError(
                f"{name}: expected one number for each pixel, found colours. Save it as grey, 8 or 16 bit."
            )
        values = colours[:, :, 0]
    whole = values.astype(np.int64)
    if values.dtype.kind == "f" and not np.array_equal(whole, values):
        raise ImageError(f"{name}: expected whole numbers, found fractions. Is it a mask, or an image?")
    return whole


def as_image(source: Source | Image.Image | NDArray[Any], *, max_pixels: int | None = MAX_PIXELS) -> ImageArray:
    """uint8 RGB (H, W, 3) of a file, bytes, URL, PIL image or array; an array of that form is not copied.

    Arrays must be uint8: (H, W) or (H, W, 1) grey, (H, W, 3) RGB, or (H, W, 4) RGBA, which is composed over white.
    The EXIF orientation of a PIL image is not applied, so that results fit the pixels that the caller has.
    Raises ImageError for anything else.
    """
    given: object = source
    if isinstance(given, (str, bytes, os.PathLike)):
        return read_image(given, max_pixels=max_pixels)
    if isinstance(given, Image.Image):
        load_pixels(given, "the PIL image")
        return _rgb(given, "the PIL image", 16)
    if isinstance(given, np.ndarray):
        return _rgb_array(given)
    kind = f"{type(given).__module__}.{type(given).__name__}"
    raise ImageError(f"Expected a path, bytes, a PIL image or a NumPy array (H, W, 3) of uint8, got {kind}.")


def _rgb_array(array: NDArray[Any]) -> ImageArray:
    shape = array.shape
    if array.dtype != np.uint8:
        hint = {"f": "(x * 255).round().astype('uint8') if it lies in 0..1", "b": "x.astype('uint8') * 255"}
        how = hint.get(array.dtype.kind, "scale it to 0..255 and use x.astype('uint8')")
        raise ImageError(f"An image array must be uint8 in 0..255, got {array.dtype} {shape}. Convert it: {how}.")
    if array.size == 0:
        raise ImageError(f"An image array must have at least one pixel, got shape {shape}.")
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4):
        first = (
            " Its channels come first: use x.transpose(1, 2, 0)." if array.ndim == 3 and shape[0] in (1, 3, 4) else ""
        )
        raise ImageError(f"An image array must be (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), got {shape}.{first}")
    if array.shape[2] == 4:
        return _rgb(Image.fromarray(np.ascontiguousarray(array)), "the array", 16)
    return np.ascontiguousarray(array if array.shape[2] == 3 else np.repeat(array, 3, axis=2))


def open_image(stream: IO[bytes], name: str) -> Image.Image:
    """The image, with only its header read. name: of the source, for messages. Raises ImageError.

    `PIL.Image.open` would apply Pillow's pixel limit, which holds for the whole process and so must not be changed
    here; the readers of the formats do not.
    """
    prefix = stream.read(16)
    if not prefix:
        raise ImageError(f"{name}: expected an image, the file is empty (0 bytes). Fetch or export it again.")
    Image.init()
    for kind in _FORMATS:
        if kind not in Image.OPEN:
            continue
        factory, accept = Image.OPEN[kind]
        taken = accept is None or accept(prefix)
        if not taken or isinstance(taken, str):  # a str says why this installation cannot read the format
            continue
        stream.seek(0)
        try:
            return factory(stream, "")
        except MemoryError:
            raise
        except Exception as error:  # each format's reader fails in its own ways
            raise ImageError(
                f"{name}: it begins like a {kind} image but its header is damaged, cut off or of an unknown "
                f"variety ({one_line(error)}). Fetch the file again or export it as PNG."
            ) from error
    formats = ", ".join(_FORMATS)
    raise ImageError(f"{name}: not an image this package reads ({formats}); it begins with {prefix!r}.")


def load_pixels(image: Image.Image, name: str) -> None:
    """Decode the pixels of an opened image. Raises ImageError if they are damaged or cut off."""
    try:
        image.load()
    except MemoryError:
        raise
    except Exception as error:
        raise ImageError(
            f"{name}: the {image.format} image is damaged or cut off ({one_line(error)}). Fetch or export it again.",
            code="damaged-pixels",
        ) from error


def orientation(image: Image.Image) -> int:
    """The EXIF orientation; 1 (upright) if there is none or it cannot be read, as in viewers."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:
        return 1


def _upright(image: Image.Image, name: str, max_pixels: int | None) -> Image.Image:
    """The decoded image with its EXIF orientation applied; its size in the header is checked before decoding."""
    width, height = image.size
    if max_pixels is not None and width * height > max_pixels:
        raise ImageError(
            f"{name}: the image has {height}x{width} = {height * width} pixels, the limit is {max_pixels}. "
            "If you trust the file, give a higher max_pixels, or None for no limit."
        )
    load_pixels(image, name)
    turn = _TURNS.get(orientation(image))
    return image if turn is None else image.transpose(turn)


def _rgb(image: Image.Image, name: str, bits: int) -> ImageArray:
    """uint8 RGB (H, W, 3) of any Pillow mode."""
    if image.mode == "F":
        raise ImageError(
            f"{name}: a floating-point image has no known range of brightness. "
            "Scale it to 0..255 and give a uint8 array."
        )
    if image.mode == "I" or image.mode.startswith("I;16"):
        values = np.asarray(image)
        low, high = int(values.min()), int(values.max())
        if low < 0 or high > 65535:
            raise ImageError(
                f"{name}: expected 8- or 16-bit grey, found 32-bit values {low}..{high}. "
                "Scale it to 0..255 and give a uint8 array."
            )
        table = (np.minimum(np.arange(65536) / (2**bits - 1), 1) * 255 + 0.5).astype(np.uint8)
        return np.repeat(table[values][:, :, None], 3, axis=2)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        flat = Image.new("RGB", rgba.size, (255, 255, 255))
        flat.paste(rgba, mask=rgba.getchannel("A"))
        return np.array(flat)
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


# ---- writing ----------------------------------------------------------------------------------------------------


def write_image(path: str | os.PathLike[str], array: NDArray[Any]) -> None:
    """Write an image in the format of its suffix, in one step (see `atomic.replacing`); missing folders are made.

    array: uint8 (H, W, 3) RGB or (H, W) grey; uint8 (H, W, 4) RGBA as PNG, WebP or TIFF; uint16 (H, W) as PNG or TIFF.
    Raises ImageError for another suffix or array, or if the file cannot be written.
    """
    target = Path(path)
    kind = _SAVED_AS.get(target.suffix.lower())
    if kind is None:
        raise ImageError(f"{target}: unknown image suffix '{target.suffix}'. Use one of {', '.join(_SAVED_AS)}.")
    deep = array.dtype == np.uint16 and array.ndim == 2 and kind in ("PNG", "TIFF")
    alpha = kind in ("PNG", "WEBP", "TIFF")
    flat = array.dtype == np.uint8 and (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4)[: 1 + alpha]))
    if array.size == 0 or not (deep or flat):
        raise ImageError(
            f"{target}: {kind} takes uint8 (H, W, 3) or (H, W){', (H, W, 4)' if alpha else ''}"
            f"{', uint16 (H, W)' if kind in ('PNG', 'TIFF') else ''}; got {array.dtype} {array.shape}."
        )
    options = {"quality": 95} if kind in ("JPEG", "WEBP") else {}
    try:
        with replacing(target) as part:
            Image.fromarray(np.ascontiguousarray(array)).save(part, kind, **options)
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # `replacing` has explained it
            raise ImageError(str(error)) from error
        raise ImageError(f"{target}: the image cannot be written ({one_line(error)}).") from error
