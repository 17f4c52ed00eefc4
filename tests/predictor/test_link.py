"""Instances of a video's frames become tracks."""

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
