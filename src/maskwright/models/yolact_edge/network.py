"""YolactEdge's video models: most of the backbone is computed for key frames alone (Liu et al. 2021).

A key frame passes through the network as in YOLACT; what the coarser levels of its pyramid are made of is kept. For a
later frame the backbone is computed up to its finest level; a small network compares that level with the key frame's,
and the kept maps are moved along the estimated motion and refined. Prototypes, head and suppression are YOLACT's for
every frame. What is carried is always the key frame's, so that errors do not add up from frame to frame.

Letters: B batch, C channels of the pyramid, L levels of the backbone, h w cells of a level.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from maskwright.models.base import Draws, VideoModel, draws_of
from maskwright.models.yolact.config import YolactConfig
from maskwright.models.yolact.network import Yolact
from maskwright.models.yolact.parts import enlarged
from maskwright.models.yolact_edge import loss
from maskwright.models.yolact_edge.config import YolactEdgeConfig
from maskwright.models.yolact_edge.parts import FlowNet, LevelMotion, Refinement
from maskwright.ops.losses import Term
from maskwright.types import Inputs, Limits, RawDetections, Target


@dataclass(frozen=True, eq=False)
class PyramidLevels:
    """What a frame's pyramid is made of: lateral (B, C, h, w), the finest level's own part; levels: the top-down sums
    of the coarser L - 1 levels."""

    lateral: Tensor
    levels: tuple[Tensor, ...]


@dataclass(frozen=True, eq=False)
class KeyFrame:
    """What is kept of a key frame: its levels, see `PyramidLevels`, and seen, what the motion network compares."""

    levels: tuple[Tensor, ...]
    seen: Tensor


@dataclass(frozen=True, eq=False)
class CarriedLevels:
    """The pyramid of a frame that is not a key frame. motion: of each level that was asked for; moved: the key frame's
    levels moved along it; merged: what enters the pyramid's 3x3 convolutions, finest first; features: its maps."""

    motion: list[LevelMotion]
    moved: list[Tensor]
    merged: list[Tensor]
    features: list[Tensor]


class YolactEdge(Yolact, VideoModel[YolactConfig, KeyFrame]):
    """YOLACT with partial feature transform; `detect` is that of single images."""

    config: YolactEdgeConfig

    def __init__(self, config: YolactEdgeConfig) -> None:
        super().__init__(config)
        c = config
        self.flow = FlowNet(c.channels, c.flow.pre, c.flow.widths, c.flow.reach)
        self.refine = nn.ModuleList(Refinement(c.channels) for _ in c.flow.widths[1:])

    # ---- video and training -----------------------------------------------------------------------------------

    @property
    def interval(self) -> int:
        return self.config.interval

    def start(self, inputs: Inputs, limits: Limits | None = None) -> tuple[RawDetections, KeyFrame]:
        own = self.own(inputs.images)
        trace = self.read(self.maps(own), inputs.padded, limits or self.config.limits_for())
        return trace.raw, self.keep(own)

    def step(self, inputs: Inputs, state: KeyFrame, limits: Limits | None = None) -> tuple[RawDetections, KeyFrame]:
        """See `VideoModel.step`; the state stays that of the key frame."""
        carried = self.carry(self.lateral(inputs.images), state)
        return self.read(carried.features, inputs.padded, limits or self.config.limits_for()).raw, state

    def terms(self, inputs: Inputs, targets: Sequence[Target], generator: Draws = None) -> dict[str, Term]:
        """YOLACT's terms of the images; the same, `carried_...`, of their pyramid as carried from the frame before;
        `match`: how far that is from their own; `flow`: the error of the estimated motion.

        Without `inputs.earlier` each image is moved a little to stand for the frame before; `flow` is learnt from
        these alone, since their motion is known. What is kept of the frame before does not learn.
        """
        draws, shares, earlier = draws_of(generator, len(targets)), None, inputs.earlier
        if earlier is None:
            earlier, shares = loss.moved(inputs.images, draws)
        own = self.own(inputs.images)
        with torch.no_grad():
            before = self.own(earlier)
        carried = self.carry(own.lateral, self.keep(before), first=0)
        found = self.judge(self.maps(own), inputs.padded, targets, draws)
        again = self.judge(carried.features, inputs.padded, targets, draws)
        return {
            **found,
            **{f"carried_{name}": term for name, term in again.items()},
            "match": loss.matching(own.levels, carried.merged[1:], list(self.fpn.output)[1:]),
            "flow": loss.end_point_error(carried.motion, shares, self.config.flow.reach),
        }

    # ---- the stages -------------------------------------------------------------------------------------------

    def own(self, images: Tensor) -> PyramidLevels:
        """What the whole backbone gives of (B, 3, H, W)."""
        finest, *coarser = self.backbone(images)
        return PyramidLevels(self.fpn.lateral[0](finest), tuple(self.fpn.merge(coarser, first=1)))

    def maps(self, pyramid: PyramidLevels) -> list[Tensor]:
        """The pyramid's maps, finest first."""
        finest = pyramid.lateral + enlarged(pyramid.levels[0], pyramid.lateral)
        return self.fpn.refine([finest, *pyramid.levels])

    def keep(self, pyramid: PyramidLevels) -> KeyFrame:
        """What later frames need of a key frame."""
        return KeyFrame(pyramid.levels, self.flow.look(pyramid.lateral))

    def lateral(self, images: Tensor) -> Tensor:
        """(B, C, h, w) of (B, 3, H, W): what is computed of a frame that is not a key frame."""
        lateral: Tensor = self.fpn.lateral[0](self.backbone(images, levels=1)[0])
        return lateral

    def carry(self, lateral: Tensor, key: KeyFrame, first: int = 1) -> CarriedLevels:
        """The pyramid of a frame from its lateral map and what is kept of the key frame.

        first: number of the finest level of which the motion is returned; level 0 is not carried.
        """
        motion = self.flow(self.flow.look(lateral), key.seen, first=first)
        moved = [m.carry(level) for m, level in zip(motion[-len(key.levels) :], key.levels, strict=True)]
        merged, finer = [lateral + enlarged(moved[0], lateral)], lateral
        for refine, level in zip(self.refine, moved, strict=True):
            finer = enlarged(finer, level)  # from level to level, as published
            merged.append(refine(level, finer))
        return CarriedLevels(motion, moved, merged, self.fpn.refine(merged))
