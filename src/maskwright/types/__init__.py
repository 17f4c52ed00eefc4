"""The values that travel between stages: fields, shapes, checks, and nothing else.

`picture` holds those in a picture's frame, `network` those at a network's two ends; import all of them from here.
"""

from maskwright.types.network import Fit, InputSpec, OutputSpec, RawDetections, Target
from maskwright.types.picture import (
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

__all__ = [
    "BoolArray",
    "Classes",
    "Fit",
    "FloatArray",
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
