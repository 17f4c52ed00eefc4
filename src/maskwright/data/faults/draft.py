"""The records of a data set under repair."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from maskwright.data.faults import object_checks, view
from maskwright.data.faults.looks import Folder, ImageLook
from maskwright.data.faults.raw_rows import GONE, RawRows
from maskwright.data.faults.table import FileSection, Finding
from maskwright.data.faults.view import CheckedObject
from maskwright.data.formats.shared.fields import Row, whole
from maskwright.wording import counted


def is_object(row: Any) -> bool:
    """Whether an annotation record is an object, no crowd region."""
    return isinstance(row, dict) and not view.marks_crowd(row)


class NeedsPerson(Exception):
    """Why a repair was not made."""


@dataclass(eq=False)
class Draft:
    """The records under repair, and the planned changes of images.

    rows, folder, looks: this repair's own. turned: positions of images whose pixels are written anew without an EXIF
    tag: True upright, False as stored. doubtful: positions of image records whose size or axes are in doubt, so that
    nothing on them is changed. shared: how many images are in the validation set too. cause: the fault that is being
    repaired. lost: by fault, the objects that were left out or became crowd regions. seen: the index of the records as
    of the last `refresh`.
    """

    rows: RawRows
    folder: Folder
    looks: dict[int, ImageLook]
    turned: dict[int, bool] = field(default_factory=dict)
    doubtful: set[int] = field(default_factory=set)
    shared: int = 0
    cause: str = ""
    lost: Counter[str] = field(default_factory=Counter)
    seen: view.RecordIndex = field(init=False)
    _next: dict[str, int] = field(default_factory=dict)
    _names: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.refresh()
        self._names = {image.name.casefold(): image.at for image in self.seen.images}

    def refresh(self) -> None:
        """Index the records again after a change."""
        self.seen = view.index(self.rows)

    def row(self, finding: Finding) -> Row:
        """The record that a finding is about."""
        row: Row = self.rows.section(finding.section)[finding.at]
        return row

    def image(self, at: int) -> view.CheckedImage:
        """The view of the image record at this position."""
        return self.seen.by_position[at]

    def owner(self, finding: Finding) -> view.CheckedImage | None:
        """The image that a finding is about or on."""
        if finding.section == "images":
            return self.seen.by_position.get(finding.at)
        row = self.rows.annotations[finding.at] if finding.section == "annotations" else None
        number = whole(row.get("image_id")) if isinstance(row, dict) else None
        return None if number is None else self.seen.by_id.get(number)

    def obj(self, finding: Finding) -> CheckedObject:
        """The annotation, its geometry parsed on its image."""
        image = self.owner(finding)
        look = None if image is None else self.looks.get(image.at)
        size = None if image is None else image.size or (look.size if look is not None else None)
        if image is None or size is None:
            raise NeedsPerson("the size of its image is not known")
        return object_checks.read(self.seen, image, finding.at, size)[0]

    def new_id(self, section: FileSection) -> int:
        """An id that no record of the section has."""
        if section not in self._next:
            numbers = (whole(r.get("id")) for r in self.rows.section(section) if isinstance(r, dict))
            self._next[section] = max((n for n in numbers if n is not None), default=0)
        self._next[section] = max(self._next[section], 0) + 1
        return self._next[section]

    def remove(self, section: FileSection, at: int) -> None:
        """Leave a record out."""
        if section == "annotations":
            self.lose(self.rows.annotations[at])
        self.rows.section(section)[at] = GONE

    def lose(self, row: Any) -> None:
        """Count an annotation that is about to go, where it is an object."""
        self.lost[self.cause] += is_object(row)

    def drop_image(self, at: int) -> str:
        """Leave out an image with its annotations."""
        mine = [k for k in self.image(at).objects if self.rows.annotations[k] is not GONE]
        for k in mine:
            self.remove("annotations", k)
        self.remove("images", at)
        return f"left out with its {counted(len(mine), 'annotation')}"

    def rename(self, at: int, wish: str) -> str:
        """Give the copy of an image the wished name, or a numbered one where that is taken."""
        path, name, count = PurePosixPath(wish), wish, 1
        while self._names.setdefault(name.casefold(), at) != at:
            count += 1
            name = str(path.with_name(f"{path.stem}-{count}{path.suffix}"))
        self.folder.place(name, self.looks[at].path)
        self.rows.images[at]["file_name"] = name
        return name


Fix = Callable[[Draft, Finding], str]
"""Changes the records for one finding and returns what it did, or raises NeedsPerson."""
