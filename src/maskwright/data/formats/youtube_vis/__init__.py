"""YouTube-VIS JSON."""

from maskwright.data.formats.youtube_vis.read import load, recognise
from maskwright.data.formats.youtube_vis.results import are_results, read_results
from maskwright.data.formats.youtube_vis.write import save

__all__ = ["are_results", "load", "read_results", "recognise", "save"]
