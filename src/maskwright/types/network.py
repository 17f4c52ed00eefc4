"""Values at the network's two ends: a batch and what limits its detections, what it learns from, what it returns.

Letters: N instances, B batch, K kept rows, M mask-head side, D prototypes, P landmarks, S semantic classes, H W input,
h w cells of a map.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from maskwright.errors import ConfigError, DataError
from maskwright.types.image import Classes, Masks, Size


@dataclass(frozen=True, eq=False)
class Inputs:
    """A batch as the network sees it.

    images: (B, 3, H, W) normalised, padded right and bottom. sizes: (h, w) of each image without padding; not given:
    no image is padded. proposals: for each image boxes (N, 4) in the input frame, for models that are given them;
    labels: of each image (N,) the class of each, -1 where the model decides. With labels the proposals are detections:
    each becomes a row, in their order, that is not moved and not suppressed.
    earlier: (B, 3, H, W) an earlier frame of the same video for each image, to train video models.
    """

    images: Tensor
    sizes: Sequence[Size] = ()
    proposals: Sequence[Tensor] | None = None
    labels: Sequence[Tensor] | None = None
    earlier: Tensor | None = None

    def __post_init__(self) -> None:
        if not self.sizes:
            object.__setattr__(self, "sizes", (self.padded,) * len(self.images))
        for name in ("sizes", "proposals", "labels"):
            value = getattr(self, name)
            if value is not None and len(value) != len(self.images):
                raise DataError(f"Inputs: {len(self.images)} images but {len(value)} {name}.")
        if self.earlier is not None and self.earlier.shape != self.images.shape:
            raise DataError(
                f"Inputs: images are {tuple(self.images.shape)}, but the earlier frames {tuple(self.earlier.shape)}."
            )

    def __len__(self) -> int:
        return len(self.images)

    @property
    def padded(self) -> Size:
        """(H, W) with padding, the same for all images."""
        return self.images.shape[-2], self.images.shape[-1]


@dataclass(frozen=True)
class Limits:
    """Which rows become detections.

    score: rows below it are left out before suppression. keep: rows of an image that are reported at most; `detect`
    returns exactly as many, the rest zero. nms: the kind of non-maximum suppression, one of `Config.nms_kinds`.
    """

    score: float
    keep: int
    nms: str

    def __post_init__(self) -> None:
        if not 0 <= self.score < 1 or self.keep < 1:
            raise ConfigError(f"Limits: score is at least 0 and below 1, keep at least 1, got {self}.")


@dataclass(eq=False)
class Target:
    """The annotation of one training image in the network's input frame.

    boxes (N, 4) float32; labels (N,) int64 in 0..Q-1; masks: `Masks`, or a list of N polygon lists (each polygon a
    flat float64 array x0, y0, x1, y1, ...), or None. crowd (N,) bool marks regions that are neither foreground nor
    background. keypoints (N, P, 3) float32 x, y, visibility (0 not annotated, 1 hidden, 2 visible), or None; classes
    of fewer than P landmarks have zeros behind theirs. semantic (h, w) int64: the class of each pixel, -1 where it is
    not annotated, or None.
    """

    boxes: Tensor
    labels: Tensor
    masks: Masks | list[list[NDArray[np.float64]]] | None = None
    crowd: Tensor | None = None
    keypoints: Tensor | None = None
    semantic: Tensor | None = None

    def __post_init__(self) -> None:
        if self.boxes.ndim != 2 or self.boxes.shape[1] != 4:
            raise DataError(f"Target: boxes are (N, 4), got {tuple(self.boxes.shape)}.")
        for name in ("labels", "masks", "crowd", "keypoints"):
            value = getattr(self, name)
            if value is not None and len(value) != len(self.boxes):
                raise DataError(f"Target: {len(self.boxes)} boxes but {len(value)} {name}.")
        if self.semantic is not None and self.semantic.ndim != 2:
            raise DataError(f"Target: semantic is (h, w), got {tuple(self.semantic.shape)}.")

    def __len__(self) -> int:
        return len(self.boxes)


# ---- what a network returns -----------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class BoxMasks:
    """Mask R-CNN's masks: probs (B, K, M, M), of the predicted class inside each box."""

    probs: Tensor


@dataclass(frozen=True, eq=False)
class PrototypeMasks:
    """YOLACT's masks: a linear combination of prototypes for each row.

    coefficients (B, K, D). prototypes (B, h, w, D), which span the whole padded input of size `span` (H, W). ratings
    (B, K): how well the mask is estimated to fit, a factor on the score, not bounded; None: not estimated.
    """

    coefficients: Tensor
    prototypes: Tensor
    span: Size
    ratings: Tensor | None = None


@dataclass(frozen=True, eq=False)
class HeatMaps:
    """Landmarks: logits (B, K, P, M, M), one map over each box for each landmark. counts (B, K) int64: how many of the
    P maps the row's class has; those behind are zero."""

    logits: Tensor
    counts: Tensor


@dataclass(frozen=True, eq=False)
class Semantic:
    """Class logits (B, S, h, w) of the whole padded input of size `span` (H, W), independent of the detections.

    classes: the names of the S; None: they are the classes of the detections. stuff_area: pixels that a class needs
    to become a segment.
    """

    logits: Tensor
    span: Size
    classes: Classes | None = None
    stuff_area: int = 0


Part = BoxMasks | PrototypeMasks | HeatMaps | Semantic
"""What a model returns beside boxes; `predictor.finish` has a finisher for each."""

PartKind = TypeVar("PartKind", BoxMasks, PrototypeMasks, HeatMaps, Semantic)

BY_ROW = ("probs", "coefficients", "ratings", "logits", "counts")
"""Fields of parts that have a row for each detection; `Semantic` has none."""


@dataclass(frozen=True, eq=False)
class RawDetections:
    """What `Model.detect` returns: K rows for each image in the input frame, best first; a dead row is all zero.

    boxes (B, K, 4); scores (B, K); labels (B, K) int64. A row is dead where its score is 0. parts: masks, landmarks and
    semantic maps, at most one of a kind. left_out (B,): the score of the best candidate that a limit inside the network
    left out and that no row covers, so that an object may be missing; 0: there is none, None: it is not known.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    parts: tuple[Part, ...] = ()
    left_out: Tensor | None = None

    def __post_init__(self) -> None:
        rows = self.scores.shape
        if self.boxes.shape != (*rows, 4) or self.labels.shape != rows:
            shapes = f"boxes {tuple(self.boxes.shape)}, labels {tuple(self.labels.shape)}"
            raise DataError(f"RawDetections: scores are {tuple(rows)}, but {shapes}.")
        for part in self.parts:
            for f in fields(part):
                value = getattr(part, f.name)
                wanted = rows if f.name in BY_ROW and not isinstance(part, Semantic) else rows[:1]
                if isinstance(value, Tensor) and value.shape[: len(wanted)] != wanted:
                    name = f"{type(part).__name__}.{f.name}"
                    raise DataError(f"RawDetections: {name} is {tuple(value.shape)}, scores {tuple(rows)}.")

    def part(self, kind: type[PartKind]) -> PartKind | None:
        """The part of a kind; None where the model returns none."""
        return next((part for part in self.parts if isinstance(part, kind)), None)

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor by name: boxes, scores, labels, and those of the parts, such as `BoxMasks.probs`."""
        named = {"boxes": self.boxes, "scores": self.scores, "labels": self.labels}
        for part in self.parts:
            values = {f"{type(part).__name__}.{f.name}": getattr(part, f.name) for f in fields(part)}
            named |= {name: value for name, value in values.items() if isinstance(value, Tensor)}
        return named
