"""Images from and to files: any common format becomes a uint8 RGB array (H, W, 3), and arrays become files.

Letters: H W image, C channels. Colour profiles are not applied: values are used as stored.
"""

import io
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maskwright.atomic import replacing
from maskwright.errors import ConfigError, ImageError
from maskwright.media.intensity import Readings, measured, rgb_of
from maskwright.media.sources import Source
from maskwright.media.stored import MAX_PIXELS, ImageFile, Stored, is_deep, opened
from maskwright.types import FULL, ImageArray, Intensity, Size
from maskwright.wording import message_of

SAVED_AS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".bmp": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}


# ---- reading ----------------------------------------------------------------------------------------------------


def read_image(
    source: Source,
    *,
    max_pixels: int | None = MAX_PIXELS,
    intensity: Intensity | str | None = None,
    bits: int | None = None,
    page: int = 1,
    told: Readings | None = None,
) -> ImageArray:
    """The image in a file, in bytes or behind an http(s) URL (up to 200 MiB), as upright RGB: uint8 (H, W, 3).

    - The EXIF orientation is applied.
    - Transparency is composed over white, as viewers do; opaque pixels keep their values exactly.
    - Grey becomes three equal channels.
    - Images with more than 8 bits (whole numbers, floats) are scaled as `intensity` says, see `types.Intensity`. None
      scales 0..65535, the same for every image; images of cameras that use fewer bits (often 12) come out dark that
      way: bits=12 is short for intensity="bits:12". Signed, 32-bit and float images need an intensity.

    max_pixels: limit of H x W, checked in the header before decoding; None: no limit. page: of a stack or an animation,
    from 1. told: notes what was read in which way.
    Raises ImageError, naming the file, for whatever cannot be read.
    """
    chosen = chosen_intensity(intensity, bits) or FULL
    with opened(source) as file:
        chosen = measured(partial(all_pages, file, max_pixels), chosen)
        image = rgb_of(file.decode(page, max_pixels), chosen, file.name, told)
        if told is not None and page == 1:
            told.look(file)
    return image


def all_pages(file: ImageFile, max_pixels: int | None = MAX_PIXELS) -> Iterator[Stored]:
    """The pixels of each page of a file."""
    return (file.decode(page, max_pixels) for page in range(1, file.pages + 1))


def chosen_intensity(intensity: Intensity | str | None, bits: int | None) -> Intensity | None:
    """What the two ways to say it mean; None where neither is given. Raises ConfigError."""
    if bits is not None and intensity is not None:
        raise ConfigError("bits is short for an intensity: give one of the two.", options=("bits", "intensity"))
    if bits is not None:
        return Intensity.of_bits(bits)
    return None if intensity is None else Intensity.of(intensity)


def read_size(source: Source, page: int = 1) -> Size:
    """(H, W) of the upright image, as `read_image` returns it, from the file's header alone.

    Raises ImageError, naming the file, if it is not an image or its header cannot be read.
    """
    with opened(source) as file:
        return file.size(page)


def page_count(source: Source) -> int:
    """How many images a file holds: pages of a stack, frames of an animation. Raises ImageError."""
    with opened(source) as file:
        return file.pages


def read_values(source: Source, *, max_pixels: int | None = MAX_PIXELS) -> NDArray[np.int64]:
    """The stored values of an image whose pixels are numbers, such as a label mask: upright int64 (H, W), not scaled.

    Grey of 1 to 64 bits, palette indices, and floats that are whole numbers; of RGB with equal channels one of them,
    ignoring opacity. max_pixels: as in `read_image`. Raises ImageError, naming the file, for other colours, stacks of
    images, and what cannot be read.
    """
    with opened(source) as file:
        name = file.name
        if file.pages != 1:
            raise ImageError(f"{name}: expected one image, found a stack of {file.pages}. Save them one by one.")
        stored = file.decode(1, max_pixels)
        values = np.array(stored.image) if stored.values is None else stored.values
    if values.ndim == 3:
        colours = values[:, :, :3] if values.shape[2] >= 3 else values[:, :, :1]
        if (colours != colours[:, :, :1]).any():
            raise ImageError(
                f"{name}: expected one number for each pixel, found colours. Save it as grey, 8 or 16 bit."
            )
        values = colours[:, :, 0]
    if values.dtype.kind == "f" and not (np.isfinite(values).all() and float(np.abs(values).max()) < 2**53):
        raise ImageError(f"{name}: expected whole numbers, found NaN, infinite or huge values.")
    if values.dtype == np.uint64 and values.max() > 2**63 - 1:
        raise ImageError(f"{name}: expected numbers below 2**63, found {values.max()}.")
    whole = values.astype(np.int64)
    if values.dtype.kind == "f" and not np.array_equal(whole, values):
        raise ImageError(f"{name}: expected whole numbers, found fractions. Is it a mask, or an image?")
    return whole


def as_image(
    source: Source | Image.Image | NDArray[Any],
    *,
    max_pixels: int | None = MAX_PIXELS,
    intensity: Intensity | None = None,
    page: int = 1,
    told: Readings | None = None,
) -> ImageArray:
    """uint8 RGB (H, W, 3) of a file, bytes, URL, PIL image or array; an array of that form is not copied.

    Arrays: (H, W) or (H, W, 1) grey, (H, W, 3) RGB, or (H, W, 4) RGBA, which is composed over white; uint8, or with an
    `intensity` any numbers, read as those of a file. The EXIF orientation of a PIL image is not applied, so that
    results fit the pixels that the caller has. page: of a file, from 1. Raises ImageError for anything else.
    """
    given: object = source
    if isinstance(given, (str, bytes, os.PathLike)):
        return read_image(given, max_pixels=max_pixels, intensity=intensity, page=page, told=told)
    if isinstance(given, Image.Image):
        return rgb_of(_loaded(given), intensity or FULL, "the PIL image", told)
    if isinstance(given, np.ndarray):
        return _rgb_array(given, intensity, told)
    kind = f"{type(given).__module__}.{type(given).__name__}"
    raise ImageError(f"Expected a path, bytes, a PIL image or a NumPy array (H, W, 3) of uint8, got {kind}.")


def stored_of(given: Source | Image.Image | NDArray[Any]) -> Stored:
    """The pixels of what `as_image` takes, as they are; of a file of its first page. Raises ImageError."""
    if isinstance(given, Image.Image):
        return _loaded(given)
    if isinstance(given, np.ndarray):
        return Stored(values=given, alpha=given.ndim == 3 and given.shape[2] == 4)
    with opened(given) as file:
        return file.decode()


def _loaded(image: Image.Image) -> Stored:
    try:
        image.load()
    except MemoryError:
        raise
    except Exception as error:
        reason = f"the PIL image: the {image.format} image is damaged or cut off ({message_of(error)})."
        raise ImageError(f"{reason} Fetch or export it again.", code="damaged-pixels") from error
    return Stored(values=np.asarray(image)) if is_deep(image.mode) else Stored(image)


def _rgb_array(array: NDArray[Any], intensity: Intensity | None, told: Readings | None) -> ImageArray:
    shape = array.shape
    if array.dtype != np.uint8 and (intensity is None or array.dtype.kind not in "uif"):
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
    if array.dtype != np.uint8:
        return rgb_of(Stored(values=array, alpha=array.shape[2] == 4), intensity or FULL, "the array", told)
    if array.shape[2] == 4:
        return rgb_of(Stored(Image.fromarray(np.ascontiguousarray(array))), FULL, "the array")
    return np.ascontiguousarray(array if array.shape[2] == 3 else np.repeat(array, 3, axis=2))


# ---- writing ----------------------------------------------------------------------------------------------------


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """An image as the bytes of a file. kind: "PNG" or "JPEG"; options: Pillow's of it."""
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def write_image(path: str | os.PathLike[str], array: NDArray[Any]) -> None:
    """Write an image in the format of its suffix, in one step (see `atomic.replacing`); missing folders are made.

    array: uint8 (H, W, 3) RGB or (H, W) grey; uint8 (H, W, 4) RGBA as PNG, WebP or TIFF; uint16 (H, W) as PNG or TIFF.
    Raises ImageError for another suffix or array, or if the file cannot be written.
    """
    target = Path(path)
    kind = SAVED_AS.get(target.suffix.lower())
    if kind is None:
        raise ImageError(f"{target}: unknown image suffix '{target.suffix}'. Use one of {', '.join(SAVED_AS)}.")
    deep = array.dtype == np.uint16 and array.ndim == 2 and kind in ("PNG", "TIFF")
    alpha = kind in ("PNG", "WEBP", "TIFF")
    flat = array.dtype == np.uint8 and (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4)[: 1 + alpha]))
    if array.size == 0 or not (deep or flat):
        raise ImageError(
            f"{target}: {kind} takes uint8 (H, W, 3) or (H, W){', (H, W, 4)' if alpha else ''}"
            f"{', uint16 (H, W)' if kind in ('PNG', 'TIFF') else ''}; got {array.dtype} {array.shape}."
        )
    options: dict[str, Any] = {"quality": 95} if kind in ("JPEG", "WEBP") else {}
    if deep and kind == "TIFF":  # label images are mostly background
        options = {"compression": "tiff_lzw"}
    try:
        with replacing(target) as part:
            Image.fromarray(np.ascontiguousarray(array)).save(part, kind, **options)
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # `replacing` has explained it
            raise ImageError(str(error)) from error
        raise ImageError(f"{target}: the image cannot be written ({message_of(error)}).") from error
