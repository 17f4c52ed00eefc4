"""R-CNN and Fast R-CNN: proposals that come with the inputs, RoIPool, and a whole network on the crop of each."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.reference.learning import learn
from tests.reference.roi_pool import roi_pool

from maskwright.data.synthetic import scene
from maskwright.errors import ConfigError, DataError
from maskwright.models.family import build
from maskwright.models.rcnn import RCNN, tiny, tiny_variants
from maskwright.models.rcnn.proposer import Given
from maskwright.models.rcnn.reader import CropWarp
from maskwright.ops import boxes as box_ops
from maskwright.ops.selective_search import selective_search
from maskwright.predictor.options import FindOptions
from maskwright.predictor.predictor import Predictor
from maskwright.predictor.prepare import prepare
from maskwright.predictor.timing import StageTimer
from maskwright.types import Classes, Inputs, Target

pytestmark = pytest.mark.usefixtures("one_thread")

VARIANTS = ("fast", "fast_masks", "crops")
CLASSES = Classes(["a", "b", "c"])


def make(name: str) -> RCNN:
    torch.manual_seed(0)
    return RCNN(tiny_variants()[name]).eval()


def test_given_boxes_are_clipped_and_padded() -> None:
    rows = [[[-5.0, 2, 200, 30], [1, 2, 3, 4]], [], [[0, 0, 0, 0], [5, 5, 9, 9]]]
    own = [torch.tensor(one, dtype=torch.float32).reshape(-1, 4) for one in rows]
    found = Given().propose([], Inputs(torch.zeros(3, 3, 40, 60), [(40, 60), (40, 60), (20, 8)], own))
    assert found.boxes.tolist() == [
        [[0, 2, 60, 30], [1, 2, 3, 4]],
        [[0, 0, 0, 0], [0, 0, 0, 0]],
        [[0, 0, 0, 0], [5, 5, 8, 9]],
    ]
    assert found.alive.tolist() == [[True, True], [False, False], [False, True]]
    assert torch.equal(found.scores, found.alive.float())


@pytest.mark.parametrize("name", VARIANTS)
def test_without_proposals_nothing_is_guessed(name: str) -> None:
    with pytest.raises(DataError, match=r"Inputs.proposals has \(N, 4\) of each image"):
        make(name).detect(Inputs(torch.zeros(1, 3, 64, 64)))


def test_a_network_with_an_rpn_can_be_given_proposals_too() -> None:
    model, boxes = make("detectron2"), torch.tensor([[5.0, 5, 40, 50], [30, 20, 60, 60]])
    trace = model.trace(Inputs(torch.zeros(1, 3, 64, 64), proposals=[boxes]), model.config.limits_for())
    assert torch.equal(trace.proposals.of(0), boxes)


def test_what_cannot_be_combined_is_refused() -> None:
    crops = tiny_variants()["crops"]
    for wrong in ({"masks": True}, {"proposals": "rpn"}, {"landmarks": (2, 2, 2)}):
        with pytest.raises(ConfigError, match="neck 'crops' has no features of the whole image"):
            replace(crops, **wrong)
    with pytest.raises(ConfigError, match="twice the context is less than crop_side, got 16 and 32"):
        replace(crops, roi=replace(crops.roi, context=16))
    with pytest.raises(ConfigError, match="neck 'crops' works on one feature map"):
        build(replace(crops, strides=(4, 8)))
    with pytest.raises(ConfigError, match="has no anchors"):
        crops.with_anchor_sides((32.0,))
    assert crops.anchor_sides == ()
    assert crops.with_limits(keep=3000).box_search.most == 6000


def test_roi_pool_reads_the_level_that_fits_the_box() -> None:
    config = replace(tiny("detectron2"), roi=replace(tiny("detectron2").roi, pooling="pool"))
    torch.manual_seed(0)
    reader = RCNN(config).reader(7)
    maps = [torch.randn(2, 16, 128 >> k, 128 >> k) for k in range(5)]
    boxes = torch.tensor([[3.0, 4, 50, 60], [10, 10, 300, 280], [0, 0, 500, 500]])
    index, levels = torch.tensor([0, 1, 0]), torch.tensor([0, 2, 3])
    wanted = roi_pool(maps, boxes, index, levels, [1 / 4, 1 / 8, 1 / 16, 1 / 32], 7)
    torch.testing.assert_close(reader(maps, boxes, index), wanted)


def test_a_crop_shows_the_box_and_what_is_around_it() -> None:
    """An image of its own coordinates: each pixel of a crop is the place that it was read from."""
    height, width = 60, 80
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    images = torch.stack([x, y, torch.ones_like(x)])[None]
    warp = CropWarp(side=16, context=2)
    boxes = torch.tensor([[20.0, 10, 44, 34], [-4, 30, 20, 90]])
    crops = warp([images], boxes, torch.zeros(2).long())
    step = 24 / 12  # pixels of the image for one of the crop, in which the box has 12 x 12
    places = 20 - 2 * step + (torch.arange(16) + 0.5) * step
    torch.testing.assert_close(crops[0, 0], places.expand(16, 16))
    torch.testing.assert_close(crops[0, 1], (places - 10)[:, None].expand(16, 16))
    assert (crops[1, 2, :, :2] == 0).all()  # left of the image, and below it
    assert (crops[1, 2, 9:] == 0).all()
    assert (crops[1, 2, :7, 4:] > 0.999).all()


def test_crops_go_through_the_network_a_few_at_a_time() -> None:
    """With the same result; the memory does not follow the number of proposals."""
    model, seen = make("crops"), []
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    boxes = torch.tensor([[k % 30, k % 20, k % 30 + 20, k % 20 + 30] for k in range(150)]).float()
    inputs = Inputs(image, proposals=[boxes])
    model.backbone.register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))
    with torch.no_grad():
        few = model.trace(inputs, model.config.limits_for())
        assert seen == [64, 64, 22]
        model.most_rows = None
        whole = model.trace(inputs, model.config.limits_for())
    assert seen[3:] == [150]
    torch.testing.assert_close(few.scores, whole.scores)


@pytest.mark.parametrize("name", VARIANTS)
def test_the_predictor_searches_each_image(name: str) -> None:
    """Once, in the stage "search", at the image's own size; boxes that are given make it unnecessary."""
    predictor, timer = Predictor(make(name), CLASSES, name=name), StageTimer()
    image, _ = scene(3, (50, 80), 3, 3)
    found = predictor.predict(image, score_threshold=0.05, timer=timer)
    tensor, geometry = predictor.prepare(image)
    boxes = torch.from_numpy(geometry.boxes(selective_search(image, predictor.model.config.box_search)))
    raw = predictor.run(predictor.batch([tensor], [boxes]), predictor.plan(FindOptions(score_threshold=0.05)))
    again = predictor.finish(raw, 0, geometry, predictor.plan(FindOptions(score_threshold=0.05)))
    np.testing.assert_array_equal(found.boxes, again.boxes)
    assert timer.counts["search"] == 1
    given = predictor.predict(image, boxes=np.array([[5, 5, 30, 40]]), timer=timer)
    assert len(given) == 1
    assert timer.counts["search"] == 1
    both = predictor.predict([image, image[:, :60]], score_threshold=0.05)
    np.testing.assert_array_equal(both[0].boxes, found.boxes)


def test_frames_and_tiles_are_searched_too() -> None:
    predictor = Predictor(make("fast"), CLASSES, name="fast")
    frames = [scene(seed, (50, 80), 3, 3)[0] for seed in (0, 1)]
    tracked = list(predictor.track(frames, score_threshold=0.05))
    for frame, found in zip(frames, tracked, strict=True):
        assert len(found) == len(predictor.predict(frame, score_threshold=0.05))
    tiled = predictor.predict(np.concatenate([frames[0]] * 3), tiles=64, score_threshold=0.05)
    assert tiled.tiles is not None


@pytest.mark.parametrize(("name", "steps"), [("fast", 90), ("crops", 120)])
def test_it_learns_three_scenes(name: str, steps: int) -> None:
    """From the boxes of selective search alone: most of the 9 objects are found."""
    torch.manual_seed(0)
    config = tiny_variants()[name]
    config = replace(config, channels=24, roi=replace(config.roi, samples=48))
    model = build(config).train()
    scenes = [scene(seed, (64, 64), 3, 3) for seed in range(3)]
    prepared = [prepare(image, config.spec) for image, _ in scenes]
    boxes = [g.boxes(selective_search(image)) for (image, _), (_, g) in zip(scenes, prepared, strict=True)]
    proposals = [torch.from_numpy(b) for b in boxes]
    inputs = Inputs(torch.stack([tensor for tensor, _ in prepared]), proposals=proposals)
    targets = [Target(torch.from_numpy(s.boxes), torch.from_numpy(s.labels), s.crops) for _, s in scenes]
    history = learn(model, inputs, targets, steps)
    with torch.no_grad():
        raw = model.eval().detect(inputs)
    hits = 0
    for i, (_, truth) in enumerate(scenes):
        sure = raw.scores[i] > 0.4
        iou = box_ops.iou(torch.from_numpy(truth.boxes), raw.boxes[i][sure])
        same = torch.from_numpy(truth.labels)[:, None] == raw.labels[i][sure]
        hits += int(((iou > 0.5) & same).any(dim=1).sum())
    assert sum(history[-1].values()) < sum(history[0].values()) / 3
    assert hits >= 6
