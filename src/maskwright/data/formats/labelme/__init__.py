"""LabelMe folders."""

from maskwright.data.formats.labelme.read import load, recognise, unpack
from maskwright.data.formats.labelme.write import save

__all__ = ["load", "recognise", "save", "unpack"]
