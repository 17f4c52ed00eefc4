"""Writes a repaired copy of a data set, and says of each fault that is left why it needs a person.

The original is never changed. Repairs are made in rounds, because a repair may uncover another fault. A round changes
each record at most once; then everything that may have changed is checked again.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

from maskwright import media
from maskwright.atomic import new_folder
from maskwright.data.faults.check import AnyPath, CheckedSet, CheckOptions, CheckReport, examine, prepare, report
from maskwright.data.faults.draft import Draft, NeedsPerson, is_object
from maskwright.data.faults.fixes import FIXES
from maskwright.data.faults.looks import pixels_of
from maskwright.data.faults.overlap_checks import Examined
from maskwright.data.faults.raw_rows import GONE, write
from maskwright.data.faults.table import FAULTS, OUTLINES, SCENES, Finding
from maskwright.errors import ConfigError, DataError
from maskwright.wording import counted

_ROUNDS = 20
_GEOMETRY = {fault.name for fault in (*OUTLINES, *SCENES)}
MOST_DROPPED = 0.02
"""Share of the objects that a repair may lose without being asked to."""

_KEPT_ELSEWHERE = {"duplicate-object", "duplicate-image", "in-train-and-val"}  # another record has the same object
_DOUBT = {"size-disagrees", "exif-rotation", "exchanged-axes", "image-id-clash"}


@dataclass(frozen=True, eq=False)
class RepairReport:
    """The outcome of each fault. done: (finding, what was done). left: (finding, why it needs a person).

    out: the folder of the copy. before, after: the reports of the original and of the copy. images: files written.
    mapped: the original has semantic maps, which are not in the copy.
    """

    out: Path
    before: CheckReport
    after: CheckReport
    done: tuple[tuple[Finding, str], ...]
    left: tuple[tuple[Finding, str], ...]
    images: int
    mapped: bool = False

    def text(self, examples: int = 3) -> str:
        """As text: by fault, what was done and what is left to do."""
        lines = [f"Repaired copy: {self.out} (annotations.json, {self.images} images in images/)"]
        lines += ["Not in the copy: the semantic maps of the original."] if self.mapped else []
        for done, pairs in ((True, self.done), (False, self.left)):
            groups: dict[str, list[tuple[Finding, str]]] = {name: [] for name in FAULTS}
            for finding, text in pairs:
                groups[finding.fault].append((finding, text))
            for name, found in groups.items():
                if not found:
                    continue
                undone = "left as it is" if FAULTS[name].severity == "note" else "needs a person"
                lines += ["", f"{'repaired' if done else undone}: {name}: {len(found)}"]
                lines += [f"    {f.where}: {text}" for f, text in found[:examples]]
                lines += [f"    ... and {len(found) - examples} more"] if len(found) > examples else []
        return "\n".join(lines)

    def as_json(self) -> dict[str, Any]:
        """As JSON types."""
        return {
            "folder": str(self.out),
            "images": self.images,
            "done": [{**f.as_json(), "done": text} for f, text in self.done],
            "left": [{**f.as_json(), "why": text} for f, text in self.left],
            "after": self.after.as_json()["totals"],
        }


def repair(
    path: AnyPath,
    out: AnyPath,
    images: AnyPath | None = None,
    *,
    drop: bool = False,
    **options: Unpack[CheckOptions],
) -> RepairReport:
    """Check a data set as `check.check` does and write a repaired copy of it.

    out: a new folder for annotations.json (COCO JSON, whatever the format of the original) and images/. Images are
    copied byte for byte, except those whose EXIF tag is resolved, which are written as PNG. With files=False only the
    annotations are written. drop: also where more than `MOST_DROPPED` of the objects would be lost.
    Raises ConfigError where `out` exists or the annotations cannot be read at all, DataError where too many objects
    would be lost, else as `check`.
    """
    folder = Path(out)
    if folder.exists():
        raise ConfigError(f"{folder} exists already. The repaired copy needs a new folder; nothing is overwritten.")
    checked, other = prepare(path, images, **options)
    before = report(checked, examine(checked, other))
    if checked.rows.problems:
        raise ConfigError(f"{path}: cannot be repaired: {checked.rows.problems[0].message}")
    draft = Draft(checked.rows.copy(), checked.folder.copy(), dict(checked.looks))
    done, left, findings = _rounds(draft, other)
    if not drop:
        _require_most(checked, draft, done)
    after = report(CheckedSet(draft.rows, draft.folder, draft.looks), findings)
    with new_folder(folder) as part:
        count = _write_images(draft, part / "images") if options.get("files", True) else 0
        cleared = write(part / "annotations.json", draft.rows)
    if cleared:
        text = f"{cleared} numbers without a value (NaN, infinite) in other fields became null"
        done.append((Finding("non-finite-coordinate", before.source.name, text), text))
    return RepairReport(folder, before, after, tuple(done), tuple(left), count, checked.rows.mapped)


def _require_most(checked: CheckedSet, draft: Draft, done: list[tuple[Finding, str]]) -> None:
    """Raises DataError where the repairs lose too many objects, with the faults that cost them."""
    lost = {fault: n for fault, n in draft.lost.most_common() if n and fault not in _KEPT_ELSEWHERE}
    count, total = sum(lost.values()), sum(map(is_object, checked.rows.annotations))
    if count <= MOST_DROPPED * total:
        return
    why = ", ".join(f"{fault} {n}" for fault, n in lost.items())
    first = next((f"{f.where}: {f.message}" for f, _ in done if f.fault in lost), "")
    raise DataError(
        f"{checked.rows.path}: nothing was written. The repair would leave out {count} of {counted(total, 'object')} "
        f"or turn them into crowd regions ({why}). The first is {first}. Is one mistake behind them all? Then correct "
        f"it; else allow it.",
        options=("drop",),
    )


def _rounds(
    draft: Draft, val: CheckedSet | None
) -> tuple[list[tuple[Finding, str]], list[tuple[Finding, str]], list[Finding]]:
    """Repair until nothing more can be repaired: what was done, what is left and why, and the last findings."""
    done: list[tuple[Finding, str]] = []
    known: dict[int, Examined] = {}
    for _ in range(_ROUNDS):
        findings = _examine(draft, val, known)
        draft.refresh()
        draft.doubtful = {f.at for f in findings if f.fault in _DOUBT and f.section == "images"}
        draft.shared = max(draft.shared, sum(f.fault == "in-train-and-val" for f in findings))
        made, left = _round(draft, findings, known)
        done += made
        if not made:
            return done, left, findings
    return done, left, _examine(draft, val, {})


def _examine(draft: Draft, val: CheckedSet | None, known: dict[int, Examined]) -> list[Finding]:
    """The faults of the copy, which has only the images that are listed."""
    findings = examine(CheckedSet(draft.rows, draft.folder, draft.looks), val, known)
    return [f for f in findings if f.fault != "unlisted-image"]


def _round(
    draft: Draft, findings: list[Finding], known: dict[int, Examined]
) -> tuple[list[tuple[Finding, str]], list[tuple[Finding, str]]]:
    """Make one round of repairs, at most one for each record. known: loses the entries that they make invalid."""
    done, left = [], []
    touched: set[tuple[str, int]] = set()
    order = {name: k for k, name in enumerate(FIXES)}
    for finding in sorted(findings, key=lambda f: order.get(f.fault, len(order))):
        place = (finding.section, finding.at)
        if place in touched or (finding.at >= 0 and draft.rows.section(finding.section)[finding.at] is GONE):
            continue
        owner = draft.owner(finding)
        try:
            text = _make(draft, finding)
        except NeedsPerson as reason:
            left.append((finding, str(reason)))
            continue
        done.append((finding, text))
        touched.add(place)
        if owner is None or finding.section == "images":
            known.clear()  # ids, names or sizes changed, which may affect every image
        else:
            known.pop(owner.at, None)
    return done, left


def _make(draft: Draft, finding: Finding) -> str:
    fault = FAULTS[finding.fault]
    owner = draft.owner(finding)
    if fault.name not in FIXES:
        raise NeedsPerson(fault.advice)
    if fault.name in _GEOMETRY and owner is not None and owner.at in draft.doubtful:
        raise NeedsPerson("the size or the axes of its image are in doubt: repair that first")
    draft.cause = fault.name
    return FIXES[fault.name](draft, finding)


def _write_images(draft: Draft, folder: Path) -> int:
    """Copy or write the image of every remaining record; returns their number."""
    folder.mkdir()
    written: set[str] = set()
    for at, row in enumerate(draft.rows.images):
        look = draft.looks.get(at)
        name = row.get("file_name") if isinstance(row, dict) else None
        if look is None or not isinstance(name, str) or name in written:
            continue
        written.add(name)
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if at in draft.turned:
            media.write_image(target, pixels_of(look.path, upright=draft.turned[at]))
        else:
            shutil.copy2(look.path, target)
    return len(written)
