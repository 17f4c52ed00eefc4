"""CVAT XML 1.1."""

from maskwright.data.formats.cvat.read import load, recognise
from maskwright.data.formats.cvat.write import save

__all__ = ["load", "recognise", "save"]
