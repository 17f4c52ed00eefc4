"""YolactEdge: YOLACT for video, with most of the backbone computed for key frames only. Start reading at `network`."""

from maskwright.models.yolact_edge.config import FlowConfig as FlowConfig
from maskwright.models.yolact_edge.config import YolactEdgeConfig as YolactEdgeConfig
from maskwright.models.yolact_edge.keys import NAMES as NAMES
from maskwright.models.yolact_edge.network import KeyFrame as KeyFrame
from maskwright.models.yolact_edge.network import YolactEdge as YolactEdge
from maskwright.models.yolact_edge.variants import over as over
from maskwright.models.yolact_edge.variants import published as published
from maskwright.models.yolact_edge.variants import tiny_variants as tiny_variants
from maskwright.models.yolact_edge.zoo import ENTRIES as ENTRIES
