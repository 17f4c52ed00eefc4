"""The YOLACTs that were published, and those made to learn from random weights, as configs."""

from dataclasses import replace

from maskwright.errors import ConfigError, suggest
from maskwright.models.yolact.config import DARKNET_INPUT, RESNET_INPUT, LossConfig, NMSConfig, YolactConfig
from maskwright.types import InputSpec, OutputSpec


def published(num_classes: int = 80, backbone: str = "resnet50", size: int = 550) -> YolactConfig:
    """dbolya's `yolact_*` configs: square priors, one side a level. Sides grow with the input, cut to whole pixels."""
    sides = (24, 48, 96, 192, 384)
    return YolactConfig(
        num_classes,
        backbone,
        sizes=tuple((float(int(side * size / 550)),) for side in sides),
        loss=LossConfig(masks=300 if size == 700 else 100),
        spec=replace(DARKNET_INPUT if backbone == "darknet53" else RESNET_INPUT, size=size),
    )


def plus(num_classes: int = 80, backbone: str = "resnet50") -> YolactConfig:
    """dbolya's `yolact_plus_*` configs: deformable convolutions, three sides a level, true ratios, rated masks."""
    sides = (24, 48, 96, 192, 384)
    return replace(
        published(num_classes, backbone),
        deformable=3 if backbone == "resnet101" else 1,
        sizes=tuple(tuple(side * 2 ** (j / 3) for j in range(3)) for side in sides),
        square=False,
        mask_scoring=True,
    )


def timm_yolact(backbone: str, num_classes: int = 80) -> YolactConfig:
    """YOLACT over a timm backbone, live norm as timm has it, true ratios, input sides that every backbone can halve."""
    base = published(num_classes, backbone)
    return replace(base, norm="live", square=False, spec=replace(base.spec, size=544, multiple=32))


def compact(num_classes: int = 1) -> YolactConfig:
    """A light YOLACT for many small objects, made to be trained from random weights on a small machine.

    Half-width ResNet-18 without its last stage, quarter-width neck and head with batch norm, two square priors a cell,
    prototypes at half the input's resolution; images are enlarged, at most twice, but never shrunk.
    """
    return YolactConfig(
        num_classes,
        "resnet18_half",
        strides=(4, 8, 16),
        extra=1,
        channels=64,
        norm="live",
        neck_norm=True,
        sizes=tuple((side, side * 2**0.5) for side in (12.0, 24.0, 48.0, 96.0)),
        ratios=(1.0,),
        square=False,
        proto_channels=32,
        proto_convs=2,
        nms=NMSConfig(before=1000, keep=400),
        spec=InputSpec(size=800, max_size=2000, resize="pillow", shrink=False, enlarge=2.0),
        output=OutputSpec(score_threshold=0.3, max_instances=400),
    )


def tiny(style: str = "yolact", num_classes: int = 3) -> YolactConfig:
    """Everything as in a published `style` but few and narrow layers, for inputs of 64 pixels: for tests."""
    styles = {"yolact": published, "plus": plus, "compact": compact}
    if style not in styles:
        raise ConfigError(f"There is no tiny '{style}'.{suggest(style, styles)}")
    base = styles[style](num_classes)
    levels = 2 if style != "compact" else 3
    sizes = tuple(tuple(s / 2 for s in level) for level in base.sizes[: levels + 1])
    return replace(
        base,
        backbone="resnet14_narrow",
        strides=base.strides[:levels],
        extra=1,
        channels=16,
        sizes=sizes,
        prototypes=8,
        proto_channels=16,
        proto_convs=1,
        nms=replace(base.nms, keep=20),
        spec=replace(base.spec, size=64, max_size=None if base.spec.fit == "stretch" else 128),
    )


def tiny_variants() -> dict[str, YolactConfig]:
    """A tiny config for each way in which the family's networks differ: what the contract suite runs."""
    return {
        "yolact": tiny("yolact"),
        "plus": tiny("plus"),
        "compact": tiny("compact"),
        "one_class": tiny("compact", num_classes=1),
        "one_class_plus": tiny("plus", num_classes=1),
        "timm": replace(tiny("yolact"), backbone="test_byobnet", norm="live"),
    }
