"""COCO JSON: annotated data sets and result lists."""

from maskwright.data.formats.coco.read import load, load_place, recognise
from maskwright.data.formats.coco.results import ResultRow, load_results, read_results, save_results
from maskwright.data.formats.coco.write import save, save_place

__all__ = [
    "ResultRow",
    "load",
    "load_place",
    "load_results",
    "read_results",
    "recognise",
    "save",
    "save_place",
    "save_results",
]
