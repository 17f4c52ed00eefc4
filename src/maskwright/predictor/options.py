"""What a caller may choose: when a model is loaded, and when it looks at images. Each option is defined here once.

The command line builds its options from these fields, and `load`, `predict` and `evaluate` take them as keywords.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

from maskwright.codec import FieldError, Section, ranged
from maskwright.errors import ConfigError, suggest
from maskwright.types import FULL, Classes, FitMode, InputSpec, Intensity, Limits, OutputSpec

Options = TypeVar("Options", "LoadOptions", "FindOptions")


@dataclass(frozen=True)
class LoadOptions(Section):
    """How a model is loaded; None means the model's own choice.

    classes: names of its classes, if they are not the published ones. size: input short edge, or side of the square,
    in pixels. fit: "short_edge", "stretch" or "letterbox", as in `InputSpec`. nms: kind of non-maximum suppression:
    "cross" compares the boxes of all classes together; R-CNNs have "by_class" as well, YOLACT "fast" and "exact"
    (greedy). device: "auto", a CUDA device where there is one; "cpu", "cuda", "cuda:1" ... precision: "float32",
    "bf16", or "auto": bf16 where the device has instructions for it. progress: show a bar while fetching.
    intensity: how images with more than 8 bits become 0..255, an `Intensity` or its text, such as "percentiles".
    """

    classes: Classes | None = None
    size: int | None = ranged(None, low=1)
    fit: FitMode | None = None
    nms: str | None = None
    device: str = "auto"
    precision: str = "float32"
    progress: bool = True
    intensity: Intensity | str | None = None

    def __post_init__(self) -> None:
        if self.intensity is not None:
            object.__setattr__(self, "intensity", Intensity.of(self.intensity))
        super().__post_init__()
        names: Sequence[str] | None = self.classes
        if names is not None and not isinstance(names, Classes):
            object.__setattr__(self, "classes", Classes(names))


@dataclass(frozen=True)
class FindOptions(Section):
    """Which instances are found and how their masks are finished; None means the model's own choice.

    score_threshold: lowest score to keep, not below the lowest that the model reports. classes: names to keep.
    max_instances: most of an image, best first; the network is asked for more where its own limit is lower.
    batch_size: images that go through the network together.
    largest_component: keep only the largest connected part of each mask. Of masks made of prototypes (YOLACT):
    crop_margin: prototype cells around the box in which a mask may be; infinity does not crop. upsample: "masks" crops
    and then enlarges, "logits" enlarges what the probabilities are made of and crops at the image's resolution.
    intensity: as in `LoadOptions`.
    tiles: "auto" computes an image in overlapping tiles where it is far larger than the model's input and one pass
    would make its objects too small; "off" never does; a side in pixels, a multiple of 32, does so wherever an image is
    larger than that. max_instances is then of the whole image. tile_overlap: in pixels, at most half of the side.
    tta: test-time augmentation, "off", "horizontal" or "both": the image is computed with its left-right mirror image,
    or with its mirror images in both directions, which takes two or four times as long, and what they show is joined.
    """

    score_threshold: float | None = ranged(None, low=0, high=1)
    classes: Sequence[str] | None = None
    max_instances: int | None = ranged(None, low=0)
    batch_size: int | None = ranged(None, low=1)
    crop_margin: float | None = None
    upsample: Literal["masks", "logits"] | None = None
    largest_component: bool | None = None
    intensity: Intensity | str | None = None
    tiles: str | int | None = None
    tile_overlap: int | None = ranged(None, low=0)
    tta: Literal["off", "horizontal", "both"] | None = None

    def __post_init__(self) -> None:
        if self.intensity is not None:
            object.__setattr__(self, "intensity", Intensity.of(self.intensity))
        self._check_tiles()
        if isinstance(self.classes, str):
            raise ConfigError(f"classes is a list of names, got {self.classes!r}; give [{self.classes!r}].")
        if self.classes is not None:
            object.__setattr__(self, "classes", tuple(self.classes))
        super().__post_init__()
        if self.crop_margin is not None and not self.crop_margin >= 0:
            raise FieldError(f"crop_margin is at least 0, got {self.crop_margin}.", ("crop_margin",))

    def _check_tiles(self) -> None:
        tiles = self.tiles
        if isinstance(tiles, str) and tiles.isascii() and tiles.isdigit():
            object.__setattr__(self, "tiles", int(tiles[:9]))
        elif not (tiles in (None, "auto", "off") or (isinstance(tiles, int) and not isinstance(tiles, bool))):
            raise FieldError(f"tiles is 'auto', 'off' or the side of a tile in pixels, got {tiles!r}.", ("tiles",))
        if self.tiles == "off" and self.tile_overlap is not None:
            raise FieldError("Tiles are off, so there is no use for tile_overlap.", ("tile_overlap",))

    def applied(self, output: OutputSpec) -> OutputSpec:
        """A model's `OutputSpec` with what these options change. ConfigError for a value out of range."""
        shared = {f.name for f in dataclasses.fields(OutputSpec)} & {f.name for f in dataclasses.fields(self)}
        given = {name: getattr(self, name) for name in shared if getattr(self, name) is not None}
        return replace(output, **given)


@dataclass(frozen=True, eq=False)
class FindPlan:
    """What `FindOptions` mean for one detector: the limits of its rows, the labels to keep (None: all), and how rows
    become instances."""

    limits: Limits
    labels: tuple[int, ...] | None
    output: OutputSpec


def intensity_of(predictor: object, options: FindOptions | None = None) -> Intensity:
    """How images with more than 8 bits become 0..255: the options' choice, else that of the predictor's `spec`."""
    if options is not None and options.intensity is not None:
        return Intensity.of(options.intensity)
    spec = getattr(predictor, "spec", None)
    return spec.intensity if isinstance(spec, InputSpec) else FULL


def given(kind: type[Options], options: Options | None, changes: Mapping[str, Any], of: str) -> Options:
    """`options` with the keywords of a call of `of`; ConfigError, naming near misses, for a keyword that is none."""
    names = [f.name for f in dataclasses.fields(kind)]
    for name in changes:
        if name not in names:
            raise ConfigError(f"{of} has no option '{name}'.{suggest(name, names)}")
    return replace(options or kind(), **changes)
