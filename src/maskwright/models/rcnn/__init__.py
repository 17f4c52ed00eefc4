"""The R-CNN family: R-CNN, Fast, Faster, Mask and Keypoint R-CNN, Panoptic FPN. Start reading at `network`."""

from maskwright.models.rcnn.config import RCNNConfig as RCNNConfig
from maskwright.models.rcnn.config import RoIConfig as RoIConfig
from maskwright.models.rcnn.config import RPNConfig as RPNConfig
from maskwright.models.rcnn.explanation import best_score as best_score
from maskwright.models.rcnn.explanation import explain as explain
from maskwright.models.rcnn.fast import FAST as FAST
from maskwright.models.rcnn.keys import CLASS_ROWS as CLASS_ROWS
from maskwright.models.rcnn.keys import NAMES as NAMES
from maskwright.models.rcnn.network import RCNN as RCNN
from maskwright.models.rcnn.variants import compact as compact
from maskwright.models.rcnn.variants import crops as crops
from maskwright.models.rcnn.variants import detectron2_c4 as detectron2_c4
from maskwright.models.rcnn.variants import detectron2_fpn as detectron2_fpn
from maskwright.models.rcnn.variants import fast as fast
from maskwright.models.rcnn.variants import timm_fpn as timm_fpn
from maskwright.models.rcnn.variants import tiny as tiny
from maskwright.models.rcnn.variants import tiny_variants as tiny_variants
from maskwright.models.rcnn.variants import torchvision_v1 as torchvision_v1
from maskwright.models.rcnn.variants import torchvision_v2 as torchvision_v2
from maskwright.models.rcnn.zoo import ENTRIES as ENTRIES
