"""Raw rows with prototypes to instances: boxes and masks of known objects, rated masks, the largest part."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.reference.coco_sets import random_set

from maskwright.data.formats import coco
from maskwright.errors import DataError
from maskwright.evaluation.classes import translated
from maskwright.geometry import Geometry
from maskwright.metrics.coco import CocoMetric
from maskwright.metrics.coco_result import CocoResult
from maskwright.metrics.metric import GroundTruth
from maskwright.ops import masks as mask_ops
from maskwright.ops.components import largest
from maskwright.ops.prototypes import draw
from maskwright.predictor.finish import finish
from maskwright.predictor.prepare import prepare
from maskwright.results.prediction import Prediction
from maskwright.types import (
    BoxMasks,
    Classes,
    InputSpec,
    Instances,
    Masks,
    OutputSpec,
    PrototypeMasks,
    RawDetections,
)

CLASSES = Classes(["leaf", "stem", "root"], [3, 5, 9])
PLAIN = OutputSpec(score_threshold=0.0)
SPECS = {
    "stretch": InputSpec(size=64, fit="stretch", multiple=1),
    "letterbox": InputSpec(size=64, fit="letterbox", multiple=1),
    "padded": InputSpec(size=48, max_size=100, multiple=32),
}


def raw_of(
    boxes: list[list[float]],
    scores: list[float],
    *,
    span: tuple[int, int] = (64, 64),
    ratings: list[float] | None = None,
    prototypes: torch.Tensor | None = None,
) -> RawDetections:
    """One image's rows; every mask fills its box unless `prototypes` (h, w) say otherwise."""
    count = len(boxes)
    protos = torch.full((span[0] // 4, span[1] // 4), 9.0) if prototypes is None else prototypes
    rated = None if ratings is None else torch.tensor([ratings])
    return RawDetections(
        torch.tensor(boxes, dtype=torch.float32).reshape(1, count, 4),
        torch.tensor(scores, dtype=torch.float32).reshape(1, count),
        torch.zeros(1, count, dtype=torch.int64),
        (PrototypeMasks(torch.ones(1, count, 1), protos[None, :, :, None], span, rated),),
    )


# ---- where things are -----------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(SPECS)), st.tuples(st.integers(8, 90), st.integers(8, 90)), st.integers(0, 10**6))
def test_a_known_object_comes_back_where_it_was(fit: str, size: tuple[int, int], seed: int) -> None:
    """Its box to a thousandth, its mask with the published margin: between the box and two cells beyond."""
    rng = np.random.default_rng(seed)
    tensor, geometry = prepare(np.zeros((*size, 3), np.uint8), SPECS[fit])
    top, left = int(rng.integers(0, size[0] - 1)), int(rng.integers(0, size[1] - 1))
    bottom, right = int(rng.integers(top + 1, size[0])) + 1, int(rng.integers(left + 1, size[1])) + 1
    span = (64, 64) if fit != "padded" else tuple(32 * -(-side // 32) for side in tensor.shape[1:])
    box = geometry.boxes([[left, top, right, bottom]])
    found = finish(raw_of(box.tolist(), [0.9], span=span), 0, geometry, CLASSES, PLAIN)  # type: ignore[arg-type]
    np.testing.assert_allclose(found.boxes, [[left, top, right, bottom]], atol=1e-3)
    assert found.size == size
    assert found.masks is not None
    assert found.masks[0, top:bottom, left:right].all()
    cell = 4 / np.diag(geometry.matrix)[:2]  # in the image's pixels, x and y
    (x1, y1, x2, y2), slack = found.crops.boxes()[0], 2.5 * cell + 1  # type: ignore[union-attr]
    assert x1 >= left - slack[0]
    assert y1 >= top - slack[1]
    assert x2 <= right + slack[0]
    assert y2 <= bottom + slack[1]


def test_boxes_are_cut_truncated_and_dropped_with_their_rows() -> None:
    geometry = Geometry.identity((64, 64))
    boxes = [[-5.5, 3.2, 20.9, 30.7], [70, 5, 90, 20], [10.2, 10.2, 10.9, 30.0], [40.5, 50.5, 99.0, 99.0]]
    raw = raw_of(boxes, [0.9, 0.8, 0.7, 0.6])
    found = finish(raw, 0, geometry, CLASSES, replace(PLAIN, whole_boxes=True))
    assert found.boxes.tolist() == [[0, 3, 20, 30], [40, 50, 64, 64]]
    assert found.scores.tolist() == pytest.approx([0.9, 0.6])
    assert found.crops is not None
    assert len(found.crops) == 2
    assert len(finish(raw, 0, geometry, CLASSES, PLAIN)) == 3
    two = finish(raw, 0, geometry, CLASSES, replace(PLAIN, whole_boxes=True, max_instances=2))
    assert two.scores.tolist() == pytest.approx([0.9, 0.6])


def test_masks_are_cropped_by_the_box_before_it_was_cut() -> None:
    """Cells of 4 pixels from above 12.9 / 4 - 1 = 2.225 on; were it 12, cell 2 would count as well."""
    geometry, box = Geometry.identity((64, 64)), [[12.9, 20.9, 70.1, 40.1]]
    whole, plain = (
        finish(raw_of(box, [0.9]), 0, geometry, CLASSES, replace(PLAIN, whole_boxes=v)) for v in (True, False)
    )
    assert whole.boxes.tolist() == [[12, 20, 64, 40]]
    assert plain.crops is not None
    assert plain.crops.boxes().tolist() == [[12, 20, 64, 48]]
    assert np.array_equal(whole.masks, plain.masks)  # type: ignore[arg-type]


def test_the_row_of_the_batch_its_options_and_no_rows() -> None:
    one, two = raw_of([[4, 4, 40, 40]], [0.9]), raw_of([[20, 20, 60, 60]], [0.8])
    columns = (torch.cat([getattr(one, n), getattr(two, n)]) for n in ("boxes", "scores", "labels"))
    first, second = one.part(PrototypeMasks), two.part(PrototypeMasks)
    assert first is not None
    assert second is not None
    masks = (torch.cat([getattr(first, n), getattr(second, n)]) for n in ("coefficients", "prototypes"))
    both = RawDetections(*columns, (PrototypeMasks(*masks, (64, 64)),))
    geometry = Geometry.identity((64, 64))
    options = replace(PLAIN, crop_margin=0.0, upsample="logits", mask_threshold=0.3)
    found = finish(both, 1, geometry, CLASSES, options)
    expected = draw(second.prototypes[0], second.coefficients[0], two.boxes[0], (64, 64), geometry, margin=0.0,
                    upsample="logits", threshold=0.3)  # fmt: skip
    assert np.array_equal(found.masks, expected.dense())  # type: ignore[arg-type]
    assert found.crops.areas().tolist() == [1600]  # type: ignore[union-attr]
    nothing = finish(raw_of([], []), 0, geometry, CLASSES, PLAIN)
    assert len(nothing) == 0
    assert nothing.masks is not None
    assert nothing.masks.shape == (0, 64, 64)


# ---- rated masks ----------------------------------------------------------------------------------------------------

FOUR = [[i * 10.0, 5, i * 10 + 9, 50] for i in range(4)]


def test_rated_masks_are_chosen_by_class_and_ranked_by_both() -> None:
    geometry = Geometry.identity((64, 64))
    raw = raw_of(FOUR, [0.9, 0.8, 0.6, 0.3], ratings=[0.5, 1.5, 0.9, 3.0])
    found = finish(raw, 0, geometry, CLASSES, replace(PLAIN, score_threshold=0.5))
    assert found.scores.tolist() == pytest.approx([1.0, 0.54, 0.45])
    assert found.box_scores is not None
    assert found.box_scores.tolist() == pytest.approx([0.8, 0.6, 0.9])
    assert found.boxes[:, 0].tolist() == [10, 20, 0]
    assert found.crops is not None
    assert [int(b[0]) // 10 for b in found.crops.boxes() + 5] == [1, 2, 0]
    best = finish(raw, 0, geometry, CLASSES, replace(PLAIN, max_instances=2))
    assert best.boxes[:, 0].tolist() == [10, 0]
    assert finish(raw_of(FOUR, [0.9, 0.8, 0.6, 0.3]), 0, geometry, CLASSES, PLAIN).box_scores is None
    above = finish(raw_of(FOUR, [0.9, 0.8, 0.6, 0.3], ratings=[1.2, 1.5, 0.9, 0.1]), 0, geometry, CLASSES, PLAIN)
    assert above.scores[:2].tolist() == [1, 1]  # 1.08 and 1.2: the better one first
    assert above.boxes[:2, 0].tolist() == [10, 0]


def test_box_scores_travel(tmp_path: Path) -> None:
    raw = raw_of(FOUR, [0.9, 0.8, 0.6, 0.3], ratings=[0.5, 1.5, 0.9, 0.1])
    found = finish(raw, 0, Geometry.identity((64, 64)), CLASSES, PLAIN)
    again = Prediction.load(found.save(tmp_path / "a.json"))
    assert np.array_equal(again.box_scores, found.box_scores)  # type: ignore[arg-type]
    assert np.array_equal(again.scores, found.scores)
    assert found[found.scores > 0.5].box_scores.tolist() == pytest.approx([0.8, 0.6])  # type: ignore[union-attr]
    assert [row["score"] for row in found.to_coco()] == pytest.approx(found.scores.tolist())
    kept = translated(found, np.array([1, -1, 0]), CLASSES)
    assert np.array_equal(kept.box_scores, found.box_scores)  # type: ignore[arg-type]
    text = (tmp_path / "a.json").read_text()
    (tmp_path / "older.json").write_text(text.replace('"box_scores": true, ', ""))
    assert Prediction.load(tmp_path / "older.json").box_scores is None
    plain = replace(found, box_scores=None)
    assert Prediction.load(plain.save(tmp_path / "b.json")).box_scores is None


@pytest.mark.parametrize("wrong", [[0.5], [0.5, 1.5], [0.5, float("nan")]])
def test_box_scores_are_checked(wrong: list[float]) -> None:
    with pytest.raises(DataError, match="box_scores"):
        Instances([[0, 0, 1, 1]] * 2, [0.1, 0.2], [0, 0], ["a"], (4, 4), box_scores=wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", [3, 6, 8])
def test_boxes_are_ranked_by_their_own_score_and_masks_by_theirs(tmp_path: Path, seed: int) -> None:
    truth, results = random_set(seed)
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    (tmp_path / "results.json").write_text(json.dumps(results))
    data = coco.load(tmp_path / "truth.json")

    def measured(boxes: str, masks: str) -> CocoResult:
        metric, rng = CocoMetric(data), np.random.default_rng(seed)
        rows = coco.read_results(tmp_path / "results.json", data)
        for i, record in enumerate(data.images):
            found = coco.instances_of(rows[record.id], record, data.classes)
            scores = {"class": found.scores, "rated": found.scores * rng.random(len(found)).astype(np.float32)}
            own = None if boxes == masks else scores[boxes]
            metric.update(replace(found, scores=scores[masks], box_scores=own), GroundTruth(data, i))
        return metric.result()

    both, plain, rated = measured("class", "rated"), measured("class", "class"), measured("rated", "rated")
    assert both.masks is not None
    assert rated.masks is not None
    np.testing.assert_array_equal(both.boxes.stats, plain.boxes.stats)
    np.testing.assert_array_equal(both.masks.stats, rated.masks.stats)
    assert both.boxes.stats.tolist() != rated.boxes.stats.tolist()


# ---- the largest part -----------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.tuples(st.integers(1, 20), st.integers(1, 20)), st.floats(0, 1))
def test_the_largest_part_is_one_part_of_the_mask(seed: int, size: tuple[int, int], share: float) -> None:
    dense = np.random.default_rng(seed).random((2, *size)) < share
    masks = Masks.from_dense(dense)
    found = largest(masks)
    assert not (found.dense() & ~dense).any()
    for before, after, parts in zip(masks, found, mask_ops.to_polygons(masks), strict=True):
        assert len(mask_ops.to_polygons(after)[0]) == min(1, len(parts))
        alone = [int(largest_of(part, size)) for part in parts]
        assert after.areas()[0] == max(alone, default=0)
        assert before.size == after.size


def largest_of(part: object, size: tuple[int, int]) -> int:
    return int(mask_ops.from_polygons([[part]], size).areas()[0])  # type: ignore[list-item]


def test_the_largest_part_is_an_option_of_both_families() -> None:
    protos = torch.full((16, 16), -9.0)
    protos[2:4, 2:4] = protos[6:13, 6:13] = 9
    geometry = Geometry.identity((64, 64))
    raw = raw_of([[0, 0, 64, 64]], [0.9], prototypes=protos)
    both, one = (finish(raw, 0, geometry, CLASSES, replace(PLAIN, largest_component=v)) for v in (False, True))
    assert both.masks is not None
    assert one.masks is not None
    assert both.masks[0, 12, 12]
    assert not one.masks[0, 12, 12]
    assert one.masks[0, 40, 40]
    probs = torch.zeros(1, 1, 28, 28)
    probs[..., 2:5, 2:5] = probs[..., 10:25, 10:25] = 1
    pasted = RawDetections(raw.boxes, raw.scores, raw.labels, (BoxMasks(probs),))
    two, single = (finish(pasted, 0, geometry, CLASSES, replace(PLAIN, largest_component=v)) for v in (False, True))
    assert len(two.to_polygons()[0]) == 2
    assert len(single.to_polygons()[0]) == 1
    assert np.array_equal(two.boxes, single.boxes)
