"""The R-CNNs of the zoo.

Sources: detectron2's MODEL_ZOO.md (files carry the first 6 digits of their md5; CC BY-SA 3.0) and torchvision's model
pages (files carry the first 8 digits of their sha256; BSD-3-Clause). AP: COCO val2017, as published.
"""

from dataclasses import replace
from functools import partial

from maskwright.models.coco_classes import COCO, COCO_BY_ID
from maskwright.models.entry import Entry, Published
from maskwright.models.rcnn import variants
from maskwright.models.rcnn.config import RCNNConfig
from maskwright.types import Classes


def _torchvision(
    name: str, summary: str, config: RCNNConfig, parameters: int, file: str, size: float, *ap: float
) -> Entry:
    weights = Published(
        "torchvision",
        f"https://download.pytorch.org/models/{file}",
        f"sha256:{file.rpartition('-')[2].removesuffix('.pth')}",
        "BSD-3-Clause",
        size,
        ap[0],
        ap[1] if len(ap) > 1 else None,
    )
    return Entry(name, summary, config, COCO_BY_ID, parameters, weights)


def _detectron2(
    name: str, summary: str, config: RCNNConfig, parameters: int, file: str, size: float, *ap: float
) -> Entry:
    task = "COCO-InstanceSegmentation" if config.masks else "COCO-Detection"
    weights = Published(
        "detectron2",
        f"https://dl.fbaipublicfiles.com/detectron2/{task}/{file}",
        f"md5:{file.rpartition('_')[2].removesuffix('.pkl')}",
        "CC-BY-SA-3.0",
        size,
        ap[0],
        ap[1] if len(ap) > 1 else None,
    )
    return Entry(name, summary, config, COCO, parameters, weights)


# fmt: off
ENTRIES = (
    Entry("nuclei", "Mask R-CNN for cell nuclei in microscopy images, inside the package", None, Classes(["nucleus"]),
        7_272_278, inside="nuclei.safetensors"),
    _detectron2("faster_rcnn_r50_fpn.detectron2", "Faster R-CNN, ResNet-50, FPN, 3x schedule",
        variants.detectron2_fpn(masks=False), 41_699_936, "faster_rcnn_R_50_FPN_3x/137849458/model_final_280758.pkl",
        167.2, 40.2),
    _torchvision("faster_rcnn_r50_fpn.torchvision", "Faster R-CNN, ResNet-50, FPN",
        variants.torchvision_v1(masks=False), 41_751_186, "fasterrcnn_resnet50_fpn_coco-258fb6c6.pth", 167.5, 37.0),
    _torchvision("faster_rcnn_r50_fpn_v2",
        "Faster R-CNN, ResNet-50, FPN, batch norm throughout, trained for 400 epochs",
        variants.torchvision_v2(masks=False), 43_708_178, "fasterrcnn_resnet50_fpn_v2_coco-dd69338a.pth", 175.2,
        46.7),
    _detectron2("faster_rcnn_r101_fpn", "Faster R-CNN, ResNet-101, FPN, 3x schedule",
        variants.detectron2_fpn(depth=101, masks=False), 60_639_840,
        "faster_rcnn_R_101_FPN_3x/137851257/model_final_f6e8b1.pkl", 243.4, 42.0),
    _detectron2("faster_rcnn_r50_c4", "Faster R-CNN, ResNet-50, stride-16 features, 3x schedule",
        variants.detectron2_c4(masks=False), 33_791_644, "faster_rcnn_R_50_C4_3x/137849393/model_final_f97cb7.pkl",
        135.6, 38.4),
    _detectron2("mask_rcnn_r50_fpn.detectron2", "Mask R-CNN, ResNet-50, FPN, 3x schedule", variants.detectron2_fpn(),
        44_343_216, "mask_rcnn_R_50_FPN_3x/137849600/model_final_f10217.pkl", 177.8, 41.0, 37.2),
    _torchvision("mask_rcnn_r50_fpn.torchvision", "Mask R-CNN, ResNet-50, FPN", variants.torchvision_v1(), 44_397_036,
        "maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth", 178.1, 37.9, 34.6),
    _torchvision("mask_rcnn_r50_fpn_v2", "Mask R-CNN, ResNet-50, FPN, batch norm throughout, trained for 400 epochs",
        variants.torchvision_v2(), 46_355_052, "maskrcnn_resnet50_fpn_v2_coco-73cbd019.pth", 185.8, 47.4, 41.8),
    _detectron2("mask_rcnn_r101_fpn", "Mask R-CNN, ResNet-101, FPN, 3x schedule", variants.detectron2_fpn(depth=101),
        63_283_120, "mask_rcnn_R_101_FPN_3x/138205316/model_final_a3ec72.pkl", 254.0, 42.9, 38.6),
    _detectron2("mask_rcnn_r50_c4", "Mask R-CNN, ResNet-50, stride-16 features, 3x schedule",
        variants.detectron2_c4(), 35_909_612, "mask_rcnn_R_50_C4_3x/137849525/model_final_4ce675.pkl", 144.1, 39.8,
        34.4),
    Entry("mask_rcnn_small", "Light Mask R-CNN for many small objects, to be trained from random weights",
        variants.compact(80), COCO, 7_485_104),
    Entry("mask_rcnn_fpn", "Mask R-CNN, FPN over a timm backbone: mask_rcnn_fpn.BACKBONE", None, COCO,
        over=variants.timm_fpn),
    Entry("faster_rcnn_small",
        "Light Faster R-CNN for many small objects, boxes alone, to be trained from random weights",
        replace(variants.compact(80), masks=False), COCO, 7_113_696),
    Entry("faster_rcnn_fpn", "Faster R-CNN, FPN over a timm backbone: faster_rcnn_fpn.BACKBONE", None, COCO,
        over=partial(variants.timm_fpn, masks=False)),
)
# fmt: on
