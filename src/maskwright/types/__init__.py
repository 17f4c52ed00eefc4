"""The values that travel between stages: fields, shapes, checks, and nothing else.

`image` holds those in an image's frame, `clip` the place of an image in a video, `network` those at a network's two
ends, `spec` what a model says of both; import all of them from here.
"""

from maskwright.types.clip import Clip, Frame
from maskwright.types.image import (
    BoolArray,
    Classes,
    FloatArray,
    ImageArray,
    Instances,
    IntArray,
    Landmarks,
    Masks,
    Panoptic,
    Segment,
    Size,
)
from maskwright.types.network import (
    BoxMasks,
    HeatMaps,
    Inputs,
    Limits,
    Part,
    PrototypeMasks,
    RawDetections,
    Semantic,
    Target,
)
from maskwright.types.spec import Fit, InputSpec, OutputSpec

__all__ = [
    "BoolArray",
    "BoxMasks",
    "Classes",
    "Clip",
    "Fit",
    "FloatArray",
    "Frame",
    "HeatMaps",
    "ImageArray",
    "InputSpec",
    "Inputs",
    "Instances",
    "IntArray",
    "Landmarks",
    "Limits",
    "Masks",
    "OutputSpec",
    "Panoptic",
    "Part",
    "PrototypeMasks",
    "RawDetections",
    "Segment",
    "Semantic",
    "Size",
    "Target",
]
