"""The R-CNN family as one composition: Fast, Faster, Mask and Keypoint R-CNN, with a feature pyramid or on C4 features.

A proposer has boxes that may hold an object: selective search's, which come with the inputs (`Given`; Fast R-CNN,
Girshick 2015), or those that a network of its own predicts (`RPN`; Faster R-CNN, Ren et al. 2015). A reader
(`RoIReader`) extracts the features of each, by RoIPool or RoIAlign, and heads predict class and box, one binary mask
for each class, of which that of the predicted class is used (Mask R-CNN, He et al. 2017), and a heat map for each
landmark of the class (Keypoint R-CNN, in the same paper). Panoptic FPN adds the class of every pixel (Kirillov et al.
2019). R-CNN itself (Girshick et al. 2013) has proposals of selective search, and its reader is a whole network on the
crop of each; here a softmax stands for its SVMs, and class and box are learnt at once, as in Fast R-CNN.
What published implementations do differently is a field of the config, so that each one's weights give its own numbers.

Letters: B batch, L levels, P proposals, K rows kept, Q classes, M mask side.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor, nn

from maskwright.errors import ConfigError
from maskwright.models.base import Detections, Draws, Model, draws_of
from maskwright.models.rcnn.config import RCNNConfig
from maskwright.models.rcnn.fpn import FPN
from maskwright.models.rcnn.heads import BoxBranch, MaskBranch, sample
from maskwright.models.rcnn.keypoints import KeypointBranch, KeypointHead
from maskwright.models.rcnn.layers import BoxHead, BoxPredictor, MaskHead, MeanHead
from maskwright.models.rcnn.proposer import RPN, Given, Proposals
from maskwright.models.rcnn.reader import C4_ROWS, CROP_ROWS, CropWarp, Pooler, RoIReader
from maskwright.models.rcnn.semantic import SemanticBranch, SemanticHead
from maskwright.nn.backbones import backbone, missing_strides, norm_layer
from maskwright.nn.resnet import stage
from maskwright.ops.losses import Term
from maskwright.ops.nms import uncovered
from maskwright.types import BoxMasks, HeatMaps, Inputs, Limits, RawDetections, Semantic, Target

LOOKED_AT = 256
"""Passed-over boxes that are compared at a time; the search ends at the first that nothing covers."""


@dataclass(frozen=True, eq=False)
class RCNNTrace:
    """What the stages returned. features: the maps, finest first; proposals; scores (B, P, Q+1), background last, and
    deltas (B, P, Q, 4) of them; found: the detections; masks, keypoints: inside their boxes, semantic: of the whole
    input; None where the model has no such head."""

    features: list[Tensor]
    proposals: Proposals
    scores: Tensor
    deltas: Tensor
    found: Detections
    masks: BoxMasks | None
    keypoints: HeatMaps | None = None
    semantic: Semantic | None = None

    @property
    def raw(self) -> RawDetections:
        parts = tuple(part for part in (self.masks, self.keypoints, self.semantic) if part is not None)
        return RawDetections(self.found.boxes, self.found.scores, self.found.labels, parts, self.found.left_out)


class RCNN(Model[RCNNConfig]):
    """Faster R-CNN; where `config.proposals` is "search", Fast R-CNN, and on crops R-CNN. With `config.masks` Mask
    R-CNN, with `config.landmarks` Keypoint R-CNN, with classes in `config.semantic` Panoptic FPN."""

    def __init__(self, config: RCNNConfig) -> None:
        super().__init__(config)
        c, roi = config, config.roi
        norm = norm_layer("live") if c.neck_norm else None
        self.backbone = backbone(c.backbone, c.norm, c.norm_eps, strides=c.strides, stride_in_1x1=c.stride_in_1x1)
        strides = self.backbone.strides
        levels: tuple[int, ...]
        self.fpn: nn.Module = nn.Identity()  # the C4 features are read as they are
        self.res5: nn.Module = nn.Identity()  # what is read from a pyramid needs no further stage
        self.most_rows: int | None = None
        if c.neck != "fpn" and len(strides) != 1:
            raise ConfigError(f"RCNNConfig: neck '{c.neck}' works on one feature map, got the strides {c.strides}.")
        if c.neck == "crops":
            levels, channels = strides, self.backbone.channels[0]
            self.most_rows = CROP_ROWS
            self.box_head: nn.Module = MeanHead()
            width = head_inputs = channels
        elif c.neck == "c4":
            levels, channels = strides, self.backbone.channels[0]
            body_norm = norm_layer(c.norm, c.norm_eps)
            self.res5 = stage(channels, channels // 2, 3, 2, body_norm, stride_in_1x1=c.stride_in_1x1)
            self.most_rows = C4_ROWS
            self.box_head = MeanHead()
            width = head_inputs = channels // 2 * 4
        else:
            levels, channels = (*strides, strides[-1] * 2), c.channels
            self.fpn = FPN(self.backbone.channels, channels, norm)
            self.box_head = BoxHead(channels, roi.box_side, roi.box_fcs, roi.box_width, roi.box_convs, norm)
            width, head_inputs = roi.box_width, channels
        self._check_levels(levels)
        self.rpn = RPN(c.rpn, channels, levels) if c.proposals == "rpn" else None
        self.box_predictor = BoxPredictor(width, c.num_classes)
        self.mask_head = MaskHead(head_inputs, roi.mask_width, c.num_classes, roi.mask_convs, norm) if c.masks else None
        self.keypoint_head: KeypointHead | None = None
        if c.landmarks:
            self.keypoint_head = KeypointHead(head_inputs, roi.keypoint_width, c.landmarks, roi.keypoint_convs, norm)

        self.semantic_head: SemanticHead | None = None
        if c.semantic.names:
            if c.neck == "c4":
                raise ConfigError("RCNNConfig: a semantic branch reads the maps of a pyramid, neck 'fpn'.")
            self.semantic_head = SemanticHead(c.semantic, channels, strides)

    def _check_levels(self, levels: Sequence[int]) -> None:
        c, strides = self.config, self.backbone.strides
        entries = len(c.rpn.sizes) if c.proposals == "rpn" else len(levels)  # without an RPN they mean nothing
        if entries != len(levels) or any(b != 2 * a for a, b in pairwise(levels)):
            raise ConfigError(
                f"RPNConfig.sizes needs one entry for each of the {len(levels)} levels (strides {levels}) that "
                f"'{c.backbone}' gives, got {entries}; from level to level strides double."
                f"{missing_strides(c.backbone, strides, c.strides)}"
            )

    # ---- the composition --------------------------------------------------------------------------------------

    def reader(self, side: int) -> RoIReader:
        """Extracts the features of RoIs in `side` x `side` bins."""
        roi, scales = self.config.roi, tuple(1 / s for s in self.backbone.strides)
        if self.config.neck == "crops":
            return RoIReader(CropWarp(roi.crop_side, roi.context), self._last_map, self.most_rows)
        return RoIReader(
            Pooler(scales, side, roi.sampling_ratio, roi.aligned, roi.outer_epsilon, roi.pooling),
            self.res5,
            self.most_rows,
        )

    @property
    def proposer(self) -> RPN | Given:
        """Where proposals come from unless the inputs bring others."""
        return Given() if self.rpn is None else self.rpn

    @property
    def box_branch(self) -> BoxBranch:
        """The head of classes and boxes."""
        c = self.config
        return BoxBranch(self.reader(c.roi.box_side), self.box_head, self.box_predictor, c.roi, c.num_classes)

    @property
    def mask_branch(self) -> MaskBranch | None:
        """The head of masks; None in Faster R-CNN."""
        if self.mask_head is None:
            return None
        return MaskBranch(self.reader(self.config.roi.mask_side), self.mask_head, self.config.roi)

    @property
    def keypoint_branch(self) -> KeypointBranch | None:
        """The head of landmarks; None without."""
        if self.keypoint_head is None:
            return None
        return KeypointBranch(self.reader(self.config.roi.mask_side), self.keypoint_head)

    @property
    def semantic_branch(self) -> SemanticBranch | None:
        """The head of the class of every pixel; None without."""
        return None if self.semantic_head is None else SemanticBranch(self.semantic_head, self.config.semantic)

    def features(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) to the feature maps, finest first: the pyramid's L + 1, the one of C4, or the images themselves
        where the backbone runs on crops."""
        maps: list[Tensor] = [images] if self.config.neck == "crops" else self.backbone(images)
        pyramid: list[Tensor] = self.fpn(maps)
        return pyramid

    def _last_map(self, crops: Tensor) -> Tensor:
        """(R, 3, S, S) to the backbone's map of each crop."""
        maps: list[Tensor] = self.backbone(crops)
        return maps[-1]

    # ---- prediction and training ------------------------------------------------------------------------------

    def trace(self, inputs: Inputs, limits: Limits) -> RCNNTrace:
        box, mask, keypoint = self.box_branch, self.mask_branch, self.keypoint_branch
        features = self.features(inputs.images)
        more = limits.keep if limits.keep > self.config.roi.keep else None
        proposer = self.proposer if inputs.proposals is None else Given()
        proposals = proposer.propose(features, inputs, more)
        scores, deltas = box.scored(features, proposals)
        if inputs.labels is None:
            found = box.detect(scores, deltas, proposals, inputs.sizes, limits)
        else:
            found = box.named(scores, proposals, inputs.labels, limits)
        masks = None if mask is None else mask.detect(features, found)
        keypoints = None if keypoint is None else keypoint.detect(features, found)
        semantic = None if self.semantic_branch is None else self.semantic_branch.detect(features, inputs)
        found = replace(found, left_out=self._left_out(proposals, found))
        return RCNNTrace(features, proposals, scores, deltas, found, masks, keypoints, semantic)

    def _left_out(self, proposals: Proposals, found: Detections) -> Tensor | None:
        """(B,) see `RawDetections`: the highest objectness of a passed-over box that neither a proposal nor a detection
        covers."""
        best = []
        for i, (over, scores) in enumerate(proposals.passed_over):
            kept, shown, most = proposals.of(i).to(over), found.boxes[i][found.alive[i]].to(over), scores.new_zeros(())
            for boxes, likely in zip(over.split(LOOKED_AT), scores.split(LOOKED_AT), strict=True):  # best first
                free = uncovered(boxes, shown, self.config.roi.nms) & uncovered(boxes, kept, self.config.rpn.nms)
                if free.any():
                    most = likely[free][0]
                    break
            best.append(most)
        return torch.stack(best) if best else None

    def terms(self, inputs: Inputs, targets: Sequence[Target], generator: Draws = None) -> dict[str, Term]:
        """`class`, `box`; and `rpn_class`, `rpn_box`, `mask`, `keypoint`, `semantic` where it has them. See `Model`."""
        draws = draws_of(generator, len(targets))
        features = self.features(inputs.images)
        out, proposals = self.proposer.learn(features, inputs, targets, draws)
        sampled = sample(proposals, targets, draws, self.config.roi, self.config.num_classes)
        out |= self.box_branch.terms(features, sampled)
        for branch in (self.mask_branch, self.keypoint_branch):
            if branch is not None:
                out |= branch.terms(features, sampled, targets)
        if self.semantic_branch is not None:
            out |= self.semantic_branch.terms(features, inputs, targets)
        return out
