"""The annotation formats: one table, and a folder for each format."""

from maskwright.data.formats.table import FORMATS, Format, find, load, recognise, save

__all__ = ["FORMATS", "Format", "find", "load", "recognise", "save"]
