"""YOLO label files (Ultralytics)."""

from maskwright.data.formats.yolo.read import load, recognise
from maskwright.data.formats.yolo.write import save

__all__ = ["load", "recognise", "save"]
