"""Masks as run lengths, polygons and measures, against pycocotools, scikit-image and slow twins."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as oracle
from scipy import ndimage
from skimage.measure import perimeter_crofton
from tests.reference import masks as slow

from maskwright.errors import DataError
from maskwright.ops.masks import PolygonPart, decode, encode, from_coco_polygons, from_polygons, measure, to_polygons
from maskwright.types import Masks


@st.composite
def dense_masks(draw):
    """(N, H, W) noise from sparse dots to solid with holes; an array strategy would hardly make holes and parts."""
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    shape = draw(st.tuples(st.integers(0, 3), st.integers(1, 17), st.integers(1, 17)))
    return rng.random(shape) < draw(st.sampled_from([0, 0.05, 0.3, 0.5, 0.7, 0.95, 1]))


many = settings(max_examples=60, deadline=None)


def oracle_rle(mask):
    return oracle.encode(np.asfortranarray(mask.astype(np.uint8)))


def spread_masks(count=1000, size=(4000, 6000), side=97):
    """Disks all over a large image."""
    rng = np.random.default_rng(0)
    y, x = np.ogrid[:side, :side]
    disk = (y - side / 2) ** 2 + (x - side / 2) ** 2 < (side / 2 - 1) ** 2
    corners = np.stack([rng.integers(0, limit - side, count) for limit in size], axis=1)
    return Masks(size, corners, (disk,) * count)


class TestRunLengths:
    @given(dense_masks())
    @many
    def test_same_characters_as_the_coco_api_and_back(self, dense):
        masks = Masks.from_dense(dense)
        rles = encode(masks)
        for rle, mask in zip(rles, dense, strict=True):
            assert rle == {"size": list(mask.shape), "counts": oracle_rle(mask)["counts"].decode()}
        back = decode(rles, masks.size)
        np.testing.assert_array_equal(back.dense(), dense)
        np.testing.assert_array_equal(back.corners, masks.corners)  # crops are tight
        assert [c.shape for c in back.bitmaps] == [c.shape for c in masks.bitmaps]

    def test_crops_need_not_be_tight(self):
        crop = np.zeros((5, 4), np.bool_)
        crop[2, 1:3] = True
        masks = Masks((9, 8), np.array([[3, 2]]), (crop,))
        assert encode(masks)[0]["counts"].encode() == oracle_rle(masks.dense()[0])["counts"]

    @given(dense_masks())
    @many
    def test_uncompressed_and_bytes_counts_are_read(self, dense):
        for mask in dense:
            counts = slow.run_lengths(mask)
            for form in (counts, np.array(counts), oracle_rle(mask)["counts"]):
                rle = {"size": list(mask.shape), "counts": form}
                np.testing.assert_array_equal(decode([rle]).dense()[0], mask)

    def test_zero_lengths_inside_are_harmless(self):
        rle = {"size": [3, 2], "counts": [1, 2, 0, 1, 2, 0]}
        assert decode([rle]).dense()[0].T.ravel().tolist() == [False, True, True, True, False, False]

    def test_no_masks(self):
        assert encode(Masks.empty((4, 5))) == []
        assert decode([], (4, 5)).size == (4, 5)
        with pytest.raises(DataError, match="give size"):
            decode([])

    @pytest.mark.parametrize("size", [(1, 1), (50, 20000), (20000, 50)])
    def test_odd_images(self, size):
        mask = np.ones((1, *size), np.bool_)
        rles = encode(Masks.from_dense(mask))
        assert rles[0]["counts"].encode() == oracle_rle(mask[0])["counts"]
        assert decode(rles).areas().tolist() == [size[0] * size[1]]

    @pytest.mark.parametrize(
        ("rle", "says"),
        [
            ({"size": [3, 3], "counts": [4, 4]}, "cover 8 pixels"),
            ({"size": [3, 3], "counts": [4, -1, 6]}, "negative"),
            ({"size": [3, 3], "counts": [4.5, 4.5]}, "whole numbers"),
            ({"size": [3, 3], "counts": [[4, 5]]}, "whole numbers"),
            ({"size": [3, 3], "counts": None}, "str, bytes or a list"),
            ({"size": [3, 3], "counts": "4é"}, "ASCII"),
            ({"size": [3, 3], "counts": "4 "}, "characters"),
            ({"size": [3, 3], "counts": "o"}, "cut off"),
            ({"size": [3, 3], "counts": "o" * 20 + "0"}, "damaged"),
            ({"size": [3, 3], "counts": "@"}, "negative"),
            ({"size": [3, 3], "counts": ""}, "cover 0 pixels"),
            ({"size": [3], "counts": "9"}, "'size'"),
            ({"size": [3.0, 3], "counts": "9"}, "whole"),
            ({"counts": "9"}, "expected a dict"),
            ([1, 2, 3], "expected a dict"),
            ({"size": [3, 4], "counts": "<"}, "expected \\[3, 3\\]"),
        ],
    )
    def test_damaged_rles_are_errors_that_name_the_fault(self, rle, says):
        good = {"size": [3, 3], "counts": "9"}
        with pytest.raises(DataError, match=f"RLE 1: .*{says}"):
            decode([good, rle])

    @given(st.text(st.characters(min_codepoint=48, max_codepoint=111), max_size=30))
    @many
    def test_random_text_is_an_rle_or_an_error(self, text):
        try:
            masks = decode([{"size": [5, 7], "counts": text}])
        except DataError:
            return
        assert masks.dense().shape == (1, 5, 7)

    def test_a_thousand_on_a_large_image(self):
        masks = spread_masks()
        rles = encode(masks)
        back = decode(rles)
        assert rles[7]["counts"].encode() == oracle_rle(masks[7].dense()[0])["counts"]
        assert (back.areas() == masks.areas()).all()
        assert all((a.dense() == b.dense()).all() for a, b in zip(back[:3], masks[:3], strict=True))
        tracemalloc.start()
        encode(masks[:100])
        decode(rles[:100])
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 24e6  # one dense mask of this image


class TestPolygons:
    @given(dense_masks())
    @many
    def test_round_trip_is_exact(self, dense):
        masks = Masks.from_dense(dense)
        parts = to_polygons(masks)
        np.testing.assert_array_equal(from_polygons(parts, masks.size).dense(), dense)

    @given(dense_masks())
    @many
    def test_outlines_are_valid(self, dense):
        for mask, parts in zip(dense, to_polygons(Masks.from_dense(dense)), strict=True):
            pieces, count = ndimage.label(mask)
            assert len(parts) == count
            for k, alone in enumerate(from_polygons([[part] for part in parts], mask.shape).dense()):
                np.testing.assert_array_equal(alone, pieces == k + 1)  # every hole is in its own part
            area = 0.0
            for part in parts:
                for sign, ring in ((1, part.outer), *((-1, hole) for hole in part.holes)):
                    assert len({tuple(p) for p in ring}) == len(ring)  # no point twice
                    steps = np.roll(ring, -1, axis=0) - ring
                    turns = (steps != 0).all(axis=1) | ((np.roll(steps, 1, axis=0) != 0) == (steps != 0)).any(axis=1)
                    assert not turns.any()  # every point is a corner between a row and a column
                    x, y = ring.T
                    signed = (x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2
                    assert signed * sign > 0
                    area += signed
            assert area == mask.sum()

    def test_known_shapes(self):
        one = to_polygons(Masks.from_dense(np.ones((1, 1, 1), np.bool_)))[0]
        assert one[0].outer.tolist() == [[0, 0], [1, 0], [1, 1], [0, 1]]
        assert one[0].holes == ()
        ring = np.ones((1, 5, 6), np.bool_)
        ring[0, 2, 2:4] = False
        (part,) = to_polygons(Masks.from_dense(ring))[0]
        assert {tuple(p) for p in part.outer} == {(0, 0), (6, 0), (6, 5), (0, 5)}
        assert {tuple(p) for p in part.holes[0]} == {(2, 2), (4, 2), (4, 3), (2, 3)}
        assert len(to_polygons(Masks.from_dense(np.eye(3, dtype=np.bool_)[None]))[0]) == 3
        assert to_polygons(Masks.empty((3, 3))) == []
        assert to_polygons(Masks.from_dense(np.zeros((1, 3, 3)))) == [[]]

    @given(st.integers(0, 10**6))
    @many
    def test_any_polygon_equals_the_slow_twin(self, seed):
        rng = np.random.default_rng(seed)
        size = tuple(rng.integers(1, 14, 2))
        parts = [
            PolygonPart(
                rng.uniform(-4, 18, (rng.integers(3, 8), 2)), (rng.uniform(0, 9, (3, 2)),) * int(rng.integers(0, 2))
            )
            for _ in range(rng.integers(1, 2))
        ]
        np.testing.assert_array_equal(from_polygons([parts], size).dense()[0], slow.fill(parts, size))

    def test_parts_are_united(self):
        square = np.array([[0.0, 0], [4, 0], [4, 4], [0, 4]])
        hole = np.array([[1.0, 1], [3, 1], [3, 3], [1, 3]])
        both = from_polygons([[PolygonPart(square, (hole,)), PolygonPart(square + 2)]], (8, 8)).dense()[0]
        np.testing.assert_array_equal(both, slow.fill([(square, (hole,)), (square + 2, ())], (8, 8)))

    def test_far_and_degenerate_rings(self):
        far = np.array([[-1e12, -1e12], [1e12, -1e12], [1e12, 1e12], [-1e12, 1e12]])
        assert from_polygons([[PolygonPart(far)]], (20, 30)).areas().tolist() == [600]
        assert from_polygons([[PolygonPart(far[:2])], [], [PolygonPart(far + 3e12)]], (20, 30)).areas().tolist() == [
            0,
            0,
            0,
        ]

    @pytest.mark.parametrize("ring", [np.zeros((3, 3)), np.zeros(6), np.full((3, 2), np.nan)])
    def test_bad_rings_are_named(self, ring):
        with pytest.raises(DataError, match="instance 1"):
            from_polygons([[], [PolygonPart(ring)]], (5, 5))

    def test_a_large_blob_is_exact(self):
        noise = np.random.default_rng(0).standard_normal((1000, 1000))
        blob = ndimage.gaussian_filter(noise, 20) > 0
        masks = Masks.from_dense(blob[None])
        np.testing.assert_array_equal(from_polygons(to_polygons(masks), masks.size).dense()[0], blob)


class TestCocoPolygons:
    @given(st.integers(0, 10**6))
    @settings(max_examples=200, deadline=None)
    @pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own
    def test_equal_to_the_coco_api(self, seed):
        rng = np.random.default_rng(seed)
        h, w = (int(v) for v in rng.integers(1, 70, 2))
        polygons = []
        for _ in range(rng.integers(1, 4)):
            points = rng.random((rng.integers(3, 9), 2)) * [w, h] * rng.choice([0.5, 1, 1.7]) - rng.choice([0, 5, 20])
            points = np.round(points * 2) / 2 if rng.random() < 0.4 else points
            polygons.append(points.ravel().tolist())
        expected = oracle.decode(oracle.merge(oracle.frPyObjects(polygons, h, w)))
        masks = from_coco_polygons([polygons, polygons[:1]], (h, w))
        np.testing.assert_array_equal(masks.dense()[0], expected.astype(bool))
        np.testing.assert_array_equal(masks.dense()[1], oracle.decode(oracle.frPyObjects(polygons[:1], h, w))[..., 0])

    def test_degenerate(self):
        flat = [[2, 2, 2, 2, 2, 2], [1, 1, 4, 4], [0, 3, 5, 3, 2, 3]]
        assert from_coco_polygons([*([p] for p in flat), []], (6, 6)).areas().tolist() == [0, 0, 0, 0]
        assert from_coco_polygons([], (6, 7)).size == (6, 7)

    @pytest.mark.parametrize(
        "polygon",
        [[1, 2], [1, 2, 3, 4, 5], [1, 2, 3, float("nan"), 5, 6], [1e9, 0, 0, 1, 1, 1], "abc", [[1, 2], [3, 4]]],
    )
    def test_bad_polygons_are_named(self, polygon):
        with pytest.raises(DataError, match="instance 1"):
            from_coco_polygons([[[0, 0, 1, 0, 1, 1]], [polygon]], (6, 6))


class TestMeasure:
    @given(dense_masks())
    @many
    def test_against_scikit_image_and_numpy(self, dense):
        found = measure(Masks.from_dense(dense))
        for i, mask in enumerate(dense):
            assert found["area"][i] == mask.sum()
            assert found["perimeter"][i] == pytest.approx(perimeter_crofton(mask, directions=4) if mask.any() else 0)
            if mask.any():
                y, x = np.nonzero(mask)
                assert found["centroid_x"][i] == pytest.approx(x.mean() + 0.5)
                assert found["centroid_y"][i] == pytest.approx(y.mean() + 0.5)
            else:
                assert np.isnan(found["centroid_x"][i])

    def test_a_disk(self):
        y, x = np.mgrid[:301, :301] + 0.5
        found = measure(Masks.from_dense(((x - 150) ** 2 + (y - 140) ** 2 < 120**2)[None]))
        assert found["perimeter"][0] == pytest.approx(2 * np.pi * 120, rel=0.01)
        assert found["area"][0] == pytest.approx(np.pi * 120**2, rel=0.001)
        assert (found["centroid_x"][0], found["centroid_y"][0]) == pytest.approx((150, 140), abs=1e-9)

    def test_none(self):
        assert all(v.shape == (0,) for v in measure(Masks.empty((3, 3))).values())
