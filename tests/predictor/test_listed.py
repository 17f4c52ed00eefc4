"""What `predict` is given: tensors, folders and patterns are the images that they hold."""

import numpy as np
import pytest
import torch
from PIL import Image
from tests.predictor.test_predict import Middle

from maskwright.errors import ConfigError, ImageError
from maskwright.predictor.listed import of_tensor
from maskwright.predictor.predictor import Predictor

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
TENSOR = torch.from_numpy(PIXELS).permute(2, 0, 1)


@pytest.fixture
def folder(tmp_path):
    for name, value in (("b", 2), ("a", 1), ("c", 3)):
        Image.fromarray(np.full((20, 30 + value, 3), value, np.uint8)).save(tmp_path / f"{name}.png")
    (tmp_path / "notes.txt").write_text("no image")
    return tmp_path


def test_a_tensor_is_the_image_it_holds():
    np.testing.assert_array_equal(of_tensor(TENSOR), PIXELS)
    np.testing.assert_array_equal(of_tensor(TENSOR.float() / 255), PIXELS)
    np.testing.assert_array_equal(of_tensor((TENSOR.double() / 255).requires_grad_()), PIXELS)
    np.testing.assert_array_equal(of_tensor(TENSOR[0]), PIXELS[..., 0])
    predictor = Predictor(Middle())
    one, same = predictor.predict(TENSOR), predictor.predict(PIXELS)
    np.testing.assert_array_equal(one.boxes, same.boxes)
    np.testing.assert_array_equal(one.image, PIXELS)


def test_a_tensor_of_several_images_and_a_list_give_a_list():
    predictor = Predictor(Middle())
    assert len(predictor.predict(TENSOR[None].repeat(3, 1, 1, 1))) == 3
    assert len(predictor.predict([TENSOR, PIXELS, Image.fromarray(PIXELS)])) == 3


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(0)), "before it was normalised"),
        (torch.full((3, 8, 8), torch.nan), "values from nan"),
        (torch.zeros(8, 8, 3), r"\(8, 8, 3\); permute\(2, 0, 1\)"),
        (torch.zeros(5, 8, 9), r"got \(5, 8, 9\)\."),
        (torch.zeros(3, 8, 8, dtype=torch.int64), "got torch.int64"),
    ],
)
def test_what_is_no_image_is_refused(tensor, words):
    with pytest.raises(ImageError, match=words):
        Predictor(Middle()).predict(tensor)


def test_a_folder_and_a_pattern_are_their_images(folder):
    predictor = Predictor(Middle())
    found = predictor.predict(folder)
    assert [p.size for p in found] == [(20, 31), (20, 32), (20, 33)]
    assert [p.image.name for p in found] == ["a.png", "b.png", "c.png"]
    assert [p.size for p in predictor.predict(str(folder / "[ab].png"), batch_size=2)] == [(20, 31), (20, 32)]
    assert found[1].draw().shape == (20, 32, 3)


def test_a_name_with_brackets_is_one_image(folder):
    (folder / "a.png").rename(folder / "a[1].png")
    assert Predictor(Middle()).predict(folder / "a[1].png").size == (20, 31)


def test_nothing_there_is_an_error(tmp_path):
    for source in (tmp_path, tmp_path / "*.png", tmp_path / "absent.png", "a\0b"):
        with pytest.raises(ImageError):
            Predictor(Middle()).predict(source)


def test_an_option_that_does_not_exist_names_itself():
    with pytest.raises(ConfigError, match="no option 'score'"):
        Predictor(Middle()).predict(PIXELS, score=0.5)
    with pytest.raises(ConfigError, match=r"score_threshold is .*, got 'high'"):
        Predictor(Middle()).predict(PIXELS, score_threshold="high")
