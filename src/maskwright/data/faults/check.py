"""Looks for every known fault of an annotated data set at once, where a strict reader stops at the first.

`check` gives a `Report`; `repair.repair` writes a repaired copy. The faults themselves are in `data/faults/`: a table,
and small functions that each look for one or a few of them.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from maskwright.data.faults import image_checks, overlap_checks, raw_rows, record_checks, set_checks, view
from maskwright.data.faults.looks import Folder, Look, look_all
from maskwright.data.faults.raw_rows import GONE, Rows
from maskwright.data.faults.table import FAULTS, SEVERITIES, Finding, Severity

Progress = Callable[[int], None]
"""Called with the total number of images after each."""


@dataclass(frozen=True, eq=False)
class Material:
    """What the checks work on. looks: by position in `images`, empty where images are not looked at."""

    rows: Rows
    folder: Folder
    looks: dict[int, Look] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Report:
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

    def text(self, examples: int = 3) -> str:
        """For people: one block for each fault, with its first `examples`."""
        lines = [_heading(self)]
        for name, found in self.by_fault().items():
            fault = FAULTS[name]
            lines += ["", f"{fault.severity} {name}: {len(found)}", f"  {fault.summary}"]
            lines += [f"    {f.where}: {f.message}" for f in found[:examples]]
            if len(found) > examples:
                lines.append(f"    ... and {len(found) - examples} more")
            if name == "missing-image" and 2 * len(found) > self.counts["images"]:
                lines.append(f"  first: give the right folder of the images with --images (looked in: {self.root})")
            lines += [f"  --fix: {fault.repair}"] if fault.repair else []
            lines += [f"  by hand: {fault.advice}"] if fault.advice and not fault.repair else []
        totals = ", ".join(_number(self.count(s), s) for s in SEVERITIES)
        return "\n".join([*lines, "", totals if self.findings else "No faults found."])

    def as_json(self) -> dict[str, Any]:
        """For programs: everything, JSON types only."""
        return {
            "source": str(self.source),
            "images": None if self.root is None else str(self.root),
            "counts": dict(self.counts),
            "totals": {s: self.count(s) for s in SEVERITIES},
            "findings": [finding_json(f) for name in self.by_fault().values() for f in name],
        }


def check(
    path: str | os.PathLike[str],
    images: str | os.PathLike[str] | None = None,
    *,
    format: str | None = None,
    val: str | os.PathLike[str] | None = None,
    val_images: str | os.PathLike[str] | None = None,
    files: bool = True,
    progress: Progress | None = None,
) -> Report:
    """Everything that is wrong or odd with a data set.

    path: annotation file or folder of any known format. images: the folder of its images; None: the format's own.
    val: the validation set, to be compared with; its own faults are not listed. val_images: the folder of its
    images; None: `images`, or the format's own. files: also open every image.
    Raises DataError where there is no such file or folder, ConfigError for an unknown format; whatever is wrong
    inside the file is a finding.
    """
    material, other = prepare(path, images, format, val, val_images, files, progress)
    return report(material, examine(material, other))


def prepare(
    path: str | os.PathLike[str],
    images: str | os.PathLike[str] | None,
    format: str | None,
    val: str | os.PathLike[str] | None,
    val_images: str | os.PathLike[str] | None,
    files: bool,
    progress: Progress | None,
) -> tuple[Material, Material | None]:
    """Read the annotations and look at the images of both set_checks."""
    train = raw_rows.read(Path(path), None if images is None else Path(images), format)
    beside = images if val_images is None else val_images
    held = None if val is None else raw_rows.read(Path(val), None if beside is None else Path(beside), format)
    sides = [Material(side, Folder(side.root if files else None)) for side in (train, held) if side is not None]
    found = [_paths(side) for side in sides]
    every = list(dict.fromkeys(path for paths in found for path in paths.values()))
    looks = dict(zip(every, look_all(every, progress), strict=True))
    for side, paths in zip(sides, found, strict=True):
        side.looks.update({at: looks[path] for at, path in paths.items()})
    return sides[0], sides[1] if held is not None else None


def _paths(side: Material) -> dict[int, Path]:
    """The file of each image record whose file is there, under its name or another spelling of it."""
    out = {}
    for image in view.index(side.rows).images:
        path = side.folder.path(image.name)
        if path is None and side.folder.root is not None:
            spelled = side.folder.spelled(image.name)
            path = None if spelled is None else side.folder.root / spelled
        if path is not None:
            out[image.at] = path
    return out


def examine(
    material: Material, val: Material | None = None, known: dict[int, list[Finding]] | None = None
) -> list[Finding]:
    """All faults of what was read. Causes are looked for before what follows from them.

    known: findings on the objects of an image, by its position; taken where they are there, else put there.
    """
    known = {} if known is None else known
    seen = view.index(material.rows)
    looks, folder = material.looks, material.folder
    found: list[Finding | None] = [f for one in record_checks.CHECKS for f in one(seen)]
    for image in seen.images:
        for of_record in image_checks.RECORD_CHECKS:
            found += of_record(image, folder)
        look = looks.get(image.at)
        for of_file in image_checks.FILE_CHECKS if look is not None else ():
            found += of_file(image, look)  # type: ignore[arg-type]
    for among in image_checks.AMONG_CHECKS:
        found += among(seen, looks, folder)
    others = [] if val is None else view.index(val.rows).images
    found += image_checks.unlisted({p.name for p in (*seen.images, *others)}, folder)
    bare = [f for f in set_checks.geometry(seen) if f is not None]
    broken: set[int] = set()
    for image in seen.images:
        look = looks.get(image.at)
        size = image.size or (look.size if look is not None and look.problem is None else None)
        if image.at not in known:
            known[image.at] = overlap_checks.examine(seen, image, size)
        of_image = known[image.at]
        broken |= {f.at for f in of_image if f.fault in FAULTS["box-only-object"].after}
        found += of_image
    found += [f for f in bare if f.at not in broken or f.fault != "box-only-object"]
    if val is not None and val.rows.problems:
        found += [replace(p, message=f"validation: {p.message}") for p in val.rows.problems]
    elif val is not None and not material.rows.problems:
        found += set_checks.between(seen, looks, view.index(val.rows), val.looks, files=folder.root is not None)
    return [f for f in found if f is not None]


def report(material: Material, findings: list[Finding]) -> Report:
    """The findings with what a person wants to know about the data set."""
    lists = {"images": "images", "annotations": "annotations", "classes": "categories"}
    counts = {name: sum(r is not GONE for r in getattr(material.rows, s)) for name, s in lists.items()}
    return Report(material.rows.path, material.rows.root, {**counts, "opened": len(material.looks)}, tuple(findings))


def finding_json(finding: Finding) -> dict[str, Any]:
    """One finding as JSON types."""
    return {
        "fault": finding.fault,
        "severity": finding.severity,
        "where": finding.where,
        "message": finding.message,
        "section": finding.section,
        "position": finding.at if finding.at >= 0 else None,
    }


def _heading(found: Report) -> str:
    counts = found.counts
    images_, objects = _number(counts["images"], "image"), _number(counts["annotations"], "annotation")
    classes = f"{counts['classes']} class{'' if counts['classes'] == 1 else 'es'}"
    return f"{found.source}: {images_} ({counts['opened']} opened), {objects}, {classes}"


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
