"""The rows of the zoo.

Sources: detectron2's MODEL_ZOO.md (files carry the first 6 digits of their md5; CC BY-SA 3.0), torchvision's model
pages (files carry the first 8 digits of their sha256; BSD-3-Clause), and yolact's README (re-hosted by its author,
without a hash; MIT). AP: COCO val2017 (YOLACT: test-dev), as published.
"""

from dataclasses import replace
from functools import partial

from maskwright.models import rcnn, yolact
from maskwright.models.coco_classes import COCO, COCO_BY_ID
from maskwright.models.entry import Entry, Published
from maskwright.types import Classes


def _torchvision(
    name: str, summary: str, config: rcnn.RCNNConfig, parameters: int, file: str, size: float, *ap: float
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
    name: str, summary: str, config: rcnn.RCNNConfig, parameters: int, file: str, size: float, *ap: float
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


def _yolact(name: str, summary: str, config: yolact.YolactConfig, parameters: int, tag: str, mask_ap: float) -> Entry:
    """tag: of the author's repository on the hub, `yolact-TAG`, and of the file in it."""
    weights = Published(
        "yolact",
        f"https://huggingface.co/dbolya/yolact-{tag}/resolve/main/yolact_{tag.replace('-', '_')}_54_800000.pth",
        None,
        "MIT",
        None,
        None,
        mask_ap,
        measured_on="COCO test-dev",
    )
    return Entry(name, summary, config, COCO, parameters, weights)


ENTRIES = (
    Entry(
        "nuclei",
        "Mask R-CNN for cell nuclei in microscopy images, inside the package",
        None,
        Classes(["nucleus"]),
        7_272_278,
        inside="nuclei.safetensors",
    ),
    Entry(
        "nuclei_fast",
        "YOLACT for cell nuclei in microscopy images, inside the package",
        None,
        Classes(["nucleus"]),
        997_293,
        inside="nuclei_fast.safetensors",
    ),
    _detectron2(
        "faster_rcnn_r50_fpn.detectron2",
        "Faster R-CNN, ResNet-50, FPN, 3x schedule",
        rcnn.detectron2_fpn(masks=False),
        41_699_936,
        "faster_rcnn_R_50_FPN_3x/137849458/model_final_280758.pkl",
        167.2,
        40.2,
    ),
    _torchvision(
        "faster_rcnn_r50_fpn.torchvision",
        "Faster R-CNN, ResNet-50, FPN",
        rcnn.torchvision_v1(masks=False),
        41_751_186,
        "fasterrcnn_resnet50_fpn_coco-258fb6c6.pth",
        167.5,
        37.0,
    ),
    _torchvision(
        "faster_rcnn_r50_fpn_v2",
        "Faster R-CNN, ResNet-50, FPN, batch norm throughout, trained for 400 epochs",
        rcnn.torchvision_v2(masks=False),
        43_708_178,
        "fasterrcnn_resnet50_fpn_v2_coco-dd69338a.pth",
        175.2,
        46.7,
    ),
    _detectron2(
        "faster_rcnn_r101_fpn",
        "Faster R-CNN, ResNet-101, FPN, 3x schedule",
        rcnn.detectron2_fpn(depth=101, masks=False),
        60_639_840,
        "faster_rcnn_R_101_FPN_3x/137851257/model_final_f6e8b1.pkl",
        243.4,
        42.0,
    ),
    _detectron2(
        "faster_rcnn_r50_c4",
        "Faster R-CNN, ResNet-50, stride-16 features, 3x schedule",
        rcnn.detectron2_c4(masks=False),
        33_791_644,
        "faster_rcnn_R_50_C4_3x/137849393/model_final_f97cb7.pkl",
        135.6,
        38.4,
    ),
    _detectron2(
        "mask_rcnn_r50_fpn.detectron2",
        "Mask R-CNN, ResNet-50, FPN, 3x schedule",
        rcnn.detectron2_fpn(),
        44_343_216,
        "mask_rcnn_R_50_FPN_3x/137849600/model_final_f10217.pkl",
        177.8,
        41.0,
        37.2,
    ),
    _torchvision(
        "mask_rcnn_r50_fpn.torchvision",
        "Mask R-CNN, ResNet-50, FPN",
        rcnn.torchvision_v1(),
        44_397_036,
        "maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth",
        178.1,
        37.9,
        34.6,
    ),
    _torchvision(
        "mask_rcnn_r50_fpn_v2",
        "Mask R-CNN, ResNet-50, FPN, batch norm throughout, trained for 400 epochs",
        rcnn.torchvision_v2(),
        46_355_052,
        "maskrcnn_resnet50_fpn_v2_coco-73cbd019.pth",
        185.8,
        47.4,
        41.8,
    ),
    _detectron2(
        "mask_rcnn_r101_fpn",
        "Mask R-CNN, ResNet-101, FPN, 3x schedule",
        rcnn.detectron2_fpn(depth=101),
        63_283_120,
        "mask_rcnn_R_101_FPN_3x/138205316/model_final_a3ec72.pkl",
        254.0,
        42.9,
        38.6,
    ),
    _detectron2(
        "mask_rcnn_r50_c4",
        "Mask R-CNN, ResNet-50, stride-16 features, 3x schedule",
        rcnn.detectron2_c4(),
        35_909_612,
        "mask_rcnn_R_50_C4_3x/137849525/model_final_4ce675.pkl",
        144.1,
        39.8,
        34.4,
    ),
    Entry(
        "mask_rcnn_small",
        "Light Mask R-CNN for many small objects, to be trained from random weights",
        rcnn.compact(80),
        COCO,
        7_485_104,
    ),
    Entry(
        "mask_rcnn_fpn",
        "Mask R-CNN, FPN over a timm backbone: mask_rcnn_fpn.BACKBONE",
        None,
        COCO,
        over=rcnn.timm_fpn,
    ),
    Entry(
        "faster_rcnn_small",
        "Light Faster R-CNN for many small objects, boxes alone, to be trained from random weights",
        replace(rcnn.compact(80), masks=False),
        COCO,
        7_113_696,
    ),
    Entry(
        "faster_rcnn_fpn",
        "Faster R-CNN, FPN over a timm backbone: faster_rcnn_fpn.BACKBONE",
        None,
        COCO,
        over=partial(rcnn.timm_fpn, masks=False),
    ),
    _yolact("yolact_r50", "YOLACT, ResNet-50, 550 pixels", yolact.published(), 31_111_823, "resnet50", 28.2),
    _yolact(
        "yolact_darknet53",
        "YOLACT, DarkNet-53, 550 pixels",
        yolact.published(backbone="darknet53"),
        47_747_375,
        "darknet53",
        28.7,
    ),
    _yolact(
        "yolact_r101",
        "YOLACT, ResNet-101, 550 pixels",
        yolact.published(backbone="resnet101"),
        50_051_727,
        "base",
        29.8,
    ),
    _yolact(
        "yolact_r101_700",
        "YOLACT, ResNet-101, 700 pixels",
        yolact.published(backbone="resnet101", size=700),
        50_051_727,
        "im700",
        31.2,
    ),
    Entry(
        "yolact_r101_400",
        "YOLACT, ResNet-101, 400 pixels; no weights were published",
        yolact.published(backbone="resnet101", size=400),
        COCO,
        50_051_727,
        follows="yolact",
    ),
    Entry(
        "yolact_edge_mnv2",
        "YOLACT, MobileNetV2, 550 pixels, as YolactEdge's on single images; its file is to be fetched by hand",
        yolact.published(backbone="mobilenetv2"),
        COCO,
        8_115_663,
        follows="yolact",
    ),
    _yolact(
        "yolact_plus_r50",
        "YOLACT++, ResNet-50 with deformable convolutions, 550 pixels",
        yolact.plus(),
        33_713_340,
        "plus-resnet50",
        34.1,
    ),
    _yolact(
        "yolact_plus_r101",
        "YOLACT++, ResNet-101 with deformable convolutions, 550 pixels",
        yolact.plus(backbone="resnet101"),
        52_465_798,
        "plus-base",
        34.6,
    ),
    Entry(
        "yolact_small",
        "Light YOLACT for many small objects, to be trained from random weights",
        yolact.compact(80),
        COCO,
        1_093_594,
    ),
    Entry("yolact", "YOLACT over a timm backbone: yolact.BACKBONE", None, COCO, over=yolact.timm_yolact),
)
"""Every model with a name of its own."""
