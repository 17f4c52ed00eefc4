"""YOLACT and YOLACT++: instance masks as linear combinations of prototypes, in one pass (Bolya et al. 2019, 2020).

One branch draws D prototype masks that span the whole input; the other predicts for every prior a class, a box and D
coefficients. A detection's mask is the sigmoid of its coefficients times the prototypes, cropped to its box; nothing
is pooled from features again. YOLACT++ adds deformable convolutions, more priors and a small network that predicts
how good a mask is. What decides whether a published file gives its published numbers is a field of the config.

Letters: B batch, L levels, N priors of all levels, A priors of a cell, D prototypes, Q classes, K rows kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from maskwright.errors import ConfigError
from maskwright.models.base import Detections, Draws, Model, draws_of
from maskwright.models.yolact import loss
from maskwright.models.yolact.config import YolactConfig
from maskwright.models.yolact.loss import BOX_WEIGHTS
from maskwright.models.yolact.parts import Head, MaskScorer, Protonet, Pyramid, Raw, semantic_branch
from maskwright.nn.backbones import backbone, missing_strides, norm_layer
from maskwright.ops import prototypes as prototype_ops
from maskwright.ops.anchors import cell_anchors, level_priors
from maskwright.ops.boxes import decode
from maskwright.ops.losses import Term
from maskwright.ops.nms import fast_nms, greedy_nms_by_class, uncovered
from maskwright.ops.rows import exporting, rows_to_refine, spread
from maskwright.types import Inputs, Limits, PrototypeMasks, RawDetections, Size, Target


@dataclass(frozen=True, eq=False)
class YolactTrace:
    """What the stages returned. prototypes (B, h, w, D), which span `span` (H, W); outputs: of all priors; priors
    (N, 4); found: the detections, neither clipped nor limited to the image; coefficients (B, K, D) of them; ratings
    (B, K): YOLACT++'s, or None."""

    prototypes: Tensor
    span: Size
    outputs: Raw
    priors: Tensor
    found: Detections
    coefficients: Tensor
    ratings: Tensor | None

    @property
    def raw(self) -> RawDetections:
        masks = PrototypeMasks(self.coefficients, self.prototypes, self.span, self.ratings)
        return RawDetections(self.found.boxes, self.found.scores, self.found.labels, (masks,), self.found.left_out)


class Yolact(Model[YolactConfig]):
    """YOLACT, and YOLACT++ where `config.mask_scoring` and `config.deformable`."""

    def __init__(self, config: YolactConfig) -> None:
        super().__init__(config)
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

    # ---- prediction and training ------------------------------------------------------------------------------

    def trace(self, inputs: Inputs, limits: Limits) -> YolactTrace:
        return self.read(self.features(inputs.images), inputs.padded, limits)

    def terms(self, inputs: Inputs, targets: Sequence[Target], generator: Draws = None) -> dict[str, Term]:
        """`class`, `box`, `mask`, `semantic` and, with mask scoring, `mask_iou`. See `Model.terms`."""
        draws = draws_of(generator, len(targets))
        return self.judge(self.features(inputs.images), inputs.padded, targets, draws)

    # ---- the stages -------------------------------------------------------------------------------------------

    def features(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) to the pyramid's L maps, finest first."""
        maps: list[Tensor] = self.fpn(self.backbone(images))
        return maps

    def read(self, features: Sequence[Tensor], span: Size, limits: Limits) -> YolactTrace:
        """The detections that the pyramid's maps show, of an input of size `span`."""
        prototypes, outputs, priors = self.protonet(features[0]), self.head(features), self.priors(features, span)
        found = self.select(outputs, priors, limits)
        coefficients = self.coefficients(outputs, found)
        ratings = None if self.scorer is None else self.rate(prototypes, found, coefficients, span)
        return YolactTrace(prototypes, span, outputs, priors, found, coefficients, ratings)

    def judge(
        self,
        features: Sequence[Tensor],
        span: Size,
        targets: Sequence[Target],
        draws: Sequence[torch.Generator | None],
    ) -> dict[str, Term]:
        """The losses of what the pyramid's maps show, of inputs of size `span`."""
        outputs = loss.Outputs(
            raw=self.head(features),
            prototypes=self.protonet(features[0]),
            semantic=self.semantic(features[0]),
            priors=self.priors(features, span),
            size=span,
        )
        return loss.terms(outputs, targets, self.config.loss, draws, self.scorer)

    def priors(self, features: Sequence[Tensor], size: Size) -> Tensor:
        """(N, 4) xyxy boxes in an input of `size` (H, W), level by level, row by row, not clipped."""
        c = self.config
        inverse = [1 / ratio for ratio in c.ratios]  # our ratios of anchors are height / width
        levels = []
        for sides, feature in zip(c.sizes, features, strict=True):
            cell = cell_anchors(sides, inverse)
            if c.square:
                cell = torch.stack([cell[:, 0], cell[:, 0], cell[:, 2], cell[:, 2]], dim=1)
            levels.append(level_priors(cell.to(feature.device), (feature.shape[-2], feature.shape[-1]), size))
        return torch.cat(levels)

    def select(self, outputs: Raw, priors: Tensor, limits: Limits) -> Detections:
        """The detections of each image: scored, decoded, suppressed, the best."""
        scores = outputs.logits.float().softmax(dim=2)[..., :-1]  # (B, N, Q)
        chosen = [self._choose(s, d, priors, limits) for s, d in zip(scores, outputs.deltas, strict=True)]
        return Detections.of(chosen, limits.keep, priors)

    def _choose(self, scores: Tensor, deltas: Tensor, priors: Tensor, limits: Limits) -> tuple[Tensor, ...]:
        """Of one image, scores (N, Q), deltas (N, 4): boxes (K, 4), scores, labels and priors (K,), left_out ()."""
        iou, best = self.config.nms.iou, scores.amax(dim=1)
        near = rows_to_refine(best > limits.score)
        boxes = decode(deltas[near], priors[near], BOX_WEIGHTS)
        scores = torch.where(best[near, None] > limits.score, scores[near], 0.0)
        left_out = scores.new_zeros(())
        if limits.nms == "exact":
            row, label, value = greedy_nms_by_class(boxes, scores, limits.score, iou, limits.keep)
        else:
            before, across = self.config.compared(limits), limits.nms == "fast_cross"
            row, label, value = fast_nms(boxes, scores, iou, before, limits.keep, across=across)
            if not exporting():
                part = scores.amax(dim=1, keepdim=True) if across else scores
                groups = torch.where(value > 0, torch.zeros_like(label) if across else label, -1)
                left_out = self._left_out(boxes, part, row, groups, limits)
        if not near.shape[0]:
            return boxes.new_zeros(limits.keep, 4), value, label, row, left_out
        alive = value > 0
        return torch.where(alive[:, None], boxes[row], 0.0), value, label, torch.where(alive, near[row], 0), left_out

    def _left_out(self, boxes: Tensor, scores: Tensor, row: Tensor, groups: Tensor, limits: Limits) -> Tensor:
        """() the highest score of a box that Fast NMS did not compare and that no detection of its group covers.

        boxes (N, 4), scores (N, G) of each group; row (K,): the detections, and their groups (K,), -1 where dead.
        """
        before, out = self.config.compared(limits), scores.new_zeros(())
        for group in torch.nonzero((scores > limits.score).sum(dim=0) > before).flatten().tolist():
            own = scores[:, group]
            rest = torch.nonzero((own > limits.score) & (own < own.topk(before).values[-1])).flatten()
            kept = boxes[row[groups == group]]
            free = rest[uncovered(boxes[rest], kept, self.config.nms.iou)]
            out = torch.maximum(out, own[free].amax()) if len(free) else out
        return out

    def coefficients(self, outputs: Raw, found: Detections) -> Tensor:
        """(B, K, D) of the detections; zero for dead rows."""
        shape, rows = found.scores.shape, rows_to_refine(found.alive)
        values = outputs.coefficients[rows // shape[1], found.origin.flatten()[rows]].float()
        values = torch.where(found.alive.flatten()[rows, None], values, 0.0)
        return spread(values, rows, shape.numel()).view(*shape, self.config.prototypes)

    def rate(self, prototypes: Tensor, found: Detections, coefficients: Tensor, span: Size) -> Tensor:
        """(B, K): how well the mask of each row fits, as YOLACT++'s network estimates it."""
        assert self.scorer is not None
        out = []
        images = zip(prototypes, found.boxes, found.scores, found.labels, coefficients, strict=True)
        for proto, boxes, scores, labels, factors in images:
            rows = rows_to_refine(scores > 0)
            masks = prototype_ops.soft_masks(proto.float(), factors[rows], boxes[rows], span)
            every = self.scorer(masks[:, None].to(prototypes.dtype)).float()  # (R, Q)
            own = every[torch.arange(len(rows), device=rows.device), labels[rows]] * (scores[rows] > 0)
            out.append(spread(own, rows, len(scores)))
        return torch.stack(out) if out else found.scores
