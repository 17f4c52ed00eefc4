"""The model families, a row each: what rebuilds a network, and how its config is fitted to a data set.

Code that must know a family's config asks here, and nowhere else.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from maskwright.models import rcnn, yolact
from maskwright.models.base import Model

Sides = tuple[float, ...]


@dataclass(frozen=True)
class Family:
    """What the verbs do with the configs of a family.

    model, config: the classes. anchors: a config's typical anchor side of each level, in input pixels, finest first.
    with_anchors: a config with these sides, one for each level; of an R-CNN with one level all are of it. rows: how
    many a config's network reports of an image at most. with_rows: a config whose network reports scores from `score`
    on, and up to `keep` rows (None: as it is).
    untrained: models of the zoo that are made to learn from random weights, for messages.
    """

    model: type[Model]
    config: type[Any]
    anchors: Callable[[Any], Sides]
    with_anchors: Callable[[Any, Sides], Any]
    rows: Callable[[Any], int]
    with_rows: Callable[[Any, float | None, int | None], Any]
    untrained: str


def family_of(config: Any) -> Family:
    """The family of a model's config."""
    return next(family for family in FAMILIES.values() if type(config) is family.config)


def reporting(model: Model, keep: int) -> Model:
    """`model` where it reports up to `keep` rows of an image, else a twin that does and shares its network.

    The rows it would have reported anyway stay first, unless more are asked for than half the proposals of an R-CNN:
    then it looks at more proposals. A model of no family is returned as it is.
    """
    if not isinstance(model, (rcnn.RCNN, yolact.Yolact)):
        return model
    family = family_of(model.config)
    if family.rows(model.config) >= keep:
        return model
    twin = copy.copy(model)
    twin.config = config = family.with_rows(model.config, None, keep)
    if isinstance(twin, rcnn.RCNN):
        rpn = copy.copy(twin.rpn)
        rpn.config = config.rpn
        twin.__dict__["_modules"] = {**twin._modules, "rpn": rpn}  # its own table, the same modules
    return twin


# ---- R-CNN ----------------------------------------------------------------------------------------------------------


def _rcnn_anchors(config: rcnn.RCNNConfig) -> Sides:
    return tuple(level[0] for level in config.rpn.sizes)


def _rcnn_with_anchors(config: rcnn.RCNNConfig, sides: Sides) -> rcnn.RCNNConfig:
    sizes = (sides,) if len(config.rpn.sizes) == 1 else tuple((side,) for side in sides)
    return replace(config, rpn=replace(config.rpn, sizes=sizes))


def _rcnn_rows(config: rcnn.RCNNConfig) -> int:
    return config.roi.keep


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


def _yolact_rows(config: yolact.YolactConfig) -> int:
    return config.nms.before if config.nms.kind == "fast_cross" else config.nms.keep


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
            _rcnn_rows,
            _rcnn_with_rows,
            "'mask_rcnn_small', 'faster_rcnn_small' (boxes alone) or 'mask_rcnn_fpn.BACKBONE'",
        ),
        "yolact": Family(
            yolact.Yolact,
            yolact.YolactConfig,
            _yolact_anchors,
            _yolact_with_anchors,
            _yolact_rows,
            _yolact_with_rows,
            "'yolact_small' or 'yolact.BACKBONE'",
        ),
    }
)
"""Every family by the name that a checkpoint's header has."""
