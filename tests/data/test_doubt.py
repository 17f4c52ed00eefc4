"""Masks of another kind that are taken for objects: said by the readers, the check and the trial, with a way out."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from maskwright.data import formats
from maskwright.data.doubt import Tally, ground, pieces
from maskwright.data.faults.check import check
from maskwright.errors import NOTHING_TO_LEARN, ConfigError, DataError
from maskwright.media import read_values, write_image
from maskwright.ops import masks as mask_ops
from maskwright.training.split import DataSettings, split_data
from maskwright.training.try_out import outline_faults
from maskwright.types import Masks

Labels = NDArray[np.int64]
SIZE = 48, 64
Y, X = np.mgrid[: SIZE[0], : SIZE[1]]


def discs(seed: int = 0) -> Labels:
    """12 discs of 4 to 6 pixels' radius, valued 1 to 12."""
    radius = np.random.default_rng(seed).uniform(4, 6, 12)
    out = np.zeros(SIZE, np.int64)
    for k in range(12):
        out[(Y - 8 - 16 * (k // 4)) ** 2 + (X - 8 - 16 * (k % 4)) ** 2 <= radius[k] ** 2] = k + 1
    return out


def smooth(labels: Labels) -> Labels:
    """As a tool that resizes with smoothing leaves them."""
    small = Image.fromarray((labels * 20).astype(np.uint8)).resize((40, 30), Image.Resampling.BILINEAR)
    return np.asarray(small.resize(SIZE[::-1], Image.Resampling.BILINEAR)).astype(np.int64)


def cut(labels: Labels) -> Labels:
    """Every object under a line that cuts it in two."""
    return np.where(np.isin(Y % 16, (8,)), 0, labels)


def void(labels: Labels) -> Labels:
    """255 where two values meet, as VOC has it."""
    edge = np.zeros(SIZE, bool)
    edge[1:] |= labels[1:] != labels[:-1]
    edge[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    return np.where(edge, 255, labels)


KINDS: dict[str, tuple[Callable[[Labels], Labels], str]] = {
    "sound": (lambda v: v, ""),
    "cut": (lambda v: np.where(v > 6, v, cut(v)), ""),
    "foreground": (lambda v: (v > 0) * 255, "foreground masks"),
    "classes": (lambda v: np.where(v > 0, 1 + v % 2, 0), "class masks"),
    "smoothed": (smooth, "smoothing"),
    "ground 1": (lambda v: v + 1, "background"),
    "ground, cut off": (lambda v: np.where(Y < 2, 0, v + 1), "background"),
    "void": (void, "void value"),
    "ground 99": (lambda v: np.where(v > 0, v, 99), "background"),
}


def label_images(folder: Path, change: Callable[[Labels], Labels], kind: str = "png") -> Path:
    for i in range(2):
        write_image(folder / f"images/{i}.png", np.full((*SIZE, 3), 60 * i, np.uint8))
        (folder / "masks").mkdir(exist_ok=True)
        Image.fromarray(change(discs(i)).astype(np.uint8)).save(folder / f"masks/{i}.{kind}")
    return folder


def as_coco(folder: Path, change: Callable[[Labels], Labels]) -> Path:
    """The same objects as run lengths."""
    label_images(folder, change)
    images, rows = [], []
    for i in range(2):
        images.append({"id": i + 1, "file_name": f"{i}.png", "height": SIZE[0], "width": SIZE[1]})
        values = change(discs(i))
        for mask in (values == v for v in np.unique(values) if v):
            lengths = mask_ops.encode(Masks.from_dense(mask[None]))[0]
            rows.append({"id": len(rows) + 1, "image_id": i + 1, "category_id": 1, "segmentation": lengths})
    content = {"images": images, "annotations": rows, "categories": [{"id": 1, "name": "a"}]}
    (folder / "a.json").write_text(json.dumps(content))
    return folder / "a.json"


@pytest.mark.parametrize("kind", KINDS)
def test_masks_of_another_kind_are_doubted(kind: str, tmp_path: Path) -> None:
    change, said = KINDS[kind]
    place = label_images(tmp_path, change)
    found = check(place).by_fault()
    if not said:
        assert formats.load(place).notes == ()
        assert "doubtful-objects" not in found
        return
    with pytest.raises(DataError, match=said) as error:
        formats.load(place)
    assert "'foreground'" in str(error.value)
    assert "data_format" in error.value.options
    named = formats.load(place, format="masks")
    assert said in named.notes[0]
    assert said in found["doubtful-objects"][0].message
    assert any(said in cause.text for cause in outline_faults(named))


@pytest.mark.parametrize("kind", ["sound", "foreground", "ground 1"])
def test_the_check_doubts_them_in_any_format(kind: str, tmp_path: Path) -> None:
    change, said = KINDS[kind]
    found = check(as_coco(tmp_path, change), tmp_path / "images").by_fault()
    assert ("doubtful-objects" in found) == bool(said)


@pytest.mark.parametrize("kind", ["sound", "foreground", "ground 1"])
def test_index_masks_of_voc_are_doubted(kind: str, tmp_path: Path) -> None:
    """Class masks given as SegmentationObject too."""
    change, said = KINDS[kind]
    place = label_images(tmp_path, change)
    (place / "images").rename(place / "JPEGImages")
    (place / "masks").rename(place / "SegmentationObject")
    for path in sorted((place / "SegmentationObject").iterdir()):
        values = read_values(path)
        write_image(path, np.where(values == 255, 1, values).astype(np.uint8))  # 255 is void
        write_image(place / "SegmentationClass" / path.name, (values > 0).astype(np.uint8))
    if not said:
        assert formats.load(place, format="voc").doubt == ""
        return
    with pytest.raises(DataError, match=said) as error:
        formats.load(place)
    assert "'voc' takes the objects as they are" in str(error.value)
    assert "'foreground' makes" not in str(error.value)
    assert any(said in note.lower() for note in formats.load(place, format="voc").notes)


def test_one_mask_image_for_all_objects_is_doubted(tmp_path: Path) -> None:
    for i in range(2):
        write_image(tmp_path / f"{i}/images/{i}.png", np.zeros((*SIZE, 3), np.uint8))
        write_image(tmp_path / f"{i}/masks/all.png", ((discs(i) > 0) * 255).astype(np.uint8))
    assert formats.recognise(tmp_path).name == "dsb2018"
    with pytest.raises(DataError, match="foreground masks"):
        formats.load(tmp_path)


def test_pieces_of_foreground_masks_are_objects(tmp_path: Path) -> None:
    place = label_images(tmp_path, KINDS["foreground"][0])
    data = formats.load(place, format="foreground")
    assert data.notes == ()
    assert list(data.classes) == ["object"]
    for i in range(2):
        found = sorted(mask.tobytes() for mask in data.masks(i).dense())
        assert found == sorted((discs(i) == k).tobytes() for k in range(1, 13))
    with pytest.raises(ConfigError, match="only read"):
        formats.save(tmp_path / "out", data, "foreground")


@pytest.mark.parametrize(("names", "wanted"), [("", ["1", "2"]), ("even\nodd\n", ["even", "odd"])])
def test_values_of_class_masks_are_classes(names: str, wanted: list[str], tmp_path: Path) -> None:
    place = label_images(tmp_path, KINDS["classes"][0])
    if names:
        (place / "classes.txt").write_text(names)
    data = formats.load(place, format="foreground")
    assert list(data.classes) == wanted
    assert sorted(data.labels(0)) == [0] * 6 + [1] * 6
    for mask, label in zip(data.masks(0).dense(), data.labels(0), strict=True):
        assert {1 + v % 2 for v in np.unique(discs()[mask])} == {label + 1}


def test_masks_that_are_stored_with_losses(tmp_path: Path) -> None:
    labels = label_images(tmp_path / "labels", lambda v: v * 20, "jpg")
    with pytest.raises(DataError, match=r"masks/0\.jpg: JPEG stores values inexactly"):
        formats.load(labels, format="masks")
    place = label_images(tmp_path / "foreground", KINDS["foreground"][0], "jpg")
    data = formats.load(place, format="foreground")
    assert [len(data.of(i)) for i in range(2)] == [12, 12]
    with pytest.raises(DataError, match="too many for classes"):
        formats.load(label_images(tmp_path / "s", lambda v: np.where(v > 0, 2 * Y + X, 0)), format="foreground")


def test_a_set_of_crowd_regions_alone_is_told_and_refused(tmp_path: Path) -> None:
    """Some tools write iscrowd 1 for every mask."""
    place = as_coco(tmp_path, lambda v: v)
    content = json.loads(place.read_text())
    for row in content["annotations"]:
        row["iscrowd"] = 1
    place.write_text(json.dumps(content))
    found = check(place, tmp_path / "images").by_fault()
    assert "class-without-objects" not in found
    assert (
        "all 24 annotations are crowd regions (iscrowd 1), each one connected thing" in found["no-objects"][0].message
    )
    said = r"none of the 2 images has an object.*all 24 annotations are crowd regions.*set iscrowd to 0"
    with pytest.raises(DataError, match=said) as error:
        split_data(DataSettings(data=str(place), images=str(tmp_path / "images")))
    assert error.value.code == NOTHING_TO_LEARN
    data = formats.load(place, tmp_path / "images")
    for name, form in formats.FORMATS.items():
        if form.save is not None and not form.crowds:
            with pytest.raises(DataError, match=said):
                formats.save(tmp_path / name, data, name)
    formats.save(tmp_path / "kept", data, "labelme")
    assert all(a.crowd for rows in formats.load(tmp_path / "kept").annotations.values() for a in rows)


def test_pieces_and_specks() -> None:
    bar = np.zeros((3, 40), np.bool_)
    bar[:, :20] = True
    assert pieces(bar) == 1
    bar[0, 30] = True  # a speck
    assert pieces(bar) == 1
    bar[:, 30:] = True
    assert pieces(bar) == 2
    assert pieces(np.eye(5, dtype=np.bool_)) == 1
    assert Tally().doubt() == ""


@pytest.mark.parametrize(("width", "wanted"), [(4, 1), (20, 1), (24, None), (40, None)])
def test_a_background_is_the_largest_by_far(width: int, wanted: int | None) -> None:
    """At least twice as large as any other object of its 48 x 64 pixels."""
    dense = np.zeros((2, *SIZE), np.bool_)
    dense[0, 1:47, 2 : 2 + width] = True
    dense[1] = ~dense[0]
    assert ground(Masks.from_dense(dense)) == wanted


def test_a_background_in_few_images_is_no_doubt() -> None:
    assert Tally(objects=8, parts=8, crowded=4, grounds=2).doubt() == ""
    assert "in 3 of 4 images" in Tally(objects=8, parts=8, crowded=4, grounds=3).doubt()
