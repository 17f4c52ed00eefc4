"""The values that travel between stages: fields, shapes, checks, and nothing else.

`image` holds those in an image's frame, `network` those at a network's two ends, `clip` the place of an image in a
video; import all of them from here.
"""

from maskwright.types.clip import Clip, Frame
from maskwright.types.image import (
    BoolArray,
    Classes,
    FloatArray,
    Instances,
    IntArray,
    Landmarks,
    Masks,
    Panoptic,
    Segment,
    Size,
)
from maskwright.types.network import Fit, InputSpec, OutputSpec, RawDetections, Target

__all__ = [
    "BoolArray",
    "Classes",
    "Clip",
    "Fit",
    "FloatArray",
    "Frame",
    "InputSpec",
    "Instances",
    "IntArray",
    "Landmarks",
    "Masks",
    "OutputSpec",
    "Panoptic",
    "RawDetections",
    "Segment",
    "Size",
    "Target",
]
