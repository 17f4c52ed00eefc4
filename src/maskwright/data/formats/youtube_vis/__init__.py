"""YouTube-VIS JSON."""

from maskwright.data.formats.youtube_vis.read import load, recognise
from maskwright.data.formats.youtube_vis.write import save

__all__ = ["load", "recognise", "save"]
