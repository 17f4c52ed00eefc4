"""Image files opened: what their headers say, their pages, and their pixels as they are stored, upright.

Letters: H W image, C channels.
"""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import IO, Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL import ImageFile as PillowFile

from maskwright.errors import ImageError
from maskwright.media import deep, tiff
from maskwright.media.damage import check_end, check_png, check_png_rows, late_exif
from maskwright.media.sources import HEIC_INSTALL, Source, open_source
from maskwright.types import Size
from maskwright.wording import message_of

MAX_PIXELS = 200_000_000
"""Default limit of an image's pixels, against decompression bombs."""

# Only formats that are recognised by their content and run no program, unlike PostScript.
_FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF", "PPM", "JPEG2000", "AVIF")
_HEIF = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_BACK = {6: 8, 8: 6}  # the turn that undoes one; the others undo themselves


@dataclass(frozen=True, eq=False)
class Stored:
    """The pixels of one page as they are stored, upright.

    image: of 8 bits a channel and less, in one of Pillow's modes; or values: of more, (H, W) or (H, W, C), C 2 to 4,
    any whole numbers or floats. alpha: the last channel of the values is opacity. inverted: the lowest value is white.
    top: the highest value that its bits can hold, where these are fewer than those of the numbers. cut: bits of a
    channel of the file, where only 8 of them can be read.
    """

    image: Image.Image | None = None
    values: NDArray[Any] | None = None
    alpha: bool = False
    inverted: bool = False
    top: int | None = None
    cut: int | None = None

    @property
    def clear(self) -> bool:
        """Whether some pixel is not opaque."""
        if self.image is None:
            assert self.values is not None
            return self.alpha and bool((self.values[..., -1] < self.values[..., -1].max()).any())
        if "A" in self.image.getbands() and self.image.mode != "LAB":  # whose A is from green to red
            return int(np.asarray(self.image.getchannel("A")).min()) < 255
        return "transparency" in self.image.info

    def parts(self) -> tuple[NDArray[Any], NDArray[Any] | None]:
        """The values as colours (H, W, C) and opacity (H, W, 1), None where all is opaque."""
        assert self.values is not None
        values = self.values if self.values.ndim == 3 else self.values[:, :, None]
        return (values[:, :, :-1], values[:, :, -1:]) if self.alpha else (values, None)

    @property
    def size(self) -> Size:
        """(H, W)."""
        if self.image is not None:
            return self.image.height, self.image.width
        assert self.values is not None
        return self.values.shape[0], self.values.shape[1]


class ImageFile:
    """An opened image file; its header is read, its pixels are not. Every failure is an ImageError that names it.

    kind: format in Pillow's word. deep: whether its first page has more than 8 bits a channel. Pages count from 1.
    """

    def __init__(self, stream: IO[bytes], name: str) -> None:
        self.stream, self.name = stream, name
        self.kind, factory = _format(stream, name)
        self._directories: list[tiff.Page] = []
        self._pillow: PillowFile.ImageFile | None = None
        with self.damage("header"):
            if self.kind == "TIFF":
                self._chain = tiff.pages(stream)
                self.directory(1)
            if self.kind != "TIFF" or not self._directories[0].ours:
                stream.seek(0)
                self._pillow = factory(stream, "")
                self.kind = self._pillow.format or self.kind
            self.deep = self._is_deep()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *args: object) -> None:
        if self._pillow is not None:
            self._pillow.close()

    @cached_property
    def _whole(self) -> list[tiff.Page]:
        """All directories of a TIFF that are images of their own; the others are smaller copies of them, and masks."""
        with self.damage("pixels"):
            self._directories.extend(self._chain)
            own = [page for page in self._directories if not page.is_copy]
        return own or self._directories

    @cached_property
    def pages(self) -> int:
        """Images in the file, for which it may have to be read to its end. One of a photo that has others with it."""
        if self.kind == "TIFF":
            return len(self._whole)
        if self.kind == "MPO":
            return 1
        with self.damage("pixels"):
            return int(getattr(self._pillow, "n_frames", 1))

    @property
    def left_out(self) -> str:
        """What the file holds beside its pages and is never read, in words; "" for nothing."""
        if self.kind == "MPO" and self._pair():
            return "a second image of the same size (the other eye, or another frame)"
        if self.kind != "TIFF":
            return ""
        if self.pages < len(self._directories):
            return "smaller copies or masks of its pages"
        more = _hidden(self._directories[0]) if self.pages == 1 else 0
        return f"{more} more images that have no page of their own (ImageJ)" if more else ""

    def _pair(self) -> bool:
        """Whether a photo has another image of its size with it, which is no preview or map of it."""
        assert self._pillow is not None
        with self.damage("pixels"):
            size = self._pillow.size
            self._pillow.seek(1)
            other = self._pillow.size
            self._pillow.seek(0)
        return size == other

    def directory(self, page: int) -> tiff.Page:
        """The directory of a page; the first one without reading the others."""
        if page == 1 and "_whole" not in self.__dict__:
            if not self._directories:
                self._directories.extend(itertools.islice(self._chain, 1))
            if not self._directories:
                raise tiff.TiffError("it has no page")
            if not self._directories[0].is_copy:
                return self._directories[0]
        return self._whole[page - 1]

    @contextmanager
    def damage(self, what: str) -> Iterator[None]:
        """Turns whatever a reader raises into an ImageError that names the file."""
        try:
            yield
        except ImageError:
            raise
        except Exception as error:
            # each format's reader fails in its own ways; a file that asks for too much is a damaged one
            reason = "it asks for more memory than there is" if isinstance(error, MemoryError) else message_of(error)
            if what == "header":
                raise ImageError(
                    f"{self.name}: it begins like a {self.kind} image but its header is damaged, cut off or of an "
                    f"unknown variety ({reason}). Fetch the file again or export it as PNG."
                ) from error
            raise ImageError(
                f"{self.name}: the {self.kind} image is damaged or cut off ({reason}). Fetch or export it again.",
                code="damaged-pixels",
            ) from error

    # ---- one page ---------------------------------------------------------------------------------------------------

    def check_page(self, page: int) -> None:
        """Raises ImageError where there is no such page."""
        if page < 1 or (page > 1 and page > self.pages):
            raise ImageError(f"{self.name}: there is no page {page}, the file has {self.pages}.", options=("page",))

    def stored_size(self, page: int = 1) -> Size:
        """(H, W) before the orientation is applied, from the header."""
        self.check_page(page)
        with self.damage("header"):
            if self.kind == "TIFF":
                size = self.directory(page).size
            else:
                assert self._pillow is not None
                size = self._pillow.size[::-1]
            if min(size) < 1:
                raise ValueError(f"it is {size[0]}x{size[1]} pixels")
        return size

    def turn(self, page: int = 1) -> int:
        """The EXIF orientation, 1 (upright) to 8; 1 if there is none or it cannot be read, as in viewers."""
        if self.kind == "TIFF":
            with self.damage("header"):
                return self.directory(page).turn
        return self._exif_turn

    @cached_property
    def _exif_turn(self) -> int:
        """Found before anything is decoded: of a PNG, Pillow would decode the pixels to look for it, and keep silent
        where they are damaged."""
        assert self._pillow is not None
        try:
            late = late_exif(self.stream) if self.kind == "PNG" else None
            tags = Image.Image.getexif(self._pillow) if late is None else late
            turn = int(tags.get(0x0112, 1))
        except Exception:
            return 1
        return turn if 1 <= turn <= 8 else 1

    def _is_deep(self) -> bool:
        if self._pillow is None:
            return str(self._directories[0].dtype) != "uint8"
        return is_deep(self._pillow.mode) or deep.depth(self._pillow, self.stream) > 8

    @property
    def mode(self) -> str:
        """The channels, in Pillow's word or, of numbers that it has none for, NumPy's."""
        return self._pillow.mode if self._pillow is not None else str(self._directories[0].dtype)

    def size(self, page: int = 1) -> Size:
        """(H, W) of the upright image, from the header."""
        height, width = self.stored_size(page)
        return (width, height) if self.turn(page) >= 5 else (height, width)

    def decode(self, page: int = 1, max_pixels: int | None = MAX_PIXELS, *, upright: bool = True) -> Stored:
        """The pixels of a page; their number is checked before anything is decoded. upright: apply the orientation."""
        height, width = self.size(page) if upright else self.stored_size(page)
        if max_pixels is not None and width * height > max_pixels:
            raise ImageError(
                f"{self.name}: the image has {height}x{width} = {height * width} pixels, the limit is {max_pixels}. "
                "If you trust the file, give a higher max_pixels, or None for no limit. Tiled TIFFs that are computed "
                "in tiles are read in windows and have none.",
                options=("max_pixels",),
            )
        with self.damage("pixels"):
            directory = self.directory(page) if self.kind == "TIFF" else None
            if directory is not None and directory.ours:
                return self._tiff(directory, self.turn(page) if upright else 1, max_pixels)
            stored = self._by_pillow(page, upright)
            found = stored.size
            if found != (height, width):
                raise ValueError(f"its header says {height}x{width}, its pixels are {found[0]}x{found[1]}")
        return stored

    def _tiff(self, page: tiff.Page, turn: int, max_pixels: int | None) -> Stored:
        channels, alpha = page.channels, page.alpha
        height, width = page.size
        if channels > 4 or (channels == 2 and not alpha):
            raise ImageError(
                f"{self.name}: expected grey or RGB, found {channels} channels without a colour. Save those to look at "
                "as grey, or as RGB."
            )
        assert page.dtype is not None
        size = height * width * channels * page.dtype.itemsize
        if max_pixels is not None and size > 8 * max_pixels:
            raise ImageError(
                f"{self.name}: the image takes {size} bytes, the limit is {8 * max_pixels}, 8 for each of max_pixels. "
                "If you trust the file, give a higher max_pixels, or None for no limit."
            )
        with self.damage("pixels"):
            values = turned(tiff.read(page), turn)
        if channels == 4 and not alpha:
            values = values[:, :, :3]
        if page.premultiplied and values.dtype != np.uint8:
            values = _divided(values)
        return Stored(values=values, alpha=alpha, inverted=page.inverted)

    def _by_pillow(self, page: int, upright: bool) -> Stored:
        with self.damage("pixels"):
            if self._pillow is None:
                raise ValueError("its pages differ in kind")
            image: Image.Image = self._pillow
            index = self.directory(page).index if self.kind == "TIFF" else page - 1
            if index or image.tell() != index:
                image.seek(index)
            turn = self.turn(page) if upright != (self.kind == "TIFF") else 1  # of a TIFF Pillow applies it
            turn = _BACK.get(turn, turn) if self.kind == "TIFF" else turn
            if self.kind == "PNG":
                check_png(self.stream)
            elif self.kind == "TIFF":
                tiff.check(self.directory(page))
            bits, packed = self._bits(page)
            if (numbers := deep.decoded(self._pillow, self.stream)) is not None:
                if self.kind == "PNG":
                    check_png_rows(self.stream, numbers.values[-1])
                values = turned(numbers.values, turn)
                alpha = values.ndim == 3 and values.shape[2] in (2, 4)
                return Stored(values=values, alpha=alpha, inverted=numbers.inverted, top=numbers.top)
            inverted = self.kind == "TIFF" and image.mode.startswith("I;16") and self.directory(page).inverted
            image.load()
            check_end(image, self.stream)
            image = image if turn == 1 else image.transpose(_TURNS[turn])
            if not is_deep(image.mode):
                return Stored(image, cut=bits if bits > 8 else None)
            return Stored(values=np.asarray(image), inverted=inverted, top=4095 if packed else None)

    def _bits(self, page: int) -> tuple[int, bool]:
        """Bits of a channel that the header states, before it is decoded; and whether they are 12, packed in a TIFF."""
        assert self._pillow is not None
        if self.kind != "TIFF":
            return deep.depth(self._pillow, self.stream), False
        bits = self.directory(page).values(258)
        return max(bits, default=1), bits == (12,)


@contextmanager
def opened(source: Source) -> Iterator[ImageFile]:
    """The file of a path, of bytes or behind an http(s) URL, opened. Raises ImageError."""
    name, stream = open_source(source)
    with stream, ImageFile(stream, name) as file:
        yield file


def is_deep(mode: str) -> bool:
    """Whether one of Pillow's modes has more than 8 bits a channel."""
    return mode in ("I", "F") or mode.startswith("I;16")


def _format(stream: IO[bytes], name: str) -> tuple[str, Any]:
    """The format by the first bytes, and Pillow's reader of it.

    `PIL.Image.open` would apply Pillow's pixel limit, which holds for the whole process and so must not be changed
    here; the readers of the formats do not.
    """
    head = stream.read(64)
    prefix = head[:16]
    if not prefix:
        raise ImageError(f"{name}: expected an image, the file is empty (0 bytes). Fetch or export it again.")
    if prefix[4:8] == b"ftyp" and b"avif" not in head and any(brand in head for brand in _HEIF):
        return "HEIF", _heif(name)
    Image.init()
    for kind in _FORMATS:
        if kind not in Image.OPEN:
            continue
        factory, accept = Image.OPEN[kind]
        taken = accept is None or accept(prefix)
        if taken and not isinstance(taken, str):  # a str says why this installation cannot read the format
            return kind, factory
    found = f"not an image this package reads ({', '.join(_FORMATS)}); it begins with {prefix!r}."
    raise ImageError(f"{name}: {found}", code="unknown-format")


def _heif(name: str) -> Any:
    """pillow-heif's reader, without making it one of Pillow's for the whole process."""
    try:
        from pillow_heif.as_plugin import HeifImageFile
    except ImportError as error:
        how = f"{HEIC_INSTALL}. Or export the image as JPEG or PNG (phones: the setting 'most compatible')."
        text = f"{name}: HEIC is read by a package that is not installed: {how}"
        raise ImageError(text, code="unknown-format") from error
    return HeifImageFile


def _hidden(page: tiff.Page) -> int:
    """Images behind the first that ImageJ states in its description alone, as it does for stacks above 4 GB."""
    _, count, raw = page.entries.get(270, (0, 0, b""))
    if count <= len(raw):
        return 0
    place = int.from_bytes(raw, "little" if page.order == "<" else "big")
    lines = tiff.bytes_at(page.stream, place, min(count, 2000)).split(b"\n")
    if not lines[0].startswith(b"ImageJ="):
        return 0
    stated = next((line[7:] for line in lines if line.startswith(b"images=")), b"1")
    return int(stated[:9]) - 1 if stated[:9].isdigit() else 0


def _divided(values: NDArray[Any]) -> NDArray[Any]:
    """Values (H, W, C) with their colours divided by the opacity, by which they were multiplied."""
    full = 1.0 if values.dtype.kind == "f" else float(np.iinfo(values.dtype).max)
    opacity = np.where(values[:, :, -1:] > 0, values[:, :, -1:] / full, 1.0)
    colours = np.clip(values[:, :, :-1] / opacity, -full, full)
    colours = colours if values.dtype.kind == "f" else np.rint(colours)
    return np.concatenate([colours.astype(values.dtype), values[:, :, -1:]], axis=2)


def turned(values: NDArray[Any], turn: int) -> NDArray[Any]:
    """An array (H, W, ...) with its EXIF orientation applied."""
    if turn in (5, 6, 7, 8):
        values = values.swapaxes(0, 1)
    if turn in (3, 4, 7, 8):
        values = values[::-1]
    if turn in (2, 3, 6, 7):
        values = values[:, ::-1]
    return values
