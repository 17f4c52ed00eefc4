"""What a model says of its two ends: how an image becomes its input, and how raw detections become instances."""

from dataclasses import dataclass, replace
from typing import Literal

from maskwright.codec import Section, ranged
from maskwright.errors import ConfigError

Fit = Literal["short_edge", "stretch", "letterbox"]


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
    """

    size: int = ranged(800, low=1)
    max_size: int | None = ranged(1333, low=1)
    resize: Literal["pillow", "float"] = "float"
    channels: Literal["RGB", "BGR"] = "RGB"
    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    std: tuple[float, float, float] = (58.395, 57.12, 57.375)
    multiple: int = ranged(32, low=1)
    shrink: bool = True
    enlarge: float | None = ranged(None, low=1)
    fit: Fit = "short_edge"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.shrink and self.fit != "short_edge":
            raise ConfigError(f"InputSpec: fit '{self.fit}' shrinks large images, shrink=False does not: choose one.")
        if self.enlarge is not None and self.fit == "stretch":
            raise ConfigError("InputSpec: enlarge needs fit 'short_edge' or 'letterbox'; stretching reaches any size.")
        object.__setattr__(self, "mean", tuple(float(v) for v in self.mean))
        object.__setattr__(self, "std", tuple(float(v) for v in self.std))
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ConfigError(f"InputSpec: mean and std are three numbers each, std positive, got {self}.")

    def fitted_by(self, fit: Fit) -> "InputSpec":
        """The same images brought to the input in another way; limits that this way has no use for are lifted."""
        shrink, enlarge = self.shrink or fit != "short_edge", None if fit == "stretch" else self.enlarge
        return replace(self, fit=fit, shrink=shrink, enlarge=enlarge)

    @property
    def square(self) -> int:
        """The side to which inputs are padded at least: a letterbox's size, else 0."""
        return self.size if self.fit == "letterbox" else 0


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
