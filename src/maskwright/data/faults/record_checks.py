"""Faults of the records themselves: what they lack, their ids, what they refer to, the names of classes."""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from maskwright.data.faults.raw_rows import GONE, SECTIONS, Unread
from maskwright.data.faults.table import FileSection, Finding
from maskwright.data.faults.view import RecordIndex
from maskwright.data.formats.coco.rows import Categories
from maskwright.data.formats.shared.fields import RecordError, Row, short, whole
from maskwright.errors import ConfigError

Findings = Iterator[Finding]
_SINGULAR: dict[FileSection, str] = {"images": "image", "annotations": "annotation", "categories": "class"}
_REFERENCES: dict[FileSection, tuple[str, ...]] = {
    "images": ("id",),
    "annotations": ("id", "image_id", "category_id"),
    "categories": ("id",),
}


def malformed(view: RecordIndex) -> Findings:
    """Records that are no JSON objects or lack an id, a name or a reference."""
    yield from view.rows.problems
    for section in SECTIONS:
        for k, row in enumerate(view.rows.section(section)):
            problem = None if row is GONE else _problem(section, row)
            if problem is None and section == "categories" and row is not GONE:
                problem = _class_problem(row)
            if problem is not None:
                where = row.place if isinstance(row, Unread) else f"{_SINGULAR[section]} record {k}"
                yield Finding("malformed-record", where, problem, section, k)


def _problem(section: FileSection, row: object) -> str | None:
    if isinstance(row, Unread):
        return row.problem
    if not isinstance(row, dict):
        return f"expected a JSON object, got {short(row)}"
    for key in _REFERENCES[section]:
        if whole(row.get(key)) is None:
            return f"'{key}' must be a whole number, got {short(row.get(key))}"
    text = {"images": "file_name", "categories": "name"}.get(section)
    if text is not None and not (isinstance(row.get(text), str) and row[text].strip()):
        return f"'{text}' must be a name, got {short(row.get(text))}"
    return None


def _class_problem(row: Row) -> str | None:
    """The error of the strict reader for a class record, its landmarks and their links."""
    try:
        Categories(Path(), [row])
    except RecordError as error:
        return error.problem
    except ConfigError as error:
        return str(error)
    return None


def _sound(view: RecordIndex, section: FileSection) -> Iterator[tuple[int, Row, int]]:
    """Position, record and id of the records that are well formed."""
    for k, row in enumerate(view.rows.section(section)):
        if row is not GONE and _problem(section, row) is None:
            yield k, row, whole(row["id"]) or 0


def clashes(view: RecordIndex) -> Findings:
    """Ids that are used twice. detail: the first record that has it."""
    faults = {"images": "image-id-clash", "annotations": "annotation-id-clash", "categories": "category-id-clash"}
    for section in SECTIONS:
        first: dict[int, int] = {}
        for k, row, number in _sound(view, section):
            other = first.setdefault(number, k)
            if other == k:
                continue
            before = view.rows.section(section)[other]
            named, others = (r.get("file_name") or r.get("name") for r in (row, before))
            what = f"for '{others}' and '{named}'" if named else f"in records {other} and {k}"
            if section == "images":
                view.by_position[k].found.add("image-id-clash")
            yield Finding(faults[section], f"{_SINGULAR[section]} {number}", f"used twice, {what}", section, k, other)


def odd_ids(view: RecordIndex) -> Findings:
    for section in SECTIONS:
        text = Counter[str]()
        if section in view.rows.named:
            text["id (a name)"] = view.rows.named[section]
        for k, row, number in _sound(view, section):
            text.update(key for key in _REFERENCES[section] if not isinstance(row[key], int))
            if number < 0:
                yield Finding("negative-id", f"{_SINGULAR[section]} {number}", "the id is negative", section, k)
            if number == 0 and section == "annotations":
                yield Finding("annotation-id-zero", "annotation 0", "the id is 0", section, k)
        if text:
            some = ", ".join(f"{count} times '{key}'" for key, count in text.items())
            yield Finding("id-as-text", f"'{section}'", some, section)


def references(view: RecordIndex) -> Findings:
    missing = {p.detail for p in view.rows.problems}
    for k, row, number in _sound(view, "annotations"):
        where = f"annotation {number}"
        image, category = whole(row["image_id"]), whole(row["category_id"])
        if image not in view.by_id and "images" not in missing:
            yield Finding("unknown-image", where, f"image_id {image} is not in 'images'", "annotations", k)
        elif category not in view.categories and "categories" not in missing:
            text = f"category_id {category} is not in 'categories'"
            yield Finding("unknown-category", where, text, "annotations", k, category)


def class_names(view: RecordIndex) -> Findings:
    """The same name twice, exactly or nearly. detail: the first record that has it."""
    exact: dict[str, int] = {}
    alike: dict[str, int] = {}
    for k, row, number in _sound(view, "categories"):
        if view.categories[number] != k:
            continue
        name = row["name"]
        where = f"class {number} ({name})"
        first = exact.setdefault(name, k)
        similar = alike.setdefault(re.sub(r"[\s_-]+", "", name).casefold(), k)
        if first != k:
            other = view.rows.categories[first]["id"]
            yield Finding("same-class-name", where, f"class {other} has this name too", "categories", k, first)
        elif similar != k:
            other = view.rows.categories[similar]
            text = f"almost that of class {other['id']} ({other['name']})"
            yield Finding("similar-class-names", where, text, "categories", k)


def class_counts(view: RecordIndex) -> Findings:
    """Classes without objects, and the ratio of the most and least frequent of the others."""
    if view.rows.problems:
        return
    if not any(True for _ in view.annotations()) or not view.images:
        yield Finding("no-objects", view.rows.path.name, f"{len(view.images)} images, no annotation")
        return
    if not view.counts:
        return
    for number, k in view.categories.items():
        if not view.counts[number]:
            where = f"class {number} ({view.name(number)})"
            yield Finding("class-without-objects", where, "no objects", "categories", k)
    counts = {n: c for n, c in view.counts.items() if c and n in view.categories}
    if counts:
        most, least = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
        if counts[most] > 100 * counts[least]:
            text = f"{view.name(most)} {counts[most]} objects, {view.name(least)} {counts[least]}"
            yield Finding("class-imbalance", view.rows.path.name, text)


RecordCheck = Callable[[RecordIndex], Findings]
CHECKS: tuple[RecordCheck, ...] = (malformed, clashes, odd_ids, references, class_names, class_counts)
