"""The contract of every model: `loss` to train it, `detect` to predict. Neither returns something else in eval mode.

A model does not change once it is built: what a caller may choose comes with each call (`Limits`), everything else is
in the frozen config that rebuilds it.
"""

import copy
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Generic, Protocol, Self, TypeVar

import torch
from torch import Tensor, nn

from maskwright.codec import Section, ranged
from maskwright.errors import ConfigError, suggest
from maskwright.nn.backbones import NormKind
from maskwright.ops.losses import Term
from maskwright.types import (
    BoxMasks,
    Classes,
    Inputs,
    InputSpec,
    Limits,
    OutputSpec,
    Part,
    PrototypeMasks,
    RawDetections,
    SearchSpec,
    Semantic,
    Target,
)

Draws = torch.Generator | Sequence[torch.Generator] | None
"""Where random samples come from: one generator for all images, one for each, or torch's global one."""

State = TypeVar("State")

ACROSS = ("cross", "fast_cross")
"""Names of non-maximum suppression over all classes together. A family has one kind of them, and takes both names."""

MASK_PARTS: tuple[type[Part], ...] = (BoxMasks, PrototypeMasks)


def finds_stuff(parts: Collection[type[Part]]) -> bool:
    """Whether a model with these parts gives panoptic maps: masks of things, and the class of every pixel."""
    return Semantic in parts and any(part in parts for part in MASK_PARTS)


POSITIVE: dict[str, float] = {"low": 0, "open_low": True, "high": 1e6}
"""Bounds of sides in pixels and of ratios."""


def check_anchors(sizes: Sequence[Sequence[float]], ratios: Sequence[float]) -> None:
    """Raises ConfigError unless each level has as many anchors: a head slides over all of them."""
    if len({len(level) for level in sizes}) != 1 or not sizes[0] or not ratios:
        raise ConfigError(
            f"sizes needs the same number of sides for each level and ratios at least one, got {sizes} and {ratios}."
        )


def draws_of(generator: Draws, count: int) -> list[torch.Generator | None]:
    """The generator of each of `count` images."""
    if generator is None or isinstance(generator, torch.Generator):
        return [generator] * count
    assert len(generator) == count
    return list(generator)


@dataclass(frozen=True)
class Config(Section):
    """What the configs of all families have in common; a config and a state dict are a model.

    num_classes: Q. backbone: a name of `nn.backbones`, or a timm name; strides: which of its feature maps are used,
    finest first. channels: of the neck. norm, norm_eps: of the backbone; neck_norm: batch norm also in the neck and the
    heads. spec: how an image becomes the network's input. output: how raw rows become instances.
    """

    nms_kinds: ClassVar[tuple[str, ...]]
    """Kinds of non-maximum suppression that `Limits.nms` chooses among, the default first."""

    num_classes: int = ranged(80, low=1)
    backbone: str = "resnet50"
    strides: tuple[int, ...] = ranged((4, 8, 16, 32), low=1, high=1024)
    channels: int = ranged(256, low=1, high=2**16)
    norm: NormKind = "frozen"
    norm_eps: float = ranged(1e-5, low=0, high=1)
    neck_norm: bool = False
    spec: InputSpec = field(default_factory=InputSpec)
    output: OutputSpec = field(default_factory=OutputSpec)

    def for_classes(self, classes: Classes) -> Self:
        """The same network for other classes. ConfigError where they lack what it predicts, such as landmarks."""
        return replace(self, num_classes=len(classes))

    def for_semantic(self, classes: Classes | None, stuff_area: int | None = None) -> Self:
        """The same network for other classes of pixels, where it names these; the first stands for all things.

        stuff_area: pixels that one of them needs to become a segment. ConfigError where the data has no such classes.
        """
        return self

    # ---- what each family says --------------------------------------------------------------------------------

    @property
    def parts(self) -> tuple[type[Part], ...]:
        """The kinds of parts that `detect` returns beside boxes."""
        raise NotImplementedError

    def limits_for(self, nms: str | None = None) -> Limits:
        """Which rows become detections by default under one of `nms_kinds` (None: the config's own kind).

        Raises ConfigError for another kind.
        """
        raise NotImplementedError

    def checked_nms(self, nms: str) -> str:
        """The one of `nms_kinds` that is meant (see `ACROSS`); ConfigError where it is none of them."""
        if nms in ACROSS:
            nms = next((kind for kind in self.nms_kinds if kind in ACROSS), nms)
        if nms not in self.nms_kinds:
            kinds = ", ".join(self.nms_kinds)
            raise ConfigError(f"nms is one of {kinds}, got {nms!r}.{suggest(nms, self.nms_kinds)}", options=("nms",))
        return nms

    def lowest_score(self, limits: Limits) -> float:
        """The lowest score that `detect` reports under these limits."""
        raise NotImplementedError

    @property
    def anchor_sides(self) -> tuple[float, ...]:
        """The typical anchor side of each level, in input pixels, finest first; none where it has no anchors."""
        raise NotImplementedError

    def with_anchor_sides(self, sides: tuple[float, ...]) -> Self:
        """The same network with these typical sides, one for each level. ConfigError where it has no anchors."""
        raise NotImplementedError

    def with_limits(self, score: float | None = None, keep: int | None = None) -> Self:
        """The same network whose default limits are this lowest score and number of rows (None: unchanged)."""
        raise NotImplementedError

    @property
    def strides_early(self) -> bool:
        """Whether blocks of the backbone stride in their first convolution, so that ImageNet weights of timm and
        torchvision do not fit."""
        return False

    @property
    def draws_masks(self) -> bool:
        """Whether detections have masks."""
        return any(part in MASK_PARTS for part in self.parts)

    @property
    def takes_boxes(self) -> bool:
        """Whether it uses `Inputs.proposals`."""
        return False

    @property
    def box_search(self) -> SearchSpec | None:
        """How the proposals are found that it has to be given as `Inputs.proposals`; None where it needs none."""
        return None


C = TypeVar("C", bound=Config, covariant=True)


@dataclass(frozen=True, eq=False)
class Detections:
    """Boxes (B, K, 4), scores (B, K), labels (B, K), best first, and `origin` (B, K): the proposal or prior that each
    came from; dead rows have score 0 and are zero. left_out (B,): see `RawDetections`."""

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    origin: Tensor
    left_out: Tensor | None = None

    @classmethod
    def of(cls, images: Sequence[Sequence[Tensor]], keep: int, like: Tensor) -> Self:
        """Stacks the columns of each image, `keep` rows each; of no images, empty tensors of the type of `like`."""
        if not images:
            scores = like.new_zeros(0, keep)
            return cls(like.new_zeros(0, keep, 4), scores, scores.long(), scores.long())
        return cls(*(torch.stack(column) for column in zip(*images, strict=True)))

    @property
    def alive(self) -> Tensor:
        """(B, K) bool."""
        return self.scores > 0


class Trace(Protocol):
    """What the stages of one pass returned, by name; every model has its own. raw: the detections."""

    @property
    def raw(self) -> RawDetections: ...


class Model(nn.Module, Generic[C]):
    """A network that finds instances. config: rebuilds it."""

    config: C

    def __init__(self, config: C) -> None:
        super().__init__()
        self.config = config

    def with_spec(self, spec: InputSpec) -> Self:
        """The same network with another `InputSpec`; both share their weights."""
        twin = copy.copy(self)
        twin.config = replace(self.config, spec=spec)
        return twin

    def loss(self, inputs: Inputs, targets: Sequence[Target], generator: Draws = None) -> dict[str, Tensor]:
        """Named scalar losses of a batch; the same names in train and eval mode.

        targets: one for each image, input frame. generator: draws the samples.
        """
        return {name: term.mean() for name, term in self.terms(inputs, targets, generator).items()}

    def terms(self, inputs: Inputs, targets: Sequence[Target], generator: Draws = None) -> dict[str, Term]:
        """What `loss` divides, see `Term`; this is what a model implements.

        The samples of an image follow its own generator and nothing else in the batch. A batch of no images gives
        the same names and passes through the same layers: with several processes others may wait there for it.
        """
        raise NotImplementedError

    def trace(self, inputs: Inputs, limits: Limits) -> Trace:
        """One pass with what each of its stages returned; this is what a model implements."""
        raise NotImplementedError

    def detect(self, inputs: Inputs, limits: Limits | None = None) -> RawDetections:
        """Raw detections of a batch, input frame, `limits.keep` rows for each image. None: `config.limits_for()`."""
        return self.trace(inputs, limits or self.config.limits_for()).raw

    def forward(self, images: Tensor, proposals: Tensor | None = None) -> dict[str, Tensor]:
        """What export, compile and profilers see: `detect` without padding, as `RawDetections.tensors`.

        proposals: (B, P, 4) for a network that is given them; rows of zeros are none.
        """
        return self.detect(Inputs(images, proposals=None if proposals is None else proposals.unbind())).tensors()


class VideoModel(Model[C], Generic[C, State]):
    """A model that carries a state from frame to frame: a frozen dataclass of tensors, never an attribute of the model.

    `detect` and `loss` are those of single images.
    """

    @property
    def interval(self) -> int:
        """Frames from one key frame to the next, unless the caller chooses."""
        raise NotImplementedError

    def start(self, inputs: Inputs, limits: Limits | None = None) -> tuple[RawDetections, State]:
        """Detections of a key frame, and the state for the next frames."""
        raise NotImplementedError

    def step(self, inputs: Inputs, state: State, limits: Limits | None = None) -> tuple[RawDetections, State]:
        """Detections of the next frame from its image and the state, and the state after it."""
        raise NotImplementedError


AnyModel = Model[Config]
"""A model of any family."""
