"""The files of a run: every kind, read back; names that never meet; nothing half-written."""

import csv
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from tests.reference.brightness import CLASSES, WITHOUT_STUFF, Brightness

from maskwright import draw, media
from maskwright.data.formats import cvat
from maskwright.errors import ConfigError, ImageError
from maskwright.prediction.batch import Done, Failed, RunOptions, predict_files
from maskwright.predictor.options import FindOptions
from maskwright.results.outputs import WRITERS, parse_kinds, run_images
from maskwright.results.prediction import Prediction
from maskwright.types import Classes, HeatMaps, Landmarks, Masks


def ring_and_two_parts() -> NDArray[np.uint8]:
    """Level 1 is a square with a hole, level 2 two parts."""
    pixels = np.zeros((20, 30, 3), np.uint8)
    pixels[2:10, 3:12] = 1
    pixels[4:8, 5:9] = 0
    pixels[12:15, 1:6] = 2
    pixels[10:19, 14:29] = 2
    return pixels


def source_image(path: Path, pixels: NDArray[np.uint8] | None = None) -> Path:
    """Write an image; without pixels an empty one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((5, 7, 3), np.uint8) if pixels is None else pixels).save(path)
    return path


def run(sources: list[Path], out: Path, **options: object) -> tuple[Brightness, list[Done], list[Failed]]:
    """A run with the stand-in."""
    predictor = Brightness()
    chosen = RunOptions(**{"save": WITHOUT_STUFF, **options})  # type: ignore[arg-type]
    report = predict_files(predictor, sources, out, chosen)  # type: ignore[arg-type]
    return predictor, report.done, report.failed


def table(out: Path) -> list[dict[str, str]]:
    """The rows of a run's table."""
    return list(csv.DictReader((out / "measurements.csv").read_text("utf-8").splitlines()))


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One run with every kind over three images: two instances, one instance, none. Non-ASCII names."""
    folder = tmp_path_factory.mktemp("run")
    pixels = ring_and_two_parts()
    one = np.where(pixels == 2, 0, pixels).astype(np.uint8)
    sources = [source_image(folder / "in/größe 日本.png", pixels), source_image(folder / "in/one.png", one)]
    sources.append(source_image(folder / "in/none.jpg"))
    _, done, failed = run(sources, folder / "out")
    assert [d.count for d in done] == [2, 1, 0]
    assert failed == []
    return folder


def expected(folder: Path, name: str) -> Prediction:
    """What the stand-in finds in one of the images."""
    return Brightness().predict([media.read_image(folder / "in" / name)])[0]


def test_there_is_one_result_of_each_kind_for_each_image(results: Path) -> None:
    found = sorted(str(p.relative_to(results / "out")) for p in (results / "out").rglob("*") if p.is_file())
    assert found == sorted(
        ["annotations.xml", "measurements.csv", "results.json"]
        + [f"cutouts/größe 日本/{n}.png" for n in ("0000_cell", "0001_a_b_ ü")]
        + ["cutouts/one/0000_cell.png"]
        + [f"json/{n}.json" for n in ("größe 日本", "one", "none")]
        + [f"labelme/{n}.json" for n in ("größe 日本", "one", "none")]
        + [f"labels/{n}.png" for n in ("größe 日本", "one", "none")]
        + ["overlay/größe 日本.png", "overlay/one.png", "overlay/none.jpg"]
        + [f"polygons/{n}.geojson" for n in ("größe 日本", "one", "none")]
    )
    assert (results / "out/cutouts/none").is_dir()


def test_overlays_are_the_drawing(results: Path) -> None:
    pixels = media.read_image(results / "in/größe 日本.png")
    drawn = draw.overlay(pixels, expected(results, "größe 日本.png"))
    np.testing.assert_array_equal(media.read_image(results / "out/overlay/größe 日本.png"), drawn)
    assert media.read_image(results / "out/overlay/none.jpg").shape == (5, 7, 3)


@pytest.mark.parametrize("name", ["größe 日本.png", "one.png", "none.jpg"])
def test_json_loads_as_the_prediction(results: Path, name: str) -> None:
    path = results / "out/json" / Path(name).with_suffix(".json")
    loaded, wanted = Prediction.load(path), expected(results, name)
    assert loaded.classes == wanted.classes
    np.testing.assert_array_equal(loaded.boxes, wanted.boxes)
    np.testing.assert_array_equal(loaded.masks, wanted.masks)
    assert json.loads(path.read_text("utf-8"))["image"] == str(results / "in" / name)


def test_polygons_are_geojson_with_closed_rings_and_holes(results: Path) -> None:
    document = json.loads((results / "out/polygons/größe 日本.geojson").read_text("utf-8"))
    ring, parts = document["features"]
    assert document["type"] == "FeatureCollection"
    assert (ring["geometry"]["type"], parts["geometry"]["type"]) == ("Polygon", "MultiPolygon")
    assert len(ring["geometry"]["coordinates"]) == 2  # outline and hole
    assert len(parts["geometry"]["coordinates"]) == 2  # two parts
    for line in ring["geometry"]["coordinates"]:
        assert line[0] == line[-1]
        assert all(isinstance(v, int) for point in line for v in point)
    assert parts["properties"]["classification"] == {"name": "a/b: ü"}
    assert parts["properties"]["score"] == 0.8
    assert json.loads((results / "out/polygons/none.geojson").read_text())["features"] == []


def test_an_instance_without_pixels_has_no_geometry(tmp_path: Path) -> None:
    class Empty(Brightness):
        def _one(self, pixels: NDArray[np.uint8]) -> Prediction:
            masks, points = Masks.from_dense(np.zeros((1, 5, 7))), np.array([[[1.5, 2, 0.25]]])
            return Prediction([[1, 1, 1, 1]], [0.5], [0], CLASSES, (5, 7), masks, points)  # type: ignore[arg-type]

    predict_files(Empty(), [source_image(tmp_path / "a.png")], tmp_path / "out", RunOptions(WITHOUT_STUFF))  # type: ignore[arg-type]
    feature = json.loads((tmp_path / "out/polygons/a.geojson").read_text())["features"][0]
    assert feature["geometry"] is None
    assert feature["properties"]["keypoints"] == [[1.5, 2.0, 0.25]]
    (row,) = table(tmp_path / "out")
    assert (row["area"], row["centroid_x"]) == ("0", "")


def test_labelme_finds_its_image(results: Path) -> None:
    path = results / "out/labelme/größe 日本.json"
    document = json.loads(path.read_text("utf-8"))
    assert (path.parent / document["imagePath"]).resolve() == (results / "in/größe 日本.png").resolve()
    assert [s["label"] for s in document["shapes"]] == ["cell", "a/b: ü", "a/b: ü"]


def test_cvat_annotations_are_read_back_as_masks(results: Path) -> None:
    data = cvat.load(results / "out/annotations.xml")
    assert [image.file_name for image in data.images] == ["größe 日本.png", "one.png", "none.jpg"]
    wanted = expected(results, "größe 日本.png")
    assert data.classes.names == wanted.classes.names
    np.testing.assert_array_equal(data.truth(0).masks, wanted.masks)
    assert [a.extra["attributes"] for a in data.of(0)] == [{"score": "0.900"}, {"score": "0.800"}]
    assert data.of(2) == ()


class Posing(Brightness):
    """It finds one fly with two landmarks in every image, of which the second has no score."""

    classes = Classes(["fly"], landmarks=[Landmarks(("head", "=tail", "wing"), ((0, 2),))])
    detector = SimpleNamespace(parts=(HeatMaps,))
    with_masks = False

    def _one(self, pixels: NDArray[np.uint8]) -> Prediction:
        points = np.array([[[1.5, 2, 0.25], [3, 3, 0.5], [4, 4, 0]]], np.float32)
        return Prediction([[1, 1, 6, 4]], [0.5], [0], self.classes, (5, 7), keypoints=points)


def test_landmarks_have_a_table_and_skeletons(tmp_path: Path) -> None:
    source, out = source_image(tmp_path / "a.png"), tmp_path / "out"
    predict_files(Posing(), [source], out, RunOptions(("landmarks", "cvat")))  # type: ignore[arg-type]
    with (out / "landmarks.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["image", "instance", "class", "landmark", "x", "y", "score"]
    assert [row[1:] for row in rows[1:]] == [
        ["0", "fly", "head", "1.5", "2.0", "0.25"],
        ["0", "fly", "'=tail", "3.0", "3.0", "0.5"],
    ]
    data = cvat.load(out / "annotations.xml")
    (row,) = data.of(0)
    assert row.box == (1, 1, 6, 4)
    assert row.keypoints is not None
    assert row.keypoints.tolist() == [[1.5, 2, 2], [3, 3, 2], [0, 0, 0]]
    lacking = SimpleNamespace(parts=())
    none = type("None", (Posing,), {"detector": lacking})()
    with pytest.raises(ConfigError, match="landmarks cannot be made without landmarks"):
        predict_files(none, [source], tmp_path / "b", RunOptions(("landmarks",)))


def test_an_interrupted_run_leaves_its_annotations_under_another_name(tmp_path: Path) -> None:
    class Stopping(Posing):
        def _one(self, pixels: NDArray[np.uint8]) -> Prediction:
            if pixels[0, 0, 0] == 1:
                raise KeyboardInterrupt
            return super()._one(pixels)

    sources = [source_image(tmp_path / "a.png"), source_image(tmp_path / "b.png", np.ones((5, 7, 3), np.uint8))]
    with pytest.raises(KeyboardInterrupt):
        predict_files(Stopping(), sources, tmp_path / "out", RunOptions(("cvat",)))  # type: ignore[arg-type]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["annotations.part.xml"]


def test_cutouts_are_transparent_around_the_instance(results: Path) -> None:
    with Image.open(results / "out/cutouts/größe 日本/0000_cell.png") as image:
        assert image.mode == "RGBA"
        alpha = np.asarray(image)[..., 3]
    assert (alpha == 255).sum() == 8 * 9 - 4 * 4
    assert (alpha == 0).sum() == alpha.size - (8 * 9 - 4 * 4)


def test_names_of_any_characters(tmp_path: Path) -> None:
    """Line breaks end no run, and what a spreadsheet would take for a formula stands behind an apostrophe."""
    source = source_image(tmp_path / "=in.png", ring_and_two_parts())

    class Strange(Brightness):
        classes = Classes(["=cmd|' /C calc'!A0", "@SUM(1)\nx"])

    predict_files(Strange(), [source], tmp_path / "out", RunOptions(WITHOUT_STUFF))  # type: ignore[arg-type]
    with (tmp_path / "out/measurements.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == ["'=cmd|' /C calc'!A0", "'@SUM(1)\nx"]
    assert all(row["image"] == str(source) for row in rows)
    assert Prediction.load(tmp_path / "out/json/=in.json").classes.names == Strange.classes.names


def test_labels_are_16_bit_and_count_from_one(results: Path) -> None:
    with Image.open(results / "out/labels/größe 日本.png") as image:
        assert image.mode == "I;16"
        labels = np.asarray(image)
    np.testing.assert_array_equal(labels, ring_and_two_parts()[..., 0])


def test_the_table_has_a_row_for_each_instance(results: Path) -> None:
    text = (results / "out/measurements.csv").read_text("utf-8")
    assert text.splitlines()[0] == ("image,instance,class,score,area,x0,y0,x1,y1,perimeter,centroid_x,centroid_y")
    rows = table(results / "out")
    assert [Path(row["image"]).name for row in rows] == ["größe 日本.png"] * 2 + ["one.png"]
    first = rows[0]
    assert (first["instance"], first["class"], first["score"], first["area"]) == ("0", "cell", "0.9", "56")
    assert [float(first[k]) for k in ("x0", "y0", "x1", "y1")] == [3, 2, 12, 10]
    # The square's centre is (7.5, 6), the hole's (7, 6): 72 and 16 pixels.
    np.testing.assert_allclose(float(first["centroid_x"]), (72 * 7.5 - 16 * 7) / 56, atol=1e-3)
    np.testing.assert_allclose(float(first["centroid_y"]), 6, atol=1e-3)
    assert float(first["perimeter"]) > 0


def test_coco_results_name_their_image(results: Path) -> None:
    document = json.loads((results / "out/results.json").read_text("utf-8"))
    assert [(e["image_id"], Path(e["file_name"]).name) for e in document] == [
        (1, "größe 日本.png"),
        (1, "größe 日本.png"),
        (2, "one.png"),
    ]
    assert [e["category_id"] for e in document] == [7, 90, 7]
    empty = results / "empty"
    run([results / "in/none.jpg"], empty, save=["coco", "csv"])
    assert json.loads((empty / "results.json").read_text()) == []
    assert len((empty / "measurements.csv").read_text().splitlines()) == 1


# ---- the run ------------------------------------------------------------------------------------------------------


def test_unreadable_images_are_named_and_the_others_done(tmp_path: Path) -> None:
    good, last = source_image(tmp_path / "a.png"), source_image(tmp_path / "c.png", ring_and_two_parts())
    cut = tmp_path / "b.png"
    cut.write_bytes(last.read_bytes()[:60])
    (tmp_path / "empty.png").touch()
    sources = [good, tmp_path / "gone.png", cut, tmp_path / "empty.png", last]
    predictor, done, failed = run(sources, tmp_path / "out", save=["json"], find=FindOptions(batch_size=3))
    assert [(Path(d.source).name, d.count) for d in done] == [("a.png", 0), ("c.png", 2)]
    assert [Path(f.source).name for f in failed] == ["gone.png", "b.png", "empty.png"]
    assert failed[0].reason.startswith("no such file")
    assert all(f.reason and f.source not in f.reason for f in failed)
    assert predictor.largest_batch <= 3
    assert sorted(p.name for p in (tmp_path / "out/json").iterdir()) == ["a.json", "c.json"]


def test_same_stems_in_different_folders_stay_apart(tmp_path: Path) -> None:
    sources = [source_image(tmp_path / "in" / name) for name in ("a/x.png", "b/x.png", "b/x.jpg", "b/X.bmp", "y.png")]
    _, done, _ = run(sources, tmp_path / "out", save=["json", "cutouts"])
    assert len(done) == 5
    saved = {p.stem: json.loads(p.read_text())["image"] for p in (tmp_path / "out/json").iterdir()}
    assert saved == dict(zip(["a__x", "b__x_png", "b__x_jpg", "b__X_bmp", "y"], map(str, sources), strict=True))


def test_results_that_are_there_are_replaced_only_when_asked(tmp_path: Path) -> None:
    source = source_image(tmp_path / "a.png", ring_and_two_parts())
    run([source], tmp_path / "out", save=["cutouts", "csv"])
    source_image(source)
    with pytest.raises(ConfigError, match=r"a and 1 more exist already\. Name another folder"):
        run([source], tmp_path / "out", save=["cutouts", "csv"])
    run([source], tmp_path / "out", save=["json"])  # another kind beside them is no conflict
    run([source], tmp_path / "out", save=["cutouts", "csv"], overwrite=True)
    assert list((tmp_path / "out/cutouts/a").iterdir()) == []
    source.rename(tmp_path / "file")
    with pytest.raises(ConfigError, match="is a file"):
        run([source_image(source)], tmp_path / "file")


def test_a_run_that_breaks_off_keeps_the_rows_it_has_under_another_name(tmp_path: Path) -> None:
    class Breaks(Brightness):
        def predict(
            self, source: list[NDArray[np.uint8]], options: FindOptions | None = None, on_tile: object = None
        ) -> list[Prediction]:
            if source and source[0].shape == (5, 7, 3):
                raise RuntimeError("power cut")
            return super().predict(source)

    sources = [source_image(tmp_path / "a.png", ring_and_two_parts()), source_image(tmp_path / "b.png")]
    with pytest.raises(RuntimeError, match="power cut"):
        predict_files(Breaks(), sources, tmp_path / "out", RunOptions(("csv", "coco")))  # type: ignore[arg-type]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["measurements.csv.part", "results.json.part"]
    assert len((tmp_path / "out/measurements.csv.part").read_text().splitlines()) == 3


def test_kinds_that_need_masks_are_refused_for_boxes(tmp_path: Path) -> None:
    predictor = Brightness()
    predictor.with_masks = False
    source = source_image(tmp_path / "a.png", ring_and_two_parts())
    boxes = [kind for kind in WITHOUT_STUFF if not WRITERS[kind].needs_masks]
    predict_files(predictor, [source], tmp_path / "boxes", RunOptions(boxes))  # type: ignore[arg-type]
    (first, _) = table(tmp_path / "boxes")
    assert (first["area"], first["perimeter"]) == ("72", "")
    for kind in [kind for kind, output in WRITERS.items() if output.needs_masks]:
        with pytest.raises(ConfigError, match=f"{kind} cannot be made without masks"):
            predict_files(predictor, [source], tmp_path / "out", RunOptions(["labelme", kind]))  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()  # nothing is begun that cannot be finished


def test_wrong_options_are_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Did you mean 'overlay'"):
        parse_kinds(["json, overlya"])
    with pytest.raises(ConfigError, match=r"Nothing to save\. Known: coco, csv"):
        parse_kinds([","])
    assert parse_kinds(["json,csv", "json"]) == ("json", "csv")
    source = source_image(tmp_path / "a.png")
    with pytest.raises(ConfigError, match="Did you mean 'cell'"):
        run([source], tmp_path / "out", find=FindOptions(classes=["cel"]))
    with pytest.raises(ImageError, match=r"gone\.png: no such file"):
        run([tmp_path / "gone.png"], tmp_path / "out")
    with pytest.raises(ImageError, match=r"None of the sources.*gone\.png: no such.*b\.png: no such"):
        run([tmp_path / "gone.png", tmp_path / "b.png"], tmp_path / "out")
    with pytest.raises(ConfigError, match="1 to 16 bits, got 17"):
        run([source], tmp_path / "out", bits=17)
    for name, value in {"batch_size": 0, "max_instances": -1, "score_threshold": 1.5}.items():
        with pytest.raises(ConfigError, match=name):
            FindOptions(**{name: value})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="max_instances is at least 1, got 0"):
        run([source], tmp_path / "out", find=FindOptions(max_instances=0))
    assert not (tmp_path / "out").exists()


# ---- names --------------------------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.text("aAß. :é~", min_size=1, max_size=4), min_size=1, max_size=3), max_size=8))
def test_names_never_meet_and_never_leave_the_folder(paths: list[list[str]]) -> None:
    sources = [Path("/in", *parts) for parts in paths]
    names = [entry.name for entry in run_images(sources)]
    assert len({name.casefold() for name in names}) == len(names)
    for name in names:
        assert Path("/out", name).resolve().parent == Path("/out")
        assert name not in ("", ".", "..")


def test_long_names_are_cut_and_still_differ() -> None:
    names = [e.name for e in run_images([Path("/in/" + "ü" * 120 + end) for end in ("a.png", "b.png")])]
    assert len(set(names)) == 2
    assert all(len(name.encode()) <= 200 for name in names)


def test_addresses_are_named_by_their_path() -> None:
    urls = ["https://host/a/cells%20one.png?size=3", "https://host/b/../..", "https://host/"]
    assert [entry.name for entry in run_images(urls)] == ["cells one", "image", "host"]


def test_numbers_of_coco_images_are_kept() -> None:
    assert [e.image_id for e in run_images([Path("000000000139.jpg"), Path("285.jpg")])] == [139, 285]
    assert [e.image_id for e in run_images([Path("000000000139.jpg"), Path("x.jpg")])] == [1, 2]
    assert [e.image_id for e in run_images([Path("a/7.jpg"), Path("b/07.jpg")])] == [1, 2]
