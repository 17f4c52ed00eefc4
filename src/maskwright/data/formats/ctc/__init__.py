"""Folders of the Cell Tracking Challenge: videos of cells, and label images whose values are tracks."""

from maskwright.data.formats.ctc.read import load, recognise
from maskwright.data.formats.ctc.results import read_results

__all__ = ["load", "read_results", "recognise"]
