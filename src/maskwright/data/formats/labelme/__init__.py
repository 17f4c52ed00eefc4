"""LabelMe folders."""

from maskwright.data.formats.labelme.read import load, recognise, unpack
from maskwright.data.formats.labelme.write import save, sheet

__all__ = ["load", "recognise", "save", "sheet", "unpack"]
