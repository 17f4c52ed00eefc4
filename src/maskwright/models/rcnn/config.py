"""The config of the R-CNN family: everything in which published implementations differ is a field."""

from dataclasses import dataclass, field, replace
from typing import Literal, Self

from maskwright.codec import Section, ranged
from maskwright.errors import ConfigError
from maskwright.models.base import POSITIVE, Config, check_anchors
from maskwright.models.rcnn.semantic import SemanticConfig
from maskwright.types import BoxMasks, Classes, HeatMaps, Limits, Part, SearchSpec, Semantic


@dataclass(frozen=True)
class RPNConfig(Section):
    """Anchors, selection and sampling of the proposals.

    sizes: anchor sides in pixels for each level; ratios: height / width. rounded: anchors in whole pixels.
    stride_from_input: anchors step by padded input size // feature size, per axis (torchvision), instead of by the
        level's nominal stride (detectron2).
    convs: 3x3 layers before the two outputs. before, after: proposals kept for each level before suppression and in
        all after it. train_before, train_after: the same while training. nms: IoU above which the better proposal
        suppresses the other. rank_by: what orders the proposals.
    min_side: proposals with a shorter side are dropped (0: only the empty ones).
    low, high: an anchor is background below the first IoU, foreground from the second on, and ignored between them.
    samples, foreground: anchors an image contributes to the loss, and the share of foreground among them.
    beta: of the smooth L1 (0: L1). mean_over: divide the sums by the sampled anchors, or by samples x images.
    """

    sizes: tuple[tuple[float, ...], ...] = ranged(((32.0,), (64.0,), (128.0,), (256.0,), (512.0,)), **POSITIVE)
    ratios: tuple[float, ...] = ranged((0.5, 1.0, 2.0), **POSITIVE)
    rounded: bool = False
    stride_from_input: bool = False
    convs: int = ranged(1, low=0, high=64)
    before: int = ranged(1000, low=1, high=10**6)
    after: int = ranged(1000, low=1, high=10**6)
    train_before: int = ranged(2000, low=1, high=10**6)
    train_after: int = ranged(1000, low=1, high=10**6)
    nms: float = ranged(0.7, low=0, high=1)
    rank_by: Literal["logit", "probability"] = "logit"
    min_side: float = ranged(0.0, low=0)
    low: float = ranged(0.3, low=0, high=1)
    high: float = ranged(0.7, low=0, high=1)
    samples: int = ranged(256, low=1, high=10**7)
    foreground: float = ranged(0.5, low=0, high=1)
    beta: float = ranged(0.0, low=0)
    mean_over: Literal["budget", "sampled"] = "budget"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_anchors(self.sizes, self.ratios)

    def for_rows(self, keep: int) -> "RPNConfig":
        """With proposals for `keep` detections: at least twice as many."""
        return replace(self, before=max(self.before, 2 * keep), after=max(self.after, 2 * keep))


@dataclass(frozen=True)
class RoIConfig(Section):
    """Pooling, heads, selection and sampling of the regions of interest.

    pooling: RoIAlign, or RoIPool, of Fast R-CNN and of Faster R-CNN's paper. sampling_ratio, aligned: of RoIAlign;
    outer_epsilon: of the choice of a level (`Pooler`). crop_side, context: of the crops of R-CNN (`CropWarp`).
    box_side, mask_side: pooled sides. box_convs, box_fcs, box_width; mask_convs, mask_width; keypoint_convs,
    keypoint_width: sizes of the heads; the keypoint head pools to `mask_side` as well. score, nms, keep: which rows
    become detections; min_side: shorter ones are dropped. samples, foreground, iou: RoIs an image contributes to the
    loss, the share of foreground among them, and the IoU from which a RoI is foreground. beta: smooth L1 of the box (0:
    L1). binary_targets: bitmaps are thresholded at 0.5 after resampling.
    """

    pooling: Literal["align", "pool"] = "align"
    sampling_ratio: int = ranged(0, low=0, high=64)
    aligned: bool = True
    outer_epsilon: bool = False
    crop_side: int = ranged(224, low=8, high=1024)
    context: int = ranged(16, low=0, high=256)
    box_side: int = ranged(7, low=1, high=64)
    mask_side: int = ranged(14, low=1, high=32)
    box_convs: int = ranged(0, low=0, high=64)
    box_fcs: int = ranged(2, low=0, high=64)
    box_width: int = ranged(1024, low=1, high=2**16)
    mask_convs: int = ranged(4, low=0, high=64)
    mask_width: int = ranged(256, low=1, high=2**16)
    keypoint_convs: int = ranged(8, low=0, high=64)
    keypoint_width: int = ranged(512, low=1, high=2**16)
    score: float = ranged(0.05, low=0, high=1, open_high=True)
    nms: float = ranged(0.5, low=0, high=1)
    keep: int = ranged(100, low=1, high=10**5)
    min_side: float = ranged(0.0, low=0)
    samples: int = ranged(512, low=1, high=10**7)
    foreground: float = ranged(0.25, low=0, high=1)
    iou: float = ranged(0.5, low=0, high=1)
    beta: float = ranged(0.0, low=0)
    binary_targets: bool = True


@dataclass(frozen=True)
class RCNNConfig(Config):
    """Rebuilds an `RCNN`; see `Config` for the fields that all models have.

    proposals: where the boxes come from that may hold an object: "rpn", a network of its own (Faster R-CNN and later),
    or "search", selective search, whose boxes come with the inputs (R-CNN, Fast R-CNN). rpn, search: of either.
    neck: "fpn"; "c4" (features of stride 16, the last ResNet stage as head); "crops": nothing is shared, the backbone
    runs on the crop of each proposal (R-CNN: class and box alone). masks: Mask R-CNN (True) or Faster
    R-CNN (False). landmarks: how many each class has (Keypoint R-CNN, with masks or without); empty: none are found.
    semantic: the branch that names the class of every pixel (Panoptic FPN).
    stride_in_1x1: where our ResNets' bottlenecks have their stride.
    """

    nms_kinds = ("by_class", "cross")

    proposals: Literal["rpn", "search"] = "rpn"
    neck: Literal["fpn", "c4", "crops"] = "fpn"
    masks: bool = True
    landmarks: tuple[int, ...] = ranged((), low=0, high=10**4)
    stride_in_1x1: bool = False
    semantic: SemanticConfig = field(default_factory=SemanticConfig)
    rpn: RPNConfig = field(default_factory=RPNConfig)
    search: SearchSpec = field(default_factory=SearchSpec)
    roi: RoIConfig = field(default_factory=RoIConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.landmarks and (len(self.landmarks) != self.num_classes or not any(self.landmarks)):
            raise ConfigError(
                f"RCNNConfig.landmarks has a number for each of the {self.num_classes} classes, at least one above 0, "
                f"got {self.landmarks}."
            )

        if self.neck == "crops" and (self.proposals == "rpn" or self.parts):
            raise ConfigError(
                "RCNNConfig: neck 'crops' has no features of the whole image: its proposals are from 'search', and "
                "it finds no masks, landmarks or semantic map."
            )
        if 2 * self.roi.context >= self.roi.crop_side:
            raise ConfigError(
                f"RoIConfig: twice the context is less than crop_side, got {self.roi.context} and {self.roi.crop_side}."
            )

    @property
    def parts(self) -> tuple[type[Part], ...]:
        has = {BoxMasks: self.masks, HeatMaps: bool(self.landmarks), Semantic: bool(self.semantic.names)}
        return tuple(part for part, there in has.items() if there)

    def for_classes(self, classes: Classes) -> Self:
        """See `Config.for_classes`; a network with landmarks has those of the classes."""
        if not self.landmarks:
            return super().for_classes(classes)
        counts = tuple(0 if marks is None else len(marks) for marks in classes.landmarks)
        if not any(counts):
            raise ConfigError(
                f"A network that finds landmarks needs classes that have some; none of {', '.join(classes[:5])} has.",
                options=("model",),
            )
        return replace(self, num_classes=len(classes), landmarks=counts)

    def for_semantic(self, classes: Classes | None, stuff_area: int | None = None) -> Self:
        """See `Config.for_semantic`."""
        if not self.semantic.names:
            return self
        if classes is None or len(classes) < 2:
            raise ConfigError(
                "A network with a semantic branch learns the class of every pixel, and this data set has no maps "
                "of stuff. COCO's panoptic files have them, as the format 'coco_panoptic'; or choose a Mask R-CNN.",
                options=("data_format", "model"),
            )
        area = self.semantic.stuff_area if stuff_area is None else stuff_area
        return replace(self, semantic=replace(self.semantic, names=classes.names, ids=classes.ids, stuff_area=area))

    def limits_for(self, nms: str | None = None) -> Limits:
        return Limits(self.roi.score, self.roi.keep, self.checked_nms(nms or "by_class"))

    def lowest_score(self, limits: Limits) -> float:
        return limits.score

    @property
    def strides_early(self) -> bool:
        return self.stride_in_1x1

    @property
    def takes_boxes(self) -> bool:
        return True

    @property
    def box_search(self) -> SearchSpec | None:
        return self.search if self.proposals == "search" else None

    @property
    def anchor_sides(self) -> tuple[float, ...]:
        return tuple(level[0] for level in self.rpn.sizes) if self.proposals == "rpn" else ()

    def with_anchor_sides(self, sides: tuple[float, ...]) -> Self:
        """See `Config.with_anchor_sides`; a network of one level has all sides there."""
        if self.proposals != "rpn":
            raise ConfigError("A network that is given its proposals has no anchors.", options=("anchors",))
        sizes = (sides,) if len(self.rpn.sizes) == 1 else tuple((side,) for side in sides)
        return replace(self, rpn=replace(self.rpn, sizes=sizes))

    def with_limits(self, score: float | None = None, keep: int | None = None) -> Self:
        rpn, roi, search = self.rpn, self.roi, self.search
        if score is not None:
            roi = replace(roi, score=min(roi.score, score))
        if keep is not None:
            roi = replace(roi, keep=max(keep, roi.keep))
            rpn = rpn.for_rows(roi.keep)
            search = replace(search, most=max(search.most, 2 * roi.keep))
        return replace(self, rpn=rpn, roi=roi, search=search)
