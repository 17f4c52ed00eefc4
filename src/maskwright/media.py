"""Images in and out: any common file becomes a uint8 RGB array (H, W, 3), and arrays become files.

Letters: H W image in pixels. Colours are taken as they are in the file; colour profiles are not applied.
"""

import glob
import http.client
import io
import os
import urllib.error
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maskwright.atomic import replacing
from maskwright.errors import ImageError

UInt8Array = NDArray[np.uint8]
Source = str | os.PathLike[str] | bytes

MAX_PIXELS = 200_000_000
"""Pixels an image may have unless the caller says otherwise (a guard against decompression bombs)."""

MAX_DOWNLOAD = 200 * 2**20
"""Bytes an image behind a URL may have."""

SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp", ".gif", ".jp2", ".ppm", ".pgm", ".avif")
"""What `find_images` takes for an image in a folder or behind a pattern; reading goes by content, not by name."""

# Formats that are images only: none that runs a program (PostScript) or is recognised by its name alone.
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


def read_image(source: Source, *, max_pixels: int | None = MAX_PIXELS, bits: int = 16) -> UInt8Array:
    """The image in a file, in bytes or behind an http(s) URL as RGB, uint8 (H, W, 3), upright.

    - The EXIF orientation is applied; of an animation or a stack the first frame is taken.
    - Transparency is laid over white, as a viewer shows it; opaque pixels keep their values exactly.
    - Grey becomes three equal channels. 16-bit grey is scaled from its full range, v / 257 rounded, the same for
      every image whatever it contains. Cameras that fill only `bits` of the 16 (often 12) come out dark that way:
      say so, and the range 0..2**bits - 1 is scaled instead, higher values being white.
    - 32-bit integers are taken where they fit in 16 bits; floats have no known range and are refused.

    max_pixels: limit of H x W, checked in the header before anything is decoded; None: no limit. A URL is fetched
    because it was asked for, up to 200 MiB. Raises ImageError, naming the file, for whatever cannot be read.
    """
    if not 1 <= bits <= 16:
        raise ImageError(f"read_image: bits must be 1 to 16, got {bits}.")
    name, stream = _stream(source)
    with stream:
        image = open_image(stream, name)
        with image:
            _check_size(image, name, max_pixels)
            load_pixels(image, name)
            turn = _TURNS.get(orientation(image))
            upright = image if turn is None else image.transpose(turn)
            return _rgb(upright, name, bits)


def read_size(source: Source) -> tuple[int, int]:
    """(H, W) of the image that `read_image` would give, upright, from the file's header alone.

    Raises ImageError, naming the file, where there is no image or its header cannot be read.
    """
    name, stream = _stream(source)
    with stream, open_image(stream, name) as image:
        width, height = image.size
        return (width, height) if orientation(image) >= 5 else (height, width)


def read_values(source: Source, *, max_pixels: int | None = MAX_PIXELS) -> NDArray[np.int64]:
    """The numbers of an image that is a table of them, such as a mask: int64 (H, W), upright, nothing scaled.

    Grey of 1 to 32 bits, palette positions, floats that are whole; of colours that are all grey one channel, opacity
    ignored. max_pixels: as for `read_image`. Raises ImageError, naming the file, for other colours, stacks of images,
    and what cannot be read.
    """
    name, stream = _stream(source)
    with stream, open_image(stream, name) as image:
        frames = getattr(image, "n_frames", 1)
        if frames != 1:
            raise ImageError(f"{name}: expected one image, found a stack of {frames}. Save them one by one.")
        _check_size(image, name, max_pixels)
        load_pixels(image, name)
        turn = _TURNS.get(orientation(image))
        values = np.asarray(image if turn is None else image.transpose(turn))
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


def as_image(source: Source | Image.Image | NDArray[Any], *, max_pixels: int | None = MAX_PIXELS) -> UInt8Array:
    """uint8 RGB (H, W, 3) of a file, bytes, URL, PIL image or array; an array that is one already is not copied.

    Arrays are uint8 in RGB order: (H, W) or (H, W, 1) grey, (H, W, 3), (H, W, 4) with transparency, laid over white.
    A PIL image is taken as it is, its EXIF orientation not applied, so that results fit the image in hand.
    Raises ImageError.
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


def _rgb_array(array: NDArray[Any]) -> UInt8Array:
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


def _stream(source: Source) -> tuple[str, IO[bytes]]:
    """What to call the source in messages, and its bytes as an open file."""
    if isinstance(source, bytes):
        return f"<{len(source)} bytes>", io.BytesIO(source)
    name = os.fspath(source)
    if _is_url(name):
        return name, io.BytesIO(_download(name))
    if os.path.isdir(name):
        raise ImageError(f"{name}: expected an image file, found a folder; find_images lists the images in it.")
    try:
        return name, open(name, "rb")
    except FileNotFoundError:
        raise ImageError(f"{name}: no such file (working folder: {os.getcwd()}).") from None
    except (OSError, ValueError) as error:
        raise ImageError(f"{name}: the file cannot be opened ({_line(error)}).") from error


def open_image(stream: IO[bytes], name: str) -> Image.Image:
    """The image with only its header read.

    `PIL.Image.open` would apply Pillow's process-wide pixel limit, which is not ours to change, before the caller's
    limit is known; the format's own reader does not.
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
        if not taken or isinstance(taken, str):  # a text says why this installation cannot read the format
            continue
        stream.seek(0)
        try:
            return factory(stream, "")
        except MemoryError:
            raise
        except Exception as error:  # each format's reader fails in its own ways
            raise ImageError(
                f"{name}: it begins like a {kind} image but its header is damaged, cut off or of an unknown "
                f"variety ({_line(error)}). Fetch the file again or export it as PNG."
            ) from error
    formats = ", ".join(_FORMATS)
    raise ImageError(f"{name}: not an image this package reads ({formats}); it begins with {prefix!r}.")


def load_pixels(image: Image.Image, name: str) -> None:
    """Read the pixels of an opened image. Raises ImageError where they are damaged or cut off."""
    try:
        image.load()
    except MemoryError:
        raise
    except Exception as error:
        raise ImageError(
            f"{name}: the {image.format} image is damaged or cut off ({_line(error)}). Fetch or export it again.",
            code="damaged-pixels",
        ) from error


def orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 (upright) where there is none or the block cannot be read, as viewers do."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:
        return 1


def _rgb(image: Image.Image, name: str, bits: int) -> UInt8Array:
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


def _check_size(image: Image.Image, name: str, max_pixels: int | None) -> None:
    """Raises ImageError where the header promises more pixels than the limit: nothing was decoded yet."""
    width, height = image.size
    if max_pixels is not None and width * height > max_pixels:
        raise ImageError(
            f"{name}: the image has {height}x{width} = {height * width} pixels, the limit is {max_pixels}. "
            "If you trust the file, give a higher max_pixels, or None for no limit."
        )


def _is_url(name: str) -> bool:
    return name.lower().startswith(("http://", "https://"))


def _download(url: str, timeout: float = 30.0) -> bytes:
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "maskwright"})
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            content: bytes = answer.read(MAX_DOWNLOAD + 1)
    except (OSError, http.client.HTTPException, ValueError) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()
        raise ImageError(f"{url}: could not be fetched ({_line(error)}).") from error
    if len(content) > MAX_DOWNLOAD:
        raise ImageError(f"{url}: larger than {MAX_DOWNLOAD} bytes. Fetch it yourself and give the file.")
    return content


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


# ---- writing ----------------------------------------------------------------------------------------------------


def write_image(path: str | os.PathLike[str], array: NDArray[Any]) -> None:
    """Write an image in the format its suffix names; the file appears whole or not at all; missing folders are made.

    array: uint8 (H, W, 3) RGB or (H, W) grey; uint8 (H, W, 4) RGBA as PNG, WebP or TIFF; uint16 (H, W) as PNG or TIFF.
    Raises ImageError for another suffix or array, or where the file cannot be written.
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
        if isinstance(error, OSError) and error.errno is not None:  # in words already
            raise ImageError(str(error)) from error
        raise ImageError(f"{target}: the image cannot be written ({_line(error)}).") from error


# ---- finding ----------------------------------------------------------------------------------------------------


def find_images(sources: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> list[str | Path]:
    """The images that `sources` name, in order, each once.

    A source is a file (taken whatever its suffix), a folder (the images directly in it, sorted by name; for those
    in folders below use a pattern such as "photos/**/*.jpg"), a pattern with * ? [ ] (sorted), a .txt list (one file
    or URL per line, relative to the list; empty lines and lines that begin with # are left out; its entries are not
    checked, so that reading reports each), or an http(s) URL, which stays a str.
    Raises ImageError, naming the source, where there is nothing.
    """
    if isinstance(sources, (str, os.PathLike)):
        sources = [sources]
    found: dict[str, str | Path] = {}
    for source in sources:
        for item in _expand(os.fspath(source)):
            found.setdefault(item if isinstance(item, str) else os.path.realpath(item), item)
    if not found:
        raise ImageError("No image was asked for: the list of sources is empty.")
    return list(found.values())


def _expand(source: str) -> list[str | Path]:
    if _is_url(source):
        return [source]
    path = Path(source)
    if path.is_dir():
        inside = sorted(p for p in path.iterdir() if _looks_like_image(p))
        if not inside:
            raise ImageError(f"{source}: no image in this folder (looked for {', '.join(SUFFIXES)}).")
        return list(inside)
    if path.is_file():
        return _listed(path) if path.suffix.lower() == ".txt" else [path]
    if not glob.has_magic(source):
        raise ImageError(f"{source}: no such file or folder (working folder: {os.getcwd()}).")
    matches = [Path(m) for m in sorted(glob.glob(source, recursive=True))]
    images = [p for p in matches if _looks_like_image(p)]
    if not images:
        raise ImageError(f"{source}: the pattern matches {len(matches)} files, none of them an image by its suffix.")
    return list(images)


def _listed(path: Path) -> list[str | Path]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ImageError(f"{path}: expected a text list of images, one per line ({_line(error)}).") from error
    entries = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not entries:
        raise ImageError(f"{path}: the list names no image.")
    return [entry if _is_url(entry) else path.parent / entry for entry in entries]


def _looks_like_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
