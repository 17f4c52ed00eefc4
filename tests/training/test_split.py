"""Which images a run learns from, and which it is measured on."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from maskwright.data.formats import coco
from maskwright.data.stats import stats
from maskwright.data.synthetic import coco_fixture
from maskwright.errors import DataError
from maskwright.media import read_image, write_image
from maskwright.training.config import TrainConfig
from maskwright.training.split import Split, split_data
from maskwright.training.train import plan


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return coco_fixture(tmp_path / "train", 1, images=8, size=(20, 30), objects=2)


def given(source: Path, **more: Any) -> TrainConfig:
    return TrainConfig(data=str(source), images=str(source.parent / "images"), **more)


def parts(config: TrainConfig) -> Split:
    return split_data(config.dataset)


def rewrite(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def names(data: Any) -> list[str]:
    return [record.file_name for record in data.images]


def test_a_share_is_chosen_by_the_names_where_nothing_else_says(source: Path) -> None:
    data = coco.load(source, source.parent / "images")
    for share in (None, 0.2, 0.5):
        found = parts(given(source, val_fraction=share))
        rest, held_out = data.split(0.2 if share is None else share)
        assert found.held_out is not None
        assert (names(found.data), names(found.held_out)) == (names(rest), names(held_out))
    assert parts(given(source, val_fraction=0.0)).held_out is None


@pytest.mark.parametrize("share", [0.01, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("images", range(3, 7))
def test_neither_part_is_empty_and_the_real_share_is_reported(tmp_path: Path, images: int, share: float) -> None:
    source = coco_fixture(tmp_path / "few", 1, images=images, size=(20, 30), objects=2)
    found = parts(given(source, val_fraction=share))
    assert found.held_out is not None
    held = len(found.held_out)
    assert 0 < held < images
    assert len(found.data) == images - held
    assert found.chosen_by == f"{held} of {images}, about {held / images:.0%}, chosen by their names"


def test_a_share_that_rounds_to_zero_is_reported_as_such(tmp_path: Path) -> None:
    source = coco_fixture(tmp_path / "many", 1, images=120, size=(8, 8), objects=1)
    assert parts(given(source, val_fraction=1e-9)).chosen_by == "1 of 120, under 1%, chosen by their names"


def test_where_nothing_is_measured_the_plan_names_the_weights_to_use(tmp_path: Path, source: Path) -> None:
    one = coco_fixture(tmp_path / "one", 1, images=1, size=(20, 30), objects=2)
    for share in (None, 0.9):
        told = plan(given(one, val_fraction=share, device="cpu")).report().splitlines()[0]
        assert told == (
            "1 image to learn from, none to measure on (a single image cannot be divided; the weights to use are "
            "last.safetensors), 3 classes"
        )
    told = plan(given(source, val_fraction=0.0, device="cpu")).report().splitlines()[0]
    assert told == (
        "8 images to learn from, none to measure on (val_fraction is 0; the weights to use are last.safetensors), "
        "3 classes"
    )
    assert plan(given(source, device="cpu")).report().startswith("7 images to learn from, 1 to measure on (1 of 8, ")


def test_without_objects_all_images_are_counted(source: Path) -> None:
    rewrite(source, lambda content: content["annotations"].clear())
    with pytest.raises(DataError, match=r"annotations\.json: none of the 8 images has an object, nothing can be"):
        parts(given(source))


def test_objects_that_are_all_held_out_are_reported(source: Path) -> None:
    held_out = parts(given(source)).held_out
    assert held_out is not None

    def change(content: dict[str, Any]) -> None:
        content["annotations"] = [r for r in content["annotations"] if r["image_id"] == held_out.images[0].id]

    rewrite(source, change)
    with pytest.raises(
        DataError, match=r"none of the 7 images to learn from has an object; .* \(1\) are held out"
    ) as told:
        parts(given(source))
    assert "val_fraction" in str(told.value)


def test_the_parts_that_a_file_names_are_used(source: Path) -> None:
    split = ["train", "train", "val", "test", "train", "val", "train", "train"]

    def change(content: dict[str, Any]) -> None:
        for row, part in zip(content["images"], split, strict=True):
            row["split"] = part

    rewrite(source, change)
    found = parts(given(source))
    assert found.held_out is not None
    assert (len(found.data), len(found.held_out)) == (5, 2)
    assert found.chosen_by == "the part 'val' of the data; left out: 1 of 'test'"
    chosen = parts(given(source, val_fraction=0.5))  # what a person says goes first
    assert len(chosen.data) + len(chosen.held_out or ()) == 8


def in_parts(source: Path, *split: str) -> None:
    def change(content: dict[str, Any]) -> None:
        for row, part in zip(content["images"], split, strict=True):
            row["split"] = part

    rewrite(source, change)


def test_parts_are_known_in_any_case_and_a_test_part_is_never_learnt_from(source: Path) -> None:
    in_parts(source, "Train", "Train", "Validation", "Test", "Train", "Validation", "Train", "Train")
    found = parts(given(source))
    assert found.held_out is not None
    assert (len(found.data), len(found.held_out)) == (5, 2)
    assert found.chosen_by == "the part 'Validation' of the data; left out: 1 of 'Test'"
    in_parts(source, "train", "train", "train", "test", "train", "test", "train", "train")
    found = parts(given(source))
    assert found.held_out is not None
    assert len(found.data) + len(found.held_out) == 6
    assert found.chosen_by.endswith("chosen by their names; left out: 2 of 'test'")
    in_parts(source, *"aabbaabb")
    found = parts(given(source))
    assert len(found.data) + len(found.held_out or ()) == 8
    assert found.chosen_by.endswith("; not by the parts of the data ('a', 'b'), none is called train")


def without_objects(source: Path, *filled: int) -> Path:
    """Only the images at these places keep theirs."""

    def change(content: dict[str, Any]) -> None:
        kept = {content["images"][i]["id"] for i in filled}
        content["annotations"] = [row for row in content["annotations"] if row["image_id"] in kept]

    rewrite(source, change)
    return source


def test_held_out_images_without_objects_are_refused(source: Path, tmp_path: Path) -> None:
    """AP would be -1 at every evaluation, and the first weights the best."""
    other = without_objects(coco_fixture(tmp_path / "val", 2, images=3, size=(20, 30), objects=2))
    with pytest.raises(DataError, match=r"none of the 3 images to measure on has an object.*val_fraction"):
        parts(given(source, val=str(other), val_images=str(other.parent / "images")))
    in_parts(source, *["train"] * 6, "val", "val")
    without_objects(source, 0, 1, 2)
    with pytest.raises(DataError, match=r"the part 'val' of the data: none of the 2 images to measure on has an ob"):
        parts(given(source))
    assert parts(given(source, val_fraction=0.25)).held_out is not None


@pytest.mark.parametrize("filled", [(0, 1), (2, 5), (5, 6), (0, 3, 4)])
@pytest.mark.parametrize("share", [0.02, 0.25, 0.5])
def test_a_share_holds_out_an_image_with_an_object(source: Path, filled: tuple[int, ...], share: float) -> None:
    found = parts(given(without_objects(source, *filled), val_fraction=share))
    assert found.held_out is not None
    assert len(found.data) + len(found.held_out) == 8
    counts = [sum(bool(rows) for rows in part.annotations.values()) for part in (found.data, found.held_out)]
    assert min(counts) >= 1
    assert sum(counts) == len(filled)


def test_with_one_image_that_has_an_object_nothing_is_measured(source: Path) -> None:
    assert parts(given(source)).held_out is not None
    left = [i for i, name in enumerate(names(parts(given(source)).data))]
    found = parts(given(without_objects(source, left[0]), val_fraction=0.02))
    assert (found.held_out, found.chosen_by) == (None, "fewer than two images have an object")


def test_a_data_set_without_images_is_told(source: Path) -> None:
    rewrite(source, lambda content: content.update(images=[], annotations=[]))
    with pytest.raises(DataError, match=r"the data set has no images"):
        parts(given(source))


def test_annotations_of_their_own_are_measured_on(source: Path, tmp_path: Path) -> None:
    other = coco_fixture(tmp_path / "val", 2, images=3, size=(20, 30), objects=2)
    found = parts(given(source, val=str(other), val_images=str(other.parent / "images")))
    assert found.held_out is not None
    assert (len(found.data), len(found.held_out), found.chosen_by) == (8, 3, str(other))


def test_annotations_of_other_classes_are_refused(source: Path, tmp_path: Path) -> None:
    other = coco_fixture(tmp_path / "val", 2, images=3, size=(20, 30), objects=2)

    def change(content: dict[str, Any]) -> None:
        content["categories"][0]["name"] = "elipse"

    rewrite(other, change)
    with pytest.raises(DataError, match=r"val.*its class 'elipse' is not one of .*train.*Did you mean 'ellipse'"):
        parts(given(source, val=str(other), val_images=str(other.parent / "images")))


def test_missing_images_are_named_on_either_side(source: Path, tmp_path: Path) -> None:
    other = coco_fixture(tmp_path / "val", 2, images=3, size=(20, 30), objects=2)
    (other.parent / "images" / "0001.png").unlink()
    with pytest.raises(DataError, match=r"1 of 3 image files are missing: .*val.*0001\.png"):
        parts(given(source, val=str(other), val_images=str(other.parent / "images")))


# ---- clips and copies -----------------------------------------------------------------------------------------------


def made(folder: Path, names: list[str], look: Callable[[str], int], **fields: Callable[[str], Any]) -> Path:
    """Annotations of one object in each of these images, which show the noise of `look`."""
    images, rows = [], []
    for k, name in enumerate(names, 1):
        pixels = np.random.default_rng(look(name)).integers(0, 256, (24, 32, 3), dtype=np.uint8)
        write_image(folder / "images" / name, pixels)
        more = {key: value(name) for key, value in fields.items()}
        images.append({"id": k, "file_name": name, "height": 24, "width": 32, **more})
        outline = [[2, 2, 20, 2, 20, 12, 2, 12]]
        rows.append({"id": k, "image_id": k, "category_id": 1, "segmentation": outline, "area": 180.0,
                     "bbox": [2, 2, 18, 10], "iscrowd": 0})  # fmt: skip
    path = folder / "annotations.json"
    path.write_text(json.dumps({"images": images, "annotations": rows, "categories": [{"id": 1, "name": "a"}]}))
    return path


FRAMES = [f"{clip}/{k:03d}.png" for clip in "abcd" for k in range(10)]
CLIP: Callable[[str], Any] = lambda name: "abcd".index(name[0])  # noqa: E731


@pytest.mark.parametrize(
    ("names", "fields"),
    [
        (FRAMES, {"video_id": CLIP, "frame_index": lambda name: int(name[2:5])}),
        (FRAMES, {"clip_id": CLIP}),
        ([f"{clip}_frame_{k:05d}.png" for clip in "abcd" for k in range(10)], {}),
        ([f"{clip} video/{k:05d}.png" for clip in "abcd" for k in range(10)], {}),
    ],
)
def test_frames_of_a_clip_stay_on_one_side(tmp_path: Path, names: list[str], fields: dict[str, Any]) -> None:
    found = parts(given(made(tmp_path, names, names.index, **fields)))
    assert found.held_out is not None
    learnt, held = ({record.file_name[0] for record in part.images} for part in (found.data, found.held_out))
    assert learnt | held == set("abcd")
    assert not learnt & held
    assert len(found.held_out) == 10
    assert found.chosen_by == "10 of 40, about 25%, chosen by their names, 4 clips undivided"


def test_numbered_stills_are_no_clip(tmp_path: Path) -> None:
    numbered = [f"{kind}{k:04d}.png" for kind in ("", "cat_", "covid_", "plate/well") for k in range(5)]
    data = coco.load(made(tmp_path, numbered, numbered.index), tmp_path / "images")
    assert len(data.together()) == len(numbered)


def test_copies_of_an_image_stay_on_one_side(tmp_path: Path) -> None:
    copies = [f"s{k}.{c}.png" for k in range(12) for c in "abc"]
    scene = lambda name: int(name[1:].split(".")[0])  # noqa: E731
    found = parts(given(made(tmp_path, copies, scene)))
    assert found.held_out is not None
    assert not {scene(n) for n in names(found.data)} & {scene(n) for n in names(found.held_out)}
    assert "12 groups of like images undivided" in found.chosen_by


def test_an_image_saved_anew_stays_with_the_first(tmp_path: Path) -> None:
    path = made(tmp_path, [f"{k}.png" for k in range(10)], int_of := lambda name: int(name[:-4]))
    for k in range(0, 10, 2):  # the next one shows the same with a little noise
        pixels = read_image(tmp_path / "images" / f"{k}.png").astype(int)
        pixels += np.random.default_rng(k).integers(-2, 3, pixels.shape)
        write_image(tmp_path / "images" / f"{k + 1}.png", pixels.clip(0, 255).astype(np.uint8))
    found = parts(given(path))
    assert found.held_out is not None
    assert not {int_of(n) // 2 for n in names(found.data)} & {int_of(n) // 2 for n in names(found.held_out)}


def test_it_is_said_where_images_are_too_many_to_compare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maskwright.data.copies.CHEAP", 10.0)
    learnt = made(tmp_path / "a", [f"{k}.png" for k in range(8)], lambda name: int(name[:-4]))
    held = made(tmp_path / "b", [f"{k}.png" for k in range(8, 12)], lambda name: int(name[:-4]))
    said = "Copies that are not equal byte for byte were not looked for: the {} images have over"
    assert any(said.format(8) in note for note in parts(given(learnt)).notes)
    found = parts(given(learnt, val=str(held), val_images=str(held.parent / "images")))
    assert any(said.format(12) in note for note in found.notes)
    monkeypatch.undo()
    assert not any("were not looked for" in note for note in parts(given(learnt)).notes)


def test_of_a_single_clip_the_end_is_held_out_and_told(tmp_path: Path) -> None:
    frames = [f"frame_{k}.png" for k in range(20)]
    planned = plan(given(made(tmp_path, frames, frames.index), device="cpu"))
    assert planned.held_out is not None
    assert names(planned.held_out) == frames[16:]
    assert "the last 4 of 20" in planned.report()
    assert "so the measured accuracy is too high" in planned.report()


def test_a_validation_set_that_is_the_training_set_is_refused(source: Path) -> None:
    told = r"in-train-and-val: 8 of the 8 images to learn from are also 8 of the 8 .*The same image is in training and"
    with pytest.raises(DataError, match=told) as caught:
        parts(given(source, val=str(source)))
    assert caught.value.options == ("val",)


def test_copies_in_the_validation_set_are_left_out_of_training_and_told(tmp_path: Path) -> None:
    learnt = made(tmp_path / "a", [f"{k}.png" for k in range(8)], lambda name: int(name[:-4]))
    held = made(tmp_path / "b", [f"{k}.png" for k in range(6, 12)], lambda name: int(name[:-4]))
    planned = plan(given(learnt, val=str(held), val_images=str(held.parent / "images"), device="cpu"))
    assert names(planned.data) == [f"{k}.png" for k in range(6)]
    assert (
        "in-train-and-val: 2 images to learn from, left out of these, among 2 of the 6 images to measure on (6.png, "
        "7.png). The same image is in training and validation, so the measured accuracy is too high."
    ) in planned.report()


def test_the_median_is_that_of_stats(tmp_path: Path) -> None:
    source = coco_fixture(tmp_path / "some", 1, images=9, size=(60, 80), objects=3)
    side = stats(coco.load(source, source.parent / "images")).object_side
    assert side is not None
    told = plan(given(source, model="yolact_small", device="cpu")).report()
    assert f"objects are {side.median:.0f} pixels (median) in images of" in told


def test_that_one_page_of_a_stack_is_learnt_from_is_said(source: Path) -> None:
    """Of training and validation images, before the first step."""
    folder = source.parent / "images"
    assert not any("Only page 1" in note for note in plan(given(source)).notes)

    def stacks(content: dict[str, Any]) -> None:
        for record in content["images"][:2]:
            with Image.open(folder / record["file_name"]) as image:
                record["file_name"] = Path(record["file_name"]).stem + ".tif"
                image.save(folder / record["file_name"], save_all=True, append_images=[image, image])

    rewrite(source, stacks)
    run = plan(given(source))
    (note,) = [note for note in run.notes if "Only page 1" in note]
    assert note.startswith("Only page 1 of 2 files was read: ")
    assert ".tif (3 pages)" in note
    assert note in run.report()


def test_what_is_not_learnt_from_as_it_is_stored_is_said(source: Path) -> None:
    """Images of which 8 bits alone are read, and EXIF turns that keep the size; the deep one is read in full."""
    tifffile = pytest.importorskip("tifffile", reason="it comes with scikit-image")
    folder, tags = source.parent / "images", Image.Exif()
    tags[0x112] = 3

    def changed(content: dict[str, Any]) -> None:
        for record, suffix in zip(content["images"], (".jpg", ".tif", ".tiff", ".png"), strict=False):
            pixels = read_image(folder / record["file_name"])
            record["file_name"] = name = Path(record["file_name"]).stem + suffix
            if suffix == ".jpg":
                Image.fromarray(pixels).save(folder / name, exif=tags)
            elif suffix == ".tif":
                deep = np.dstack([pixels, pixels[..., 0]]).astype(np.uint16) * 257
                tifffile.imwrite(folder / name, deep, photometric="separated")
            elif suffix == ".tiff":
                tifffile.imwrite(folder / name, pixels[..., 0].astype(np.uint16) * 257)

    assert plan(given(source)).notes == ()
    rewrite(source, changed)
    cut, turned = plan(given(source)).notes
    assert cut.startswith("1 image with more than 8 bits, of which 8 were read")
    assert ".tif (16 bits)" in cut
    assert turned.startswith("1 image that an EXIF tag turns without another size, taken as annotated upright")
    assert ".jpg" in turned
