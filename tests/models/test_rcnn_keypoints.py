"""Landmarks of the R-CNNs: the cells that are learnt, one set of maps for each class, and that they are learnt."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.reference.learning import learn

from maskwright.data.synthetic import compose
from maskwright.errors import ConfigError, DataError
from maskwright.models.family import build
from maskwright.models.rcnn import tiny
from maskwright.models.rcnn.keypoints import KeypointHead, cells_of
from maskwright.predictor.finish import finish
from maskwright.predictor.prepare import prepare
from maskwright.types import Classes, Inputs, Landmarks, Target

pytestmark = pytest.mark.usefixtures("one_thread")


def cell(point: tuple[float, float, float], box: tuple[float, float, float, float], side: int) -> tuple[int, bool]:
    """Slow twin: a point of a box to its cell."""
    (x, y, seen), (x0, y0, x1, y1) = point, box
    if not (seen > 0 and x0 <= x <= x1 and y0 <= y <= y1 and x1 > x0 and y1 > y0):
        return 0, False
    column = side - 1 if x == x1 else math.floor((x - x0) * (side / (x1 - x0)))
    row = side - 1 if y == y1 else math.floor((y - y0) * (side / (y1 - y0)))
    return row * side + column, True


@settings(max_examples=200, deadline=None)
@given(
    place=st.tuples(*[st.integers(-4, 36)] * 2),
    seen=st.integers(0, 2),
    corner=st.tuples(*[st.integers(-3, 10)] * 2),
    size=st.tuples(*[st.sampled_from([0, 4, 8, 16])] * 2),
)
def test_cells_equal_the_twin(
    place: tuple[int, int], seen: int, corner: tuple[int, int], size: tuple[int, int]
) -> None:
    """Coordinates are quarters, so that points lie on edges of boxes and of cells."""
    point = (place[0] / 2, place[1] / 2, float(seen))
    box = (float(corner[0]), float(corner[1]), float(corner[0] + size[0]), float(corner[1] + size[1]))
    cells, known = cells_of(torch.tensor([[point]]), torch.tensor([box]), 8)
    assert (int(cells), bool(known)) == cell(point, box, 8)


def test_each_class_has_maps_of_its_own() -> None:
    """Classes of 2, 0 and 3 landmarks: a label chooses its maps, those behind its last landmark are zero."""
    torch.manual_seed(0)
    head, x = KeypointHead(4, 8, (2, 0, 3), 1), torch.randn(3, 4, 3, 3)
    maps = torch.nn.functional.interpolate(head.deconv(head.conv(x)), scale_factor=2, mode="bilinear")
    found = head(x, torch.tensor([2, 0, 1]))
    assert found.shape == (3, 3, 12, 12)
    torch.testing.assert_close(found[0], maps[0, 2:])
    torch.testing.assert_close(found[1, :2], maps[1, :2])
    assert not found[1, 2].any()
    assert not found[2].any()
    assert head.counts(torch.tensor([[2, 0, 1]])).tolist() == [[3, 2, 0]]


def test_landmarks_follow_the_classes() -> None:
    config = replace(tiny("compact"), landmarks=(1, 1, 1))
    fitted = config.for_classes(Classes(["a", "b"], landmarks=[None, Landmarks(("tip", "tail"))]))
    assert (fitted.num_classes, fitted.landmarks) == (2, (0, 2))
    with pytest.raises(ConfigError, match="needs classes that have some; none of a, b has"):
        config.for_classes(Classes(["a", "b"]))
    with pytest.raises(ConfigError, match="a number for each of the 3 classes"):
        replace(config, landmarks=(1, 2))


@pytest.mark.parametrize(("points", "message"), [(None, "boxes but no landmarks"), (2, "have 2 landmarks")])
def test_targets_without_the_landmarks_are_named(points: int | None, message: str) -> None:
    model = build(replace(tiny("compact"), landmarks=(0, 4, 1)))
    boxes = torch.tensor([[4.0, 4, 40, 50]])
    keypoints = None if points is None else torch.ones(1, points, 3)
    target = Target(boxes, torch.tensor([1]), [[np.array([4.0, 4, 40, 4, 40, 50])]], keypoints=keypoints)
    with pytest.raises(DataError, match=message):
        model.loss(Inputs(torch.zeros(1, 3, 64, 64)), [target])


def test_it_learns_the_landmarks_of_three_scenes() -> None:
    """Classes with different sets. Most landmarks are found within a tenth of their box."""
    torch.manual_seed(0)
    scenes = [compose(seed, (64, 64), 3, 2) for seed in range(3)]
    classes = scenes[0].instances.classes
    base = replace(tiny("compact", 2), landmarks=tuple(len(marks or ()) for marks in classes.landmarks), masks=False)
    config = replace(base, channels=24, roi=replace(base.roi, keypoint_width=32))
    prepared = [prepare(scene.image, config.spec) for scene in scenes]
    targets = []
    for scene, (_, geometry) in zip(scenes, prepared, strict=True):
        points = scene.keypoints.astype(np.float32)
        points[..., :2] = geometry.points(points[..., :2])
        points[points[..., 2] == 0] = 0
        boxes = torch.from_numpy(geometry.boxes(scene.instances.boxes))
        targets.append(Target(boxes, torch.from_numpy(scene.instances.labels), keypoints=torch.from_numpy(points)))
    model = build(config).train()
    inputs = Inputs(torch.stack([tensor for tensor, _ in prepared]))
    history = learn(model, inputs, targets, 150)
    assert history[-1]["keypoint"] < history[0]["keypoint"] / 2
    with torch.no_grad():
        raw = model.eval().detect(inputs)
    near: list[bool] = []
    for i, (scene, (_, geometry)) in enumerate(zip(scenes, prepared, strict=True)):
        found = finish(raw, i, geometry, classes, replace(config.output, score_threshold=0.5))
        assert found.keypoints is not None
        for box, points, label in zip(found.boxes, found.keypoints, found.labels, strict=True):
            assert not points[len(classes.landmarks[label] or ()) :].any()
            apart = np.abs(scene.instances.boxes - box).max(axis=1) + 1e6 * (scene.instances.labels != label)
            truth = scene.keypoints[int(apart.argmin())]
            limit = 0.1 * max(box[2] - box[0], box[3] - box[1])
            known = truth[:, 2] > 0
            near += (np.linalg.norm(points[known, :2] - truth[known, :2], axis=1) <= limit).tolist()
    assert len(near) >= 10
    assert np.mean(near) >= 0.7
