"""The contract of every model: two verbs, `loss` and `detect`, and no output that depends on train or eval mode."""

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from maskwright.ops.losses import Term
from maskwright.types import InputSpec, OutputSpec, RawDetections, Target

Draws = torch.Generator | Sequence[torch.Generator] | None
"""Where random samples come from: one generator for all images, one for each, or torch's global one."""


def draws_of(generator: Draws, count: int) -> list[torch.Generator | None]:
    """The generator of each of `count` images."""
    if generator is None or isinstance(generator, torch.Generator):
        return [generator] * count
    assert len(generator) == count
    return list(generator)


class Config(Protocol):
    """A frozen dataclass that rebuilds the network; every model has its own."""

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]


class Model(nn.Module):
    """A network that finds instances.

    config: rebuilds the network. spec: how an image becomes its input. output: how its raw rows become instances.
    floor: the lowest score that `detect` reports; `output.score_threshold` is what users see unless they ask for less.
    prototype_masks: whether its masks are made of prototypes, which `OutputSpec.crop_margin` and `upsample` are for.
    nms_kinds: the ways of suppression that `choose_nms` chooses among; none where there is one way only.
    """

    config: Any
    spec: InputSpec
    output: OutputSpec
    floor: float = 0.0
    prototype_masks: ClassVar[bool] = False
    nms_kinds: ClassVar[tuple[str, ...]] = ()

    @property
    def draws_masks(self) -> bool:
        """Whether it learns from outlines; a config without the field `masks` always does."""
        return bool(getattr(self.config, "masks", True))

    def loss(
        self,
        images: Tensor,
        sizes: Sequence[tuple[int, int]],
        targets: Sequence[Target],
        generator: Draws = None,
    ) -> dict[str, Tensor]:
        """Named scalar losses of a batch; the same in train and eval mode.

        images: (B, 3, H, W) normalised, padded. sizes: (h, w) of each image without padding. targets: one per
        image, input frame. generator: draws the samples.
        """
        return {name: term.mean() for name, term in self.terms(images, sizes, targets, generator).items()}

    def terms(
        self,
        images: Tensor,
        sizes: Sequence[tuple[int, int]],
        targets: Sequence[Target],
        generator: Draws = None,
    ) -> dict[str, Term]:
        """What `loss` divides, see `Term`; this is what a model writes down.

        The samples of an image follow its own generator and nothing else in the batch. A batch of no images gives
        the same names and passes through the same layers: with several processes others may wait there for it.
        """
        raise NotImplementedError

    def detect(self, images: Tensor, sizes: Sequence[tuple[int, int]] | None = None) -> RawDetections:
        """Raw detections of a batch, input frame. sizes: (h, w) without padding; None means no padding."""
        raise NotImplementedError

    def choose_nms(self, kind: str) -> None:
        """Suppress by one of `nms_kinds` from now on; weights do not depend on it."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> RawDetections:
        """What export, compile and profilers see: `detect` without padding."""
        return self.detect(images)
