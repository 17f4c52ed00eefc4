"""Finds all known faults of an annotated data set, where a strict reader stops at the first.

`check` gives a `CheckReport`; `repair.repair` writes a repaired copy. `table` lists the faults; the modules
named `..._checks` find them.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypedDict, Unpack

from maskwright.data.doubt import Tally
from maskwright.data.faults import image_checks, overlap_checks, raw_rows, record_checks, set_checks, view
from maskwright.data.faults.looks import Folder, ImageLook, look_all
from maskwright.data.faults.overlap_checks import Examined
from maskwright.data.faults.raw_rows import GONE, RawRows
from maskwright.data.faults.table import FAULTS, SEVERITIES, Finding, Severity
from maskwright.wording import counted

AnyPath = str | os.PathLike[str]


@dataclass(frozen=True, eq=False)
class CheckedSet:
    """What the checks read. looks: facts of the image files by position in `images`, empty where none was opened."""

    rows: RawRows
    folder: Folder
    looks: dict[int, ImageLook] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class CheckReport:
    """What was found. counts: images, annotations and classes of the file; images that were opened."""

    source: Path
    root: Path | None
    counts: Mapping[str, int]
    findings: tuple[Finding, ...]

    def count(self, severity: Severity) -> int:
        """Findings of this severity."""
        return sum(f.severity == severity for f in self.findings)

    def failed(self, *, strict: bool = False) -> bool:
        """Whether there are errors; strict: or warnings."""
        return self.count("error") > 0 or (strict and self.count("warning") > 0)

    def by_fault(self) -> dict[str, list[Finding]]:
        """Findings by fault, the most severe first, in the order of the table."""
        groups: dict[str, list[Finding]] = {}
        for finding in self.findings:
            groups.setdefault(finding.fault, []).append(finding)
        order = sorted(FAULTS, key=lambda name: SEVERITIES.index(FAULTS[name].severity))
        return {name: groups[name] for name in order if name in groups}

    def text(self, examples: int = 3, *, repair: str = "repair") -> str:
        """As text: a block for each fault, with its first `examples`. repair: what the repair is called."""
        images, opened = counted(self.counts["images"], "image"), self.counts["opened"]
        objects, classes = (
            counted(self.counts["annotations"], "annotation"),
            counted(self.counts["classes"], "class", "es"),
        )
        lines = [f"{self.source}: {images} ({opened} opened), {objects}, {classes}"]
        for name, found in self.by_fault().items():
            fault = FAULTS[name]
            lines += ["", f"{fault.severity} {name}: {len(found)}", f"  {fault.summary}"]
            lines += [f"    {f.where}: {f.message}" for f in found[:examples]]
            if len(found) > examples:
                lines.append(f"    ... and {len(found) - examples} more")
            if name == "missing-image" and 2 * sum(f.detail is None for f in found) > self.counts["images"]:
                lines.append(f"  first: give the right folder of the images (searched: {self.root})")
            lines += [f"  {repair}: {fault.repair}"] if fault.repair else []
            lines += [f"  by hand: {fault.advice}"] if fault.advice and not fault.repair else []
        totals = ", ".join(counted(self.count(s), s) for s in SEVERITIES)
        return "\n".join([*lines, "", totals if self.findings else "No faults found."])

    def as_json(self) -> dict[str, Any]:
        """Everything, as JSON types."""
        return {
            "source": str(self.source),
            "images": None if self.root is None else str(self.root),
            "counts": dict(self.counts),
            "totals": {s: self.count(s) for s in SEVERITIES},
            "findings": [f.as_json() for found in self.by_fault().values() for f in found],
        }


class CheckOptions(TypedDict, total=False):
    """What `check` and `repair` take by name.

    format: of the annotations; None recognises it. val: the validation set to compare with; its own faults are not
    listed. val_images: the folder of its images; None: `images`, or the format's own. files: also open every image
    (True). progress: called with the total number of images after each.
    """

    format: str | None
    val: AnyPath | None
    val_images: AnyPath | None
    files: bool
    progress: Callable[[int], None] | None


def check(path: AnyPath, images: AnyPath | None = None, **options: Unpack[CheckOptions]) -> CheckReport:
    """All faults of a data set.

    path: annotation file or folder of any known format. images: the folder of its images; None: the format's own.
    Raises DataError where there is no such file or folder, ConfigError for an unknown format; whatever is wrong
    inside the file is a finding.
    """
    checked, other = prepare(path, images, **options)
    return report(checked, examine(checked, other))


def prepare(
    path: AnyPath, images: AnyPath | None, **options: Unpack[CheckOptions]
) -> tuple[CheckedSet, CheckedSet | None]:
    """Read the annotations and the images of both sets."""
    format, val, val_images = options.get("format"), options.get("val"), options.get("val_images")
    sources = [(path, images)] if val is None else [(path, images), (val, val_images or images)]
    read = [raw_rows.read(Path(p), None if root is None else Path(root), format) for p, root in sources]
    sides = [CheckedSet(side, Folder(side.root if options.get("files", True) else None)) for side in read]
    found = [_paths(side) for side in sides]
    every = list(dict.fromkeys(path for paths in found for path in paths.values()))
    looks = dict(zip(every, look_all(every, options.get("progress")), strict=True))
    for side, paths in zip(sides, found, strict=True):
        side.looks.update({at: looks[path] for at, path in paths.items()})
    return sides[0], None if val is None else sides[1]


def _paths(side: CheckedSet) -> dict[int, Path]:
    """The file of each image record that has one, under its name or another spelling, by position."""
    out = {}
    for image in view.index(side.rows).images:
        path = side.folder.path(image.name)
        if path is None and side.folder.root is not None:
            spelled = side.folder.known.spelled(image.name)
            path = None if spelled is None else side.folder.root / spelled
        if path is not None:
            out[image.at] = path
    return out


def examine(
    checked: CheckedSet, val: CheckedSet | None = None, known: dict[int, Examined] | None = None
) -> list[Finding]:
    """All faults of a data set. Causes are checked before their consequences.

    known: a cache of the findings on the objects of each image, by its position; read and filled.
    """
    known = {} if known is None else known
    seen = view.index(checked.rows)
    looks, folder = checked.looks, checked.folder
    found: list[Finding | None] = [f for one in record_checks.CHECKS for f in one(seen)]
    for image in seen.images:
        for of_record in image_checks.RECORD_CHECKS:
            found += of_record(image, folder)
        look = looks.get(image.at)
        if look is not None and look.problem is not None:
            found.append(image.finding(*look.problem))
        elif look is not None:
            for of_file in image_checks.FILE_CHECKS:
                found += of_file(image, look)
    found += set_checks.between_parts(seen, looks)
    for among in image_checks.AMONG_CHECKS:
        found += among(seen, looks)
    others = [] if val is None else view.index(val.rows).images
    found += image_checks.unlisted({p.name for p in (*seen.images, *others)}, folder)
    bare = list(set_checks.geometry(seen))
    broken, tally = set[int](), Tally()
    for image in seen.images:
        look = looks.get(image.at)
        size = image.size or (look.size if look is not None and look.problem is None else None)
        if image.at not in known:
            known[image.at] = overlap_checks.examine(seen, image, size)
        of_image, tally = known[image.at][0], tally + known[image.at][1]
        broken |= {f.at for f in of_image if f.fault in FAULTS["box-only-object"].after}
        found += of_image
    found += set_checks.crowds(seen, tally)
    if tally.doubt():
        found.append(Finding("doubtful-objects", seen.rows.path.name, tally.doubt()))
    found += [f for f in bare if f.fault != "box-only-object" or f.at not in broken]
    if val is not None and val.rows.problems:
        found += [replace(p, message=f"validation: {p.message}") for p in val.rows.problems]
    elif val is not None and not checked.rows.problems:
        found += set_checks.between(seen, looks, view.index(val.rows), val.looks, files=folder.root is not None)
    return [f for f in found if f is not None]


def report(checked: CheckedSet, findings: list[Finding]) -> CheckReport:
    """The report of the findings, with the counts of the data set."""
    lists = {"images": "images", "annotations": "annotations", "classes": "categories"}
    counts = {name: sum(r is not GONE for r in getattr(checked.rows, s)) for name, s in lists.items()}
    return CheckReport(checked.rows.path, checked.rows.root, {**counts, "opened": len(checked.looks)}, tuple(findings))
