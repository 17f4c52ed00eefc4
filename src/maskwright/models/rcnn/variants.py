"""The R-CNNs that were published, and those made to learn from random weights, as configs."""

from dataclasses import replace

from maskwright.errors import ConfigError, suggest
from maskwright.models.coco_classes import COCO_STUFF
from maskwright.models.rcnn.config import RCNNConfig, RoIConfig, RPNConfig
from maskwright.models.rcnn.semantic import SemanticConfig
from maskwright.types import Classes, InputSpec, OutputSpec

DETECTRON2_INPUT = InputSpec(
    resize="pillow", channels="BGR", mean=(103.53, 116.28, 123.675), std=(1.0, 1.0, 1.0), multiple=32
)


def detectron2_fpn(num_classes: int = 80, depth: int = 50, *, masks: bool = True) -> RCNNConfig:
    """detectron2's `mask_rcnn_R_50_FPN` and its relatives (model zoo of 2019)."""
    return RCNNConfig(
        num_classes, f"resnet{depth}", masks=masks, stride_in_1x1=True, spec=DETECTRON2_INPUT, output=OutputSpec()
    )


def detectron2_c4(num_classes: int = 80, depth: int = 50, *, masks: bool = True) -> RCNNConfig:
    """detectron2's `mask_rcnn_R_50_C4`: one map of stride 16, RoIAlign 14x14, res5 as head, 7x7 to 14x14 masks."""
    rpn = RPNConfig(sizes=((32.0, 64.0, 128.0, 256.0, 512.0),), before=6000, train_before=12000, train_after=2000)
    roi = RoIConfig(box_side=14, mask_side=14, mask_convs=0)
    base = detectron2_fpn(num_classes, depth, masks=masks)
    return replace(base, neck="c4", strides=(16,), rpn=rpn, roi=roi, spec=replace(DETECTRON2_INPUT, multiple=1))


def detectron2_keypoints(landmarks: tuple[int, ...] = (17,), depth: int = 50) -> RCNNConfig:
    """detectron2's `keypoint_rcnn_R_50_FPN`: people and their joints, no masks."""
    base = detectron2_fpn(len(landmarks), depth, masks=False)
    return replace(base, landmarks=landmarks, rpn=RPNConfig(train_after=1500), roi=RoIConfig(beta=0.5))


def detectron2_panoptic(num_classes: int = 80, depth: int = 50, semantic: Classes = COCO_STUFF) -> RCNNConfig:
    """detectron2's `panoptic_fpn_R_50`: Mask R-CNN, and a branch for the class of every pixel."""
    config = SemanticConfig(semantic.names, semantic.ids)
    return replace(detectron2_fpn(num_classes, depth), semantic=config)


def torchvision_v1(num_classes: int = 90, depth: int = 50, *, masks: bool = True) -> RCNNConfig:
    """torchvision's `maskrcnn_resnet50_fpn` with its COCO weights; labels are COCO ids minus one."""
    rpn = RPNConfig(
        rounded=True,
        stride_from_input=True,
        train_after=2000,
        rank_by="probability",
        min_side=1e-3,
        beta=1 / 9,
        mean_over="sampled",
    )
    roi = RoIConfig(
        sampling_ratio=2, aligned=False, outer_epsilon=True, min_side=1e-2, beta=1 / 9, binary_targets=False
    )
    output = OutputSpec(paste="integer", clip=False)
    return RCNNConfig(num_classes, f"resnet{depth}", masks=masks, norm_eps=0.0, rpn=rpn, roi=roi, output=output)


def torchvision_keypoints(landmarks: tuple[int, ...] = (17,)) -> RCNNConfig:
    """torchvision's `keypointrcnn_resnet50_fpn` with its COCO weights."""
    return replace(torchvision_v1(len(landmarks), masks=False), landmarks=landmarks)


def torchvision_v2(num_classes: int = 90, *, masks: bool = True) -> RCNNConfig:
    """torchvision's `maskrcnn_resnet50_fpn_v2`: live batch norm, two RPN layers, convolutional box head."""
    base = torchvision_v1(num_classes, masks=masks)
    return replace(
        base,
        norm="live",
        norm_eps=1e-5,
        neck_norm=True,
        rpn=replace(base.rpn, convs=2),
        roi=replace(base.roi, box_convs=4, box_fcs=1),
    )


def timm_fpn(backbone: str, num_classes: int = 80, *, masks: bool = True) -> RCNNConfig:
    """Mask R-CNN with a feature pyramid over a timm backbone, detectron2's conventions, live norm as timm has it."""
    spec = InputSpec(resize="pillow")
    return RCNNConfig(num_classes, backbone, masks=masks, norm="live", spec=spec)


def compact(num_classes: int = 1) -> RCNNConfig:
    """A light Mask R-CNN for many small objects, made to be trained from random weights on a small machine.

    Half-width neck and heads with batch norm, a ResNet-18 without its last stage, small anchors, and images that are
    enlarged, at most twice, but never shrunk, as microscopy needs.
    """
    rpn = RPNConfig(
        sizes=((12.0,), (24.0,), (48.0,), (96.0,)), before=1000, after=1000, train_before=1000, train_after=500
    )
    roi = RoIConfig(
        sampling_ratio=2, box_width=512, mask_convs=2, mask_width=128, keep=400, samples=96, foreground=0.33
    )
    return RCNNConfig(
        num_classes,
        "resnet18",
        strides=(4, 8, 16),
        channels=128,
        norm="live",
        neck_norm=True,
        rpn=rpn,
        roi=roi,
        spec=InputSpec(size=800, max_size=2000, resize="pillow", shrink=False, enlarge=2.0),
        output=OutputSpec(score_threshold=0.5, max_instances=400),
    )


def fast(base: RCNNConfig, *, masks: bool = False) -> RCNNConfig:
    """Fast R-CNN over the layers of another config: proposals of selective search, read by RoIPool."""
    roi = replace(base.roi, pooling="pool")
    return replace(base, proposals="search", masks=masks, roi=roi)


def crops(base: RCNNConfig, side: int = 64, stride: int = 16) -> RCNNConfig:
    """R-CNN over the backbone of another config: its map of `stride` is computed of each proposal's crop anew, in
    training of 48 an image at most."""
    context = side // 14  # as much of the side as 16 pixels of 227, the paper's
    roi = replace(base.roi, crop_side=side, context=context, samples=min(base.roi.samples, 48))
    return replace(base, neck="crops", strides=(stride,), proposals="search", masks=False, roi=roi)


def compact_keypoints(landmarks: tuple[int, ...] = (17,)) -> RCNNConfig:
    """`compact` with landmarks in place of masks, for objects of all sizes."""
    base = compact(len(landmarks))
    rpn = replace(base.rpn, sizes=((16.0,), (32.0,), (64.0,), (128.0,)))
    roi = replace(base.roi, keypoint_convs=4, keypoint_width=128, keep=100)
    output = replace(base.output, max_instances=100)
    return replace(base, masks=False, landmarks=landmarks, rpn=rpn, roi=roi, output=output)


def compact_panoptic(num_classes: int = 80, semantic: Classes = COCO_STUFF) -> RCNNConfig:
    """`compact` with a semantic branch of half its width, for things of all sizes."""
    base = compact(num_classes)
    rpn = replace(base.rpn, sizes=((16.0,), (32.0,), (64.0,), (128.0,)))
    branch = SemanticConfig(semantic.names, semantic.ids, width=64, groups=16)
    output = replace(base.output, max_instances=100)
    return replace(base, semantic=branch, rpn=rpn, roi=replace(base.roi, keep=100), output=output)


def lite(num_classes: int = 1) -> RCNNConfig:
    """A light Mask R-CNN over EfficientNet-Lite0, meant to be trained from ImageNet weights of the backbone.

    Neck and heads are those of `compact`; with the backbone's last stage and three shapes of anchors, for objects of
    all sizes.
    """
    base = compact(num_classes)
    sizes, ratios = tuple((side,) for side in (16.0, 32.0, 64.0, 128.0, 256.0)), (0.5, 1.0, 2.0)
    rpn = replace(base.rpn, sizes=sizes, ratios=ratios)
    return replace(base, backbone="tf_efficientnet_lite0", strides=(4, 8, 16, 32), rpn=rpn)


def tiny(style: str = "detectron2", num_classes: int = 3) -> RCNNConfig:
    """Everything as in a published `style` but few and narrow layers, for inputs of 64 pixels: for tests."""
    styles = {
        "detectron2": detectron2_fpn,
        "torchvision_v1": torchvision_v1,
        "torchvision_v2": torchvision_v2,
        "c4": detectron2_c4,
        "compact": compact,
    }
    if style not in styles:
        raise ConfigError(f"There is no tiny '{style}'.{suggest(style, styles)}")
    base = styles[style](num_classes)
    sizes = tuple(tuple(s / 4 for s in level) for level in base.rpn.sizes)
    rpn = replace(base.rpn, sizes=sizes, before=100, after=50, train_before=100, train_after=50, samples=64)
    convs = min(base.roi.mask_convs, 1)
    roi = replace(base.roi, mask_convs=convs, mask_width=16, keypoint_convs=1, keypoint_width=16)
    roi = replace(roi, box_width=64, keep=20, samples=32)
    spec = replace(base.spec, size=64, max_size=128)
    return replace(base, backbone="resnet14_narrow", channels=16, rpn=rpn, roi=roi, spec=spec)


def tiny_variants() -> dict[str, RCNNConfig]:
    """A tiny config for each way in which the family's networks differ: what the contract suite runs."""
    narrow = SemanticConfig(("things", "sky", "road"), (0, 8, 9), width=16, groups=4)
    return {
        "detectron2": tiny("detectron2"),
        "detectron2_boxes": replace(tiny("detectron2"), masks=False),
        "torchvision_v1": tiny("torchvision_v1"),
        "torchvision_v1_boxes": replace(tiny("torchvision_v1"), masks=False),
        "torchvision_v2": tiny("torchvision_v2"),
        "c4": tiny("c4"),
        "c4_boxes": replace(tiny("c4"), masks=False),
        "fast": replace(fast(tiny("compact")), strides=(8,)),  # of several maps small inputs use the finest alone
        "crops": crops(tiny("compact"), 32, 8),
        "fast_masks": replace(fast(tiny("detectron2"), masks=True), strides=(8,)),
        "compact": tiny("compact"),
        "keypoints": replace(tiny("detectron2"), masks=False, landmarks=(5, 5, 5)),
        "masks_and_keypoints": replace(tiny("compact"), landmarks=(4, 0, 5)),
        "panoptic": replace(tiny("detectron2"), semantic=narrow),
        "panoptic_without_norm": replace(tiny("compact"), semantic=replace(narrow, groups=0)),
        "timm": replace(tiny("detectron2"), backbone="test_byobnet", norm="live"),
        "one_class": tiny("compact", num_classes=1),
    }
