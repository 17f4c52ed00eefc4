"""Label Studio's JSON."""

from maskwright.data.formats.label_studio.read import load, recognise

__all__ = ["load", "recognise"]
