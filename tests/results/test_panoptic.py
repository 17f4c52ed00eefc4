"""Instances and stuff in one map, against a slow twin that goes pixel by pixel; truth comes back as it was."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from maskwright import draw, media
from maskwright.data import formats
from maskwright.data.synthetic import compose
from maskwright.errors import ConfigError, DataError
from maskwright.models.rcnn import RCNN, tiny, tiny_variants
from maskwright.prediction.batch import RunOptions, predict_files
from maskwright.predictor.predictor import Predictor
from maskwright.results.panoptic import combine, panoptic_classes
from maskwright.results.prediction import Prediction
from maskwright.types import Classes, Instances, Masks, OutputSpec

THINGS, STUFF = Classes(["cell", "dirt"], [4, 7]), Classes(["things", "sky", "road"], [0, 8, 9])


def twin(
    masks: NDArray[np.bool_], scores: list[float], semantic: NDArray[np.int64], overlap: float, area: int, least: float
) -> tuple[NDArray[np.int64], list[tuple[str, int]]]:
    """Segment numbers, and what each is: an instance, or a label of stuff."""
    out, what = np.zeros(semantic.shape, np.int64), list[tuple[str, int]]()
    for i in sorted(range(len(scores)), key=lambda i: -scores[i]):
        pixels = [tuple(p) for p in np.argwhere(masks[i])]
        taken = [p for p in pixels if out[p]]
        if scores[i] < least or not pixels or len(taken) == len(pixels) or len(taken) > overlap * len(pixels):
            continue
        what.append(("instance", i))
        for p in set(pixels) - set(taken):
            out[p] = len(what)
    for label in range(1, 3):
        pixels = [tuple(p) for p in np.argwhere(semantic == label) if not out[tuple(p)]]
        if pixels and len(pixels) >= area:
            what.append(("stuff", label))
            for p in pixels:
                out[p] = len(what)
    return out, what


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(0, 5),
    overlap=st.sampled_from([0.0, 0.25, 0.5, 1.0]),
    area=st.sampled_from([0, 1, 6, 30]),
    least=st.sampled_from([0.0, 0.5]),
)
def test_it_equals_the_twin(seed: int, count: int, overlap: float, area: int, least: float) -> None:
    rng = np.random.default_rng(seed)
    masks = rng.random((count, 6, 8)) < rng.choice([0.0, 0.2, 0.6], (count, 1, 1))
    scores, labels = rng.permutation(np.linspace(0.1, 0.9, count)), rng.integers(0, 2, count)
    semantic = rng.integers(-1, 3, (6, 8))
    found = Instances(np.zeros((count, 4)), scores, labels, THINGS, (6, 8), Masks.from_dense(masks))
    own = combine(found, semantic, STUFF, overlap=overlap, stuff_area=area, score=least)
    wanted, what = twin(masks, found.scores.tolist(), semantic, overlap, area, least)
    np.testing.assert_array_equal(own.ids, wanted)
    assert own.classes == Classes(["cell", "dirt", "sky", "road"], [4, 7, 8, 9])
    assert own.things == (True, True, False, False)
    for segment, (kind, i) in zip(own.segments, what, strict=True):
        assert segment.label == (labels[i] if kind == "instance" else 1 + i)
        assert segment.score == (found.scores[i] if kind == "instance" else 1)


def scene_as_found() -> tuple[Prediction, NDArray[np.int64]]:
    """The truth of a scene as a model of things and stuff would give it, and the true label of every pixel."""
    scene = compose(5, (96, 128), 5, 2)
    truth, things = scene.panoptic, sum(scene.panoptic.things)
    table = np.zeros(int(truth.ids.max()) + 1, np.int64)
    for segment in truth.segments:
        table[segment.id] = segment.label
    labels = table[truth.ids]
    names, ids = truth.classes.names[things:], truth.classes.ids[things:]
    own = scene.instances
    found = Prediction(
        own.boxes,
        own.scores,
        own.labels,
        own.classes,
        own.size,
        own.crops,
        semantic=np.where(labels < things, 0, labels - things + 1),
        semantic_classes=Classes(["things", *names], [0, *ids]),
    )
    return found, labels


def test_the_truth_of_a_scene_comes_back() -> None:
    found, labels = scene_as_found()
    again = found.panoptic(stuff_area=0)
    table = np.full(len(again.segments) + 1, -1)
    for segment in again.segments:
        table[segment.id] = segment.label
    np.testing.assert_array_equal(table[again.ids], labels)
    assert len([s for s in again.segments if again.things[s.label]]) == len(found)


def test_the_things_are_instances_again() -> None:
    found, _ = scene_as_found()
    again = found.panoptic(stuff_area=0).instances
    assert (again.classes.names, again.classes.ids) == (found.classes.names, found.classes.ids)
    assert len(again) == len(found)
    assert again.masks is not None
    assert found.masks is not None
    whole = {mask.tobytes(): label for mask, label in zip(found.masks, found.labels, strict=True)}
    assert {mask.tobytes(): label for mask, label in zip(again.masks, again.labels, strict=True)} == whole
    for mask, (x0, y0, x1, y1) in zip(again.masks, again.boxes.astype(int), strict=True):
        assert mask.sum() == mask[y0:y1, x0:x1].sum()
        assert mask.any(axis=0).sum() <= x1 - x0


def test_a_saved_prediction_gives_the_same_segments(tmp_path: Path) -> None:
    found, _ = scene_as_found()
    again = Prediction.load(found.save(tmp_path / "scene.json"))
    assert again.semantic_classes == found.semantic_classes
    assert again.panoptic().segments == found.panoptic().segments
    np.testing.assert_array_equal(again.panoptic().ids, found.panoptic().ids)


def test_the_least_stuff_is_the_model_s(tmp_path: Path) -> None:
    found = replace(scene_as_found()[0], stuff_area=0)
    again = Prediction.load(found.save(tmp_path / "scene.json"))
    assert again.stuff_area == 0
    assert (
        len(again.panoptic().segments)
        == len(found.panoptic().segments)
        > len(found.panoptic(stuff_area=10**6).segments)
    )


def test_one_id_for_a_thing_and_for_stuff_is_refused() -> None:
    with pytest.raises(DataError, match="The id 7 is that of a thing and of stuff"):
        panoptic_classes(THINGS, Classes(["things", "sky"], [0, 7]))


def test_segments_are_drawn() -> None:
    scene = compose(5, (96, 128), 5, 2)
    image = np.full((96, 128, 3), 128, np.uint8)
    drawn = draw.segments(image, scene.panoptic, labels=False, outline=0)
    shades = {tuple(drawn[scene.panoptic.ids == s.id][0].tolist()) for s in scene.panoptic.segments}
    assert len(shades) == len(scene.panoptic.segments)
    assert (128, 128, 128) not in shades
    for s in scene.panoptic.segments:
        assert len(np.unique(drawn[scene.panoptic.ids == s.id], axis=0)) == 1
    assert (draw.segments(image, scene.panoptic) != drawn).any()


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    """A tiny model of things and stuff whose scores all reach 0."""
    torch.manual_seed(0)
    config = tiny_variants()["panoptic"]
    config = replace(
        config,
        semantic=replace(config.semantic, stuff_area=7),
        roi=replace(config.roi, score=0.0),
        output=OutputSpec(score_threshold=0.0),
    )
    return Predictor(RCNN(config), Classes(["a", "b", "c"], [4, 5, 6]))


def test_files_of_a_run_are_a_data_set(tmp_path: Path, predictor: Predictor) -> None:
    folder = tmp_path / "in"
    for k, size in enumerate(((50, 70), (64, 40))):
        media.write_image(folder / f"{k + 7}.png", np.random.default_rng(k).integers(0, 256, (*size, 3), np.uint8))
    predict_files(predictor, [folder], tmp_path / "out", RunOptions(("panoptic", "segments", "json")))
    assert len(list((tmp_path / "out" / "segments").iterdir())) == 2
    data = formats.load(tmp_path / "out" / "panoptic.json", folder)
    assert [record.id for record in data.images] == [7, 8]
    for i, record in enumerate(data.images):
        found = Prediction.load(tmp_path / "out" / "json" / f"{record.id}.json")
        assert found.stuff_area == 7
        wanted, own = found.panoptic(score=0), data.panoptic(i)
        np.testing.assert_array_equal(own.ids, wanted.ids)
        names = [[one.classes[s.label] for s in one.segments] for one in (own, wanted)]
        assert names[0] == names[1]
    with pytest.raises(ConfigError, match=r"segments, panoptic cannot be made without a class for every pixel"):
        predict_files(
            Predictor(RCNN(tiny()), Classes(["a", "b", "c"])),
            [folder],
            tmp_path / "other",
            RunOptions(("segments", "panoptic")),
        )


def test_what_is_missing_is_named() -> None:
    empty = Prediction(np.zeros((0, 4)), np.zeros(0), np.zeros(0), THINGS, (4, 4))
    with pytest.raises(DataError, match="no semantic map with classes"):
        empty.panoptic()
    with pytest.raises(DataError, match="made of masks"):
        combine(empty, np.zeros((4, 4), np.int64), STUFF)
