"""Image files: the facts that one reading of a file gives, and where the file of a record lies.

Letters: H W image. Each file is read and decoded once, and a few hundred bytes of facts are kept, so that sets of any
size fit in memory.
"""

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dctn

from maskwright import media
from maskwright.data.file_names import FileNames
from maskwright.errors import ImageError
from maskwright.types import Size

_WINDOW = 256  # files handed to the threads at once
_SIDE = 32  # of the small grey image that similar images are found by


@dataclass(frozen=True, slots=True)
class DeepValues:
    """Values with more than 8 bits: NumPy's name of the numbers, least and highest, how many are not finite, and the
    highest that they can be, at most 65535; 0: not known."""

    numbers: str
    least: float
    most: float
    holes: int
    top: int

    @property
    def words(self) -> str:
        """For a message."""
        holes = f", {self.holes} NaN or infinite" if self.holes else ""
        return f"{self.numbers}, values {self.least:.6g}..{self.most:.6g}{holes}"


@dataclass(frozen=True, slots=True)
class ImageLook:
    """The facts of one image file. problem: why it cannot be used (fault, message), or None.

    kind, mode: Pillow's words for the format and the channels. size: (H, W) as it is read, upright; stored: before
    the EXIF turn. turn: EXIF orientation, 1 upright. frames: pages of the file. deep: the numbers of an image with
    more than 8 bits, else None; cut: its bits, where 8 of them can be read. clear: some pixel is not opaque. grey,
    blank: of the pixels. digest, pixels: hashes of the bytes and of the RGB values; an empty one is unknown and
    equals no other. sketch: 64 bits that similar images share; small: (16, 16) uint8 grey.
    """

    path: Path
    problem: tuple[str, str] | None = None
    kind: str = ""
    mode: str = ""
    size: Size = (0, 0)
    stored: Size = (0, 0)
    turn: int = 1
    frames: int = 1
    deep: DeepValues | None = None
    cut: int | None = None
    clear: bool = False
    grey: bool = False
    blank: bool = False
    digest: bytes = b""
    pixels: bytes = b""
    sketch: int = 0
    small: NDArray[np.uint8] | None = None


Looks = Mapping[int, ImageLook]
"""The facts of the images of a data set, by position in its list."""


# ---- where the files are --------------------------------------------------------------------------------------------


class Folder:
    """The files below an image folder, found by name also where the spelling differs. known: their names at first."""

    def __init__(self, root: Path | None) -> None:
        self.root = root
        self.names: set[str] = set()
        self.known = FileNames()
        self._placed: dict[str, Path] = {}
        if root is None:
            return
        for folder, folders, files in os.walk(root, followlinks=True):
            folders[:] = [f for f in folders if not f.startswith(".")]
            below = Path(folder).relative_to(root)
            self.names.update((below / f).as_posix() for f in files)
        self.known = FileNames(self.names)

    def copy(self) -> "Folder":
        """A copy whose names can be changed without changing this one."""
        other = Folder(None)
        other.root, other.names, other.known = self.root, set(self.names), self.known
        return other

    def place(self, name: str, path: Path) -> None:
        """Let `name` mean this file."""
        self._placed[name] = path
        self.names.add(name)

    def path(self, name: str) -> Path | None:
        """The file of exactly this name; None where there is none."""
        if self.root is None or "\0" in name:
            return None
        if name in self._placed:
            return self._placed[name]
        plain = name.removeprefix("./")
        if plain in self.names:
            return self.root / plain
        if is_unsafe(name) or "//" in name or "/./" in name:
            try:
                return self.root / name if (self.root / name).is_file() else None
            except OSError:
                return None
        return None

    def elsewhere(self, name: str) -> str | None:
        """The only file that may be meant, of the same last part or else with another suffix, relative to the root."""
        return self.known.elsewhere(name) or self.known.other_suffix(name)


def is_unsafe(name: str) -> bool:
    """Whether a file name is absolute or leaves its folder."""
    paths = PurePosixPath(name), PureWindowsPath(name)
    return any(path.is_absolute() or path.drive or ".." in path.parts for path in paths)


# ---- what they are --------------------------------------------------------------------------------------------------


def look_all(paths: Sequence[Path], progress: Callable[[int], None] | None = None) -> list[ImageLook]:
    """The facts of each file, in order, read by up to four threads. progress: called with the total after each."""
    out: list[ImageLook] = []
    with ThreadPoolExecutor(max(1, min(4, os.cpu_count() or 1))) as pool:
        for begin in range(0, len(paths), _WINDOW):
            for found in pool.map(look, paths[begin : begin + _WINDOW]):
                out.append(found)
                if progress is not None:
                    progress(len(paths))
    return out


def look(path: Path) -> ImageLook:
    """The facts of one image file; never raises for its content."""
    try:
        content = path.read_bytes()
    except OSError as error:
        return ImageLook(path, ("unreadable-image", f"cannot be read ({error.strerror})"))
    known: dict[str, Any] = {"digest": hashlib.blake2b(content, digest_size=16).digest()}
    try:
        with media.opened(content) as file:
            height, width = stored = file.stored_size()
            known |= {"kind": file.kind, "mode": file.mode, "stored": stored, "turn": file.turn()}
            if height * width > media.MAX_PIXELS:
                text = f"{height}x{width} = {height * width} pixels; at most {media.MAX_PIXELS} are read"
                return ImageLook(path, ("oversized-image", text), **known)
            pixels = file.decode()
            known |= _of_pixels(media.rgb_of(pixels, media.PERCENTILES, path.name))
            known |= {"clear": pixels.clear, "deep": _deep(pixels), "cut": pixels.cut, "frames": file.pages}
    except ImageError as error:
        fault = "truncated-image" if error.code == "damaged-pixels" else "unreadable-image"
        text = str(error)
        return ImageLook(path, (fault, text.partition(": ")[2] or text), **known)
    return ImageLook(path, **known)


def _deep(pixels: media.Stored) -> DeepValues | None:
    """The numbers of an image with more than 8 bits, without its opacity."""
    if (deep := media.deep_values(pixels)) is None:
        return None
    finite, top = deep
    holes = pixels.parts()[0].size - finite.size
    return DeepValues(finite.dtype.name, finite.min().item(), finite.max().item(), holes, top)


def without_tag(look: ImageLook, *, upright: bool) -> ImageLook:
    """The facts of the image as a PNG without its EXIF tag: turned upright, or with its pixels as they are stored.

    The hash of the bytes stays that of the file the image comes from. Raises ImageError where it cannot be read.
    """
    bare = replace(look, turn=1, kind="PNG")
    if upright:
        return replace(bare, stored=look.size)
    with media.opened(look.path) as file:
        pixels = media.rgb_of(file.decode(upright=False), media.PERCENTILES, file.name)
    return replace(bare, **_of_pixels(pixels))


def pixels_of(path: Path, *, upright: bool) -> NDArray[Any]:
    """The pixels of an image file to write anew, as it is shown or as it is stored: RGB, or 16-bit grey as it is."""
    with media.opened(path) as file:
        pixels = file.decode(upright=upright)
        if pixels.values is not None and pixels.values.dtype == np.uint16 and pixels.values.ndim == 2:
            return pixels.values
        return media.rgb_of(pixels, media.PERCENTILES, file.name)


def _of_pixels(pixels: NDArray[np.uint8]) -> dict[str, Any]:
    """The facts of RGB values (H, W, 3), as fields of `ImageLook`."""
    first = pixels[0, 0]
    blank = bool((pixels[0] == first).all()) and bool((pixels == first).all())
    step = max(1, int((pixels.shape[0] * pixels.shape[1] / 250_000) ** 0.5))
    some = pixels[::step, ::step].astype(np.int16)
    grey = bool((np.abs(some[..., 0] - some[..., 1]) <= 2).all() and (np.abs(some[..., 0] - some[..., 2]) <= 2).all())
    hashed = hashlib.blake2b(str(pixels.shape).encode(), digest_size=16)
    hashed.update(np.ascontiguousarray(pixels).data)
    image = Image.fromarray(pixels).convert("L").resize((_SIDE, _SIDE), Image.Resampling.BOX)
    low = dctn(np.asarray(image, np.float64))[:8, :8].reshape(-1)[1:]
    bits = np.concatenate([[False], low > np.median(low)])
    sketch = int.from_bytes(np.packbits(bits).tobytes(), "big")
    small = np.asarray(image.resize((16, 16), Image.Resampling.BOX))
    known = {"grey": grey, "blank": blank, "pixels": hashed.digest(), "sketch": sketch, "small": small}
    return {"size": pixels.shape[:2], **known}
