"""What a model says of its two ends: how an image becomes its input, and how raw detections become instances."""

from dataclasses import dataclass, replace
from typing import Literal, get_args

from maskwright.errors import ConfigError

Fit = Literal["short_edge", "stretch", "letterbox"]


@dataclass(frozen=True)
class InputSpec:
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

    size: int = 800
    max_size: int | None = 1333
    resize: Literal["pillow", "float"] = "float"
    channels: Literal["RGB", "BGR"] = "RGB"
    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    std: tuple[float, float, float] = (58.395, 57.12, 57.375)
    multiple: int = 32
    shrink: bool = True
    enlarge: float | None = None
    fit: Fit = "short_edge"

    def __post_init__(self) -> None:
        if self.fit not in get_args(Fit):
            raise ConfigError(f"InputSpec: fit is 'short_edge', 'stretch' or 'letterbox', got {self.fit!r}.")
        if not self.shrink and self.fit != "short_edge":
            raise ConfigError(f"InputSpec: fit '{self.fit}' shrinks large images, shrink=False does not: choose one.")
        if self.enlarge is not None and self.fit == "stretch":
            raise ConfigError("InputSpec: enlarge needs fit 'short_edge' or 'letterbox'; stretching reaches any size.")
        if self.enlarge is not None and not self.enlarge >= 1:
            raise ConfigError(f"InputSpec: enlarge is a factor of at least 1, got {self.enlarge}.")
        if self.size < 1 or self.multiple < 1 or (self.max_size is not None and self.max_size < 1):
            raise ConfigError(f"InputSpec sizes must be positive, got {self}.")
        if self.resize not in ("pillow", "float") or self.channels not in ("RGB", "BGR"):
            raise ConfigError(f"InputSpec: resize is 'pillow' or 'float', channels 'RGB' or 'BGR', got {self}.")
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
class OutputSpec:
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
    mask_threshold: float = 0.5
    score_threshold: float = 0.05
    max_instances: int = 100
    clip: bool = True
    whole_boxes: bool = False
    crop_margin: float = 1.0
    upsample: Literal["masks", "logits"] = "masks"
    largest_component: bool = False

    def __post_init__(self) -> None:
        if self.paste not in ("sampled", "integer"):
            raise ConfigError(f"OutputSpec: paste is 'sampled' or 'integer', got {self.paste!r}.")
        if self.upsample not in ("masks", "logits") or not self.crop_margin >= 0:
            raise ConfigError(f"OutputSpec: upsample is 'masks' or 'logits', crop_margin at least 0, got {self}.")
        if not 0 < self.mask_threshold < 1 or not 0 <= self.score_threshold <= 1 or self.max_instances < 0:
            raise ConfigError(
                "OutputSpec: score_threshold lies in [0, 1], mask_threshold between 0 and 1, max_instances is not "
                f"negative, got {self}."
            )
