"""The model families, one row each: everything that the rest of the project needs to know of a family.

Adding a family is one folder beside `rcnn` and `yolact` and one row here.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from maskwright.errors import ConfigError
from maskwright.fast.accelerate import FastForm, accelerate
from maskwright.models import rcnn, yolact, yolact_edge
from maskwright.models.base import AnyModel, Config
from maskwright.models.entry import Entry
from maskwright.results.explanation import Explanation, Seen
from maskwright.weights.class_rows import RowTable
from maskwright.weights.keyrules import NamingScheme


@dataclass(frozen=True)
class Family:
    """A model family.

    model, config: the classes. entries: its rows of the zoo. names: how publishers name its weights. class_rows: its
    tensors with rows for classes. fast: how its networks are made fast for prediction. explain: makes the explanation
    of one instance from what the stages returned; None: it has none. best_score: of a trace the highest class score of
    any candidate, None where there was no candidate. tiny: small configs for tests, one for each variant. untrained:
    networks that are made to learn from random weights, for messages.
    """

    model: type[AnyModel]
    config: type[Config]
    entries: tuple[Entry, ...] = ()
    names: tuple[NamingScheme, ...] = ()
    class_rows: RowTable = field(default_factory=dict)
    fast: FastForm = field(default_factory=FastForm)
    explain: Callable[[Seen, int], Explanation] | None = None
    best_score: Callable[[Any], float | None] | None = None
    tiny: Callable[[], Mapping[str, Config]] = dict
    untrained: str = ""


FAMILIES: dict[str, Family] = {
    "rcnn": Family(
        model=rcnn.RCNN,
        config=rcnn.RCNNConfig,
        entries=rcnn.ENTRIES,
        names=rcnn.NAMES,
        class_rows=rcnn.CLASS_ROWS,
        fast=rcnn.FAST,
        explain=rcnn.explain,
        best_score=rcnn.best_score,
        tiny=rcnn.tiny_variants,
        untrained="'mask_rcnn_small', 'faster_rcnn_small' (boxes alone) or 'mask_rcnn_fpn.BACKBONE'",
    ),
    # Before `yolact`: its files have the names of both, and the first naming scheme that knows one of them is taken.
    "yolact_edge": Family(
        model=yolact_edge.YolactEdge,
        config=yolact_edge.YolactEdgeConfig,
        entries=yolact_edge.ENTRIES,
        names=yolact_edge.NAMES,
        class_rows=yolact.CLASS_ROWS,
        fast=yolact.FAST,
        explain=yolact.explain,
        best_score=yolact.best_score,
        tiny=yolact_edge.tiny_variants,
    ),
    "yolact": Family(
        model=yolact.Yolact,
        config=yolact.YolactConfig,
        entries=yolact.ENTRIES,
        names=yolact.NAMES,
        class_rows=yolact.CLASS_ROWS,
        fast=yolact.FAST,
        explain=yolact.explain,
        best_score=yolact.best_score,
        tiny=yolact.tiny_variants,
        untrained="'yolact_small' or 'yolact.BACKBONE'",
    ),
}
"""Every family by the name that a checkpoint's header has."""


def family_of(config: Config) -> Family:
    """The family of a model's config."""
    return FAMILIES[family_name(config)]


def family_name(config: Config) -> str:
    """The name of the family of a model's config. ConfigError where it has none in `FAMILIES`."""
    for name, family in FAMILIES.items():
        if type(config) is family.config:
            return name
    raise ConfigError(f"{type(config).__name__} is the config of no known family; known are {', '.join(FAMILIES)}.")


def build(config: Config) -> AnyModel:
    """The model of a config, with random weights."""
    return family_of(config).model(config)


def accelerated(model: AnyModel, *, take: bool = False) -> AnyModel:
    """The same network in its fastest form for prediction, in eval mode; a new object unless it is taken over.

    take: the caller gives the model away: it is changed, and no second copy of its weights is made.
    """
    own = model if take else copy.deepcopy(model)
    return accelerate(own.eval().to(memory_format=torch.channels_last), family_of(model.config).fast)
