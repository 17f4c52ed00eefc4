"""Faults of picture records and their files, one by one and among each other.

Letters: H W picture.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePosixPath

from maskwright import media
from maskwright.data.faults.files import Folder, Look, is_unsafe
from maskwright.data.faults.outlines import shown
from maskwright.data.faults.table import Finding
from maskwright.data.faults.view import Index, Picture
from maskwright.data.fields import short

Found = Iterator[Finding | None]
_LARGE = 25_000_000  # pixels
_SUFFIXES = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "MPO": (".jpg", ".jpeg", ".mpo"),
    "PNG": (".png", ".apng"),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
    "BMP": (".bmp", ".dib"),
    "GIF": (".gif",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "JPEG2000": (".jp2", ".j2k", ".jpx"),
    "AVIF": (".avif",),
}


# ---- one record -----------------------------------------------------------------------------------------------------


def file_name(picture: Picture, folder: Folder) -> Found:
    """Whether the file is there, and under that name. detail: the name that it may have instead."""
    if is_unsafe(picture.name):
        yield picture.finding("unsafe-file-name", short(picture.name))
    if folder.root is None or folder.path(picture.name) is not None:
        return
    spelled = folder.spelled(picture.name)
    if spelled is not None:
        yield picture.finding("file-name-spelling", f"the file is called '{spelled}'", spelled)
        return
    elsewhere = folder.elsewhere(picture.name)
    hint = "" if elsewhere is None else f" A file of this name lies in {(folder.root / elsewhere).parent}."
    yield picture.finding("missing-picture", f"{folder.root / picture.name} does not exist.{hint}", elsewhere)


def stated(picture: Picture, folder: Folder) -> Found:
    if picture.size is None:
        sides = {key: picture.row.get(key) for key in ("height", "width")}
        yield picture.finding("bad-size", f"the record has {short(sides)}")


def no_objects(picture: Picture, folder: Folder) -> Found:
    if not picture.objects:
        yield picture.finding("empty-picture", "no objects")


RECORD_CHECKS: tuple[Callable[[Picture, Folder], Found], ...] = (file_name, stated, no_objects)


# ---- one file -------------------------------------------------------------------------------------------------------


def readable(picture: Picture, look: Look) -> Found:
    if look.problem is not None:
        yield picture.finding(*look.problem)


def sizes(picture: Picture, look: Look) -> Found:
    """The stated size against that of the picture, and EXIF rotation between them."""
    if look.problem is not None:
        return
    said = picture.size
    tag = f"EXIF orientation {look.turn}"
    if said is not None and said != look.size:
        if look.turn != 1 and said == look.stored:
            yield picture.finding(
                "exif-rotation", f"{tag}; annotated as {shown(said)}, upright it is {shown(look.size)}"
            )
        else:
            yield picture.finding("size-disagrees", f"stated {shown(said)}, the picture is {shown(look.size)}")
    if look.turn != 1:
        sure = said == look.size != look.stored
        yield picture.finding(
            "exif-tag", f"{tag}; annotated as {'it is shown' if sure else 'it could be either way'}", sure
        )


def contents(picture: Picture, look: Look) -> Found:
    if look.problem is not None:
        return
    if look.blank:
        yield picture.finding("blank-picture", "all pixels are the same")
    if look.frames > 1:
        yield picture.finding("multi-frame-picture", f"{look.frames} frames")
    if look.deep:
        yield picture.finding("deep-picture", f"{look.kind}, mode {look.mode}")
    if look.peak is not None and 0 < look.peak < 2**12:
        bits = max(look.peak.bit_length(), 1)
        yield picture.finding("dim-picture", f"the highest value is {look.peak} ({bits} of 16 bits)")
    if look.clear:
        yield picture.finding("alpha-channel", f"{look.kind}, mode {look.mode}")
    if look.mode == "CMYK":
        yield picture.finding("cmyk-picture", look.kind)
    if look.size[0] * look.size[1] > _LARGE:
        yield picture.finding("large-picture", shown(look.size))
    suffix = PurePosixPath(picture.name).suffix.lower()
    if suffix not in _SUFFIXES.get(look.kind, (suffix,)):
        yield picture.finding("wrong-suffix", f"a {look.kind} called '{suffix}'")


FILE_CHECKS: tuple[Callable[[Picture, Look], Found], ...] = (readable, sizes, contents)


# ---- all of them ----------------------------------------------------------------------------------------------------


def names_twice(view: Index, looks: Mapping[int, Look], folder: Folder) -> Found:
    first: dict[str, Picture] = {}
    for picture in view.pictures:
        other = first.setdefault(picture.name, picture)
        if other is not picture:
            other_at = other.at
            yield picture.finding("duplicate-file-name", f"also that of {other.where}", other_at)


def contents_twice(view: Index, looks: Mapping[int, Look], folder: Folder) -> Found:
    bytes_seen: dict[bytes, Picture] = {}
    pixels_seen: dict[bytes, Picture] = {}
    for picture in view.pictures:
        look = looks.get(picture.at)
        if look is None or look.problem is not None or look.blank or "duplicate-file-name" in picture.found:
            continue
        same = bytes_seen.setdefault(look.digest, picture) if look.digest else picture
        alike = pixels_seen.setdefault(look.pixels, picture) if look.pixels else picture
        other = same if same is not picture else alike
        if other is not picture and other.name != picture.name:
            what = "bytes" if same is not picture else "pixels"
            yield picture.finding("duplicate-picture", f"the same {what} as {other.where}", other.at)


def colours(view: Index, looks: Mapping[int, Look], folder: Folder) -> Found:
    good = [look for look in looks.values() if look.problem is None and not look.blank]
    grey = sum(look.grey for look in good)
    if 0 < grey < len(good):
        yield Finding("mixed-colour", view.rows.path.name, f"{grey} of {len(good)} pictures are grey")


def unlisted(listed: set[str], folder: Folder) -> Found:
    """Pictures beside listed ones that no record names. listed: the file names of all sets that are looked at."""
    plain = {name.removeprefix("./") for name in listed}
    plain |= {folder.spelled(name) or name for name in plain - folder.names}
    beside = {PurePosixPath(name).parent for name in plain}
    for name in sorted(folder.names - plain):
        path = PurePosixPath(name)
        if path.parent in beside and path.suffix.lower() in media.SUFFIXES and not path.name.startswith("."):
            yield Finding("unlisted-picture", name, "not in the annotations")


AMONG_CHECKS: tuple[Callable[[Index, Mapping[int, Look], Folder], Found], ...] = (
    names_twice,
    contents_twice,
    colours,
)
