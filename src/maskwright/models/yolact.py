"""YOLACT and YOLACT++: instance masks as linear combinations of prototypes, in one pass (Bolya et al. 2019, 2020).

One branch draws D prototype masks that span the whole input; the other predicts for every prior a class, a box and D
coefficients. A detection's mask is the sigmoid of its coefficients times the prototypes, cropped to its box; nothing
is pooled from features again. YOLACT++ adds deformable convolutions, more priors and a small network that predicts
how good a mask is. What decides whether a published file gives its published numbers is a field of the config.

Letters: B batch, L levels, N priors of all levels, A priors of a cell, D prototypes, Q classes, K rows kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, cast, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from maskwright.errors import ConfigError, suggest
from maskwright.models import yolact_loss
from maskwright.models.base import Draws, Model, draws_of
from maskwright.models.yolact_loss import BOX_WEIGHTS, LossConfig
from maskwright.nn.backbones import NormKind, backbone, missing_strides, norm_layer
from maskwright.nn.yolact import Head, MaskScorer, Protonet, Pyramid, Raw, semantic_branch
from maskwright.ops import prototypes as prototype_ops
from maskwright.ops.anchors import cell_anchors, level_priors
from maskwright.ops.boxes import decode
from maskwright.ops.losses import Term
from maskwright.ops.nms import fast_nms, greedy_nms_by_class
from maskwright.types import InputSpec, OutputSpec, RawDetections, Target

RESNET_INPUT = InputSpec(
    size=550, fit="stretch", resize="float", mean=(123.68, 116.78, 103.94), std=(58.40, 57.12, 57.38), multiple=1
)
DARKNET_INPUT = replace(RESNET_INPUT, mean=(0.0, 0.0, 0.0), std=(255.0, 255.0, 255.0))
PUBLISHED_OUTPUT = OutputSpec(score_threshold=0.15, whole_boxes=True)

NMSKind = Literal["fast", "fast_cross", "exact"]
Kept = tuple[Tensor, Tensor, Tensor, Tensor]
"""Boxes (K, 4), scores (K,), labels (K,) and coefficients (K, D) of one image."""


@dataclass(frozen=True)
class NMSConfig:
    """How detections are chosen.

    kind: "fast" (a suppressed box still suppresses others: one matrix, no loop), "fast_cross" (the same over all
    classes together), "exact" (greedy, by class). score: a prior takes part if its best class is above this. iou:
    overlap that suppresses. before: best rows of each class that are compared. keep: rows of an image at most.
    """

    kind: NMSKind = "fast"
    score: float = 0.05
    iou: float = 0.5
    before: int = 200
    keep: int = 100

    def __post_init__(self) -> None:
        if self.kind not in get_args(NMSKind):
            raise ConfigError(f"NMSConfig: kind is 'fast', 'fast_cross' or 'exact', got {self.kind!r}.")
        if not 0 <= self.score < 1 or not 0 < self.iou < 1 or self.before < 1 or self.keep < 1:
            raise ConfigError(
                f"NMSConfig: score is at least 0 and below 1, iou between 0 and 1, before and keep are at least "
                f"1, got {self}."
            )


@dataclass(frozen=True)
class YolactConfig:
    """Rebuilds a `Yolact`.

    backbone: `resnet50`, `resnet101`, `darknet53`, `mobilenetv2` or a timm name; strides: which of its feature maps
    are used, finest first. deformable: every so many-th block of the used stages has a deformable 3x3 convolution (0:
    none, 1: all; ResNets of ours only). extra: coarser levels beside those of the backbone.
    sizes: for each level the sides of its priors in input pixels; ratios: width / height of each side's priors;
    square: the published bug that makes every prior a square of its width.
    prototypes: D. proto_channels, proto_convs: 3x3 convolutions before the upsampling; proto_upsample: twice the
    finest level's resolution, or its own. head_convs: shared 3x3 convolutions of the head.
    mask_scoring: YOLACT++'s network that rates masks. norm, norm_eps: of the backbone; neck_norm: batch norm also in
    pyramid, prototypes and head, for training from random weights.
    """

    num_classes: int = 80
    backbone: str = "resnet50"
    strides: tuple[int, ...] = (8, 16, 32)
    deformable: int = 0
    extra: int = 2
    channels: int = 256
    norm: NormKind = "frozen"
    norm_eps: float = 1e-5
    neck_norm: bool = False
    sizes: tuple[tuple[float, ...], ...] = ((24.0,), (48.0,), (96.0,), (192.0,), (384.0,))
    ratios: tuple[float, ...] = (1.0, 0.5, 2.0)
    square: bool = True
    prototypes: int = 32
    proto_channels: int = 256
    proto_convs: int = 3
    proto_upsample: bool = True
    head_convs: int = 1
    mask_scoring: bool = False
    nms: NMSConfig = field(default_factory=NMSConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    spec: InputSpec = RESNET_INPUT
    output: OutputSpec = PUBLISHED_OUTPUT

    def __post_init__(self) -> None:
        if self.norm not in ("frozen", "live") or self.num_classes < 1 or self.prototypes < 1:
            raise ConfigError(
                f"YolactConfig: norm is 'frozen' or 'live', num_classes and prototypes at least 1, got {self.norm!r}, "
                f"{self.num_classes} and {self.prototypes}."
            )


class Yolact(Model):
    """YOLACT, and YOLACT++ where `config.mask_scoring` and `config.deformable`."""

    config: YolactConfig
    prototype_masks = True
    nms_kinds = get_args(NMSKind)

    def __init__(self, config: YolactConfig) -> None:
        super().__init__()
        self.config, self.spec, self.output = config, config.spec, config.output
        self.choose_nms(config.nms.kind)
        c = config
        self.backbone = backbone(c.backbone, c.norm, c.norm_eps, strides=c.strides, deformable=c.deformable)
        levels = len(self.backbone.strides) + c.extra
        if len(c.sizes) != levels or len({len(level) for level in c.sizes}) != 1:
            raise ConfigError(
                f"YolactConfig.sizes needs one entry for each of the {levels} levels ('{c.backbone}' at the strides "
                f"{self.backbone.strides} and {c.extra} extra), all of one length, got {c.sizes}."
                f"{missing_strides(c.backbone, self.backbone.strides, c.strides)}"
            )
        norm = norm_layer("live") if c.neck_norm else None
        self.fpn = Pyramid(self.backbone.channels, c.channels, c.extra, norm)
        self.protonet = Protonet(
            c.channels, c.proto_channels, c.prototypes, c.proto_convs, upsample=c.proto_upsample, norm=norm
        )
        priors = len(c.sizes[0]) * len(c.ratios)
        self.head = Head(c.channels, priors, c.num_classes, c.prototypes, c.head_convs, levels, norm)
        self.semantic = semantic_branch(c.channels, c.num_classes)
        self.scorer = MaskScorer(c.num_classes) if c.mask_scoring else None

    def choose_nms(self, kind: str) -> None:
        """See `Model.choose_nms`. Exact suppression reports only scores above `NMSConfig.score`."""
        self.config = replace(self.config, nms=replace(self.config.nms, kind=cast(NMSKind, kind)))
        self.floor = self.config.nms.score if kind == "exact" else 0.0

    # ---- the two verbs ----------------------------------------------------------------------------------------

    def detect(self, images: Tensor, sizes: Sequence[tuple[int, int]] | None = None) -> RawDetections:
        """See `Model.detect`; masks come as prototypes and coefficients, K is the largest number of detections."""
        features = self.features(images)
        prototypes, raw = self.protonet(features[0]), self.head(features)
        rows = self.select(raw, self.priors(features, images))
        ratings = self.rate(prototypes, rows, images) if self.scorer is not None else None
        return _padded(rows, ratings, prototypes, (images.shape[-2], images.shape[-1]))

    def terms(
        self,
        images: Tensor,
        sizes: Sequence[tuple[int, int]],
        targets: Sequence[Target],
        generator: Draws = None,
    ) -> dict[str, Term]:
        """`class`, `box`, `mask`, `semantic` and, with mask scoring, `mask_iou`. See `Model.terms`."""
        features = self.features(images)
        outputs = yolact_loss.Outputs(
            raw=self.head(features),
            prototypes=self.protonet(features[0]),
            semantic=self.semantic(features[0]),
            priors=self.priors(features, images),
            size=(int(images.shape[-2]), int(images.shape[-1])),
        )
        draws = draws_of(generator, len(targets))
        return yolact_loss.terms(outputs, targets, self.config.loss, draws, self.scorer)

    # ---- the stages -------------------------------------------------------------------------------------------

    def features(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) to the pyramid's L maps, finest first."""
        maps: list[Tensor] = self.fpn(self.backbone(images))
        return maps

    def priors(self, features: Sequence[Tensor], images: Tensor) -> Tensor:
        """(N, 4) xyxy boxes in the input frame, level by level, row by row, not clipped."""
        c, size = self.config, (int(images.shape[-2]), int(images.shape[-1]))
        inverse = [1 / ratio for ratio in c.ratios]  # our ratios of anchors are height / width
        levels = []
        for sides, feature in zip(c.sizes, features, strict=True):
            cell = cell_anchors(sides, inverse)
            if c.square:
                cell = torch.stack([cell[:, 0], cell[:, 0], cell[:, 2], cell[:, 2]], dim=1)
            levels.append(level_priors(cell.to(images.device), (feature.shape[-2], feature.shape[-1]), size))
        return torch.cat(levels)

    def select(self, raw: Raw, priors: Tensor) -> list[Kept]:
        """For each image its detections, best first. Boxes are neither clipped nor limited to the image."""
        scores = raw.logits.float().softmax(dim=2)[..., :-1]  # (B, N, Q)
        kept = []
        for image, (of_image, deltas) in enumerate(zip(scores, raw.deltas, strict=True)):
            boxes, best, labels, rows = self._choose(of_image, deltas, priors)
            kept.append((boxes, best, labels, raw.coefficients[torch.full_like(rows, image), rows].float()))
        return kept

    def _choose(self, scores: Tensor, deltas: Tensor, priors: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Boxes (K, 4), scores (K,), labels (K,) and priors (K,) of one image."""
        nms = self.config.nms
        near = torch.nonzero(scores.amax(dim=1) > nms.score).flatten()
        boxes, scores = decode(deltas[near], priors[near], BOX_WEIGHTS), scores[near]
        if nms.kind == "exact":
            row, label = greedy_nms_by_class(boxes, scores, nms.score, nms.iou, nms.keep)
        else:
            row, label = fast_nms(boxes, scores, nms.iou, nms.before, nms.keep, across=nms.kind == "fast_cross")
        return boxes[row], scores[row, label], label, near[row]

    def rate(self, prototypes: Tensor, rows: Sequence[Kept], images: Tensor) -> list[Tensor]:
        """(K,) of each image: how well the mask of each row fits, as YOLACT++'s network says it."""
        assert self.scorer is not None
        size, out = (int(images.shape[-2]), int(images.shape[-1])), []
        for proto, (boxes, _, labels, coefficients) in zip(prototypes, rows, strict=True):
            masks = prototype_ops.soft_masks(proto.float(), coefficients, boxes, size)
            out.append(self.scorer(masks[:, None].to(prototypes.dtype)).float()[torch.arange(len(labels)), labels])
        return out


def _padded(
    rows: Sequence[Kept], ratings: Sequence[Tensor] | None, prototypes: Tensor, span: tuple[int, int]
) -> RawDetections:
    """Rows of each image side by side as (B, K, ...), the missing ones zero."""
    most = max(len(scores) for _, scores, _, _ in rows)

    def stack(parts: Sequence[Tensor]) -> Tensor:
        return torch.stack([F.pad(part, [0, 0] * (part.ndim - 1) + [0, most - len(part)]) for part in parts])

    boxes, scores, labels, coefficients = (stack(list(column)) for column in zip(*rows, strict=True))
    return RawDetections(
        boxes,
        scores,
        labels,
        coefficients=coefficients,
        prototypes=prototypes,
        span=span,
        mask_ratings=None if ratings is None else stack(ratings),
    )


# ---- what was published ---------------------------------------------------------------------------------------------


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
