"""Every fault that `maskwright data check` knows, and a finding of one.

A new fault is one entry in `table_images` or `table_objects` and one function in a module `..._checks`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from maskwright.data.faults.fault import SEVERITIES, Fault, Severity
from maskwright.data.faults.table_images import FILE, IDS, IMAGES, SETS
from maskwright.data.faults.table_objects import OUTLINES, SCENES

__all__ = ["FAULTS", "SEVERITIES", "Fault", "Finding", "Section", "Severity"]

Section = Literal["images", "annotations", "categories", "file"]

FAULTS: Mapping[str, Fault] = MappingProxyType(
    {fault.name: fault for fault in (*FILE, *IDS, *IMAGES, *OUTLINES, *SCENES, *SETS)}
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault in one place. at: the position in the file's list `section`. detail: facts for repairs and checks."""

    fault: str
    where: str
    message: str
    section: Section = "file"
    at: int = -1
    detail: Any = field(default=None, compare=False)

    @property
    def severity(self) -> Severity:
        return FAULTS[self.fault].severity
