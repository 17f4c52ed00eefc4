"""The model families, a row each: what rebuilds a network, and how its config is fitted to a data set.

Engine code that must know a family's config asks here, and nowhere else.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from maskwright.models import rcnn, yolact
from maskwright.models.base import Model

Sides = tuple[float, ...]


@dataclass(frozen=True)
class Family:
    """What the engine does with the configs of a family.

    model, config: the classes. anchors: a config's typical anchor side of each level, in input pixels, finest first.
    with_anchors: a config with these sides, one for each level; of an R-CNN with one level all are of it. with_rows: a
    config whose network reports scores from `score` on, and up to `keep` rows of a picture (None: as it is).
    untrained: models of the zoo that are made to learn from random weights, for messages.
    """

    model: type[Model]
    config: type[Any]
    anchors: Callable[[Any], Sides]
    with_anchors: Callable[[Any, Sides], Any]
    with_rows: Callable[[Any, float | None, int | None], Any]
    untrained: str


def family_of(config: Any) -> Family:
    """The family of a model's config."""
    return next(family for family in FAMILIES.values() if type(config) is family.config)


# ---- R-CNN ----------------------------------------------------------------------------------------------------------


def _rcnn_anchors(config: rcnn.RCNNConfig) -> Sides:
    return tuple(level[0] for level in config.rpn.sizes)


def _rcnn_with_anchors(config: rcnn.RCNNConfig, sides: Sides) -> rcnn.RCNNConfig:
    sizes = (sides,) if len(config.rpn.sizes) == 1 else tuple((side,) for side in sides)
    return replace(config, rpn=replace(config.rpn, sizes=sizes))


def _rcnn_with_rows(config: rcnn.RCNNConfig, score: float | None, keep: int | None) -> rcnn.RCNNConfig:
    rpn, roi = config.rpn, config.roi
    if score is not None:
        roi = replace(roi, score=min(roi.score, score))
    if keep is not None:
        roi = replace(roi, keep=max(keep, roi.keep))
        rpn = replace(rpn, before=max(rpn.before, 2 * roi.keep), after=max(rpn.after, 2 * roi.keep))
    return replace(config, rpn=rpn, roi=roi)


# ---- YOLACT ---------------------------------------------------------------------------------------------------------


def _yolact_anchors(config: yolact.YolactConfig) -> Sides:
    return tuple(level[0] for level in config.sizes)


def _yolact_with_anchors(config: yolact.YolactConfig, sides: Sides) -> yolact.YolactConfig:
    """Levels with several sides keep the steps between them."""
    steps = [[side / level[0] for side in level] for level in config.sizes]
    steps += steps[-1:] * (len(sides) - len(steps))  # a wrong number of levels is named by the network
    return replace(config, sizes=tuple(tuple(side * f for f in step) for side, step in zip(sides, steps, strict=False)))


def _yolact_with_rows(config: yolact.YolactConfig, score: float | None, keep: int | None) -> yolact.YolactConfig:
    nms = config.nms
    if score is not None:
        nms = replace(nms, score=min(nms.score, score))
    if keep is not None:
        nms = replace(nms, keep=max(keep, nms.keep))
        nms = replace(nms, before=max(nms.before, 2 * nms.keep))
    return replace(config, nms=nms)


FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "rcnn": Family(
            rcnn.RCNN,
            rcnn.RCNNConfig,
            _rcnn_anchors,
            _rcnn_with_anchors,
            _rcnn_with_rows,
            "'mask_rcnn_small' or 'mask_rcnn_fpn.BACKBONE'",
        ),
        "yolact": Family(
            yolact.Yolact,
            yolact.YolactConfig,
            _yolact_anchors,
            _yolact_with_anchors,
            _yolact_with_rows,
            "'yolact_small' or 'yolact.BACKBONE'",
        ),
    }
)
"""Every family by the name that a checkpoint's header has."""
