"""COCO panoptic: JSON, and a PNG for each image whose colours are the segments' ids."""

from maskwright.data.formats.coco_panoptic.read import load, recognise
from maskwright.data.formats.coco_panoptic.results import FoundMaps, are_results, read_results
from maskwright.data.formats.coco_panoptic.write import save

__all__ = ["FoundMaps", "are_results", "load", "read_results", "recognise", "save"]
