"""The classes of objects in mask images: classes.txt and objects.csv beside the masks.

classes.txt: the class names in their order, one a line. objects.csv: columns mask, value, class: a mask's path below
the data set's folder, a value in it (empty: every object in it), its class; commas or semicolons.
Without either all objects are of one class, "object". An apostrophe stands before what a spreadsheet would take for a
formula.
"""

import csv
import io
from collections.abc import Iterable
from pathlib import Path

from maskwright.data.formats.shared.fields import Faults, Record, noted, read_classes, read_text, short
from maskwright.errors import DataError
from maskwright.wording import cell, cell_text

CLASSES, OBJECTS = "classes.txt", "objects.csv"
ONLY_CLASS = "object"
_COLUMNS = ("mask", "value", "class")

ClassKey = tuple[str, int | None]
"""A mask's path below the data set's folder, and a value in it; None: every object in it."""


class ClassTable:
    """Which class each object of a folder has. names: in label order."""

    def __init__(self, place: Path, folders: Iterable[str], faults: Faults = None) -> None:
        """folders: the class names that folders of masks have. faults: gets those of lines, which are then left out."""
        self.place, self.faults = place, faults
        self._lines: dict[ClassKey, int] = {}
        self._class: dict[ClassKey, str] = {}
        stated = read_classes(place / CLASSES) if (place / CLASSES).is_file() else []
        if (place / OBJECTS).is_file():
            self._read(place / OBJECTS)
        found = list(dict.fromkeys([*sorted(set(folders), key=_in_order), *self._class.values()]))
        for name in found:
            if stated and name not in stated:
                raise DataError(f"{place / CLASSES}: lacks the class '{name}', which has objects. Add a line for it.")
        self.names = stated or found or [ONLY_CLASS]
        self._unused = set(self._class)

    def label(self, mask: Path, value: int, folder: str | None) -> int:
        """The label of one object. Raises DataError where it is not stated and there are several classes."""
        path = mask.relative_to(self.place).as_posix()
        for key in ((path, value), (path, None)):
            if key in self._class:
                self._unused.discard(key)
                return self.names.index(self._class[key])
        if folder is not None:
            return self.names.index(folder)
        if len(self.names) > 1:
            raise DataError(
                f"{mask}: the class of the object of value {value} is not stated; it is one of {len(self.names)}. Add "
                f"the line '{path},{value},CLASS' to {self.place / OBJECTS}."
            )
        return 0

    def check_used(self) -> None:
        """Raises DataError where objects.csv names an object that no mask has."""
        for path, value in sorted(self._unused, key=self._lines.__getitem__):
            with noted(self.faults):
                raise Record(self.place / OBJECTS, f"line {self._lines[path, value]}").fault(
                    f"there is no object {'' if value is None else f'of value {value} '}in {path}. Correct or remove "
                    f"the line."
                )

    def _read(self, path: Path) -> None:
        lines = read_text(path).splitlines()
        first = lines[0] if lines else ""
        rows = csv.reader(lines, delimiter=";" if first.count(";") > first.count(",") else ",")
        head = [word.strip().lower() for word in next(rows, [])]
        if sorted(head) != sorted(_COLUMNS):
            raise DataError(f"{path}: line 1: the columns must be {', '.join(_COLUMNS)}, got {short(first)}.")
        for words in rows:
            at = Record(path, f"line {rows.line_num}")
            if not any(word.strip() for word in words):
                continue
            with noted(self.faults):
                if len(words) != len(head):
                    raise at.fault(f"expected {len(head)} columns, got {len(words)}: {short(words)}.")
                row = {name: cell_text(word.strip()) for name, word in zip(head, words, strict=True)}
                key = row["mask"].replace("\\", "/"), at.whole(row, "value") if row["value"] else None
                if not row["class"]:
                    raise at.fault("the class is empty.")
                if key in self._class:
                    raise at.fault(f"this object has a class already, on line {self._lines[key]}.")
                self._lines[key], self._class[key] = rows.line_num, row["class"]


def _in_order(name: str) -> tuple[int, str]:
    return int(name) if name.isdecimal() else -1, name


def objects_text(rows: Iterable[tuple[str, int | None, str]]) -> str:
    """objects.csv."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_COLUMNS)
    writer.writerows((cell(mask), "" if value is None else value, cell(name)) for mask, value, name in rows)
    return out.getvalue()
