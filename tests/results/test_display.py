"""A result in a notebook: a few lines, the overlay, a table; and what is refused, by name."""

import base64
import io
import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, ImageShow

from maskwright import draw, media
from maskwright.data import formats
from maskwright.data.synthetic import coco_fixture
from maskwright.errors import ConfigError, MissingExtraError
from maskwright.ops import masks as mask_ops
from maskwright.results.display import LONGEST
from maskwright.results.prediction import Prediction
from maskwright.types import Classes, Masks

SIZE = (60, 80)
PIXELS = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)


def prediction(count=40, image=None, names=("cell", "debris"), **fields):
    corners = np.stack([np.arange(count) % 50, np.arange(count) % 70], axis=1)
    masks = Masks(SIZE, corners, (np.ones((5, 6), np.bool_),) * count)
    labels = (np.arange(count) % 4 == 0).astype(int)
    scores = np.linspace(0.9, 0.5, count)
    return Prediction(masks.boxes(), scores, labels, Classes(names), SIZE, masks, image=image, **fields)


def test_repr_is_a_few_lines_whatever_is_in_it():
    text = repr(prediction(3000))
    assert text == "Prediction: 3000 on 60x80 (height x width), masks\n  cell 2250, debris 750\n  scores 0.50 to 0.90"
    assert repr(prediction(0)) == "Prediction: 0 on 60x80 (height x width), masks"
    many = Classes([f"class {k} " + "x" * 100 for k in range(90)])
    boxes = Prediction(np.ones((90, 4)), np.ones(90), np.arange(90), many, SIZE)
    assert "boxes alone" in repr(boxes)
    assert "and 84 more classes" in repr(boxes)
    assert max(map(len, repr(boxes).splitlines())) < 400
    assert repr(prediction(3000).crops) == "Masks(3000 on 60x80 (height x width))"


def test_draw_takes_the_image_that_was_predicted(tmp_path):
    known = prediction(image=PIXELS)
    np.testing.assert_array_equal(known.draw(colour="class"), draw.overlay(PIXELS, known, colour="class"))
    np.testing.assert_array_equal(known[known.scores > 0.7].draw(), draw.overlay(PIXELS, known[known.scores > 0.7]))
    other = PIXELS[::-1].copy()
    np.testing.assert_array_equal(known.draw(other), draw.overlay(other, known))
    file = tmp_path / "a.png"
    Image.fromarray(PIXELS).save(file)
    np.testing.assert_array_equal(prediction(image=file).draw(), known.draw())
    with pytest.raises(ConfigError, match="does not know its image") as caught:
        prediction().draw()
    assert caught.value.options == ("image",)
    with pytest.raises(ConfigError, match=r"no option 'colors'\. Did you mean 'colour'"):
        known.draw(colors="class")


def test_save_follows_the_suffix(tmp_path):
    known = prediction(image=PIXELS)
    known.save(tmp_path / "a.PNG")
    np.testing.assert_array_equal(media.read_image(tmp_path / "a.PNG"), known.draw())
    prediction().save(tmp_path / "b.png", image=PIXELS)
    np.testing.assert_array_equal(media.read_image(tmp_path / "b.png"), known.draw())
    with pytest.raises(ConfigError, match="does not know its image"):
        prediction().save(tmp_path / "c.png")
    for name in ("d.txt", "e"):
        with pytest.raises(ConfigError, match=r"saved as \.json, or as an overlay \(\.png"):
            known.save(tmp_path / name)
    with pytest.raises(ConfigError, match="it is a path or an address; got ndarray"):
        known.save(tmp_path / "f.json", image=PIXELS)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.PNG", "b.png"]
    assert Prediction.load(known.save(tmp_path / "g.json")).image is None


def test_html_has_the_summary_and_a_small_overlay():
    html = prediction(image=PIXELS, names=("<b>cell</b>", "debris"))._repr_html_()
    assert "&lt;b&gt;cell" in html
    assert "<b>" not in html
    coded = re.search(r'src="data:image/jpeg;base64,([^"]+)"', html)[1]
    shown = Image.open(io.BytesIO(base64.b64decode(coded)))
    assert shown.size == (80, 60)
    assert "<img" not in prediction()._repr_html_()
    large = Prediction(np.ones((1, 4)), [0.9], [0], Classes(["a"]), (200, 3000), image=np.zeros((200, 3000), np.uint8))
    coded = re.search(r'base64,([^"]+)"', large._repr_html_())[1]
    assert Image.open(io.BytesIO(base64.b64decode(coded))).size == (LONGEST, 80)


def test_show_in_a_notebook_and_in_a_viewer(monkeypatch):
    seen = []
    known = prediction(image=PIXELS)
    monkeypatch.setitem(
        sys.modules,
        "IPython",
        SimpleNamespace(
            get_ipython=lambda: SimpleNamespace(kernel=object()),
            display=SimpleNamespace(display=seen.append, Image=lambda data, format: Image.open(io.BytesIO(data))),
        ),
    )
    known.show(colour="score")
    assert np.abs(np.array(seen[0]).astype(int) - known.draw(colour="score")).mean() < 8  # JPEG
    monkeypatch.delitem(sys.modules, "IPython")
    monkeypatch.setattr(ImageShow, "show", lambda image, title: bool(seen.append(image)) or True)
    known.show()
    np.testing.assert_array_equal(np.array(seen[1]), known.draw())
    monkeypatch.setattr(ImageShow, "show", lambda image, title: False)
    with pytest.raises(ConfigError, match=r"no program that shows images.*save\('overlay.png'\)"):
        known.show()


def test_to_pandas():
    found = prediction(6, track_ids=np.arange(6) + 10)
    table = found.to_pandas()
    measured = mask_ops.measure(found.crops)
    assert list(table) == [
        *("class", "score", "area", "x0", "y0", "x1", "y1", "perimeter", "centroid_x", "centroid_y", "track_id")
    ]
    assert table["class"].tolist() == ["debris", "cell", "cell", "cell", "debris", "cell"]
    np.testing.assert_array_equal(table["centroid_x"], measured["centroid_x"])
    np.testing.assert_array_equal(table[["x0", "y0", "x1", "y1"]], found.boxes)
    boxes = Prediction(found.boxes, found.scores, found.labels, found.classes, SIZE).to_pandas()
    assert list(boxes) == ["class", "score", "area", "x0", "y0", "x1", "y1"]
    assert boxes["area"].tolist() == [30.0] * 6
    assert len(prediction(0).to_pandas()) == 0


def test_pandas_is_optional(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'maskwright\[pandas\]'"):
        prediction().to_pandas()


def test_repr_of_a_data_set_is_three_lines(tmp_path):
    text = repr(formats.load(coco_fixture(tmp_path, 0, images=30, size=(32, 32))))
    assert len(text.splitlines()) == 3
    assert "30 images" in text
    assert len(text) < 500
