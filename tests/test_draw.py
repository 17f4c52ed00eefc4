"""Overlays, cut-outs and label maps."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from maskwright.draw import colour_of, cutouts, label_map, overlay, score_colour, texts
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
        shade = np.array(colour_of(0))
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
            assert out[45, 60].tolist() == list(colour_of(0 if first is small else 1))

    def test_texts(self):
        found = disks([(60, 45)], radius=30)
        plain = overlay(GREY, found, labels=False, scores=False)
        both, name, score = overlay(GREY, found), overlay(GREY, found, scores=False), overlay(GREY, found, labels=False)
        changed = [(a != plain).any(axis=2).sum() for a in (both, name, score)]
        assert changed[0] > changed[1] > 100
        assert changed[0] > changed[2] > 100

    def test_no_texts_on_tiny_objects_nor_in_crowds(self):
        none = {"labels": False, "scores": False}
        tiny = disks([(30, 30), (60, 45)], radius=2)
        np.testing.assert_array_equal(overlay(GREY, tiny, legend=False), overlay(GREY, tiny, **none))
        crowd = disks([(x, y) for x in range(8, 120, 12) for y in range(8, 90, 12)], radius=6)
        np.testing.assert_array_equal(overlay(GREY, crowd, legend=False), overlay(GREY, crowd, **none))

    def test_a_lone_text_among_many_objects_is_omitted(self):
        size = (512, 512)
        spots = [(x, y) for x in range(8, 300, 14) for y in range(8, 500, 14)]
        small, large = disks(spots, radius=5, size=size), disks([(410, 256)], radius=90, size=size)
        masks = Masks(
            size,
            np.concatenate([small.crops.corners, large.crops.corners]),
            small.crops.bitmaps + large.crops.bitmaps,
        )
        both = Instances(masks.boxes(), np.full(len(masks), 0.9), [0] * len(masks), Classes(["cell"]), size, masks)
        image = np.full((*size, 3), 128, np.uint8)
        plain = overlay(image, both, labels=False, scores=False)
        np.testing.assert_array_equal(overlay(image, both, legend=False), plain)
        assert (overlay(image, large) != overlay(image, large, labels=False, scores=False)).any()  # alone it has one

    def test_a_text_touches_its_object(self):
        size = (400, 400)
        y, x = np.mgrid[:400, :400]
        slope = (abs(x - y) < 12) & (x > 60) & (x < 340)  # its box has corners far from it
        masks = Masks.from_dense(slope[None])
        one = Instances(masks.boxes(), [0.9], [0], Classes(["rod"]), size, masks)
        image = np.full((*size, 3), 128, np.uint8)
        ground = (overlay(image, one) != overlay(image, one, labels=False, scores=False)).any(axis=2)
        rows, columns = np.nonzero(ground)
        around = slope[rows.min() - 1 : rows.max() + 3, columns.min() : columns.max() + 1]
        assert around.any()

    def test_a_legend_where_texts_do_not_fit(self):
        size = (512, 512)
        spots = [(x, y) for x in range(150, 500, 14) for y in range(150, 500, 14)]
        crowd = disks(spots, radius=5, size=size, names=("cell", "debris"))
        image = np.full((*size, 3), 128, np.uint8)
        plain = overlay(image, crowd, labels=False, scores=False)
        changed = (overlay(image, crowd) != plain).any(axis=2)
        rows, columns = np.nonzero(changed)
        assert changed.sum() > 2000
        assert (rows.max() < 150, columns.max() < 150) == (True, True)  # the corner without objects
        by_class = overlay(image, crowd, colour="class")
        legend = by_class[: rows.max() + 1, : columns.max() + 30].reshape(-1, 3)
        for label in (0, 1):
            assert (legend == colour_of(label)).all(axis=1).sum() > 50
        by_score = overlay(image, crowd, colour="score").reshape(-1, 3)
        for score in (0.0, 1.0):
            assert (by_score == score_colour(score)).all(axis=1).any()
        tiny = np.full((64, 64, 3), 128, np.uint8)
        many = disks([(x, y) for x in range(4, 64, 6) for y in range(4, 64, 6)], radius=2, size=(64, 64))
        none = overlay(tiny, many, labels=False, scores=False)
        np.testing.assert_array_equal(overlay(tiny, many), none)  # it would take too much of the image

    def test_lines_follow_the_image(self):
        widths = []
        for size in ((64, 64), (512, 512), (4000, 4200)):
            one = disks([(size[1] / 2, size[0] / 2)], radius=size[0] / 5, size=size)
            out = overlay(np.full(size, 128, np.uint8), one, opacity=0, labels=False, scores=False)
            widths.append(int((out[size[0] // 2, : size[1] // 2] != 128).any(axis=1).sum()))
        assert widths == [1, 2, 9]

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
        assert heights == [11, 15, 25, 44]

    def test_texts_of_some_and_any_colours(self):
        found = disks([(25, 45), (60, 45), (95, 45)], radius=15)
        first = overlay(GREY, found, labels=False, scores=False, colour=[9, 2, 9], opacity=1)
        assert [first[45, x].tolist() for x in (25, 60, 95)] == [list(colour_of(k)) for k in (9, 2, 9)]
        out = overlay(GREY, found, texts=[False, True, False], colour=[9, 2, 9], opacity=1)
        columns = np.nonzero((out != first).any(axis=(0, 2)))[0]
        assert columns.min() >= 35
        assert columns.max() < 110
        np.testing.assert_array_equal(overlay(GREY, found, texts=[False] * 3, colour=[9, 2, 9], opacity=1), first)
        with pytest.raises(ConfigError, match="2 indices, expected one for each of 3"):
            overlay(GREY, found, colour=[1, 2])
        with pytest.raises(ConfigError, match="texts has 2 values, expected one for each of 3"):
            overlay(GREY, found, texts=[True, False])

    def test_boxes(self):
        found = disks([(40, 40)])
        without = Instances(found.boxes, found.scores, found.labels, found.classes, found.size)
        for instances, options in ((found, {"boxes": True, "opacity": 0}), (without, {})):
            out = overlay(GREY, instances, labels=False, scores=False, outline=1, **options)
            x0, y0, x1, y1 = found.boxes[0].astype(int)
            for row in (y0, y1 - 1):
                assert (out[row, x0:x1] == colour_of(0)).all()
            for column in (x0, x1 - 1):
                assert (out[y0:y1, column] == colour_of(0)).all()
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
            assert dots[y, x].tolist() == list(colour_of(int(x == 94)))
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

    def test_names_of_landmarks_stand_where_all_of_an_objects_fit(self):
        names = ("head", "left wing", "tail")
        classes = Classes(["fly"], landmarks=[Landmarks(names)])
        size, whole = (200, 400), [[60.0, 40, 0.9], [60, 90, 0.9], [60, 150, 0.9]]
        crowded = [[330.0, 100, 0.9], [331, 101, 0.9], [332, 102, 0.9]]
        boxes = [[10, 10, 140, 190], [300, 80, 360, 120]]
        found = Instances(boxes, [0.9, 0.8], [0, 0], classes, size, keypoints=np.array([whole, crowded]))
        pen = ImageDraw.Draw(Image.new("RGB", size[::-1]))
        placed = texts.landmark_names(pen, found, 11, ())
        assert [text.text for text in placed if text.row == 0] == list(names)
        for a, b in combinations([text.spot for text in placed], 2):
            assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
        hidden = found[[0]]
        hidden.keypoints[0, 1, 2] = 0
        assert [text.text for text in texts.landmark_names(pen, hidden, 11, placed[:0])] == ["head", "tail"]
        blocked = [texts.Placed(0, "", (0, 0, 200, 200))]
        assert all(text.row == 1 for text in texts.landmark_names(pen, found, 11, blocked))
        crowd = found[np.zeros(texts.FEW + 1, np.int64)]
        assert texts.landmark_names(pen, crowd, 11, ()) == []
        image = np.full((*size, 3), 128, np.uint8)
        assert (overlay(image, found) != overlay(image, found, names=False)).any()

    def test_boxes_outside_and_empty(self):
        boxes = [[-50, -50, 500, 500], [5, 5, 5, 9], [300, 300, 400, 400], [10, 10, 10.5, 10.5]]
        found = Instances(boxes, [0.5] * 4, [0] * 4, Classes(["cell"]), (90, 120))
        assert overlay(GREY, found).shape == GREY.shape

    def test_colours_by_class_score_and_track(self):
        found = disks([(20, 20), (60, 20), (100, 20)], names=("a", "b"), scores=[0.2, 0.9, 0.5])
        options = {"opacity": 1, "labels": False, "scores": False}

        def shown(instances, colour):
            out = overlay(GREY, instances, colour=colour, **options)
            return [tuple(out[20, x].tolist()) for x in (20, 60, 100)]

        assert shown(found, "class") == [colour_of(0), colour_of(1), colour_of(0)]
        assert shown(found, "instance") == shown(found, None) == [colour_of(k) for k in range(3)]
        assert shown(found, "score") == [score_colour(s) for s in (0.2, 0.9, 0.5)]
        tracked = replace(found, track_ids=np.array([7, 3, 900]))
        assert shown(tracked, "track") == shown(tracked, None) == [colour_of(k) for k in (7, 3, 900)]
        assert shown(tracked[[2, 0, 1]], "track") == shown(tracked, "track")  # whatever else is in the image
        with pytest.raises(ConfigError, match="no track ids"):
            shown(found, "track")

    def test_a_track_is_named_by_its_number(self):
        found = disks([(60, 45)], radius=40)
        plain, tracked = overlay(GREY, found, colour="class"), replace(found, track_ids=np.array([12]))
        assert (overlay(GREY, tracked, colour="class") != plain).any()

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
            overlay(GREY, disks([]), colour="rainbow")

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


class TestColours:
    def test_scores_get_lighter(self):
        light = [np.dot(score_colour(s), (0.2126, 0.7152, 0.0722)) for s in np.linspace(0, 1, 11)]
        assert np.diff(light).min() > 3
        assert score_colour(-1) == score_colour(0)
        assert score_colour(2) == score_colour(1)

    def test_distinct_visible_and_repeatable(self):
        palette = np.array([colour_of(i) for i in range(24)], float)
        gaps = np.linalg.norm(palette[:, None] - palette[None], axis=2) + 1e9 * np.eye(24)
        assert gaps.min() > 12
        assert np.diag(gaps, 1).min() > 80  # neighbours differ clearly
        assert (palette.max(axis=1) - palette.min(axis=1)).min() > 50  # none is grey
        assert colour_of(7) == colour_of(7)
        assert all(0 <= v <= 255 for i in range(0, 70000, 997) for v in colour_of(i))


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
