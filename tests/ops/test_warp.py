"""From image to input: sizes against torchvision and exact fractions, pixels against their definition."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.models.detection.transform import _resize_image_and_masks

from maskwright.errors import ConfigError
from maskwright.ops.warp import input_size, normalise, pad_batch, padded_size, resize_normalise
from maskwright.types import InputSpec

PROPERTY = settings(max_examples=100, deadline=None)
sizes = st.tuples(st.integers(1, 30000), st.integers(1, 30000))
RESIZE = ["pillow", "float"]


@PROPERTY
@given(sizes, st.sampled_from(RESIZE), st.integers(1, 2000), st.integers(1, 4000) | st.none(), st.booleans())
def test_never_empty_never_above_the_limit(
    size: tuple[int, int], resize: str, short: int, limit: int | None, shrink: bool
) -> None:
    spec = InputSpec(size=short, max_size=limit, resize=resize, shrink=shrink)  # type: ignore[arg-type]
    h, w = input_size(size, spec)
    assert h >= 1
    assert w >= 1
    if limit is not None:
        assert max(h, w) <= limit
    if shrink:
        assert min(h, w) <= short
    assert input_size(size[::-1], spec) == (w, h)


@PROPERTY
@given(sizes, st.integers(100, 1000), st.integers(100, 2000) | st.none())
def test_pillow_rule_in_fractions(size: tuple[int, int], short: int, limit: int | None) -> None:
    """Within a rounding of one pixel where a side lands on a half."""
    scale = Fraction(short, min(size))
    if limit is not None:
        scale = min(scale, Fraction(limit, max(size)))
    found = input_size(size, InputSpec(size=short, max_size=limit, resize="pillow"))
    for side, got in zip(size, found, strict=True):
        exact = side * scale
        assert abs(got - max(exact, 1)) <= Fraction(1, 2) + Fraction(1, 10**6)


@pytest.mark.parametrize(("short", "limit"), [(800, 1333), (320, 640), (600, 1000)])
def test_float_rule_equals_torchvision(short: int, limit: int) -> None:
    rng = np.random.default_rng(short)
    drawn = [(int(h), int(w)) for h, w in rng.integers(20, 900, (60, 2))]
    for size in [(480, 640), (427, 640), (640, 480), (612, 612), (333, 500), (1, 1), (50, 900), *drawn]:
        theirs, _ = _resize_image_and_masks(torch.empty(1, *size, device="meta"), short, limit)
        assert input_size(size, InputSpec(size=short, max_size=limit, resize="float")) == tuple(theirs.shape[1:]), size


@pytest.mark.parametrize(
    ("size", "expected"), [((480, 640), (800, 1067)), ((640, 427), (1199, 800)), ((500, 1000), (667, 1333))]
)
def test_pillow_rule_on_common_sizes(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert input_size(size, InputSpec(resize="pillow")) == expected


@pytest.mark.parametrize("resize", RESIZE)
def test_extreme_shapes(resize: str) -> None:
    spec = InputSpec(resize=resize)  # type: ignore[arg-type]
    assert input_size((20000, 50), spec) == (1333, 3)
    assert input_size((1, 100000), spec) == (1, 1333)
    assert input_size((1, 1), spec) == (800, 800)


@pytest.mark.parametrize("resize", RESIZE)
def test_without_shrink_only_max_size_reduces_the_image(resize: str) -> None:
    spec = InputSpec(size=400, max_size=2000, resize=resize, shrink=False)  # type: ignore[arg-type]
    assert input_size((520, 696), spec) == (520, 696)
    assert input_size((256, 320), spec) == (400, 500)
    assert input_size((4000, 3000), spec) == (2000, 1500)
    assert input_size((520, 696), InputSpec(size=400, max_size=None, shrink=False)) == (520, 696)


def source_image(size: tuple[int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


MEAN, STD = (10.0, 20.0, 30.0), (2.0, 4.0, 8.0)
SHAPES = [(31, 47), (64, 40), (1, 1), (1, 90), (130, 3)]


@pytest.mark.parametrize("size", SHAPES)
@pytest.mark.parametrize("channels", ["RGB", "BGR"])
def test_pillow_pixels_are_pillows(size: tuple[int, int], channels: str) -> None:
    spec = InputSpec(size=40, max_size=100, resize="pillow", channels=channels, mean=MEAN, std=STD)  # type: ignore[arg-type]
    h, w = input_size(size, spec)
    resized = np.asarray(Image.fromarray(source_image(size)).resize((w, h), Image.Resampling.BILINEAR)).astype(
        np.float64
    )
    ordered = resized if channels == "RGB" else resized[:, :, ::-1]
    expected = ((ordered - MEAN) / STD).transpose(2, 0, 1).astype(np.float32)
    found = resize_normalise(source_image(size), spec)
    torch.testing.assert_close(found, torch.from_numpy(expected), rtol=1e-6, atol=1e-5)
    assert found.dtype == torch.float32


@pytest.mark.parametrize("size", SHAPES)
@pytest.mark.parametrize("channels", ["RGB", "BGR"])
def test_float_pixels_are_interpolated_after_normalising(size: tuple[int, int], channels: str) -> None:
    spec = InputSpec(size=40, max_size=100, resize="float", channels=channels, mean=MEAN, std=STD)  # type: ignore[arg-type]
    ordered = source_image(size) if channels == "RGB" else source_image(size)[:, :, ::-1]
    plain = torch.from_numpy(((ordered.astype(np.float64) - MEAN) / STD).astype(np.float32)).permute(2, 0, 1)
    expected = F.interpolate(plain[None], input_size(size, spec), mode="bilinear", align_corners=False)[0]
    torch.testing.assert_close(resize_normalise(source_image(size), spec), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("resize", RESIZE)
def test_read_only_and_strided_images(resize: str) -> None:
    spec = InputSpec(size=20, max_size=40, resize=resize)  # type: ignore[arg-type]
    wide = source_image((30, 80))
    view = wide[:, ::2]
    view.flags.writeable = False
    expected = resize_normalise(np.ascontiguousarray(view), spec)
    assert torch.equal(resize_normalise(view, spec), expected)
    assert np.array_equal(wide, source_image((30, 80)))


def test_an_image_of_the_right_size_keeps_its_pixels() -> None:
    image = source_image((40, 60))
    for resize in RESIZE:
        spec = InputSpec(size=40, max_size=60, resize=resize, mean=(0, 0, 0), std=(1, 1, 1))  # type: ignore[arg-type]
        assert torch.equal(resize_normalise(image, spec), torch.from_numpy(image).permute(2, 0, 1).float())


@PROPERTY
@given(st.lists(st.tuples(st.integers(1, 50), st.integers(1, 50)), min_size=1, max_size=4), st.sampled_from([1, 8, 32]))
def test_padding(shapes: list[tuple[int, int]], multiple: int) -> None:
    images = [torch.full((3, *shape), float(i + 1)) for i, shape in enumerate(shapes)]
    batch = pad_batch(images, multiple)
    height, width = padded_size(shapes, multiple)
    assert batch.shape == (len(shapes), 3, height, width)
    assert height % multiple == width % multiple == 0
    assert 0 <= height - max(h for h, _ in shapes) < multiple
    assert 0 <= width - max(w for _, w in shapes) < multiple
    assert batch.is_contiguous(memory_format=torch.channels_last)
    for row, image, (h, w) in zip(batch, images, shapes, strict=True):
        assert torch.equal(row[:, :h, :w], image)
        assert float(row.sum()) == float(image.sum())


@pytest.mark.parametrize("resize", ["pillow", "float"])
def test_no_image_is_enlarged_beyond_the_factor(resize: str) -> None:
    spec = InputSpec(size=800, max_size=2000, resize=resize, shrink=False, enlarge=2.0)  # type: ignore[arg-type]
    assert input_size((256, 320), spec) == (512, 640)
    assert input_size((520, 696), spec) == input_size((520, 696), replace(spec, enlarge=None))
    assert input_size((1000, 1200), spec) == (1000, 1200)
    assert input_size((1, 1), spec) == (2, 2)
    with pytest.raises(ConfigError, match="at least 1"):
        replace(spec, enlarge=0.5)


# ---- squares --------------------------------------------------------------------------------------------------------


@PROPERTY
@given(sizes, st.integers(1, 2000), st.sampled_from(RESIZE))
def test_stretching_fills_the_square(size: tuple[int, int], side: int, resize: str) -> None:
    spec = InputSpec(size=side, fit="stretch", resize=resize)  # type: ignore[arg-type]
    assert input_size(size, spec) == (side, side)
    assert spec.square == 0


@PROPERTY
@given(sizes, st.integers(1, 2000), st.sampled_from(RESIZE), st.floats(1, 5) | st.none())
def test_a_letterbox_holds_the_whole_image(
    size: tuple[int, int], side: int, resize: str, enlarge: float | None
) -> None:
    spec = InputSpec(size=side, fit="letterbox", resize=resize, enlarge=enlarge)  # type: ignore[arg-type]
    found = input_size(size, spec)
    exact = Fraction(side, max(size))
    if enlarge is not None:
        exact = min(exact, Fraction(enlarge))
    else:
        assert max(found) == side
    assert max(found) <= side
    for got, edge in zip(found, size, strict=True):
        assert abs(got - max(exact * edge, 1)) <= Fraction(1, 2) + Fraction(1, 10**6)
    assert input_size(size[::-1], spec) == found[::-1]
    assert padded_size([found], 1, spec.square) == (side, side)


@pytest.mark.parametrize("size", SHAPES)
def test_letterboxed_pixels_are_the_image_and_zeros(size: tuple[int, int]) -> None:
    spec = InputSpec(size=50, fit="letterbox", mean=MEAN, std=STD, multiple=1)
    pixels = resize_normalise(source_image(size), spec)
    batch = pad_batch([pixels], spec.multiple, spec.square)
    h, w = pixels.shape[1:]
    assert batch.shape == (1, 3, 50, 50)
    assert max(h, w) == 50
    assert torch.equal(batch[0, :, :h, :w], pixels)
    assert not batch[:, :, h:].any()
    assert not batch[:, :, :, w:].any()


def test_images_of_any_size_share_a_square_batch() -> None:
    for fit in ("stretch", "letterbox"):
        spec = InputSpec(size=33, fit=fit, multiple=1)  # type: ignore[arg-type]
        batch = pad_batch([resize_normalise(source_image(size), spec) for size in SHAPES], spec.multiple, spec.square)
        assert batch.shape == (len(SHAPES), 3, 33, 33)


def test_a_square_is_padded_to_the_multiple_too() -> None:
    spec = InputSpec(size=33, fit="letterbox", multiple=32)
    assert padded_size([(20, 33)], spec.multiple, spec.square) == (64, 64)


def test_normalising_alone_keeps_the_size() -> None:
    for fit in ("short_edge", "stretch", "letterbox"):
        spec = InputSpec(size=20, fit=fit, mean=MEAN, std=STD)  # type: ignore[arg-type]
        expected = (torch.from_numpy(source_image((31, 47))).float() - torch.tensor(MEAN)) / torch.tensor(STD)
        assert torch.equal(normalise(source_image((31, 47)), spec), expected.permute(2, 0, 1))


@pytest.mark.parametrize(
    ("fit", "wrong"),
    [("stretch", {"enlarge": 2.0}), ("stretch", {"shrink": False}), ("letterbox", {"shrink": False}), ("squeeze", {})],
)
def test_contradictory_rules_are_refused(fit: str, wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=fit):
        InputSpec(fit=fit, **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("i", [0, 1])
def test_stretched_pixels_are_those_of_the_yolact_code(i: int, shared: Path) -> None:
    golden = np.load(shared / "golden/yolact/yolact_resnet50/golden.npz")
    image = np.ascontiguousarray(golden[f"img{i}_bgr"][:, :, ::-1])
    mean, std = (123.68, 116.78, 103.94), (58.40, 57.12, 57.38)
    spec = InputSpec(size=550, fit="stretch", resize="float", mean=mean, std=std)
    found = resize_normalise(image, spec)
    assert found.shape == (3, 550, 550)
    for name in (f"in{i}", f"incv{i}"):
        np.testing.assert_allclose(found[:, ::11, ::11].numpy(), golden[name], atol=1e-4)
