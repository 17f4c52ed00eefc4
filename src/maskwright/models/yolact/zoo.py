"""The YOLACTs of the zoo.

Source: yolact's README (re-hosted by its author, without a hash; MIT). AP: COCO test-dev, as published.
"""

from maskwright.models.coco_classes import COCO
from maskwright.models.entry import Entry, Published
from maskwright.models.yolact import variants
from maskwright.models.yolact.config import YolactConfig
from maskwright.types import Classes


def _yolact(name: str, summary: str, config: YolactConfig, parameters: int, tag: str, mask_ap: float) -> Entry:
    """tag: of the author's repository on the hub, `yolact-TAG`, and of the file in it."""
    url = f"https://huggingface.co/dbolya/yolact-{tag}/resolve/main/yolact_{tag.replace('-', '_')}_54_800000.pth"
    weights = Published("yolact", url, None, "MIT", None, None, mask_ap, measured_on="COCO test-dev")
    return Entry(name, summary, config, COCO, parameters, weights)


def _edge(name: str, backbone: str, config: YolactConfig, parameters: int) -> Entry:
    """YolactEdge's model of single images, which is a YOLACT. Its file has no direct download address."""
    summary = f"YOLACT, {backbone}, 550 pixels, as YolactEdge's on single images; its file must be downloaded by hand"
    return Entry(name, summary, config, COCO, parameters, follows="yolact")


# fmt: off
ENTRIES = (
    Entry("nuclei_fast", "YOLACT for cell nuclei in microscopy images, inside the package", None,
        Classes(["nucleus"]), 997_293, inside="nuclei_fast.safetensors"),
    _yolact("yolact_r50", "YOLACT, ResNet-50, 550 pixels", variants.published(), 31_111_823, "resnet50", 28.2),
    _yolact("yolact_darknet53", "YOLACT, DarkNet-53, 550 pixels", variants.published(backbone="darknet53"),
        47_747_375, "darknet53", 28.7),
    _yolact("yolact_r101", "YOLACT, ResNet-101, 550 pixels", variants.published(backbone="resnet101"), 50_051_727,
        "base", 29.8),
    _yolact("yolact_r101_700", "YOLACT, ResNet-101, 700 pixels", variants.published(backbone="resnet101", size=700),
        50_051_727, "im700", 31.2),
    Entry("yolact_r101_400", "YOLACT, ResNet-101, 400 pixels; no weights were published",
        variants.published(backbone="resnet101", size=400), COCO, 50_051_727, follows="yolact"),
    _edge("yolact_edge_mnv2", "MobileNetV2", variants.published(backbone="mobilenetv2"), 8_115_663),
    _edge("yolact_edge_r50", "ResNet-50", variants.published(), 31_111_823),
    _edge("yolact_edge_r101", "ResNet-101", variants.published(backbone="resnet101"), 50_051_727),
    _yolact("yolact_plus_r50", "YOLACT++, ResNet-50 with deformable convolutions, 550 pixels", variants.plus(),
        33_713_340, "plus-resnet50", 34.1),
    _yolact("yolact_plus_r101", "YOLACT++, ResNet-101 with deformable convolutions, 550 pixels",
        variants.plus(backbone="resnet101"), 52_465_798, "plus-base", 34.6),
    Entry("yolact_small", "Light YOLACT for many small objects, to be trained from random weights",
        variants.compact(80), COCO, 1_093_594),
    Entry("yolact", "YOLACT over a timm backbone: yolact.BACKBONE", None, COCO, over=variants.timm_yolact),
)
# fmt: on
