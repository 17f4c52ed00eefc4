"""Repairs of records, ids and images.

Letters: H W image. A repair changes the records of the draft, never a file, and returns what it did.
"""

from collections.abc import Collection
from dataclasses import replace
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from maskwright.data.faults import object_checks
from maskwright.data.faults.draft import Draft, NeedsPerson
from maskwright.data.faults.looks import ImageLook, look, without_tag
from maskwright.data.faults.raw_rows import GONE, SECTIONS, finite, stated_size
from maskwright.data.faults.table import Finding
from maskwright.data.formats.shared.fields import Row, whole
from maskwright.wording import of_size

COORDINATES = ("bbox", "segmentation", "keypoints", "area")
"""The fields of an annotation that are in pixels."""

# ---- records --------------------------------------------------------------------------------------------------------


def drop_annotation(draft: Draft, finding: Finding) -> str:
    if finding.section != "annotations":
        raise NeedsPerson("only annotations are removed automatically")
    draft.remove("annotations", finding.at)
    return "annotation left out"


def _present(rows: list[Any], finding: Finding) -> Row:
    """The other record that a finding names."""
    other = rows[finding.detail]
    if other is GONE:
        raise NeedsPerson("the other record was removed in this round")
    row: Row = other
    return row


def _move(draft: Draft, finding: Finding, number: Any) -> int:
    """Let the annotations of an image or a class name this id instead; gives how many these are."""
    annotations, old = draft.rows.annotations, whole(draft.row(finding)["id"])
    if finding.section == "images":
        key, mine = "image_id", [annotations[k] for k in draft.image(finding.at).objects]
    else:
        key, mine = "category_id", [r for _, r in draft.seen.annotations() if whole(r.get("category_id")) == old]
    for row in mine:
        row[key] = number
    return len(mine)


def merge_same(draft: Draft, finding: Finding) -> str:
    """Of two records for the same image or class the first one is kept, with what belongs to both."""
    row, first = draft.row(finding), _present(draft.rows.section(finding.section), finding)
    if finding.fault == "duplicate-file-name":
        same, differ = stated_size(row) == stated_size(first), "the records state different sizes"
    elif finding.section == "images":
        same = all(row.get(key) == first.get(key) for key in ("file_name", "height", "width"))
        differ = "the records differ, and the annotations may belong to either"
    else:
        same = row.get("name") == first.get("name")
        differ = "the classes have different names, and the annotations may belong to either"
    if not same:
        raise NeedsPerson(differ)
    count = _move(draft, finding, first["id"])
    draft.remove(finding.section, finding.at)
    if finding.fault == "duplicate-file-name":
        return f"one record with the objects of both ({count} moved)"
    return "the second record, which is the same, left out" if finding.section == "images" else "the classes became one"


def renumber(draft: Draft, finding: Finding) -> str:
    row, new = draft.row(finding), draft.new_id(finding.section)
    old = whole(row["id"])
    if finding.section != "annotations":
        _move(draft, finding, new)
    row["id"] = new
    return f"the id {old} became {new}"


def add_class(draft: Draft, finding: Finding) -> str:
    draft.rows.categories.append({"id": finding.detail, "name": f"class {finding.detail}"})
    draft.refresh()
    return f"added 'class {finding.detail}': rename it"


def ids_as_numbers(draft: Draft, finding: Finding) -> str:
    count = sum(draft.rows.named.values())  # names have become numbers already
    draft.rows = replace(draft.rows, named={})
    for section in SECTIONS:
        for row in draft.rows.section(section):
            for key in ("id", "image_id", "category_id") if isinstance(row, dict) else ():
                if not isinstance(row.get(key), int) and whole(row.get(key)) is not None:
                    row[key] = whole(row[key])
                    count += 1
    return f"{count} ids became whole numbers"


# ---- images -------------------------------------------------------------------------------------------------------


def size_of_image(draft: Draft, finding: Finding) -> str:
    look = draft.looks.get(finding.at)
    if look is None or look.problem is not None:
        raise NeedsPerson("the image cannot be read, so its size is not known")
    draft.row(finding).update(height=look.size[0], width=look.size[1])
    return f"set to {of_size(look.size)}"


def drop_image(draft: Draft, finding: Finding) -> str:
    return draft.drop_image(finding.at)


def drop_shared(draft: Draft, finding: Finding) -> str:
    """Drop an image that is in the validation set too, unless that would drop most of the set."""
    if draft.shared > len(draft.rows.images) / 2:
        raise NeedsPerson("more than half of the images would go: is the validation set the same file?")
    return draft.drop_image(finding.at)


def find_missing(draft: Draft, finding: Finding) -> str:
    """The name becomes that of the only file it can be; else the image is left out."""
    found = _surely(draft, finding)
    if found is not None:
        draft.looks[finding.at] = found
        return f"named '{draft.rename(finding.at, finding.detail)}', the only file of this name"
    if len(draft.looks) <= len(draft.rows.images) / 2:
        raise NeedsPerson("more than half of the images are missing: is this the right image folder?")
    return draft.drop_image(finding.at)


def _surely(draft: Draft, finding: Finding) -> ImageLook | None:
    """The file that a missing image must be: the only one of its name and of its size, and named by no other record.

    The suffix may be another one (a.jpg became a.png).
    """
    if finding.detail is None or draft.folder.root is None:
        return None
    image = draft.image(finding.at)
    parts, other = PureWindowsPath(image.name).parts, PurePosixPath(finding.detail).parts
    shorter = min(len(parts), len(other))
    same_end = parts[-shorter:] == other[-shorter:] or draft.folder.known.other_suffix(image.name) == finding.detail
    same_end &= all(p.name != finding.detail for p in draft.seen.images)
    alone = sum(PureWindowsPath(p.name).name.casefold() == parts[-1].casefold() for p in draft.seen.images) == 1
    if not (same_end and alone):
        return None
    found = look(draft.folder.root / finding.detail)
    return found if image.size in (None, found.size, found.stored) else None


def spell(draft: Draft, finding: Finding) -> str:
    draft.row(finding)["file_name"] = finding.detail
    return f"named '{finding.detail}'"


def plain_name(draft: Draft, finding: Finding) -> str:
    if finding.at not in draft.looks:
        raise NeedsPerson("the file is not there")
    return f"the copy is called '{draft.rename(finding.at, PureWindowsPath(draft.row(finding)['file_name']).name)}'"


def drop_same_image(draft: Draft, finding: Finding) -> str:
    _present(draft.rows.images, finding)
    sides = []
    for at in (finding.at, finding.detail):
        rows = [r for k in draft.image(at).objects if (r := draft.rows.annotations[k]) is not GONE]
        sides.append(sorted(repr([r.get(k) for k in ("category_id", "bbox", "segmentation")]) for r in rows))
    if sides[0] != sides[1]:
        raise NeedsPerson("the two have different annotations")
    return draft.drop_image(finding.at)


def turn(draft: Draft, finding: Finding) -> str:
    """Plan to write the image as the annotations need it."""
    look = draft.looks[finding.at]
    upright = finding.fault == "exif-tag"
    if upright and not finding.detail:
        raise NeedsPerson("the annotations could be drawn either way")
    draft.looks[finding.at] = look = without_tag(look, upright=upright)
    draft.turned[finding.at] = upright
    name = draft.rename(finding.at, str(PurePosixPath(draft.row(finding)["file_name"]).with_suffix(".png")))
    return f"written as '{name}' of {of_size(look.size)}, without the tag"


def settle_size(draft: Draft, finding: Finding) -> str:
    """A stated size that is not the image's: correct the record, or scale outlines drawn on a resized image."""
    row, look = draft.row(finding), draft.looks[finding.at]
    image = draft.image(finding.at)
    recorded, real = image.size, look.size
    assert recorded is not None
    positions = [k for k in image.objects if draft.rows.annotations[k] is not GONE]
    annotations = [draft.rows.annotations[k] for k in positions]
    sizes = {tuple(r["segmentation"].get("size", ())) for r in annotations if isinstance(r.get("segmentation"), dict)}
    objects = [object_checks.read(draft.seen, image, k, recorded)[0] for k in positions]
    over = max((object_checks.overhang(b, real) for t in objects if t.rle is None and (b := t.place)), default=0.0)
    same_shape = abs(real[0] * recorded[1] - real[1] * recorded[0]) <= max(*recorded, *real)
    if sizes <= {real} and over <= object_checks.BEYOND and (not same_shape or sizes or not annotations):
        row.update(height=real[0], width=real[1])
        return f"the record became {of_size(real)}: the outlines fit the image"
    if same_shape and not sizes and over > object_checks.BEYOND:
        for annotation in annotations:
            scale(annotation, real[1] / recorded[1], real[0] / recorded[0])
        row.update(height=real[0], width=real[1])
        return f"outlines scaled from {of_size(recorded)} to {of_size(real)}"
    raise NeedsPerson("the outlines fit neither of the two sizes clearly")


def scale(row: Row, x: float, y: float, fields: Collection[str] = COORDINATES) -> None:
    """Multiply the coordinates, and the area, of an annotation."""
    given: dict[str, Any] = {key: row.get(key) for key in fields}
    if isinstance(box := given.get("bbox"), list):
        row["bbox"] = [v * f for v, f in zip(box, (x, y, x, y), strict=False)]
    if isinstance(outline := given.get("segmentation"), list):
        parts = object_checks.flattened(outline) or outline
        row["segmentation"] = [[v * (x, y)[k % 2] for k, v in enumerate(part)] for part in parts]
    if isinstance(points := given.get("keypoints"), list):
        row["keypoints"] = [v * (x, y, 1)[k % 3] for k, v in enumerate(points)]
    if finite(given.get("area")):
        row["area"] *= x * y
