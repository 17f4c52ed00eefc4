"""Masks kept as images: label images ("masks"), or an image for each object ("dsb2018")."""

from maskwright.data.formats.masks.read import (
    load_foreground,
    load_masks,
    load_objects,
    recognise_masks,
    recognise_objects,
)
from maskwright.data.formats.masks.write import save_masks, save_objects

__all__ = [
    "load_foreground",
    "load_masks",
    "load_objects",
    "recognise_masks",
    "recognise_objects",
    "save_masks",
    "save_objects",
]
