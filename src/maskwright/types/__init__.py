"""The values that travel between stages: fields, shapes, checks, and nothing else.

`image` holds those in an image's frame, `panoptic` maps of its segments, `clip` the place of an image in a video,
`network` those at a network's two ends, `spec` what a model says of both; import all of them from here.
"""

from maskwright.types.clip import Clip as Clip
from maskwright.types.clip import Frame as Frame
from maskwright.types.clip import TrackFacts as TrackFacts
from maskwright.types.image import RGB as RGB
from maskwright.types.image import BoolArray as BoolArray
from maskwright.types.image import Classes as Classes
from maskwright.types.image import DoubleArray as DoubleArray
from maskwright.types.image import FloatArray as FloatArray
from maskwright.types.image import ImageArray as ImageArray
from maskwright.types.image import Instances as Instances
from maskwright.types.image import IntArray as IntArray
from maskwright.types.image import Landmarks as Landmarks
from maskwright.types.image import Masks as Masks
from maskwright.types.image import Size as Size
from maskwright.types.network import BoxMasks as BoxMasks
from maskwright.types.network import HeatMaps as HeatMaps
from maskwright.types.network import Inputs as Inputs
from maskwright.types.network import Limits as Limits
from maskwright.types.network import Part as Part
from maskwright.types.network import PrototypeMasks as PrototypeMasks
from maskwright.types.network import RawDetections as RawDetections
from maskwright.types.network import Semantic as Semantic
from maskwright.types.network import Target as Target
from maskwright.types.panoptic import THINGS as THINGS
from maskwright.types.panoptic import Panoptic as Panoptic
from maskwright.types.panoptic import Segment as Segment
from maskwright.types.panoptic import ranked as ranked
from maskwright.types.spec import FULL as FULL
from maskwright.types.spec import FitMode as FitMode
from maskwright.types.spec import InputSpec as InputSpec
from maskwright.types.spec import Intensity as Intensity
from maskwright.types.spec import OutputSpec as OutputSpec
from maskwright.types.spec import SearchSpec as SearchSpec
