"""The R-CNN family as one composition: Faster R-CNN and Mask R-CNN, with a feature pyramid or on the C4 features.

Mask R-CNN is Faster R-CNN (Ren et al. 2015) with RoIAlign in place of RoIPool and a third branch that draws one binary
mask per class; the predicted class chooses the mask (He et al. 2017). What published implementations do differently
is a field of the config, so that each one's weights give its own numbers.

Letters: B batch, L levels, N anchors, R RoIs of all images, K rows kept, Q classes, M mask side.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import torch
from torch import Tensor, nn

from maskwright.errors import ConfigError, DataError, suggest
from maskwright.models.base import Draws, Model, draws_of
from maskwright.nn.backbones import NormKind, backbone, missing_strides, norm_layer
from maskwright.nn.fpn import FPN
from maskwright.nn.resnet import stage
from maskwright.nn.roi_heads import BoxHead, BoxPredictor, MaskHead, MeanHead, Pooler, RoIConfig, Sampled
from maskwright.nn.rpn import RPN, RPNConfig, split_crowd
from maskwright.ops import boxes as box_ops
from maskwright.ops import losses, mask_targets, matching
from maskwright.ops.losses import Term
from maskwright.ops.nms import batched_nms
from maskwright.types import InputSpec, Masks, OutputSpec, RawDetections, Target

Proposals = list[tuple[Tensor, Tensor]]
C4_ROWS = 250
"""RoIs at once in the C4 head, 0.8 MB each before it, 2.4 MB inside, float32. Learning keeps all of it anyway."""

BOX_WEIGHTS = (10.0, 10.0, 5.0, 5.0)


@dataclass(frozen=True)
class RCNNConfig:
    """Rebuilds an `RCNN`.

    backbone: `resnet50`, `resnet101` or a timm name; strides: which of its feature maps are used. neck: "fpn", or
    "c4" (stride-16 features, the last ResNet stage as head). masks: Mask R-CNN (True) or Faster R-CNN (False).
    norm, norm_eps: of the backbone; neck_norm: batch norm also in the neck and the heads.
    """

    num_classes: int = 80
    backbone: str = "resnet50"
    strides: tuple[int, ...] = (4, 8, 16, 32)
    neck: str = "fpn"
    masks: bool = True
    channels: int = 256
    norm: NormKind = "frozen"
    norm_eps: float = 1e-5
    neck_norm: bool = False
    stride_in_1x1: bool = False
    rpn: RPNConfig = field(default_factory=RPNConfig)
    roi: RoIConfig = field(default_factory=RoIConfig)
    spec: InputSpec = field(default_factory=InputSpec)
    output: OutputSpec = field(default_factory=OutputSpec)

    def __post_init__(self) -> None:
        if self.neck not in ("fpn", "c4") or self.norm not in ("frozen", "live") or self.num_classes < 1:
            raise ConfigError(
                f"RCNNConfig: neck is 'fpn' or 'c4', norm 'frozen' or 'live', num_classes at least 1, got "
                f"{self.neck!r}, {self.norm!r} and {self.num_classes}."
            )


class RCNN(Model):
    """Faster R-CNN, and Mask R-CNN where `config.masks`."""

    config: RCNNConfig

    def __init__(self, config: RCNNConfig) -> None:
        super().__init__()
        self.config, self.spec, self.output, self.floor = config, config.spec, config.output, config.roi.score
        c, roi = config, config.roi
        self.backbone = backbone(c.backbone, c.norm, c.norm_eps, strides=c.strides, stride_in_1x1=c.stride_in_1x1)
        norm = norm_layer("live") if c.neck_norm else None
        strides = self.backbone.strides
        self.fpn: nn.Module | None = None
        self.res5: nn.Module | None = None
        if c.neck == "c4":
            if len(strides) != 1:
                raise ConfigError(f"RCNNConfig: neck 'c4' works on one feature map, got the strides {c.strides}.")
            channels = self.backbone.channels[0]
            body_norm = norm_layer(c.norm, c.norm_eps)
            self.res5 = stage(channels, channels // 2, 3, 2, body_norm, stride_in_1x1=c.stride_in_1x1)
            self.box_head: nn.Module = MeanHead()
            width = mask_inputs = channels // 2 * 4
        else:
            self.fpn = FPN(self.backbone.channels, c.channels, norm)
            self.box_head = BoxHead(c.channels, roi.box_side, roi.box_fcs, roi.box_width, roi.box_convs, norm)
            width, mask_inputs, channels = roi.box_width, c.channels, c.channels
        levels = strides if self.fpn is None else (*strides, strides[-1] * 2)
        if len(c.rpn.sizes) != len(levels) or any(b != 2 * a for a, b in pairwise(levels)):
            raise ConfigError(
                f"RPNConfig.sizes needs one entry for each of the {len(levels)} levels (strides {levels}) that "
                f"'{c.backbone}' gives, got {len(c.rpn.sizes)}; from level to level strides double."
                f"{missing_strides(c.backbone, strides, c.strides)}"
            )
        self.rpn = RPN(c.rpn, channels, levels)
        self.box_predictor = BoxPredictor(width, c.num_classes)
        self.mask_head = MaskHead(mask_inputs, roi.mask_width, c.num_classes, roi.mask_convs, norm) if c.masks else None
        scales = tuple(1 / s for s in strides)
        self.box_pooler = Pooler(scales, roi.box_side, roi.sampling_ratio, roi.aligned, roi.outer_epsilon)
        self.mask_pooler = replace(self.box_pooler, side=roi.mask_side)

    # ---- the two verbs ----------------------------------------------------------------------------------------

    def detect(self, images: Tensor, sizes: Sequence[tuple[int, int]] | None = None) -> RawDetections:
        """See `Model.detect`; K is the largest number of detections in the batch."""
        sizes = sizes or [(images.shape[-2], images.shape[-1])] * len(images)
        features = self.features(images)
        proposals = self.propose(features, images, sizes)
        logits, deltas = self.classify(features, [boxes for boxes, _ in proposals])
        rows = self.select(logits, deltas, [boxes for boxes, _ in proposals], sizes)
        probs = self.segment(features, rows) if self.mask_head is not None else None
        return _padded(rows, probs)

    def terms(
        self,
        images: Tensor,
        sizes: Sequence[tuple[int, int]],
        targets: Sequence[Target],
        generator: Draws = None,
    ) -> dict[str, Term]:
        """`rpn_class`, `rpn_box`, `class`, `box` and, with masks, `mask`. See `Model.terms`."""
        draws = draws_of(generator, len(targets))
        features = self.features(images)
        maps = self.rpn_maps(features)
        logits, deltas = self.rpn(maps)
        anchors = self.rpn.anchors(maps, _hw(images))
        out = self.rpn.terms(logits, deltas, anchors, targets, draws)
        proposals = self.rpn.propose(logits, deltas, anchors, sizes, training=True)
        sampled = [self.sample(p, t, g) for (p, _), t, g in zip(proposals, targets, draws, strict=True)]
        if not sampled:
            none = Sampled.nothing(images.device)
            sampled, targets = [none], [Target(none.boxes, none.labels)]
        return {**out, **self.box_terms(features, sampled), **self.mask_terms(features, sampled, targets)}

    # ---- the stages -------------------------------------------------------------------------------------------

    def features(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) to the feature maps, finest first: the pyramid's L + 1, or the one of C4."""
        maps: list[Tensor] = self.backbone(images)
        return maps if self.fpn is None else self.fpn(maps)

    def rpn_maps(self, features: Sequence[Tensor]) -> Sequence[Tensor]:
        """The maps the proposal network slides over: all of them."""
        return features

    def propose(self, features: Sequence[Tensor], images: Tensor, sizes: Sequence[tuple[int, int]]) -> Proposals:
        """For each image its proposals (K, 4) and scores (K,), best first."""
        maps = self.rpn_maps(features)
        logits, deltas = self.rpn(maps)
        return self.rpn.propose(logits, deltas, self.rpn.anchors(maps, _hw(images)), sizes, training=False)

    def classify(self, features: Sequence[Tensor], boxes: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Boxes of each image to class logits (R, Q+1) and offsets (R, Q, 4), rows of all images in order."""
        rows, index = torch.cat(list(boxes)), _batch_index(boxes)
        step = C4_ROWS if self.res5 is not None and not torch.is_grad_enabled() else max(1, len(rows))
        parts = [
            self.box_predictor(self.box_head(self.roi_features(self.box_pooler(features, b, i))))
            for b, i in zip(rows.split(step), index.split(step), strict=True)
        ]
        return torch.cat([logits for logits, _ in parts]), torch.cat([deltas for _, deltas in parts])

    def roi_features(self, pooled: Tensor) -> Tensor:
        """What the heads see of a pooled RoI: itself, or the last ResNet stage's view of it (C4)."""
        out: Tensor = pooled if self.res5 is None else self.res5(pooled)
        return out

    def select(
        self, logits: Tensor, deltas: Tensor, boxes: Sequence[Tensor], sizes: Sequence[tuple[int, int]]
    ) -> list[tuple[Tensor, Tensor, Tensor]]:
        """For each image (boxes (K, 4), scores (K,), labels (K,)): scored, decoded, suppressed by class, the best."""
        c = self.config.roi
        scores = logits.float().softmax(dim=1)[:, :-1]  # (R, Q)
        counts = [len(b) for b in boxes]
        out = []
        for s, d, b, size in zip(scores.split(counts), deltas.split(counts), boxes, sizes, strict=True):
            row, label = torch.nonzero(s > c.score, as_tuple=True)
            found = box_ops.clip(box_ops.decode(d[row, label], b[row], BOX_WEIGHTS), size)
            good = torch.isfinite(found).all(1)
            if c.min_side:
                good &= box_ops.sides_at_least(found, c.min_side)
            found, value, label = found[good], s[row, label][good], label[good]
            keep = batched_nms(found, value, label, c.nms, finite=True)[: c.keep]
            out.append((found[keep], value[keep], label[keep]))
        return out

    def segment(self, features: Sequence[Tensor], rows: Sequence[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
        """Probabilities (R, M, M) of the masks of the selected rows of all images."""
        assert self.mask_head is not None
        boxes = [b for b, _, _ in rows]
        pooled = self.mask_pooler(features, torch.cat(boxes), _batch_index(boxes))
        logits: Tensor = self.mask_head(self.roi_features(pooled), torch.cat([label for _, _, label in rows]))
        return logits.float().sigmoid()

    # ---- training ---------------------------------------------------------------------------------------------

    @torch.no_grad()
    def sample(self, proposals: Tensor, target: Target, generator: torch.Generator | None) -> Sampled:
        """The RoIs of one image that the heads learn from: proposals and ground truth, matched and drawn."""
        c = self.config.roi
        truth, crowds = split_crowd(target)
        objects = torch.arange(len(target), device=proposals.device)
        if target.crowd is not None:
            objects = objects[~target.crowd]
        boxes = torch.cat([proposals, truth.to(proposals.dtype)])
        matches, best = matching.match(truth, boxes, low=c.iou, high=c.iou, keep_best=False)
        matches = matching.ignore_crowds(matches, boxes, crowds)
        positive, negative = matching.sample(matches, c.samples, c.foreground, generator)
        chosen = torch.cat([positive, negative])
        labels = torch.full((len(chosen),), self.config.num_classes, device=chosen.device)
        labels[: len(positive)] = target.labels[objects[best[positive]]]
        return Sampled(boxes[chosen], labels, truth[best[positive]], objects[best[positive]])

    def box_terms(self, features: Sequence[Tensor], sampled: Sequence[Sampled]) -> dict[str, Term]:
        """`class`: cross-entropy over all RoIs. `box`: smooth L1 of the true class's row, over all RoIs."""
        logits, deltas = self.classify(features, [s.boxes for s in sampled])
        labels = torch.cat([s.labels for s in sampled])
        foreground = torch.nonzero(labels < self.config.num_classes).flatten()
        regions, truth = (torch.cat(part) for part in zip(*((s.foreground, s.truth) for s in sampled), strict=True))
        wanted = box_ops.encode(truth, regions, BOX_WEIGHTS)
        box_sum = losses.smooth_l1_sum(deltas[foreground, labels[foreground]], wanted, self.config.roi.beta)
        class_sum = losses.class_cross_entropy_sum(logits, labels)
        return {"class": Term(class_sum, len(labels)), "box": Term(box_sum, len(labels))}

    def mask_terms(
        self, features: Sequence[Tensor], sampled: Sequence[Sampled], targets: Sequence[Target]
    ) -> dict[str, Term]:
        """`mask`: binary cross-entropy of the true class's map over the foreground RoIs."""
        if self.mask_head is None:
            return {}
        boxes = [s.foreground for s in sampled]
        objects, corners = torch.cat([s.objects for s in sampled]).cpu(), torch.cat(boxes).cpu()  # masks lie there
        pooled = self.mask_pooler(features, torch.cat(boxes), _batch_index(boxes))
        labels = torch.cat([s.labels[: len(s.truth)] for s in sampled])
        logits = self.mask_head(self.roi_features(pooled), labels)
        counts = [len(b) for b in boxes]
        wanted = [
            self.mask_target(target, o, b, logits.shape[-1])
            for target, o, b in zip(targets, objects.split(counts), corners.split(counts), strict=True)
        ]
        return {"mask": Term(losses.mask_bce_sum(logits, torch.cat(wanted).to(logits.device)), logits.numel())}

    def mask_target(self, target: Target, objects: Tensor, boxes: Tensor, side: int) -> Tensor:
        """(R, M, M) of one image: object `objects[r]` inside `boxes[r]`."""
        if target.masks is None and len(objects):
            raise DataError("The targets have boxes but no masks; a model with masks needs both to learn from.")
        if not isinstance(target.masks, Masks):
            return mask_targets.from_polygons(target.masks or [], objects, boxes, side)
        out = mask_targets.from_bitmaps(target.masks, objects, boxes, side, aligned=self.config.roi.aligned)
        return (out >= 0.5).float() if self.config.roi.binary_targets else out


def _hw(images: Tensor) -> tuple[int, int]:
    return int(images.shape[-2]), int(images.shape[-1])


def _batch_index(boxes: Sequence[Tensor]) -> Tensor:
    counts = [len(b) for b in boxes]
    repeats = torch.tensor(counts, device=boxes[0].device)
    return torch.repeat_interleave(torch.arange(len(boxes), device=boxes[0].device), repeats, output_size=sum(counts))


def _padded(rows: Sequence[tuple[Tensor, Tensor, Tensor]], probs: Tensor | None) -> RawDetections:
    """Rows of each image side by side as (B, K, ...), the missing ones zero."""
    counts = [len(scores) for _, scores, _ in rows]

    def stack(parts: Sequence[Tensor]) -> Tensor:
        out = parts[0].new_zeros((len(parts), max(counts), *parts[0].shape[1:]))
        for row, part in zip(out, parts, strict=True):
            row[: len(part)] = part
        return out

    boxes, scores, labels = (stack(list(column)) for column in zip(*rows, strict=True))
    return RawDetections(boxes, scores, labels, None if probs is None else stack(probs.split(counts)))


# ---- what the publishers built ------------------------------------------------------------------------------------

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
    roi = replace(base.roi, box_width=64, mask_convs=convs, mask_width=16, keep=20, samples=32)
    spec = replace(base.spec, size=64, max_size=128)
    return replace(base, backbone="resnet14_narrow", channels=16, rpn=rpn, roi=roi, spec=spec)
