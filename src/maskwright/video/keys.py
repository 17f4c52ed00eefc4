"""Which frames of a video are key frames, and why."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from maskwright.types import FloatArray, Instances
from maskwright.video.carry import shifts

Why = Literal["first", "size", "cut", "interval", "change", "travel", ""]
"""Why a frame is a key frame: the first one; of another size; behind a scene cut; the interval is over; too much of it
is new; its instances have moved too far. Empty: it is none."""

CUT = 28.0
"""Grey levels by which the thumbnails of two frames differ, beside what is brighter or darker as a whole."""

THUMBNAIL = 12
"""Cells along each axis of a thumbnail: coarse, so that motion changes it little."""

NEW = 0.5
"""Share of the frame that the key frame does not explain, or of its instances that fit nothing, behind a scene cut."""

MISFIT = 16.0
"""Grey levels by which an instance that fits nothing differs from its key frame."""

CHANGE = 0.25
"""Share of the frame that the key frame does not explain from which a frame is a key frame."""

TRAVEL = 0.3
"""Mean distance that instances have moved, in widths of an instance, from which a frame is a key frame."""


FARTHEST_AHEAD = 8
"""Frames that wait in memory for a key frame behind them, at most."""


def thumbnail(small: Tensor) -> Tensor:
    """(THUMBNAIL, THUMBNAIL) of a small image, its mean 0."""
    cells = F.adaptive_avg_pool2d(small[None, None], THUMBNAIL)[0, 0]
    return cells - cells.mean()


def is_cut(now: Tensor, before: Tensor) -> bool:
    """Whether a scene cut lies between two thumbnails."""
    return float((now - before).abs().mean()) > CUT


@dataclass(frozen=True)
class CarriedFit:
    """How well what is carried from a key frame fits a frame. change: share of the frame that nothing of the key frame
    explains. travel: how far the key frame's instances have moved, in widths. misfit: share that fit nothing."""

    change: float
    travel: float = 0.0
    misfit: float = 0.0


@dataclass(frozen=True)
class KeyRule:
    """When a frame is a key frame.

    interval: frames from key frame to key frame, at most if `adaptive`. lookahead: a key frame also serves frames
    before it, as many as behind it, so that it lies half as far from them.
    """

    interval: int
    adaptive: bool = False
    lookahead: bool = False

    @property
    def before(self) -> int:
        """The most frames before a key frame that it serves."""
        return min((self.interval - 1) // 2, FARTHEST_AHEAD) if self.lookahead else 0

    def ahead(self, reach: int) -> int:
        """How many frames before it the next key frame is to serve. reach: the frames that the last one fitted."""
        return min(reach, self.before) if self.adaptive else self.before

    def by_count(self, distance: int, before: int = 0) -> Why:
        """distance: frames since the key frame. before: frames before it that it serves as well."""
        return "interval" if distance + before >= self.interval else ""

    def by_fit(self, fit: CarriedFit) -> Why:
        """Why a frame that is fitted so is a key frame."""
        if fit.change > NEW or fit.misfit > NEW:
            return "cut"
        if not self.adaptive or fit.change / CHANGE + fit.travel / TRAVEL < 1:
            return ""
        return "change" if fit.change / CHANGE > fit.travel / TRAVEL else "travel"


def travel(found: Instances, maps: NDArray[np.float64]) -> float:
    """The mean distance that instances move under their maps (N, 3, 3), in widths, by their scores; 0 of none."""
    if not len(found):
        return 0.0
    boxes = found.boxes.astype(np.float64)
    width = np.sqrt(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1).clip(min=1.0))
    return float(np.average(np.linalg.norm(shifts(found, maps), axis=1) / width, weights=found.scores + 1e-6))


def misfit(found: Instances, rest: FloatArray) -> float:
    """The share of instances, by their scores, that differ (N,) too much from their key frame; 0 of none."""
    return float(np.average(rest > MISFIT, weights=found.scores + 1e-6)) if len(found) else 0.0
