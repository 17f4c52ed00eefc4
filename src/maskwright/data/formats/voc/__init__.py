"""Pascal VOC's layout."""

from maskwright.data.formats.voc.boxes import REMARKS
from maskwright.data.formats.voc.read import load, recognise
from maskwright.data.formats.voc.write import save

__all__ = ["REMARKS", "load", "recognise", "save"]
