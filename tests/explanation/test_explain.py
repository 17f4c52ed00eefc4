"""An explanation's numbers are those of the prediction: from the one pass that was traced, held to slow twins."""

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from tests.reference.roi_align import bilinear
from torch import Tensor

from maskwright.data.synthetic import scene
from maskwright.errors import ConfigError, DataError, ImageError
from maskwright.explanation.explain import explain
from maskwright.geometry import Geometry
from maskwright.media import read_image
from maskwright.models import yolact
from maskwright.models.rcnn import RCNN, RCNNConfig, tiny, tiny_variants
from maskwright.models.rcnn.explanation import RCNNExplanation
from maskwright.models.rcnn.network import RCNNTrace
from maskwright.models.rcnn.pooling import Cropped, Pooling, pooling
from maskwright.models.rcnn.reader import Pooler
from maskwright.models.yolact import NMSConfig
from maskwright.models.yolact.explanation import YolactExplanation
from maskwright.models.yolact.network import YolactTrace
from maskwright.models.yolact.suppression import Suppression, suppressed
from maskwright.ops import boxes as box_ops
from maskwright.ops import prototypes
from maskwright.ops.paste import paste
from maskwright.ops.warp import pad_batch
from maskwright.predictor.detector import NetworkDetector
from maskwright.predictor.finish import kept_rows
from maskwright.predictor.predictor import Predictor
from maskwright.predictor.prepare import prepare
from maskwright.results.explanation import Explanation
from maskwright.types import Classes, Inputs, InputSpec, Limits, OutputSpec, RawDetections

pytestmark = pytest.mark.usefixtures("one_thread")

NAMES = Classes(["leaf", "stem", "root"])
CONFIGS: dict[str, RCNNConfig] = {
    "detectron2": tiny("detectron2"),
    "boxes": replace(tiny("detectron2"), masks=False),
    "torchvision_v1": tiny("torchvision_v1"),
    "torchvision_v2": tiny("torchvision_v2"),
    "c4": tiny("c4"),
    "c4_boxes": replace(tiny("c4"), masks=False),
    "compact": tiny("compact"),
    "one_class": tiny("compact", num_classes=1),
    "keypoints": replace(tiny("compact"), landmarks=(2, 0, 3)),
    "fast_boxes": tiny_variants()["fast"],
    "fast_masks": tiny_variants()["fast_masks"],
    "crops_boxes": tiny_variants()["crops"],
    "close": replace(tiny("compact"), roi=replace(tiny("compact").roi, nms=0.1)),
}


def predictor(name: str, seed: int = 0, **output: Any) -> Predictor:
    """Random weights, made larger so that boxes move and classes differ. output: changes of the config's."""
    torch.manual_seed(seed)
    config = CONFIGS[name]
    lowest = config.lowest_score(config.limits_for())
    model = RCNN(replace(config, output=replace(config.output, score_threshold=lowest, **output))).eval()
    with torch.no_grad():
        model.box_predictor.deltas.weight.mul_(60)
        model.box_predictor.classes.weight.mul_(60)
        if model.rpn is not None:
            model.rpn.deltas.weight.mul_(10)
        if model.mask_head is not None:
            model.mask_head.logits.weight.mul_(300)
    return Predictor(model, Classes(NAMES[: model.config.num_classes]), name=name)


def source_image(seed: int = 0, size: tuple[int, int] = (60, 90)) -> np.ndarray:
    return scene(seed, size, objects=3)[0]


def explained(name: str, instance: int = 0) -> tuple[Predictor, np.ndarray, RCNNExplanation]:
    p, image = predictor(name), source_image()
    out = explain(p, image, instance)
    assert isinstance(out, RCNNExplanation)
    return p, image, out


@pytest.mark.parametrize("name", CONFIGS)
def test_shows_the_numbers_that_predict_gives(name: str) -> None:
    p, image, out = explained(name)
    wanted = p.predict(image)
    assert len(wanted) > 1
    for field in ("boxes", "scores", "labels"):
        np.testing.assert_array_equal(getattr(out.prediction, field), getattr(wanted, field))
    assert (out.mask is None) == (wanted.masks is None) == ("boxes" in name)
    for k in (0, len(wanted) - 1):
        one = explain(p, image, k)
        assert isinstance(one, RCNNExplanation)
        assert one.class_scores.sum() == pytest.approx(1, abs=1e-5)
        assert one.class_scores[wanted.labels[k]] == wanted.scores[k] == pytest.approx(one.score)
        if wanted.masks is not None:
            assert one.mask is not None
            assert one.mask_probs is not None
            np.testing.assert_array_equal(one.mask.dense()[0], wanted.masks[k])
            probs, box = torch.from_numpy(one.mask_probs[[one.label]]), torch.from_numpy(wanted.boxes[[k]])
            output = p.detector.output
            again = paste(probs, box, wanted.size, rule=output.paste, threshold=output.mask_threshold)
            same = again.dense()[0] == wanted.masks[k]
            assert same.mean() > 0.998  # all classes at once differ from one class by rounding


@pytest.mark.parametrize("name", CONFIGS)
def test_proposals_are_the_model_s_own_and_the_chosen_one_leads_to_the_box(name: str) -> None:
    p, image, out = explained(name)
    model = p.model
    assert isinstance(model, RCNN)
    with torch.inference_mode():
        pixels, geometry = prepare(image, p.spec)
        sizes, searched = [(pixels.shape[1], pixels.shape[2])], p.searched([image], [geometry])
        inputs = Inputs(pad_batch([pixels], p.spec.multiple), sizes, searched)
        features = model.features(inputs.images)
        found = model.proposer.propose(features, inputs)
        boxes, scores = found.of(0), found.scores[0][found.alive[0]]
    np.testing.assert_allclose(geometry.boxes(out.proposals), boxes.numpy(), atol=1e-3)
    by_logit = model.config.rpn.rank_by == "logit" and searched is None
    np.testing.assert_allclose(out.objectness, (scores.sigmoid() if by_logit else scores).numpy(), atol=1e-6)
    assert (np.diff(out.objectness) <= 1e-6).all()
    np.testing.assert_allclose(out.input_box, boxes[out.proposal].numpy(), atol=1e-3)
    with torch.inference_mode():
        own = boxes[out.proposal : out.proposal + 1]
        logits, _ = model.box_branch.classify(features, own, torch.zeros(1, dtype=torch.int64))
    np.testing.assert_allclose(logits.softmax(1)[0].numpy(), out.class_scores, atol=1e-4)


@pytest.mark.parametrize("name", ["fast_boxes", "fast_masks", "crops_boxes", "compact"])
def test_panels_say_how_the_proposal_came_about_and_how_it_was_read(name: str) -> None:
    p, image, out = explained(name)
    text = out.panels()[0].text
    assert ("Selective search" in text) == out.searched == (name != "compact")
    titles, how = [panel.title for panel in out.panels()], out.box_pooling
    if isinstance(how, Cropped):
        assert titles[1] == "The crop that the network sees"
        model, pixels = p.model, p.prepare(image)[0]
        side, context = model.config.roi.crop_side, model.config.roi.context
        assert how.pixels.shape == (side, side, 3)
        inner = how.box[2:] - how.box[:2]
        np.testing.assert_allclose(inner * (1 - 2 * context / side), out.input_box[2:] - out.input_box[:2], rtol=1e-4)
        seen = pixels.permute(1, 2, 0).numpy() * np.array(p.spec.std) + np.array(p.spec.mean)
        middle = how.pixels[side // 2 - 2 : side // 2 + 2, side // 2 - 2 : side // 2 + 2].mean(axis=(0, 1))
        x, y = ((out.input_box[:2] + out.input_box[2:]) / 2).astype(int)
        assert np.abs(middle - seen[max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3].mean(axis=(0, 1))).max() < 60
    else:
        read = ["RoIPool: how it is read", "RoIAlign, for comparison"]
        assert titles[2:4] == (read if out.searched else ["RoIAlign: how it is read", "RoIPool, for comparison"])
    assert out.draw().ndim == 3


def averaged(feature: Tensor, p: Pooling) -> Tensor:
    """(C, S, S): the mean of the samples of each bin, one by one. Cell j's centre is at j + 0.5."""
    out = feature.new_zeros(feature.shape[0], p.side, p.side)
    for i, ys in enumerate(p.y - 0.5):
        for j, xs in enumerate(p.x - 0.5):
            values = [bilinear(feature, float(y), float(x)) for y in ys for x in xs]
            out[:, i, j] = torch.stack(values).mean(0)
    return out


BOXES = ([3.0, 5.0, 40.0, 28.0], [50.3, 1.7, 57.9, 63.0], [-4.0, -3.0, 1.5, 80.0], [10.2, 10.2, 10.3, 10.3])


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("ratio", [0, 1, 2])
@pytest.mark.parametrize("box", BOXES)
def test_the_drawn_samples_are_those_that_are_read(aligned: bool, ratio: int, box: list[float]) -> None:
    torch.manual_seed(1)
    features = [torch.randn(1, 3, 64 // s, 96 // s) for s in (4, 8)]
    pooler = Pooler((1 / 4, 1 / 8), 3, ratio, aligned)
    p = pooling(pooler, features, torch.tensor(box))
    pooled = pooler(features, torch.tensor([box]), torch.zeros(1, dtype=torch.int64))[0]
    np.testing.assert_allclose(pooled, averaged(features[p.level][0], p).numpy(), atol=1e-5)
    assert p.points.shape == (p.x.size * p.y.size, 2)
    np.testing.assert_allclose(p.energy, features[p.level][0].norm(dim=0).numpy(), atol=1e-5)


@pytest.mark.parametrize("box", BOXES)
def test_the_cells_drawn_for_roi_pool_are_those_it_takes(box: list[float]) -> None:
    torch.manual_seed(2)
    feature = torch.randn(1, 2, 16, 24)
    p = pooling(Pooler((1 / 4,), 3, 2, True), [feature], torch.tensor(box))
    got = torchvision.ops.roi_pool(feature, [torch.tensor([box])], 3, 1 / 4)[0]
    for i, (y0, y1) in enumerate(p.rows.astype(int)):
        for j, (x0, x1) in enumerate(p.columns.astype(int)):
            cells: Tensor = feature[0, :, y0:y1, x0:x1].flatten(1)
            expected = cells.amax(1) if cells.shape[1] else torch.zeros(2)
            torch.testing.assert_close(got[:, i, j], expected)


def test_rivals_overlap_the_box_and_have_its_class() -> None:
    p, image = predictor("close"), source_image()
    count, told = 0, set[tuple[float, ...]]()
    for k in range(6):
        one = explain(p, image, k)
        assert isinstance(one, RCNNExplanation)
        box = one.prediction.boxes[k]
        for rival in one.rivals:
            low, high = np.maximum(box[:2], rival[:2]), np.minimum(box[2:], rival[2:])
            common = np.prod(np.maximum(high - low, 0))
            union = np.prod(box[2:] - box[:2]) + np.prod(rival[2:] - rival[:2]) - common
            assert common / union > one.nms - 1e-3
            key = (float(one.prediction.labels[k]), *rival.tolist())
            assert key not in told  # it fell once
            told.add(key)
        count += len(one.rivals)
    assert count > 0


# ---- YOLACT ---------------------------------------------------------------------------------------------------------

Y = {
    "yolact": yolact.tiny("yolact"),
    "plus": yolact.tiny("plus"),
    "compact": yolact.tiny("compact"),
    "letterbox": replace(yolact.tiny("yolact"), spec=replace(yolact.tiny("yolact").spec, fit="letterbox")),
    "exact": replace(yolact.tiny("yolact"), nms=NMSConfig("exact", keep=20)),
    "cross": replace(yolact.tiny("yolact"), nms=NMSConfig("fast_cross", keep=20)),
    "one_class": yolact.tiny("yolact", 1),
}


def yolact_predictor(name: str, seed: int = 0, **output: Any) -> Predictor:
    """Random weights, made larger so that classes and masks differ. output: changes of the config's."""
    torch.manual_seed(seed)
    config = Y[name]
    model = yolact.Yolact(replace(config, output=replace(config.output, **{"score_threshold": 0.05, **output}))).eval()
    with torch.no_grad():
        model.head.logits.weight.mul_(20)
        model.head.coefficients.weight.mul_(20)
    return Predictor(model, Classes(NAMES[: model.config.num_classes]), name=name)


@pytest.mark.parametrize("name", Y)
def test_yolact_shows_the_numbers_that_predict_gives(name: str) -> None:
    p, image = yolact_predictor(name), source_image()
    wanted = p.predict(image)
    assert len(wanted) > 3
    assert wanted.masks is not None
    assert wanted.masks.any()
    for k in (0, 3, len(wanted) - 1):
        out = explain(p, image, k)
        assert isinstance(out, YolactExplanation)
        assert out.mask is not None
        np.testing.assert_array_equal(out.prediction.scores, wanted.scores)
        np.testing.assert_array_equal(out.mask.dense()[0], wanted.masks[k])
        score = wanted.scores[k] if wanted.box_scores is None else wanted.box_scores[k]
        assert out.class_scores.sum() == pytest.approx(1, abs=1e-5)
        assert out.class_scores[out.label] == score
        assert (out.rating is None) == (wanted.box_scores is None) == (name != "plus")
        if out.rating is not None:
            assert min(1, out.rating * score) == pytest.approx(wanted.scores[k], abs=1e-6)
        h, w, _ = out.prototypes.shape
        span = (h * out.step[1], w * out.step[0])
        again = prototypes.draw(
            *(torch.from_numpy(v) for v in (out.prototypes, out.coefficients[None])),
            torch.from_numpy(out.cell_box[None] * np.tile(out.step, 2).astype(np.float32)),
            (round(span[0]), round(span[1])),
            out.geometry,
            margin=p.detector.output.crop_margin,
        )
        assert (again.dense()[0] == wanted.masks[k]).mean() > 0.995


@pytest.mark.parametrize("name", ["yolact", "plus", "compact"])
def test_the_sum_of_what_is_shown_is_the_logit_map(name: str) -> None:
    p, image = yolact_predictor(name), source_image()
    out = explain(p, image, 1)
    assert isinstance(out, YolactExplanation)
    count = len(out.coefficients)
    assert sorted(out.order.tolist()) == list(range(count))
    total = sum((out.prototypes[..., k].astype(np.float64) * out.coefficients[k] for k in range(count)), 0.0)
    scale = max(1.0, float(np.abs(out.logits).max()))
    np.testing.assert_allclose(total, out.logits, atol=1e-5 * scale)
    np.testing.assert_allclose(out.partial(count), out.logits, atol=1e-5 * scale)
    np.testing.assert_allclose(out.partial(0), 0)
    k = out.order[2]
    added = out.partial(3) - out.partial(2)
    np.testing.assert_allclose(added, out.prototypes[..., k] * out.coefficients[k], atol=1e-5 * scale)


def slow_nms(boxes: Tensor, scores: Tensor, iou: float, *, fast: bool) -> tuple[set[int], dict[int, list[int]]]:
    """Rows that stay, and for each row that falls the better ones that overlap it."""
    order = scores.argsort(descending=True, stable=True).tolist()
    stays: set[int] = set()
    over: dict[int, list[int]] = {}
    for place, k in enumerate(order):
        better = [j for j in order[:place] if float(box_ops.iou(boxes[[j]], boxes[[k]])) > iou]
        if any(fast or j in stays for j in better):
            over[k] = better
        else:
            stays.add(k)
    return stays, over


def suppressed_by(nms: NMSConfig, boxes: Tensor, scores: Tensor, label: int, row: int, back: Geometry) -> Suppression:
    """What suppression of this kind did around the result that is the box of a row."""
    config = replace(yolact.tiny(), nms=nms)
    return suppressed(boxes, scores, label, boxes[row], float(scores[row, label]), config, config.limits_for(), back)


@pytest.mark.parametrize("kind", ["fast", "fast_cross"])
@pytest.mark.parametrize("seed", [0, 3])
def test_suppression_is_told_as_a_slow_loop_finds_it(kind: Literal["fast", "fast_cross"], seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    corners = torch.rand(40, 2, generator=rng) * 30
    boxes = torch.cat([corners, corners + 10 + 10 * torch.rand(40, 2, generator=rng)], dim=1)
    scores = torch.rand(40, 1, generator=rng)
    config, back = NMSConfig(kind, iou=0.4), Geometry.identity((60, 60))
    fast, over = slow_nms(boxes, scores[:, 0], 0.4, fast=True)
    greedy, _ = slow_nms(boxes, scores[:, 0], 0.4, fast=False)
    assert greedy >= fast
    for k in fast:
        out = suppressed_by(config, boxes, scores, 0, k, back)
        assert out.compared == 40
        assert rows_of(out.lost, boxes) == {j for j, better in over.items() if k in better}
        assert rows_of(out.only_fast, boxes) == greedy - fast


def rows_of(found: np.ndarray, boxes: Tensor) -> set[int]:
    return {int((boxes - torch.from_numpy(row)).abs().sum(1).argmin()) for row in found}


def test_greedy_suppression_leaves_nothing_to_fast() -> None:
    p, image = yolact_predictor("exact"), source_image()
    out = explain(p, image)
    assert isinstance(out, YolactExplanation)
    assert out.suppression.kind == "exact"
    assert len(out.suppression.only_fast) == 0
    assert "Greedy NMS" in out.panels()[1].title


# ---- the drawing ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["detectron2", "boxes", "c4", "one_class"])
def test_every_kind_of_model_draws_its_steps(name: str) -> None:
    _, _, out = explained(name)
    panels = out.panels()
    assert len(panels) == (7 if out.mask is None else 9)
    assert all(panel.title and panel.text and panel.image.std() > 0 for panel in panels)
    if name == "boxes":
        image = out.draw()
        assert image.dtype == np.uint8
        assert image.shape[2] == 3
        assert max(image.shape) < 3000


@pytest.mark.parametrize("name", ["plus", "one_class"])
def test_every_kind_of_yolact_draws_its_steps(name: str) -> None:
    out = explain(yolact_predictor(name), source_image(), 2)
    assert len(out.panels()) == 9
    assert dict(out.numbers())["Priors"]


@pytest.mark.parametrize(("make", "name"), [(predictor, "compact"), (yolact_predictor, "yolact")])
def test_names_with_line_breaks_are_drawn_in_one_line(make: Callable[..., Predictor], name: str) -> None:
    p = make(name)
    detector = replace(p.detector, classes=Classes([f"{n}\n{n}\r" for n in p.classes]))  # type: ignore[type-var]
    out = explain(Predictor(detector, name="a\nb"), source_image())
    assert all(panel.image.std() > 0 for panel in out.panels())
    assert out.draw().std() > 0


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 2), (9, 7), (400, 700)])
@pytest.mark.parametrize(("make", "name"), [(predictor, "compact"), (yolact_predictor, "yolact")])
def test_images_of_any_shape(make: Callable[..., Predictor], name: str, size: tuple[int, int]) -> None:
    rng, p = np.random.default_rng(0), make(name, clip=False, whole_boxes=False)  # boxes may lie outside the image
    out = explain(p, rng.integers(0, 255, (*size, 3), dtype=np.uint8))
    assert all(min(panel.image.shape) > 0 for panel in out.panels())


def test_saves_images_and_a_page_that_needs_nothing_else(tmp_path: Path) -> None:
    _, _, out = explained("detectron2")
    out = replace(out, name="<größe> & co.png")
    path = out.save(tmp_path / "new" / "why é.JPG")
    assert min(read_image(path).shape[:2]) > 1000
    page = out.save(tmp_path / "why.html").read_text(encoding="utf-8")
    assert page.count("data:image/jpeg;base64,") == 9
    assert "&lt;größe&gt; &amp; co.png" in page
    assert "<größe>" not in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert f"{out.class_scores[0]:.4f}" in page
    assert [f.name for f in (tmp_path / "new").iterdir() if "part" in f.name] == []


def test_refuses_other_suffixes_and_places_that_cannot_be_written(tmp_path: Path) -> None:
    _, _, out = explained("boxes")
    with pytest.raises(ConfigError, match=r"why\.pdf.*\.html.*'\.pdf'"):
        out.save(tmp_path / "why.pdf")
    (tmp_path / "file").write_text("x")
    for name in ("why.png", "why.html"):
        with pytest.raises((ImageError, OSError)):
            out.save(tmp_path / "file" / name)
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(ImageError, match=r"folder\.png is a folder"):
        out.save(tmp_path / "folder.png")


# ---- what cannot be explained ---------------------------------------------------------------------------------------


def test_says_what_is_the_best_score_where_nothing_was_found(tmp_path: Path) -> None:
    p, image = predictor("compact"), source_image()
    best = float(p.predict(image).scores.max())
    Image.fromarray(image).save(tmp_path / "leaf é.png")
    with pytest.raises(DataError, match=rf"leaf é\.png: 'compact' found nothing with a score of 1 .* has {best:.3f}"):
        explain(p, tmp_path / "leaf é.png", score_threshold=1.0)


def test_says_so_where_there_is_no_candidate_at_all() -> None:
    p = predictor("compact")
    model = p.model
    assert isinstance(model, RCNN)
    with torch.no_grad():
        model.rpn.deltas.weight.fill_(math.nan)
    with pytest.raises(DataError, match="no candidate at all"):
        explain(p, source_image())


@pytest.mark.parametrize("instance", [-1, 10_000])
def test_names_the_instances_there_are(instance: int) -> None:
    p, image = predictor("compact"), source_image()
    last = len(p.predict(image)) - 1
    with pytest.raises(ConfigError, match=rf"0\.\.{last} .*got {instance}"):
        explain(p, image, instance)


class Blank:
    """A detector that is no network: an exported file would be one."""

    spec, output, classes, limits, parts = InputSpec(size=64), OutputSpec(), NAMES, Limits(0.05, 1, "none"), ()
    device, dtype, precision = torch.device("cpu"), torch.float32, "float32"

    def lowest_score(self, limits: Limits) -> float:
        return limits.score

    def detect(self, inputs: Inputs, limits: Limits) -> RawDetections:
        none = torch.zeros(len(inputs), 0)
        return RawDetections(torch.zeros(len(inputs), 0, 4), none, none.long())


def test_refuses_a_detector_that_is_no_network() -> None:
    with pytest.raises(ConfigError, match="'blank' cannot be explained; networks of these families can: rcnn, yolact"):
        explain(Predictor(Blank(), name="blank"), source_image())


def test_leaves_the_predictor_as_it_was() -> None:
    p, image = predictor("compact"), source_image()
    before, names = copy.copy(p.__dict__), set(p.model.__dict__)
    assert isinstance(explain(p, image), Explanation)
    assert p.__dict__ == before
    assert set(p.model.__dict__) == names


# ---- the trace ------------------------------------------------------------------------------------------------------


def detector_of(p: Predictor) -> NetworkDetector:
    assert isinstance(p.detector, NetworkDetector)
    return p.detector


def traced(p: Predictor, image: np.ndarray) -> tuple[Any, RawDetections, list[int]]:
    """What the stages returned for an image, what `detect` returns for it, and its rows that become instances."""
    (pixels, geometry), detector = p.prepare(image), detector_of(p)
    inputs = p.batch([pixels], p.searched([image], [geometry]))
    trace, raw = detector.trace(inputs, detector.limits), detector.detect(inputs, detector.limits)
    return trace, raw, kept_rows(raw, 0, geometry, detector.output).index.tolist()


ALL = {**{f"rcnn_{name}": (predictor, name) for name in CONFIGS}, **{f"yolact_{n}": (yolact_predictor, n) for n in Y}}


@pytest.mark.parametrize("name", ALL)
def test_the_trace_s_numbers_are_those_of_detect(name: str) -> None:
    make, variant = ALL[name]
    trace, raw, _ = traced(make(variant), source_image())
    own, wanted = trace.raw.tensors(), raw.tensors()
    assert own.keys() == wanted.keys()
    assert all(torch.equal(own[key], wanted[key]) for key in wanted)
    assert torch.equal(trace.found.scores, raw.scores)
    assert (raw.scores > 0).any()


@pytest.mark.parametrize("name", CONFIGS)
def test_an_explanation_s_numbers_are_those_of_the_trace(name: str) -> None:
    p, image = predictor(name), source_image()
    trace, raw, rows = traced(p, image)
    assert isinstance(trace, RCNNTrace)
    for k in (0, 3):
        out = explain(p, image, k)
        assert isinstance(out, RCNNExplanation)
        row = rows[k]
        own = int(trace.found.origin[0, row])
        assert (out.proposal, out.score) == (own, float(raw.scores[0, row]))
        np.testing.assert_array_equal(out.class_scores, trace.scores[0, own].numpy())
        np.testing.assert_array_equal(out.input_box, trace.proposals.boxes[0, own].numpy())
        if out.mask_probs is not None:
            assert trace.masks is not None
            np.testing.assert_allclose(out.mask_probs[out.label], trace.masks.probs[0, row].numpy(), atol=1e-5)


@pytest.mark.parametrize("name", Y)
def test_a_yolact_explanation_s_numbers_are_those_of_the_trace(name: str) -> None:
    p, image = yolact_predictor(name), source_image()
    trace, raw, rows = traced(p, image)
    assert isinstance(trace, YolactTrace)
    for k in (0, 3):
        out = explain(p, image, k)
        assert isinstance(out, YolactExplanation)
        row, scores = rows[k], out.prediction.box_scores
        assert float(raw.scores[0, row]) == (out.score if scores is None else float(scores[k]))
        np.testing.assert_array_equal(out.coefficients, trace.coefficients[0, row].numpy())
        np.testing.assert_array_equal(out.prototypes, trace.prototypes[0].numpy())
        logits = trace.outputs.logits[0, int(trace.found.origin[0, row])]
        np.testing.assert_allclose(out.class_scores, logits.softmax(0).numpy(), atol=1e-6)
        assert out.rating == (None if trace.ratings is None else float(trace.ratings[0, row]))


@pytest.mark.parametrize("make", [lambda: predictor("compact"), lambda: yolact_predictor("plus")])
def test_an_explanation_takes_one_pass(make: Callable[[], Predictor]) -> None:
    p, passes = make(), []
    body = p.model.get_submodule("backbone")
    body.register_forward_pre_hook(lambda _, inputs: passes.append(inputs[0].shape))
    explain(p, source_image())
    assert len(passes) == 1
