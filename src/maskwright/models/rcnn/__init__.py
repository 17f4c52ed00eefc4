"""The R-CNN family: Faster R-CNN and Mask R-CNN. `network` is the place to begin to read."""

from maskwright.models.rcnn.config import RCNNConfig, RoIConfig, RPNConfig
from maskwright.models.rcnn.explanation import best_score, explain
from maskwright.models.rcnn.fast import FAST
from maskwright.models.rcnn.keys import CLASS_ROWS, NAMES
from maskwright.models.rcnn.network import RCNN
from maskwright.models.rcnn.variants import (
    compact,
    detectron2_c4,
    detectron2_fpn,
    timm_fpn,
    tiny,
    tiny_variants,
    torchvision_v1,
    torchvision_v2,
)
from maskwright.models.rcnn.zoo import ENTRIES

__all__ = [
    "CLASS_ROWS",
    "ENTRIES",
    "FAST",
    "NAMES",
    "RCNN",
    "RCNNConfig",
    "RPNConfig",
    "RoIConfig",
    "best_score",
    "compact",
    "detectron2_c4",
    "detectron2_fpn",
    "explain",
    "timm_fpn",
    "tiny",
    "tiny_variants",
    "torchvision_v1",
    "torchvision_v2",
]
