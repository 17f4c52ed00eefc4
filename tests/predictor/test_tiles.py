"""Large images in tiles: what is found is what one pass over the whole image finds."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.reference.painted import SPEC, Painted, canvas, painted, scattered

from maskwright import media
from maskwright.errors import ConfigError, DataError
from maskwright.models import rcnn
from maskwright.models.family import build
from maskwright.predictor.given import GivenBoxes
from maskwright.predictor.options import FindOptions
from maskwright.predictor.predictor import Predictor
from maskwright.predictor.tiles import tiling_of
from maskwright.results.prediction import IN_TILE, MAX_INSTANCES, Prediction
from maskwright.types import Classes

SIZE = (200, 260)
COUNT = 130


def rows_of(found: Prediction) -> list[tuple[Any, ...]]:
    assert found.crops is not None
    masks = [np.packbits(m.dense()).tobytes() for m in found.crops]
    return list(zip(found.boxes.tolist(), found.scores.tolist(), found.labels.tolist(), masks, strict=True))


@pytest.fixture(scope="module")
def image() -> NDArray[np.uint8]:
    return canvas(SIZE, scattered(SIZE))


@pytest.mark.parametrize(("tiles", "overlap", "count"), [(96, 32, 12), (64, None, 48), (128, 64, 12), (96, 30, 12)])
def test_tiles_find_what_one_pass_finds(image: NDArray[np.uint8], tiles: int, overlap: int | None, count: int) -> None:
    whole = painted(keep=140).predict(image, tiles="off")
    found = painted(keep=140).predict(image, tiles=tiles, tile_overlap=overlap, batch_size=3)
    assert len(whole) == COUNT
    assert rows_of(found) == rows_of(whole)
    assert whole.tiles == ""
    assert found.tiles.startswith(f"Computed in {count} tiles of {tiles}x{tiles} pixels that overlap by ")
    assert found.limits == {}


@pytest.mark.parametrize("with_masks", [True, False])
def test_objects_larger_than_a_tile_are_joined(with_masks: bool) -> None:
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    ring = np.asarray(abs(np.hypot(rows - 100, columns - 130) - 80) < 12)
    bar = np.asarray((abs(rows - 100) < 9) & (abs(columns - 130) < 50))
    image = canvas(SIZE, [bar, ring] if with_masks else [bar])  # the boxes of parts of the ring cover the bar
    whole, found = (painted(with_masks=with_masks).predict(image, tiles=t, tile_overlap=32) for t in (1024, 96))
    assert len(whole) == 1 + with_masks
    assert found.boxes.tolist() == whole.boxes.tolist()
    if with_masks:
        assert rows_of(found) == rows_of(whole)


def test_every_tile_has_one_size_and_lies_in_the_image() -> None:
    predictor = painted()
    tiling = tiling_of(predictor, FindOptions(tiles=128, tile_overlap=20), (300, 2000))
    assert tiling is not None
    tiles = tiling.tiles((300, 2000))
    assert {tuple(t[2:] - t[:2]) for t in tiles} == {(128, 128)}
    seen = np.zeros((300, 2000), int)
    for x0, y0, x1, y1 in tiles:
        seen[y0:y1, x0:x1] += 1
    assert seen.min() == 1
    assert sorted({int(x) for x in tiles[:, 0]})[:3] == [0, 96, 192]
    assert {tuple(t[2:] - t[:2]) for t in tiling.tiles((100, 2000))} == {(128, 100)}
    assert tiling_of(predictor, FindOptions(tiles=128), (128, 100)) is None


def test_the_limit_of_a_tile_is_told(image: NDArray[np.uint8]) -> None:
    found = painted(keep=4).predict(image, tiles=96, tile_overlap=32)
    assert set(found.limits) == {IN_TILE}
    assert "of them had more objects than a limit of a tile allows" in found.tiles
    assert found.limit_note.endswith("objects of one tile. Smaller tiles or a larger max_instances find more.")
    assert len(found) < COUNT


def test_a_larger_limit_reaches_the_tiles(image: NDArray[np.uint8]) -> None:
    few, more = (painted(keep=4).predict(image, tiles=96, tile_overlap=32, max_instances=m) for m in (None, COUNT))
    assert len(few) < len(more)
    assert rows_of(more) == rows_of(painted(keep=140).predict(image, tiles="off"))


def test_max_instances_are_of_the_whole_image(image: NDArray[np.uint8]) -> None:
    whole = painted(keep=140).predict(image, tiles="off")
    found = painted(keep=140).predict(image, tiles=128, tile_overlap=32, max_instances=50)
    assert rows_of(found) == rows_of(whole)[:50]
    assert found.limits == {MAX_INSTANCES: pytest.approx(whole.scores[50])}
    assert len(painted(keep=140).predict(image, tiles=128, max_instances=0)) == 0


def test_classes_and_scores_are_those_of_one_pass(image: NDArray[np.uint8]) -> None:
    shown = image.copy()
    shown[(image[..., 0] % 2 == 1) & (image[..., 0] > 0), 2] = 1
    options: dict[str, Any] = {"classes": ["dot"], "score_threshold": 0.99}
    whole, found = (painted(keep=140).predict(shown, tiles=t, **options) for t in ("off", 128))
    assert 0 < len(whole) < COUNT
    assert rows_of(found) == rows_of(whole)


def test_progress_and_times_are_those_of_tiles(image: NDArray[np.uint8]) -> None:
    seen: list[tuple[int, int]] = []
    painted(keep=140).predict(image, tiles=128, tile_overlap=64, on_tile=lambda *step: seen.append(step))
    assert seen == [(k, 12) for k in range(1, 13)]


def test_a_prediction_of_tiles_is_saved_with_what_is_said(image: NDArray[np.uint8], tmp_path: Path) -> None:
    found = painted(keep=4).predict(image, tiles=128)
    again = Prediction.load(found.save(tmp_path / "a.json"))
    assert (again.tiles, again.limits) == (found.tiles, {IN_TILE: pytest.approx(found.limits[IN_TILE])})
    assert rows_of(again) == rows_of(found)


# ---- when ----------------------------------------------------------------------------------------------------------


def test_auto_is_for_images_that_would_be_shrunk_by_models_that_never_do() -> None:
    fixed = painted(spec=replace(SPEC, max_size=200))
    assert tiling_of(fixed, FindOptions(), (200, 300)) is None
    assert tiling_of(fixed, FindOptions(tiles="off"), (2000, 3000)) is None
    tiling = tiling_of(fixed, FindOptions(), (200, 304))
    assert tiling is not None
    assert tiling.side == 192
    assert "as one pass would shrink the image 1.5 times" in tiling.words((200, 304))
    assert "tiles 'off' does that" in tiling.words((200, 304))
    free = painted(spec=replace(SPEC, max_size=200, shrink=True))  # whose objects may have any size
    assert tiling_of(free, FindOptions(), (2000, 3000)) is None
    assert tiling_of(painted(), FindOptions(), (2000, 3000)) is None  # nothing is shrunk


def test_the_built_in_model_takes_tiles_of_1024_that_its_largest_anchors_fit_into() -> None:
    import maskwright

    nuclei = maskwright.load("nuclei", device="cpu")
    assert tiling_of(nuclei, FindOptions(), (2000, 3000)) is None
    tiling = tiling_of(nuclei, FindOptions(), (4000, 6000))
    assert tiling is not None
    assert (tiling.side, tiling.overlap) == (1024, 160)
    assert len(tiling.tiles((4000, 6000))) == 35


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tiles": 100}, "a multiple of 32 with 'painted', got 100: give 96 or 128"),
        ({"tiles": 32}, "at least 64 pixels wide"),
        ({"tiles": 128, "tile_overlap": 65}, "tile_overlap is at most half a tile, which is 128 pixels wide, got 65"),
        ({"tiles": 128, "tile_overlap": -1}, "tile_overlap is at least 0"),
        ({"tiles": "all"}, "tiles is 'auto', 'off' or the side of a tile in pixels, got 'all'"),
        ({"tiles": True}, "tiles is 'auto', 'off' or the side"),
        ({"tiles": "off", "tile_overlap": 3}, "no use for tile_overlap"),
    ],
)
def test_tiles_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        painted().predict(np.zeros((300, 300, 3), np.uint8), **options)


def test_a_semantic_map_is_not_made_of_tiles() -> None:
    panoptic = next(c for c in rcnn.tiny_variants().values() if c.semantic.names)
    predictor = Predictor(build(panoptic).eval(), Classes([str(k) for k in range(panoptic.num_classes)]), name="scene")
    image = np.zeros((96, 200, 3), np.uint8)
    with pytest.raises(ConfigError, match="names the class of every pixel"):
        predictor.predict(image, tiles=64)
    assert tiling_of(predictor, FindOptions(), (5000, 9000)) is None


# ---- boxes that are given ------------------------------------------------------------------------------------------


def test_boxes_that_are_given_stay_as_they_are_and_in_order() -> None:
    predictor = Predictor(build(rcnn.tiny("compact")).eval(), Classes(["a", "b", "c"]), name="tiny")
    image = np.random.default_rng(0).integers(0, 255, (300, 300, 3), np.uint8)
    boxes = np.array([[200.5, 20, 240, 60], [10, 10, 50, 40], [110, 120, 140, 150], [250, 250, 300, 300]], np.float32)
    found = predictor.predict(image, boxes=GivenBoxes.of(boxes, [1, -1, 2, 0]), tiles=128, tile_overlap=64)
    assert found.boxes.tolist() == boxes.tolist()
    assert found.labels[[0, 2, 3]].tolist() == [1, 2, 0]
    assert found.crops is not None
    outside = np.ones((300, 300), bool)
    outside[20:60, 200:241] = False
    assert not (found.crops[0].dense()[0] & outside).any()
    with pytest.raises(DataError, match=r"row 1, .* lies in no tile as a whole"):
        predictor.predict(image, boxes=[[0, 0, 9, 9], [5, 5, 200, 200]], tiles=128, tile_overlap=64)


# ---- read in windows -----------------------------------------------------------------------------------------------


def test_a_tiff_is_read_in_windows_and_gives_the_same(
    image: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import Image

    Image.fromarray(image).save(tmp_path / "a.tif", compression="tiff_deflate", tiffinfo={278: 16})
    detector = Painted(keep=140)
    predictor = Predictor(detector, name="painted")
    monkeypatch.setattr(media, "as_image", None)  # what decodes whole files
    found = predictor.predict(tmp_path / "a.tif", tiles=128, tile_overlap=32)
    monkeypatch.undo()
    assert set(detector.seen) == {(128, 128)}
    assert rows_of(found) == rows_of(predictor.predict(image, tiles="off"))
    assert found.image == tmp_path / "a.tif"
