"""YolactEdge: YOLACT for video, which computes most of its backbone for key frames alone. Begin with `network`."""

from maskwright.models.yolact_edge.config import FlowConfig, YolactEdgeConfig
from maskwright.models.yolact_edge.keys import NAMES
from maskwright.models.yolact_edge.network import KeyFrame, YolactEdge
from maskwright.models.yolact_edge.variants import over, published, tiny_variants
from maskwright.models.yolact_edge.zoo import ENTRIES

__all__ = [
    "ENTRIES",
    "NAMES",
    "FlowConfig",
    "KeyFrame",
    "YolactEdge",
    "YolactEdgeConfig",
    "over",
    "published",
    "tiny_variants",
]
