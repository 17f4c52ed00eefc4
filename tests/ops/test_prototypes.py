"""Prototype masks against dense twins: on stretched, padded, letterboxed and enlarged inputs."""

import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.reference import prototypes as twin

from maskwright.errors import ConfigError
from maskwright.geometry import Geometry
from maskwright.ops import enlarge, prototypes
from maskwright.ops.prototypes import draw, logits, soft_masks, window

PROPERTY = settings(max_examples=60, deadline=None)
side = st.integers(1, 40)
shapes = st.tuples(st.integers(1, 12), st.integers(1, 12))


def drawn(seed: int, shape: tuple[int, int], span: tuple[int, int], count: int = 3) -> tuple[torch.Tensor, ...]:
    """Prototypes, coefficients and boxes; some boxes reach out of the input, some lie outside, some are turned."""
    rng = np.random.default_rng(seed)
    protos = torch.from_numpy(rng.random((*shape, 5), np.float32) * 2)
    coefs = torch.from_numpy(rng.uniform(-1, 1, (count, 5)).astype(np.float32))
    boxes = rng.uniform(-0.3, 1.3, (count, 4)) * [span[1], span[0], span[1], span[0]]
    boxes[::2, 2:] = boxes[::2, :2] + np.abs(boxes[::2, 2:] - boxes[::2, :2])
    return protos, coefs, torch.from_numpy(boxes.astype(np.float32))


def assert_masks(found: np.ndarray, values: torch.Tensor, level: float) -> None:
    """Equal but where the value is the level itself, to rounding."""
    sure = (values - level).abs().numpy() > 1e-5
    assert np.array_equal(found & sure, (values > level).numpy() & sure)


# ---- at the map's resolution ----------------------------------------------------------------------------------------


@PROPERTY
@given(shapes, st.tuples(side, side), st.floats(0, 3), st.integers(0, 10**6))
def test_soft_masks_cell_by_cell(shape: tuple[int, int], span: tuple[int, int], margin: float, seed: int) -> None:
    protos, coefs, boxes = drawn(seed, shape, span)
    found = soft_masks(protos, coefs, boxes, span, margin)
    torch.testing.assert_close(found.double(), twin.cropped(protos, coefs, boxes, span, margin), atol=1e-6, rtol=0)
    assert logits(protos, coefs).shape == (3, *shape)


def test_the_window_equals_the_published_code() -> None:
    """A box from 2.5 to 4.5 cells and one cell: whole numbers from 1.5 to below 5.5."""
    found = window(torch.tensor([[25.0, 30.0, 45.0, 40.0]]), (10, 10), (100, 100))
    assert found.any(1)[0].nonzero().flatten().tolist() == [2, 3, 4, 5]
    assert found.any(2)[0].nonzero().flatten().tolist() == [2, 3, 4]


# ---- on the image -------------------------------------------------------------------------------------------------


@PROPERTY
@given(shapes, st.tuples(side, side), st.tuples(side, side), st.floats(0, 3), st.integers(0, 10**6))
def test_a_stretched_image_equals_the_published_code(
    shape: tuple[int, int], span: tuple[int, int], size: tuple[int, int], margin: float, seed: int
) -> None:
    protos, coefs, boxes = drawn(seed, shape, span)
    found = draw(protos, coefs, boxes, span, Geometry.resize(size, span), margin=margin)
    assert found.size == size
    assert_masks(found.dense(), twin.enlarged(twin.cropped(protos, coefs, boxes, span, margin), size), 0.5)


geometries = st.tuples(side, side).flatmap(
    lambda size: st.builds(
        lambda scaled, more: (Geometry.resize(size, scaled), (scaled[0] + more[0], scaled[1] + more[1])),
        st.tuples(side, side),
        st.tuples(st.integers(0, 15), st.integers(0, 15)),
    )
)


@PROPERTY
@given(shapes, geometries, st.floats(0, 3), st.sampled_from([0.3, 0.5, 0.8]), st.integers(0, 10**6))
def test_a_padded_image(
    shape: tuple[int, int], placed: tuple[Geometry, tuple[int, int]], margin: float, threshold: float, seed: int
) -> None:
    geometry, span = placed
    protos, coefs, boxes = drawn(seed, shape, span)
    found = draw(protos, coefs, boxes, span, geometry, margin=margin, threshold=threshold)
    maps = twin.cropped(protos, coefs, boxes, span, margin)
    assert_masks(found.dense(), twin.on_image(maps, span, geometry), threshold)


@PROPERTY
@given(shapes, geometries, st.floats(0, 3), st.sampled_from([0.3, 0.5, 0.8]), st.integers(0, 10**6))
def test_upsampling_logits_and_cropping_on_the_image(
    shape: tuple[int, int], placed: tuple[Geometry, tuple[int, int]], margin: float, threshold: float, seed: int
) -> None:
    geometry, span = placed
    protos, coefs, boxes = drawn(seed, shape, span)
    found = draw(protos, coefs, boxes, span, geometry, margin=margin, upsample="logits", threshold=threshold)
    values = twin.on_image(logits(protos, coefs).double(), span, geometry).sigmoid()
    values *= twin.inside(boxes, shape, span, geometry, margin)
    assert_masks(found.dense(), values, threshold)


def test_a_shifted_image() -> None:
    geometry = Geometry.pad((20, 30), top=5, left=7, bottom=1, right=2)
    protos, coefs, boxes = drawn(3, (6, 9), geometry.size, 20)
    found = draw(protos, coefs, boxes, geometry.size, geometry)
    maps = twin.cropped(protos, coefs, boxes, geometry.size, 1.0)
    assert_masks(found.dense(), twin.on_image(maps, geometry.size, geometry), 0.5)


def test_exactly_the_threshold_is_outside() -> None:
    geometry, box = Geometry.identity((8, 8)), torch.tensor([[0.0, 0, 8, 8]])
    for upsample in ("masks", "logits"):
        found = draw(torch.zeros(4, 4, 2), torch.ones(1, 2), box, (8, 8), geometry, upsample=upsample)  # type: ignore[arg-type]
        assert found.areas().tolist() == [0]
        protos = torch.zeros(8, 8, 1)  # pixels lie on cells: beside the one that is set they have just the threshold
        protos[4, 4] = 5
        found = draw(protos, torch.ones(1, 1), box, (8, 8), geometry, upsample=upsample)  # type: ignore[arg-type]
        assert found.areas().tolist() == [1]


def test_no_instances_and_types() -> None:
    geometry = Geometry.resize((30, 40), (16, 16))
    none = draw(torch.zeros(4, 4, 2), torch.zeros(0, 2), torch.zeros(0, 4), (16, 16), geometry)
    assert (len(none), none.size) == (0, (30, 40))
    protos, coefs, boxes = drawn(1, (4, 4), (16, 16))
    half = draw(protos.bfloat16(), coefs.bfloat16(), boxes.bfloat16(), (16, 16), geometry)
    same = draw(protos.bfloat16().float(), coefs.bfloat16().float(), boxes.bfloat16().float(), (16, 16), geometry)
    assert np.array_equal(half.dense(), same.dense())


@pytest.mark.parametrize("size", [(1, 1), (20000, 50), (1, 3000)])
@pytest.mark.parametrize("upsample", ["masks", "logits"])
def test_extreme_images(size: tuple[int, int], upsample: str) -> None:
    whole = torch.tensor([[0.0, 0, 64, 64]])
    found = draw(torch.ones(17, 17, 1), torch.ones(1, 1), whole, (64, 64), Geometry.resize(size, (64, 64)),
                 upsample=upsample)  # type: ignore[arg-type]  # fmt: skip
    assert found.areas().tolist() == [size[0] * size[1]]


def test_large_objects_are_drawn_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    geometry = Geometry.resize((90, 70), (32, 32))
    protos, coefs, boxes = drawn(5, (16, 16), (32, 32), 10)
    at_once = draw(protos, coefs, boxes, (32, 32), geometry)
    monkeypatch.setattr(prototypes, "TILES", 3)
    monkeypatch.setattr(enlarge, "CACHED", 2)
    assert np.array_equal(at_once.dense(), draw(protos, coefs, boxes, (32, 32), geometry).dense())
    monkeypatch.setattr(prototypes, "CELLS", 1)
    assert np.array_equal(at_once.dense(), draw(protos, coefs, boxes, (32, 32), geometry).dense())
    assert at_once.areas().sum() > 1000


@pytest.mark.parametrize("whole", [0, 10**9])
@pytest.mark.parametrize("upsample", ["masks", "logits"])
def test_small_objects_on_a_large_map(monkeypatch: pytest.MonkeyPatch, whole: int, upsample: str) -> None:
    """The sums are made in the windows alone, or everywhere and the windows cut out of them."""
    monkeypatch.setattr(prototypes, "WHOLE", whole)
    monkeypatch.setattr(prototypes, "GATHERED", 1000)
    geometry, rng = Geometry.resize((130, 90), (96, 64)), np.random.default_rng(0)
    protos, coefs, _ = drawn(6, (48, 32), geometry.size, 60)
    corner = rng.uniform(-4, 92, (60, 2)) * [64 / 96, 1]
    boxes = torch.from_numpy(np.concatenate([corner, corner + rng.uniform(1, 12, (60, 2))], 1).astype(np.float32))
    found = draw(protos, coefs, boxes, geometry.size, geometry, upsample=upsample)  # type: ignore[arg-type]
    if upsample == "masks":
        values = twin.on_image(twin.cropped(protos, coefs, boxes, geometry.size, 1.0), geometry.size, geometry)
    else:
        values = twin.on_image(logits(protos, coefs).double(), geometry.size, geometry).sigmoid()
        values *= twin.inside(boxes, (48, 32), geometry.size, geometry, 1.0)
    assert_masks(found.dense(), values, 0.5)
    assert (found.areas() > 0).sum() > 40


@pytest.mark.parametrize("geometry", [Geometry.flip((9, 9), horizontal=True), Geometry.affine((9, 9), degrees=5)])
def test_rotated_and_mirrored_geometries_are_refused(geometry: Geometry) -> None:
    with pytest.raises(ConfigError, match="rotates, shears or mirrors"):
        draw(torch.zeros(4, 4, 2), torch.zeros(0, 2), torch.zeros(0, 4), (9, 9), geometry)


def test_memory_follows_the_objects() -> None:
    """Two thousand small objects on a large image; each whole-image mask would be 24 MB."""
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 540, (2000, 2))
    boxes = torch.from_numpy(np.concatenate([corner, corner + 4], 1).astype(np.float32))
    protos, coefs = torch.rand(138, 138, 8), torch.from_numpy(rng.normal(0, 1, (2000, 8)).astype(np.float32))
    geometry = Geometry.resize((4000, 6000), (550, 550))
    for upsample in ("masks", "logits"):
        tracemalloc.start()
        try:
            found = draw(protos, coefs, boxes, (550, 550), geometry, upsample=upsample)  # type: ignore[arg-type]
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        kept = sum(crop.size for crop in found.bitmaps)
        assert 5e6 < found.areas().sum() < kept < 40e6
        assert peak < kept + 10e6


def test_crops_are_not_larger_than_they_must_be() -> None:
    """A full mask fills its crop but for the pixels on the edge."""
    boxes = torch.tensor([[100.0, 100, 400, 300]])
    protos = torch.full((138, 138, 1), -9.0)
    protos[40:50, 60:80] = 9
    geometry = Geometry.resize((720, 1280), (550, 550))
    found = draw(protos, torch.ones(1, 1), boxes, (550, 550), geometry)
    assert found.areas()[0] > 0.7 * found.bitmaps[0].size > 1000
    assert draw(-protos.abs(), torch.ones(1, 1), boxes, (550, 550), geometry).bitmaps[0].size == 0
