"""The config of the YOLACT family: everything in which published implementations differ is a field."""

from dataclasses import dataclass, field, replace
from typing import Literal, Self, get_args

from maskwright.codec import Section, ranged
from maskwright.errors import ConfigError
from maskwright.models.base import POSITIVE, Config, check_anchors
from maskwright.types import InputSpec, Limits, OutputSpec, Part, PrototypeMasks

RESNET_INPUT = InputSpec(
    size=550, fit="stretch", resize="float", mean=(123.68, 116.78, 103.94), std=(58.40, 57.12, 57.38), multiple=1
)
DARKNET_INPUT = replace(RESNET_INPUT, mean=(0.0, 0.0, 0.0), std=(255.0, 255.0, 255.0))
PUBLISHED_OUTPUT = OutputSpec(score_threshold=0.15, whole_boxes=True)

NMSKind = Literal["fast", "fast_cross", "exact"]


@dataclass(frozen=True)
class NMSConfig(Section):
    """How detections are chosen.

    kind: "fast" (a suppressed box still suppresses others: one matrix, no loop), "fast_cross" (the same over all
    classes together), "exact" (greedy, by class). score: a prior takes part if its best class is above this. iou:
    overlap that suppresses. before: best rows of each class that are compared. keep: rows of an image at most.
    """

    kind: NMSKind = "fast"
    score: float = ranged(0.05, low=0, high=1, open_high=True)
    iou: float = ranged(0.5, low=0, high=1, open_low=True, open_high=True)
    before: int = ranged(200, low=1, high=10**6)
    keep: int = ranged(100, low=1, high=10**5)


@dataclass(frozen=True)
class LossConfig(Section):
    """Thresholds and weights of the terms.

    positive, negative: a prior is foreground from the first IoU with an object on and background below the second.
    crowd: share of a prior inside a crowd region from which it is ignored. negatives: background priors for each
    foreground one, the hardest. masks: foreground priors of an image whose masks are compared, drawn at random;
    smallest: cells of a true mask below which its IoU is not learnt. The rest are weights.
    """

    positive: float = ranged(0.5, low=0, high=1, open_low=True)
    negative: float = ranged(0.4, low=0, high=1, open_low=True)
    crowd: float = ranged(0.7, low=0, high=1, open_low=True)
    negatives: int = ranged(3, low=1, high=10**6)
    masks: int = ranged(100, low=1, high=10**6)
    smallest: int = ranged(25, low=0)
    class_weight: float = ranged(1.0, low=0)
    box_weight: float = ranged(1.5, low=0)
    mask_weight: float = ranged(6.125, low=0)
    semantic_weight: float = ranged(1.0, low=0)
    mask_iou_weight: float = ranged(25.0, low=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.negative > self.positive:
            raise ConfigError(f"negative is at most positive, got {self.negative} and {self.positive}.")


@dataclass(frozen=True)
class YolactConfig(Config):
    """Rebuilds a `Yolact`; see `Config` for the fields that all models have.

    backbone: `resnet50`, `resnet101`, `darknet53`, `mobilenetv2` or a timm name. deformable: 1: every block of the
    used stages has a deformable 3x3 convolution, 2: every second block, 3: every third; 0: none (our ResNets only).
    extra: coarser levels beside those of the backbone.
    sizes: for each level the sides of its priors in input pixels; ratios: width / height of each side's priors;
    square: every prior is a square of its width, as in the published code.
    prototypes: D. proto_channels, proto_convs: 3x3 convolutions before the upsampling; proto_upsample: prototypes at
    twice the finest level's resolution, or at its own. head_convs: shared 3x3 convolutions of the head.
    mask_scoring: YOLACT++'s network that estimates how well a mask fits.
    """

    nms_kinds = get_args(NMSKind)

    strides: tuple[int, ...] = ranged((8, 16, 32), low=1, high=1024)
    deformable: int = ranged(0, low=0, high=64)
    extra: int = ranged(2, low=0, high=8)
    sizes: tuple[tuple[float, ...], ...] = ranged(((24.0,), (48.0,), (96.0,), (192.0,), (384.0,)), **POSITIVE)
    ratios: tuple[float, ...] = ranged((1.0, 0.5, 2.0), **POSITIVE)
    square: bool = True
    prototypes: int = ranged(32, low=1, high=4096)
    proto_channels: int = ranged(256, low=1, high=2**16)
    proto_convs: int = ranged(3, low=0, high=64)
    proto_upsample: bool = True
    head_convs: int = ranged(1, low=0, high=64)
    mask_scoring: bool = False
    nms: NMSConfig = field(default_factory=NMSConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    spec: InputSpec = RESNET_INPUT
    output: OutputSpec = PUBLISHED_OUTPUT

    def __post_init__(self) -> None:
        super().__post_init__()
        check_anchors(self.sizes, self.ratios)

    @property
    def parts(self) -> tuple[type[Part], ...]:
        return (PrototypeMasks,)

    def limits_for(self, nms: str | None = None) -> Limits:
        kind = self.checked_nms(nms or self.nms.kind)
        return Limits(self.nms.score, self.nms.before if kind == "fast_cross" else self.nms.keep, kind)

    def lowest_score(self, limits: Limits) -> float:
        """See `Config.lowest_score`; Fast NMS reports every class of a prior whose best class is high enough."""
        return limits.score if limits.nms == "exact" else 0.0

    def compared(self, limits: Limits) -> int:
        """The best rows of each class that Fast NMS compares: at least twice as many as are kept, where more are asked
        for than usual."""
        usual = self.limits_for(limits.nms).keep
        return self.nms.before if limits.keep <= usual else max(self.nms.before, 2 * limits.keep)

    @property
    def anchor_sides(self) -> tuple[float, ...]:
        return tuple(level[0] for level in self.sizes)

    def with_anchor_sides(self, sides: tuple[float, ...]) -> Self:
        """See `Config.with_anchor_sides`; levels with several sides keep the ratios between them."""
        steps = [[side / level[0] for side in level] for level in self.sizes]
        steps += steps[-1:] * (len(sides) - len(steps))  # the network names a wrong number of levels
        pairs = zip(sides, steps, strict=False)
        return replace(self, sizes=tuple(tuple(side * f for f in step) for side, step in pairs))

    def with_limits(self, score: float | None = None, keep: int | None = None) -> Self:
        nms = self.nms
        if score is not None:
            nms = replace(nms, score=min(nms.score, score))
        if keep is not None:
            nms = replace(nms, keep=max(keep, nms.keep))
            nms = replace(nms, before=max(nms.before, 2 * nms.keep))
        return replace(self, nms=nms)
