"""What the rules of `defaults` look at: the data set measured once, the network a run begins with, the device.

Sizes: a side is the square root of a box's area; the edge is that of an image that the input's size is about. "At the
input" is after the resizing that the network sees.

Letters: N objects, P images. Arrays are float64; sides and edges in pixels.
"""

import math
from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from maskwright import media
from maskwright.data.dataset import Dataset
from maskwright.data.stats import object_side
from maskwright.errors import DataError, ImageError
from maskwright.ops.warp import input_size, padded_size
from maskwright.training.compute import Device
from maskwright.training.config import TrainConfig
from maskwright.training.network import Start, input_spec
from maskwright.types import FULL, InputSpec, IntArray, Size, sides

Array = NDArray[np.float64]


LOOKED, DECODED = 100, 8  # images whose headers are read, up to twice as many; deep ones decoded


class Deep(NamedTuple):
    """The values of an image with more than 8 bits. top: the highest that they can be, at most 65535; 0: not known.

    full: they use most of their range.
    """

    numbers: str
    low: float
    high: float
    top: int

    @property
    def full(self) -> bool:
        return self.top > 0 and self.high - self.low >= self.top / 2

    def __str__(self) -> str:
        return f"{self.numbers}, most values in {self.low:.6g}..{self.high:.6g}"


class Survey:
    """The settings so far, the network they begin with, the device, and the data set, measured once."""

    def __init__(
        self, config: TrainConfig, dataset: Dataset, start: Start, device: Device, whole: Dataset | None = None
    ) -> None:
        self.config, self.dataset, self.start, self.device = config, dataset, start, device
        self._whole = whole or dataset
        self.images = len(dataset)
        self.sides, self.counts = object_sides(dataset)
        self.sizes = np.array([r.size for r in dataset.images], np.float64).reshape(-1, 2)
        self.edge: Array = _edge(self.sizes, start.config.spec)  # (P,)
        self.owner = np.repeat(np.arange(self.images), self.counts)
        self.used = np.flatnonzero(self.counts)  # images with objects
        starts = np.cumsum(self.counts) - self.counts
        spread = [np.quantile(self.sides[starts[i] : starts[i] + self.counts[i]], [0.1, 0.5]) for i in self.used]
        small, typical = np.array(spread, np.float64).reshape(-1, 2).clip(1e-3).T
        self.small: Array = small  # the small side in each of them
        self.typical: Array = typical  # and the typical one

    @cached_property
    def sides_named(self) -> tuple[list[str], list[tuple[str, str]]]:
        """The names of classes and landmarks that say a side and have no counterpart, and the pairs of those that do.

        The landmarks of a class that has a counterpart itself, such as a left hand's, belong to that one's.
        """
        names, lonely, pairs = self.dataset.classes.names, list[str](), list[tuple[str, str]]()
        marks = self.dataset.classes.landmarks
        alone = [one for k, one in enumerate(marks) if one is not None and sides.mirrored(names)[k] == k]
        known = [(names, sides.mirrored(names)), *((one.names, one.mirrored or ()) for one in alone)]
        if self.dataset.semantic_classes:
            known.append((own := self.dataset.semantic_classes.names, sides.mirrored(own)))
        for group, partner in known:
            lonely += [group[k] for k in sides.one_sided(group) if partner[k] == k]
            pairs += [(name, group[partner[k]]) for k, name in enumerate(group) if partner[k] > k]
        return list(dict.fromkeys(lonely)), list(dict.fromkeys(pairs))

    @property
    def pretrained(self) -> bool:
        """Whether the weights are of such a network, heads included."""
        return self.start.trained == "network"

    @cached_property
    def median_side(self) -> float:
        """The median size of the objects of the whole data set, as `data.stats` gives it."""
        rows = [a for own in self._whole.annotations.values() for a in own if not a.crowd]
        return float(np.median(object_side(rows)))

    @cached_property
    def typical_edge(self) -> float:
        return float(np.median(self.edge))

    @cached_property
    def fixed_scale(self) -> bool:
        """Whether objects keep their size in pixels in images of different sizes, as under a microscope.

        That is so where the images' typical sides vary less than their typical shares of the edge.
        """
        low, high = np.quantile(self.edge, [0.05, 0.95])
        if len(self.typical) < 4 or high < 1.5 * low:
            return False
        return bool(np.log(self.typical).std() < np.log(self.typical / self.edge[self.used]).std())

    @cached_property
    def deep(self) -> tuple[int, list[Deep]]:
        """How many images were looked at, and the values of those with more than 8 bits, a few of them."""
        step, looked = max(1, self.images // LOOKED), 0
        deep: list[Deep] = []
        for i in range(0, self.images, step):
            try:
                with media.opened(self.dataset.path(i)) as file:
                    looked += 1
                    if file.deep and len(deep) < DECODED and (found := media.deep_values(file.decode())) is not None:
                        values, top = found
                        low, high = np.percentile(values, (1, 99.8)) if values.size else (0, 0)
                        deep.append(Deep(values.dtype.name, float(low), float(high), top))
            except (ImageError, DataError, OSError):  # found and named where the image is used
                continue
        return looked, deep

    def edges(self) -> Array:
        """Edges that sides are shares of: each image's own, or the typical one at a fixed scale."""
        own = self.edge[self.used]
        return np.full(len(own), self.typical_edge) if self.fixed_scale else own

    def typical_input(self) -> float:
        """Typical side at the input with the settings so far; every image counts the same."""
        scale = self.inputs()[0] / self.sides.clip(1e-9)
        first = np.cumsum(self.counts)[self.used] - 1  # an object of each image with objects
        return float(np.median(self.typical * scale[first]))

    def inputs(self) -> tuple[Array, Array]:
        """(N,) sides at the input and (P,) padded input pixels of each image, with the settings so far."""
        spec, sizes = input_spec(self.start.config.spec, self.config.network), [r.size for r in self.dataset.images]
        padded = [padded_size([input_size(size, spec)], spec.multiple, spec.square) for size in sizes]
        return self.sides * input_scales(sizes, spec)[self.owner], np.array([h * w for h, w in padded], np.float64)

    def step_pixels(self) -> float:
        """Pixels of one image in training: a window's, or the typical input's."""
        pixels = float(np.quantile(self.inputs()[1], 0.9 if self.device.kind == "cuda" else 0.5))
        crop = self.config.augment.crop if self.config.augment is not None else None
        return pixels if crop is None else min(pixels, float(math.prod(crop)))


def object_sides(data: Dataset) -> tuple[Array, IntArray]:
    """(N,) sides of all objects that are no crowd, and (P,) how many each image has."""
    rows = [[a.box for a in data.of(i) if not a.crowd] for i in range(len(data))]
    boxes = np.array([box for r in rows for box in r], np.float64).reshape(-1, 4)
    return np.sqrt((boxes[:, 2:] - boxes[:, :2]).clip(0).prod(axis=1)), np.array([len(r) for r in rows], np.int64)


def input_scales(sizes: Sequence[Size], spec: InputSpec) -> Array:
    """(P,) factor from each image's pixels to the input's; of a stretch the mean of its two."""
    return np.array([math.sqrt(math.prod(input_size(size, spec)) / math.prod(size)) for size in sizes])


def _edge(sizes: Array, spec: InputSpec) -> Array:
    """(P,) of images (P, 2): the short edge; letterboxed the long one, stretched the mean."""
    if spec.fit == "stretch":
        return np.asarray(np.sqrt(sizes.prod(axis=1)), np.float64)
    return np.asarray(sizes.max(axis=1) if spec.fit == "letterbox" else sizes.min(axis=1), np.float64)


def file_notes(*sets: Dataset | None) -> tuple[str, ...]:
    """Sentences about image files that hold more than the page and the bits that are learnt from, or that an EXIF tag
    turns in a way that their size does not show.

    By their headers; whether all bits can be read, some kinds of file say only when they are decoded: up to `LOOKED`.
    """
    told, deep = media.Readings(annotated=True), 0
    for data in sets:
        for i in range(0 if data is None or data.root is None else len(data)):
            assert data is not None
            try:
                with media.opened(data.path(i)) as file:
                    told.look(file)
                    if not (file.deep and (file.kind in ("HEIF", "AVIF") or file.mode == "CMYK")):
                        continue
                    deep += 1
                    if deep <= LOOKED and (bits := file.decode().cut) is not None:
                        told.cut.append(f"{file.name} ({bits} bits)")
            except (ImageError, OSError):  # named where the image is used
                continue
    some = (f"Of {deep} images that may be read with 8 bits alone the first {LOOKED} were looked at.",)
    return told.notes(FULL) + (some if deep > LOOKED and told.cut else ())
