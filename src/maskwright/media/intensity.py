"""From stored values to 0..255: numbers with more than 8 bits by an `Intensity`, and what a run is told of that.

Letters: H W image, C channels.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maskwright.errors import ImageError
from maskwright.media.stored import ImageFile, Stored
from maskwright.types import ImageArray, Intensity
from maskwright.wording import counted

PERCENTILES = Intensity.parse("percentiles")
_FLAT = 0.25  # of the range: images that use less look dark or flat
_SOME = 3  # names in a message
TURNED = (
    "that an EXIF tag turns without another size, taken as annotated upright; where the objects were drawn on the "
    "stored pixels they are wrong"
)
_BLOCK = 1 << 20  # values scaled at once


class FirstNames(list[str]):
    """The first few of the names that were appended, and the count of all: a video has any number of frames."""

    total = 0

    def append(self, name: str) -> None:
        self.total += 1
        if len(self) < _SOME:
            super().append(name)


@dataclass
class Readings:
    """What reading images did beside taking their values as they are, collected over a run.

    deep: images with more than 8 bits, by their kind of numbers. cut: those of which 8 bits alone can be read.
    flat: those that use little of the range that they are scaled by, with their values. holes: those with NaN or
    infinite values. stacks: files of which one page alone was read. left: what else files hold that was not read.
    reduced: those whose percentiles are of a reduced copy, as they were read in windows.
    annotated: whether they come with annotations, so that `turned` counts those of which the size does not say whether
    they were annotated before their EXIF turn.
    """

    annotated: bool = False

    deep: Counter[str] = field(default_factory=Counter)
    cut: FirstNames = field(default_factory=FirstNames)
    flat: FirstNames = field(default_factory=FirstNames)
    holes: FirstNames = field(default_factory=FirstNames)
    stacks: FirstNames = field(default_factory=FirstNames)
    left: FirstNames = field(default_factory=FirstNames)
    turned: FirstNames = field(default_factory=FirstNames)
    reduced: FirstNames = field(default_factory=FirstNames)

    def look(self, file: ImageFile) -> None:
        """Note what a file holds beside its first page."""
        if file.pages > 1:
            self.stacks.append(f"{file.name} ({file.pages} pages)")
        if self.annotated and file.turn() != 1 and file.size() == file.stored_size():
            self.turned.append(file.name)
        self.look_beside(file)

    def look_beside(self, file: ImageFile) -> None:
        """Note what a file holds beside its pages."""
        if left := file.left_out:
            self.left.append(f"{file.name}, {left}")

    def notes(self, intensity: Intensity) -> tuple[str, ...]:
        """A sentence for each of them that occurred."""
        out = []
        if self.deep:
            kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.deep.items()))
            kinds = kinds if len(self.deep) > 1 else next(iter(self.deep))
            images = counted(self.deep.total(), "image")
            text = f"{images} with more than 8 bits ({kinds}) became 0..255 by {_rule(intensity)}."
            if self.flat:
                text += (
                    f" {counted(self.flat.total, 'image')} with values in less than a quarter of it, which look dark "
                    f"or flat: {_named(self.flat)}. The intensity percentiles, or the bits of the camera, may be "
                    "better."
                )
            out.append(text)
        if self.cut:
            images = counted(self.cut.total, "image")
            out.append(
                f"{images} with more than 8 bits, of which 8 were read, whatever the intensity, as the format is not "
                f"decoded deeper here: {_named(self.cut)}. TIFF and PNG of 16 bits are read in full."
            )
        if self.reduced:
            images = counted(self.reduced.total, "image")
            out.append(f"The percentiles of {images} read in windows are of a reduced copy: {_named(self.reduced)}.")
        if self.holes:
            images = counted(self.holes.total, "image")
            out.append(f"{images} with NaN or infinite values, taken as black: {_named(self.holes)}.")
        if self.stacks:
            out.append(f"Only page 1 of {counted(self.stacks.total, 'file')} was read: {_named(self.stacks)}.")
        if self.left:
            out.append(f"Not read in {counted(self.left.total, 'file')}: {_named(self.left)}.")
        if self.turned:
            out.append(f"{counted(self.turned.total, 'image')} {TURNED}: {_named(self.turned)}.")
        return tuple(out)


def _named(names: FirstNames) -> str:
    return "; ".join(names) + (f"; and {names.total - len(names)} more" if names.total > len(names) else "")


def _rule(intensity: Intensity) -> str:
    if intensity.rule == "percentiles":
        whose = "the percentiles of their whole video," if intensity.per == "video" else "their own percentiles"
        return f"what lies between {whose} {intensity.low:g} and {intensity.high:g}"
    if intensity.rule == "values":
        return f"the values {intensity.low:g} to {intensity.high:g}"
    return "the full range of their bits"


def rgb_of(stored: Stored, intensity: Intensity, name: str, told: Readings | None = None) -> ImageArray:
    """uint8 RGB (H, W, 3) of stored pixels; transparency is composed over white. Raises ImageError."""
    if stored.values is None:
        assert stored.image is not None
        if stored.cut is not None and told is not None:
            told.cut.append(f"{name} ({stored.cut} bits)")
        return _rgb(stored.image)
    colour, opacity = stored.parts()
    if colour.dtype == np.uint8:
        grey = colour if stored.top is None else _mapped(colour, 0, stored.top)
    else:
        grey = _scaled(colour, stored, intensity, name, told)
    if stored.inverted:
        grey = 255 - grey
    out = np.repeat(grey, 3, axis=2) if grey.shape[2] == 1 else np.ascontiguousarray(grey)
    if opacity is not None:
        full = 1.0 if opacity.dtype.kind == "f" else float(stored.top or np.iinfo(opacity.dtype).max)
        share = np.nan_to_num(np.clip(opacity / full, 0, 1)).astype(np.float32)
        out = (out * share + 255 * (1 - share) + 0.5).astype(np.uint8)
    return out


def _scaled(
    values: NDArray[Any], stored: Stored, intensity: Intensity, name: str, told: Readings | None
) -> NDArray[np.uint8]:
    """Values (H, W, C) as 0..255; those that are not finite are black, or white where +inf."""
    known = _finite(values)
    if known.size == 0:
        raise ImageError(f"{name}: none of its values is a finite number.", code="damaged-pixels")
    least, most = known.min().item(), known.max().item()
    low, high = _ends(known, stored, intensity, (least, most), name)
    if told is not None:
        told.deep[values.dtype.name + (f" of {stored.top.bit_length()} bits" if stored.top else "")] += 1
        if intensity.rule == "full" and most - least < _FLAT * (high - low):
            told.flat.append(f"{name} (values {least:.6g}..{most:.6g})")
        if known.size < values.size:
            told.holes.append(name)
    if values.dtype == np.uint16:
        table = _mapped(np.arange(65536, dtype=np.uint16), low, high)
        return np.asarray(table[values], np.uint8)
    return _mapped(values, low, high, hole=255 if stored.inverted else 0)


def deep_values(stored: Stored) -> tuple[NDArray[Any], int] | None:
    """Of an image with more than 8 bits the finite values, opacity left out, and the highest that they can be, at most
    65535; 0: not known. None for 8 bits and less."""
    if stored.values is None or stored.values.dtype == np.uint8:
        return None
    return _finite(stored.parts()[0]), stored.top or (65535 if stored.values.dtype == np.uint16 else 0)


def of_sample(stored: Stored, intensity: Intensity) -> Intensity:
    """Where percentiles are asked for, the values that they are in a sample of an image; for all of its parts."""
    finite = _finite(stored.parts()[0])
    if intensity.rule != "percentiles" or not finite.size:
        return intensity
    least = float(finite.min())
    low, high = _ends(finite, stored, intensity, (least, float(finite.max())), "")
    return Intensity("values", low, high if low < high else low + 1)


def _finite(values: NDArray[Any]) -> NDArray[Any]:
    good = np.isfinite(values) if values.dtype.kind == "f" else None
    return values if good is None or good.all() else values[good]


def _ends(
    known: NDArray[Any], stored: Stored, intensity: Intensity, ends: tuple[float, float], name: str
) -> tuple[float, float]:
    """The values that become black and white, or white and black where the lowest is white."""
    if intensity.rule == "values":
        return intensity.low, intensity.high
    if intensity.rule == "percentiles":
        low, high = (float(v) for v in np.percentile(known, _shares(intensity, stored)))
        return (low, high) if low < high else (float(ends[0]), float(ends[1]))
    if known.dtype.kind == "f" or ends[0] < 0 or ends[1] > 65535:
        what = "a floating-point image" if known.dtype.kind == "f" else "an image of signed or 32-bit numbers"
        raise ImageError(
            f"{name}: {what} has no known range of brightness; its values are {ends[0]:.6g}..{ends[1]:.6g}. Choose the "
            "intensity percentiles, or values:LOW..HIGH with the values that are to be black and white.",
            options=("intensity",),
        )
    return 0.0, float(stored.top or 65535)


def _shares(intensity: Intensity, stored: Stored) -> tuple[float, float]:
    """The percentiles of the stored values: those asked for are of the brightness."""
    return (100 - intensity.high, 100 - intensity.low) if stored.inverted else (intensity.low, intensity.high)


def _mapped(values: NDArray[Any], low: float, high: float, hole: float = 0.0) -> NDArray[np.uint8]:
    """low..high as 0..255, rounded, NaN as `hole`; in blocks, as float64 takes eight times the memory of the result."""
    out = np.zeros(values.shape, np.uint8)
    span = high - low
    if span <= 0:
        return out
    rows = max(1, _BLOCK // max(1, values[:1].size))
    for i in range(0, len(values), rows):
        with np.errstate(invalid="ignore"):  # NaN
            share = np.clip((values[i : i + rows].astype(np.float64) - low) / span, 0, 1)
        out[i : i + rows] = np.nan_to_num(share * 255 + 0.5, nan=hole)
    return out


def _rgb(image: Image.Image) -> ImageArray:
    """uint8 RGB (H, W, 3) of Pillow's modes of 8 bits and less."""
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        flat = Image.new("RGB", rgba.size, (255, 255, 255))
        flat.paste(rgba, mask=rgba.getchannel("A"))
        return np.array(flat)
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


# ---- of a whole video -----------------------------------------------------------------------------------------------

_BINS = 1 << 20  # of a histogram
_FINE = 1000  # bins between the two percentiles, at least
_LOOKS = 8  # at the video, which each time is taken in finer bins


def measured(pages: Callable[[], Iterable[Stored]], intensity: Intensity) -> Intensity:
    """The same for every frame of a video: where the percentiles of a whole video are asked for, the values that they
    are. An intensity that asks for none, and one of frames with 8 bits, is returned for each image.

    pages: gives the frames from the first one on, two times, and more often where few values are far from all others;
    one is in memory at a time. Whole numbers that span less than 2**20 are measured exactly, others to a thousandth of
    what lies between the percentiles.
    """
    if intensity.per != "video":
        return intensity
    least, most, count, whole, shares = math.inf, -math.inf, 0, True, (intensity.low, intensity.high)
    for stored, values in _deep_values(pages()):
        if values.size:
            least, most = min(least, float(values.min())), max(most, float(values.max()))
        count, whole, shares = count + values.size, whole and values.dtype.kind != "f", _shares(intensity, stored)
    if not least < most:
        return replace(intensity, per="image")
    ranks = [(count - 1) * share / 100 for share in shares]
    low, high = start, end = least, most
    for _ in range(_LOOKS):
        bins = int(end - start) + 1 if whole and end - start < _BINS else _BINS
        width = 1.0 if bins != _BINS else (end - start) / bins
        below, counts = 0, np.zeros(bins, np.int64)
        for _, values in _deep_values(pages()):
            below += int((values < start).sum())
            inside = values[(values >= start) & (values <= end)].astype(np.float64)
            counts += np.bincount(((inside - start) / width).astype(np.int64).clip(max=bins - 1), minlength=bins)
        low, high = (_at(rank - below, counts, start, width, exact=bins != _BINS) for rank in ranks)
        if bins != _BINS or high - low >= _FINE * width:
            break
        start, end = max(start, low - 2 * width), min(end, high + 2 * width)
    return Intensity("values", low, high) if low < high else Intensity("values", least, most)


def _at(rank: float, counts: NDArray[np.int64], start: float, width: float, *, exact: bool) -> float:
    """The value of a rank from 0, between two neighbours where it is no whole number; of bins their middle."""
    sums = np.cumsum(counts)
    places = np.searchsorted(sums, [math.floor(rank), math.ceil(rank)], side="right").clip(0, len(counts) - 1)
    first, second = (start + width * (int(place) + (0.0 if exact else 0.5)) for place in places)
    return first + (rank - math.floor(rank)) * (second - first)


def _deep_values(pages: Iterable[Stored]) -> Iterator[tuple[Stored, NDArray[Any]]]:
    """The finite values of those with more than 8 bits, without their opacity."""
    for stored in pages:
        if (deep := deep_values(stored)) is not None:
            yield stored, deep[0].ravel()
