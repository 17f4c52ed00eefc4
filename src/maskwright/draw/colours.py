"""Colours that tell objects, classes, scores or tracks apart, chosen in OKLCH, where equal distances look equal.

An index, such as a track id, has the same colour in every image.
"""

import math
from collections.abc import Sequence
from typing import Literal, get_args

from maskwright.errors import ConfigError, suggest
from maskwright.types import Instances

Colour = tuple[int, int, int]
"""RGB, 0..255."""

ColourBy = Literal["class", "instance", "score", "track"]
"""What the colours of an overlay tell apart."""


def colour_of(index: int) -> Colour:
    """The colour of an index: hues a golden angle apart, lightness in three steps, so that neighbours differ most."""
    light, chroma = ((0.73, 0.20), (0.62, 0.23), (0.81, 0.18))[index % 3]
    return _srgb(light, chroma, (0.07 + index * 0.6180339887498949) % 1)


def score_colour(score: float) -> Colour:
    """The colour of a score: from violet, 0, over blue and green to yellow, 1, ever lighter."""
    s = min(max(float(score), 0.0), 1.0)
    return _srgb(0.42 + 0.48 * s, 0.17, 0.85 - 0.56 * s)


def shades(instances: Instances, by: ColourBy | Sequence[int] | None) -> list[Colour]:
    """N colours. by: what they tell apart, or an index for each; None: tracks where there are some, else instances.

    Raises ConfigError for an unknown word, tracks that are not there, and another number of indices.
    """
    if by is None:
        by = "instance" if instances.track_ids is None else "track"
    if not isinstance(by, str):
        if len(by) != len(instances):
            raise ConfigError(f"colour has {len(by)} indices, expected one for each of {len(instances)} instances.")
        return [colour_of(int(k)) for k in by]
    check_colour(by)
    if by == "score":
        return [score_colour(s) for s in instances.scores]
    if by == "class":
        return [colour_of(k) for k in instances.labels.tolist()]
    if by == "instance":
        return [colour_of(k) for k in range(len(instances))]
    if instances.track_ids is None:
        raise ConfigError("colour is 'track', but these instances have no track ids; `Predictor.track` gives them.")
    return [colour_of(int(k)) for k in instances.track_ids]


def check_colour(by: str) -> None:
    """Raises ConfigError for a word that is none of `ColourBy`."""
    if by not in get_args(ColourBy):
        raise ConfigError(
            f"colour is one of {', '.join(get_args(ColourBy))}, got {by!r}.{suggest(by, get_args(ColourBy))}",
            options=("colour",),
        )


def _srgb(light: float, chroma: float, turn: float) -> Colour:
    """The nearest RGB colour of lower chroma. turn: the hue, in 0..1."""
    for _ in range(12):  # reduce the chroma until the colour lies in sRGB
        linear = _oklch(light, chroma, 2 * math.pi * turn)
        if min(linear) >= -1e-3 and max(linear) <= 1 + 1e-3:
            break
        chroma *= 0.9
    r, g, b = (round(255 * _gamma(min(max(v, 0.0), 1.0))) for v in linear)
    return r, g, b


def _oklch(light: float, chroma: float, hue: float) -> tuple[float, float, float]:
    """OKLCH to linear sRGB (B. Ottosson, "A perceptual color space for image processing", 2020)."""
    a, b = chroma * math.cos(hue), chroma * math.sin(hue)
    long = (light + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (light - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (light - 0.0894841775 * a - 1.2914855480 * b) ** 3
    return (
        4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
        -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
        -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
    )


def _gamma(value: float) -> float:
    return 12.92 * value if value <= 0.0031308 else 1.055 * value ** (1 / 2.4) - 0.055
