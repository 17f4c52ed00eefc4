"""Synthetic scenes: exact, repeatable, and a data set that loads."""

from pathlib import Path

import numpy as np
import pytest

from maskwright.data import synthetic
from maskwright.data.formats import coco
from maskwright.errors import ConfigError


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (37, 53), (240, 320), (3000, 20)])
@pytest.mark.parametrize("objects", [0, 1, 12])
def test_scene_fields_agree(size: tuple[int, int], objects: int) -> None:
    image, found = synthetic.scene(5, size, objects, classes=4)
    assert image.shape == (*size, 3)
    assert image.dtype == np.uint8
    assert found.size == size
    assert found.classes == ["ellipse", "star", "ring", "ellipse 2"]
    assert len(found) <= objects
    assert found.crops is not None
    assert (found.crops.areas() > 0).all()
    np.testing.assert_array_equal(found.boxes, found.crops.boxes())
    assert found.masks is not None
    assert found.masks.sum(axis=0).max(initial=0) <= 1  # visible masks never overlap


def test_scene_repeats_and_varies() -> None:
    image, found = synthetic.scene(1)
    again, same = synthetic.scene(1)
    other, _ = synthetic.scene(2)
    np.testing.assert_array_equal(image, again)
    np.testing.assert_array_equal(found.boxes, same.boxes)
    assert len(found) == 8
    assert (image != other).mean() > 0.5


def test_scenes_have_holes_parts_and_occlusion() -> None:
    from scipy.ndimage import binary_fill_holes, label

    holes = parts = touching = 0
    for seed in range(5):
        _, found = synthetic.scene(seed, objects=16)
        assert found.masks is not None
        owner = np.where(found.masks.any(axis=0), found.masks.argmax(axis=0) + 1, 0)
        touching += np.count_nonzero((owner[:, 1:] != owner[:, :-1]) & (owner[:, 1:] > 0) & (owner[:, :-1] > 0))
        for mask, kind in zip(found.masks, found.labels, strict=True):
            filled = binary_fill_holes(mask)
            holes += int(kind == 2 and filled.sum() > mask.sum())
            parts += int(label(mask)[1] > 1)
    assert holes > 5
    assert parts > 3
    assert touching > 100


def test_pixels_show_the_objects() -> None:
    """Class hues are on the masks and nowhere else: ellipses (hue 0) are redder than what is around them."""
    image, found = synthetic.scene(3, objects=6, classes=1)
    assert found.masks is not None
    inside = found.masks.any(axis=0)
    redness = image[..., 0].astype(float) - image[..., 1:].max(axis=2)
    assert redness[inside].min() > 40
    assert redness[inside].mean() > redness[~inside].mean() + 60


def test_scene_refuses_nonsense() -> None:
    for bad in ({"size": (0, 5)}, {"objects": -1}, {"classes": 0}):
        with pytest.raises(ConfigError):
            synthetic.scene(0, **bad)


def test_coco_fixture_loads_and_matches_its_scenes(tmp_path: Path) -> None:
    path = synthetic.coco_fixture(tmp_path, 2)
    data = coco.load(path, path.parent / "images")
    assert data.notes == ()
    assert data.missing_files() == ()
    assert len(data.of(5)) == 0
    assert [a.crowd for a in data.of(0)].count(True) == 1
    kinds = {type(a.segmentation) for rows in data.annotations.values() for a in rows}
    assert kinds == {dict, tuple}
    for i in (0, 1, 2):
        image, found = synthetic.scene(2000 + i, data.images[i].size, 5, 3)
        np.testing.assert_array_equal(data.image(i), image)
        assert found.crops is not None
        np.testing.assert_array_equal(data.boxes(i), found.boxes)
        for ours, exact in zip(data.masks(i).dense(), found.crops.dense(), strict=True):
            assert (ours & exact).sum() / (ours | exact).sum() > (0.9 if i == 1 else 0.999)
