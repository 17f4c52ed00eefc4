"""COCO JSON: annotated data sets and result lists."""

from maskwright.data.formats.coco.read import load, load_place, recognise
from maskwright.data.formats.coco.results import ResultRow, instances_of, read_results, results_of
from maskwright.data.formats.coco.write import save, save_place

__all__ = [
    "ResultRow",
    "instances_of",
    "load",
    "load_place",
    "read_results",
    "recognise",
    "results_of",
    "save",
    "save_place",
]
