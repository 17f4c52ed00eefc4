"""What a model says of its two ends: how an image becomes its input, and how raw detections become instances."""

import math
import re
from dataclasses import dataclass, replace
from typing import Literal, Self

from maskwright.codec import Section, ranged
from maskwright.errors import ConfigError

FitMode = Literal["short_edge", "stretch", "letterbox"]
IntensityRule = Literal["full", "values", "percentiles"]


@dataclass(frozen=True)
class Intensity(Section):
    """How the stored values of an image with more than 8 bits become 0..255; images of 8 bits are taken as they are.

    rule: "full" scales 0..65535, the range of 16 bits, the same for every image; "values" scales the stored values
        low..high, the same for every image (a camera of 12 bits: 0..4095); "percentiles" scales what lies between the
        percentiles low and high. Values beyond both ends become black and white.
    per: whose percentiles: of each "image", or of a whole "video", a stack or the frames that are followed, so that
        brightness does not change from frame to frame. An image that is read on its own is a video of one frame.
    As text, `parse`: "full", "bits:12", "values:0..4095", "percentiles" (1 to 99.8), "percentiles:1..99.8",
    "percentiles:video" or "percentiles:1..99.8:video".
    """

    rule: IntensityRule = "full"
    low: float = 0.0
    high: float = 65535.0
    per: Literal["image", "video"] = "image"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ConfigError(
                f"Intensity: low must be less than high, got {self.low:g} and {self.high:g}.", options=_HOW
            )
        if self.rule == "percentiles" and not (self.low >= 0 and self.high <= 100):
            raise ConfigError(
                f"Intensity: percentiles lie in 0..100, got {self.low:g} and {self.high:g}.", options=_HOW
            )
        if self.per == "video" and self.rule != "percentiles":
            raise ConfigError("Intensity: percentiles alone can be those of a whole video.", options=_HOW)

    @classmethod
    def of_bits(cls, bits: int) -> Self:
        """The values of a camera that uses the lowest `bits` of 16."""
        if not 1 <= bits <= 16:
            raise ConfigError(f"A grey value has 1 to 16 bits, got {bits}.", options=("bits",))
        return cls("values", 0.0, 2.0**bits - 1)

    @classmethod
    def parse(cls, text: str) -> Self:
        """From its text, see above. Raises ConfigError."""
        plain = text.strip()
        if plain.startswith("percentiles:") and plain.endswith(":video"):
            return replace(cls.parse(plain.removesuffix(":video")), per="video")
        rule, _, rest = plain.partition(":")
        if rule == "bits" and rest.isascii() and rest.isdigit():
            return cls.of_bits(int(rest[:9]))
        if rule in ("full", "percentiles") and not rest:
            return cls() if rule == "full" else cls("percentiles", 1.0, 99.8)
        ends = re.fullmatch(rf"({_NUMBER})\.\.({_NUMBER})", rest)
        if rule not in ("values", "percentiles") or ends is None:
            raise ConfigError(
                f"'{text[:60]}' is no intensity: expected full, bits:12, values:0..4095, percentiles, "
                "percentiles:1..99.8, or one of these two with :video behind it.",
                options=_HOW,
            )
        return cls("values" if rule == "values" else "percentiles", float(ends[1]), float(ends[2]))

    @classmethod
    def of(cls, given: "Intensity | str") -> "Intensity":
        """A text parsed, or the value itself."""
        return cls.parse(given) if isinstance(given, str) else given

    def __str__(self) -> str:
        ends = "" if self.rule == "full" else f":{self.low:.10g}..{self.high:.10g}"
        return f"{self.rule}{ends}{':video' if self.per == 'video' else ''}"


FULL = Intensity()
"""The full range of 16 bits, where nothing else is chosen."""

_HOW = ("intensity",)
_NUMBER = r"[-+]?(?:\d{1,20}(?:\.\d{0,20})?|\.\d{1,20})(?:[eE][-+]?\d{1,3})?"


@dataclass(frozen=True)
class InputSpec(Section):
    """How an image becomes a network input.

    fit: "short_edge" keeps the shape and brings the short edge to `size`; "stretch" makes it a square of `size`
        whatever its shape; "letterbox" keeps the shape, brings the long edge to `size` and fills up to the square.
    size, max_size: side wanted, and the limit of the long edge where the short one is set (None: no limit), in pixels;
        the other fits have no use for a limit.
    resize: "pillow" resizes the uint8 image with Pillow's antialiased bilinear filter, each side rounded to the
        nearest pixel (detectron2); "float" resizes the normalised float image without antialiasing, each side
        rounded down (torchvision).
    shrink: False never makes an image smaller to reach `size` (only to keep within `max_size`): for microscopy and
        other images in which objects keep their size in pixels whatever the size of the image. Only of short edges.
    enlarge: no image is enlarged by more than this factor to reach `size` (None: no limit), for the same reason. Not
        of stretched images.
    channels: order the network was trained with. mean, std: in units of 0..255, in that order.
    multiple: the input is padded right and bottom with zeros to a multiple of this many pixels.
    intensity: how images with more than 8 bits become 0..255, before all else.
    """

    size: int = ranged(800, low=1, high=2**16)
    max_size: int | None = ranged(1333, low=1, high=2**20)
    resize: Literal["pillow", "float"] = "float"
    channels: Literal["RGB", "BGR"] = "RGB"
    mean: tuple[float, float, float] = ranged((123.675, 116.28, 103.53), low=-1e6, high=1e6)
    std: tuple[float, float, float] = ranged((58.395, 57.12, 57.375), low=0, open_low=True, high=1e6)
    multiple: int = ranged(32, low=1, high=4096)
    shrink: bool = True
    enlarge: float | None = ranged(None, low=1)
    fit: FitMode = "short_edge"
    intensity: Intensity = FULL

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.shrink and self.fit != "short_edge":
            raise ConfigError(f"InputSpec: fit '{self.fit}' shrinks large images, shrink=False does not: choose one.")
        if self.enlarge is not None and self.fit == "stretch":
            raise ConfigError("InputSpec: enlarge needs fit 'short_edge' or 'letterbox'; stretching reaches any size.")
        object.__setattr__(self, "mean", tuple(float(v) for v in self.mean))
        object.__setattr__(self, "std", tuple(float(v) for v in self.std))
        if len(self.mean) != 3 or len(self.std) != 3:
            raise ConfigError(f"InputSpec: mean and std are three numbers each, got {self.mean} and {self.std}.")

    def fitted_by(self, fit: FitMode) -> "InputSpec":
        """The same images brought to the input in another way; limits that this way has no use for are lifted."""
        shrink, enlarge = self.shrink or fit != "short_edge", None if fit == "stretch" else self.enlarge
        return replace(self, fit=fit, shrink=shrink, enlarge=enlarge)

    @property
    def square(self) -> int:
        """The side to which inputs are padded at least: a letterbox's size, else 0."""
        return self.size if self.fit == "letterbox" else 0


@dataclass(frozen=True)
class SearchSpec(Section):
    """How selective search proposes boxes, see `ops.selective_search`.

    side: longer images are searched at this long edge, in pixels. scales: sizes of the first regions, one set of
        groupings for each. most: boxes of an image at most. least: in pixels of the image that is searched, boxes with
        a shorter side are left out.
    """

    side: int = ranged(500, low=1, high=2**16)
    scales: tuple[float, ...] = ranged((50.0, 100.0), low=0, high=1e6)
    most: int = ranged(2000, low=1, high=10**6)
    least: int = ranged(8, low=1, high=2**16)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.scales:
            raise ConfigError("SearchSpec: scales has one number at least.")


@dataclass(frozen=True)
class OutputSpec(Section):
    """How raw detections become instances, where published implementations differ.

    paste: "sampled" samples the mask at pixel centres, the box not rounded (detectron2);
        "integer" enlarges the box by one mask cell, truncates it to whole pixels and resizes (torchvision).
    mask_threshold: probability from which a pixel belongs to the mask; masks made of prototypes must be above it.
    score_threshold: rows below it are left out. max_instances: rows kept at most, best first.
    clip: cut boxes to the image after they are scaled back, and drop the empty ones.
    whole_boxes: cut box coordinates down to whole pixels, as YOLACT's published numbers have it, and drop the empty.
    Of masks made of prototypes: crop_margin: cells around the box in which a mask may be (YOLACT: 1). upsample:
        "masks" crops at the prototypes' resolution and enlarges the result (YOLACT), "logits" enlarges first and crops
        at the image's.
    largest_component: keep only the largest connected part of each mask, pixels joined by their sides.
    """

    paste: Literal["sampled", "integer"] = "sampled"
    mask_threshold: float = ranged(0.5, low=0, high=1, open_low=True, open_high=True)
    score_threshold: float = ranged(0.05, low=0, high=1)
    max_instances: int = ranged(100, low=0)
    clip: bool = True
    whole_boxes: bool = False
    crop_margin: float = 1.0
    upsample: Literal["masks", "logits"] = "masks"
    largest_component: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.crop_margin >= 0:  # may be infinite
            raise ConfigError(f"crop_margin is at least 0, got {self.crop_margin}.")
