"""Where images come from: files, folders, patterns, lists, URLs and bytes."""

import glob
import http.client
import io
import os
import urllib.error
import urllib.request
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from maskwright import web
from maskwright.errors import ImageError
from maskwright.wording import counted, message_of

Source = str | os.PathLike[str] | bytes
"""A path, an http(s) URL, or the content of a file."""

HEIC = (".heic", ".heif", ".hif")
"""Suffixes of HEIC, which a package more reads."""

HEIC_INSTALL = "pip install 'maskwright[heic]'"

_HEIC_READ = find_spec("pillow_heif") is not None

SUFFIXES = (
    *(
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".mpo",
        ".png",
        ".apng",
        ".tif",
        ".tiff",
        ".svs",
        ".webp",
        ".bmp",
        ".dib",
        ".gif",
    ),
    *(".jp2", ".j2k", ".jpx", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".avif"),
    *(HEIC if _HEIC_READ else ()),
)
"""Suffixes by which `find_images` finds images in folders and patterns; reading goes by content."""

UNREAD = (
    *(() if _HEIC_READ else HEIC),
    *(".jxl", ".jls", ".jxr", ".exr", ".hdr", ".tga", ".qoi", ".ico", ".psd", ".xcf", ".svg", ".eps"),
    *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2"),
    *(".czi", ".nd2", ".lif", ".lsm", ".stk", ".oib", ".oif", ".vsi", ".ims", ".ndpi", ".mrc", ".dcm", ".npy"),
)
"""Suffixes of images that are not read, which are named where a folder has some."""

MAX_DOWNLOAD = 200 * 2**20
"""Largest size of an image behind a URL, in bytes."""


def find_images(
    sources: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], notes: list[str] | None = None
) -> list[str | Path]:
    """The images that `sources` name, in order, without duplicates.

    A source is a file (of any suffix), a folder (the images directly in it, sorted by name; for subfolders use a
    pattern such as "photos/**/*.jpg"), a pattern with * ? [ ] (sorted), a .txt list (one file or URL per line, relative
    to the list; empty lines and lines that begin with # are skipped; missing entries are reported when they are read),
    or an http(s) URL, which stays a str.
    notes: gets a sentence about files of folders that are images of kinds that are not read.
    Raises ImageError, naming the source, if it has no images.
    """
    if isinstance(sources, (str, os.PathLike)):
        sources = [sources]
    found: dict[str, str | Path] = {}
    for source in sources:
        for item in _expand(os.fspath(source), notes):
            found.setdefault(item if isinstance(item, str) else os.path.realpath(item), item)
    if not found:
        raise ImageError("No images were given: the list of sources is empty.")
    return list(found.values())


def _expand(source: str, notes: list[str] | None) -> list[str | Path]:
    if _is_url(source):
        return [source]
    path = Path(source)
    if path.is_dir():
        every = sorted(path.iterdir())
        inside = [p for p in every if _looks_like_image(p)]
        other = [p for p in every if p.suffix.lower() in UNREAD and p.name[0] != "." and p.is_file()]
        left = f"{counted(len(other), 'image')} of kinds that are not read" if other else ""
        left += f": {', '.join(p.name for p in other[:3])}{' ...' if len(other) > 3 else ''}" if other else ""
        how = f"or read HEIC: {HEIC_INSTALL}" if any(p.suffix.lower() in HEIC for p in other) else ""
        export = f"xport them as JPEG or PNG{', ' + how if how else ''}."
        if not inside:
            deeper = next((p for p in every if p.is_dir() and any(map(_looks_like_image, p.iterdir()))), None)
            hint = f" Its folders have some, such as {deeper.name}: give the pattern '{path}/**/*'." if deeper else ""
            hint += f" It holds {left}; e{export}" if other else ""
            raise ImageError(f"{source}: no image in this folder (looked for {', '.join(SUFFIXES)}).{hint}")
        if other and notes is not None:
            notes.append(f"Left out of {source}: {left}. E{export}")
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
        raise ImageError(f"{path}: expected a text list of images, one per line ({message_of(error)}).") from error
    entries = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not entries:
        raise ImageError(f"{path}: the list names no image.")
    if "\0" in "".join(entries):
        raise ImageError(f"{path}: expected a text list of images, one per line (it has zero bytes).")
    return [entry if _is_url(entry) else path.parent / entry for entry in entries]


def _looks_like_image(path: Path) -> bool:
    """Also a link that leads nowhere: it is reported when it is read."""
    known = path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    return known and (path.is_file() or (path.is_symlink() and not path.exists()))


def open_source(source: Source) -> tuple[str, IO[bytes]]:
    """The name of the source for messages, and its bytes as an open file. Raises ImageError."""
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
        raise ImageError(f"{name}: the file cannot be opened ({message_of(error)}).") from error


def _is_url(name: str) -> bool:
    return web.is_address(name)


def _download(url: str, timeout: float = 30.0) -> bytes:
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "maskwright"})
        content = bytearray()
        with web.open_address(request, timeout) as answer:
            for block in web.blocks(answer):
                content += block
                if len(content) > MAX_DOWNLOAD:
                    break
    except (OSError, http.client.HTTPException, ValueError) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()
        raise ImageError(f"{url}: could not be fetched ({message_of(error)}).") from error
    if len(content) > MAX_DOWNLOAD:
        raise ImageError(f"{url}: larger than {MAX_DOWNLOAD} bytes. Fetch it yourself and give the file.")
    return bytes(content)
