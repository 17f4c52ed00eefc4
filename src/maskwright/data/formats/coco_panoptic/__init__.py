"""COCO panoptic: JSON, and a PNG for each image whose colours are the segments' ids."""

from maskwright.data.formats.coco_panoptic.maps import read_ids
from maskwright.data.formats.coco_panoptic.read import load, recognise
from maskwright.data.formats.coco_panoptic.write import save

__all__ = ["load", "read_ids", "recognise", "save"]
