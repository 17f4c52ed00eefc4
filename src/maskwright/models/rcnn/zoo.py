"""The R-CNNs of the zoo.

Sources: detectron2's MODEL_ZOO.md (files carry the first 6 digits of their md5; CC BY-SA 3.0) and torchvision's model
pages (files carry the first 8 digits of their sha256; BSD-3-Clause). AP: COCO val2017, as published.
"""

from dataclasses import replace
from functools import partial

from maskwright.models.coco_classes import COCO, COCO_BY_ID, COCO_PERSON, COCO_STUFF
from maskwright.models.entry import Entry, Published
from maskwright.models.rcnn import variants
from maskwright.models.rcnn.config import RCNNConfig
from maskwright.models.rcnn.semantic import SemanticConfig
from maskwright.types import Classes

Figure = float | None


def _torchvision(file: str, megabytes: float, box: float, mask: Figure = None, keypoint: Figure = None) -> Published:
    url, digest = f"https://download.pytorch.org/models/{file}", file.rpartition("-")[2].removesuffix(".pth")
    return Published("torchvision", url, f"sha256:{digest}", "BSD-3-Clause", megabytes, box, mask, keypoint)


def _detectron2(
    file: str, megabytes: float, box: float, mask: Figure = None, keypoint: Figure = None, pq: Figure = None
) -> Published:
    task = (
        "PanopticSegmentation" if pq else "Keypoints" if keypoint else "InstanceSegmentation" if mask else "Detection"
    )
    digest = file.rpartition("_")[2].removesuffix(".pkl")
    url = f"https://dl.fbaipublicfiles.com/detectron2/COCO-{task}/{file}"
    return Published("detectron2", url, f"md5:{digest}", "CC-BY-SA-3.0", megabytes, box, mask, keypoint, pq)


def fast_over(backbone: str) -> RCNNConfig:
    """Fast R-CNN with a feature pyramid over a timm backbone."""
    return variants.fast(variants.timm_fpn(backbone))


def keypoints_over(backbone: str) -> RCNNConfig:
    """Keypoint R-CNN with a feature pyramid over a timm backbone."""
    return replace(variants.timm_fpn(backbone, 1, masks=False), landmarks=(17,))


def panoptic_over(backbone: str) -> RCNNConfig:
    """Panoptic FPN over a timm backbone."""
    semantic = SemanticConfig(COCO_STUFF.names, COCO_STUFF.ids)
    return replace(variants.timm_fpn(backbone), semantic=semantic)


# fmt: off
ENTRIES = (
    Entry("nuclei", "Mask R-CNN for cell nuclei in microscopy images, inside the package", None, Classes(["nucleus"]),
        7_272_278, inside="nuclei.safetensors"),
    Entry("faster_rcnn_r50_fpn.detectron2", "Faster R-CNN, ResNet-50, FPN, 3x schedule",
        variants.detectron2_fpn(masks=False), COCO, 41_699_936,
        _detectron2("faster_rcnn_R_50_FPN_3x/137849458/model_final_280758.pkl", 167.2, 40.2)),
    Entry("faster_rcnn_r50_fpn.torchvision", "Faster R-CNN, ResNet-50, FPN",
        variants.torchvision_v1(masks=False), COCO_BY_ID, 41_751_186,
        _torchvision("fasterrcnn_resnet50_fpn_coco-258fb6c6.pth", 167.5, 37.0)),
    Entry("faster_rcnn_r50_fpn_v2", "Faster R-CNN, ResNet-50, FPN, batch norm throughout, trained for 400 epochs",
        variants.torchvision_v2(masks=False), COCO_BY_ID, 43_708_178,
        _torchvision("fasterrcnn_resnet50_fpn_v2_coco-dd69338a.pth", 175.2, 46.7)),
    Entry("faster_rcnn_r101_fpn", "Faster R-CNN, ResNet-101, FPN, 3x schedule",
        variants.detectron2_fpn(depth=101, masks=False), COCO, 60_639_840,
        _detectron2("faster_rcnn_R_101_FPN_3x/137851257/model_final_f6e8b1.pkl", 243.4, 42.0)),
    Entry("faster_rcnn_r50_c4", "Faster R-CNN, ResNet-50, stride-16 features, 3x schedule",
        variants.detectron2_c4(masks=False), COCO, 33_791_644,
        _detectron2("faster_rcnn_R_50_C4_3x/137849393/model_final_f97cb7.pkl", 135.6, 38.4)),
    Entry("mask_rcnn_r50_fpn.detectron2", "Mask R-CNN, ResNet-50, FPN, 3x schedule",
        variants.detectron2_fpn(), COCO, 44_343_216,
        _detectron2("mask_rcnn_R_50_FPN_3x/137849600/model_final_f10217.pkl", 177.8, 41.0, 37.2)),
    Entry("mask_rcnn_r50_fpn.torchvision", "Mask R-CNN, ResNet-50, FPN",
        variants.torchvision_v1(), COCO_BY_ID, 44_397_036,
        _torchvision("maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth", 178.1, 37.9, 34.6)),
    Entry("mask_rcnn_r50_fpn_v2", "Mask R-CNN, ResNet-50, FPN, batch norm throughout, trained for 400 epochs",
        variants.torchvision_v2(), COCO_BY_ID, 46_355_052,
        _torchvision("maskrcnn_resnet50_fpn_v2_coco-73cbd019.pth", 185.8, 47.4, 41.8)),
    Entry("mask_rcnn_r101_fpn", "Mask R-CNN, ResNet-101, FPN, 3x schedule",
        variants.detectron2_fpn(depth=101), COCO, 63_283_120,
        _detectron2("mask_rcnn_R_101_FPN_3x/138205316/model_final_a3ec72.pkl", 254.0, 42.9, 38.6)),
    Entry("mask_rcnn_r50_c4", "Mask R-CNN, ResNet-50, stride-16 features, 3x schedule",
        variants.detectron2_c4(), COCO, 35_909_612,
        _detectron2("mask_rcnn_R_50_C4_3x/137849525/model_final_4ce675.pkl", 144.1, 39.8, 34.4)),
    Entry("keypoint_rcnn_r50_fpn.detectron2", "Keypoint R-CNN, ResNet-50, FPN, 3x schedule: people and their joints",
        variants.detectron2_keypoints(), COCO_PERSON, 59_133_158,
        _detectron2("keypoint_rcnn_R_50_FPN_3x/137849621/model_final_a6e10b.pkl", 237.0, 55.4, None, 65.5)),
    Entry("keypoint_rcnn_r50_fpn.torchvision", "Keypoint R-CNN, ResNet-50, FPN: people and their joints",
        variants.torchvision_keypoints(), COCO_PERSON, 59_133_158,
        _torchvision("keypointrcnn_resnet50_fpn_coco-fc266e95.pth", 237.0, 54.6, None, 65.0)),
    Entry("panoptic_fpn_r50", "Panoptic FPN, ResNet-50, 3x schedule: a segment for every pixel, things and stuff",
        variants.detectron2_panoptic(), COCO, 45_973_990,
        _detectron2("panoptic_fpn_R_50_3x/139514569/model_final_c10459.pkl", 184.3, 40.0, 36.5, None, 41.5)),
    Entry("mask_rcnn_small", "Light Mask R-CNN for many small objects, to be trained from random weights",
        variants.compact(80), COCO, 7_485_104),
    Entry("mask_rcnn_lite0", "Light Mask R-CNN over EfficientNet-Lite0, to be trained from its ImageNet weights",
        variants.lite(80), COCO, 7_815_280, pretrained=True),
    Entry("mask_rcnn_fpn", "Mask R-CNN, FPN over a timm backbone: mask_rcnn_fpn.BACKBONE", None, COCO,
        over=variants.timm_fpn),
    Entry("faster_rcnn_small",
        "Light Faster R-CNN for many small objects, boxes alone, to be trained from random weights",
        replace(variants.compact(80), masks=False), COCO, 7_113_696),
    Entry("rcnn_small", "Light R-CNN, a pass of the network for each box of selective search, to compare",
        variants.crops(variants.compact(80)), COCO, 2_885_841),
    Entry("fast_rcnn_small", "Light Fast R-CNN, boxes of selective search, to be trained from random weights",
        variants.fast(variants.compact(80)), COCO, 6_964_177),
    Entry("fast_rcnn_fpn", "Fast R-CNN, selective search, FPN over a timm backbone: fast_rcnn_fpn.BACKBONE", None,
        COCO, over=fast_over),
    Entry("keypoint_rcnn_small", "Light Keypoint R-CNN, to be trained from random weights on any landmarks",
        variants.compact_keypoints(), COCO_PERSON, 7_536_742),
    Entry("keypoint_rcnn_fpn", "Keypoint R-CNN, FPN over a timm backbone: keypoint_rcnn_fpn.BACKBONE", None,
        COCO_PERSON, over=keypoints_over),
    Entry("panoptic_fpn_small", "Light Panoptic FPN, to be trained from random weights on any things and stuff",
        variants.compact_panoptic(), COCO, 7_747_174),
    Entry("panoptic_fpn", "Panoptic FPN over a timm backbone: panoptic_fpn.BACKBONE", None, COCO, over=panoptic_over),
    Entry("faster_rcnn_fpn", "Faster R-CNN, FPN over a timm backbone: faster_rcnn_fpn.BACKBONE", None, COCO,
        over=partial(variants.timm_fpn, masks=False)),
)
# fmt: on
