"""Overlays, cut-outs and label maps."""

from dataclasses import replace

import numpy as np
import pytest

from maskwright.draw import color, cutouts, label_map, overlay
from maskwright.errors import ConfigError, DataError, ImageError
from maskwright.types import Classes, Instances, Landmarks, Masks


def disks(centres, radius=12, size=(90, 120), names=("cell",), scores=None):
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    dense = np.array([(x - cx) ** 2 + (y - cy) ** 2 < radius**2 for cx, cy in centres]).reshape(-1, *size)
    masks = Masks.from_dense(dense, size)
    n = len(masks)
    labels = np.arange(n) % len(names)
    scores = np.linspace(0.9, 0.5, n) if scores is None else scores
    return Instances(masks.boxes(), scores, labels, Classes(names), size, masks)


GREY = np.full((90, 120, 3), 128, np.uint8)


class TestOverlay:
    def test_fill_and_outline(self):
        found = disks([(40, 40)])
        image = GREY.copy()
        out = overlay(image, found, labels=False, scores=False, opacity=0.5, outline=2)
        assert (image == 128).all()  # a new array
        assert out.shape == image.shape
        assert out.dtype == np.uint8
        mask = found.masks[0]
        assert (out[~mask] == 128).all()
        shade = np.array(color(0))
        np.testing.assert_allclose(out[40, 40], (128 + shade) / 2, atol=1)
        rim = (out == shade).all(axis=2)
        assert rim[40, 28]
        assert rim[40, 29]
        assert not rim[40, 31]
        assert not rim[~mask].any()

    def test_no_fill_no_outline_changes_nothing(self):
        out = overlay(GREY, disks([(40, 40)]), labels=False, scores=False, opacity=0, outline=0)
        np.testing.assert_array_equal(out, GREY)

    def test_small_objects_are_drawn_over_large_ones(self):
        size = (90, 120)
        small, large = disks([(60, 45)], 8, size), disks([(60, 45)], 40, size)
        for first, second in ((small, large), (large, small)):
            masks = Masks.from_dense(np.concatenate([first.masks, second.masks]))
            both = Instances(masks.boxes(), [0.9, 0.8], [0, 0], Classes(["cell"]), size, masks)
            out = overlay(GREY, both, labels=False, scores=False, opacity=1)
            assert out[45, 60].tolist() == list(color(0 if first is small else 1))

    def test_texts(self):
        found = disks([(60, 45)], radius=30)
        plain = overlay(GREY, found, labels=False, scores=False)
        both, name, score = overlay(GREY, found), overlay(GREY, found, scores=False), overlay(GREY, found, labels=False)
        changed = [(a != plain).any(axis=2).sum() for a in (both, name, score)]
        assert changed[0] > changed[1] > 100
        assert changed[0] > changed[2] > 100

    def test_no_texts_on_tiny_objects_nor_in_crowds(self):
        tiny = disks([(30, 30), (60, 45)], radius=2)
        np.testing.assert_array_equal(overlay(GREY, tiny), overlay(GREY, tiny, labels=False, scores=False))
        crowd = disks([(x, y) for x in range(8, 120, 12) for y in range(8, 90, 12)], radius=6)
        np.testing.assert_array_equal(overlay(GREY, crowd), overlay(GREY, crowd, labels=False, scores=False))

    @pytest.mark.parametrize("boxes_only", [False, True])
    def test_texts_in_a_small_image_hide_no_object(self, boxes_only):
        size = (96, 133)
        spots = [(20, 20), (44, 22), (30, 40), (60, 40), (80, 22), (110, 30), (20, 75), (60, 78), (100, 75)]
        found = disks(spots, radius=11, size=size, names=("ellipse", "ring", "star"))
        if boxes_only:
            found = Instances(found.boxes, found.scores, found.labels, found.classes, size)
        grey = np.full((*size, 3), 128, np.uint8)
        plain = overlay(grey, found, labels=False, scores=False)
        changed = (overlay(grey, found) != plain).any(axis=2)
        assert changed.sum() > 9 * 100  # there are texts
        shares = [changed[int(y0) : int(y1), int(x0) : int(x1)].mean() for x0, y0, x1, y1 in found.boxes]
        assert max(shares) < 0.35
        if not boxes_only:
            assert max(changed[mask].mean() for mask in found.masks) <= 0.25

    def test_texts_follow_the_image(self):
        heights = []
        for size in ((96, 133), (256, 256), (720, 1280), (1500, 1500)):
            middle = (size[1] / 2, size[0] / 2)
            one = disks([middle], radius=size[0] / 5, size=size)
            plain, written = (overlay(np.full(size, 128, np.uint8), one, labels=on, scores=on) for on in (False, True))
            heights.append(int((written != plain).any(axis=(1, 2)).sum()))
        assert heights == [11, 15, 23, 32]

    def test_texts_of_some_and_any_colours(self):
        found = disks([(25, 45), (60, 45), (95, 45)], radius=15)
        first = overlay(GREY, found, labels=False, scores=False, colors=[9, 2, 9], opacity=1)
        assert [first[45, x].tolist() for x in (25, 60, 95)] == [list(color(k)) for k in (9, 2, 9)]
        out = overlay(GREY, found, texts=[False, True, False], colors=[9, 2, 9], opacity=1)
        columns = np.nonzero((out != first).any(axis=(0, 2)))[0]
        assert columns.min() >= 35
        assert columns.max() < 110
        np.testing.assert_array_equal(overlay(GREY, found, texts=[False] * 3, colors=[9, 2, 9], opacity=1), first)
        with pytest.raises(ConfigError, match="2 indices, expected one for each of 3"):
            overlay(GREY, found, colors=[1, 2])
        with pytest.raises(ConfigError, match="texts has 2 values, expected one for each of 3"):
            overlay(GREY, found, texts=[True, False])

    def test_boxes(self):
        found = disks([(40, 40)])
        without = Instances(found.boxes, found.scores, found.labels, found.classes, found.size)
        for instances, options in ((found, {"boxes": True, "opacity": 0}), (without, {})):
            out = overlay(GREY, instances, labels=False, scores=False, outline=1, **options)
            x0, y0, x1, y1 = found.boxes[0].astype(int)
            for row in (y0, y1 - 1):
                assert (out[row, x0:x1] == color(0)).all()
            for column in (x0, x1 - 1):
                assert (out[y0:y1, column] == color(0)).all()
            assert (out[: y0 - 1] == 128).all()
            assert (out[:, x1:] == 128).all()

    def test_landmarks(self):
        points = np.zeros((2, 3, 3))
        points[0] = [[20.5, 20.5, 1], [60.5, 20.5, 0.3], [40.5, 60.5, 0]]  # the third was not found
        points[1, 0] = 94.5, 80.5, 2
        found = disks([(40, 40), (90, 80)], names=("person", "fly"))
        found = Instances(found.boxes, found.scores, found.labels, found.classes, found.size, keypoints=points)
        bare = Instances(found.boxes, found.scores, found.labels, found.classes, found.size)
        marks = (Landmarks(("left", "right", "top"), ((0, 1), (1, 2))), None)
        options = {"labels": False, "scores": False}
        boxes = overlay(GREY, bare, **options)
        joined = replace(found, classes=Classes(found.classes.names, landmarks=marks))
        dots, lines = overlay(GREY, found, **options), overlay(GREY, joined, **options)
        added = (dots != boxes).any(axis=2)
        rows, columns = np.nonzero(added)
        for x, y in ((20, 20), (60, 20), (94, 80)):
            near = (abs(rows - y) < 5) & (abs(columns - x) < 5)
            assert (rows[near].mean(), columns[near].mean()) == (y, x)
            assert dots[y, x].tolist() == list(color(int(x == 94)))
            assert 13 <= near.sum() <= 25
        assert not added[50:70, 30:50].any()
        line = (lines != dots).any(axis=2)
        assert line[20, 25:55].all()
        assert not line[25:].any()
        assert not line[:15].any()

    def test_landmarks_alone_and_outside(self):
        points = np.array([[[-50, 4, 1], [500, 80, 1]]])
        found = Instances([[0, 0, 0, 0]], [1.0], [0], Classes(["fly"]), (90, 120), keypoints=points)
        marks = Landmarks(("a", "b"), ((0, 1),))
        joined = overlay(GREY, replace(found, classes=Classes(["fly"], landmarks=[marks])), labels=False, scores=False)
        assert (joined != GREY).any()
        none = Instances(np.zeros((0, 4)), [], [], Classes(["fly"]), (90, 120), keypoints=np.zeros((0, 2, 3)))
        np.testing.assert_array_equal(overlay(GREY, none), GREY)

    def test_boxes_outside_and_empty(self):
        boxes = [[-50, -50, 500, 500], [5, 5, 5, 9], [300, 300, 400, 400], [10, 10, 10.5, 10.5]]
        found = Instances(boxes, [0.5] * 4, [0] * 4, Classes(["cell"]), (90, 120))
        assert overlay(GREY, found).shape == GREY.shape

    def test_colors_by_class(self):
        found = disks([(20, 20), (60, 20), (100, 20)], names=("a", "b"))
        out = overlay(GREY, found, colors="class", opacity=1, labels=False, scores=False)
        assert out[20, 20].tolist() == out[20, 100].tolist() == list(color(0))
        assert out[20, 60].tolist() == list(color(1))

    @pytest.mark.parametrize("size", [(1, 1), (50, 2000), (2000, 50)])
    def test_odd_images(self, size):
        masks = Masks.from_dense(np.ones((1, *size), np.bool_))
        full = Instances(masks.boxes(), [1.0], [0], Classes(["x" * 50]), size, masks)
        assert overlay(np.zeros(size, np.uint8), full).shape == (*size, 3)

    def test_nothing(self):
        np.testing.assert_array_equal(overlay(GREY, disks([])), GREY)
        gone = Masks.from_dense(np.zeros((1, 90, 120)))
        one = Instances(np.zeros((1, 4)), [0.5], [0], Classes(["cell"]), (90, 120), gone)
        np.testing.assert_array_equal(overlay(GREY, one), GREY)

    def test_errors(self):
        with pytest.raises(ImageError, match=r"\(91, 120\).*\(90, 120\)"):
            overlay(np.zeros((91, 120, 3), np.uint8), disks([]))
        with pytest.raises(ConfigError, match="opacity"):
            overlay(GREY, disks([]), opacity=1.5)
        with pytest.raises(ConfigError, match="'rainbow'"):
            overlay(GREY, disks([]), colors="rainbow")

    def test_a_thousand_on_a_large_image(self):
        rng = np.random.default_rng(0)
        disk = disks([(60, 45)], 40).crops.bitmaps[0]
        corners = np.stack([rng.integers(0, 1900, 1000), rng.integers(0, 2900, 1000)], axis=1)
        masks = Masks((2000, 3000), corners, (disk,) * 1000)
        found = Instances(masks.boxes(), rng.random(1000), np.zeros(1000), Classes(["cell"]), masks.size, masks)
        shown = overlay(np.zeros((2000, 3000, 3), np.uint8), found, opacity=1.0, boxes=False, labels=False)
        covered = np.zeros(masks.size, np.bool_)
        for y, x in corners:
            covered[y : y + disk.shape[0], x : x + disk.shape[1]] |= disk
        assert shown[covered].any(axis=-1).all()


class TestColors:
    def test_distinct_visible_and_repeatable(self):
        palette = np.array([color(i) for i in range(24)], float)
        gaps = np.linalg.norm(palette[:, None] - palette[None], axis=2) + 1e9 * np.eye(24)
        assert gaps.min() > 12
        assert np.diag(gaps, 1).min() > 80  # neighbours differ clearly
        assert (palette.max(axis=1) - palette.min(axis=1)).min() > 50  # none is grey
        assert color(7) == color(7)
        assert all(0 <= v <= 255 for i in range(0, 70000, 997) for v in color(i))


class TestCutouts:
    def test_cut_along_the_mask(self):
        image = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
        found = disks([(40, 40), (2, 2)])
        pieces = list(cutouts(image, found))
        for piece, mask, box in zip(pieces, found.masks, found.boxes.astype(int), strict=True):
            x0, y0, x1, y1 = box
            inside = mask[y0:y1, x0:x1]
            assert piece.shape == (y1 - y0, x1 - x0, 4)
            np.testing.assert_array_equal(piece[..., 3], inside * 255)
            np.testing.assert_array_equal(piece[inside][:, :3], image[y0:y1, x0:x1][inside])
            assert (piece[~inside] == 0).all()

    def test_loose_and_empty_crops(self):
        crop = np.zeros((6, 7), np.bool_)
        crop[2:4, 3] = True
        masks = Masks((90, 120), np.array([[10, 20], [0, 0]]), (crop, np.zeros((3, 3), np.bool_)))
        found = Instances(masks.boxes(), [0.5, 0.5], [0, 0], Classes(["cell"]), (90, 120), masks)
        assert [p.shape for p in cutouts(GREY, found)] == [(2, 1, 4), (0, 0, 4)]

    def test_errors(self):
        with pytest.raises(ImageError):
            cutouts(GREY[1:], disks([]))
        with pytest.raises(DataError, match="masks"):
            cutouts(GREY, Instances([], [], [], Classes(["cell"]), (90, 120)))


class TestLabelMap:
    def test_highest_score_on_top(self):
        found = disks([(40, 40), (50, 40), (60, 40)], scores=[0.5, 0.9, 0.5])
        out = label_map(found)
        expected = np.zeros((90, 120), np.uint16)
        for i in (2, 0, 1):  # of equal scores the first lies on top
            expected[found.masks[i]] = i + 1
        assert out.dtype == np.uint16
        np.testing.assert_array_equal(out, expected)
        assert not label_map(disks([])).any()

    def test_errors(self):
        with pytest.raises(DataError, match="masks"):
            label_map(Instances([], [], [], Classes(["cell"]), (90, 120)))
        n = 65536
        masks = Masks((2, 2), np.zeros((n, 2)), (np.ones((1, 1), np.bool_),) * n)
        many = Instances(np.zeros((n, 4)), np.zeros(n), np.zeros(n), Classes(["cell"]), (2, 2), masks)
        with pytest.raises(DataError, match="65535"):
            label_map(many)
        assert label_map(many[:-1])[0, 0] == 1
