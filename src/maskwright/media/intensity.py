"""From stored values to 0..255: numbers with more than 8 bits by an `Intensity`, and what a run is told of that.

Letters: H W image, C channels.
"""

from collections import Counter
from dataclasses import dataclass, field
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
_BLOCK = 1 << 20  # values scaled at once


@dataclass
class Readings:
    """What reading images did beside taking their values as they are, collected over a run.

    deep: images with more than 8 bits, by their kind of numbers. flat: those that use little of the range that they
    are scaled by, with their values. holes: those with NaN or infinite values. stacks: files of which one page alone
    was read. left: what else files hold that was not read.
    """

    deep: Counter[str] = field(default_factory=Counter)
    flat: list[str] = field(default_factory=list)
    holes: list[str] = field(default_factory=list)
    stacks: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    def look(self, file: ImageFile) -> None:
        """Note what a file holds beside its first page."""
        if file.pages > 1:
            self.stacks.append(f"{file.name} ({file.pages} pages)")
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
                    f" {counted(len(self.flat), 'image')} with values in less than a quarter of it, which look dark or "
                    f"flat: {_named(self.flat)}. The intensity percentiles, or the bits of the camera, may be better."
                )
            out.append(text)
        if self.holes:
            images = counted(len(self.holes), "image")
            out.append(f"{images} with NaN or infinite values, taken as black: {_named(self.holes)}.")
        if self.stacks:
            out.append(f"Only page 1 of {counted(len(self.stacks), 'file')} was read: {_named(self.stacks)}.")
        if self.left:
            out.append(f"Not read in {counted(len(self.left), 'file')}: {_named(self.left)}.")
        return tuple(out)


def _named(names: list[str]) -> str:
    return "; ".join(names[:_SOME]) + (f"; and {len(names) - _SOME} more" if len(names) > _SOME else "")


def _rule(intensity: Intensity) -> str:
    if intensity.rule == "percentiles":
        return f"what lies between their own percentiles {intensity.low:g} and {intensity.high:g}"
    if intensity.rule == "values":
        return f"the values {intensity.low:g} to {intensity.high:g}"
    return "the full range of 16 bits"


def rgb_of(stored: Stored, intensity: Intensity, name: str, told: Readings | None = None) -> ImageArray:
    """uint8 RGB (H, W, 3) of stored pixels; transparency is composed over white. Raises ImageError."""
    if stored.values is None:
        assert stored.image is not None
        return _rgb(stored.image)
    values = stored.values if stored.values.ndim == 3 else stored.values[:, :, None]
    colour = values[:, :, :-1] if stored.alpha else values
    grey = colour if colour.dtype == np.uint8 else _scaled(colour, intensity, stored.top, name, told)
    if stored.inverted:
        grey = 255 - grey
    out = np.repeat(grey, 3, axis=2) if grey.shape[2] == 1 else np.ascontiguousarray(grey)
    if stored.alpha:
        full = 1.0 if values.dtype.kind == "f" else float(np.iinfo(values.dtype).max)
        share = np.nan_to_num(np.clip(values[:, :, -1:] / full, 0, 1)).astype(np.float32)
        out = (out * share + 255 * (1 - share) + 0.5).astype(np.uint8)
    return out


def _scaled(
    values: NDArray[Any], intensity: Intensity, top: int | None, name: str, told: Readings | None
) -> NDArray[np.uint8]:
    """Values (H, W, C) as 0..255; those that are not finite become black, or white where they are +inf."""
    good = np.isfinite(values) if values.dtype.kind == "f" else None
    holes = good is not None and not good.all()
    finite = values[good] if good is not None and holes else values
    if finite.size == 0:
        raise ImageError(f"{name}: none of its values is a finite number.", code="damaged-pixels")
    least, most = finite.min().item(), finite.max().item()
    low, high = _ends(finite, intensity, (least, most), top, name)
    if told is not None:
        told.deep[values.dtype.name] += 1
        if intensity.rule == "full" and most - least < _FLAT * (high - low):
            told.flat.append(f"{name} (values {least:.6g}..{most:.6g})")
        if holes:
            told.holes.append(name)
    if values.dtype == np.uint16:
        table = _mapped(np.arange(65536, dtype=np.uint16), low, high)
        return np.asarray(table[values], np.uint8)
    return _mapped(values, low, high)


def _ends(
    finite: NDArray[Any], intensity: Intensity, ends: tuple[float, float], top: int | None, name: str
) -> tuple[float, float]:
    """The values that become black and white."""
    if intensity.rule == "values":
        return intensity.low, intensity.high
    if intensity.rule == "percentiles":
        low, high = (float(v) for v in np.percentile(finite, (intensity.low, intensity.high)))
        return (low, high) if low < high else (float(ends[0]), float(ends[1]))
    if finite.dtype.kind == "f" or ends[0] < 0 or ends[1] > 65535:
        what = "a floating-point image" if finite.dtype.kind == "f" else "an image of signed or 32-bit numbers"
        raise ImageError(
            f"{name}: {what} has no known range of brightness; its values are {ends[0]:.6g}..{ends[1]:.6g}. Choose the "
            "intensity percentiles, or values:LOW..HIGH with the values that are to be black and white.",
            options=("intensity",),
        )
    return 0.0, float(top or 65535)


def _mapped(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    """low..high as 0..255, rounded; in blocks, as float64 takes eight times the memory of the result."""
    out = np.zeros(values.shape, np.uint8)
    span = high - low
    if span <= 0:
        return out
    rows = max(1, _BLOCK // max(1, values[:1].size))
    for i in range(0, len(values), rows):
        with np.errstate(invalid="ignore"):  # NaN, which becomes black
            share = np.clip((values[i : i + rows].astype(np.float64) - low) / span, 0, 1)
        out[i : i + rows] = np.nan_to_num(share * 255 + 0.5, nan=0.0)
    return out


def _rgb(image: Image.Image) -> ImageArray:
    """uint8 RGB (H, W, 3) of Pillow's modes of 8 bits and less."""
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        flat = Image.new("RGB", rgba.size, (255, 255, 255))
        flat.paste(rgba, mask=rgba.getchannel("A"))
        return np.array(flat)
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))
