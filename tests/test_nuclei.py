"""The model inside the package finds nuclei, without a network connection."""

import numpy as np
import pytest
import skimage.data

import maskwright
from maskwright.demo import SIZE


@pytest.fixture(scope="module")
def predictor() -> "maskwright.Predictor":
    return maskwright.load("nuclei", size=SIZE)


def test_finds_the_nuclei_of_the_demo_picture(predictor: "maskwright.Predictor") -> None:
    """The nuclei are blue, the tissue around them brown or pale: most of what is outlined is blue and dark."""
    picture = skimage.data.immunohistochemistry()
    found = predictor.predict(picture)
    assert 40 <= len(found) <= 200
    assert found.scores.min() >= 0.5
    assert found.masks is not None
    colours = np.array([picture[mask].mean(axis=0) for mask in found.masks])  # (N, 3)
    assert (colours[:, 2] > colours[:, 0]).mean() >= 0.7
    assert (colours.mean(axis=1) < 210).mean() >= 0.9


@pytest.mark.parametrize("grey", [0, 128, 255])
def test_finds_nothing_where_there_is_nothing(predictor: "maskwright.Predictor", grey: int) -> None:
    assert len(predictor.predict(np.full((128, 160, 3), grey, np.uint8))) == 0
