"""Panoptic maps drawn on their image."""

from typing import Any

from maskwright.draw.overlay import overlay
from maskwright.types import ImageArray, Panoptic


def segments(image: Any, found: Panoptic, **options: Any) -> ImageArray:
    """The image with all segments of a panoptic map drawn on it, and the names of their classes.

    Objects have a colour each, and a kind of stuff has one in all images. options: of `overlay`. Raises as that does.
    """
    stuff = [label for label, thing in enumerate(found.things) if not thing]
    things = sum(found.things[s.label] for s in found.segments)
    objects = iter(range(len(stuff), len(stuff) + things))
    shades = [next(objects) if found.things[s.label] else stuff.index(s.label) for s in found.segments]
    return overlay(image, found.regions(), **{"scores": False, "colour": shades, **options})
