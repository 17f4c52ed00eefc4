"""What an explanation says of YOLACT's suppression and masks is what was done, whatever kind was chosen."""

import math
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tests.explanation.test_explain import rows_of, source_image, suppressed_by, yolact_predictor
from torch import Tensor

from maskwright.explanation.explain import explain
from maskwright.geometry import Geometry
from maskwright.models.yolact import NMSConfig
from maskwright.models.yolact.explanation import YolactExplanation
from maskwright.ops.nms import fast_nms, greedy_nms_by_class

pytestmark = pytest.mark.usefixtures("one_thread")


# ---- suppression ----------------------------------------------------------------------------------------------------


def pixel_iou(a: list[float], b: list[float]) -> float:
    """Of boxes that hold both their end pixels."""
    wide, high = min(a[2], b[2]) - max(a[0], b[0]) + 1, min(a[3], b[3]) - max(a[1], b[1]) + 1
    common = max(wide, 0) * max(high, 0)
    areas = [(box[2] - box[0] + 1) * (box[3] - box[1] + 1) for box in (a, b)]
    return common / (sum(areas) - common)


def whole_boxes(seed: int, count: int = 40) -> Tensor:
    """On whole pixels and small, so that an end pixel more or less decides, and overlaps of exactly a half occur."""
    rng = torch.Generator().manual_seed(seed)
    corners = torch.randint(0, 12, (count, 2), generator=rng)
    return torch.cat([corners, corners + torch.randint(1, 5, (count, 2), generator=rng)], dim=1).float()


@pytest.mark.parametrize("seed", range(4))
def test_exact_suppression_is_told_by_its_own_rule(seed: int) -> None:
    boxes, back = whole_boxes(seed), Geometry.identity((60, 60))
    boxes = boxes.unique(dim=0)
    scores = (1 + torch.randperm(len(boxes) * 2, generator=torch.Generator().manual_seed(seed))).view(-1, 2) / 100
    scores = scores[: len(boxes)]
    config = NMSConfig("exact", score=0.05, iou=0.5)
    rows, labels, values = greedy_nms_by_class(boxes, scores, 0.05, 0.5, 1000)
    rows, labels = rows[values > 0], labels[values > 0]
    plain = 0
    for row, label in zip(rows.tolist(), labels.tolist(), strict=True):
        mine = scores[:, label]
        near = [k for k in range(len(boxes)) if mine[k] > 0.05]
        found = suppressed_by(config, boxes, scores, label, row, back)
        better = [j for j in rows[labels == label].tolist() if mine[j] > mine[row]]
        wanted = {
            k
            for k in near
            if mine[k] < mine[row]
            and pixel_iou(boxes[k].tolist(), boxes[row].tolist()) >= 0.5
            and not any(pixel_iou(boxes[k].tolist(), boxes[j].tolist()) >= 0.5 for j in better)
        }
        assert found.compared == len(near)
        assert rows_of(found.lost, boxes) == wanted
        assert len(found.only_fast) == 0
        plain += len(wanted)
    assert plain > 0


def test_a_box_that_overlaps_by_exactly_the_limit_falls_in_exact_suppression_alone() -> None:
    boxes = torch.tensor([[0.0, 0, 9, 9], [0, 0, 9, 4]])
    scores, back = torch.tensor([[0.9], [0.8]]), Geometry.identity((20, 20))
    counts = [
        len(suppressed_by(NMSConfig(kind, iou=0.5), boxes, scores, 0, 0, back).lost)  # type: ignore[arg-type]
        for kind in ("exact", "fast", "fast_cross")
    ]
    assert counts == [1, 0, 0]


def test_across_classes_boxes_of_other_classes_are_suppressed() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [1, 0, 11, 10], [30, 30, 40, 40]])
    scores = torch.tensor([[0.9, 0.05], [0.05, 0.8], [0.4, 0.1]])
    back = Geometry.identity((60, 60))
    found = {}
    for kind in ("fast", "fast_cross"):
        config = NMSConfig(kind, iou=0.5)  # type: ignore[arg-type]
        row, _, score = fast_nms(boxes, scores, 0.5, 200, 100, across=kind == "fast_cross")
        assert 0 in row[score > 0].tolist()
        found[kind] = suppressed_by(config, boxes, scores, 0, 0, back)
    assert rows_of(found["fast_cross"].lost, boxes) == {1}
    assert found["fast_cross"].taking_part("cat") == "Of 3 boxes of all classes"
    assert found["fast"].taking_part("cat") == "3 boxes were compared, ranked by their score for cat:"
    assert replace(found["fast"], compared=1).taking_part("cat").startswith("1 box was compared")


@pytest.mark.parametrize(
    ("kind", "said", "rows"),
    [
        (
            "yolact",
            r"compared, ranked by their score for \w+: \d+ overlapped this one by more than 0\.5 and \w+ suppressed",
            2,
        ),
        ("cross", r"of all classes \d+ overlapped this one by more than 0\.5 and \w+ suppressed", 2),
        (
            "exact",
            r"of the same class \d+ overlapped this one by 0\.5 or more, end pixels counted, and \w+ suppressed\.$",
            1,
        ),
    ],
)
def test_the_words_name_the_rule(kind: str, said: str, rows: int) -> None:
    found = explain(yolact_predictor(kind), source_image(), 0)
    assert isinstance(found, YolactExplanation)
    assert re.search(said, found.panels()[1].text)
    told = [name for name, _ in found.numbers() if name.startswith("Boxes ")]
    assert len(told) == rows
    assert told[0] == "Boxes it suppressed"


# ---- how masks are finished -----------------------------------------------------------------------------------------

MARGINS = (0.0, 1.0, 2.5, math.inf)


@pytest.mark.parametrize("name", ["yolact", "letterbox", "compact"])
@pytest.mark.parametrize("margin", MARGINS)
def test_the_enlarged_sum_inside_the_crop_is_the_mask(name: str, margin: float) -> None:
    predictor, image = yolact_predictor(name), source_image()
    for k in (0, 2):
        found = explain(predictor, image, k, upsample="logits", crop_margin=margin)
        assert isinstance(found, YolactExplanation)
        height, width = found.prediction.size
        sums, (x0, y0, x1, y1) = found.enlarged(0, 0, height, width), found.crop
        x, y = np.arange(width) + 0.5, np.arange(height)[:, None] + 0.5
        drawn = (sums > 0) & (x >= x0) & (x < x1) & (y >= y0) & (y < y1)
        assert found.mask is not None
        mask = found.mask.dense()[0]
        assert mask.any()
        assert (drawn == mask).mean() > 0.998
        part = found.enlarged(3, 5, 9, 20)
        np.testing.assert_allclose(part, sums[3:9, 5:20], atol=1e-5 * max(1.0, float(np.abs(sums).max())))


@pytest.mark.parametrize("upsample", ["masks", "logits"])
@pytest.mark.parametrize(("margin", "largest"), [(0.0, False), (1.0, True), (2.5, False), (math.inf, True)])
def test_the_steps_say_what_was_done(upsample: Any, margin: float, largest: bool) -> None:
    found = explain(
        yolact_predictor("yolact"), source_image(), 0, upsample=upsample, crop_margin=margin, largest_component=largest
    )
    assert isinstance(found, YolactExplanation)
    panels = found.panels()
    crop, paste = panels[6], panels[7]
    assert all(panel.image.std() > 0 for panel in (crop, paste))
    assert (crop.title == "Enlarge, sigmoid and crop") == (upsample == "logits")
    assert ("enlarged to the image's own pixels first" in crop.text) == (upsample == "logits")
    assert paste.text.startswith("Pixels above 0.5" if upsample == "logits" else "Enlarged to the image, pixels above")
    assert crop.key[1][1] == ("crop, pixels of the image" if upsample == "logits" else "crop, whole cells")
    words = {
        0.0: "outside the box is cut",
        1.0: "1 cell around it",
        2.5: "2.5 cells around",
        math.inf: "Nothing is cut",
    }
    assert words[margin] in crop.text
    assert ("the largest part is kept" in paste.text) == largest


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 2), (400, 700)])
def test_the_fine_crop_of_images_of_any_shape(size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)
    predictor = yolact_predictor("compact", clip=False)
    found = explain(predictor, image, 0, upsample="logits")
    assert found.panels()[6].image.shape[2] == 3
