"""Whether an image has the size that its record states: one rule for the check, training, evaluation and writers; and
whether the labels of its pixels do.
"""

from pathlib import Path

from maskwright import media
from maskwright.errors import DataError, ImageError
from maskwright.types import IntArray, Size
from maskwright.wording import of_size

_ADVICE = {
    "exif-rotation": "Turn the pixels and remove the tag, or annotate again",
    "size-disagrees": "Was the image resized, cropped or replaced after it was annotated? Restore it or correct the "
    "record",
}


def disagreement(stated: Size, found: Size, turn: int) -> tuple[str, str] | None:
    """The fault and its facts in words where a record states another size than its upright image has; else None.

    turn: the image's EXIF orientation. From 5 on it exchanges height and width.
    """
    if stated == found:
        return None
    if turn >= 5 and stated == found[::-1]:
        text = f"EXIF orientation {turn}; annotated as {of_size(stated)}, upright it is {of_size(found)}"
        return "exif-rotation", text
    return "size-disagrees", f"stated {of_size(stated)}, the image is {of_size(found)}"


def require_size(path: Path, stated: Size, found: Size, record: str) -> None:
    """Raises DataError, naming the file and the record, where `disagreement` finds one."""
    if stated == found:
        return
    fault, facts = disagreement(stated, found, _turn(path)) or ("", "")
    cause = ""
    if fault == "exif-rotation":
        cause = " The annotations were drawn before the image's EXIF rotation was applied."
    elif stated == found[::-1]:
        cause = " Height and width are exchanged."
    raise DataError(
        f"{path}: {facts} ({record}).{cause} {_ADVICE[fault]}, or let the repair of `maskwright data check` write a "
        f"corrected copy."
    )


def _turn(path: Path) -> int:
    try:
        with media.opened(path) as file:
            return file.turn()
    except (ImageError, OSError):
        return 1


def require_fit(found: tuple[int, ...], size: Size, where: str, what: str) -> None:
    """Raises DataError, beginning with `where`, where a map of pixels, called `what`, is not of the image's size."""
    if found != size:
        raise DataError(f"{where}: the {what} is {found}, the image is {size}.")


def require_labels(labels: IntArray, size: Size, count: int, where: str) -> None:
    """Raises DataError, beginning with `where`, for a semantic map that is not of `size` or has not -1..count - 1."""
    require_fit(labels.shape, size, where, "semantic map")
    low, high = int(labels.min()), int(labels.max())
    if low < -1 or high >= count:
        facts = f"the labels of the semantic map are {low}..{high}, its {count} classes have -1..{count - 1}"
        raise DataError(f"{where}: {facts}.")
