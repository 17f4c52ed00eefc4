"""Raw rows back on the image: known boxes and masks come back where they were, whatever the size rule."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maskwright.geometry import Geometry
from maskwright.predictor.finish import finish
from maskwright.predictor.prepare import prepare
from maskwright.results.prediction import Prediction
from maskwright.types import BoxMasks, Classes, InputSpec, OutputSpec, RawDetections

CLASSES = Classes(["leaf", "stem", "root"], [3, 5, 9])
SPEC = InputSpec(size=48, max_size=100)


def raw_of(
    boxes: list[list[float]],
    scores: list[float],
    labels: list[int] | None = None,
    *,
    side: int = 28,
    masks: bool = True,
) -> RawDetections:
    """One image's rows; every mask is full."""
    count = len(boxes)
    return RawDetections(
        torch.tensor(boxes, dtype=torch.float32).reshape(1, count, 4),
        torch.tensor(scores, dtype=torch.float32).reshape(1, count),
        torch.tensor(labels or [0] * count, dtype=torch.int64).reshape(1, count),
        (BoxMasks(torch.ones(1, count, side, side)),) if masks else (),
    )


def geometry_of(size: tuple[int, int], spec: InputSpec = SPEC) -> Geometry:
    return prepare(np.zeros((*size, 3), np.uint8), spec)[1]


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(["pillow", "float"]), st.tuples(st.integers(4, 60), st.integers(4, 60)), st.integers(0, 10**6))
def test_a_known_object_comes_back_at_its_pixels(resize: str, size: tuple[int, int], seed: int) -> None:
    """Up to 60 pixels: a larger full mask of 28 x 28 loses its corners in bilinear sampling, as in detectron2."""
    rng = np.random.default_rng(seed)
    height, width = size
    top, left = int(rng.integers(0, height - 1)), int(rng.integers(0, width - 1))
    bottom, right = int(rng.integers(top + 1, height)) + 1, int(rng.integers(left + 1, width)) + 1
    image = np.zeros((*size, 3), np.uint8)
    tensor, geometry = prepare(image, replace(SPEC, resize=resize))  # type: ignore[arg-type]
    box = geometry.boxes([[left, top, right, bottom]])
    assert tensor.shape[1:] == geometry.size
    found = finish(raw_of(box.tolist(), [0.9]), 0, geometry, CLASSES, OutputSpec())
    np.testing.assert_allclose(found.boxes, [[left, top, right, bottom]], atol=1e-3)
    expected = np.zeros(size, np.bool_)
    expected[top:bottom, left:right] = True
    assert found.masks is not None
    assert np.array_equal(found.masks[0], expected)
    assert found.size == size


def test_outputs_have_the_documented_types() -> None:
    geometry = geometry_of((60, 80))
    raw = raw_of([[1, 1, 20, 20], [5, 5, 30, 40]], [0.9, 0.8], [2, 1])
    probs = BoxMasks(torch.ones(1, 2, 28, 28, dtype=torch.bfloat16))
    half = RawDetections(raw.boxes.bfloat16(), raw.scores.bfloat16(), raw.labels, (probs,))
    for rows in (raw, half):
        found = finish(rows, 0, geometry, CLASSES, OutputSpec())
        assert isinstance(found, Prediction)
        assert (found.boxes.dtype, found.scores.dtype, found.labels.dtype) == (np.float32, np.float32, np.int64)
        assert found.masks is not None
        assert (found.masks.dtype, found.masks.shape) == (np.bool_, (2, 60, 80))
        assert (found.classes, found.size, found.labels.tolist()) == (CLASSES, (60, 80), [2, 1])


def test_the_asked_image_of_the_batch_and_no_dead_rows() -> None:
    one, two = raw_of([[1, 1, 9, 9], [2, 2, 8, 8]], [0.9, 0.5]), raw_of([[3, 3, 7, 7], [0, 0, 0, 0]], [0.7, 0.0])
    columns = (torch.cat([getattr(one, n), getattr(two, n)]) for n in ("boxes", "scores", "labels"))
    both = RawDetections(*columns, (BoxMasks(torch.ones(2, 2, 28, 28)),))
    zero = OutputSpec(score_threshold=0.0, clip=False)
    geometry = Geometry.identity((20, 20))
    assert finish(both, 0, geometry, CLASSES, zero).scores.tolist() == pytest.approx([0.9, 0.5])
    second = finish(both, 1, geometry, CLASSES, zero)
    assert (second.boxes.tolist(), len(second)) == ([[3, 3, 7, 7]], 1)
    nothing = finish(raw_of([], []), 0, geometry, CLASSES, zero)
    assert len(nothing) == 0
    assert nothing.masks is not None
    assert nothing.masks.shape == (0, 20, 20)


def test_threshold_is_inclusive_and_the_best_are_kept_in_order() -> None:
    geometry = Geometry.identity((50, 50))
    raw = raw_of([[i, i, i + 9, i + 9] for i in range(4)], [0.75, 0.5, 0.25, 0.125], [0, 1, 2, 1])
    spec = OutputSpec(score_threshold=0.25)
    assert finish(raw, 0, geometry, CLASSES, spec).scores.tolist() == [0.75, 0.5, 0.25]
    assert finish(raw, 0, geometry, CLASSES, replace(spec, max_instances=2)).scores.tolist() == [0.75, 0.5]
    assert len(finish(raw, 0, geometry, CLASSES, replace(spec, max_instances=0))) == 0
    low = replace(spec, score_threshold=0.0)
    assert finish(raw, 0, geometry, CLASSES, low, [1]).scores.tolist() == [0.5, 0.125]
    assert finish(raw, 0, geometry, CLASSES, replace(low, max_instances=1), [2, 1]).scores.tolist() == [0.5]
    assert len(finish(raw, 0, geometry, CLASSES, low, [])) == 0


def test_clipping_is_the_models_choice() -> None:
    """Where boxes are clipped, those outside go, and do not count against the limit."""
    geometry = Geometry.identity((30, 40))
    raw = raw_of([[50, 5, 60, 9], [-5, -5, 10, 10], [35, 20, 80, 90]], [0.9, 0.8, 0.7])
    clipped = finish(raw, 0, geometry, CLASSES, OutputSpec(clip=True, max_instances=2))
    assert clipped.boxes.tolist() == [[0, 0, 10, 10], [35, 20, 40, 30]]
    assert clipped.scores.tolist() == pytest.approx([0.8, 0.7])
    kept = finish(raw, 0, geometry, CLASSES, OutputSpec(clip=False, paste="integer"))
    assert kept.boxes.tolist() == [[50, 5, 60, 9], [-5, -5, 10, 10], [35, 20, 80, 90]]
    assert kept.masks is not None
    assert kept.masks.shape == (3, 30, 40)
    assert not kept.masks[0].any()


def test_models_without_masks() -> None:
    found = finish(raw_of([[1, 1, 5, 5]], [0.9], masks=False), 0, Geometry.identity((9, 9)), CLASSES, OutputSpec())
    assert found.masks is None
    assert len(found) == 1


@pytest.mark.parametrize("size", [(1, 1), (20000, 50), (1, 300)])
@pytest.mark.parametrize("resize", ["pillow", "float"])
def test_extreme_images(size: tuple[int, int], resize: str) -> None:
    geometry = geometry_of(size, replace(SPEC, resize=resize))  # type: ignore[arg-type]
    whole = [[0.0, 0.0, float(geometry.size[1]), float(geometry.size[0])]]
    found = finish(raw_of(whole, [0.9]), 0, geometry, CLASSES, OutputSpec())
    np.testing.assert_allclose(found.boxes, [[0, 0, size[1], size[0]]], rtol=1e-5)
    assert found.crops is not None
    assert 0.999 * size[0] * size[1] <= found.crops.areas()[0] <= size[0] * size[1]


SCRIPT = """
import json, re, tempfile
from pathlib import Path
import numpy as np, torch
from maskwright.predictor.predictor import Predictor
from maskwright.results.prediction import Prediction
from maskwright.types import BoxMasks, Classes, InputSpec, Limits, OutputSpec, RawDetections

torch.set_num_threads(1)

class Thousand:
    spec, classes, parts, limits = InputSpec(), Classes(["cell"]), (BoxMasks,), Limits(0.05, 1000, "none")
    device, dtype = torch.device("cpu"), torch.float32
    def __init__(self, rule):
        self.output = OutputSpec(paste=rule, max_instances=1000)
    def lowest_score(self, limits):
        return limits.score
    def detect(self, inputs, limits):
        generator = torch.Generator().manual_seed(0)
        h, w = inputs.sizes[0]
        corner = torch.rand(1, 1000, 2, generator=generator) * torch.tensor([0.95 * w, 0.95 * h])
        side = torch.tensor([w, h]) * (0.01 + 0.09 * torch.rand(1, 1000, 2, generator=generator))
        probs = torch.rand(1, 1000, 28, 28, generator=generator)
        return RawDetections(torch.cat([corner, corner + side], 2), torch.linspace(1, 0.1, 1000)[None],
                             torch.zeros(1, 1000, dtype=torch.int64), (BoxMasks(probs),))

def peak():
    # not ru_maxrss, which begins with what the process that started this one had
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

imports = peak()
image = np.random.default_rng(0).integers(0, 255, (4000, 6000, 3), dtype=np.uint8)
for rule in ("sampled", "integer"):
    found = Predictor(Thousand(rule)).predict(image)
    again = Prediction.load(found.save(Path(tempfile.mkdtemp()) / "cells.json"))
    same = all(np.array_equal(a.boxes(), b.boxes()) and np.array_equal(a.areas(), b.areas())
               for a, b in zip(found.crops, again.crops, strict=True))
    print(json.dumps({"count": len(again), "same": same, "pixels": int(again.crops.areas().sum()),
                      "boxes": bool(np.array_equal(found.boxes, again.boxes)),
                      "megabytes": peak(), "grown": peak() - imports}))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read in Linux's unit")
def test_a_thousand_instances_on_a_large_image_stay_below_two_gigabytes() -> None:
    """Predicted, saved and read again; whole-image masks alone would be 24 GB."""
    run = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    results = [json.loads(line) for line in run.stdout.splitlines()]
    assert len(results) == 2
    for result in results:
        assert (result["count"], result["same"], result["boxes"]) == (1000, True, True)
        assert result["pixels"] > 20e6
        assert result["megabytes"] < 2000
        assert result["grown"] < 800  # the image and its float copy are 360
