"""Instances of a video's frames become tracks."""

import json

import numpy as np
import pytest

from maskwright.data.synthetic import Motion, clip
from maskwright.errors import ConfigError
from maskwright.predictor.link import Linker
from maskwright.predictor.track_options import LinkOptions
from maskwright.results.prediction import Prediction
from maskwright.types import Classes, Masks

CLASSES = Classes(["a", "b"])


def frame(*places: tuple[int, int], labels: tuple[int, ...] = (), masks: bool = True, side: int = 10) -> Prediction:
    """Squares with these upper left corners (x, y)."""
    boxes = np.array([[x, y, x + side, y + side] for x, y in places], np.float32).reshape(-1, 4)
    crops = Masks((100, 200), np.array([[y, x] for x, y in places]), tuple(np.ones((side, side), bool) for _ in places))
    return Prediction(
        boxes=boxes,
        scores=np.full(len(places), 0.9, np.float32),
        labels=np.array(labels or (0,) * len(places), np.int64),
        crops=crops if masks else None,
        classes=CLASSES,
        size=(100, 200),
    )


def ids(linker: Linker, *frames: Prediction) -> list[list[int]]:
    out = []
    for one in frames:
        found = linker.update(one).track_ids
        assert found is not None
        out.append(found.tolist())
    return out


@pytest.mark.parametrize("masks", [True, False])
def test_objects_keep_their_ids_in_any_order(masks: bool) -> None:
    frames = [frame((10 + k, 10), (50, 40 - k), masks=masks) for k in range(3)]
    frames.append(frame((50, 37), (13, 10), (120, 70), masks=masks))
    assert ids(Linker(), *frames) == [[1, 2], [1, 2], [1, 2], [2, 1, 3]]


def test_an_object_that_vanishes_is_remembered_for_some_frames() -> None:
    there, gone = frame((10, 10)), frame()
    assert ids(Linker(LinkOptions(memory=2)), there, gone, gone, there)[-1] == [1]
    assert ids(Linker(LinkOptions(memory=2)), there, gone, gone, gone, there)[-1] == [2]


def test_velocity_follows_what_is_faster_than_its_own_size() -> None:
    """After a few frames the track is expected where the object will be, also behind a gap."""
    slow = [frame((10 + 2 * k, 10)) for k in range(2)]
    faster = [frame((12 + 5 * k, 10)) for k in range(1, 4)] + [frame((27 + 9 * k, 10)) for k in range(1, 4)]
    assert ids(Linker(), *slow, *faster, frame(), frame((27 + 9 * 5, 10)))[-1] == [1]


def test_the_class_is_voted_for() -> None:
    frames = [frame((10, 10), labels=(label,)) for label in (0, 0, 1)]
    linker = Linker()
    assert [linker.update(f).labels.tolist() for f in frames] == [[0], [0], [0]]
    linker = Linker(LinkOptions(vote=False))
    assert [linker.update(f).labels.tolist() for f in frames] == [[0], [0], [1]]


def test_no_instances_at_all() -> None:
    found = Linker().update(frame())
    assert found.track_ids is not None
    assert len(found.track_ids) == 0


def test_true_instances_of_a_clip_keep_their_identity() -> None:
    """Objects cross and hide each other. One id never names two; an object that is cut into slivers by the border or by
    others may get a new one."""
    linker, owners, wrong, total = Linker(), {}, 0, 0
    for scene in clip(3, 60, (120, 160), 6, 3, motion=Motion(camera=0.5)):
        truth = scene.instances
        names = {f.name: getattr(truth, f.name) for f in truth.__dataclass_fields__.values()}
        found = linker.update(Prediction(**{**names, "track_ids": None}))
        assert found.track_ids is not None
        assert truth.track_ids is not None
        for own, true in zip(found.track_ids.tolist(), truth.track_ids.tolist(), strict=True):
            wrong += owners.setdefault(own, true) != true
            total += 1
    assert total > 200
    assert wrong == 0
    assert len(owners) <= 2 * len(set(owners.values()))


def test_options_out_of_range() -> None:
    for wrong in ({"overlap": 0.0}, {"overlap": 1.5}, {"memory": -1}):
        with pytest.raises(ConfigError):
            LinkOptions(**wrong)


def cells(*places: tuple[int, int, int, int]) -> Prediction:
    """Rectangles (top, left, height, width) in an image of 100 x 100."""
    masks = Masks(
        (100, 100), np.array([p[:2] for p in places]).reshape(-1, 2), tuple(np.ones(p[2:], bool) for p in places)
    )
    n = len(places)
    return Prediction(masks.boxes(), np.full(n, 0.9), np.zeros(n, np.int64), Classes(["cell"]), (100, 100), masks)


def test_two_cells_where_one_was_are_its_daughters() -> None:
    frames = [
        cells((20, 20, 30, 20), (70, 70, 20, 20)),
        cells((20, 20, 14, 20), (38, 20, 14, 20), (70, 70, 20, 20)),
        cells((18, 20, 14, 20), (40, 20, 14, 20), (70, 71, 20, 20)),
    ]
    plain, linker = Linker(), Linker(LinkOptions(divisions=True))
    for frame in frames:
        kept = plain.update(frame)
    assert kept.track_ids is not None
    assert kept.track_ids.tolist() == [1, 3, 2]  # one goes on as the mother
    assert plain.parents == {}
    ids, parents = [], []
    for frame in frames:
        found = linker.update(frame)
        assert found.track_ids is not None
        ids.append(found.track_ids.tolist())
        parents.append(linker.parents)
    assert ids == [[1, 2], [3, 4, 2], [3, 4, 2]]
    assert parents == [{}, {3: 1, 4: 1}, {}]
    assert [t.id for t in linker.tracks] == [2, 3, 4]  # the mother is not waited for


def test_a_neighbour_is_no_daughter() -> None:
    """A cell that comes near one which keeps its size, and a cell whose place two others of its size take."""
    linker = Linker(LinkOptions(divisions=True))
    linker.update(cells((20, 20, 30, 20)))
    linker.update(cells((20, 20, 30, 20), (44, 20, 14, 20)))
    assert linker.parents == {}
    linker = Linker(LinkOptions(divisions=True))
    linker.update(cells((20, 20, 30, 20)))
    linker.update(cells((20, 8, 30, 20), (20, 32, 30, 20)))
    assert linker.parents == {}


def test_a_linker_goes_on_where_another_was() -> None:
    """Also after its state was JSON: the same ids, the same velocities, to the last bit."""
    scenes = list(clip(3, 40, (120, 160), 6, 3, motion=Motion(camera=0.5)))
    truth = [s.instances for s in scenes]
    frames = [Prediction(t.boxes, t.scores, t.labels, t.classes, t.size, t.crops) for t in truth]
    whole = Linker(LinkOptions(divisions=True))
    wanted = [whole.update(f).track_ids for f in frames]
    first, second = Linker(LinkOptions(divisions=True)), Linker(LinkOptions(divisions=True))
    found = [first.update(f).track_ids for f in frames[:25]]
    second.resume(json.loads(json.dumps(first.state)))
    found += [second.update(f).track_ids for f in frames[25:]]
    assert [f.tolist() for f in found] == [w.tolist() for w in wanted]
    assert json.dumps(second.state) == json.dumps(whole.state)
