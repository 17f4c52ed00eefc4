"""Percentiles of a whole video: the same values become black and white in every frame."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskwright import media
from maskwright.errors import ConfigError
from maskwright.media import Readings, Stored, measured
from maskwright.predictor.frames import frames_of
from maskwright.types import Intensity

tifffile = pytest.importorskip("tifffile", reason="it comes with scikit-image")

VIDEO = Intensity.parse("percentiles:video")


def stack(kind: str, seed: int = 0) -> np.ndarray:
    """Five frames that fade from bright to dark."""
    rng = np.random.default_rng(seed)
    fade = np.array([1.0, 0.8, 0.6, 0.5, 0.4])[:, None, None]
    return (33_000 + 3_000 * rng.beta(2, 5, (5, 30, 40)) * fade).astype(kind)


def pages(values: np.ndarray) -> Iterator[Stored]:
    return (Stored(values=frame) for frame in values)


def test_as_text() -> None:
    assert Intensity("percentiles", 1, 99.8, "video") == VIDEO
    assert str(VIDEO) == "percentiles:1..99.8:video"
    assert Intensity.parse("percentiles:2..98:video") == Intensity("percentiles", 2, 98, "video")
    for wrong in ("full:video", "values:0..3:video", "percentiles:film", "bits:12:video"):
        with pytest.raises(ConfigError):
            Intensity.parse(wrong)
    with pytest.raises(ConfigError, match="percentiles alone"):
        Intensity("full", per="video")


@pytest.mark.parametrize("kind", ["u2", "i2", "i4", "f4", "f8"])
def test_they_are_numpys_of_all_values(kind: str) -> None:
    values = stack(kind) if kind != "i2" else (stack("i4") - 34_000).astype("i2")
    found = measured(lambda: pages(values), VIDEO)
    wanted = np.percentile(values, (1, 99.8))
    assert found.rule == "values"
    np.testing.assert_allclose((found.low, found.high), wanted, atol=1e-3 if kind[0] == "f" else 1e-9)


@pytest.mark.parametrize("far", [1e9, 1e30])
def test_values_far_from_all_others_do_not_blur_them(far: float) -> None:
    values = stack("f8")
    values[0, 0, :3] = far, -far, np.nan
    found = measured(lambda: pages(values), VIDEO)
    wanted = np.percentile(values[np.isfinite(values)], (1, 99.8))
    np.testing.assert_allclose((found.low, found.high), wanted, atol=0.01 * (wanted[1] - wanted[0]))


def test_opacity_and_white() -> None:
    values = stack("u2")
    clear = np.stack([values, np.full_like(values, 9)], axis=-1)
    assert measured(lambda: (Stored(values=v, alpha=True) for v in clear), VIDEO) == measured(
        lambda: pages(values), VIDEO
    )
    found = measured(lambda: (Stored(values=65535 - v, inverted=True) for v in values), VIDEO)
    np.testing.assert_allclose((65535 - found.high, 65535 - found.low), np.percentile(values, (1, 99.8)), atol=1e-6)


def test_nothing_to_measure() -> None:
    eight = [Stored(Image.new("L", (3, 4), 7))]
    assert measured(lambda: eight, VIDEO) == Intensity.parse("percentiles")
    assert measured(lambda: pages(np.full((2, 3, 4), 9, np.uint16)), VIDEO).per == "image"
    each = Intensity.parse("percentiles")
    assert measured(lambda: pytest.fail("looked at"), each) is each


def test_a_stack_does_not_flicker(tmp_path: Path) -> None:
    values = stack("u2")
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="minisblack")
    low, high = np.percentile(values, (1, 99.8))
    wanted = (np.clip((values - low) / (high - low), 0, 1) * 255 + 0.5).astype(np.uint8)
    for page, frame in enumerate(wanted, 1):
        found = media.read_image(tmp_path / "a.tif", intensity="percentiles:video", page=page)
        np.testing.assert_array_equal(found[..., 0], frame)
    own = [media.read_image(tmp_path / "a.tif", intensity="percentiles", page=p)[..., 0].mean() for p in (1, 5)]
    assert wanted[0].mean() - wanted[4].mean() > 20 + abs(own[0] - own[1])  # the fading is kept


def test_frames_of_every_kind_of_source(tmp_path: Path) -> None:
    values = stack("u2")
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="minisblack")
    (tmp_path / "frames").mkdir()
    for k, frame in enumerate(values):
        Image.fromarray(frame).save(tmp_path / "frames" / f"{k}.png")
    files = sorted((tmp_path / "frames").iterdir())
    found = []
    for source in (str(tmp_path / "a.tif"), tmp_path / "frames", files, list(values), values):
        told = Readings()
        found.append([frame.image for frame in frames_of(source, VIDEO, told)])
        assert any("the percentiles of their whole video, 1 and 99.8" in note for note in told.notes(VIDEO))
    for other in found[1:]:
        np.testing.assert_array_equal(found[0], other)
    np.testing.assert_array_equal(
        found[0][2], media.read_image(tmp_path / "a.tif", intensity="percentiles:video", page=3)
    )
    with pytest.raises(ConfigError, match="frames twice, and these are given once"):
        next(frames_of(iter(values), VIDEO, Readings()))
