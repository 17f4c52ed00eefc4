"""Faults of image records and their files, of each and between them.

Letters: H W image.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import PurePosixPath

from maskwright import media
from maskwright.data.agreement import disagreement
from maskwright.data.faults.looks import Folder, ImageLook, Looks, is_unsafe
from maskwright.data.faults.table import Finding
from maskwright.data.faults.view import CheckedImage, RecordIndex, sides_of
from maskwright.data.formats.shared.fields import short
from maskwright.wording import of_size

Findings = Iterator[Finding | None]
_LARGE = 25_000_000  # pixels
_SUFFIXES = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "MPO": (".jpg", ".jpeg", ".mpo"),
    "PNG": (".png", ".apng"),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
    "BMP": (".bmp", ".dib"),
    "GIF": (".gif",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
    "JPEG2000": (".jp2", ".j2k", ".jpx"),
    "AVIF": (".avif",),
    "HEIF": (".heic", ".heif", ".hif"),
}


# ---- one record -----------------------------------------------------------------------------------------------------


def file_name(image: CheckedImage, folder: Folder) -> Findings:
    """Whether the file is there, and under that name. detail: the name that it may have instead."""
    if is_unsafe(image.name):
        yield image.finding("unsafe-file-name", short(image.name))
    if folder.root is None or folder.path(image.name) is not None:
        return
    spelled = folder.known.spelled(image.name)
    if spelled is not None:
        yield image.finding("file-name-spelling", f"the file is called '{spelled}'", spelled)
        return
    elsewhere = folder.elsewhere(image.name)
    hint = "" if elsewhere is None else f" There is {folder.root / elsewhere}."
    yield image.finding("missing-image", f"{folder.root / image.name} does not exist.{hint}", elsewhere)


def stated(image: CheckedImage, folder: Folder) -> Findings:
    if image.size is None:
        sides = {key: image.row.get(key) for key in ("height", "width")}
        yield image.finding("bad-size", f"the record has {short(sides)}")


def no_objects(image: CheckedImage, folder: Folder) -> Findings:
    if not image.objects:
        yield image.finding("empty-image", "no objects")


RECORD_CHECKS: tuple[Callable[[CheckedImage, Folder], Findings], ...] = (file_name, stated, no_objects)


# ---- one file -------------------------------------------------------------------------------------------------------


def sizes(image: CheckedImage, look: ImageLook) -> Findings:
    """The stated size against that of the image, and EXIF rotation between them."""
    recorded = image.size
    found = None if recorded is None else disagreement(recorded, look.size, look.turn)
    if found is not None:
        yield image.finding(*found)
    if look.turn != 1:
        sure = recorded == look.size != look.stored
        text = f"EXIF orientation {look.turn}; annotated as {'it is shown' if sure else 'it could be either way'}"
        yield image.finding("exif-tag", text, sure)


def contents(image: CheckedImage, look: ImageLook) -> Findings:
    suffix, kind = PurePosixPath(image.name).suffix.lower(), f"{look.kind}, mode {look.mode}"
    deep = look.deep
    dim = deep is not None and deep.top > 0 and 0 < deep.most - deep.least < deep.top / 4
    for fault, is_so, text in (
        ("blank-image", look.blank, "all pixels are the same"),
        ("multi-frame-image", look.frames > 1, f"{look.frames} frames"),
        ("deep-image", deep is not None, "" if deep is None else f"{look.kind}, {deep.words}"),
        ("cut-depth", look.cut is not None, f"{look.kind}, {look.cut} bits, mode {look.mode}"),
        ("dim-image", dim, "" if deep is None else f"{deep.words} of 0..{deep.top}"),
        ("alpha-channel", look.clear, kind),
        ("cmyk-image", look.mode == "CMYK", look.kind),
        ("large-image", look.size[0] * look.size[1] > _LARGE, of_size(look.size)),
        ("wrong-suffix", suffix not in _SUFFIXES.get(look.kind, (suffix,)), f"a {look.kind} called '{suffix}'"),
    ):
        if is_so:
            yield image.finding(fault, text)


FILE_CHECKS: tuple[Callable[[CheckedImage, ImageLook], Findings], ...] = (sizes, contents)


# ---- all of them ----------------------------------------------------------------------------------------------------


def names_twice(view: RecordIndex, looks: Looks) -> Findings:
    first: dict[str, CheckedImage] = {}
    for image in view.images:
        other = first.setdefault(image.name, image)
        if other is not image:
            yield image.finding("duplicate-file-name", f"also that of {other.where}", other.at)


def contents_twice(view: RecordIndex, looks: Looks) -> Findings:
    """Among images to learn from, and among those of parts that are held out; `set_checks` looks across."""
    learnt, held_out = sides_of(view)
    for images in (learnt, held_out) if learnt and held_out else (view.images,):
        yield from _same(images, looks)


def _same(images: Sequence[CheckedImage], looks: Looks) -> Findings:
    bytes_seen: dict[bytes, CheckedImage] = {}
    pixels_seen: dict[bytes, CheckedImage] = {}
    for image in images:
        look = looks.get(image.at)
        if look is None or look.problem is not None or look.blank or "duplicate-file-name" in image.found:
            continue
        same = bytes_seen.setdefault(look.digest, image) if look.digest else image
        alike = pixels_seen.setdefault(look.pixels, image) if look.pixels else image
        other = same if same is not image else alike
        if other is not image and other.name != image.name:
            what = "bytes" if same is not image else "pixels"
            yield image.finding("duplicate-image", f"the same {what} as {other.where}", other.at)


def colours(view: RecordIndex, looks: Looks) -> Findings:
    good = [look for look in looks.values() if look.problem is None and not look.blank]
    grey = sum(look.grey for look in good)
    if 0 < grey < len(good):
        yield Finding("mixed-colour", view.rows.path.name, f"{grey} of {len(good)} images are grey")


def unlisted(listed: set[str], folder: Folder) -> Findings:
    """Images beside listed ones that no record names. listed: the file names of all sets that are looked at."""
    plain = {name.removeprefix("./") for name in listed}
    plain |= {folder.known.spelled(name) or name for name in plain - folder.names}
    beside = {PurePosixPath(name).parent for name in plain}
    for name in sorted(folder.names - plain):
        path = PurePosixPath(name)
        if path.parent in beside and path.suffix.lower() in media.SUFFIXES and not path.name.startswith("."):
            yield Finding("unlisted-image", name, "not in the annotations")


AMONG_CHECKS: tuple[Callable[[RecordIndex, Looks], Findings], ...] = (names_twice, contents_twice, colours)
